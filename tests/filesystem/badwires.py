"""An HTTP proxy between a client and an S3 server that imitates a faulty network or server."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self


class BadWire:
    """Forwards requests to a server and can change the requests and responses.

    Parameters
    ----------
    url : str
        URL of the server.
    trouble : callable
        Gets the handler and the request's body before forwarding, and returns the body to send, or None if it has
        responded itself.
    answer : callable
        Gets the handler and the response's body, and returns the body to pass back, or None to disconnect halfway.
    status : dict of int to int
        Statuses to replace, with their replacements.
    headers : dict of str to str
        Headers to set in every response.
    """

    def __init__(
        self,
        url: str,
        trouble: Callable[[Any, bytes], bytes | None] = lambda _handler, body: body,
        answer: Callable[[Any, bytes], bytes | None] = lambda _handler, body: body,
        *,
        status: Mapping[int, int] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.asked: list[str] = []
        server = urlsplit(url).netloc
        asked, added = self.asked, headers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                """Handle one request of any method."""
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append(f"{self.command} {self.path}")
                sent = trouble(self, body)
                if sent is None:
                    return
                upstream = http.client.HTTPConnection(server)
                headers = {name: value for name, value in self.headers.items() if name != "Content-Length"}
                upstream.request(self.command, self.path, sent if self.command in ("PUT", "POST") else None, headers)
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
                back = answer(self, data)
                self.send_response(status.get(response.status, response.status))
                dropped = {"content-length", "transfer-encoding", "connection", "server", "date", *added}
                for name, value in response.getheaders():
                    if name.lower() not in dropped:
                        self.send_header(name, value)
                for name, value in added.items():
                    self.send_header(name, value)
                whole = (
                    response.getheader("Content-Length")
                    if self.command == "HEAD"
                    else str(len(data if back is None else back))
                )
                self.send_header("Content-Length", whole or "0")
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if back is None else back)
                self.close_connection = self.close_connection or back is None

            def refuse(self, refusal: int, word: str) -> None:
                """Respond with an S3 error."""
                body = f"<Error><Code>{word}</Code></Error>".encode()
                self.send_response(refusal)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
