"""The page of bad disks says what is told."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from chiltepin.backends.filesystem.errors import fault_of

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "bad-disks.md"
TOLD = re.findall(r"^\| [^|]+ \| `([A-Z_]+)` \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_sentence_of_the_page_is_told():
    """Each row of the table is what an error of the kernel becomes, and each of our cures is in a row."""
    numbers = {os.strerror(number): number for number in errno.errorcode}
    for code, sentence in TOLD:
        fault = fault_of(OSError(numbers[sentence.partition(";")[0]], "", "a name"), "It")
        assert (fault.code, fault.reason) == (code, f"It: {sentence}")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_cure_is_on_the_page(number):
    """What we say to do about an error is said on the page as well."""
    if ";" in (reason := fault_of(OSError(number, "", "a name"), "It").reason):
        assert reason.removeprefix("It: ") in [sentence for _, sentence in TOLD]
