"""What every private server has in common: its contract, its errors, its ports."""

from __future__ import annotations

import socket
from typing import Protocol

from celery_budget.errors import BudgetError

# Lines of a server's output that an error shows: enough for a Redis or Erlang crash report.
_TAIL_LINES = 15


class Server(Protocol):
    """A broker that a demo or a test can use."""

    @property
    def url(self) -> str:
        """Broker URL as Celery takes it."""
        ...

    @property
    def origin(self) -> str:
        """Where the server came from, for people."""
        ...

    def locate(self) -> str:
        """Tell which server `start` will use."""
        ...

    def start(self) -> None:
        """Return once the server answers."""
        ...

    def stop(self) -> None:
        """End the server and all its processes; a server the user named stays."""
        ...


class ServerMissing(BudgetError):  # noqa: N818 - says what is the case
    """No server was found; `remedy` says what to do."""

    def __init__(self, server: str, looked: str, remedy: str) -> None:
        super().__init__(server, looked, remedy)
        self.server = server
        self.looked = looked
        self.remedy = remedy

    def __str__(self) -> str:
        return f"No {self.server} found ({self.looked}). {self.remedy}"


class ServerFailed(BudgetError):  # noqa: N818 - says what is the case
    """A server or worker process did not do what was asked; `log` is all it wrote."""

    def __init__(self, server: str, problem: str, log: str) -> None:
        super().__init__(server, problem, log)
        self.server = server
        self.problem = problem
        self.log = log

    def __str__(self) -> str:
        tail = "\n".join(self.log.splitlines()[-_TAIL_LINES:])
        return f"{self.server}: {self.problem}." + (f" Its last output:\n{tail}" if tail else "")

    @property
    def is_port_taken(self) -> bool:
        """Whether another program took the port between choosing and binding it."""
        text = self.log.lower()
        return "address already in use" in text or "eaddrinuse" in text


def free_ports(count: int) -> list[int]:
    """Choose free loopback ports, all different.

    They are only free now: the caller retries when the server finds one taken.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
