-- count v1: add what a worker has counted of arrivals, and give what the fleet has counted of late.
-- KEYS[1] tallies    string  number of the worker's last tally                    {namespace} slot
-- KEYS[2..] crew     hash    worker -> its slots, a space, and when it told them, seconds; one for each band
-- KEYS[3..] arrivals hash    task type -> packed row; one for each band and this week, in the order of
-- the bands, then others
-- ARGV[1] tally: msgpack {number, worker, slots, bands, first, {{hash, task, place, arrivals, busy_us}, ...}}:
-- how many bands, from which place of the week on to answer, and which of the hashes an entry is for
-- Returns {{worker, slots, ...}, {task, row from that place on, ...}} for each band.
-- A row is the slot time, microseconds, as a double, then four bytes for each bin of the week up to
-- the last one that had arrivals.  Mirrors core/tally.py add().
local MOST, MOST_COUNT, MOST_TYPES, REST, SEEN = 2 ^ 53 - 1, 2 ^ 32 - 1, 8, '', ' '
local TALLY_S, CREW_S, IDLE_S, HOUR_S = 3600, 20, 8 * 7 * 86400, 3600
local HEAD, EMPTY, NOTHING = 9, struct.pack('>d', 0), '\0\0\0\0'
local min, read, write, part = math.min, struct.unpack, struct.pack, string.sub

local function add(key, task, place, arrivals, busy_us)
    local row = redis.call('HGET', key, task)
    if not row and task ~= SEEN and task ~= REST then
        local reserved = redis.call('HEXISTS', key, REST) + redis.call('HEXISTS', key, SEEN)
        if redis.call('HLEN', key) - reserved >= MOST_TYPES then
            task = REST
            row = redis.call('HGET', key, task)
        end
    end
    row = row or EMPTY
    row = write('>d', min(MOST, read('>d', row) + busy_us)) .. part(row, HEAD)
    if arrivals > 0 then
        local at = HEAD + 4 * place
        if #row < at + 3 then row = row .. NOTHING:rep((at + 3 - #row) / 4) end
        local count = min(MOST_COUNT, read('>I4', row, at) + arrivals)
        row = part(row, 1, at - 1) .. write('>I4', count) .. part(row, at + 4)
    end
    redis.call('HSET', key, task, row)
end

local number, worker, slots, bands, first, told = unpack(cmsgpack.unpack(ARGV[1]))
local now = tonumber(redis.call('TIME')[1])
if number > tonumber(redis.call('GET', KEYS[1]) or 0) then
    redis.call('SET', KEYS[1], number, 'EX', TALLY_S)
    for _, entry in ipairs(told) do add(KEYS[1 + bands + entry[1]], unpack(entry, 2)) end
    for place = 2 + bands, #KEYS do redis.call('EXPIRE', KEYS[place], IDLE_S) end
end
local answers = {}
for band = 1, bands do
    local key, crew, rows = KEYS[1 + band], {}, redis.call('HGETALL', KEYS[1 + bands + band])
    redis.call('HSET', key, worker, slots .. ' ' .. now)
    redis.call('EXPIRE', key, HOUR_S)
    local members = redis.call('HGETALL', key)
    for place = 1, #members, 2 do
        local its, at = string.match(members[place + 1], '(%d+) (%d+)')
        if tonumber(at) <= now - CREW_S then
            redis.call('HDEL', key, members[place])
        else
            crew[#crew + 1], crew[#crew + 2] = members[place], its
        end
    end
    for place = 2, #rows, 2 do
        rows[place] = part(rows[place], 1, 8) .. part(rows[place], HEAD + 4 * first)
    end
    answers[band] = {crew, rows}
end
return answers
