"""What the store of objects asks of S3, by `Bucket`."""

from __future__ import annotations

from itertools import groupby, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.objects.client import Client, Listing, ObjectInfo, all_pages
from chiltepin.backends.filesystem.stores.s3.etags import digest_of, is_md5, tag_is_plain
from chiltepin.backends.filesystem.stores.s3.reader import S3Reader
from chiltepin.backends.filesystem.stores.s3.upload import S3Upload, is_wrong
from chiltepin.backends.filesystem.stores.same_server import AWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.stores.s3.bucket import Bucket

__all__ = ["S3Client"]

#: Pages without a delimiter that are read, at most, to find out whether a server lists all folders with one.
SAMPLE = 10


class S3Client(Client):
    """The way to one bucket of an S3 server; see `Client`."""

    store = "S3"

    def __init__(self, opened: Bucket) -> None:
        self.opened, self.server, self.bucket = opened, opened.endpoint, opened.name
        #: Whether a listing with a delimiter has all folders; None: not known yet.
        self._delimits = True if (urlsplit(self.server).hostname or "").endswith(AWS) else None

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of what begins with a prefix."""
        query: dict[str, Any] = {"Prefix": prefix, "MaxKeys": count}
        if not deep:
            query["Delimiter"] = "/"
        if token:
            query["ContinuationToken"] = token
        page = self.opened.call("list_objects_v2", **query)
        following = page.get("NextContinuationToken", "") if page.get("IsTruncated") else ""
        if page.get("IsTruncated") and not following:
            raise Fault("ENDPOINT_ERROR", f"S3 sent only a part of the listing of {prefix!r}; try again.")
        objects = [
            ObjectInfo(
                key=item["Key"],
                size=item["Size"],
                mtime=item["LastModified"].timestamp(),
                version=item.get("ETag", "").strip('"'),
            )
            for item in page.get("Contents", ())
        ]
        return Listing(objects, [item["Prefix"] for item in page.get("CommonPrefixes", ())], following)

    def pages(self, prefix: str, *, count: int) -> Iterator[Listing]:
        """Yield all pages of what is in a folder, with a delimiter where that leaves out nothing.

        s3rver 3.7 leaves out a folder that holds only folders. So a listing without a delimiter, which every server has
        complete, is looked at first: it may be all, or have such a folder, by which the server shows what it does.
        """
        sample: list[Listing] = []
        if self._delimits is None:
            for page in islice(all_pages(self, prefix, count=count, deep=True), SAMPLE):
                sample.append(page)
                if not page.token:
                    yield from (_shallow(prefix, each) for each in sample)
                    return
                if telling := _folder_of_folders(prefix, sample):
                    self._delimits = self._lists(telling)
                    break
        if self._delimits is not False:
            yield from all_pages(self, prefix, count=count)
            return
        for page in all_pages(self, prefix, count=count, deep=True):
            yield _shallow(prefix, page)

    def _lists(self, folder: str) -> bool:
        """Whether a folder that exists is listed with a delimiter."""
        return any(folder in page.prefixes for page in all_pages(self, folder[:-1], count=1000))

    def head(self, key: str) -> ObjectInfo:
        """Return what S3 tells of an object."""
        size, mtime, tag = self.opened.head(key)
        return ObjectInfo(key=key, size=size, mtime=mtime, version=tag)

    def read(self, key: str) -> S3Reader:
        """Open an object, its first part being got by that."""
        return S3Reader(self.opened, key)

    def put(self, key: str, content: Buffer) -> None:
        """Send an object in one request, and see by its entity tag that S3 has got it; else it is removed again."""
        tag = self.opened.put(key, content)
        # With keys of KMS the tag is something else; there the signature, which holds a SHA-256, has to do.
        if not is_md5(tag) or tag == digest_of(content).hexdigest():
            return
        if tag_is_plain(self.opened.call("head_object", key)):
            # Only of a server that does not look at the signature: it shows what is wrong already.
            self.delete(key)
            raise is_wrong(key)

    def upload(self, key: str, size: int | None) -> S3Upload:
        """Begin an object of several parts."""
        return S3Upload(self.opened, key, size)

    def delete(self, key: str) -> None:
        """Delete an object; S3 does not say whether there was one."""
        self.opened.call("delete_object", key)

    def keep_folder(self, prefix: str) -> None:
        """Make the object that keeps an empty folder; not by obstore, which leaves the slash away."""
        if prefix:
            self.opened.call("put_object", prefix, Body=b"")


def _shallow(prefix: str, page: Listing) -> Listing:
    """Return what a page without a delimiter would be with one."""
    objects, folders = [], dict[str, None]()
    for found in page.objects:
        name, slash, _ = found.key[len(prefix) :].partition("/")
        if slash and found.key.startswith(prefix):
            folders[f"{prefix}{name}/"] = None
        else:
            objects.append(found)
    return Listing(objects, list(folders), page.token)


def _folder_of_folders(prefix: str, pages: list[Listing]) -> str:
    """Return a folder below a prefix that holds only folders, if pages without a delimiter have all of one."""
    keys = [found.key[len(prefix) :].split("/", 2) for page in pages for found in page.objects]
    folders = [(name, list(parts)) for name, parts in groupby(keys, key=lambda parts: parts[0])]
    # What comes last may go on on the next page.
    return next((f"{prefix}{name}/" for name, parts in folders[:-1] if name and min(map(len, parts)) > 2), "")  # noqa: PLR2004
