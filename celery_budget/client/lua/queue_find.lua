-- queue_find v1: give the messages of one part of a queue that contain a text.
-- KEYS[1] queue   list   messages, newest first
-- ARGV[1] first index    ARGV[2] last index, at most 100 further    ARGV[3] text
-- Returns {length of the queue, message, message, ...}.  Changes nothing.
local found = {redis.call('LLEN', KEYS[1])}
for _, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  if string.find(message, ARGV[3], 1, true) then
    found[#found + 1] = message
  end
end
return found
