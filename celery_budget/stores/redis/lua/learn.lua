-- learn v1: add what a worker has seen to the fleet's profiles, and give these.
-- Uses: sketch
-- KEYS[1] lessons    string  number of the worker's last lesson                  {namespace} slot
-- KEYS[2] profiles   zset    task -> day since 1970 on which it was last learned of
-- KEYS[3..] profile  string  packed sketches, one for each task told, then each asked for
-- ARGV[1] lesson: msgpack {number, {{task, resource, sketch, resource, sketch, ...}, ...}}; a sketch
-- is as add() in sketch.lua takes it
-- Returns the profiles in the order of their keys, false where there is none.
-- Mirrors stores/memory_profiles.py learn().
local IDLE_DAYS, LESSON_S, DAY_S = 30, 3600, 86400
-- The day that the index has of a profile, then each name and sketch after its length.
local DAY, RESOURCE, FIRST = '>I4', '>Bc0I4c0', 5

local function learned(profile, seen, today)
    local kept, parts, at, name, sketch = {}, {struct.pack(DAY, today)}, FIRST
    while at <= #profile do
        name, sketch, at = struct.unpack(RESOURCE, profile, at)
        kept[name] = sketch
    end
    for place = 2, #seen, 2 do kept[seen[place]] = add(kept[seen[place]], seen[place + 1]) end
    for name, sketch in pairs(kept) do
        parts[#parts + 1] = struct.pack(RESOURCE, #name, name, #sketch, sketch)
    end
    return table.concat(parts)
end

local number, told = unpack(cmsgpack.unpack(ARGV[1]))
local answer = redis.call('MGET', unpack(KEYS, 3))
if number <= tonumber(redis.call('GET', KEYS[1]) or 0) then return answer end
redis.call('SET', KEYS[1], number, 'EX', LESSON_S)
local today = math.floor(redis.call('TIME')[1] / DAY_S)
for place, seen in ipairs(told) do
    local profile = answer[place] or ''
    -- Once a day: it costs as much as all the rest.
    if profile == '' or struct.unpack(DAY, profile) ~= today then
        redis.call('ZADD', KEYS[2], today, seen[1])
    end
    answer[place] = learned(profile, seen, today)
    redis.call('SET', KEYS[place + 2], answer[place], 'EX', IDLE_DAYS * DAY_S)
end
redis.call('EXPIRE', KEYS[2], (IDLE_DAYS + 1) * DAY_S)
local idle = redis.call(
    'ZRANGEBYSCORE', KEYS[2], '-inf', today - IDLE_DAYS - 1, 'LIMIT', 0, 2 * #told + 1)
if #idle > 0 then redis.call('ZREM', KEYS[2], unpack(idle)) end
return answer
