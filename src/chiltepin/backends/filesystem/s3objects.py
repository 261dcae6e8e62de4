"""One object of an S3 server: read by ranges, and written in one request or in parts."""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from binascii import unhexlify
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.faults import Fault
from chiltepin.backends.filesystem.s3uploads import Record, begin, dead
from chiltepin.backends.filesystem.s3wire import S3Fault, digest_of, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.s3wire import Answer, Wire
    from chiltepin.backends.filesystem.store import Reader

__all__ = ["MOST_COPIED", "PART", "S3Draft", "S3Reader", "digest_header", "is_md5"]

#: Bytes of a part, and of the largest object that is sent or got in one request. S3 takes 5 MiB to 5 GiB; 8 MiB is
#: what the aws command takes, and sixteen of them are not too much memory.
PART = 8 << 20

#: Most parts of one upload (S3 API, "Amazon S3 multipart upload limits").
MOST_PARTS = 10_000

#: Bytes of the largest object that one request copies (S3 API, CopyObject).
MOST_COPIED = 5 << 30


def is_md5(tag: str) -> bool:
    """Whether an entity tag looks like the MD5 of a content, and not like that of an object that came in parts."""
    return re.fullmatch("[0-9a-f]{32}", tag) is not None


def digest_header(block: bytes | bytearray | memoryview) -> str:
    """Return the MD5 of a block as ``Content-MD5`` has it, by which the server can tell that it is whole."""
    return b64encode(digest_of(block).digest()).decode()


