"""What Globus says, made fit for one line of a terminal or a log."""

from __future__ import annotations

__all__ = ["one_line"]

#: Longest text of the service that goes into a message; its details can be pages.
LONGEST = 500


def one_line(said: str) -> str:
    """Return a text without line breaks and control characters, without a full stop at its end, and not too long.

    A text that an endpoint's owner chose may hold terminal escapes.
    """
    words = "".join(letter if letter.isprintable() else " " for letter in said).split()
    line = " ".join(words).removesuffix(".")
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
