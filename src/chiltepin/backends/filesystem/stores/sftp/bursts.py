"""Small files of an SFTP server, many in one burst.

A small file over SFTP costs round trips, not bandwidth. So the requests of many files are sent together: two bursts
read a group of files; three open, fill and rename a group, whatever its size. Each file still succeeds or fails alone:
it is visible only when complete, and a failed file does not delay the rest.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.checksums import not_what_was_sent
from chiltepin.backends.filesystem.errors import Fault, changed_source
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.connection import reading, writing
from chiltepin.backends.filesystem.stores.sftp.handles import has_data, opening, past_end
from chiltepin.backends.filesystem.stores.sftp.messages import (
    CREATING,
    EXCLUSIVELY,
    READING,
    WRITING,
    Attributes,
    MessageType,
    Request,
    pack_string,
    permissions,
    times,
    told_time,
)
from chiltepin.backends.filesystem.stores.sftp.replace import mode_kept, moved, refuse_lost_time, renaming, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import CopyOptions, Entry, Folder, Reader
    from chiltepin.backends.filesystem.stores.sftp.connection import Connection

__all__ = ["SMALL", "Upload", "download_batch", "groups", "upload_batch"]

#: Bytes of a file that is copied in bursts with others.
SMALL = 1 << 20

#: Most files and bytes in one burst. Each thread holds the bytes in memory twice: as sent and as read back. More files
#: in a burst do not make it cheaper for each (docs/decisions/sftp-client.md).
_FILES, _BYTES = 50, 2 << 20


def groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Split the entries into groups, each small enough for one burst."""
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and (len(group) == _FILES or size + (entry.size or 0) > _BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += entry.size or 0
    if group:
        yield group


class Upload:
    """A small file to upload to a path on the server."""

    def __init__(self, entry: Entry, path: str) -> None:
        self.entry, self.path = entry, path
        self.temp_file = f"{path.rpartition('/')[0]}/{owners.new_name()}"
        self.content = memoryview(b"")
        self.mtime: float | None = None
        #: The permission bits of the file that it replaces.
        self.mode: int | None = None
        self.handle = b""
        #: Bytes written, or the error; None if the file has grown.
        self.outcome: int | Exception | None = None

    def load(self, origin: Folder, *, mtime: bool) -> bool:
        """Read the whole file; return whether to send it."""
        try:
            with origin.read(self.entry.name) as reader:
                if reader.size is None or reader.size > SMALL:
                    return False
                self.content = _whole(reader, reader.size, self.entry.name)
                self.mtime = reader.mtime if mtime else None
        except Exception as err:  # noqa: BLE001 - any error of a store is this file's outcome
            self.outcome = err
            return False
        return True

    def judge(self, operation: Callable[[], object]) -> bool:
        """Run an operation on which the file depends; return whether it succeeded."""
        try:
            operation()
        except (OSError, Fault) as err:
            self.outcome = err
            return False
        return True


def _whole(reader: Reader, size: int, name: str) -> memoryview:
    content, count = memoryview(bytearray(size)), 0
    while count < size and (got := reader.readinto(content[count:])):
        count += got
    if count < size or reader.changed():
        raise changed_source(name)
    return content


def upload_batch(
    choose: Callable[[], Connection], origin: Folder, files: Sequence[Upload], options: CopyOptions
) -> None:
    """Copy small files of any store to the server in three bursts, and set the outcome of each."""
    loaded: list[Upload] = []
    try:
        loaded += [file for file in files if file.load(origin, mtime=options.mtime)]
        connection = choose()
        opened = _open(connection, loaded)
        filled = _fill(connection, opened, verify=options.verify)
        _rename(connection, filled)
    except (OSError, Fault) as err:
        for file in loaded:
            file.outcome = file.outcome or err
    finally:
        left = [file for file in loaded if file.handle and not isinstance(file.outcome, int)]
        if left:
            with suppress(OSError, Fault):
                choose().ask(*(Request(MessageType.REMOVE, pack_string(file.temp_file)) for file in left))
        for file in files:
            owners.release(file.temp_file.rpartition("/")[2])


def _open(connection: Connection, files: Sequence[Upload]) -> list[Upload]:
    asked = [opening(file.temp_file, READING | WRITING | CREATING | EXCLUSIVELY) for file in files]
    looks = [Request(MessageType.LSTAT, pack_string(file.path)) for file in files]
    connection.ask(*asked, *looks)
    for file, request, look in zip(files, asked, looks, strict=True):
        file.mode = mode_kept(look)
        if file.judge(request.result):
            file.handle = request.body
    return [file for file in files if file.handle]


def _fill(connection: Connection, files: Sequence[Upload], *, verify: bool) -> list[Upload]:
    """Write the files, read them back, set their times and close them.

    A server processes the requests for one file in the order they are sent (draft-ietf-secsh-filexfer-02, 6.1).
    """
    step = min(connection.writes, connection.reads)
    backs = [memoryview(bytearray(len(file.content) if verify else 0)) for file in files]
    writes = [_pieces(writing, file.handle, file.content, step) for file in files]
    for file, asked in zip(files, writes, strict=True):
        asked.extend(_timing(file))
    reads = [_pieces(reading, file.handle, back, step) for file, back in zip(files, backs, strict=True)]
    for file, asked in zip(files, reads, strict=True):
        asked.append(Request(MessageType.CLOSE, file.handle))
    # First, so that no file is more readable while it is written. A server that cannot do this still writes.
    modes = [
        Request(MessageType.FSETSTAT, file.handle, permissions(file.mode)) for file in files if file.mode is not None
    ]
    connection.ask(*modes, *chain.from_iterable(writes), *chain.from_iterable(reads))

    def check(file: Upload, wrote: Sequence[Request], read: Sequence[Request], back: memoryview) -> None:
        for request in wrote:
            request.about = file.path
            if request.kind == MessageType.FSETSTAT and request.status:
                raise Fault("ENDPOINT_ERROR", "Alone its time is set by its name.")
            written(connection, request)
        if file.mtime is not None:
            refuse_lost_time(file.mtime, Attributes.of(wrote[-1].body)[0], file.path)
        *got, closed = read
        if sum(request.count() for request in got) != len(back) or (verify and back != file.content):
            raise not_what_was_sent(file.path)
        closed.result()

    whole = []
    for file, wrote, read, back in zip(files, writes, reads, backs, strict=True):
        if file.judge(partial(check, file, wrote, read, back)):
            whole.append(file)
    return whole


def _timing(file: Upload) -> list[Request]:
    """Return the requests that set the time of a file and check that it is kept."""
    if file.mtime is None:
        return []
    return [Request(MessageType.FSETSTAT, file.handle, times(file.mtime)), Request(MessageType.FSTAT, file.handle)]


def _pieces(
    make: Callable[[bytes, int, memoryview], Request], handle: bytes, block: memoryview, step: int
) -> list[Request]:
    return [make(handle, at, block[at : at + step]) for at in range(0, len(block), step)]


def _rename(connection: Connection, files: Sequence[Upload]) -> None:
    """Rename the files to their real names, replacing existing files."""
    asked = [renaming(connection, file.temp_file, file.path) for file in files]
    connection.ask(*asked)
    for file, request in zip(files, asked, strict=True):
        # A rename that failed is retried alone, to handle the file in its way.
        if request.status == 0 or file.judge(partial(moved, connection, file.temp_file, file.path)):
            file.outcome = len(file.content)


class Downloaded:
    """A small file of the server, read whole and already closed."""

    def __init__(self, path: str, content: memoryview, before: Attributes, after: Attributes) -> None:
        self._content, self._position = content, 0
        self._changed = (before.size, before.mtime) != (after.size, after.mtime)
        self.size: int | None = len(content)
        self._told = before.mtime
        self.parts, self.pinned, self.checksum = True, False, ""
        self.content_id = f"{path}:{before.size}:{before.mtime}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Free the memory."""
        self._content = memoryview(b"")

    @property
    def mtime(self) -> float | None:
        """See `Reader.mtime`."""
        return told_time(self._told)

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``."""
        piece = self._content[offset : offset + len(block)]
        block[: len(piece)] = piece
        return len(piece)

    def readinto(self, block: memoryview) -> int:
        """Fill the block from the current position."""
        count = self.read_at(self._position, block)
        self._position += count
        return count

    def changed(self) -> bool:
        """Whether size or time changed while the file was read."""
        return self._changed


def download_batch(connection: Connection, files: Sequence[tuple[Entry, str]]) -> dict[str, Downloaded]:
    """Read small files, each with its path, in two bursts; return them by name.

    Files that cannot be read, or whose size differs from their entries, are missing: opening one alone gives its error.
    """
    looks = [Request(MessageType.LSTAT, pack_string(path)) for _, path in files]
    opens = [opening(path, READING) for _, path in files]
    connection.ask(*(request for both in zip(looks, opens, strict=True) for request in both))
    asked, coming = [], []
    for (entry, path), look, opened in zip(files, looks, opens, strict=True):
        if opened.status is not None:
            continue
        if look.status is None and Attributes.of(look.body)[0].kind == "file":
            # One byte more than the server reports: it may report too small a size, or 0 for a file as in /proc.
            content = memoryview(bytearray((entry.size or 0) + 1))
            reads = _pieces(reading, opened.body, content, connection.reads)
            before, after = Request(MessageType.FSTAT, opened.body), Request(MessageType.FSTAT, opened.body)
            past = [] if connection.full_reads else [past_end(opened.body, len(content) - 1)]
            asked += [before, *reads, *past, after]
            coming.append((entry, path, content, before, reads, past, after))
        asked.append(Request(MessageType.CLOSE, opened.body))
    connection.ask(*asked)
    found = {}
    for entry, path, content, before, reads, past, after in coming:
        if before.status is not None or after.status is not None or any(map(has_data, past)):
            continue
        facts = Attributes.of(before.body)[0]
        if facts.size == entry.size == sum(len(read.body) and read.count() for read in reads if read.status is None):
            found[entry.name] = Downloaded(path, content[: facts.size], facts, Attributes.of(after.body)[0])
    return found