class S3Reader:
    """An object that is open for reading: one state of it, whatever is put in its place meanwhile.

    Parameters
    ----------
    wire : Wire
        The way to its bucket.
    place : tuple of str
        Names the server, who asks it, and the bucket.
    key : str
        The object's name.
    """

    def __init__(self, wire: Wire, place: tuple[str, ...], key: str) -> None:
        self._wire, self.place, self.key = wire, place, key
        answer = self._first()
        # What is in memory of the object, and where it begins: the first part came with the first answer.
        self._window, self._start, self._at = memoryview(answer.data), 0, 0
        #: The entity tag; every other request is for this one.
        self.tag = answer.etag
        _, _, whole = (answer.headers["Content-Range"] or "").rpartition("/")
        self.size: int | None = int(whole or answer.headers["Content-Length"] or 0)
        self.mtime: float | None = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        self.parts = True
        self.proof = f"md5:{self.tag}" if is_md5(self.tag) and answer.tag_is_md5 else ""
        self.mark = f"{place[0]}/{place[-1]}/{key}:{self.tag}"

    def _first(self) -> Answer:
        try:
            return self._wire.ask("GET", self.key, headers={"range": f"bytes=0-{PART - 1}"})
        except S3Fault as err:
            # Of an empty object there is no first byte.
            if err.word != "InvalidRange":
                raise
        return self._wire.ask("HEAD", self.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held but memory."""
        self._window = memoryview(b"")

    def read_at(self, offset: int, block: memoryview) -> int:
        """Fill the block from there; see `Reader.read_at`."""
        size = self.size or 0
        count = min(len(block), size - offset)
        if count <= 0:
            return 0
        head = self._window[offset : offset + count] if not self._start else self._window[:0]
        block[: len(head)] = head
        if len(head) < count:
            self._get(offset + len(head), block[len(head) : count])
        return count

    def _get(self, offset: int, block: memoryview) -> None:
        headers = {"range": f"bytes={offset}-{offset + len(block) - 1}", "if-match": f'"{self.tag}"'}
        answer = self._wire.ask("GET", self.key, headers=headers, into=block)
        # Some servers do not know If-Match (rclone's, for one), and some no ranges.
        if answer.etag != self.tag:
            raise Fault(
                "FILE_SIZE_CHANGED", f"{self.key} changed while it was read; move it again when it is complete."
            )
        if answer.placed != len(block) or not answer.headers["Content-Range"]:
            raise Fault("ENDPOINT_ERROR", f"S3 did not send the range of {self.key} that it was asked for.")

    def readinto(self, block: memoryview) -> int:
        """Fill the block from where the last call ended, a part being got at a time; see `Reader.readinto`."""
        left = (self.size or 0) - self._at
        if left > 0 and self._at >= self._start + len(self._window):
            window = memoryview(bytearray(min(PART, left)))
            self._get(self._at, window)
            self._window, self._start = window, self._at
        found = self._window[self._at - self._start :][: len(block)]
        block[: len(found)] = found
        self._at += len(found)
        return len(found)

    def changed(self) -> bool:
        """Answer no: all that was read was of one state, or the reading has failed."""
        return False


class S3Draft:
    """An object that is being written; nobody sees it before `commit`.

    Up to one part it is kept in memory and sent in one request. Otherwise its parts are sent as they come; those of an
    upload that lost its writer are kept where they have the MD5 of ours.

    Parameters
    ----------
    wire, place, key
        See `S3Reader`.
    size : int or None
        Bytes, where that is known.
    wishes : mapping of str to str
        Headers for the new object.
    """

    def __init__(
        self, wire: Wire, place: tuple[str, ...], key: str, size: int | None, wishes: Mapping[str, str]
    ) -> None:
        self._wire, self._place, self._key, self._wishes = wire, place, key, wishes
        least = -(-(size or 0) // MOST_PARTS)
        # In whole MiB, and the same for the same size, so that a second run cuts the content at the same places.
        self._part = max(PART, -(-least // (1 << 20)) << 20)
        self.part: int | None = None if size is None else self._part
        self._in_parts = (size or 0) > self._part
        self.proves = True
        #: Parts that had to be sent; fewer than there are where a dead writer's are kept.
        self.sent = 0
        self._pending = bytearray()
        self._next = 1
        self._upload = ""
        self._record: Record | None = None
        self._there: dict[int, tuple[str, int]] = {}
        self._tags: dict[int, str] = {}
        self._plain = True
        self._lock = threading.Lock()
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def kept(self, offset: int, count: int) -> bool:
        """Answer no: `write_at` sees by the content that a part is there already, and does not send it."""
        del offset, count
        return False

    def whole(self, offset: int, digest: bytes) -> None:
        """Note nothing: S3 keeps the MD5 of each part."""
        del offset, digest

    def take(self, reader: Reader, offset: int, count: int) -> bool:
        """Have the server copy a part, where both objects are on one and it is asked by the same user."""
        if not isinstance(reader, S3Reader) or reader.place[:-1] != self._place[:-1] or not self._in_parts:
            return False
        number = offset // self._part + 1
        headers = {
            "x-amz-copy-source": escaped(f"{reader.place[-1]}/{reader.key}", safe="/"),
            "x-amz-copy-source-range": f"bytes={offset}-{offset + count - 1}",
            "x-amz-copy-source-if-match": f'"{reader.tag}"',
        }
        answer = self._wire.ask("PUT", self._key, query=self._of_part(number), headers=headers)
        self._tags[number] = (answer.xml().findtext("ETag") or "").strip('"')
        return True

    def write(self, block: memoryview) -> None:
        """Append the block; whole parts are sent."""
        self._pending += block
        while len(self._pending) > self._part:
            self._send(self._next, memoryview(bytes(self._pending[: self._part])))
            del self._pending[: self._part]
            self._next += 1

    def write_at(self, offset: int, block: memoryview) -> None:
        """Send one part, unless it is there already."""
        self._send(offset // self._part + 1, block)

    def _send(self, number: int, block: memoryview) -> None:
        digest = digest_of(block)
        query = self._of_part(number)
        if self._there.get(number) != (digest.hexdigest(), len(block)):
            headers = {"content-md5": b64encode(digest.digest()).decode()}
            answer = self._wire.ask("PUT", self._key, query=query, headers=headers, body=block)
            self._plain = self._plain and answer.tag_is_md5
            self._prove(answer, digest.hexdigest())
            self._tags[number] = answer.etag
            self.sent += 1
        else:
            self._tags[number] = digest.hexdigest()

    def _prove(self, answer: Answer, digest: str) -> None:
        """Compare the server's MD5 with ours; where it does not tell its own, it has compared them itself."""
        if answer.tag_is_md5 and answer.etag != digest:
            raise Fault("VERIFY_CHECKSUM", f"{self._key} was sent, but what S3 got has another checksum.")

    def _of_part(self, number: int) -> dict[str, str]:
        with self._lock:
            if not self._upload:
                self._begin()
        return {"partNumber": str(number), "uploadId": self._upload}

    def _begin(self) -> None:
        """Continue the upload of a dead writer, or begin one."""
        where = "\n".join(self._place)
        for record in dead(where, self._key):
            if not self._upload and record.part == self._part and self._listed(record):
                self._upload, self._record = record.upload, record
            elif record.part != self._part:
                self._abort(record.upload)
                record.remove()
            else:
                record.release()
        if not self._upload:
            answer = self._wire.ask("POST", self._key, query={"uploads": ""}, headers=self._wishes)
            self._upload = answer.xml().findtext("UploadId") or ""
            self._record = begin(where, self._key, self._upload, self._part)

    def _listed(self, record: Record) -> bool:
        """Take note of the parts of an upload; False if the upload is gone."""
        query, there = {"uploadId": record.upload}, {}
        try:
            while True:
                page = self._wire.ask("GET", self._key, query=query).xml()
                for part in page.iterfind("Part"):
                    tag, size = (part.findtext("ETag") or "").strip('"'), int(part.findtext("Size") or 0)
                    there[int(part.findtext("PartNumber") or 0)] = (tag, size)
                if page.findtext("IsTruncated") != "true":
                    break
                query["part-number-marker"] = page.findtext("NextPartNumberMarker") or ""
        except FileNotFoundError:
            return False
        self._there = there
        return True

    def read_back(self) -> S3Reader:
        """Not asked of a draft that proves what it writes."""
        raise NotImplementedError

    def commit(self, mtime: float | None) -> None:
        """Send what is left, and have it seen; S3 sets the time itself."""
        del mtime
        if self._upload:
            if self._pending:
                self._send(self._next, memoryview(self._pending))
            self._complete()
        else:
            digest = digest_of(self._pending)
            headers = {"content-md5": b64encode(digest.digest()).decode(), **self._wishes}
            answer = self._wire.ask("PUT", self._key, headers=headers, body=self._pending)
            try:
                self._prove(answer, digest.hexdigest())
            except Fault:
                # Only of a server that does not look at Content-MD5: it shows what is wrong already.
                self._wire.ask("DELETE", self._key)
                raise
        self._committed = True
        if self._record is not None:
            self._record.remove()

    def _complete(self) -> None:
        tags = sorted(self._tags.items())
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{tag}&quot;</ETag></Part>" for number, tag in tags
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        expected = ""
        if self._plain and all(is_md5(tag) for _, tag in tags):
            expected = digest_of(b"".join(unhexlify(tag) for _, tag in tags)).hexdigest() + f"-{len(tags)}"
        try:
            answer = self._wire.ask("POST", self._key, query={"uploadId": self._upload}, body=body)
            got = (answer.xml().findtext("ETag") or "").strip('"')
        except FileNotFoundError:
            # The answer to a first request may have been lost, after which there is no upload any more.
            got = self._wire.ask("HEAD", self._key).etag
            if got != expected:
                raise
        if expected and "-" in got and got != expected:
            raise Fault("VERIFY_CHECKSUM", f"{self._key} was sent in parts, but S3 has put others together.")

    def _abort(self, upload: str) -> None:
        try:
            self._wire.ask("DELETE", self._key, query={"uploadId": upload})
        except (FileNotFoundError, S3Fault):
            # It is gone, or the server is; then its record is, too, and the bucket's own rules have to see to it.
            return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort what was not committed; but if the trouble may pass, leave it to the next try."""
        if self._committed or not self._upload:
            return
        if self._record is not None and isinstance(error, S3Fault) and error.transient:
            self._record.release()
            return
        self._abort(self._upload)
        if self._record is not None:
            self._record.remove()
