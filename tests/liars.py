"""An HTTP server on the loopback that sends any response that a test specifies."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Self

__all__ = ["Answer", "Liar", "document"]

#: Status, headers, and the body in the chunks in which it is sent.
Answer = tuple[int, dict[str, str], "Iterable[bytes]"]


def document(content: Any, status: int = 200) -> Answer:
    """Return a complete response with a JSON document, or with the given bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status, {"Content-Type": "application/json", "Content-Length": str(len(body))}, [body]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that closed the connection."""


class Liar:
    """The server, which runs during a ``with`` block.

    Parameters
    ----------
    answer : callable
        Gets the method and path of each request, and returns the response.
    """

    def __init__(self, answer: Callable[[str, str], Answer]) -> None:
        #: Method, path, headers and body of each request.
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        asked = self.asked
        self.answer = answer
        #: Most responses on one connection, which is then closed at the next request, without notice.
        self.most = 1 << 30
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            answered = 0

            def handle_one_request(self) -> None:
                """Handle one request of any method."""
                with suppress(OSError):
                    self._one()

            def _one(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, dict(self.headers), body))
                if self.answered >= liar.most:
                    self.close_connection = True
                    return
                self.answered += 1
                status, headers, pieces = liar.answer(self.command, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    for piece in pieces:
                        self.wfile.write(piece)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(60)
        self._server.server_close()

    def url(self, host: str = "127.0.0.1") -> str:
        """Return the URL of the server; another host name gives another host."""
        return f"http://{host}:{self._server.server_port}"
