"""Runs one variant: a clean broker, real publisher and worker processes, their cleaning up.

Knows nothing of what is measured; `throughput.py`, `overload.py` and `memory.py` call it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from celery import Celery
from kombu.connection import Connection

from celery_budget.embedded import OwnedProcess, ServerFailed
from tests.benchmarks.progress import read_progress
from tests.benchmarks.records import Published, Record, read_published, read_records
from tests.benchmarks.variants import BROKER, DIRECTORY, VARIANT, Variant

_ROOT = Path(__file__).parents[2]
# Longer than any load takes to publish: the longest is an overload run's, of its own length.
_PUBLISH_S = 300.0
# A worker answers within milliseconds, between two tasks.
_ANSWER_S = 30.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pool:
    """How a worker executes: Celery's `-P` and `-c`."""

    kind: str
    slots: int

    def __str__(self) -> str:
        return f"{self.kind} {self.slots}"


class Run:
    """One variant on one broker, with a directory and queues of its own.

    Made by `start_run` alone, which also ends all that was started here.
    """

    def __init__(
        self, broker: str, variant: Variant, directory: Path, processes: ExitStack
    ) -> None:
        self._directory = directory
        self._processes = processes
        client = processes.enter_context(Celery(broker=broker, set_as_current=False))
        self._control = client.control
        self._environment = {
            **os.environ,
            BROKER: broker,
            VARIANT: variant.encode(),
            DIRECTORY: str(directory),
        }

    def publish(
        self, kind: str, count: int, seconds: float = 0.0, bands: Sequence[str] = ()
    ) -> Published:
        """Run a publisher process to its end.

        Args:
            kind: `noop`, `slow`, `burn` or `urgent`, as in `publisher.py`.
            count: Tasks to publish.
            seconds: Length of a task of the flood, or time between two urgent ones.
            bands: For `noop`: bands that take turns.

        Raises:
            ServerFailed: The publisher did not do it within five minutes.
        """
        arguments = [kind, str(count), str(seconds), *bands]
        publisher = self._spawn(["-m", "tests.benchmarks.publisher", *arguments])
        publisher.wait_until(
            lambda: read_published(self._directory, kind) is not None, _PUBLISH_S, "last publish"
        )
        published = read_published(self._directory, kind)
        assert published is not None
        return published

    def start_worker(self, pool: Pool, name: str = "celery") -> OwnedProcess:
        """Start a `celery worker` with the options of an everyday deployment.

        Mingle, gossip, heartbeats and the fair pool strategy stay on, as by default.

        Args:
            pool: How it executes.
            name: Its node name; two that run at once need two.
        """
        command = ["-m", "celery", "-A", "tests.benchmarks.apps", "worker", "-l", "WARNING"]
        node = f"{name}@localhost"
        options = ["-P", pool.kind, "-c", str(pool.slots), "-n", node]
        return self._spawn([*command, *options], node)

    def tell(self, worker: OwnedProcess, command: str, queue: str) -> None:
        """Send a remote control command about a queue and wait for the answer.

        Args:
            worker: As `start_worker` gave it.
            command: `add_consumer` or `cancel_consumer`.
            queue: Its name.

        Raises:
            ServerFailed: The worker did not do it.
        """
        worker.require_running()
        replies = self._control.broadcast(
            command,
            arguments={"queue": queue},
            destination=[worker.name],
            reply=True,
            limit=1,
            timeout=_ANSWER_S,
        )
        if not replies or "ok" not in replies[0][worker.name]:
            raise ServerFailed(worker.name, f"{command} {queue}: answered {replies}", worker.log)

    def wait_for(self, worker: OwnedProcess, count: int, timeout_s: float) -> None:
        """Wait until this many bodies have run.

        Args:
            worker: The one that runs them.
            count: Bodies in the whole run.
            timeout_s: Seconds from now.

        Raises:
            ServerFailed: The worker ended, or the time passed, before.
        """
        worker.wait_until(lambda: self.progress() >= count, timeout_s, f"{count} tasks")

    def progress(self) -> int:
        """Tell how many bodies have run."""
        return read_progress(self._directory)

    def records(self, pid: int | None = None) -> list[Record]:
        """Collect what the timed tasks told so far, those of one process or all."""
        return read_records(self._directory, pid)

    def _spawn(self, arguments: Sequence[str], name: str | None = None) -> OwnedProcess:
        process = OwnedProcess(
            [sys.executable, *arguments], env=self._environment, cwd=_ROOT, name=name
        )
        self._processes.callback(process.stop)
        return process


@contextmanager
def start_run(broker: str, variant: Variant) -> Iterator[Run]:
    """Give a run on empty queues; end its processes and empty the queues afterwards.

    Args:
        broker: URL of a server that nobody else uses: its task queues are deleted.
        variant: What app to run.
    """
    with (
        tempfile.TemporaryDirectory(prefix="celery-budget-bench-") as directory,
        ExitStack() as cleaning,
    ):
        _clear(broker, variant.queues.values())
        cleaning.callback(_clear, broker, variant.queues.values())
        yield Run(broker, variant, Path(directory), cleaning)


def _clear(broker: str, queues: Iterable[str]) -> None:
    """Remove the queues, whose arguments differ between variants, with all they hold."""
    with Connection(broker) as connection:
        channel = connection.default_channel
        is_redis = connection.transport.driver_type == "redis"
        for queue in queues:
            # kombu's Redis transport deletes only queues that its own process declared.
            channel.queue_purge(queue) if is_redis else channel.queue_delete(queue)
        if is_redis:
            # Messages that a worker held when it was stopped by force.
            channel.client.delete("unacked", "unacked_index", "unacked_mutex")


def alternate(
    variants: Sequence[Variant], rounds: int, measure: Callable[[Variant], Result]
) -> dict[str, list[Result]]:
    """Measure all variants in turn, round after round (A B A B ...).

    What slows the machine for a while then slows neighbours alike, and the ratio inside one round
    stays fair.

    Returns:
        The results of each variant by name; the same place is the same round.
    """
    results: dict[str, list[Result]] = {variant.name: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            results[variant.name].append(measure(variant))
    return results
