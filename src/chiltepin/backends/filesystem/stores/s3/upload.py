"""A multipart upload to an S3 server."""

from __future__ import annotations

import threading
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.objects.client import Upload
from chiltepin.backends.filesystem.stores.objects.part_size import part_size
from chiltepin.backends.filesystem.stores.s3.errors import S3Fault
from chiltepin.backends.filesystem.stores.s3.etags import digest_of, is_md5, tag_is_plain, tag_of_parts
from chiltepin.backends.filesystem.stores.s3.reader import S3Reader
from chiltepin.backends.filesystem.stores.s3.unfinished_uploads import Record, begin, dead

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.store import Reader
    from chiltepin.backends.filesystem.stores.s3.bucket import Bucket

__all__ = ["S3Upload", "is_wrong"]

#: Most parts of one upload (S3 API, "Amazon S3 multipart upload limits").
_MOST_PARTS = 10_000


def is_wrong(key: str) -> Fault:
    """Return the fault for an object or part that S3 received with other content."""
    return Fault("VERIFY_CHECKSUM", f"{key} was sent, but the checksum of what S3 received differs.")


class S3Upload(Upload):
    """A multipart upload; it keeps the parts of an abandoned upload that have the same MD5.

    ``size`` is None if unknown.
    """

    def __init__(self, bucket: Bucket, key: str, size: int | None) -> None:
        self._bucket, self._key = bucket, key
        self.part: int = part_size(size, _MOST_PARTS)
        #: Parts that were sent; a dead writer's parts that are kept do not count.
        self.sent = 0
        self._upload = ""
        self._record: Record | None = None
        self._there: dict[int, tuple[str, int]] = {}
        self._tags: dict[int, str] = {}
        self._plain = True
        self._lock = threading.Lock()

    def copy_part(self, reader: Reader, offset: int, count: int) -> bool:
        """Copy a part on the server if it holds both objects and the user is the same."""
        if not isinstance(reader, S3Reader) or reader.bucket.who != self._bucket.who:
            return False
        number = offset // self.part + 1
        answer = self._call(
            "upload_part_copy",
            number,
            CopySource={"Bucket": reader.bucket.name, "Key": reader.key},
            CopySourceRange=f"bytes={offset}-{offset + count - 1}",
            CopySourceIfMatch=f'"{reader.tag}"',
        )
        # rclone returns no tag, and the upload cannot be completed without it.
        tag = answer.get("CopyPartResult", {}).get("ETag", "").strip('"')
        if tag:
            self._tags[number] = tag
        return bool(tag)

    def send(self, offset: int, block: memoryview, *, last: bool) -> None:
        """Send one part, unless S3 already has it."""
        del last
        number, digest = offset // self.part + 1, digest_of(block)
        self._ready()
        if self._there.get(number) == (digest.hexdigest(), len(block)):
            self._tags[number] = digest.hexdigest()
            return
        # S3 compares the content with this digest.
        sent = b64encode(digest.digest()).decode()
        # botocore cannot send a memoryview a second time, so it gets the object viewed, or a copy.
        viewed = block.obj
        body = viewed if isinstance(viewed, bytes | bytearray) and len(viewed) == len(block) else bytes(block)
        answer = self._call("upload_part", number, Body=body, ContentMD5=sent)
        tag = answer["ETag"].strip('"')
        if not tag_is_plain(answer):
            self._plain = False
        elif is_md5(tag) and tag != digest.hexdigest():
            raise is_wrong(self._key)
        self._tags[number] = tag
        self.sent += 1
        if self._record is not None:
            self._record.touch()

    def _call(self, method: str, number: int, **given: Any) -> dict[str, Any]:
        self._ready()
        return self._bucket.call(method, self._key, PartNumber=number, UploadId=self._upload, **given)

    def _ready(self) -> None:
        """On the first call, continue an abandoned upload or begin a new one."""
        with self._lock:
            if not self._upload:
                self._begin()

    def _begin(self) -> None:
        where = self._bucket.place
        for record in dead(where, self._key):
            # The writer of an old upload may be on another host and still be sending.
            if not self._upload and not record.old and record.part == self.part and self._listed(record):
                self._upload, self._record = record.upload, record
            else:
                # No other transfer will continue it, because this one writes the object.
                self._abort(record.upload)
                record.remove()
        if not self._upload:
            object_options = self._bucket.settings.object_options
            self._upload = self._bucket.call("create_multipart_upload", self._key, **object_options)["UploadId"]
            self._record = begin(where, self._key, self._upload, self.part)

    def _listed(self, record: Record) -> bool:
        """Record the parts of an upload; False if it is gone or they cannot be listed."""
        there: dict[int, tuple[str, int]] = {}
        after = 0
        try:
            while True:
                page = self._bucket.call(
                    "list_parts", self._key, UploadId=record.upload, **({"PartNumberMarker": after} if after else {})
                )
                for part in page.get("Parts", ()):
                    there[part["PartNumber"]] = (part["ETag"].strip('"'), part["Size"])
                if not page.get("IsTruncated"):
                    break
                before, after = after, int(page.get("NextPartNumberMarker") or 0)
                if after <= before:
                    # A listing that does not advance would never end; all parts are sent again.
                    return False
        except (FileNotFoundError, LookupError):
            # It is gone, or the list lacks a value.
            return False
        except S3Fault as err:
            if err.transient:
                raise
            return False
        self._there = there
        return True

    def finish(self) -> None:
        """Complete the upload and delete its record."""
        self._complete()
        if self._record is not None:
            self._record.remove()

    def _complete(self) -> None:
        tags = [tag for _, tag in sorted(self._tags.items())]
        parts = [{"PartNumber": number, "ETag": f'"{tag}"'} for number, tag in sorted(self._tags.items())]
        plain = self._plain and all(is_md5(tag) for tag in tags)
        expected = tag_of_parts(bytes.fromhex(tag) for tag in tags) if plain else ""
        try:
            answer = self._bucket.call(
                "complete_multipart_upload", self._key, UploadId=self._upload, MultipartUpload={"Parts": parts}
            )
            got = answer["ETag"].strip('"')
        except FileNotFoundError:
            # An earlier request may have completed the upload, its response being lost.
            _, _, got = self._bucket.head(self._key)
            if got != expected:
                raise
        if expected and "-" in got and got != expected:
            raise Fault("VERIFY_CHECKSUM", f"{self._key} was sent in parts, but S3 assembled different parts.")

    def abort(self, error: BaseException | None) -> None:
        """Abort the upload; after a transient error, keep it for the next try."""
        if not self._upload:
            return
        if self._record is not None and isinstance(error, S3Fault) and error.transient:
            self._record.release()
            return
        self._abort(self._upload)
        if self._record is not None:
            self._record.remove()

    def _abort(self, upload: str) -> None:
        # If this fails, the record is deleted all the same, and the bucket's lifecycle rules have to remove the parts.
        with suppress(FileNotFoundError, S3Fault):
            self._bucket.call("abort_multipart_upload", self._key, UploadId=upload)
