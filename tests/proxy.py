"""A TCP proxy between a worker and its broker, which a test may cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Pass bytes on between a local port and a server until it is cut.

    Args:
        port: The server's, on 127.0.0.1.

    Attributes:
        port: Where clients connect; the same while the proxy lives.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: list[Link] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone would leave the thread in `accept`.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def links(self) -> int:
        """Connections that have not ended."""
        with self._lock:
            return sum(not link.is_over for link in self._links)

    def cut(self) -> None:
        """Break all connections and lose what is on its way; new ones are let through."""
        self._break(Link.cut)

    def hang_up(self) -> None:
        """Break all connections once the server has what clients sent before."""
        self._break(Link.hang_up)

    def _break(self, end: Callable[[Link], None]) -> None:
        """Let the server see the end of all connections before clients see that of any.

        RabbitMQ would refuse a worker that is back too soon its remote-control queue, which still
        belongs to the old connection, and stock Celery ends at that.
        """
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            end(link)
        for link in links:
            link.let_go()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            link = Link(client, socket.create_connection(("127.0.0.1", self._target)))
            with self._lock:
                self._links.append(link)
            threading.Thread(target=link.run, daemon=True).start()


class Link:
    """One client's connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self._is_cut = False
        self._is_over = threading.Event()
        self._may_end = threading.Event()
        self._may_end.set()

    @property
    def is_over(self) -> bool:
        """Whether the server has ended it."""
        return self._is_over.is_set()

    def run(self) -> None:
        """Pass bytes on in both directions, and close neither end before both are done."""
        answers = threading.Thread(target=self._answer, daemon=True)
        answers.start()
        self._pass_on(self._client, self._server)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)
        answers.join()
        self._client.close()
        self._server.close()

    def _answer(self) -> None:
        self._pass_on(self._server, self._client)
        self._is_over.set()
        self._may_end.wait()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                # Read to the end even if nobody takes it: a socket closed with bytes unread resets
                # its connection.
                with suppress(OSError):
                    if not self._is_cut:
                        sink.sendall(data)

    def cut(self) -> None:
        """Let the server see the end now."""
        self._may_end.clear()
        self._is_cut = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Let the server see the end after what the client has sent."""
        self._may_end.clear()
        with suppress(OSError):
            # What has arrived can still be read, and then comes the end.
            self._client.shutdown(socket.SHUT_RD)

    def let_go(self) -> None:
        """Let the client see the end, once the server has closed the connection."""
        is_over = self._is_over.wait(10)
        self._may_end.set()
        assert is_over, "the server keeps a connection that has ended"
