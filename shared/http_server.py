"""An HTTP server inside a service's own event loop."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

BACKLOG: Final = 2048
"""Connections that wait to be accepted; uvicorn's own number."""


class EmbeddedServer(uvicorn.Server):
    """uvicorn without its signal handling: the service decides when it stops."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has its port, and refuses connections until it is served.

    Port 0 takes a free one. A port that another listens on is refused; of several that have only
    bound it, the first to listen keeps it. The protocol is named: asyncio sets TCP_NODELAY only
    where it is IPPROTO_TCP. Raises OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections from now on. Raises OSError."""
    listener = bind(host, port)
    try:
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class HttpServer:
    """Serves an ASGI application on a socket until it is stopped."""

    def __init__(self, application: Any, listener: socket.socket, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        self._listener = listener
        options = {
            "log_config": None,
            "access_log": False,
            "lifespan": "off",
            "proxy_headers": False,
            "server_header": False,
            "date_header": True,
            "timeout_graceful_shutdown": 2,
            "backlog": BACKLOG,
            **options,
        }
        self._server = EmbeddedServer(uvicorn.Config(application, **options))
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Begin to serve: connections are taken from now on. Raises OSError as `listen`."""
        self._listener.listen(BACKLOG)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        """Finish the requests in work, for two seconds at most."""
        self._server.should_exit = True
        if self._task is not None:
            # Not the task itself: a caller who gives up ends only the waiting, and hears of it.
            await asyncio.wait([self._task])
        self._listener.close()
