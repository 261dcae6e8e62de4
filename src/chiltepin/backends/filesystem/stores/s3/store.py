"""A bucket of an S3 server, or a folder in it, as a store.

There are no folders in S3, only names with slashes in them. A folder is there if any name begins with it; an empty one
is kept by an object of its name with a slash at the end and nothing in it, as Globus, s3fs and the consoles do.

An object is seen when it is whole: S3 shows nothing of a request before its end, nor of a multipart upload before it is
completed (docs.aws.amazon.com, "Amazon S3 data consistency model"). So nothing is written under another name first.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.checksums import verify_content
from chiltepin.backends.filesystem.defaults import LinkFreeStore
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import SMALL, Entry, is_valid_name
from chiltepin.backends.filesystem.stores.s3.bucket import WIDTH, Bucket
from chiltepin.backends.filesystem.stores.s3.config import settings_of
from chiltepin.backends.filesystem.stores.s3.errors import S3Fault
from chiltepin.backends.filesystem.stores.s3.etags import is_md5, tag_is_plain
from chiltepin.backends.filesystem.stores.s3.reader import S3Reader
from chiltepin.backends.filesystem.stores.s3.unfinished_uploads import GRACE, dead
from chiltepin.backends.filesystem.stores.s3.upload import MOST_COPIED, S3Upload, put_whole
from chiltepin.backends.filesystem.stores.same_server import same_server
from chiltepin.backends.filesystem.temp_names import is_temp_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from chiltepin.backends.filesystem.store import CopyOptions, Folder, Small, Store
    from chiltepin.backends.filesystem.stores.s3.unfinished_uploads import Record
    from chiltepin.paths import Parts

__all__ = ["S3Store"]

#: Names in one request to delete (S3 API, DeleteObjects).
DELETED_AT_ONCE = 1000

#: Empty pages of a listing, one after the other, that are read past; S3 sends them where much was deleted.
EMPTY_PAGES = 1000

#: What stands between two slashes in the name of an object, but means something else, or nothing, in a path.
_NAMELESS = frozenset({"", ".", ".."})

#: What XML 1.0 cannot write, or UTF-8, and S3 advises against (docs.aws.amazon.com, S3, "Naming Amazon S3 objects").
_UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class S3Entry(Entry):
    """An entry of a listing, with the entity tag that names its content."""

    __slots__ = ("etag",)

    #: Some servers list milliseconds, but Last-Modified of HTTP has whole seconds (RFC 9110, 5.6.7).
    unit = 10**9

    def __init__(
        self,
        name: str,
        kind: Any,
        size: int = 0,
        mtime: float | None = None,
        *,
        etag: str = "",
        fault: Fault | None = None,
    ) -> None:
        super().__init__(name, kind, size, mtime, fault)
        self.etag = etag


class S3Folder:
    """What lies below a prefix.

    Parameters
    ----------
    store : S3Store
        The store.
    prefix : str
        Empty, or with a slash at its end.
    fresh : bool
        Whether nothing was there and the folder is to be kept, also if it stays empty.
    """

    #: A folder has one name here.
    identity = None

    def __init__(self, store: S3Store, prefix: str, *, fresh: bool = False) -> None:
        self.store, self.prefix = store, prefix
        self._fresh, self._filled = fresh, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep a folder that was made and got nothing."""
        if self._fresh and not self._filled and error is None:
            # Not by obstore, which leaves the slash away.
            self.store.bucket.call("put_object", self.prefix, Body=b"")

    def entries(self, *, temp_files: bool = False) -> Iterator[Entry]:
        """Yield all entries, page by page; what has a name that no path can hold is of the kind ``other``.

        Raises
        ------
        FileNotFoundError, NotADirectoryError
            If nothing is below, as the folder is not looked for when it is opened.
        """
        del temp_files  # There are none: an upload has no name before it is complete.
        empty = not self._fresh
        for entry in self.store.listed(self.prefix):
            empty = False
            # Else it is the empty object that keeps the folder.
            if entry.name or entry.kind == "other":
                yield entry
        if empty:
            self.store.refuse_missing(self.prefix)

    def entry(self, name: str) -> Entry | None:
        """Return one entry, or None; where a file and a folder have one name, it is the file."""
        try:
            size, mtime, etag = self.store.bucket.head(self.prefix + name)
        except FileNotFoundError:
            return Entry(name, "dir") if self.store.any_below(f"{self.prefix}{name}/") else None
        return S3Entry(name, "file", size, mtime, etag=etag)

    def read(self, name: str) -> S3Reader:
        """Open an object, its first part being got by that."""
        return S3Reader(self.store.bucket, self.prefix + name)

    def copy_from(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        """Have the server copy, where both folders are on one, and it is asked by the same user; else send it whole."""
        if not isinstance(origin, S3Folder) or origin.store.bucket.who != self.store.bucket.who:
            return self._take_small(origin, entry, name, options) if entry.fits(SMALL) else None
        if options.checksum or not entry.fits(MOST_COPIED):
            return None
        self._refuse_folder(name)
        tag = entry.etag if isinstance(entry, S3Entry) else ""
        bucket, key = self.store.bucket, self.prefix + name
        given = {**bucket.settings.wishes, **({"CopySourceIfMatch": f'"{tag}"'} if tag else {})}
        source = {"Bucket": origin.store.bucket.name, "Key": origin.prefix + entry.name}
        try:
            answer = bucket.call("copy_object", key, CopySource=source, **given)
        except FileNotFoundError:
            # s3rver 3.7 does not find a source with one of `?#:&=+$,` in its name. Reading it shows whether it is gone.
            return None
        self._filled = True
        copied = answer["CopyObjectResult"]["ETag"].strip('"')
        if (
            options.verify
            and is_md5(tag)
            and is_md5(copied)
            and tag != copied
            and self._is_wrong(origin, entry, answer)
        ):
            bucket.call("delete_object", key)
            raise Fault("VERIFY_CHECKSUM", f"{name} was copied by the server, but the copy has another checksum.")
        return entry.size

    def _take_small(self, origin: Folder, entry: Entry, name: str, options: CopyOptions) -> int | None:
        small = origin.read_small(entry)
        if small is None:
            return None
        if options.checksum:
            verify_content(options.checksum, small.content, name)
        self._refuse_folder(name)
        self._filled = True
        put_whole(self.store.bucket, self.prefix + name, small.content)
        return small.size

    def read_small(self, entry: Entry) -> Small | None:
        """Get a small object in one request; see `Folder.read_small`."""
        with self.read(entry.name) as reader:
            return reader.small()

    @staticmethod
    def _is_wrong(origin: S3Folder, entry: Entry, answer: Mapping[str, Any]) -> bool:
        """Whether the tags of a copy and its origin, which are not the same, ought to be."""
        return tag_is_plain(answer) and tag_is_plain(
            origin.store.bucket.call("head_object", origin.prefix + entry.name)
        )

    def temp_file(self, name: str, *, size: int | None = None, content_id: str = "") -> S3Upload:
        """Begin an object; one that ends in a folder's name is refused."""
        del content_id  # What is kept of a dead upload is known by the content of its parts.
        self._refuse_folder(name)
        self._filled = True
        return S3Upload(self.store.bucket, self.prefix + name, size)

    def _refuse_folder(self, name: str) -> None:
        """Refuse a name that S3 cannot have, or that is a folder already: in S3 it could be both, but nowhere else."""
        if _UNWRITABLE.search(name):
            raise Fault("INVALID_PATH_NAME", f"S3 takes only names of printable characters in UTF-8, not {name!r}.")
        if not self._fresh and self.store.any_below(f"{self.prefix}{name}/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)

    def remove(self, name: str) -> None:
        """Remove an object; S3 does not say whether there was one."""
        for _, error in self.remove_all([name]):
            raise error

    def remove_all(self, names: Sequence[str]) -> Iterator[tuple[str, Exception]]:
        """Remove a thousand in one request."""
        for name in _NAMELESS.intersection(names):
            if self.store.any_below(f"{self.prefix}{name}/"):
                yield name, Fault("INVALID_PATH_NAME", f"Below {self.prefix}{name}/ are objects that no path can name.")
        # In the list of what is to go they cannot be written.
        for name in filter(_UNWRITABLE.search, names):
            self.store.bucket.call("delete_object", self.prefix + name)
        # An empty name is that of the object that keeps this folder, and is listed where it has content.
        names = [name for name in names if (self.prefix + name) and not _UNWRITABLE.search(name)]
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

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder: the object that keeps it, if there is one."""
        prefix = f"{self.prefix}{name}/"
        if any(key != prefix for key in self.store.some_keys(prefix)):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        self.store.bucket.call("delete_object", prefix)


class S3Store(LinkFreeStore[S3Folder]):
    """The tree below ``s3://bucket/folder``.

    Parameters
    ----------
    url : str
        The bucket, and the folder in it where there is one.
    options : mapping of str to Any
        As s3fs takes them; see `config`.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        settings, self.root = settings_of(url, options)
        self.bucket = Bucket(settings)
        self.width = self.least = WIDTH
        self.times, self.writable = False, True
        #: Entries of a listing that are in memory at a time; S3 gives a thousand at most.
        self.page = 1000
        self._swept = False
        self._lock = threading.Lock()

    def transient(self, error: Exception) -> bool:
        """See `Store.transient`."""
        return error.transient if isinstance(error, S3Fault) else isinstance(error, ConnectionError | TimeoutError)

    def prefix(self, parts: Parts) -> str:
        """Return what the names of all objects in a folder begin with."""
        names = (self.root, *parts) if self.root else parts
        return "".join(f"{name}/" for name in names)

    def folder(self, parts: Parts, *, create: bool = False) -> S3Folder:
        """Open a folder; one that is to be made is looked for now, another one when it is listed."""
        prefix = self.prefix(parts)
        if create:
            self.sweep_once()
        if not create or not parts or self.any_below(prefix):
            return S3Folder(self, prefix)
        for depth in range(len(parts), 0, -1):
            self._refuse_object(self.prefix(parts[:depth])[:-1])
        return S3Folder(self, prefix, fresh=True)

    def contains(self, parts: Parts, other: Store, other_parts: Parts) -> bool:
        """Compare the two names, if both are in one bucket of one server, by whatever URLs."""
        if not isinstance(other, S3Store) or self.bucket.name != other.bucket.name:
            return False
        if not other.prefix(other_parts).startswith(self.prefix(parts)):
            return False
        return same_server(self.bucket.endpoint, other.bucket.endpoint)

    def refuse_missing(self, prefix: str) -> None:
        """Raise what a folder below which nothing was found is instead; the root is always there."""
        if prefix != self.prefix(()):
            self._refuse_object(prefix[:-1])
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), prefix)

    def _refuse_object(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self.bucket.head(key)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), key)

    def any_below(self, prefix: str) -> bool:
        """Whether any object's name begins so."""
        return bool(self.some_keys(prefix, count=1))

    def some_keys(self, prefix: str, *, count: int = 2) -> list[str]:
        """Return the first few names that begin so."""
        page = self.bucket.call("list_objects_v2", Prefix=prefix, MaxKeys=count)
        return [item["Key"] for item in page.get("Contents", ())]

    def listed(self, prefix: str) -> Iterator[S3Entry]:
        """Yield what is directly below a prefix, itself included, page by page."""
        query: dict[str, Any] = {"Prefix": prefix, "Delimiter": "/", "MaxKeys": self.page}
        tokens: set[str] = set()
        empty = 0
        while True:
            page = self.bucket.call("list_objects_v2", **query)
            empty = 0 if page.get("Contents") or page.get("CommonPrefixes") else empty + 1
            if empty > EMPTY_PAGES:
                raise Fault("ENDPOINT_ERROR", f"S3 lists {prefix!r} page after page with nothing on it; try again.")
            for item in page.get("Contents", ()):
                name, mtime = _below(prefix, item["Key"]), item["LastModified"].timestamp()
                kind, fault = _kind(name, "file") if name else "dir", None
                if not name and item["Size"]:
                    kind, fault = "other", _is_data(prefix, item["Size"])
                yield S3Entry(name, kind, item["Size"], mtime, etag=item["ETag"].strip('"'), fault=fault)
            for item in page.get("CommonPrefixes", ()):
                name = _below(prefix, item["Prefix"][:-1])
                yield S3Entry(name, _kind(name, "dir"))
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken", "")
            if not token:
                raise Fault("ENDPOINT_ERROR", f"S3 sent only a part of the listing of {prefix!r}; try again.")
            if token in tokens:
                raise Fault("ENDPOINT_ERROR", f"S3 sent the same page of the listing of {prefix!r} again; try again.")
            tokens.add(token)
            query["ContinuationToken"] = token

    def sweep_once(self) -> None:
        """Abort what dead writers of this user left in the bucket a day ago, the first time that one writes there.

        Of what they left since, only what S3 does not know any more is forgotten: they died after the last request.
        """
        # Held all the time: a record that is looked at here is locked, and another thread would not find it.
        with self._lock:
            if self._swept:
                return
            self._swept = True
            for record in dead(self.bucket.place):
                if record.age < GRACE and self._is_there(record):
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
            # Nobody can know; the day after, it is aborted in any case.
            return True
        return True


def _below(prefix: str, key: str) -> str:
    """Return what of a key is below a prefix: a name, or one that no path can hold."""
    name = key.removeprefix(prefix)
    if not key.startswith(prefix) or (name not in _NAMELESS and not is_valid_name(name)):
        raise Fault(
            "INVALID_PATH_NAME", f"S3 lists {key!r} below {prefix!r}, where it is not; its answer makes no sense."
        )
    return name


def _kind(name: str, kind: Any) -> Any:
    """Return the kind of an entry: no path can hold these names, so that nobody can ask for what has them."""
    return "other" if name in _NAMELESS or _UNWRITABLE.search(name) or is_temp_name(name) else kind


def _is_data(key: str, size: int) -> Fault:
    """Return the fault of an object that has the name of a folder and content."""
    reason = f"The S3 object {key!r} has {size} bytes and the name of a folder; rename it so that it can be copied."
    return Fault("INVALID_PATH_NAME", reason)
