"""Names of temporary files, which a checksum distinguishes from names of users' files.

The name of a temporary file is ``.chiltepin-``, a text of its writer, ``-`` and eight hexadecimal digits: a checksum of
that text. No other file has such a name by accident. A file with only the same prefix, such as ``.chiltepin-notes``,
belongs to the user: it is listed, copied and never swept. The names of earlier versions had no checksum, so such a file
counts as a user's file.
"""

from __future__ import annotations

import secrets

import xxhash

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.processes import host_id

__all__ = [
    "ABANDONED_AFTER",
    "TEMP_PREFIX",
    "TOKEN",
    "body_of",
    "is_temp_name",
    "new_claim",
    "of_this_host",
    "taken_away",
    "temporary",
]

#: Start of the name of a temporary file.
TEMP_PREFIX = ".chiltepin-"

#: Bytes of the random text in the name of a claim (`chiltepin.backends.filesystem.local.claims`).
TOKEN = 8

#: Seconds without a write, by the clock of its store, after which a temporary file is abandoned if its writer cannot be
#: checked.
ABANDONED_AFTER = 86_400.0


def temporary(body: str) -> str:
    """Return the name of a temporary file; ``body`` is the text of its writer."""
    return f"{TEMP_PREFIX}{body}-{xxhash.xxh32_hexdigest(body.encode())}"


def of_this_host(body: str) -> str:
    """Return the name of a temporary file of this host."""
    return temporary(f"{host_id()}-{body}")


def new_claim() -> str:
    """Return a name for a new claim of this host."""
    return of_this_host(secrets.token_hex(TOKEN))


def body_of(name: str) -> str | None:
    """Return the body from which `temporary` made a name; None for the name of a user's file."""
    if not name.startswith(TEMP_PREFIX) or not name.isascii():
        return None
    body, _, checksum = name[len(TEMP_PREFIX) :].rpartition("-")
    return body if body and checksum == xxhash.xxh32_hexdigest(body.encode()) else None


def is_temp_name(name: str) -> bool:
    """Whether a name belongs to a temporary file of Chiltepin."""
    return name.startswith(TEMP_PREFIX) and body_of(name) is not None


def taken_away(temp_file: str, name: str) -> Fault:
    """Return the fault of a file whose temporary file no longer has its name."""
    reason = (
        f"{temp_file}, the temporary file of {name}, was removed while it was written: by another program, or by "
        "a transfer on another host after a day without a write; run the transfer again."
    )
    return Fault("FILE_NOT_FOUND", reason)
