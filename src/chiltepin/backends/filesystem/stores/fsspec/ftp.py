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
import re
import ssl
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.implementations.ftp import FTPFileSystem

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK, is_valid_name

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FtpFileSystem"]

#: Seconds after which an idle connection is checked before use; servers close idle connections after minutes.
_FRESH = 10

#: Replies to a command that the server does not support (RFC 959, 4.2).
_UNKNOWN = ("500", "502", "504")

_MLSD_KINDS = {"file": "file", "dir": "directory"}

#: A line of ``ls -l``, and one of a server on Windows. One space precedes the name, which may begin with more.
_UNIX = re.compile(
    r"([-bcdlpsD])[-rwxsStTlL]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s+(\d+)\s+\w{3}\s+\d{1,2}\s+[\d:]{4,5} (.+)", re.DOTALL
)
_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d[AP]?M?\s+(?:(<DIR>)\s{0,10}|(\d+)) (.+)", re.DOTALL)


def _plain(error: Exception) -> Exception:
    """Return the error of the operating system for a reply of the server."""
    said, code = str(error), str(error)[:3]
    number = errno.ECONNRESET
    if isinstance(error, ftplib.error_perm):
        number = {"552": errno.EDQUOT}.get(code, errno.EACCES)
        if code == "550" and re.search(r"no such|not found|not exist", said, re.IGNORECASE):
            number = errno.ENOENT
        if code in _UNKNOWN:
            return Fault("ENDPOINT_ERROR", f"The FTP server refuses a required command (reply {code}).")
    elif isinstance(error, ftplib.error_temp):
        number = {"450": errno.EAGAIN, "451": errno.EAGAIN, "452": errno.ENOSPC}.get(code, errno.ECONNRESET)
    elif isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return error
    return OSError(number, os.strerror(number))


class FtpFileSystem(FTPFileSystem):  # type: ignore[misc] # fsspec has no types
    """The files of an FTP server; for options see `fsspec.implementations.ftp.FTPFileSystem`."""

    cachable = False

    def __init__(self, host: str, *, encoding: str = "latin-1", **options: Any) -> None:
        self._lock = threading.Lock()
        #: Idle connections, each with the time when it was last used.
        self._idle: list[tuple[float, ftplib.FTP]] = []
        #: Whether the server supports MLSD and MLST; tried once.
        self._machine_readable = True
        # Not in __del__: the sockets may be finalized before it, each with a warning.
        weakref.finalize(self, _close_all, self._idle)
        super().__init__(host, encoding=encoding, **options)
        self._idle.append((time.monotonic(), self.ftp))

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
        with self._lock:
            self._connect()
            made: ftplib.FTP = self.ftp
            if isinstance(made, ftplib.FTP_TLS) and self.tls is True:
                made.prot_p()
            return made

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
            failure = _plain(err)
        except BaseException:
            if ftp is not None:
                ftp.close()
            raise
        else:
            self.give_back(ftp)
            return
        raise failure

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        """Return a path on the server; refuse a line end, which would end the command with the path."""
        stripped: str = super()._strip_protocol(path)
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
        found = [info for info in found if info["type"] != "directory" or info["name"] not in (".", "..")]
        names = {info["name"] for info in found}
        # A name with a line end is parsed as two entries; the first part may equal the name of another file.
        if len(names) < len(found) or not all(map(is_valid_name, names)):
            reason = (
                f"The FTP server's listing of {path} is ambiguous; rename entries with a line break or a slash in "
                "their name."
            )
            raise Fault("INVALID_PATH_NAME", reason)
        above = path.rstrip("/")
        entries = [{**info, "name": f"{above}/{info['name']}"} for info in found]
        return entries if detail else sorted(info["name"] for info in entries)

    def _listed(self, ftp: ftplib.FTP, path: str) -> list[dict[str, Any]]:
        if self._machine_readable:
            try:
                return [info for line in _lines(ftp, f"MLSD {path}") if (info := _of_facts(*_facts(line)))]
            except ftplib.error_perm as err:
                if str(err)[:3] not in _UNKNOWN:
                    raise
                self._machine_readable = False
        with _inside(ftp, path):
            return self._printed(ftp)

    @staticmethod
    def _printed(ftp: ftplib.FTP) -> list[dict[str, Any]]:
        """Return the entries that LIST shows of the connection's current folder."""
        listed = _printed_by(ftp, "LIST -a")
        if any(info["name"] == "." for info in listed):
            return listed
        # The server does not know the option; if it lists hidden names at all, it lists them without.
        return _printed_by(ftp, "LIST")

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
                    if str(err)[:3] not in _UNKNOWN:
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
                    self._machine_readable = False
                else:
                    return _of_facts(path, _facts(told)[1]) or {"name": path, "size": 0, "type": "directory"}
            with suppress(ftplib.error_perm):
                ftp.voidcmd("TYPE I")
                return {"name": path, "size": ftp.size(path), "type": "file"}
            try:
                with _inside(ftp, path):
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


