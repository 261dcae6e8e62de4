"""An S3 object that is read, as a whole or in parts of the same content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.defaults import NothingHeld
from chiltepin.backends.filesystem.errors import Fault, changed_source
from chiltepin.backends.filesystem.store import SMALL, Small
from chiltepin.backends.filesystem.stores.objects.part_size import PART
from chiltepin.backends.filesystem.stores.s3.etags import digest_of, is_md5, tag_is_plain, tag_of_parts

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.stores.s3.bucket import Bucket

__all__ = ["S3Reader"]


class S3Reader(NothingHeld):
    """An object open for reading; a read after the object was replaced is a ``Fault``.

    The content is compared with the entity tag: at once if it is one part at most, and at the end, by `changed`, if it
    was read in the parts in which it was written. The tag of a larger object that was written in one request is the
    `checksum`, which the caller compares.
    """

    pinned = True

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket, self.key = bucket, key
        got = bucket.first(key, PART)
        # The bytes in memory, and their offset: the first part came with the first response.
        self._window, self._start, self._at = got.data, 0, 0
        #: The entity tag, which every later request requires.
        self.tag = got.etag
        self.size: int | None = got.size
        self.mtime: float | None = got.mtime
        self.parts = True
        self.checksum = ""
        self.content_id = f"{bucket.endpoint}/{bucket.name}/{key}:{self.tag}"
        self._length = got.size
        self._digests: dict[int, bytes] = {}
        self._note(0, self._window)
        if is_md5(self.tag) and len(self._window) == got.size:
            if self._digests[0].hex() != self.tag:
                self._refuse_if_plain()
        elif is_md5(self.tag) and tag_is_plain(self._asked()):
            self.checksum = f"md5:{self.tag}"

    def _asked(self, **more: Any) -> dict[str, Any]:
        return self.bucket.call("head_object", self.key, **more)

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from ``offset``; see `Reader.read_at`."""
        block = block[: max(0, self._length - offset)]
        head = self._window[offset : offset + len(block)] if not self._start else self._window[:0]
        block[: len(head)] = head
        if len(head) < len(block):
            self._get(offset + len(head), block[len(head) :])
        return len(block)

    def _get(self, offset: int, block: memoryview) -> None:
        count, tag = self.bucket.fill(self.key, offset, block, self.tag)
        # Some servers, such as rclone's, ignore If-Match.
        if tag != self.tag:
            raise changed_source(self.key)
        if count != len(block):
            raise Fault("ENDPOINT_ERROR", f"S3 did not send the requested range of {self.key}.")
        self._note(offset, block)

    def _note(self, offset: int, block: memoryview) -> None:
        """Keep the MD5 of a block that may be one part of the object, or all of it."""
        if is_md5(self.tag) and len(block) < self._length:
            return
        if offset % PART == 0 and len(block) == min(PART, self._length - offset) and (block or not offset):
            self._digests[offset // PART] = digest_of(block).digest()

    def readinto(self, block: memoryview) -> int:
        """Fill the block from the current position, reading a part at a time; see `Reader.readinto`."""
        left = self._length - self._at
        if left > 0 and self._at >= self._start + len(self._window):
            window = memoryview(bytearray(min(PART, left)))
            self._get(self._at, window)
            self._window, self._start = window, self._at
        found = self._window[self._at - self._start :][: len(block)]
        block[: len(found)] = found
        self._at += len(found)
        return len(found)

    def small(self) -> Small | None:
        """Return all of a small object, which came with the first response; None for a larger one."""
        if self._length > SMALL:
            return None
        self.changed()
        # As bytes: comparing a memoryview with the data read back takes a hundred times as long.
        return Small(bytes(self._window), self._length, round((self.mtime or 0.0) * 1e9))

    def changed(self) -> bool:
        """Return False: all parts are of the same content; a ``Fault`` if its entity tag differs at the end."""
        count = max(1, -(-self._length // PART))
        if self.tag.endswith(f"-{count}") and len(self._digests) == count:
            found = tag_of_parts(self._digests[number] for number in range(count))
            if found != self.tag and self._in_such_parts(count):
                self._refuse_if_plain()
        return False

    def _in_such_parts(self, count: int) -> bool:
        """Whether the object was written in parts of our size; called only if the tags differ."""
        for number in range(count):
            wanted = min(PART, self._length - number * PART)
            if self._asked(PartNumber=number + 1).get("ContentLength") != wanted:
                return False
        return True

    def _refuse_if_plain(self) -> None:
        if tag_is_plain(self._asked()):
            raise Fault("VERIFY_CHECKSUM", f"The data received of {self.key} does not match its checksum at S3.")
