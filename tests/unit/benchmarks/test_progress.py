"""Bodies counted from outside the process that runs them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.benchmarks.progress import Marker, read_progress


def test_nothing_has_run_before_the_first_body(tmp_path):
    """The runner asks while the worker still starts."""
    assert 0 == read_progress(tmp_path)


def test_cells_of_all_threads_add_up(tmp_path):
    """Threads that shared a cell would lose counts, and the run would never end."""
    marker = Marker(tmp_path)
    together = Barrier(4)

    def run_bodies() -> None:
        together.wait()
        for _ in range(1_000):
            marker.mark()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(run_bodies)
    progress = read_progress(tmp_path)

    # One of each thread, and the empty one of the thread that made the marker.
    assert 5 == len(list(tmp_path.glob("*.cell")))
    assert 4_000 == progress


def test_a_cell_that_is_being_created_is_not_read(tmp_path):
    """The runner looks while children start."""
    (tmp_path / "1-1.cell").write_bytes(b"")
    Marker(tmp_path).mark()

    assert 1 == read_progress(tmp_path)


def test_a_second_marker_of_a_thread_goes_on_counting(tmp_path):
    """Threads race to make the first marker; a count that starts again never gets to its end."""
    Marker(tmp_path).mark()
    Marker(tmp_path).mark()

    assert 2 == read_progress(tmp_path)
