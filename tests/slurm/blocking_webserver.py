"""A web server with one file, which sends half of it and holds the rest until an event is set."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

SIZE = 2_000_000
CONTENT = bytes(range(250)) * (SIZE // 250)


class HeldWeb:
    """The server, which runs during a ``with`` block.

    Attributes
    ----------
    halfway : threading.Event
        Set when half of the file was sent.
    go_on : threading.Event
        Set it to send the second half to all clients.
    """

    def __init__(self) -> None:
        self.halfway, self.go_on = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: HeldWeb

    def do_HEAD(self) -> None:
        """Send the headers."""
        self._head()

    def do_GET(self) -> None:
        """Send the file, the second half once `go_on` is set."""
        self._head()
        half = len(CONTENT) // 2
        try:
            self.wfile.write(CONTENT[:half])
            self.wfile.flush()
            self.web.halfway.set()
            self.web.go_on.wait()
            self.wfile.write(CONTENT[half:])
        except OSError:
            # Some tests kill the client meanwhile.
            self.close_connection = True

    def _head(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", '"one"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
