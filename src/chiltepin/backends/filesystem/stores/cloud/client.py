"""What the store asks of a client of one bucket, and the errors that a client raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["BUSY", "PART", "Client", "CloudFault", "Listing", "ObjectInfo", "Upload", "known_options", "refusal"]

#: Bytes of a part, and of the largest object that is sent in one request.
PART = 8 << 20

#: Statuses of HTTP that ask for another try (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4).
BUSY = frozenset({408, 429, 500, 502, 503, 504})

_CODES = {
    401: "PERMISSION_DENIED",
    403: "PERMISSION_DENIED",
    404: "FILE_NOT_FOUND",
    412: "FILE_SIZE_CHANGED",
}


class CloudFault(Fault):
    """What a store refused, or why it could not be asked.

    Parameters
    ----------
    code, reason : str
        See `Fault`; they hold no key, token or URL.
    transient : bool
        Whether the same request may succeed later.
    """

    def __init__(self, code: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(code, reason)
        self.transient = transient


def refusal(store: str, status: int, word: str, what: str) -> CloudFault:
    """Return the fault of an answer that is an error.

    Parameters
    ----------
    store : str
        The name of the service, for the message.
    status : int
        The status of HTTP.
    word : str
        The error code of the service itself; empty if it has sent none.
    what : str
        The object or container that the request was about.
    """
    said = f"{word} ({status})" if word else f"status {status}"
    reason = f"{store} answered {said} to a request for {what}."
    return CloudFault(_CODES.get(status, "ENDPOINT_ERROR"), reason, transient=status in BUSY)


def known_options(store: str, given: Mapping[str, object], known: Collection[str], unused: Collection[str]) -> None:
    """Raise ConfigError for an option that is neither known nor one that only tunes fsspec's own filesystem."""
    for name in given:
        if name not in known and name not in unused:
            raise ConfigError(f"There is no option {name!r} for {store}; {suggest(name, known)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store tells of one object.

    Parameters
    ----------
    key : str
        Its name.
    size : int
        Bytes, as they are stored.
    mtime : float
        When it was written, in seconds since 1970 UTC.
    version : str
        Names this content: another one after the object has been replaced.
    md5, crc32c : bytes
        Digests of the whole content; empty where the store tells none.
    is_folder : bool
        Whether it only stands for a folder of its name.
    encoding : str
        Its ``Content-Encoding``.
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
    #: What the names of the objects further down begin with, up to the next slash.
    prefixes: Sequence[str]
    #: Asks for the next page; empty after the last.
    token: str


class Upload(Protocol):
    """An object that is sent in parts; it is seen when `finish` returns."""

    #: Bytes of a part where parts may be sent in any order and from several threads; None: in their order only.
    part: int | None

    def send(self, offset: int, block: bytes, *, last: bool) -> None:
        """Send one part, `PART` or ``part`` bytes unless it is the last; the store verifies it."""
        ...

    def finish(self) -> None:
        """Have the object seen, in place of what has its name."""
        ...

    def abort(self) -> None:
        """Drop what was sent."""
        ...


class Client(Protocol):
    """The way to one bucket or container.

    Each method may raise `CloudFault`, and FileNotFoundError for an object that does not exist; threads may share it.
    """

    #: The name of the service, for messages.
    store: str
    #: The URL of the server, and the bucket or container.
    server: str
    bucket: str

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of what begins with a prefix; ``deep`` also lists what is below the next slash."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return what the store tells of an object."""
        ...

    def get(self, found: ObjectInfo, offset: int, count: int) -> bytes:
        """Return some bytes of exactly that content; a `CloudFault` if the object has been replaced."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Make an object in one request; the store verifies the content before the object is seen."""
        ...

    def upload(self, key: str, size: int | None) -> Upload:
        """Begin an object that has more than `PART` bytes, or an unknown number."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object."""
        ...

    def folder_key(self, prefix: str) -> str:
        """Return the name of the object that keeps the empty folder ``prefix``."""
        ...

    def keep_folder(self, prefix: str) -> None:
        """Make that object."""
        ...

    def refuse_name(self, name: str) -> None:
        """Raise a ``Fault`` for a name that the store cannot hold, or would change."""
        ...
