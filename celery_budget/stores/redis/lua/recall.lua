-- recall: who is to take back how much of a capacity.  Mirrors core/recall.py.  Needs account.lua and
-- share.lua before it.
-- Standings are one flat array, at the place where a window has `cut`; 0 for none: {name, how many
-- claims, leaving, how many loose, and of each of these rank and units, the next name, ...}.
local STANDINGS = CUT
local CLAIMS, LEAVING, LOOSE, FIRST_PART = 1, 2, 3, 4

-- Keep what is told of `worker`, and of others only where they hold or want something; by name, so
-- that nothing else has to be compared by its bytes.
local function note(account, worker, told)
    local old, fresh, holders, place = account[STANDINGS], {}, {}, HOLDERS
    if old == 0 and not told then return end
    while place <= #account do
        holders[account[place]] = true
        place = place + 6 + 5 * account[place + 5]
    end
    if not holders[worker] then told = nil end
    local function put_mine()
        fresh[#fresh + 1] = worker
        for _, field in ipairs(told) do fresh[#fresh + 1] = field end
        told = nil
    end
    local size, is_known, is_same = old == 0 and 0 or #old, false, true
    place = 1
    while place <= size do
        local name, fields = old[place], FIRST_PART - 1 + 2 * (old[place + CLAIMS] + old[place + LOOSE])
        if name == worker then
            is_known, is_same = true, is_same and told and #told == fields
            for at = 1, is_same and fields or 0 do
                is_same = is_same and old[place + at] == told[at]
            end
        else
            is_same = is_same and holders[name]
        end
        place = place + 1 + fields
    end
    if is_same and (is_known or not told) then return end
    place = 1
    while place <= size do
        local name = old[place]
        local after = place + FIRST_PART + 2 * (old[place + CLAIMS] + old[place + LOOSE])
        if told and (name == worker or not is_known and is_before(worker, name)) then put_mine() end
        if name ~= worker and holders[name] then
            for at = place, after - 1 do fresh[#fresh + 1] = old[at] end
        end
        place = after
    end
    if told then put_mine() end
    account[STANDINGS] = #fresh > 0 and fresh or 0
end

-- Tell whether anybody claims anything, and this worker has something loose.
local function may_owe(flat, worker)
    local place, is_claimed, is_loose = 1, false, false
    while place <= #flat do
        local claims, loose = flat[place + CLAIMS], flat[place + LOOSE]
        is_claimed = is_claimed or claims > 0
        is_loose = is_loose or loose > 0 and flat[place] == worker
        place = place + FIRST_PART + 2 * (claims + loose)
    end
    return is_claimed and is_loose
end

-- Read all standings.  Returns what each claims by rank, what is leaving, and what is loose.
local function standings_of(flat, worker)
    local place, claimed, leaving, loose = 1, {}, 0, {}
    while place <= #flat do
        local name, parts = flat[place], place + FIRST_PART
        local between = parts + 2 * flat[place + CLAIMS]
        local after = between + 2 * flat[place + LOOSE]
        leaving = min(leaving + flat[place + LEAVING], MOST)
        if between > parts then claimed[name] = {} end
        for at = parts, between - 1, 2 do claimed[name][flat[at]] = flat[at + 1] end
        for at = between, after - 1, 2 do
            loose[#loose + 1] = {
                at = at, rank = flat[at], units = flat[at + 1], is_mine = name == worker,
                is_claiming = between > parts,
            }
        end
        place = after
    end
    -- Standings are by name; of one worker no two parts have the same rank.
    table.sort(loose, function(a, b)
        if a.rank ~= b.rank then return a.rank > b.rank end
        if a.is_claiming ~= b.is_claiming then return a.is_claiming end
        return a.at < b.at
    end)
    return claimed, leaving, loose
end

-- Add up what is wanted and claimed by rank.  Returns a list, most urgent first.
local function claims_of(account, claimed)
    local by_rank, claims, place = {}, {}, HOLDERS
    while place <= #account do
        local mine, after = claimed[account[place]], place + 6 + 5 * account[place + 5]
        for at = place + 6, after - 1, 5 do
            local rank, wanted = account[at], account[at + 1]
            local claim = by_rank[rank]
            if not claim then
                claim = {rank = rank, units = 0, wanted = 0, floor = 0, least = MOST}
                by_rank[rank], claims[#claims + 1] = claim, claim
            end
            claim.wanted = min(claim.wanted + wanted, MOST)
            local units = min(mine and mine[rank] or 0, wanted)
            if units > 0 then
                claim.units = min(claim.units + units, MOST)
                claim.least = min(claim.least, account[at + 2])
                claim.floor = max(claim.floor, account[at + 4])
            end
        end
        place = after
    end
    table.sort(claims, function(a, b) return a.rank < b.rank end)
    return claims
end

local function whole(claim, room)
    if claim.units <= room then return claim.units end
    if claim.units == 0 or claim.least > room then return 0 end
    return room - math.fmod(room, claim.least)
end

-- Take some of what is loose at a worker for leaving.
local function leave_soon(flat, worker, loose, units)
    local place, gone = 1, {}
    while flat[place] ~= worker do
        place = place + FIRST_PART + 2 * (flat[place + CLAIMS] + flat[place + LOOSE])
    end
    flat[place + LEAVING] = min(flat[place + LEAVING] + units, MOST)
    for _, part in ipairs(loose) do
        if part.is_mine then
            flat[part.at + 1] = part.units
            if part.units == 0 then gone[#gone + 1] = part.at end
        end
    end
    flat[place + LOOSE] = flat[place + LOOSE] - #gone
    -- By rank, the last first: those before stay where they are.
    for _, at in ipairs(gone) do
        table.remove(flat, at)
        table.remove(flat, at)
    end
end

-- Returns the units that a worker owes, and the rank to which; they count as leaving from now on.
local function call(account, worker)
    local flat = account[STANDINGS]
    if flat == 0 or not may_owe(flat, worker) then return 0, 0 end
    local claimed, leaving, loose = standings_of(flat, worker)
    local left = min(max(account[BALANCE], 0) + leaving, MOST)
    for _, claim in ipairs(claims_of(account, claimed)) do
        local there, mine = left, 0
        for _, part in ipairs(loose) do
            if part.rank <= claim.rank then break end
            there = min(there + part.units, MOST)
        end
        local goal = whole(claim, there - claim.floor)
        local missing = goal > 0 and max(goal + claim.floor - left, 0) or 0
        for _, part in ipairs(loose) do
            if part.rank <= claim.rank or missing == 0 then break end
            local units = min(part.units, missing)
            part.units, missing, left = part.units - units, missing - units, left + units
            if part.is_mine then mine = mine + units end
        end
        if mine > 0 then
            leave_soon(flat, worker, loose, mine)
            return mine, claim.rank
        end
        left = max(left - claim.wanted, 0)
    end
    return 0, 0
end
