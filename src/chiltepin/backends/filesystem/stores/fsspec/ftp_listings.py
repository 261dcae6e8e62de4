"""Parse the listings of FTP servers: MLSD (RFC 3659, 7), and LIST, whose lines have no standard format."""

from __future__ import annotations

import errno
import os
import re
import ssl
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from ftplib import error_perm
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import BLOCK, is_valid_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ftplib import FTP

__all__ = ["facts", "inside", "machine_listing", "of_facts", "printed_listing"]

#: The entries of a folder by their names, as fsspec's infos.
Infos = dict[str, dict[str, Any]]

_MLSD_KINDS = {"file": "file", "dir": "directory"}

#: A line of ``ls -l``, and one of a server on Windows. One space precedes the name, which may begin with more; the name
#: of a group may have one, too.
_UNIX = re.compile(
    r"([-bcdlpsD])[-rwxsStTlL]{9}[.+@]?\s+\d+\s+\S.{0,100}?\s(\d+)\s+\w{3}\s+\d{1,2}\s+[\d:]{4,5} (.+)", re.DOTALL
)
_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d[AP]?M?\s+(?:(<DIR>)\s{0,10}|(\d+)) (.+)", re.DOTALL)


def machine_listing(ftp: FTP, path: str) -> Infos:
    """Return the entries of MLSD in a folder, with the links that only LIST shows.

    Many servers follow links in MLSD, but not in LIST. So the types are those of LIST; an entry that it does not show
    gets no type.
    """
    found = _by_name(path, [info for line in _lines(ftp, f"MLSD {path}") if (info := of_facts(*facts(line)))])
    shown: Infos = {}
    with inside(ftp, path):
        for command in ("LIST -a", "LIST"):
            # Some servers take the option for the name of a file.
            with suppress(error_perm):
                shown |= _by_name(path, _printed(ftp, command))
            if found.keys() <= shown.keys():
                break
    for name, info in found.items():
        if info["type"] in ("file", "directory"):
            info["type"] = shown[name]["type"] if name in shown else ""
    return {name: info for name, info in shown.items() if info["type"] == "link"} | found


def printed_listing(ftp: FTP, path: str) -> Infos:
    """Return the entries of LIST in a folder."""
    with inside(ftp, path):
        listed = _printed(ftp, "LIST -a")
        if all(info["name"] != "." for info in listed):
            # The server does not know the option; if it lists hidden names at all, it lists them without.
            listed = _printed(ftp, "LIST")
    return _by_name(path, listed)


@contextmanager
def inside(ftp: FTP, path: str) -> Iterator[None]:
    """Change into a folder, and back: some servers treat the argument of LIST as a pattern."""
    ftp.cwd(path)
    yield
    ftp.cwd("/")


def _lines(ftp: FTP, command: str) -> list[str]:
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


def facts(line: str) -> tuple[str, dict[str, str]]:
    """Return the name and the facts of a line of MLSD or MLST (RFC 3659, 7.2)."""
    told, _, name = line.partition(" ")
    if "=" not in told or not name:
        raise _unread(line)
    return name, dict(fact.partition("=")[::2] for fact in told.lower().split(";"))


def _printed(ftp: FTP, command: str) -> list[dict[str, Any]]:
    """Return the entries that a LIST command shows."""
    lines = _lines(ftp, command)
    return [_of_line(line) for line in lines if line.strip() and not line.startswith("total ")]


def _by_name(path: str, listed: list[dict[str, Any]]) -> Infos:
    """Return the entries in a folder by their names; a ``Fault`` if the listing has two meanings."""
    listed = [info for info in listed if info["type"] != "directory" or info["name"] not in (".", "..")]
    found = {info["name"]: info for info in listed}
    # A name with a line end is parsed as two entries; the first part may equal the name of another file.
    if len(found) < len(listed) or not all(map(is_valid_name, found)):
        reason = (
            f"The FTP server's listing of {path} is ambiguous; rename entries with a line break, ' -> ' or a slash in "
            "their name."
        )
        raise Fault("INVALID_PATH_NAME", reason)
    return found


def _unread(line: str) -> Fault:
    return Fault("ENDPOINT_ERROR", f"Could not parse a line of the FTP server's listing: {line[:200]!r}.")


def of_facts(name: str, told: dict[str, str]) -> dict[str, Any] | None:
    """Return the info of an entry from MLSD (RFC 3659, 7); None for the folder itself and its parent."""
    kind, size = told.get("type", "").lower(), told.get("size", "")
    if kind in ("cdir", "pdir"):
        return None
    what = "link" if re.match(r"os\.unix=(slink|symlink|lnk)", kind) else _MLSD_KINDS.get(kind, "other")
    info: dict[str, Any] = {"name": name, "size": int(size) if size.isdecimal() else None, "type": what}
    with suppress(ValueError):
        modified = told.get("modify", "").partition(".")[0]
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
