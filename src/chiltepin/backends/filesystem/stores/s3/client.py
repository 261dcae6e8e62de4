"""The object store's client for S3, on top of `Bucket`."""

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

#: Most pages read without a delimiter to find out whether a server lists all folders with one.
SAMPLE = 10


class S3Client(Client):
    """A client for one bucket of an S3 server; see `Client`."""

    store = "S3"

    def __init__(self, opened: Bucket) -> None:
        self.opened, self.server, self.bucket = opened, opened.endpoint, opened.name
        #: Whether a listing with a delimiter has all folders; None: not known yet.
        self._delimits = True if (urlsplit(self.server).hostname or "").endswith(AWS) else None

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of the objects below a prefix."""
        query: dict[str, Any] = {"Prefix": prefix, "MaxKeys": count}
        if not deep:
            query["Delimiter"] = "/"
        if token:
            query["ContinuationToken"] = token
        page = self.opened.call("list_objects_v2", **query)
        # A page that names the next one is not the last, whatever its flag says.
        following = page.get("NextContinuationToken", "")
        if not following and page.get("IsTruncated", bool(page.get("NextMarker"))):
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
        """Yield all pages of a folder, listed with a delimiter if the server then omits nothing.

        s3rver 3.7 omits a folder that holds only folders. So the first pages are listed without a delimiter, which is
        complete on every server: they may be all, or contain such a folder to test the server with.
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
        """Whether a listing with a delimiter contains an existing folder."""
        return any(folder in page.prefixes for page in all_pages(self, folder[:-1], count=1000))

    def head(self, key: str) -> ObjectInfo:
        """Return the description of an object."""
        size, mtime, tag = self.opened.head(key)
        return ObjectInfo(key=key, size=size, mtime=mtime, version=tag)

    def read(self, key: str) -> S3Reader:
        """Open an object and read its first part."""
        return S3Reader(self.opened, key)

    def put(self, key: str, content: Buffer) -> None:
        """Send an object in one request and verify its entity tag; delete the object if that differs."""
        tag = self.opened.put(key, content)
        # With KMS keys the tag is not an MD5; the signature, which contains a SHA-256, has to suffice.
        if not is_md5(tag) or tag == digest_of(content).hexdigest():
            return
        if tag_is_plain(self.opened.call("head_object", key)):
            # Only a server that ignores the signature gets here, and it already shows the wrong object.
            self.delete(key)
            raise is_wrong(key)

    def upload(self, key: str, size: int | None) -> S3Upload:
        """Begin a multipart upload."""
        return S3Upload(self.opened, key, size)

    def delete(self, key: str) -> None:
        """Delete an object; S3 does not say whether there was one."""
        self.opened.call("delete_object", key)


def _shallow(prefix: str, page: Listing) -> Listing:
    """Convert a page listed without a delimiter to one listed with it."""
    objects, folders = [], dict[str, None]()
    for found in page.objects:
        name, slash, _ = found.key[len(prefix) :].partition("/")
        if slash and found.key.startswith(prefix):
            folders[f"{prefix}{name}/"] = None
        else:
            objects.append(found)
    return Listing(objects, list(folders), page.token)


def _folder_of_folders(prefix: str, pages: list[Listing]) -> str:
    """Return a folder that holds only folders, if the pages contain all of one; else an empty string."""
    keys = [found.key[len(prefix) :].split("/", 2) for page in pages for found in page.objects]
    folders = [(name, list(parts)) for name, parts in groupby(keys, key=lambda parts: parts[0])]
    # The last folder may continue on the next page.
    return next((f"{prefix}{name}/" for name, parts in folders[:-1] if name and min(map(len, parts)) > 2), "")  # noqa: PLR2004
