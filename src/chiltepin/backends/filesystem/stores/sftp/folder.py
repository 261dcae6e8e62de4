"""One folder of an SFTP server: listed, read, written to and emptied."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from chiltepin.backends.filesystem.defaults import NothingHeld
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import is_valid_name
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.bursts import (
    SMALL,
    Downloaded,
    Upload,
    download_batch,
    groups,
    upload_batch,
)
from chiltepin.backends.filesystem.stores.sftp.handles import PART, classified, opened
from chiltepin.backends.filesystem.stores.sftp.in_order_files import SftpInOrderFile
from chiltepin.backends.filesystem.stores.sftp.messages import EOF, Attributes, MessageType, Request, names, pack_string
from chiltepin.backends.filesystem.stores.sftp.reader import SftpReader
from chiltepin.backends.filesystem.stores.sftp.temp_files import SftpTempFile
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.backends.filesystem.store import CopyOptions, Entry, Folder
    from chiltepin.backends.filesystem.stores.sftp.connection import Connection
    from chiltepin.protocol.paths import Parts

__all__ = ["SftpFolder"]

#: READDIR requests in flight for one listing; OpenSSH returns 100 names for each.
_READ_DIRS = 8

#: Files removed in one burst.
_REMOVALS = 64


class Server(Protocol):
    """The part of the store that a folder uses."""

    #: Large temporary files that were left and may be continued, by the path of their folder and content id.
    leftovers: dict[tuple[str, str], str]

    def connection(self) -> Connection:
        """Return the least busy connection."""
        ...

    def path(self, parts: Parts) -> str:
        """Return the absolute path on the server."""
        ...

    def look(self, path: str) -> Attributes | None:
        """Return the attributes of a path without following a link; None if it does not exist."""
        ...

    def sweep_once(self, folder: SftpFolder, path: str) -> None:
        """Before this store's first write to a folder, remove leftovers there."""
        ...


