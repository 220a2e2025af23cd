"""The board: one writes, the other reads, and nobody gets numbers of another execution."""

from __future__ import annotations

import os

import pytest

from celery_budget.board import CHARGES, MOST, Board, Flag, SharedBoard, charged
from celery_budget.local_board import REMEMBERED, LocalBoard

FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(params=[SharedBoard, LocalBoard], ids=["shared", "local"])
def board(request: pytest.FixtureRequest) -> Board:
    """Make an empty board of either kind."""
    return request.param()


def test_an_execution_is_read_while_it_runs_and_when_it_has_ended(board: Board) -> None:
    """A ceiling looks at what runs, a settlement at what has ended."""
    cell = board.begin(7, 0, started_ns=11, pid=42)
    cell.charge(1, 5)
    cell.charge(1, 6)
    cell.charge(CHARGES - 1, 1)

    running = board.read(7, 0)
    assert (False, 11, 42) == (running.is_final, running.started_ns, running.pid)
    assert (None, None, None, None) == (
        running.wall_us,
        running.cpu_us,
        running.peak_bytes,
        running.io_bytes,
    )
    assert (0, 11, *[0] * (CHARGES - 3), 1) == running.charges == cell.charges()

    cell.finish(1, 2, None, 0)

    ended = board.read(7, 0)
    assert (True, 1, 2, None, 0) == (
        ended.is_final,
        ended.wall_us,
        ended.cpu_us,
        ended.peak_bytes,
        ended.io_bytes,
    )
    assert running.charges == ended.charges


def test_only_what_is_known_is_told_by_resource(board: Board) -> None:
    """Nothing used and nothing known are not the same."""
    cell = board.begin(7, 0, 1, 1)
    cell.charge(1, 5)
    running = board.read(7, 0)
    cell.finish(1, None, 3, 0)

    assert {"tokens": 0, "usd": 5} == running.units(("tokens", "usd"))
    assert {"runtime": 1, "memory": 3, "io": 0, "tokens": 0, "usd": 5} == board.read(7, 0).units(
        ("tokens", "usd")
    )


def test_an_unknown_execution_has_no_usage(board: Board) -> None:
    """Revoked in the pool: it has never begun."""
    board.begin(7, 0, 1, 1)

    assert board.read(8, 0) is None


def test_a_sum_stops_where_lua_would_lose_digits(board: Board) -> None:
    """A task that charges nonsense must not wrap round to a small number."""
    cell = board.begin(7, 0, 1, 1)
    for _ in range(3_000):
        cell.charge(0, MOST)

    assert MOST == board.read(7, 0).charges[0]


def test_a_flag_is_seen_by_the_execution_it_is_for(board: Board) -> None:
    """The next task of the same child has nothing to do with the one that had to yield."""
    first = board.begin(6, 0, 1, 1)
    board.put(Flag.YIELD, 6, 0)
    board.put(Flag.DEGRADED, 6, 0)
    board.take(Flag.DEGRADED, 6, 0)
    second = board.begin(8, 0, 1, 1)

    assert (True, False) == (first.has(Flag.YIELD), first.has(Flag.DEGRADED))
    assert (False, False) == (second.has(Flag.YIELD), second.has(Flag.DEGRADED))


def test_an_odd_run_is_degraded_from_the_start(board: Board) -> None:
    """Nobody knows which child will run it before it has begun."""
    cell = board.begin(7, 0, 1, 1)

    assert cell.has(Flag.DEGRADED)
    assert not cell.has(Flag.YIELD)


def test_a_child_may_begin_its_next_task_before_the_last_one_is_read() -> None:
    """The result takes its time through the pipe."""
    board = SharedBoard()
    for run in (1, 2):
        board.begin(run, 3, run, 42).finish(run, run, run, run)

    assert [1, 2] == [board.read(run, 3).wall_us for run in (1, 2)]

    board.begin(3, 3, 3, 42)

    assert [None, 2] == [usage and usage.wall_us for usage in (board.read(1, 3), board.read(2, 3))]
    assert (0,) * CHARGES == board.read(3, 3).charges


