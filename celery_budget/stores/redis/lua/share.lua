-- share: who gets how much of an account.  Mirrors core/granting.py.  Needs account.lua before it.
local AHEAD = 1000000
local RANK, UNITS, LEAST, SINCE, FLOOR, WORKER = 1, 2, 3, 4, 5, 6

-- Bytes, not the order of some language: every server and every worker must tell the same.
local function is_before(a, b)
    for place = 1, min(#a, #b) do
        local x, y = string.byte(a, place), string.byte(b, place)
        if x ~= y then return x < y end
    end
    return #a < #b
end

-- What share() gives to the only want of a rank.
local function share_alone(want, left)
    local room = left - want[FLOOR]
    if want[UNITS] <= room then return want[UNITS] end
    if want[LEAST] > room then return 0 end
    return room - math.fmod(room, want[LEAST])
end

-- Divide what is left among a list of wants of one rank.  Returns a list of units.
local function share(asked, left, begun)
    local parts, by_age, order, missing, highest = {}, {}, {}, {}, 0
    for place, want in ipairs(asked) do
        parts[place], by_age[place], order[place] = 0, place, place
        highest = max(highest, want[FLOOR])
    end
    table.sort(by_age, function(i, j)
        local a, b = asked[i], asked[j]
        if a[SINCE] ~= b[SINCE] then return a[SINCE] < b[SINCE] end
        return i ~= j and is_before(a[WORKER], b[WORKER])
    end)
    for _, i in ipairs(by_age) do
        local want = asked[i]
        if want[LEAST] <= left - want[FLOOR] then
            parts[i] = want[LEAST]
            left = left - want[LEAST]
        elseif want[SINCE] < begun then
            return parts
        end
    end
    local rest = left - highest
    if rest <= 0 then return parts end
    for place, want in ipairs(asked) do missing[place] = want[UNITS] - parts[place] end
    table.sort(order, function(i, j)
        local a, b = missing[i], missing[j]
        return a < b or a == b and i < j
    end)
    local pot = rest
    for place, i in ipairs(order) do
        local part = min(missing[i], floor(pot / (#order - place + 1)))
        pot = pot - part
        if part < missing[i] then part = part - math.fmod(part, asked[i][LEAST]) end
        parts[i] = parts[i] + part
        rest = rest - part
    end
    for _, i in ipairs(by_age) do
        local more = asked[i][UNITS] - parts[i]
        if more > rest then more = rest - math.fmod(rest, asked[i][LEAST]) end
        parts[i] = parts[i] + more
        rest = rest - more
    end
    return parts
end

local function begun_at(account)
    if not account[TURNS] then return math.huge end
    if account[WINDOW] > 0 then return account[NUMBER] * account[WINDOW] end
    return account[NUMBER] >= account[RULE_NUMBER] and account[BEGINS] or 0
end

-- Share by rank what others want and what one worker wants.  Returns units for each of `mine`.
local function shares_of(account, mine, worker)
    local by_rank, ranks = {}, {}
    local function ask(want)
        local asked = by_rank[want[RANK]]
        if asked then
            asked[#asked + 1] = want
        else
            by_rank[want[RANK]] = {want}
            ranks[#ranks + 1] = want[RANK]
        end
    end
    local place, size = HOLDERS, #account
    while place <= size do
        local after = place + 6 + 5 * account[place + 5]
        for at = place + 6, after - 1, 5 do
            local want = {unpack(account, at, at + 4)}
            want[WORKER] = account[place]
            ask(want)
        end
        place = after
    end
    for _, want in ipairs(mine) do
        want[WORKER] = worker
        ask(want)
    end
    table.sort(ranks)
    local left, begun, shares = account[BALANCE], begun_at(account), {}
    for _, rank in ipairs(ranks) do
        local asked, wanted, given = by_rank[rank], 0, 0
        local parts = #asked == 1 and {share_alone(asked[1], left)} or share(asked, left, begun)
        for i, want in ipairs(asked) do
            wanted, given = wanted + want[UNITS], given + parts[i]
            shares[want] = parts[i]
        end
        left = left - given
        if given < wanted then break end
    end
    return shares
end

-- Without others the same, faster; so are the two cases below.
local function shares_alone(account, mine)
    local left, shares = account[BALANCE], {}
    for _, want in ipairs(mine) do
        local part = share_alone(want, left)
        shares[want] = part
        left = left - part
        if part < want[UNITS] then break end
    end
    return shares
end

-- Tell whether there is too little for any of a worker's wants, whatever others want.
local function is_too_little(account, mine)
    for _, want in ipairs(mine) do
        if want[LEAST] <= account[BALANCE] - want[FLOOR] then return false end
    end
    return true
end

-- Tell whether there is enough for all that anybody wants.
local function is_enough(account, mine)
    local wanted, highest = 0, 0
    for _, want in ipairs(mine) do
        wanted, highest = wanted + want[UNITS], max(highest, want[FLOOR])
    end
    local place, size = HOLDERS, #account
    while place <= size do
        local after = place + 6 + 5 * account[place + 5]
        for at = place + 6, after - 1, 5 do
            wanted, highest = wanted + account[at + 1], max(highest, account[at + 4])
        end
        place = after
    end
    return wanted <= account[BALANCE] - highest
end

-- Grant what a worker may have of its wants, and put it behind the other holders.
-- Returns the units, and when the first want that was not met can be; 0 for no time.
local function grant(account, sums, told, mine)
    local most, granted, free, unmet = full(account), 0, 0, {}
    for _, want in ipairs(mine) do
        want[LEAST] = min(want[LEAST], most)
        want[FLOOR] = min(want[FLOOR], most - want[LEAST])
    end
    local shares = {}
    if not is_too_little(account, mine) then
        local is_plain = not sums.is_contended or is_enough(account, mine)
        shares = is_plain and shares_alone(account, mine) or shares_of(account, mine, told.worker)
    end
    for _, want in ipairs(mine) do
        local part = shares[want] or 0
        granted = granted + part
        if want[RANK] >= AHEAD then sums.idle = sums.idle + part end
        if part < want[UNITS] then
            want[UNITS] = want[UNITS] - part
            want[LEAST] = min(want[LEAST], want[UNITS])
            unmet[#unmet + 1] = want
        end
    end
    account[BALANCE], sums.out = account[BALANCE] - granted, min(sums.out + granted, MOST)
    if sums.out == 0 and #unmet == 0 then return granted, 0 end
    if unmet[1] then free = free_at(account, unmet[1][LEAST] + unmet[1][FLOOR], told.now) end
    sums.latest = max(sums.latest, told.lease_until)
    local place = #account
    account[place + 1], account[place + 2], account[place + 3] = told.worker, sums.out, sums.idle
    account[place + 4] = told.lease_until
    account[place + 5] = max(told.now, free) + told.next_us
    account[place + 6] = #unmet
    place = place + 6
    for _, want in ipairs(unmet) do
        for field = 1, 5 do account[place + field] = want[field] end
        place = place + 5
    end
    return granted, free
end
