"""What the store of objects asks of S3, by `Bucket`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.stores.objects.client import Client, Listing, ObjectInfo
from chiltepin.backends.filesystem.stores.s3.etags import digest_of, is_md5, tag_is_plain
from chiltepin.backends.filesystem.stores.s3.reader import S3Reader
from chiltepin.backends.filesystem.stores.s3.upload import S3Upload, is_wrong

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.stores.s3.bucket import Bucket

__all__ = ["S3Client"]


class S3Client(Client):
    """The way to one bucket of an S3 server; see `Client`."""

    store = "S3"

    def __init__(self, opened: Bucket) -> None:
        self.opened, self.server, self.bucket = opened, opened.endpoint, opened.name

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
                version=item["ETag"].strip('"'),
            )
            for item in page.get("Contents", ())
        ]
        return Listing(objects, [item["Prefix"] for item in page.get("CommonPrefixes", ())], following)

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
