"""Copy the content of one file from a reader to a temporary file, and verify it there."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.checksums import ExpectedChecksum, not_what_was_sent
from chiltepin.backends.filesystem.errors import changed_source
from chiltepin.backends.filesystem.store import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chiltepin.backends.filesystem.store import CopyOptions, Reader, TempFile

__all__ = ["Content", "digest_of"]

_threads = threading.local()


def _buffer(size: int) -> memoryview:
    """Return a buffer of this thread, which is reused: allocating memory costs as much as copying."""
    buffer: memoryview | None = getattr(_threads, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _threads.buffer = memoryview(bytearray(size))
    return buffer[:size]


def digest_of(reader: Reader, check: Callable[[], object]) -> tuple[bytes, int]:
    """Read a file from the current position to its end; return the digest and the number of bytes."""
    digest, size, block = xxhash.xxh3_128(), 0, _buffer(BLOCK)
    while count := reader.readinto(block):
        check()
        digest.update(block[:count])
        size += count
    return digest.digest(), size


class _Turns:
    """Makes the parts of a file, several of which are copied at once, take turns in their order.

    The parts must be started in order: then the part whose turn it is never waits for another.
    """

    def __init__(self) -> None:
        self._at = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, offset: int, count: int) -> Iterator[None]:
        """Wait until all parts before this one have had their turn; raise the error of any of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._at == offset)
            if self._error is not None:
                raise self._error
        yield
        with self._changed:
            self._at = offset + count
            self._changed.notify_all()

    @contextmanager
    def among(self) -> Iterator[None]:
        """Notify the other parts if this part fails, so that they do not wait for it."""
        try:
            yield
        except BaseException as err:
            with self._changed:
                self._error = self._error or err
                self._changed.notify_all()
            raise


