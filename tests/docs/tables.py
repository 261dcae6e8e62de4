"""The message tables of the pages."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def messages(page, heading):
    """Return the messages in the table below a heading, in its order.

    The first cell of every row after the head is a message in backquotes; the row says what to do.
    """
    table = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \| \S.* \|$", table, re.MULTILINE)
    rows = [row for row in table.splitlines() if row.startswith("|")]
    assert len(found) == len(rows) - 2, f"A row of {page} has no message, or no cure."
    return found