class SftpFolder(NothingHeld):
    """One folder of the server; see the module `store` for its limits."""

    #: A folder has one name here.
    identity = None

    def __init__(self, store: Server, parts: Parts) -> None:
        self._store, self._parts = store, parts
        self._path = store.path(parts)

    def _below(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries, as the server lists them."""
        connection = self._store.connection()
        (asked,) = connection.ask(Request(MessageType.OPENDIR, pack_string(self._path), about=self._path))
        handle = opened(connection, asked)
        aside = False
        try:
            more = True
            while more:
                for request in connection.ask(*(Request(MessageType.READDIR, handle) for _ in range(_READ_DIRS))):
                    if request.status == EOF:
                        # If the server replies in any order, a later reply may still contain names.
                        more = False
                        continue
                    found = list(names(request.result()))
                    if not found:
                        raise Fault(
                            "ENDPOINT_ERROR", f"The server sent too many empty pages for the listing of {self._path}."
                        )
                    wanted = [pair for pair in found if pair[0] not in (".", "..")]
                    if not all(is_valid_name(name) for name, _ in wanted):
                        raise Fault("INVALID_PATH_NAME", f"The server lists an invalid name in {self._path}.")
                    aside = aside or any(owners.stands_aside(name) for name, _ in wanted)
                    self._complete(connection, wanted)
                    yield from (facts.entry(name) for name, facts in wanted if temp_files or not is_temp_name(name))
        finally:
            connection.close_file(handle)
        if aside and not temp_files:
            yield from owners.missing({entry.name for entry in self.entries(temp_files=True)})

    def _complete(self, connection: Connection, found: Sequence[tuple[str, Attributes]]) -> None:
        """Ask for the attributes of each entry that the listing leaves without a kind, size or time."""
        unclear = [(self._below(name), facts) for name, facts in found if facts.incomplete]
        if not unclear:
            return
        asked = [Request(MessageType.LSTAT, pack_string(path), about=path) for path, _ in unclear]
        connection.ask(*asked)
        for (_, facts), looked in zip(unclear, asked, strict=True):
            if looked.status is None:
                facts.fill(Attributes.of(looked.body)[0])
        classified(connection, unclear)

    def put_back(self, names: dict[str, str]) -> None:
        """Rename files that were set aside back to their old names; a file that now has such a name stays."""
        renames = [
            Request(MessageType.RENAME, pack_string(self._below(old)), pack_string(self._below(new)))
            for old, new in names.items()
        ]
        self._store.connection().ask(*renames)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        facts = self._store.look(self._below(name))
        return facts.entry(name) if facts is not None else None

    def read(self, name: str) -> SftpReader | Downloaded:
        """Open a regular file; a link is refused."""
        return SftpReader(self._store.connection, self._below(name))

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Copy a small file in a few long bursts; see `Folder.copy_from`."""
        if not entry.fits(SMALL) or options.checksum or not self._store.connection().orderly:
            return None
        self._store.sweep_once(self, self._path)
        file = Upload(entry, self._below(name))
        upload_batch(self._store.connection, origin, [file], options)
        if _unclear(file):
            return None
        if isinstance(file.outcome, Exception):
            raise file.outcome
        return file.outcome

    def read_small(self, entry: Entry) -> None:
        """Return None: this store has no faster path for one file; `prefetch` reads many."""
        del entry

    def copy_all_from(
        self, origin: Folder, entries: Sequence[Entry], options: CopyOptions
    ) -> Iterator[tuple[Entry, int | Exception | None]]:
        """Copy small files, many in the bursts of one; see `Batching.copy_all_from`."""
        self._store.sweep_once(self, self._path)
        orderly = self._store.connection().orderly
        for entry in entries:
            if not orderly or not entry.fits(SMALL):
                yield entry, None
        for group in groups([entry for entry in entries if orderly and entry.fits(SMALL)]):
            files = [Upload(entry, self._below(entry.name)) for entry in group]
            upload_batch(self._store.connection, origin, files, options)
            for file in files:
                yield file.entry, None if _unclear(file) else file.outcome

    def prefetch(self, entries: Sequence[Entry]) -> SftpFolder:
        """Return this folder, with small files read many at a time; see `Batching.prefetch`."""
        return _Ahead(self._store, self._parts, entries) if self._store.connection().orderly else self

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> SftpTempFile | SftpInOrderFile:
        """Begin a file, or continue one with the same mark whose writer died."""
        self._store.sweep_once(self, self._path)
        word = owners.mark_of(content_id, name)
        temp_file = owners.new_name(word)
        key = (self._path, word)
        adopted = size is not None and size > PART and self._store.connection().orderly and self._adopt(key, temp_file)

        def ended(left: bool) -> None:  # noqa: FBT001 - a callback of one argument
            owners.release(temp_file)
            if left:
                self._store.leftovers[key] = temp_file

        try:
            if not self._store.connection().orderly:
                return SftpInOrderFile(self._store.connection, self._below(temp_file), self._below(name), ended=ended)
            return SftpTempFile(
                self._store.connection,
                self._below(temp_file),
                self._below(name),
                size=size,
                adopted=adopted,
                ended=ended,
            )
        except BaseException:
            owners.release(temp_file)
            raise

    def _adopt(self, key: tuple[str, str], temp_file: str) -> bool:
        """Rename a leftover to our name; return False if another process did so first."""
        leftover = self._store.leftovers.pop(key, None)
        if leftover is None or key[1] == "0":
            return False
        (renaming,) = self._store.connection().ask(
            Request(MessageType.RENAME, pack_string(self._below(leftover)), pack_string(self._below(temp_file)))
        )
        return renaming.status == 0

    def remove(self, name: str) -> None:
        """Remove anything but a folder."""
        (asked,) = self._store.connection().ask(self._removal(name))
        asked.result()

    def _removal(self, name: str) -> Request:
        return Request(MessageType.REMOVE, pack_string(self._below(name)), about=self._below(name))

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove the files, many in one burst."""
        for start in range(0, len(names), _REMOVALS):
            chosen = names[start : start + _REMOVALS]
            try:
                asked = self._store.connection().ask(*map(self._removal, chosen))
            except OSError as err:
                yield from ((name, err) for name in names[start:])
                return
            for name, request in zip(chosen, asked, strict=True):
                try:
                    request.result()
                except (OSError, Fault) as err:  # noqa: PERF203 - the rest continues
                    yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        (asked,) = self._store.connection().ask(
            Request(MessageType.RMDIR, pack_string(self._below(name)), about=self._below(name))
        )
        asked.result()

    def rename(self, name: str, goal: Folder, new_name: str) -> None:
        """Rename an entry; the server refuses a name in use (draft-ietf-secsh-filexfer-02, 6.5)."""
        old, new = self._below(name), cast("SftpFolder", goal)._below(new_name)  # noqa: SLF001 - of the same class
        (asked,) = self._store.connection().ask(
            Request(MessageType.RENAME, pack_string(old), pack_string(new), about=old)
        )
        asked.result()


def _unclear(file: Upload) -> bool:
    """Whether to retry a failed file alone: "failure" may mean that too many files were open."""
    return isinstance(file.outcome, Fault) and file.outcome.code == "ENDPOINT_ERROR"


class _Ahead(SftpFolder):
    """A folder whose small files are read ahead, in the order announced, a group at a time."""

    def __init__(self, store: Server, parts: Parts, entries: Sequence[Entry]) -> None:
        super().__init__(store, parts)
        small = groups([entry for entry in entries if entry.fits(SMALL)])
        self._coming = {entry.name: group for group in small for entry in group}
        self._readers: dict[str, Downloaded] = {}

    def read(self, name: str) -> SftpReader | Downloaded:
        """Open a file, which may already have been read ahead."""
        group = self._coming.get(name, [])
        for entry in group:
            del self._coming[entry.name]
        if len(group) > 1:
            # Opening the file alone raises its error again.
            self._readers.clear()
            with suppress(OSError, Fault):
                self._readers = download_batch(
                    self._store.connection(), [(entry, self._below(entry.name)) for entry in group]
                )
        return self._readers.pop(name, None) or super().read(name)
