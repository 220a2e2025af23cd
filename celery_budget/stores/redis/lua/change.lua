-- change v1: put what operators have changed in the place of what they changed before.
-- KEYS[1] ledger  hash    version                                     {namespace} slot
-- KEYS[2] live    string  version, a space, and the change as JSON
-- ARGV[1] the change, JSON   ARGV[2] version that it takes the place of, decimal
-- ARGV[3] its own version, decimal, from who knew it before it was lost; "" for a new one
-- ARGV[4] now, microseconds; "" for the server's clock
-- Returns its version, decimal, or "" when another one is there by now.
-- Mirrors stores/memory.py change().
local current = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if current ~= tonumber(ARGV[2]) then return '' end
local version = tonumber(ARGV[3])
if not version then
    local now = tonumber(ARGV[4])
    if not now then
        local time = redis.call('TIME')
        now = time[1] * 1000000 + time[2]
    end
    version = math.max(now, current + 1)
end
local text = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'version', text)
redis.call('SET', KEYS[2], text .. ' ' .. ARGV[1])
return text
