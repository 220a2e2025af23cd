"""One run of the demo: a worker process, a flood, and what the tasks say of their waits."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import redis
from celery import Celery

from celery_budget.cli.demo.app import Place, make_app, task_name
from celery_budget.cli.demo.figures import Result, Tally
from celery_budget.cli.demo.load import LOAD, QUEUES, SLOTS, Arrivals
from celery_budget.embedded import OwnedProcess

# Alone a worker is ready in 1 s; 40 s leaves room for a machine with every core taken.
_READY_S = 40.0
# Fine enough for the shortest interval of the load, and 2 % of a core.
_TICK_S = 0.01
_WATCH_S = 0.25

#: Called every quarter of a second with the run so far and the seconds since its beginning.
Watch = Callable[[dict[str, Tally], float], None]


def run(place: Place, seconds: float, watch: Watch) -> Result:
    """Offer the load to a worker for some seconds and return what the tasks measured.

    Args:
        place: With or without bands, and on which server.
        seconds: How long tasks are published and watched.
        watch: Told how the run goes.

    Raises:
        ServerFailed: The worker did not start, or ended.
    """
    with ExitStack() as ends:
        client = ends.enter_context(redis.Redis.from_url(place.url, decode_responses=True))
        worker = _start_worker(place)
        ends.callback(worker.kill)
        worker.wait_until(lambda: " ready." in worker.log, _READY_S, "line saying ready")
        app = make_app(place)
        ends.callback(app.close)
        flood = _Flood(place, app, client)
        watched = 0
        while flood.elapsed < seconds:
            flood.publish()
            flood.read()
            if flood.elapsed // _WATCH_S > watched:
                watched = int(flood.elapsed // _WATCH_S)
                flood.count_queued()
                watch(flood.tallies, flood.elapsed)
                worker.require_running()
            time.sleep(_TICK_S)
        flood.read()
        flood.count_queued()
        return Result(flood.elapsed, flood.tallies)


class _Flood:
    """Publish what is due and read what tasks noted, in one loop without threads."""

    def __init__(self, place: Place, app: Celery, client: redis.Redis) -> None:
        self._place = place
        self._app = app
        self._client = client
        self._arrivals = Arrivals()
        self._last_note = "0"
        self._begin = time.time()
        self.tallies = {source.band: Tally() for source in LOAD}

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning of the run."""
        return time.time() - self._begin

    def publish(self) -> None:
        """Publish the tasks that are due."""
        for source in self._arrivals.until(self.elapsed):
            published = self.tallies[source.band].published
            now = time.time()
            number = len(published)
            published.append(now - self._begin)
            self._app.tasks[task_name(source.band)].apply_async((number, now))

    def read(self) -> None:
        """Read what tasks noted since, and how long the queues are."""
        notes = self._client.xread({self._place.log_key: self._last_note})
        for _, entries in notes:
            for note_id, note in entries:
                self._last_note = note_id
                tally = self.tallies[note["band"]]
                if note["event"] == "start":
                    tally.waits[int(note["number"])] = float(note["wait"])
                else:
                    tally.ended += 1

    def count_queued(self) -> None:
        """Count the messages in the broker by the band of their task.

        By message and not by queue: stock Celery has one queue for all of them.
        """
        depths = dict.fromkeys(self.tallies, 0)
        for queue in QUEUES:
            for message in self._client.lrange(f"{self._place.space}{queue}", 0, -1):
                depths[json.loads(message)["headers"]["task"].removeprefix(task_name(""))] += 1
        for band, depth in depths.items():
            self.tallies[band].depth = depth


def _start_worker(place: Place) -> OwnedProcess:
    arguments = [
        *(sys.executable, "-m", "celery", "-A", "celery_budget.cli.demo.worker", "worker"),
        *("-c", str(SLOTS), "-l", "INFO", "-n", f"demo-{place.variant}@localhost"),
        # It is alone: asking for other workers would take a second.
        *("--without-mingle", "--without-gossip"),
    ]
    environment = {**os.environ, **place.environment()}
    return OwnedProcess(arguments, env=environment, name="celery worker")
