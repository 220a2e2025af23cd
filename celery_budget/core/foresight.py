"""Foresight: sets reserves before the load comes for which they are meant.

How far it looks ahead depends on what runs: a slot that is used by a lesser task is free when that
has ended, and not before. Used by the dispatcher alone. docs/explanation/forecast.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from celery_budget.core.bands import BandState
from celery_budget.core.forecast import Forecast
from celery_budget.core.order import Order
from celery_budget.core.season import BIN_S
from celery_budget.core.staffing import portion

#: Reserves are set so many times the length of lesser tasks ahead: one that starts just before is
#: then over, if it is not much longer than others of its kind.
LENGTHS = 2.0

#: Looked ahead at least, seconds: the load of a spike does not wait for the clock's minute.
LEAST_LEAD_S = 30.0


def foresee(
    order: Order,
    forecast: Forecast,
    running: Iterable[tuple[BandState, float]],
    worker: str,
    slots: int,
    now: float,
) -> bool:
    """Set the reserves of one worker by what is expected; tell whether any changed.

    Args:
        order: The bands of the worker.
        forecast: Of the worker.
        running: Bands and expected service times of what runs, seconds.
        worker: Its name among those that take part.
        slots: Of the worker.
        now: Unix seconds.
    """
    has_changed = False
    taken = list(running)
    for state in order.bands:
        if state.rule.reserve_most is None:
            continue
        rank = state.rule.rank
        lengths = [s.longest.value for s in order.bands if s.rule.rank > rank]
        lengths += [length for s, length in taken if s.rule.rank > rank]
        lead_s = min(BIN_S, max(LEAST_LEAD_S, LENGTHS * max(lengths, default=0.0)))
        total = forecast.needed(state.name, now, lead_s)
        crew = {**forecast.crew(state.name), worker: max(1, slots)}
        foreseen = portion(total, crew, worker)
        has_changed |= foreseen != state.foreseen
        state.foreseen = foreseen
    if has_changed:
        order.resize(slots)
    return has_changed
