"""What the errors of private servers say and carry."""

from __future__ import annotations

import pickle

import pytest

from celery_budget.embedded import ServerFailed, ServerMissing
from celery_budget.embedded.server import free_ports

FAILED = ServerFailed("redis-server", "ended with status 1", "Address already in use\n")
MISSING = ServerMissing("Redis", "not on PATH", "Install it.")


@pytest.mark.parametrize("error", [FAILED, MISSING], ids=lambda error: type(error).__name__)
def test_errors_pickle_by_themselves(error: Exception) -> None:
    """pytest-xdist sends them from its workers."""
    copy = pickle.loads(pickle.dumps(error))

    assert str(error) == str(copy)
    assert vars(error) == vars(copy)


def test_a_failure_shows_the_end_of_the_output() -> None:
    """A worker's whole log would bury the reason, which comes last."""
    log = "\n".join(f"line {number}" for number in range(100))

    lines = str(ServerFailed("worker", "ended", log)).splitlines()

    assert "worker: ended. Its last output:" == lines[0]
    assert [f"line {number}" for number in range(85, 100)] == lines[1:]


def test_a_taken_port_is_recognised_in_either_server_s_words() -> None:
    """Redis quotes the system, Erlang names the error number; both are worth another try."""
    erlang = ServerFailed("rabbitmq", "ended", "Failed to start Ranch listener ... eaddrinuse")
    other = ServerFailed("redis-server", "ended", "Bad directive")

    assert [True, True, False] == [error.is_port_taken for error in (FAILED, erlang, other)]


def test_free_ports_are_all_different() -> None:
    """A node needs three at once; asking one by one may give the same port twice."""
    ports = free_ports(50)

    assert 50 == len(set(ports))
