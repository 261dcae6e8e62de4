"""An FTP server as a filesystem of fsspec, with complete listings and parallel transfers.

fsspec's filesystem has one connection for all threads, aborts a transfer to read a part, asks vsftpd for a listing
without hidden names, and drops lines that it cannot parse. Here each file, and each command, has a separate connection,
which is reused. Names are bytes: they are decoded as Latin-1, which has a character for each byte (`FsspecStore`
converts them), unless the option ``encoding`` is given.
"""

from __future__ import annotations

import errno
import ftplib
import os
import ssl
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.spec import AbstractFileSystem

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.fsspec.ftp_connection import UNKNOWN, connected, plain
from chiltepin.backends.filesystem.stores.fsspec.ftp_listings import (
    facts,
    inside,
    machine_listing,
    of_facts,
    printed_listing,
)
from chiltepin.backends.filesystem.stores.fsspec.ftp_options import ftp_options, place_in_url

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FtpFileSystem"]

#: Seconds after which an idle connection is checked before use; servers close idle connections after minutes.
_FRESH = 10


class FtpFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The files of an FTP server; for options see `FtpOptions`.

    It connects when a connection is first needed, so that the retries and the timeout of a task apply.
    """

    cachable = False
    protocol = "ftp"
    root_marker = "/"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = ftp_options(options)
        self._lock = threading.Lock()
        #: Idle connections, each with the time when it was last used.
        self._idle: list[tuple[float, ftplib.FTP]] = []
        #: Whether the server supports MLSD and MLST; tried once.
        self._machine_readable = True
        # Not in __del__: the sockets may be finalized before it, each with a warning.
        weakref.finalize(self, _close_all, self._idle)

    def lend(self) -> ftplib.FTP:
        """Return a connection, for one command or file."""
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            used, ftp = kept
            with suppress(OSError, EOFError, ftplib.Error):
                if time.monotonic() - used > _FRESH:
                    ftp.voidcmd("NOOP")
                return ftp
            ftp.close()
        return connected(self._options)

    def give_back(self, ftp: ftplib.FTP) -> None:
        """Keep a connection for reuse, all its replies being read."""
        with self._lock:
            self._idle.append((time.monotonic(), ftp))

    @contextmanager
    def talking(self) -> Iterator[ftplib.FTP]:
        """Lend a connection; a command that the server refuses raises an error of the operating system."""
        ftp = None
        try:
            ftp = self.lend()
            yield ftp
        except (OSError, EOFError, ftplib.Error) as err:
            if ftp is not None and isinstance(err, (ftplib.error_perm, FileNotFoundError)):
                self.give_back(ftp)
            elif ftp is not None:
                ftp.close()
            failure = plain(err)
        except BaseException:
            if ftp is not None:
                ftp.close()
            raise
        else:
            self.give_back(ftp)
            return
        raise failure

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Return the options that a URL contains."""
        return place_in_url(path)[0]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        """Return a path on the server; refuse a line end, which would end the command with the path."""
        path = place_in_url(path)[1] if path.startswith("ftp://") else path
        stripped = f"/{path.strip('/')}"
        if "\r" in stripped or "\n" in stripped:
            raise Fault(
                "INVALID_PATH_NAME",
                f"FTP cannot transfer {stripped!r}, whose name has a line break; rename it.",
            )
        return stripped

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's
        """List a folder, hidden names included; a line that cannot be parsed is an error."""
        del options
        path = self._strip_protocol(path)
        with self.talking() as ftp:
            found = self._listed(ftp, path)
        above = path.rstrip("/")
        entries = [{**info, "name": f"{above}/{name}"} for name, info in found.items()]
        return entries if detail else sorted(info["name"] for info in entries)

    def _listed(self, ftp: ftplib.FTP, path: str) -> dict[str, dict[str, Any]]:
        if self._machine_readable:
            try:
                return machine_listing(ftp, path)
            except ftplib.error_perm as err:
                if str(err)[:3] not in UNKNOWN:
                    raise
                self._machine_readable = False
        return printed_listing(ftp, path)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the info of one file or folder; links are followed."""
        del options
        path = self._strip_protocol(path)
        if path == "/":
            return {"name": "/", "size": 0, "type": "directory"}
        with self.talking() as ftp:
            if self._machine_readable:
                try:
                    told = ftp.sendcmd(f"MLST {path}").splitlines()[1].strip()
                except ftplib.error_perm as err:
                    if str(err)[:3] not in UNKNOWN:
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
                    self._machine_readable = False
                else:
                    return of_facts(path, facts(told)[1]) or {"name": path, "size": 0, "type": "directory"}
            with suppress(ftplib.error_perm):
                ftp.voidcmd("TYPE I")
                return {"name": path, "size": ftp.size(path), "type": "file"}
            try:
                with inside(ftp, path):
                    return {"name": path, "size": 0, "type": "directory"}
            except ftplib.error_perm:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def open(self, path: str, mode: str = "rb", **options: Any) -> _Transfer:
        """Open a file to read or write it from start to end."""
        del options
        command = {"rb": "RETR", "wb": "STOR"}[mode]
        return _Transfer(self, f"{command} {self._strip_protocol(path)}")

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Rename; whether that replaces an existing file depends on the server."""
        del options
        with self.talking() as ftp:
            ftp.rename(self._strip_protocol(path1), self._strip_protocol(path2))

    def cp_file(self, path1: str, path2: str, **options: Any) -> NoReturn:
        """Refuse: FTP has no command for it."""
        raise NotImplementedError

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        with self.talking() as ftp:
            ftp.delete(self._strip_protocol(path))

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with self.talking() as ftp:
            ftp.rmd(self._strip_protocol(path))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - fsspec's
        """Make a folder and those above it."""
        path = self._strip_protocol(path)
        if path == "/" or self.isdir(path):
            return
        self.makedirs(self._parent(path), exist_ok=True)
        try:
            with self.talking() as ftp:
                ftp.mkd(path)
        except OSError:
            # Another process may have made the folder first.
            if not exist_ok or not self.isdir(path):
                raise


