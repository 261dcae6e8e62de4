"""Laws about the expected checksum of a file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chiltepin.model import CHECKSUMS
from chiltepin.testing.conformance.helpers import files, must_be_refused, needs, require, run, transfer

if TYPE_CHECKING:
    from chiltepin.model import TransferRequest
    from chiltepin.testing.conformance.helpers import Outcome
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["ChecksumLaws"]

#: The content of the file, and another content.
CONTENT, OTHER = b"the right data", b"other data"


def checksum(algorithm: str, content: bytes) -> str:
    """Return the checksum of a content in the form of an item."""
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"


def checked(request: TransferRequest, *checksums: str) -> TransferRequest:
    """Return a request whose items have checksums, one after the other."""
    items = (replace(item, checksum=one) for item, one in zip(request.items, checksums, strict=True))
    return replace(request, items=tuple(items))


def refused(rig: Rig, algorithm: str, outcome: Outcome) -> bool:
    """Whether the backend does not claim an algorithm; it must then have refused the request."""
    if algorithm in rig.backend.capabilities.checksums:
        return False
    must_be_refused(outcome, f"a checksum by {algorithm} is refused")
    require(files(rig) == set(), "what is refused moves nothing")
    return True


class ChecksumLaws:
    """What the ``checksum`` of an item does."""

    @pytest.mark.parametrize("algorithm", CHECKSUMS)
    def test_a_file_of_the_right_checksum_arrives(self, rig: Rig, algorithm: str) -> None:
        """A file with the expected checksum arrives; a backend that cannot check it refuses the request."""
        rig.put(rig.source, "/f", CONTENT)
        outcome = run(rig, checked(transfer(rig, ("/f", "/f")), checksum(algorithm, CONTENT)))
        if not refused(rig, algorithm, outcome):
            require(outcome.succeeded, f"a file that has the checksum by {algorithm} arrives; here {outcome}")
            require(rig.get(rig.destination, "/f") == CONTENT, "a file that was checked arrives with its bytes")

    @pytest.mark.parametrize("verify", [True, False], ids=["verified", "unverified"])
    @pytest.mark.parametrize("algorithm", CHECKSUMS)
    def test_a_file_of_another_checksum_does_not(self, rig: Rig, algorithm: str, *, verify: bool) -> None:
        """A file with other content fails, even without verify_checksum, and an existing destination stays."""
        rig.put(rig.source, "/f", OTHER)
        rig.put(rig.destination, "/old/f", b"old")
        request = transfer(rig, ("/f", "/old/f"), verify_checksum=verify)
        needs(algorithm in rig.backend.capabilities.checksums, f"checksum {algorithm!r}")
        outcome = run(rig, checked(request, checksum(algorithm, CONTENT)))
        code = "EXTERNAL_CHECKSUM_MISMATCH"
        require(outcome.code == code, f"a file that has another checksum by {algorithm} says {code}; here {outcome}")
        require(not outcome.succeeded, f"a file with another checksum by {algorithm} must not succeed; here {outcome}")
        require(files(rig) == {"/old/f"}, "a file of another checksum leaves nothing behind")
        require(rig.get(rig.destination, "/old/f") == b"old", "a file of another checksum replaces nothing")

    def test_each_item_has_its_own_checksum(self, rig: Rig) -> None:
        """In one request, some items may have checksums, of several algorithms, and others none."""
        known = rig.backend.capabilities.checksums
        needs(known, "checksums")
        for number in range(len(known) + 1):
            rig.put(rig.source, f"/{number}", f"file {number}".encode())
        sums = [checksum(algorithm, f"file {number}".encode()) for number, algorithm in enumerate(known)]
        pairs = [(f"/{number}", f"/{number}") for number in range(len(known) + 1)]
        outcome = run(rig, checked(transfer(rig, *pairs), *sums, ""))
        require(outcome.succeeded, f"every item is compared with its own checksum; here {outcome}")
        # As if the second item were compared with the checksum of the first.
        swapped = run(rig, checked(transfer(rig, ("/1", "/x"), ("/0", "/y")), sums[0], ""))
        require(not swapped.succeeded, f"no item is compared with the checksum of another; here {swapped}")

    @pytest.mark.parametrize(
        ("text", "options"),
        [
            ("sha256:00", {}),
            ("crc32:00000000", {}),
            (f"md5:{'0' * 31}G", {}),
            (f"md5:{'0' * 32}", {"recursive": True}),
            (f"md5:{'0' * 32}", {"sync_level": "size"}),
        ],
        ids=["too short", "unknown", "no digits", "of a folder", "with a sync level"],
    )
    def test_a_checksum_that_means_nothing_is_refused(
        self, rig: Rig, text: str, options: dict[str, bool | str]
    ) -> None:
        """An invalid checksum, or one that would not be compared with anything, is refused at submit."""
        rig.put(rig.source, "/d/f" if options.get("recursive") else "/d", CONTENT)
        outcome = run(rig, checked(transfer(rig, ("/d", "/d"), **options), text))
        must_be_refused(outcome, f"a checksum {text!r} with {options} is refused at submit")
        require(files(rig) == set(), "what is refused moves nothing")
