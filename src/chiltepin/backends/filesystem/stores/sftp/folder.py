"""One folder of an SFTP server: listed, read, written to and emptied."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from chiltepin.backends.filesystem.defaults import NothingHeld
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import sound
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.bursts import SMALL, Fetched, Outgoing, fetched_all, groups, send_all
from chiltepin.backends.filesystem.stores.sftp.files import PART, SftpReader, classified, opened
from chiltepin.backends.filesystem.stores.sftp.in_order_files import PlainDraft
from chiltepin.backends.filesystem.stores.sftp.messages import EOF, Ask, Attributes, Request, names, text
from chiltepin.backends.filesystem.stores.sftp.temp_files import SftpDraft
from chiltepin.backends.filesystem.temp_names import is_draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chiltepin.backends.filesystem.store import Entry, Folder, Wish
    from chiltepin.backends.filesystem.stores.sftp.connection import Channel
    from chiltepin.paths import Parts

__all__ = ["SftpFolder"]

#: Requests for more names of a listing that are under way at once; OpenSSH gives 100 names for each.
_READ_DIRS = 8

#: Files that are removed in one burst.
_REMOVALS = 64


class Server(Protocol):
    """What a folder needs of the store that it is in."""

    #: Large drafts that somebody left and that may be continued, by the path of their folder and mark.
    leftovers: dict[tuple[str, str], str]

    def channel(self) -> Channel:
        """Return the connection that has the least to do."""
        ...

    def path(self, parts: Parts) -> str:
        """Return the absolute path on the server."""
        ...

    def look(self, path: str) -> Attributes | None:
        """Return what the server tells of a path, a link not followed; None if nothing is there."""
        ...

    def sweep_once(self, folder: SftpFolder, path: str) -> None:
        """Remove leftovers from a folder, the first time that this store writes there."""
        ...


class SftpFolder(NothingHeld):
    """One folder of the server; see the head of this module for what it is not."""

    #: A folder has one name here.
    identity = None

    def __init__(self, store: Server, parts: Parts) -> None:
        self._store, self._parts = store, parts
        self._path = store.path(parts)

    def _below(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    def entries(self, *, drafts: bool = False) -> Iterator[Entry]:
        """Yield all entries, as the server lists them."""
        channel = self._store.channel()
        (asked,) = channel.ask(Request(Ask.OPENDIR, text(self._path), about=self._path))
        handle = opened(channel, asked)
        aside = False
        try:
            more = True
            while more:
                for request in channel.ask(*(Request(Ask.READDIR, handle) for _ in range(_READ_DIRS))):
                    if request.status == EOF:
                        # An answer after it may hold names all the same, where they are given in any order.
                        more = False
                        continue
                    found = list(names(request.result()))
                    if not found:
                        raise Fault("ENDPOINT_ERROR", f"The server lists nothing, again and again, in {self._path}.")
                    wanted = [pair for pair in found if pair[0] not in (".", "..")]
                    if not all(sound(name) for name, _ in wanted):
                        raise Fault("INVALID_PATH_NAME", f"The server lists a name that is none, in {self._path}.")
                    aside = aside or any(owners.stands_aside(name) for name, _ in wanted)
                    self._complete(channel, wanted)
                    yield from (facts.entry(name) for name, facts in wanted if drafts or not is_draft(name))
        finally:
            channel.close_file(handle)
        if aside and not drafts:
            yield from owners.missing({entry.name for entry in self.entries(drafts=True)})

    def _complete(self, channel: Channel, found: Sequence[tuple[str, Attributes]]) -> None:
        """Look at each entry of which the listing does not tell what it is, how large it is or how old."""
        unclear = [(self._below(name), facts) for name, facts in found if facts.incomplete]
        if not unclear:
            return
        asked = [Request(Ask.LSTAT, text(path), about=path) for path, _ in unclear]
        channel.ask(*asked)
        for (_, facts), looked in zip(unclear, asked, strict=True):
            if looked.status is None:
                facts.fill(Attributes.of(looked.body)[0])
        classified(channel, unclear)

    def put_back(self, names: dict[str, str]) -> None:
        """Rename files that made way to the names that they had; what has one of these by now stays."""
        renames = [Request(Ask.RENAME, text(self._below(old)), text(self._below(new))) for old, new in names.items()]
        self._store.channel().ask(*renames)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None."""
        facts = self._store.look(self._below(name))
        return facts.entry(name) if facts is not None else None

    def read(self, name: str) -> SftpReader | Fetched:
        """Open a regular file; a link is refused."""
        return SftpReader(self._store.channel, self._below(name))

    def take(self, origin: Folder, entry: Entry, name: str, wish: Wish) -> int | None:
        """Copy a small file with few and long bursts; see `Folder.take`."""
        if not entry.fits(SMALL) or wish.checksum or not self._store.channel().orderly:
            return None
        self._store.sweep_once(self, self._path)
        file = Outgoing(entry, self._below(name))
        send_all(self._store.channel, origin, [file], wish)
        if _unclear(file):
            return None
        if isinstance(file.outcome, Exception):
            raise file.outcome
        return file.outcome

    def at_once(self, entry: Entry) -> None:
        """Have no shorter way; many small files are read `ahead`."""
        del entry

    def take_all(
        self, origin: Folder, entries: Sequence[Entry], wish: Wish
    ) -> Iterator[tuple[Entry, int | Exception | None]]:
        """Copy small files, many with the bursts of one; see `Batching.take_all`."""
        self._store.sweep_once(self, self._path)
        orderly = self._store.channel().orderly
        for entry in entries:
            if not orderly or not entry.fits(SMALL):
                yield entry, None
        for group in groups([entry for entry in entries if orderly and entry.fits(SMALL)]):
            files = [Outgoing(entry, self._below(entry.name)) for entry in group]
            send_all(self._store.channel, origin, files, wish)
            for file in files:
                yield file.entry, None if _unclear(file) else file.outcome

    def ahead(self, entries: Sequence[Entry]) -> SftpFolder:
        """Return this folder, with small files read many at a time; see `Batching.ahead`."""
        return _Ahead(self._store, self._parts, entries) if self._store.channel().orderly else self

    def draft(self, name: str, *, size: int | None = None, mark: str = "") -> SftpDraft | PlainDraft:
        """Begin a file, or go on with one of the same mark whose writer died."""
        self._store.sweep_once(self, self._path)
        word = owners.mark_of(mark, name)
        draft = owners.begun(word)
        key = (self._path, word)
        adopted = size is not None and size > PART and self._store.channel().orderly and self._adopt(key, draft)

        def ended(left: bool) -> None:  # noqa: FBT001 - a callback of one argument
            owners.ended(draft)
            if left:
                self._store.leftovers[key] = draft

        try:
            if not self._store.channel().orderly:
                return PlainDraft(self._store.channel, self._below(draft), self._below(name), ended=ended)
            return SftpDraft(
                self._store.channel, self._below(draft), self._below(name), size=size, adopted=adopted, ended=ended
            )
        except BaseException:
            owners.ended(draft)
            raise

    def _adopt(self, key: tuple[str, str], draft: str) -> bool:
        """Give a leftover our name, which only one can do; return whether it was us."""
        leftover = self._store.leftovers.pop(key, None)
        if leftover is None or key[1] == "0":
            return False
        (renaming,) = self._store.channel().ask(
            Request(Ask.RENAME, text(self._below(leftover)), text(self._below(draft)))
        )
        return renaming.status == 0

    def remove(self, name: str) -> None:
        """Remove anything but a folder."""
        (asked,) = self._store.channel().ask(self._removal(name))
        asked.result()

    def _removal(self, name: str) -> Request:
        return Request(Ask.REMOVE, text(self._below(name)), about=self._below(name))

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove them, many in one burst."""
        for start in range(0, len(names), _REMOVALS):
            chosen = names[start : start + _REMOVALS]
            try:
                asked = self._store.channel().ask(*map(self._removal, chosen))
            except OSError as err:
                yield from ((name, err) for name in names[start:])
                return
            for name, request in zip(chosen, asked, strict=True):
                try:
                    request.result()
                except (OSError, Fault) as err:  # noqa: PERF203 - the others go on
                    yield name, err

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        (asked,) = self._store.channel().ask(Request(Ask.RMDIR, text(self._below(name)), about=self._below(name)))
        asked.result()


def _unclear(file: Outgoing) -> bool:
    """Whether a file failed that may go alone: "failure" may mean that so many cannot be open at once."""
    return isinstance(file.outcome, Fault) and file.outcome.code == "ENDPOINT_ERROR"


class _Ahead(SftpFolder):
    """A folder whose files are read in the order in which they were announced, and so many at a time."""

    def __init__(self, store: Server, parts: Parts, entries: Sequence[Entry]) -> None:
        super().__init__(store, parts)
        small = groups([entry for entry in entries if entry.fits(SMALL)])
        self._coming = {entry.name: group for group in small for entry in group}
        self._readers: dict[str, Fetched] = {}

    def read(self, name: str) -> SftpReader | Fetched:
        """Open a file, of which all may be here already."""
        group = self._coming.get(name, [])
        for entry in group:
            del self._coming[entry.name]
        if len(group) > 1:
            # What went wrong is seen by whoever tries again, alone.
            self._readers.clear()
            with suppress(OSError, Fault):
                self._readers = fetched_all(
                    self._store.channel(), [(entry, self._below(entry.name)) for entry in group]
                )
        return self._readers.pop(name, None) or super().read(name)
