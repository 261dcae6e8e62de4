"""Serve the application on a port of this machine, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["Server"]


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second waits 40 ms for the client (RFC 896, RFC 1122).
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.connections.discard(self.connection)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            super().finish()

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the name that werkzeug gave it
        """Log nothing; the simulator keeps a list of requests."""


class Server:
    """A running server; port 0 selects a free port, and a port in use is an OSError."""

    def __init__(self, app: Flask, port: int) -> None:
        self._app, self._listens = app, False
        self._connections: set[socket.socket] = set()
        #: Reserves the port while the server does not listen; a socket that is only bound refuses connections.
        self._keeper: socket.socket | None = None
        self._listen(port)

    def _listen(self, port: int) -> None:
        # Bound here: werkzeug exits the whole program if the port is in use.
        with socket.create_server(("127.0.0.1", port)) as listener:
            door = listener.fileno()
            self._server = make_server("127.0.0.1", port, self._app, threaded=True, request_handler=_Handler, fd=door)
        self._server.connections = self._connections  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._serve, name="simulator", daemon=True)
        self._thread.start()
        self._listens = True

    def _serve(self) -> None:
        # The end of each test waits for the next poll; the default is half a second.
        self._server.serve_forever(poll_interval=0.02)

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.port)

    def unplug(self) -> None:
        """Close all connections, and refuse new ones until `plug_in`."""
        if not self._listens:
            return
        port = self.port
        self.close()
        self._keeper = socket.socket()
        self._keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._keeper.bind(("127.0.0.1", port))

    def plug_in(self) -> None:
        """Listen again on the same port."""
        if self._keeper is not None:
            self._listen(self.port)
            self._keeper.close()
            self._keeper = None

    def close(self) -> None:
        """Stop, and close all connections: a closed simulator must not respond to requests."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if not self._listens:
            return
        self._listens = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
