-- account: how time, rules and reports change one account.  Mirrors core/accounting.py.
-- An account is one flat array, as it is packed: {balance, at, number, cut, spent, forget, then its
-- rule: limit, window, burst, turns, number, begins, version, then its holders}; a capacity, of which
-- nothing is cut, has standings there instead: see recall.lua; each holder is name,
-- out, idle, until, asked until, how many wants, and these: rank, units, least, since, floor.  Flat,
-- because nested tables made an exchange three times as slow.  All numbers are integers below 2^53,
-- times in microseconds.  `sums` is what holders have together: see leave().
local BALANCE, AT, NUMBER, CUT, SPENT, FORGET = 1, 2, 3, 4, 5, 6
-- A line of a report has its rule at the same places, so that both can be told "rule" below.
local LIMIT, WINDOW, BURST, TURNS, RULE_NUMBER, BEGINS, VERSION = 7, 8, 9, 10, 11, 12, 13
local HOLDERS = 14
local MOST, MOST_GONE = 2 ^ 53 - 1, 64
local GONE_KEPT_US, SHORT_DAY_US, CALENDAR_KEPT_US = 600000000, 22 * 3600000000, 62 * 86400000000
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local function is_capacity(rule)
    return rule[WINDOW] == 0 and not rule[TURNS]
end

local function is_calendar(rule)
    return rule[WINDOW] == 0 and rule[TURNS]
end

local function full(rule)
    if rule[TURNS] then return rule[LIMIT] + rule[BURST] end
    return rule[WINDOW] == 0 and rule[LIMIT] or rule[BURST]
end

local function is_same(a, b)
    return a[LIMIT] == b[LIMIT] and a[WINDOW] == b[WINDOW] and a[BURST] == b[BURST]
        and a[TURNS] == b[TURNS]
end

local function number_of(rule, at)
    if not rule[TURNS] then return 0 end
    if rule[WINDOW] > 0 then return floor(at / rule[WINDOW]) end
    return rule[BEGINS] <= at and rule[RULE_NUMBER] or rule[RULE_NUMBER] - 1
end

local function opened(rule, now)
    return {
        full(rule), now, number_of(rule, now), 0, 0, 0, rule[LIMIT], rule[WINDOW], rule[BURST],
        rule[TURNS], rule[RULE_NUMBER], rule[BEGINS], rule[VERSION],
    }
end

-- Count those that went and would be remembered beyond MOST_GONE.
local function too_many_gone(account, now, size)
    local gone, place = 0, HOLDERS
    while place <= size do
        local lease = account[place + 3]
        if lease <= now and account[place + 1] > 0 and lease + GONE_KEPT_US > now then
            gone = gone + 1
        end
        place = place + 6 + 5 * account[place + 5]
    end
    return max(0, gone - MOST_GONE)
end

-- Besides dropping who left, takes the worker that reports out of the holders; see grant().
-- Returns what that one and the others have.
local function leave(account, worker, now)
    local size, capacity = #account, is_capacity(account)
    local sums = {
        is_here = false, is_contended = false, out = 0, idle = 0, others_out = 0, others_idle = 0,
        others_live = 0, latest = 0,
    }
    local too_many = size > 6 * MOST_GONE and too_many_gone(account, now, size) or 0
    local from, to = HOLDERS, HOLDERS
    while from <= size do
        local out, lease, wants = account[from + 1], account[from + 3], account[from + 5]
        local after, stays = from + 6 + 5 * wants, true
        if lease <= now then
            account[from + 2], wants = 0, 0
            stays = out > 0 and not capacity and lease + GONE_KEPT_US > now
            if stays and too_many > 0 then too_many, stays = too_many - 1, false end
        elseif account[from + 4] <= now then
            wants = 0
        end
        if stays and account[from] == worker then
            sums.is_here, sums.out, sums.idle = true, out, account[from + 2]
        elseif stays then
            sums.others_out = sums.others_out + out
            if lease > now then sums.others_live = min(sums.others_live + out, MOST) end
            sums.others_idle = sums.others_idle + account[from + 2]
            sums.latest = max(sums.latest, lease)
            if wants > 0 then sums.is_contended = true end
            account[from + 5] = wants
            local fields = 6 + 5 * wants
            if to < from then
                for field = 0, fields - 1 do account[to + field] = account[from + field] end
            end
            to = to + fields
        end
        from = after
    end
    for place = size, to, -1 do account[place] = nil end
    return sums
end

local function unheld(account, sums)
    return max(full(account) - sums.others_out - sums.out, -MOST)
end

local function most_of(account, sums)
    return full(account) - sums.others_idle - sums.idle
end

local function add(account, sums, units)
    local added = min(account[BALANCE] + min(units, MOST), most_of(account, sums))
    account[BALANCE] = max(account[BALANCE], added)
end

