"""The accounting rule: how time, rules and reports change one account (`account.py`).

`stores/memory.py` calls it, `stores/redis/lua/` mirrors it, and one contract suite holds the two
equal. Who gets how much is in `granting.py`. Formulas and bounds: docs/explanation/budgets.md.

Where a product may be larger than `MOST` it is computed with floats on purpose: Lua has nothing
else.
"""

from __future__ import annotations

from math import ceil, floor

from celery_budget.core.account import MOST, Account, AccountRule, Holder, Known

#: A worker that does not come back keeps its entry in window budgets for this long. What it was
#: granted counts as spent; if it was merely cut off, its report is then set against the grant.
GONE_KEPT_US = 600_000_000

#: Of those that went and hold something still, so many are remembered: a fleet that crashes all
#: day must not make an exchange slow. A report of one that was dropped is charged once more.
MOST_GONE = 64

#: Shorter than any calendar window, and longer than any that begins with another one.
SHORT_DAY_US = 22 * 3_600_000_000

#: Longer than any calendar window.
CALENDAR_KEPT_US = 62 * 86_400_000_000


def opened(rule: AccountRule, now: int) -> Account:
    """Open an account that nobody has used, which is full."""
    return Account(rule, rule.full, now, _number(rule, now))


def _number(rule: AccountRule, at: int) -> int:
    """Count the window that holds a time; of a calendar only the one that has begun is known."""
    if not rule.turns:
        return 0
    if rule.window:
        return floor(at / rule.window)
    return rule.number if rule.begins <= at else rule.number - 1


def advance(account: Account, rule: AccountRule, now: int) -> None:
    """Let time pass: holders leave, the balance fills, windows turn.

    Args:
        account: Modified.
        rule: Of the caller, who may know of a calendar window that has begun.
        now: If the clock was set back, filling goes on from here; a window that has been filled
            is not filled again, unless the clock was wrong by more than a whole one.
    """
    if _tells_calendar(account.rule, rule, now):
        account.rule = account.rule._replace(number=rule.number, begins=rule.begins)
    rule = account.rule
    _leave(account, now)
    if rule.turns:
        _turn(account, _number(rule, now))
    elif rule.is_capacity:
        account.balance = _unheld(account)
    elif now < account.at:
        account.at = now
    else:
        earned, account.at = _filled(rule, account.at, now)
        _add(account, earned)


def _tells_calendar(old: AccountRule, rule: AccountRule, now: int) -> bool:
    """Whether a caller knows better in which calendar window it is; one ahead is not believed."""
    if rule.version != old.version or rule[:4] != old[:4] or rule.begins > now:
        return False
    return rule.begins > old.begins or old.begins > now


def _turn(account: Account, number: int) -> None:
    """Fill an account for the windows that have begun since it was filled last."""
    passed = number - account.number
    if passed in {0, -1}:
        return
    account.number = number
    if passed > 0:
        account.cut = 0
        _add(account, passed * account.rule.limit)


def _unheld(account: Account) -> int:
    """Tell what nobody holds if all else is there."""
    return max(account.rule.full - account.leased, -MOST)


def _leave(account: Account, now: int) -> None:
    """Drop what workers had whose lease has ended, and wants that nobody has repeated."""
    is_capacity = account.rule.is_capacity
    remembered = 0
    for name, holder in reversed(list(account.holders.items())):
        is_over = is_capacity or not holder.out or holder.until + GONE_KEPT_US <= now
        if holder.until > now:
            if holder.asked_until <= now:
                holder.wants = ()
        elif is_over or remembered == MOST_GONE:
            del account.holders[name]
        else:
            remembered += 1
            holder.idle = 0
            holder.wants = ()


def _most(account: Account) -> int:
    """Tell how much of a window budget may be here; what is idle somewhere is saved up too."""
    return account.rule.full - sum(holder.idle for holder in account.holders.values())


def _add(account: Account, units: int) -> None:
    """Put units into a window budget, as far as it can save them up."""
    added = min(account.balance + min(units, MOST), _most(account))
    account.balance = max(account.balance, added)


def _filled(rule: AccountRule, at: int, now: int) -> tuple[int, int]:
    """Tell the whole units that have come since `at`, and until when they account for."""
    earned = floor(float(rule.limit) * float(now - at) / float(rule.window))
    if earned <= 0:
        return 0, at
    # Rounded up, so that no part of a unit comes twice.
    used = ceil(float(earned) * float(rule.window) / float(rule.limit))
    return earned, min(now, at + used)


