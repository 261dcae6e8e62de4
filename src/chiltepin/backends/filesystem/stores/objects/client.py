"""The protocol of an object store's client for one bucket, and the errors that it raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.store import Reader

__all__ = [
    "BUSY",
    "WIDTH",
    "Client",
    "CloudFault",
    "Listing",
    "ObjectInfo",
    "Upload",
    "all_pages",
    "known_options",
    "place_in",
    "refusal",
]

#: Most requests in flight at once, for files and parts of files; parts then take at most 128 MiB of memory.
WIDTH = 16

#: Most consecutive empty pages of a listing that are skipped; S3 sends them after many deletions.
EMPTY_PAGES = 1000

#: HTTP statuses after which a retry may succeed (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4).
BUSY = frozenset({408, 429, 500, 502, 503, 504})

_CODES = {
    401: "PERMISSION_DENIED",
    403: "PERMISSION_DENIED",
    404: "FILE_NOT_FOUND",
    412: "FILE_SIZE_CHANGED",
}


class CloudFault(Fault):
    """A request that a store refused, or that failed; code and reason contain no key, token or URL.

    If it is ``transient``, the same request may succeed later.
    """

    def __init__(self, code: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(code, reason)
        self.transient = transient


def refusal(store: str, status: int, word: str, what: str) -> CloudFault:
    """Return the fault for an error response.

    ``store`` is the name of the service, ``word`` its error code, if any, and ``what`` the object or container.
    """
    said = f"{word} ({status})" if word else f"status {status}"
    reason = f"{store} answered {said} to a request for {what}."
    return CloudFault(_CODES.get(status, "ENDPOINT_ERROR"), reason, transient=status in BUSY)


def place_in(url: str) -> tuple[str, str]:
    """Return the part of a URL between ``://`` and the next slash, and the folder after it, without outer slashes.

    If the former is missing, or the folder contains ``.`` or ``..``, raise ConfigError.
    """
    # Not by urlsplit, as a folder may have '#' and '?' in its name.
    authority, _, path = url.partition("://")[2].partition("/")
    if not authority:
        raise ConfigError(f"{url!r} names no bucket; write one such as '{url.partition(':')[0]}://bucket/folder'.")
    names = [name for name in path.split("/") if name]
    if {".", ".."}.intersection(names):
        raise ConfigError(f"{url!r} contains '.' or '..'; write the prefix as it is in the names of the objects.")
    return authority, "/".join(names)


def known_options(
    store: str, given: Iterable[str], known: Collection[str], unused: Collection[str] = (), *, within: str = ""
) -> None:
    """Raise ConfigError for an option that is neither known nor one that only tunes fsspec's own filesystem."""
    for name in given:
        if name not in known and name not in unused:
            raise ConfigError(f"{store} has no option {within + name!r}; {suggest(name, known)}")


# Not frozen, for speed: each line of a listing makes one.
@dataclass(slots=True, kw_only=True)
class ObjectInfo:
    """The description of one object.

    ``mtime`` is in seconds since 1970 UTC. ``version`` is an id of this content, which changes when the object is
    replaced. ``md5`` and ``crc32c`` are digests of the whole content; empty if unknown. ``is_folder`` tells whether it
    only marks a folder of its name. ``encoding`` is its ``Content-Encoding``.
    """

    key: str
    size: int
    mtime: float
    version: str
    md5: bytes = b""
    crc32c: bytes = b""
    is_folder: bool = False
    encoding: str = ""


class Listing(NamedTuple):
    """One page of a listing."""

    objects: Sequence[ObjectInfo]
    #: Common prefixes of the objects further down, up to the next slash.
    prefixes: Sequence[str]
    #: The token for the next page; empty after the last page.
    token: str


class Upload(Protocol):
    """An object that is sent in parts; it is visible when `finish` returns."""

    #: Part size in bytes if parts may be sent in any order and from several threads; None if only in order.
    part: int | None

    def send(self, offset: int, block: memoryview, *, last: bool) -> None:
        """Send one part, `PART` or ``part`` bytes unless it is the last; the store verifies it."""
        ...

    def copy_part(self, reader: Reader, offset: int, count: int) -> bool:
        """Copy a part on the server; False if it cannot."""
        del reader, offset, count
        return False

    def finish(self) -> None:
        """Make the object visible, replacing an existing one."""
        ...

    def abort(self, error: BaseException | None) -> None:
        """Discard the parts sent; ``error`` is the cause, if there is one."""
        ...


class Client(Protocol):
    """Access to one bucket or container.

    Each method may raise `CloudFault`, and FileNotFoundError for an object that does not exist; threads may share it.
    """

    #: The name of the service, for messages.
    store: str
    #: The URL of the server, and the bucket or container.
    server: str
    bucket: str

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of the objects below a prefix; ``deep`` also lists those below the next slash."""
        ...

    def pages(self, prefix: str, *, count: int) -> Iterator[Listing]:
        """Yield all pages of a folder."""
        return all_pages(self, prefix, count=count)

    def head(self, key: str) -> ObjectInfo:
        """Return the description of an object."""
        ...

    def read(self, key: str) -> Reader:
        """Open an object."""
        ...

    def put(self, key: str, content: Buffer) -> None:
        """Make an object in one request; the store verifies the content before the object is visible."""
        ...

    def upload(self, key: str, size: int | None) -> Upload:
        """Begin an object of more than `PART` bytes, or of unknown size."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object."""
        ...

    def folder_key(self, prefix: str) -> str:
        """Return the name of the object that keeps the empty folder ``prefix``, as most tools name it."""
        return prefix

    def keep_folder(self, prefix: str) -> None:
        """Make that object, which is empty."""
        if prefix:
            self.put(prefix, b"")

    def refuse_name(self, name: str) -> None:
        """Raise a ``Fault`` for a name that the store cannot hold, or would change; most stores accept all."""
        del name


def all_pages(client: Client, prefix: str, *, count: int, deep: bool = False) -> Iterator[Listing]:
    """Yield all pages of a listing; a ``Fault`` if the server repeats a page, or sends only empty ones."""
    token, tokens, empty = "", {""}, 0
    while True:
        page = client.page(prefix, token, count=count, deep=deep)
        yield page
        if not page.token:
            return
        empty = 0 if page.objects or page.prefixes else empty + 1
        if empty > EMPTY_PAGES:
            reason = f"{client.store} sent too many empty pages for the listing of {prefix!r}; try again."
            raise Fault("ENDPOINT_ERROR", reason)
        token = page.token
        if token in tokens:
            reason = f"{client.store} sent the same page of the listing of {prefix!r} again; try again."
            raise Fault("ENDPOINT_ERROR", reason)
        tokens.add(token)
