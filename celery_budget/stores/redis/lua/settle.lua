-- settle: one line of a report.  Mirrors _settle() in stores/memory.py.  Needs account.lua,
-- share.lua and recall.lua before it.
-- A line is one flat array: {account, spent, held, idle, how many wants, whether anything is known, then
-- the rule as in an account, then the wants, then the balance, time and out that are known, then a
-- standing as in recall.lua without its name, if there is one}.
local LINE_ACCOUNT, LINE_SPENT, LINE_HELD, LINE_IDLE, LINE_WANTS, LINE_KNOWS = 1, 2, 3, 4, 5, 6
local FIRST_WANT = VERSION + 1

-- What a line tells of its worker's standing, from a place on; nil when it tells nothing.
local function standing_in(line, first)
    return line[first] and {unpack(line, first, #line)}
end

-- `told` is what all lines have in common: worker, now, lease_until, next_us, created, and whether it
-- is_repeated, is_relearning, has_other_epoch.  `kept` is the account as it was, or false.
-- Returns the account, with the time when it may be forgotten, and the answer.
local function settle(told, line, kept)
    local now, after = told.now, FIRST_WANT + 5 * line[LINE_WANTS]
    local account = kept and kept[FORGET] > now and kept or opened(line, now)
    local sums = advance(account, line, told.worker, now)
    amend(account, sums, line, now)
    if line[LINE_KNOWS] and not told.is_repeated and not sums.is_here
        and (told.has_other_epoch or line[after + 1] < told.created) then
        relearn(account, sums, line[after], line[after + 1], line[after + 2], now)
    end
    report(account, sums, told.is_repeated and 0 or line[LINE_SPENT], line[LINE_HELD], line[LINE_IDLE])
    local wants = {}
    if not (told.is_relearning and is_capacity(account)) then
        for place = FIRST_WANT, after - 1, 5 do
            wants[#wants + 1] = {unpack(line, place, place + 4)}
        end
    end
    local granted, free = grant(account, sums, told, wants)
    local units, rank = 0, 0
    if is_capacity(account) then
        note(account, told.worker, standing_in(line, line[LINE_KNOWS] and after + 3 or after))
        units, rank = call(account, told.worker)
    end
    account[FORGET] = forgotten_at(account, sums, now)
    return account, {
        granted, account[BALANCE], free, sums.is_contended, sums.others_live, units, rank}
end
