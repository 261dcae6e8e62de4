"""A bucket of an S3 server, or a folder in it, as a store; the server copies, and deletes many objects at once."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.checksums import verify_content
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import SMALL, Entry
from chiltepin.backends.filesystem.stores.objects.store import UNWRITABLE, ObjectEntry, ObjectFolder, ObjectStore
from chiltepin.backends.filesystem.stores.s3.bucket import Bucket
from chiltepin.backends.filesystem.stores.s3.client import S3Client
from chiltepin.backends.filesystem.stores.s3.config import settings_of
from chiltepin.backends.filesystem.stores.s3.errors import S3Fault
from chiltepin.backends.filesystem.stores.s3.etags import is_md5, tag_is_plain
from chiltepin.backends.filesystem.stores.s3.reader import S3Reader
from chiltepin.backends.filesystem.stores.s3.unfinished_uploads import dead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chiltepin.backends.filesystem.store import CopyOptions, Folder, Small
    from chiltepin.backends.filesystem.stores.s3.unfinished_uploads import Record
    from chiltepin.protocol.paths import Parts

__all__ = ["S3Store"]

#: Most names in one delete request (S3 API, DeleteObjects).
DELETED_AT_ONCE = 1000

#: Bytes of the largest object that one request copies (S3 API, CopyObject).
MOST_COPIED = 5 << 30


class S3Entry(ObjectEntry):
    """An entry of a listing, with the entity tag that identifies its content."""

    __slots__ = ()

    #: Some servers list milliseconds, but HTTP's Last-Modified has whole seconds (RFC 9110, 5.6.7).
    unit = 10**9


class S3Folder(ObjectFolder):
    """The objects below a prefix."""

    store: S3Store

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Copy on the server if it holds both folders and the user is the same; else send a small object whole."""
        if not isinstance(origin, S3Folder) or origin.store.bucket.who != self.store.bucket.who:
            return self._take_small(origin, entry, name, options) if entry.fits(SMALL) else None
        if options.checksum or not entry.fits(MOST_COPIED):
            return None
        self.begin(name)
        tag = entry.version if isinstance(entry, S3Entry) else ""
        bucket, key = self.store.bucket, self.prefix + name
        given = {**bucket.settings.object_options, **({"CopySourceIfMatch": f'"{tag}"'} if tag else {})}
        source = {"Bucket": origin.store.bucket.name, "Key": origin.prefix + entry.name}
        try:
            answer = bucket.call("copy_object", key, CopySource=source, **given)
        except FileNotFoundError:
            # s3rver 3.7 does not find a source with one of `?#:&=+$,` in its name. Reading it shows whether it is gone.
            return None
        copied = answer["CopyObjectResult"].get("ETag", "").strip('"')
        if (
            options.verify
            and is_md5(tag)
            and is_md5(copied)
            and tag != copied
            and self._is_wrong(origin, entry, answer)
        ):
            bucket.call("delete_object", key)
            raise Fault("VERIFY_CHECKSUM", f"{name} was copied by the server, but the checksum of the copy differs.")
        return entry.size

    def _take_small(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        small = origin.read_small(entry)
        if small is None:
            return None
        if options.checksum:
            verify_content(options.checksum, small.content, name)
        self.begin(name)
        self.store.client.put(self.prefix + name, small.content)
        return small.size

    def read_small(self, entry: Entry) -> Small | None:
        """Get a small object in one request; see `Folder.read_small`."""
        with S3Reader(self.store.bucket, self.prefix + entry.name) as reader:
            return reader.small()

    @staticmethod
    def _is_wrong(origin: S3Folder, entry: Entry, answer: Mapping[str, Any]) -> bool:
        """Whether the differing entity tags of a copy and its source should be equal."""
        return tag_is_plain(answer) and tag_is_plain(
            origin.store.bucket.call("head_object", origin.prefix + entry.name)
        )

    def remove_keys(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove objects, up to a thousand in one request."""
        # The XML of a delete request cannot contain these names.
        yield from super().remove_keys([name for name in names if UNWRITABLE.search(name)])
        names = [name for name in names if not UNWRITABLE.search(name)]
        for start in range(0, len(names), DELETED_AT_ONCE):
            yield from self._removed(names[start : start + DELETED_AT_ONCE])

    def _removed(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        keys = [{"Key": self.prefix + name} for name in names]
        answer = self.store.bucket.call("delete_objects", Delete={"Quiet": True, "Objects": keys})
        for error in answer.get("Errors", ()):
            word, name = error.get("Code", ""), error.get("Key", "")[len(self.prefix) :]
            code = "PERMISSION_DENIED" if word == "AccessDenied" else "ENDPOINT_ERROR"
            passing = word in ("InternalError", "SlowDown", "ServiceUnavailable")
            yield name, S3Fault(code, f"S3 did not delete {name!r}: {word}.", transient=passing, word=word)


class S3Store(ObjectStore):
    """The tree below ``s3://bucket/folder``, with the options of s3fs; see `config`."""

    folder_type = S3Folder
    entry_type = S3Entry

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        settings, root = settings_of(url, options)
        self.bucket = Bucket(settings)
        super().__init__(S3Client(self.bucket), root)
        self._swept = False
        self._lock = threading.Lock()

    def folder(self, parts: Parts, *, create: bool = False) -> ObjectFolder:
        """Open a folder; before the first write, sweep the uploads of dead writers."""
        if create:
            self.sweep_once()
        return super().folder(parts, create=create)

    def sweep_once(self) -> None:
        """Before the first write, abort uploads to the bucket that dead writers of this user left a day ago.

        A newer record is removed only if S3 no longer has the upload: its writer died after the last request.
        """
        # Held throughout: this locks each record that it checks, and another thread would not find it.
        with self._lock:
            if self._swept:
                return
            self._swept = True
            for record in dead(self.bucket.place):
                if not record.old and self._is_there(record):
                    record.release()
                    continue
                with suppress(FileNotFoundError, S3Fault):
                    self.bucket.call("abort_multipart_upload", record.key, UploadId=record.upload)
                record.remove()

    def _is_there(self, record: Record) -> bool:
        try:
            self.bucket.call("list_parts", record.key, UploadId=record.upload, MaxParts=1)
        except FileNotFoundError:
            return False
        except S3Fault:
            # Unknown; after a day the upload is aborted in any case.
            return True
        return True
