"""How the content of one file gets from a reader to a draft, and is proved to be there."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import xxhash

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.proof import Proof, not_what_was_sent
from chiltepin.backends.filesystem.store import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chiltepin.backends.filesystem.store import Draft, Reader, Wish

__all__ = ["Content", "digest_of"]

_threads = threading.local()


def _buffer(size: int) -> memoryview:
    """Return memory of this thread, used again and again: new memory costs as much as the copying."""
    buffer: memoryview | None = getattr(_threads, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _threads.buffer = memoryview(bytearray(size))
    return buffer[:size]


def digest_of(reader: Reader, check: Callable[[], object]) -> tuple[bytes, int]:
    """Read a file from where it is to its end; return the digest and the number of its bytes."""
    digest, size, block = xxhash.xxh3_128(), 0, _buffer(BLOCK)
    while count := reader.readinto(block):
        check()
        digest.update(block[:count])
        size += count
    return digest.digest(), size


class Content:
    """The content of one file on its way; several threads may work at its parts.

    Parameters
    ----------
    reader : Reader
        Where it comes from.
    draft : Draft
        Where it goes to.
    wish : Wish
        How it is to be copied.
    name : str
        What the file is called in messages.
    passed : callable
        Told of each part and block how many bytes have been written, and 0 before it; what it raises ends the copy.
    """

    def __init__(self, reader: Reader, draft: Draft, wish: Wish, name: str, passed: Callable[[int], object]) -> None:
        self._reader, self._draft, self._wish, self._name, self._passed = reader, draft, wish, name, passed
        proofs = {wish.checksum, reader.proof if wish.verify else ""} - {""}
        self._proofs = [Proof(checksum) for checksum in proofs]

    def copy(self, do_all: Callable[[Iterable[Callable[[], None]]], None]) -> int:
        """Copy all of it, and see that it is there as wished.

        Parameters
        ----------
        do_all : callable
            Does several deeds, perhaps with several threads (`Crew.all`).

        Returns
        -------
        int
            Its bytes.

        Raises
        ------
        Fault
            ``FILE_SIZE_CHANGED`` if the file changed meanwhile; ``VERIFY_CHECKSUM`` if what is there is not right.
        """
        size, part = self._reader.size, self._draft.part
        # What the store itself proves, and does not give back, has to be hashed as it passes.
        if not size or not part or not self._reader.parts or (self._proofs and self._draft.proves):
            size = self._in_order()
        elif size > part:
            self._in_parts(do_all, size, part)
        elif not self._draft.take(self._reader, 0, size):
            size = self._in_order()
        else:
            self._prove(0, size)
            self._pass_proofs(0, size)
        if self._reader.changed():
            raise self._has_changed()
        for proof in self._proofs:
            proof.check(self._name)
        return size

    def _has_changed(self) -> Fault:
        reason = f"{self._name} changed while it was copied; move it again when it is complete."
        return Fault("FILE_SIZE_CHANGED", reason)

    def _in_order(self) -> int:
        """Copy block by block, then read back all of it."""
        digest, size, block, known = xxhash.xxh3_128(), 0, _buffer(BLOCK), self._reader.size
        # Not until the end of the file: where the size is known, that is one call less, and `changed` sees more.
        while (known is None or size < known) and (count := self._reader.readinto(block)):
            self._draft.write(block[:count])
            self._passed(count)
            if self._wish.verify and not self._draft.proves:
                digest.update(block[:count])
            for proof in self._proofs:
                proof.update(block[:count])
            size += count
        if known is not None and size != known:
            raise self._has_changed()
        if not self._draft.proves:
            with self._draft.read_back() as written:
                right = written.size in (size, None)
                if self._wish.verify:
                    right = right and digest_of(written, partial(self._passed, 0)) == (digest.digest(), size)
            if not right:
                raise not_what_was_sent(self._name)
        return size

    def _in_parts(self, do_all: Callable[[Iterable[Callable[[], None]]], None], size: int, part: int) -> None:
        parts = [(offset, min(part, size - offset)) for offset in range(0, size, part)]
        if not self._proofs:
            do_all(partial(self._part, offset, count) for offset, count in parts)
            return
        # A digest of the whole goes from part to part, always one behind the copying: what it reads is in memory still.
        do_all([partial(self._part, *parts[0])])
        for before, current in pairwise(parts):
            do_all([partial(self._part, *current), partial(self._pass_proofs, *before)])
        self._pass_proofs(*parts[-1])

    def _part(self, offset: int, count: int) -> None:
        self._passed(0)
        self._copy_part(offset, count)
        self._passed(count)

    def _copy_part(self, offset: int, count: int) -> None:
        if self._wish.verify and self._draft.kept(offset, count):
            return
        if self._draft.take(self._reader, offset, count):
            self._prove(offset, count)
            return
        block = _buffer(count)
        if self._reader.read_at(offset, block) < count:
            raise self._has_changed()
        self._draft.write_at(offset, block)
        if self._wish.verify and not self._draft.proves:
            self._compare(offset, count, xxhash.xxh3_128_digest(block))

    def _prove(self, offset: int, count: int) -> None:
        """See that a part, which the store has copied by itself, is what it is at its origin."""
        if self._wish.verify and not self._draft.proves:
            self._compare(offset, count, self._digest(self._reader, offset, count))

    def _compare(self, offset: int, count: int, digest: bytes) -> None:
        """Read a part back, now that it is in memory still."""
        with self._draft.read_back() as written:
            if self._digest(written, offset, count) != digest:
                raise self._has_changed() if self._reader.changed() else not_what_was_sent(self._name)
        self._draft.whole(offset, digest)

    @staticmethod
    def _digest(reader: Reader, offset: int, count: int) -> bytes:
        digest, end = xxhash.xxh3_128(), offset + count
        block = _buffer(BLOCK)
        while offset < end and (got := reader.read_at(offset, block[: end - offset])):
            digest.update(block[:got])
            offset += got
        return digest.digest()

    def _pass_proofs(self, offset: int, count: int) -> None:
        """Let the checksums of the whole go on with what was written of a part."""
        if not self._proofs:
            return
        end, block = offset + count, _buffer(BLOCK)
        with self._draft.read_back() as written:
            while offset < end and (got := written.read_at(offset, block[: end - offset])):
                self._passed(0)
                for proof in self._proofs:
                    proof.update(block[:got])
                offset += got