class Content:
    """The content of one file while it is copied; several threads may copy its parts.

    ``passed`` is called with the bytes of each part or block written, and with 0 before; its exception ends the copy.
    """

    def __init__(
        self, reader: Reader, temp_file: TempFile, options: CopyOptions, name: str, passed: Callable[[int], object]
    ) -> None:
        self._reader, self._temp_file, self._options = reader, temp_file, options
        self._name, self._passed = name, passed
        proofs = {options.checksum, reader.checksum if options.verify else ""} - {""}
        self._proofs = [ExpectedChecksum(checksum) for checksum in proofs]
        self._turns = _Turns()

    def copy(self, do_all: Callable[[Iterable[Callable[[], None]]], None]) -> int:
        """Copy and verify all of it; return its bytes.

        ``do_all`` runs several operations, perhaps in several threads (`AdaptivePool.all`). The ``Fault`` is
        ``FILE_SIZE_CHANGED`` if the file changed during the copy, and ``VERIFY_CHECKSUM`` if the copy is wrong.
        """
        size, part = self._reader.size, self._temp_file.part
        if not size or not part or not self._reader.parts:
            size = self._in_order()
        elif size > part:
            parts = ((offset, min(part, size - offset)) for offset in range(0, size, part))
            do_all(partial(self._part, offset, count) for offset, count in parts)
        elif not self._copied_at_once(0, size):
            size = self._in_order()
        if self._reader.changed():
            raise changed_source(self._name)
        for checksum in self._proofs:
            checksum.check(self._name)
        return size

    def copy_range(self, offset: int, count: int, do_all: Callable[[Iterable[Callable[[], None]]], None]) -> None:
        """Copy and verify a range of bytes that begins at a part; errors are those of `copy`."""
        end, part = offset + count, self._temp_file.part or count
        do_all(partial(self._part, start, min(part, end - start)) for start in range(offset, end, part))
        if self._reader.changed():
            raise changed_source(self._name)

    def _in_order(self) -> int:
        """Copy block by block, then read back all of it."""
        digest, size, block, known = xxhash.xxh3_128(), 0, _buffer(BLOCK), self._reader.size
        # Not up to the end of the file: if the size is known, that saves a call, and `changed` detects more.
        while (known is None or size < known) and (count := self._reader.readinto(block)):
            self._temp_file.write(block[:count])
            self._passed(count)
            if self._options.verify and not self._temp_file.verifies_writes:
                digest.update(block[:count])
            for checksum in self._proofs:
                checksum.update(block[:count])
            size += count
        if known is not None and size != known:
            raise changed_source(self._name)
        if not self._temp_file.verifies_writes:
            with self._temp_file.read_back() as written:
                right = written.size in (size, None)
                if self._options.verify:
                    right = right and digest_of(written, partial(self._passed, 0)) == (digest.digest(), size)
            if not right:
                raise not_what_was_sent(self._name)
        return size

    def _part(self, offset: int, count: int) -> None:
        with self._turns.among():
            self._passed(0)
            self._copy_part(offset, count)
            self._passed(count)

    def _copy_part(self, offset: int, count: int) -> None:
        if self._options.verify and self._is_kept(offset, count):
            self._pass_written(offset, count)
        elif not self._copied_at_once(offset, count):
            self._copy_through_memory(offset, count)

    def _is_kept(self, offset: int, count: int) -> bool:
        """Whether a dead run has left this part, and the source still has the same content."""
        kept = self._temp_file.has_part(offset, count)
        if kept is None or self._reader.pinned:
            return kept is not None
        # Clocks are coarse: a rewritten source may have the same size and times as before.
        return kept == self._digest(self._reader, offset, count)

    def _copy_through_memory(self, offset: int, count: int) -> None:
        """Read a part, write it and read it back; add it to the checksum of the file when its turn has come."""
        block = _buffer(count)
        if self._reader.read_at(offset, block) < count:
            raise changed_source(self._name)
        self._pass_proofs(offset, block)
        self._temp_file.write_at(offset, block)
        if self._options.verify and not self._temp_file.verifies_writes:
            sent = xxhash.xxh3_128_digest(block)
            with self._temp_file.read_back() as written:
                self._compare(offset, sent, xxhash.xxh3_128_digest(block[: written.read_at(offset, block)]))

    def _copied_at_once(self, offset: int, count: int) -> bool:
        """Have the store copy a part in its fastest way; False if it has none."""
        if self._options.verify and not self._proofs:
            digests = self._temp_file.copy_compared(self._reader, offset, count)
            if digests is not None:
                self._compare(offset, *digests)
                return True
        return self._taken(offset, count)

    def _taken(self, offset: int, count: int) -> bool:
        """Have the store copy a part by itself, and compare it with the source; False if it cannot."""
        # A store that verifies a part itself does not return it, so a checksum has to read the part here.
        if (self._proofs and self._temp_file.verifies_writes) or not self._temp_file.copy_part(
            self._reader, offset, count, verify=self._options.verify
        ):
            return False
        if self._options.verify and not self._temp_file.verifies_writes:
            with self._temp_file.read_back() as written:
                found = self._digest(written, offset, count)
            self._compare(offset, self._digest(self._reader, offset, count), found)
        self._pass_written(offset, count)
        return True

    def _compare(self, offset: int, sent: bytes, found: bytes) -> None:
        if found != sent:
            raise changed_source(self._name) if self._reader.changed() else not_what_was_sent(self._name)
        self._temp_file.mark_verified(offset, sent)

    @staticmethod
    def _digest(reader: Reader, offset: int, count: int) -> bytes:
        digest, end = xxhash.xxh3_128(), offset + count
        block = _buffer(BLOCK)
        while offset < end and (got := reader.read_at(offset, block[: end - offset])):
            digest.update(block[:got])
            offset += got
        return digest.digest()

    def _pass_proofs(self, offset: int, block: memoryview) -> None:
        """Add a part to the checksums of the file, when it is its turn."""
        if self._proofs:
            with self._turns.turn(offset, len(block)):
                for checksum in self._proofs:
                    checksum.update(block)

    def _pass_written(self, offset: int, count: int) -> None:
        """Add a part in the temporary file to the checksums of the file, when it is its turn."""
        if not self._proofs:
            return
        end, block = offset + count, _buffer(BLOCK)
        with self._turns.turn(offset, count), self._temp_file.read_back() as written:
            while offset < end and (got := written.read_at(offset, block[: end - offset])):
                self._passed(0)
                for checksum in self._proofs:
                    checksum.update(block[:got])
                offset += got
