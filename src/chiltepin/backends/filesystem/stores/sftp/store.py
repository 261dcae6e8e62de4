"""A folder of an SFTP server as a store.

SFTP cannot hold a folder open. Every request names a path, so the server follows a link that is created between the
check of a path and its use. Existing links are resolved here, inside the root, or refused. A pipe that replaces a file
after that check blocks the connection until a process writes to it. Use an SFTP endpoint whose folder only you can
write to.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from copy import copy
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.confinement import LINK_LIMIT, resolved
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.mover.thread_count import processors
from chiltepin.backends.filesystem.store import limited
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.connection import MAX_IN_FLIGHT, Connection
from chiltepin.backends.filesystem.stores.sftp.folder import SftpFolder
from chiltepin.backends.filesystem.stores.sftp.handles import PART, TooManyOpenFault, classified
from chiltepin.backends.filesystem.stores.sftp.messages import (
    EOF,
    NO_ATTRIBUTES,
    Attributes,
    MessageType,
    Request,
    names,
    pack_string,
)
from chiltepin.backends.filesystem.stores.sftp.openssh import OpenSSH
from chiltepin.backends.filesystem.stores.sftp.replace import server_time
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

    from chiltepin.backends.filesystem.store import Store
    from chiltepin.protocol.paths import Parts

__all__ = ["SftpStore"]

#: Round-trip time in seconds above which its window bounds the throughput of a connection: OpenSSH's 2 MiB give 100
#: MB/s at this delay.
FAR = 0.02


class SftpStore:
    """The tree below a folder of an SFTP server, ``sftp://user@host:port/path``; for the options see `OpenSSH`.

    It connects with the first request.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._login = OpenSSH(url, options)
        self._connections: list[Connection] = []
        self._most = self._login.connections
        self._lock = threading.Lock()
        #: The real paths of the folders already swept.
        self._swept: set[str] = set()
        #: Large temporary files that were left and may be continued, by the path of their folder and content id.
        self.leftovers: dict[tuple[str, str], str] = {}
        self._forget_roots()
        self.times, self.writable = True, True
        # Threads beyond the number of bursts would only wait (benchmarks/README.md).
        self.width, self.least = max(MAX_IN_FLIGHT, self._most), 1

    def _forget_roots(self) -> None:
        self._root: str | None = None
        self._root_lock = threading.Lock()
        #: The real paths of other roots on the same server, and the links that lead there.
        self._others: dict[str, list[str]] = {}

    def renewed(self) -> SftpStore:
        """Return a copy of the store that shares the connections and resolves the root again on first use."""
        store = copy(self)
        store._forget_roots()  # noqa: SLF001 - of our own kind
        return store

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return isinstance(error, ConnectionError | TimeoutError | TooManyOpenFault)

    def connection(self) -> Connection:
        """Return the least busy connection; the first call resolves the root."""
        connection = self._least_busy()
        if self._root is None:
            with self._root_lock:
                self._root = self._root or self._real_root(connection)
        return connection

    def _least_busy(self) -> Connection:
        """Return the least busy connection; open one if there is none, or all are busy."""
        with self._lock:
            # The stores of other tasks share this list.
            self._connections[:] = [connection for connection in self._connections if connection.alive]
            best = min(self._connections, key=lambda connection: connection.load, default=None)
            if best is None:
                best = Connection(self._login)
                self._connections.append(best)
            elif self._worthwhile(best):
                try:
                    best = Connection(self._login)
                    self._connections.append(best)
                except (OSError, Fault):
                    # The server may limit connections; then open no more.
                    self._most = len(self._connections)
            return best

    def _worthwhile(self, connection: Connection) -> bool:
        """Whether another connection would help, given the least busy one.

        With a short round trip, processors are the limit: each connection uses one for ssh and one for us.
        """
        if connection.delay > FAR:
            return connection.load > 0 and len(self._connections) < self._most
        return connection.load >= MAX_IN_FLIGHT // 2 and len(self._connections) < min(self._most, processors() // 2)

    def _real_root(self, connection: Connection) -> str:
        told, looked = connection.ask(
            Request(MessageType.REALPATH, pack_string(self._login.path or ".")),
            Request(MessageType.STAT, pack_string(self._login.path or ".")),
        )
        facts = Attributes.of(looked.body)[0] if looked.status is None else None
        if facts is not None and facts.mode is None:
            classified(connection, [(f"{(self._login.path or '.').rstrip('/')}/", facts)])
        if facts is None or facts.kind != "dir":
            raise Fault(
                "FILE_NOT_FOUND",
                f"The root of the endpoint, {self._login.path} on {self._login.host}, does not exist; create it first.",
            )
        root = next((name for name, _ in names(told.result())), "")
        if not root.startswith("/"):
            raise Fault("ENDPOINT_ERROR", f"{self._login.host} does not report the full path of {self._login.path}.")
        return root

    def path(self, parts: Parts) -> str:
        """Return the absolute path on the server."""
        root = self._root
        while root is None:
            self.connection()
            root = self._root
        return "/".join((root.rstrip("/"), *parts)) or "/"

    def _look(self, parts: Parts) -> list[Attributes | None]:
        """Return the attributes at each step of a path, links not followed; None where nothing exists. One burst."""
        paths = [self.path(parts[: depth + 1]) for depth in range(len(parts))]
        connection = self.connection()
        asked = connection.ask(*(Request(MessageType.LSTAT, pack_string(path), about=path) for path in paths))
        found: list[Attributes | None] = []
        for request in asked:
            # For a path below a file, OpenSSH reports only "failure"; below a folder without permission, the cause.
            below = not found or (found[-1] is not None and found[-1].kind == "dir")
            found.append(self._told(connection, request) if below or request.status is None else None)
        return found

    def look(self, path: str) -> Attributes | None:
        """Return the attributes of a path without following a link; None if it does not exist."""
        connection = self.connection()
        (request,) = connection.ask(Request(MessageType.LSTAT, pack_string(path), about=path))
        return self._told(connection, request)

    def _told(self, connection: Connection, looked: Request) -> Attributes | None:
        """Return the attributes from an LSTAT reply; see `look`."""
        if looked.failed and not self._is_listed(connection, looked.about):
            return None
        try:
            facts = Attributes.of(looked.result())[0]
        except FileNotFoundError:
            return None
        classified(connection, [(looked.about, facts)])
        return facts

    @staticmethod
    def _is_listed(connection: Connection, path: str) -> bool:
        """Whether a folder lists the name: some servers report "failure" even for a missing file."""
        above, _, wanted = path.rpartition("/")
        (asked,) = connection.ask(Request(MessageType.OPENDIR, pack_string(above or "/"), about=above or "/"))
        if asked.status is not None:
            return True

        def listed() -> Iterator[str]:
            while True:
                (more,) = connection.ask(Request(MessageType.READDIR, asked.body))
                if more.status == EOF:
                    return
                yield from (name for name, _ in names(more.result()))

        try:
            return wanted in limited(listed(), above)
        finally:
            connection.close_file(asked.body)

    def resolve(self, parts: Parts, *, follow: bool) -> Parts:
        """Follow links by hand, inside the root; see `Store.resolve`."""
        return resolved(parts, follow=follow, roots=(self.path(()),), first_link=self._first_link)

    def _first_link(self, parts: Parts, *, follow: bool, folder: bool) -> tuple[int, str] | None:
        looked = self._look(parts if follow else parts[:-1])
        at = next((depth for depth, facts in enumerate(looked) if facts and facts.kind == "link"), None)
        if at is None:
            if folder:
                self._refuse_no_folder(parts, looked)
            return None
        place = self.path(parts[: at + 1])
        (asked,) = self.connection().ask(Request(MessageType.READLINK, pack_string(place), about=place))
        target = next((name for name, _ in names(asked.result())), "")
        if not target:
            raise Fault("INVALID_SYMLINK", f"The server does not report the target of the link {place}.")
        return at, target

    def _refuse_no_folder(self, parts: Parts, looked: Sequence[Attributes | None]) -> None:
        """Raise an error unless every step of a path is a folder."""
        for depth, facts in enumerate(looked):
            path = self.path(parts[: depth + 1])
            if facts is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if facts.kind != "dir":
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def folder(self, parts: Parts, *, create: bool = False) -> SftpFolder:
        """Open a folder; see `Store.folder`."""
        looked = self._look(parts)
        there = next((depth for depth, facts in enumerate(looked) if facts is None), len(parts))
        self._refuse_no_folder(parts, looked[:there] if create else looked)
        if there < len(parts):
            self._make(parts, there)
        return SftpFolder(self, parts)

    def _make(self, parts: Parts, there: int) -> None:
        paths = [self.path(parts[: depth + 1]) for depth in range(there, len(parts))]
        connection = self.connection()
        asked = [Request(MessageType.MKDIR, pack_string(path), NO_ATTRIBUTES, about=path) for path in paths]
        # The outer folder has to exist before the inner one.
        for burst in [asked] if connection.orderly else [[request] for request in asked]:
            connection.ask(*burst)
        if all(request.status == 0 for request in asked):
            # A new folder has no leftovers.
            self._swept.add(self.path(parts))
            return
        # Another process may have made the folders at the same moment.
        looked = self._look(parts)
        for request, facts in zip(asked, looked[there:], strict=True):
            if facts is None or facts.kind != "dir":
                request.result()
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), request.about)

    def enter(self, parts: Parts, *, create: bool = False) -> tuple[Parts, SftpFolder]:
        """Open the folder as if its path had no link, and follow links only if that fails."""
        try:
            return parts, self.folder(parts, create=create)
        except NotADirectoryError:
            real = self.resolve(parts, follow=True)
            if real == parts:
                raise
        return real, self.folder(real, create=create)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two paths if both are on one server."""
        if not isinstance(other, SftpStore) or not self._login.same(other._login):  # noqa: SLF001 - of our own kind
            return False
        ours = f"{self.path(parts).rstrip('/')}/"
        root, *links = self._ways_to(other)
        theirs = "/".join((root.rstrip("/"), *other_parts))
        return any(f"{way}/".startswith(ours) for way in (theirs, *links))

    def identities(self, parts: Parts) -> Collection[Hashable]:
        """Return nothing: a folder has only one name here."""
        del parts
        return ()

    def links(self) -> Collection[tuple[Hashable, str]]:
        """Return nothing: links in the path of the root belong to the server."""
        return ()

    def _ways_to(self, other: SftpStore) -> list[str]:
        """Return the root of another store on this server, and the links that lead there, using our connection."""
        path = other._login.path or "."
        if path not in self._others:
            (told,) = self.connection().ask(Request(MessageType.REALPATH, pack_string(path), about=path))
            # A path that does not exist, or is hidden from this user, is compared by its name only.
            root = path if told.status is not None else next(name for name, _ in names(told.body))
            self._others[path] = [root, *(self._links_to(path) if path.startswith("/") else ())]
        return self._others[path]

    def _links_to(self, path: str) -> list[str]:
        """Return the links on an absolute path, each by its real path."""
        found: list[str] = []
        place, rest = "", path.split("/")[::-1]
        while rest and len(found) < LINK_LIMIT:
            name = rest.pop()
            if name in ("", "."):
                continue
            if name == "..":
                place = place.rpartition("/")[0]
                continue
            here = f"{place}/{name}"
            (asked,) = self.connection().ask(Request(MessageType.READLINK, pack_string(here)))
            target = next((name for name, _ in names(asked.body)), "") if asked.status is None else ""
            if target:
                found.append(here)
                rest += target.split("/")[::-1]
            place = here if not target else "" if target.startswith("/") else place
        return found

    def sweep_once(self, folder: SftpFolder, path: str) -> None:
        """Before this store's first write to a folder, remove leftovers there.

        Large ones are kept for a day, so that the next copy of the same file can continue them.
        """
        with self._lock:
            if path in self._swept:
                return
            self._swept.add(path)
        doomed: list[str] = []
        # A folder that cannot be listed may still be writable; a later run sweeps it.
        with suppress(OSError, Fault):
            self._sort_temp_files(folder, path, doomed)
        for _ in folder.remove_all(doomed):
            pass  # Another run removes the rest.

    def _sort_temp_files(self, folder: SftpFolder, path: str, doomed: list[str]) -> None:
        """Find the temporary files of dead writers: those to remove, and those to continue."""
        now = cache(partial(server_time, self.connection(), path))
        found = [entry for entry in folder.entries(temp_files=True) if is_temp_name(entry.name)]
        aside = any(owners.stands_aside(entry.name) for entry in found)
        for entry in found:
            if owners.stands_aside(entry.name) or not owners.is_abandoned(entry.name, entry.mtime, now):
                continue
            owner = owners.Owner.of(entry.name)
            worth = owner is not None and owner.content_id != "0" and not entry.fits(PART)
            if owner and worth and not owners.is_old(entry.mtime, now):
                self.leftovers[path, owner.content_id] = entry.name
            else:
                doomed.append(entry.name)
        if aside:
            spare, only = owners.left({entry.name for entry in folder.entries(temp_files=True)}, now)
            doomed += spare
            folder.put_back({temp_file: name for temp_file, name in only.items() if name})

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for connection in self._connections:
                connection.close()
