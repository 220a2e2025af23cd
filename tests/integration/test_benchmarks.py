"""The throughput benchmark on a real broker: that its numbers come from what they claim."""

from __future__ import annotations

import pytest

from tests.benchmarks import turns
from tests.benchmarks.runner import Pool, start_run
from tests.benchmarks.throughput import Case, measure_rates
from tests.benchmarks.turns import Racer
from tests.benchmarks.variants import STOCK, THREE_BANDS
from tests.servers import Broker

_POOL = Pool("prefork", 1)


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of tasks instead of thousands."""
    monkeypatch.setattr(turns, "TURN_S", 0.05)


def test_nothing_runs_in_a_pause(broker: Broker) -> None:
    """A body that ran in another worker's turn would take time from it."""
    own = THREE_BANDS.prefixed("pause-")
    with start_run(broker.url, own) as run:
        run.publish("noop", 4_000, bands=("important",))
        worker = run.start_worker(_POOL)
        run.wait_for(worker, 1, timeout_s=60)
        racer = Racer(run, worker, [own.queues["important"]], 4_000)
        racer.pause()
        paused = run.progress()
        racer.pause()
        later = run.progress()
        racer.take_turn(counts=True)
        ran = run.progress() - paused

    assert paused == later < 4_000
    assert 0 < racer.tasks <= ran


def test_each_variant_gets_a_rate_of_its_own(redis_broker: Broker) -> None:
    """The comparison ends by itself, before a worker is out of tasks."""
    case = Case("default band", _POOL)

    rates = measure_rates(redis_broker.url, [STOCK, THREE_BANDS], case, 1_000)

    assert {STOCK.name, THREE_BANDS.name} == set(rates)
    for rate in rates.values():
        assert rate.tasks_per_s > 0
        assert rate.publish_us > 0