def test_children_do_not_touch_each_others_cells() -> None:
    """One too long a slice would, and only at the borders."""
    board = SharedBoard(cells=3)
    cells = [board.begin(run, run - 1, run, run) for run in (1, 2, 3)]
    for cell in (cells[0], cells[2]):
        for position in range(CHARGES):
            cell.charge(position, 9)
        cell.finish(9, 9, 9, 9)
        board.put(Flag.YIELD, 1, 0)
        board.put(Flag.YIELD, 3, 2)

    middle = board.read(2, 1)
    assert (False, 2, 2, (0,) * CHARGES) == (
        middle.is_final,
        middle.started_ns,
        middle.pid,
        middle.charges,
    )
    assert not cells[1].has(Flag.YIELD)


def test_flags_of_an_earlier_execution_are_not_taken_from_a_later_one() -> None:
    """Its end may be noticed when the next one has already been told to yield."""
    board = SharedBoard()
    cell = board.begin(8, 0, 1, 1)
    board.put(Flag.YIELD, 8, 0)
    board.take(Flag.YIELD, 7, 0)

    assert cell.has(Flag.YIELD)


@pytest.mark.parametrize("index", [None, 2, 5_000])
def test_a_child_without_a_cell_is_not_metered(index: int | None) -> None:
    """A pool grown beyond the board still runs its tasks."""
    board = SharedBoard(cells=2)
    board.put(Flag.YIELD, 7, index)
    board.take(Flag.YIELD, 7, index)

    assert (None, None) == (board.begin(7, index, 1, 1), board.read(7, index))


def test_an_execution_is_found_when_its_child_has_gone() -> None:
    """The pool forgets the number of a child with the child."""
    board = SharedBoard(cells=4)
    board.begin(7, 2, 1, 1).charge(0, 5)
    board.begin(9, 2, 2, 2)  # the child in its place

    assert (1, 5) == ((lost := board.read(7, None)).started_ns, lost.charges[0])
    assert board.read(8, None) is None


def test_a_local_board_forgets_what_ended_long_ago() -> None:
    """A worker runs for months; what was delivered twice is kept while it runs."""
    board = LocalBoard()
    board.begin(1, None, 1, 1).finish(1, None, None, None)
    board.begin(1, None, 2, 1)
    board.begin(2, None, 1, 1).finish(1, None, None, None)
    for run in range(3, REMEMBERED + 10):
        board.begin(run, None, 1, 1).finish(1, None, None, None)

    assert (2, None) == (board.read(1, None).started_ns, board.read(2, None))
    assert board.read(REMEMBERED, None) is not None
    assert len(board._cells) <= REMEMBERED + 2


@FORKS
def test_a_reader_never_mixes_two_executions() -> None:
    """The child writes as fast as it can, each number of a run the run itself."""
    board = SharedBoard()
    pid = os.fork()
    if not pid:
        for run in range(1, 60_000):
            cell = board.begin(run, 0, run, run)
            for position in (0, CHARGES - 1):
                cell.charge(position, run)
            cell.finish(run, run, run, run)
        os._exit(0)
    ended = False
    seen = mixed = 0
    while not ended:
        ended = os.waitpid(pid, os.WNOHANG) != (0, 0)
        for _ in range(200):
            # The half in use and the one before: what a main process asks for.
            newest = max(board._words[8], board._words[40])
            for run in (newest, newest - 1):
                usage = board.read(run, 0) if run else None
                if usage is None:
                    continue
                seen += 1
                numbers = {usage.started_ns, usage.pid, *usage.charges} - {0}
                if usage.is_final:
                    numbers |= {usage.wall_us, usage.cpu_us, usage.peak_bytes, usage.io_bytes}
                mixed += numbers != {run}

    assert (0, True) == (mixed, seen > 1_000)


def test_charged_resources_keep_the_policys_order() -> None:
    """Their place is all that says which number is whose."""
    assert ("network", "tokens", "usd") == charged(
        ("cpu", "io", "memory", "network", "runtime", "slots", "starts", "tokens", "usd")
    )
