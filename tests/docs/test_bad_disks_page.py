"""The messages on the page about disk errors match the code."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from chiltepin.backends.filesystem.errors import fault_of

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "bad-disks.md"
TOLD = re.findall(r"^\| [^|]+ \| `([A-Z_]+)` \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_message_of_the_page_is_that_of_the_code():
    """Each row of the table is the code and message of a kernel error."""
    numbers = {os.strerror(number): number for number in errno.errorcode}
    for code, sentence in TOLD:
        fault = fault_of(OSError(numbers[sentence.partition(";")[0]], "", "a name"), "It")
        assert (fault.code, fault.reason) == (code, f"It: {sentence}")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_cure_is_on_the_page(number):
    """Each message with an instruction is on the page."""
    if ";" in (reason := fault_of(OSError(number, "", "a name"), "It").reason):
        assert reason.removeprefix("It: ") in [sentence for _, sentence in TOLD]
