-- waiting: urgent tickets that wait somewhere, and who is to make room for them.
-- A hash has for each worker the tickets that wait there, less those that could start there or for
-- which it was told to make room; under '', the sum.  A sorted set has until when each of these
-- counts, microseconds: a set of its own, as workers of a version that knows nothing of this take
-- dead ones from the other.  A worker with nothing to tell is in neither.  Who waits counts until
-- its worker should have told again: nobody is to leave for a worker that was killed.

-- Returns for how many tickets of others the worker is to make room; below zero: so many of its own
-- have a slot elsewhere, or will have.  Mirrors part() in core/guests.py.
local function make_room(hash, counted, told, waiting, places, workers)
    local function tell(of, count)
        local change = count - tonumber(redis.call('HGET', hash, of) or 0)
        if change ~= 0 then redis.call('HINCRBY', hash, '', change) end
        if count ~= 0 then
            redis.call('HSET', hash, of, count)
            redis.call('ZADD', counted, count > 0 and told.now + told.next_us or told.lease_until, of)
        else
            redis.call('HDEL', hash, of)
            redis.call('ZREM', counted, of)
        end
    end
    tell(told.worker, waiting)
    for _, over in ipairs(redis.call('ZRANGEBYSCORE', counted, '-inf', told.now)) do
        tell(over, 0)
    end
    local left = tonumber(redis.call('HGET', hash, '') or 0)
    if left <= 0 or places == 0 then
        return math.min(0, math.max(0, left) - math.max(0, waiting))
    end
    local part = math.min(places, math.ceil(left / math.max(1, workers - 1)))
    tell(told.worker, waiting - part)
    return part
end