local function turn(account, sums, number)
    local passed = number - account[NUMBER]
    if passed == 0 or passed == -1 then return end
    account[NUMBER] = number
    if passed > 0 then
        account[CUT] = 0
        add(account, sums, passed * account[LIMIT])
    end
end

local function fill(account, sums, now)
    if account[TURNS] then
        turn(account, sums, number_of(account, now))
    elseif account[WINDOW] == 0 then
        account[BALANCE] = unheld(account, sums)
    elseif now < account[AT] then
        account[AT] = now
    else
        local limit, window = account[LIMIT], account[WINDOW]
        local earned = floor(limit * (now - account[AT]) / window)
        if earned > 0 then
            account[AT] = min(now, account[AT] + ceil(earned * window / limit))
            add(account, sums, earned)
        end
    end
end

local function advance(account, rule, worker, now)
    if rule[VERSION] == account[VERSION] and is_same(rule, account) and rule[BEGINS] <= now
        and (rule[BEGINS] > account[BEGINS] or account[BEGINS] > now) then
        account[RULE_NUMBER], account[BEGINS] = rule[RULE_NUMBER], rule[BEGINS]
    end
    local sums = leave(account, worker, now)
    fill(account, sums, now)
    return sums
end

local function change_calendar(account, sums, old_number, old_begins, now)
    local number = number_of(account, now)
    local passed = number - account[NUMBER]
    if account[RULE_NUMBER] == account[NUMBER] - 1 then
        account[RULE_NUMBER], account[BEGINS] = old_number, old_begins
    elseif passed > 0 and passed <= (account[BEGINS] - old_begins) / SHORT_DAY_US then
        turn(account, sums, number)
    else
        account[NUMBER] = number
    end
end

local function amend(account, sums, rule, now)
    if rule[VERSION] < account[VERSION] then return end
    local is_later = rule[VERSION] > account[VERSION]
    if is_same(rule, account) and not (is_later and is_calendar(rule)) then
        account[VERSION] = rule[VERSION]
        return
    end
    local old_full, turned = full(account), account[TURNS]
    local was_capacity, was_calendar = is_capacity(account), is_calendar(account)
    local old_number, old_begins = account[RULE_NUMBER], account[BEGINS]
    for place = LIMIT, VERSION do account[place] = rule[place] end
    local balance = account[BALANCE]
    if rule[TURNS] and turned then
        local fair = max(balance - account[CUT] + (full(rule) - old_full), -MOST)
        account[BALANCE] = max(fair, min(balance, 0))
        account[CUT] = account[BALANCE] - fair
    else
        local is_other = is_capacity(rule) or was_capacity
        account[BALANCE] = is_other and unheld(account, sums) or min(balance, full(rule))
        account[CUT] = 0
    end
    account[AT] = now
    if is_calendar(rule) and was_calendar then
        change_calendar(account, sums, old_number, old_begins, now)
    else
        account[NUMBER] = number_of(rule, now)
    end
end

local function relearn(account, sums, balance, at, out, now)
    if is_capacity(account) then return end
    local past = opened(account, at)
    past[BALANCE] = balance
    fill(past, {others_idle = 0, idle = 0}, now)
    account[BALANCE] = min(account[BALANCE], past[BALANCE])
    sums.out = out
end

local function report(account, sums, spent, held, idle)
    local change = sums.out - spent - held
    sums.out, sums.idle = held, idle
    account[SPENT] = spent > MOST - account[SPENT] and spent or account[SPENT] + spent
    if is_capacity(account) then
        account[BALANCE] = unheld(account, sums)
        return
    end
    local paid = min(account[CUT], max(change, 0))
    account[CUT] = account[CUT] - paid
    local balance = max(account[BALANCE] + change - paid, account[CUT] - MOST)
    account[BALANCE] = min(balance, max(most_of(account, sums), 0))
end

local function free_at(account, units, now)
    local missing = units - account[BALANCE]
    if missing <= 0 then return now end
    if is_calendar(account) and account[NUMBER] < account[RULE_NUMBER]
        and missing <= account[LIMIT] then
        return account[BEGINS]
    end
    if is_capacity(account) or is_calendar(account) then return 0 end
    local at
    if account[TURNS] then
        at = (account[NUMBER] + ceil(missing / account[LIMIT])) * account[WINDOW]
    else
        at = account[AT] + ceil(missing * account[WINDOW] / account[LIMIT])
    end
    return at <= MOST and at or 0
end

local function forgotten_at(account, sums, now)
    local kept = is_capacity(account) and 0 or GONE_KEPT_US
    local forget = #account < HOLDERS and now or sums.latest + kept
    if kept > 0 and account[BALANCE] < full(account) then
        local filled = free_at(account, full(account), now)
        forget = max(forget, filled > 0 and filled or now + CALENDAR_KEPT_US)
    end
    return forget
end
