-- exchange v1: settle a worker's report and give it what it may have.
-- Uses: account share recall settle waiting
-- KEYS[1] ledger    hash    epoch, was_lost, version                      {namespace} slot
-- KEYS[2] worker    string  number of its last report
-- KEYS[3] accounts  zset    name -> seconds when it may be forgotten, to the minute
-- KEYS[4] workers   zset    name -> microseconds of its last report
-- KEYS[5] rooms     hash    worker -> urgent tickets it has room for; '' -> all of them
-- KEYS[6] waiting   hash    worker -> urgent tickets that wait there, less what it has room for
-- KEYS[7] waiting_until zset name -> microseconds until which that counts
-- KEYS[8..] account string  packed, one for each line of the report
-- ARGV[1] report: msgpack {worker, number, epoch, next_us, lines, room, waiting, places}; a line
--   is as in settle.lua
-- ARGV[2] lease, microseconds   ARGV[3] now, microseconds; "" for the server's clock
-- Returns msgpack {epoch, now, until, version, {{granted, balance, free_at, is_contended, others,
-- owed, owed to}, ...}, workers, room of the others, for how many of theirs it is to make room}.
-- Mirrors stores/memory.py exchange().
local EXTRA_MS, WORKER_MS, INDEX_MS = 1000, 3600000, CALENDAR_KEPT_US / 1000 + 60000
local MINUTE_US = 60000000
local worker, number, epoch, next_us, lines, room, waiting, places = unpack(cmsgpack.unpack(ARGV[1]))
local now = tonumber(ARGV[3])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local lease_us = tonumber(ARGV[2])
local lease_until = now + lease_us
local ledger = redis.call('HMGET', KEYS[1], 'epoch', 'was_lost', 'version')
local current, was_lost, version = ledger[1], ledger[2], tonumber(ledger[3] or 0)
if not current then
    current = string.format('%.0f', now)
    redis.call('HSET', KEYS[1], 'epoch', current)
end
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
if number < last then return cmsgpack.pack({current, now, lease_until, version, {}, 1, 0, 0}) end
redis.call('SET', KEYS[2], number, 'PX', WORKER_MS)
local has_other_epoch, created = epoch ~= '' and epoch ~= current, tonumber(current)
if has_other_epoch and not was_lost then was_lost = redis.call('HSET', KEYS[1], 'was_lost', 1) end
local told = {
    worker = worker, now = now, lease_until = lease_until, next_us = next_us, created = created,
    is_repeated = number == last, has_other_epoch = has_other_epoch,
    is_relearning = was_lost and created <= now and now < created + lease_us,
}

local answers, dated, gone = {}, {}, {}
local packed = #lines > 0 and redis.call('MGET', unpack(KEYS, 8))
for place, line in ipairs(lines) do
    local key, kept = KEYS[place + 7], packed[place] and cmsgpack.unpack(packed[place])
    local date = kept and ceil(kept[FORGET] / MINUTE_US)
    local account, answer = settle(told, line, kept)
    answers[place] = answer
    if account[FORGET] > now then
        local ttl = ceil((account[FORGET] - now) / 1000) + EXTRA_MS
        redis.call('SET', key, cmsgpack.pack(account), 'PX', ttl)
        local later = ceil(account[FORGET] / MINUTE_US)
        if later ~= date then
            dated[#dated + 1], dated[#dated + 2] = later * 60, line[LINE_ACCOUNT]
        end
    elseif kept then
        redis.call('DEL', key)
        gone[#gone + 1] = line[LINE_ACCOUNT]
    end
end
if #dated > 0 then
    redis.call('ZADD', KEYS[3], unpack(dated))
    redis.call('PEXPIRE', KEYS[3], INDEX_MS)
end
if #gone > 0 then redis.call('ZREM', KEYS[3], unpack(gone)) end
local over = redis.call(
    'ZRANGEBYSCORE', KEYS[3], '-inf', floor(now / 1000000) - 1, 'LIMIT', 0, 2 * #lines + 1)
if #over > 0 then redis.call('ZREM', KEYS[3], unpack(over)) end
redis.call('ZADD', KEYS[4], now, worker)
local before = tonumber(redis.call('HGET', KEYS[5], worker) or 0)
if room ~= before then
    redis.call('HSET', KEYS[5], worker, room)
    redis.call('HINCRBY', KEYS[5], '', room - before)
end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - lease_us)) do
    local left = tonumber(redis.call('HGET', KEYS[5], dead) or 0)
    if left ~= 0 then redis.call('HINCRBY', KEYS[5], '', -left) end
    redis.call('HDEL', KEYS[5], dead)
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - lease_us)
local workers = redis.call('ZCARD', KEYS[4])
local part = make_room(KEYS[6], KEYS[7], told, waiting, places, workers)
for place = 4, 7 do redis.call('PEXPIRE', KEYS[place], WORKER_MS) end
local others = tonumber(redis.call('HGET', KEYS[5], '') or 0) - room
return cmsgpack.pack({current, now, lease_until, version, answers, workers, others, part})