@contextmanager
def _inside(ftp: ftplib.FTP, path: str) -> Iterator[None]:
    """Change into a folder, and back: some servers treat the argument of LIST as a pattern."""
    ftp.cwd(path)
    yield
    ftp.cwd("/")


def _close_all(idle: list[tuple[float, ftplib.FTP]]) -> None:
    for _, ftp in idle:
        ftp.close()


def _lines(ftp: ftplib.FTP, command: str) -> list[str]:
    """Return the lines that a listing command sends; CR LF ends one, while either alone may be part of a name."""
    data = bytearray()
    ftp.voidcmd("TYPE A")
    with ftp.transfercmd(command) as connection:
        while piece := connection.recv(BLOCK):
            data += piece
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
    # vsftpd's reply for a folder that can be entered but not read: 226 Transfer done (but failed to open directory).
    if "but failed" in ftp.voidresp():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # Some old servers do not follow RFC 959, 3.4.
    end = "\r\n" if b"\r\n" in data else "\n"
    return data.decode(ftp.encoding).removesuffix(end).split(end) if data else []


def _facts(line: str) -> tuple[str, dict[str, str]]:
    """Return the name and the facts of a line of MLSD or MLST (RFC 3659, 7.2)."""
    told, _, name = line.partition(" ")
    if "=" not in told or not name:
        raise _unread(line)
    return name, dict(fact.partition("=")[::2] for fact in told.lower().split(";"))


def _printed_by(ftp: ftplib.FTP, command: str) -> list[dict[str, Any]]:
    """Return the entries that a LIST command shows."""
    lines = _lines(ftp, command)
    return [_of_line(line) for line in lines if line.strip() and not line.startswith("total ")]


def _unread(line: str) -> Fault:
    return Fault("ENDPOINT_ERROR", f"Could not parse a line of the FTP server's listing: {line[:200]!r}.")


def _of_facts(name: str, facts: dict[str, str]) -> dict[str, Any] | None:
    """Return the info of an entry from MLSD (RFC 3659, 7); None for the folder itself and its parent."""
    kind, size = facts.get("type", "").lower(), facts.get("size", "")
    if kind in ("cdir", "pdir"):
        return None
    told = "link" if re.match(r"os\.unix=(slink|symlink|lnk)", kind) else _MLSD_KINDS.get(kind, "other")
    info: dict[str, Any] = {"name": name, "size": int(size) if size.isdecimal() else None, "type": told}
    with suppress(ValueError):
        modified = facts.get("modify", "").partition(".")[0]
        info["mtime"] = datetime.strptime(modified, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return info


def _of_line(line: str) -> dict[str, Any]:
    """Return the info of an entry from LIST, whose lines have no standard format; its times have no zone."""
    if found := _UNIX.fullmatch(line):
        kind = {"d": "directory", "-": "file", "l": "link"}.get(found[1], "other")
        name = found[3].partition(" -> ")[0] if kind == "link" else found[3]
        return {"name": name, "size": int(found[2]), "type": kind}
    if found := _DOS.fullmatch(line):
        return {"name": found[3], "size": int(found[2] or 0), "type": "directory" if found[1] else "file"}
    raise _unread(line)


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
            failure = _plain(err)
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
