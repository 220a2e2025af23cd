"""pytest-celery on processes: whole nodes that a test may kill and restart."""

from __future__ import annotations

from pytest_celery import CeleryTestSetup


def test_a_result_comes_back_through_the_nodes(celery_setup: CeleryTestSetup) -> None:
    """Tests of whole nodes rest on this: broker, worker and backend see each other."""
    assert celery_setup.ping.s().apply_async().get(timeout=20) == "pong"


def test_a_killed_worker_works_again_after_its_restart(celery_setup: CeleryTestSetup) -> None:
    """Kills and restarts are what these nodes are for."""
    celery_setup.worker.kill()
    status_after_kill = celery_setup.worker.container.status
    waiting = celery_setup.ping.s().apply_async()
    celery_setup.worker.restart()

    assert status_after_kill == "exited"
    assert waiting.get(timeout=20) == "pong"
    assert celery_setup.ready(ping=True, control=True)


def test_the_nodes_run_with_bands(celery_setup: CeleryTestSetup) -> None:
    """A stock app in the nodes would pass the tests above just as well."""
    ping = celery_setup.ping.s().apply_async(queue="critical")
    (answer,) = celery_setup.app.control.broadcast("budget", reply=True, limit=1, timeout=20)
    (told,) = answer.values()

    assert ping.get(timeout=20) == "pong"
    assert {"critical", "important"} == set(told["bands"])
