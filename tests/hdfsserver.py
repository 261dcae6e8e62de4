"""A WebHDFS server on the loopback that serves a folder, with the file system's rules of HDFS.

Source: hadoop.apache.org, "WebHDFS REST API". ``FileSystem.rename`` of HDFS never replaces a file; the response to a
refused rename or deletion is a 200 with ``{"boolean": false}``.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    root: Path

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, answer: object, status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), Content_Type="application/json")

    def _refuse(self, status: int, kind: str) -> None:
        self._json({"RemoteException": {"exception": kind, "message": kind}}, status)

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.place = self.root / unquote(url.path).removeprefix("/webhdfs/v1").strip("/")
        operation = self.asked["op"].lower()
        if operation not in ("create", "mkdirs", "rename", "delete") and not self.place.exists():
            self._refuse(404, "FileNotFoundException")
        elif operation in ("create", "append", "open") and "step" not in self.asked:
            # Sent to a data node, which is the same server here.
            self._send(307, Location=f"http://{self.headers['Host']}{self.path}&step=2")
        else:
            getattr(self, f"_{operation}")()

    do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - of the base class

    @staticmethod
    def _status(place: Path, name: str) -> dict[str, object]:
        told, kind = place.stat(), "DIRECTORY" if place.is_dir() else "FILE"
        length = 0 if place.is_dir() else told.st_size
        return {"pathSuffix": name, "type": kind, "length": length, "modificationTime": int(told.st_mtime * 1000)}

    def _getfilestatus(self) -> None:
        self._json({"FileStatus": self._status(self.place, "")})

    def _liststatus(self) -> None:
        places = {path.name: path for path in self.place.iterdir()} if self.place.is_dir() else {"": self.place}
        self._json({"FileStatuses": {"FileStatus": [self._status(path, name) for name, path in places.items()]}})

    def _mkdirs(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self._json({"boolean": True})

    def _create(self) -> None:
        self.place.write_bytes(self.body)
        self._send(201)

    def _append(self) -> None:
        with self.place.open("ab") as file:
            file.write(self.body)
        self._send(200)

    def _open(self) -> None:
        content, offset = self.place.read_bytes(), int(self.asked.get("offset", 0))
        self._send(200, content[offset : offset + int(self.asked.get("length", len(content)))])

    def _rename(self) -> None:
        new = self.root / self.asked["destination"].strip("/")
        done = self.place.exists() and not new.exists()
        if done:
            self.place.rename(new)
        self._json({"boolean": done})

    def _delete(self) -> None:
        if self.place.is_dir():
            if any(self.place.iterdir()):
                self._refuse(403, "PathIsNotEmptyDirectoryException")
                return
            self.place.rmdir()
        else:
            self.place.unlink(missing_ok=True)
        self._json({"boolean": True})


@contextmanager
def webhdfs_server(root: Path) -> Iterator[str]:
    """Serve a folder by WebHDFS, and yield the URL of its root."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"root": root}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"webhdfs://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
