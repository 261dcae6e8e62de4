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
    """Return the checksum of the content, in the format of a `TransferItem`."""
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"


def checked(request: TransferRequest, *checksums: str) -> TransferRequest:
    """Return a copy of a request with one checksum for each item, in order."""
    items = (replace(item, checksum=one) for item, one in zip(request.items, checksums, strict=True))
    return replace(request, items=tuple(items))


def refused(rig: Rig, algorithm: str, outcome: Outcome) -> bool:
    """Return whether the backend does not claim an algorithm; if so, check that it refused the request."""
    if algorithm in rig.backend.capabilities.checksums:
        return False
    must_be_refused(outcome, f"a backend without {algorithm} checksums must refuse the request at submit")
    require(files(rig) == set(), "a refused request must not move any file")
    return True


class ChecksumLaws:
    """What the ``checksum`` of an item must do."""

    @pytest.mark.parametrize("algorithm", CHECKSUMS)
    def test_a_file_of_the_right_checksum_arrives(self, rig: Rig, algorithm: str) -> None:
        """A file with the expected checksum must arrive; a backend that cannot check it must refuse the request."""
        rig.put(rig.source, "/f", CONTENT)
        outcome = run(rig, checked(transfer(rig, ("/f", "/f")), checksum(algorithm, CONTENT)))
        if not refused(rig, algorithm, outcome):
            require(outcome.succeeded, f"a file that matches its {algorithm} checksum must arrive; got {outcome}")
            require(
                rig.get(rig.destination, "/f") == CONTENT,
                "a file that matches its checksum must arrive with its content",
            )

    @pytest.mark.parametrize("verify", [True, False], ids=["verified", "unverified"])
    @pytest.mark.parametrize("algorithm", CHECKSUMS)
    def test_a_file_of_another_checksum_does_not(self, rig: Rig, algorithm: str, *, verify: bool) -> None:
        """A file that does not match must fail, even without verify_checksum, and must not replace an existing file."""
        rig.put(rig.source, "/f", OTHER)
        rig.put(rig.destination, "/old/f", b"old")
        request = transfer(rig, ("/f", "/old/f"), verify_checksum=verify)
        needs(algorithm in rig.backend.capabilities.checksums, f"the checksum {algorithm!r}")
        outcome = run(rig, checked(request, checksum(algorithm, CONTENT)))
        code = "EXTERNAL_CHECKSUM_MISMATCH"
        require(
            outcome.code == code,
            f"a file that does not match its {algorithm} checksum must report {code}; got {outcome}",
        )
        require(
            not outcome.succeeded,
            f"a file that does not match its {algorithm} checksum must not succeed; got {outcome}",
        )
        require(files(rig) == {"/old/f"}, "a file that does not match its checksum must not leave any extra file")
        require(
            rig.get(rig.destination, "/old/f") == b"old",
            "a file that does not match its checksum must not replace an existing file",
        )

    def test_each_item_has_its_own_checksum(self, rig: Rig) -> None:
        """Items of one request may have checksums of several algorithms, or none; each is compared with its own."""
        known = rig.backend.capabilities.checksums
        needs(known, "checksums")
        for number in range(len(known) + 1):
            rig.put(rig.source, f"/{number}", f"file {number}".encode())
        sums = [checksum(algorithm, f"file {number}".encode()) for number, algorithm in enumerate(known)]
        pairs = [(f"/{number}", f"/{number}") for number in range(len(known) + 1)]
        outcome = run(rig, checked(transfer(rig, *pairs), *sums, ""))
        require(outcome.succeeded, f"every item must be compared with its own checksum; got {outcome}")
        # As if the second item were compared with the checksum of the first.
        swapped = run(rig, checked(transfer(rig, ("/1", "/x"), ("/0", "/y")), sums[0], ""))
        require(not swapped.succeeded, f"an item must not be compared with the checksum of another item; got {swapped}")

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
        """An invalid checksum, or one that would not be compared with anything, must be refused at submit."""
        rig.put(rig.source, "/d/f" if options.get("recursive") else "/d", CONTENT)
        outcome = run(rig, checked(transfer(rig, ("/d", "/d"), **options), text))
        must_be_refused(outcome, f"the checksum {text!r} with the options {options} must be refused at submit")
        require(files(rig) == set(), "a refused request must not move any file")