def _close_all(idle: list[tuple[float, ftplib.FTP]]) -> None:
    for _, ftp in idle:
        ftp.close()


class _Transfer:
    """A file in transfer; the last reply of the server tells whether it is complete."""

    def __init__(self, filesystem: FtpFileSystem, command: str) -> None:
        self._filesystem, self._writing = filesystem, command.startswith("STOR")
        #: Lent until the end of the file.
        self._ftp: ftplib.FTP | None = None
        with self._failing():
            self._ftp = filesystem.lend()
            self._ftp.voidcmd("TYPE I")
            self._socket = self._ftp.transfercmd(command)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Close the connection if the transfer fails."""
        try:
            yield
        except (OSError, EOFError, ftplib.Error) as err:
            self.discard()
            failure = plain(err)
        else:
            return
        raise failure

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes; fewer only at the end."""
        pieces: list[bytes] = []
        with self._failing():
            while self._ftp is not None and count:
                piece = self._socket.recv(count)
                if not piece:
                    self._end()
                pieces.append(piece)
                count -= len(piece)
        return b"".join(pieces)

    def write(self, block: bytes) -> None:
        """Append a block."""
        with self._failing():
            self._socket.sendall(block)

    def _end(self) -> None:
        ftp = self._ftp
        if ftp is None:
            return
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.unwrap()
        self._socket.close()
        ftp.voidresp()
        self._ftp = None
        self._filesystem.give_back(ftp)

    def close(self) -> None:
        """Complete a file that was written; abort a file that was read."""
        with self._failing():
            if self._writing:
                self._end()
            else:
                self.discard()

    def discard(self) -> None:
        """Abort the transfer by closing its connection."""
        if self._ftp is not None:
            with suppress(AttributeError, OSError):
                self._socket.close()
            self._ftp.close()
            self._ftp = None
