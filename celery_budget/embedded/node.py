"""A private RabbitMQ node as a value: its name, its ports, and its virtual hosts.

It can be handed to another process, which then controls the node too.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from celery_budget.embedded.server import ServerFailed, free_ports

# A call takes 0.03 s.
_CALL_S = 20.0


@dataclass(frozen=True, slots=True)
class RabbitNode:
    """Where a private node is; all of it stays when the node restarts.

    Attributes:
        name: Erlang node name without its host.
        cookie: Erlang's shared secret.
        port: AMQP port.
        epmd_port: Port of the node's own port mapper.
        dist_port: Port of Erlang's distribution.
    """

    name: str
    cookie: str
    port: int
    epmd_port: int
    dist_port: int

    @classmethod
    def invent(cls) -> Self:
        """Choose a new name and ports that are free now."""
        port, epmd_port, dist_port = free_ports(3)
        name = f"budget-{secrets.token_hex(4)}"
        return cls(name, secrets.token_hex(16), port, epmd_port, dist_port)

    def url(self, vhost: str = "/") -> str:
        """Write the broker URL of a virtual host."""
        path = "/" if vhost == "/" else quote(vhost, safe="")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{path}"

    def add_vhost(self, vhost: str) -> str:
        """Make an empty virtual host and return its URL.

        Args:
            vhost: Must be new; letters, digits and `-_.` only.
        """
        everything = '<<".*">>, <<".*">>, <<".*">>'
        self._evaluate(
            f'ok = rabbit_vhost:add(<<"{vhost}">>, <<"celery-budget">>), '
            "ok = rabbit_auth_backend_internal:set_permissions("
            f'<<"guest">>, <<"{vhost}">>, {everything}, <<"celery-budget">>).',
        )
        return self.url(vhost)

    def delete_vhost(self, vhost: str) -> None:
        """Drop a virtual host with its queues and connections."""
        self._evaluate(f'ok = rabbit_vhost:delete(<<"{vhost}">>, <<"celery-budget">>).')

    def _evaluate(self, expression: str) -> None:
        """Run Erlang in the node; `rabbitmqctl` would take a second each time."""
        done = subprocess.run(  # noqa: S603 - names and ports of our own
            [
                *("erl_call", "-sname", f"{self.name}@localhost", "-c", self.cookie, "-e"),
                # Of two callers of one name at one time the node refuses one.
                *("-h", f"caller-{secrets.token_hex(4)}"),
            ],
            input=f"{expression}\n",
            env={**os.environ, "ERL_EPMD_PORT": str(self.epmd_port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_CALL_S,
            check=False,
        )
        if done.returncode != 0 or done.stdout.strip() != "{ok, ok}":
            raise ServerFailed(f"node {self.name}", f"failed to run {expression}", done.stdout)
