-- queue_move v1: replace a message that still waits in one queue by its copy in another.
-- KEYS[1] from   list   messages, newest first
-- KEYS[2] to     list   messages, newest first
-- ARGV[1] message, exactly as in the list    ARGV[2] copy
-- Returns 1, or 0 when the message had gone: then nothing was changed.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
