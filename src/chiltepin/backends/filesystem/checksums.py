"""Verify content against a checksum that comes from outside, such as a store's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.model import CHECKSUMS

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ExpectedChecksum", "not_what_was_sent", "verify_content"]


class ExpectedChecksum:
    """The expected checksum of a file's content, such as ``sha256:`` and hexadecimal digits.

    An unknown algorithm is a ``Fault``.
    """

    def __init__(self, checksum: str) -> None:
        algorithm, _, self._wanted = checksum.partition(":")
        if algorithm.lower() not in CHECKSUMS:
            known = ", ".join(CHECKSUMS)
            raise Fault("VERIFY_CHECKSUM", f"{checksum!r} is not a supported checksum; supported: {known}.")
        self._algorithm = algorithm.lower()
        self._digest = hashlib.new(self._algorithm, usedforsecurity=False)

    def update(self, block: Buffer) -> None:
        """Add the next bytes."""
        self._digest.update(block)

    def check(self, name: str) -> None:
        """Raise a ``Fault`` unless all added bytes together have the checksum."""
        found = self._digest.hexdigest()
        if found != self._wanted.lower():
            reason = f"{name} has the checksum {self._algorithm}:{found}, not the expected one; "
            raise Fault("EXTERNAL_CHECKSUM_MISMATCH", reason + "check that the checksum belongs to this file.")


def verify_content(checksum: str, content: Buffer, name: str) -> None:
    """Raise a ``Fault`` unless the whole content of a file has this checksum."""
    proof = ExpectedChecksum(checksum)
    proof.update(content)
    proof.check(name)


def not_what_was_sent(name: str) -> Fault:
    """Return the fault of a file that was damaged in transit or on the disk."""
    return Fault("VERIFY_CHECKSUM", f"{name} was written, but the data read back differs from the source.")
