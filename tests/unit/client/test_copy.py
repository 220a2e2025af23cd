"""The headers of a moved message."""

from __future__ import annotations

from celery import Celery

from celery_budget.client.copy import moved_headers
from celery_budget.headers import HEADER, Stamp, read, write
from celery_budget.policy.load import load

POLICY = load(
    {
        "default_band": "optional",
        "bands": {"critical": {"queues": ["critical"]}, "optional": {"queues": ["optional"]}},
        "tasks": {"reports.*": {"tenant": "acme"}},
    }
)
APP = Celery("copies", set_as_current=False)


def test_only_band_and_move_number_of_a_stamp_change() -> None:
    """Age, tenant and deadline are the task's own, wherever it waits."""
    before = Stamp("optional", "acme", 2_000.0, "cid", 1_000.0, 1)
    headers = {"id": "4f", "task": "t", "lang": "py", HEADER: write(before)}

    moved = moved_headers(APP, POLICY, headers, task_id="4f", band="critical", number=2)

    assert Stamp("critical", "acme", 2_000.0, "cid", 1_000.0, 2) == read(moved[HEADER])
    assert {"id": "4f", "task": "t", "lang": "py"}.items() <= moved.items()
    assert before == read(headers[HEADER])


def test_a_message_without_a_stamp_gets_its_terms_with_the_move() -> None:
    """A worker settles Terms only where no stamp is; the copy has one."""
    headers = {"id": "4f", "task": "reports.daily"}

    stamp = read(
        moved_headers(APP, POLICY, headers, task_id="4f", band="critical", number=1)[HEADER]
    )

    assert ("critical", "acme", "4f", 1) == (
        stamp.band,
        stamp.tenant,
        stamp.correlation_id,
        stamp.move,
    )
    assert stamp.at > 0


def test_a_declaration_that_means_nothing_does_not_stop_a_move() -> None:
    """The worker that runs the task tells its author."""
    app = Celery("bad", set_as_current=False)

    @app.task(name="bad", shared=False, deadline="soon")
    def bad() -> None:
        """Declare nonsense."""

    app.finalize()
    headers = {"id": "4f", "task": "bad"}

    stamp = read(
        moved_headers(app, POLICY, headers, task_id="4f", band="critical", number=1)[HEADER]
    )

    assert "critical" == stamp.band


def test_a_copy_starts_its_own_count_of_deliveries() -> None:
    """A quorum queue would take the count as its own, and drop the copy early."""
    headers = {"id": "4f", "task": "t", "x-delivery-count": 3}

    moved = moved_headers(APP, POLICY, headers, task_id="4f", band="critical", number=1)

    assert "x-delivery-count" not in moved