def amend(account: Account, rule: AccountRule, now: int) -> None:
    """Go by another rule from now on, unless it is an older one.

    What has been spent in this window counts against the new limit. A debt stays what it is, and
    a lower limit makes none. Going to and fro between two rules, as a fleet does while half of it
    has been deployed, gains nothing.

    Args:
        account: Advanced to `now`; modified.
        rule: May be the one it has.
        now: Microseconds.
    """
    old = account.rule
    is_later = rule.version > old.version
    if rule.version < old.version:
        return
    if rule[:4] == old[:4] and not (is_later and rule.is_calendar):
        account.rule = old._replace(version=rule.version)
        return
    account.rule = rule
    if rule.turns and old.turns:
        fair = max(account.balance - account.cut + (rule.full - old.full), -MOST)
        account.balance = max(fair, min(account.balance, 0))
        account.cut = account.balance - fair
    else:
        is_other = rule.is_capacity or old.is_capacity
        account.balance = _unheld(account) if is_other else min(account.balance, rule.full)
        account.cut = 0
        account.standings = {}  # they share a place with `cut` in Redis
    account.at = now
    if rule.is_calendar and old.is_calendar:
        _change_calendar(account, old, now)
    else:
        account.number = _number(rule, now)


def _change_calendar(account: Account, old: AccountRule, now: int) -> None:
    """Go over to the calendar of a new rule, whose numbers may count days instead of months."""
    rule = account.rule
    number = _number(rule, now)
    if rule.number == account.number - 1:  # the same one, told by a clock that is behind
        account.rule = rule._replace(number=old.number, begins=old.begins)
    elif 0 < number - account.number <= (rule.begins - old.begins) / SHORT_DAY_US:
        _turn(account, number)
    else:
        account.number = number


def report(account: Account, worker: str, spent: int, held: int, idle: int, until: int) -> None:
    """Take note of what a worker has spent and what it still holds.

    What it holds is set against what it was granted: a grant whose answer was lost comes back,
    an overrun becomes debt, and an account that was lost learns what is out.

    Args:
        account: Advanced; modified.
        worker: Its name.
        spent: Units spent since its last report; 0 for a capacity, which is never spent.
        held: Units it holds now, those of running tasks among them.
        idle: Those of them without a use.
        until: When its lease ends.
    """
    holder = account.holders.pop(worker, Holder())
    account.holders[worker] = holder
    change = holder.out - spent - held
    holder.out = held
    holder.idle = idle
    holder.until = until
    account.spent = spent if spent > MOST - account.spent else account.spent + spent
    if account.rule.is_capacity:
        account.balance = _unheld(account)
        return
    paid = min(account.cut, max(change, 0))
    account.cut -= paid
    balance = max(account.balance + change - paid, account.cut - MOST)
    account.balance = min(balance, max(_most(account), 0))


def relearn(account: Account, worker: str, known: Known, now: int) -> None:
    """Take over what a worker knows of an account that the ledger has lost.

    Args:
        account: Advanced; modified. Opened anew, or told by others already.
        worker: Its name; it has not reported to this account yet.
        known: What it last heard.
        now: Microseconds.
    """
    rule = account.rule
    if rule.is_capacity:
        return  # what everybody holds, which they report, is all there is to know
    past = Account(rule, known.balance, known.at, _number(rule, known.at))
    advance(past, rule, now)
    account.balance = min(account.balance, past.balance)
    account.holders[worker] = Holder(out=known.out)


def free_at(account: Account, units: int, now: int) -> int:
    """Tell when so many units will be there if nobody takes any; 0: no time can be told.

    Args:
        account: Advanced.
        units: At most what the account can ever have.
        now: Microseconds.
    """
    rule = account.rule
    missing = units - account.balance
    if missing <= 0:
        return now
    if rule.is_calendar and account.number < rule.number and missing <= rule.limit:
        return rule.begins  # the one window that is known to come
    if rule.is_capacity or rule.is_calendar:
        return 0  # when others are done; whoever knows the calendar knows when
    if rule.turns:
        at = (account.number + ceil(missing / rule.limit)) * rule.window
    else:
        at = account.at + ceil(float(missing) * float(rule.window) / float(rule.limit))
    return at if at <= MOST else 0


def forgotten_at(account: Account, now: int) -> int:
    """Tell when the account may be forgotten, because a fresh one would be no better off.

    Args:
        account: Advanced.
        now: Microseconds.

    Returns:
        A time; `now` when it may be forgotten at once. Where no time can be told when it will be
        full, as for a calendar window, it is kept for 62 days after the last use.
    """
    rule = account.rule
    kept = 0 if rule.is_capacity else GONE_KEPT_US
    until = max((holder.until + kept for holder in account.holders.values()), default=now)
    if account.balance < rule.full and not rule.is_capacity:
        until = max(until, free_at(account, rule.full, now) or now + CALENDAR_KEPT_US)
    return until
