"""The ledger on Redis: one script call an exchange, all keys in one slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError, json, msgpack

from celery_budget.core import accounting
from celery_budget.core.account import Account, AccountRule, Holder, Want
from celery_budget.core.exchange import Answer, Granted, Line, Report
from celery_budget.core.standing import NONE, ByRank, Standing
from celery_budget.errors import LedgerUnavailable
from celery_budget.policy.live import Live
from celery_budget.stores.redis.connect import prefix, text, translated
from celery_budget.stores.redis.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder().decode
#: Fields before an account's holders, and of each holder before its wants; see `lua/account.lua`.
_HEAD, _HOLDER = 13, 6
#: Fields of a standing before its parts; see `lua/recall.lua`.
_STANDING = 4


class RedisLedger:
    """Accounts as packed strings, each exchange one script.

    Args:
        client: Of a server of version 6.2 or newer.
        namespace: Keeps fleets on one server apart.
        lease_us: For how long a worker keeps what it was granted without an exchange.
        clock: Replaces the server's clock, microseconds; for tests of time alone.
    """

    def __init__(
        self,
        client: Redis,
        namespace: str,
        lease_us: int,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._client = client
        self._prefix = prefix(namespace)
        self._lease_us = lease_us
        self._clock = clock
        self._exchange = Script("exchange")
        self._change = Script("change")

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}{kind}:{name}" if name else f"{self._prefix}{kind}"

    def exchange(self, report: Report) -> Answer:
        """Settle a report; see `Ledger.exchange`."""
        keys = [
            self._key("ledger"),
            self._key("worker", report.worker),
            self._key("accounts"),
            self._key("workers"),
            self._key("rooms"),
            self._key("waiting"),
            self._key("waiting_until"),
            *(self._key("account", line.account) for line in report.lines),
        ]
        lines = [_flat(line) for line in report.lines]
        head = (report.worker, report.number, report.epoch, report.next_us)
        told = _encode((*head, lines, report.room, report.waiting, report.places))
        now = "" if self._clock is None else self._clock()
        with translated("exchange"):
            packed: Any = self._exchange(self._client, keys, [told, self._lease_us, now])
        epoch, at, until, version, answers, *others = _decode(packed)
        granted = tuple(Granted(*answer) for answer in answers)
        return Answer(text(epoch), at, until, version, granted, *others)

    def accounts(self, names: Sequence[str] | None = None, most: int = 1_000) -> dict[str, Account]:
        """Look accounts up; see `Ledger.accounts`."""
        with translated("accounts"):
            if names is None:
                found: Any = self._client.zrange(self._key("accounts"), -most, -1)
                names = [text(name) for name in found]
            names = names[:most]
            if not names:
                return {}
            packed: Any = self._client.mget([self._key("account", name) for name in names])
            now = self._now()
        accounts: dict[str, Account] = {}
        for name, value in zip(names, packed, strict=True):
            if value is None:
                continue
            account, forget = _account(_decode(value))
            if forget <= now:
                continue
            accounts[name] = account
            accounting.advance(account, account.rule, now)
        return accounts

    def live(self) -> Live:
        """Read what operators have changed; see `Ledger.live`."""
        with translated("live"):
            value: Any = self._client.get(self._key("live"))
        if value is None:
            return Live()
        version, _, body = text(value).partition(" ")
        try:
            return replace(json.decode(body, type=Live), version=int(version))
        except (MsgspecError, ValueError) as error:
            # Of a newer celery-budget, which this one shares the ledger with for a while.
            raise LedgerUnavailable("live", f"it cannot be read: {error}") from error

    def change(self, live: Live, instead_of: int) -> Live | None:
        """Put another change in the place of one; see `Ledger.change`."""
        now = "" if self._clock is None else self._clock()
        arguments = [json.encode(live), str(instead_of), str(live.version or ""), now]
        with translated("change"):
            version: Any = self._change(
                self._client, [self._key("ledger"), self._key("live")], arguments
            )
        return replace(live, version=int(version)) if version else None

    def _now(self) -> int:
        if self._clock is not None:
            return self._clock()
        seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)


def _flat(line: Line) -> list[Any]:
    """Write a line as `lua/settle.lua` reads it."""
    flat: list[Any] = [
        line.account,
        line.spent,
        line.held,
        line.idle,
        len(line.wants),
        line.known is not None,
        *line.rule,
    ]
    for want in line.wants:
        flat += want
    if line.known is not None:
        flat += line.known
    if line.standing != NONE:
        claims, leaving, loose = line.standing
        flat += [len(claims), leaving, len(loose)]
        for part in claims + loose:
            flat += part
    return flat


def _account(flat: list[Any]) -> tuple[Account, int]:
    """Read an account as `lua/account.lua` writes it, and when it may be forgotten."""
    balance, at, number, cut, spent, forget = flat[:6]
    rule = AccountRule(*flat[6:_HEAD])
    holders: dict[str, Holder] = {}
    place = _HEAD
    while place < len(flat):
        name, out, idle, until, asked_until, count = flat[place : place + _HOLDER]
        place += _HOLDER
        wants = tuple(Want(*flat[at : at + 5]) for at in range(place, place + 5 * count, 5))
        holders[name] = Holder(out, idle, until, wants, asked_until)
        place += 5 * count
    if not rule.is_capacity:
        return Account(rule, balance, at, number, cut, spent, holders), forget
    standings = _standings(cut or [])
    return Account(rule, balance, at, number, 0, spent, holders, standings), forget


def _standings(flat: list[Any]) -> dict[str, Standing]:
    """Read standings as `lua/recall.lua` writes them."""
    standings: dict[str, Standing] = {}
    place = 0
    while place < len(flat):
        name, claims, leaving, loose = flat[place : place + _STANDING]
        between = place + _STANDING + 2 * claims
        after = between + 2 * loose
        standings[name] = Standing(
            _by_rank(flat[place + _STANDING : between]), leaving, _by_rank(flat[between:after])
        )
        place = after
    return standings


def _by_rank(flat: list[int]) -> ByRank:
    return tuple(zip(flat[::2], flat[1::2], strict=True))
