-- sketch: how a sketch learns and fades.  Mirrors core/sketch.py.
-- It is kept as bytes: HEAD, which is count, total, exceeded, aside and first bucket, then the weights
-- of all buckets from the first on.  So learning takes its time by what is told and not by what is
-- known; as an array it took twice as long.  All numbers are integers below 2^53.
local MOST, MOST_WEIGHT = 2 ^ 53 - 1, 64000
local HEAD, BEGIN, NOTHING = '>dI4I4I4I2', 23, '\0\0\0\0'
local floor, min, read, write, part = math.floor, math.min, struct.unpack, struct.pack, string.sub

local function fade(weights)
    local faded, total = {}, 0
    for place = 1, #weights, 4 do
        local weight = floor(read('>I4', weights, place) / 2)
        faded[#faded + 1], total = write('>I4', weight), total + weight
    end
    return table.concat(faded), total
end

-- `told` is {count, total, exceeded, aside, then each bucket and its weight, in order}, and weighs
-- MOST_WEIGHT at most.  `kept` is bytes, or nil.
local function add(kept, told)
    local first, last = told[5], told[#told - 1]
    local count, total, exceeded, aside, begin, weights = 0, 0, 0, 0, first, ''
    if kept then
        count, total, exceeded, aside, begin = read(HEAD, kept)
        weights = part(kept, BEGIN)
    end
    if first < begin then weights, begin = NOTHING:rep(begin - first) .. weights, first end
    local missing = last + 1 - begin - #weights / 4
    if missing > 0 then weights = weights .. NOTHING:rep(missing) end
    -- Joined once at the end: each string that is made costs more than what is done with it.
    local parts, size, done = {}, 0, 0
    for place = 5, #told, 2 do
        local at = 4 * (told[place] - begin)
        parts[size + 1] = part(weights, done + 1, at)
        parts[size + 2] = write('>I4', read('>I4', weights, at + 1) + told[place + 1])
        size, done = size + 2, at + 4
    end
    parts[size + 1] = part(weights, done + 1)
    weights = table.concat(parts)
    count, total = min(MOST, count + told[1]), total + told[2]
    exceeded, aside = exceeded + told[3], aside + told[4]
    if total > MOST_WEIGHT then
        local before = total
        weights, total = fade(weights)
        exceeded, aside = floor(exceeded * total / before), floor(aside * total / before)
    end
    return write(HEAD, count, total, exceeded, aside, begin) .. weights
end
