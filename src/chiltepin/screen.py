"""Text from elsewhere, as a terminal may see it: names of files, and what services say, can hold anything."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["printable", "shown"]

#: Longest value in a message, in characters.
_WIDTH = 80

_NAMED = {"\a": r"\a", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r"}


def printable(text: str) -> str:
    r"""Return a text on one line, in which nothing moves the cursor, changes a colour or turns the reading around.

    Parameters
    ----------
    text : str
        A name, a path or a message.

    Returns
    -------
    str
        The same where it is printable; any other character is escaped as in a string of Python (``\n``, ``\x1b``,
        ``\u202e``), as ``ls -b`` does. A backslash stays one: who needs the exact name asks for JSON.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _NAMED.get(char) or _escaped(char) for char in text)


def shown(value: Any) -> str:
    """Return a value as it stands in a message: on one line, not endless, and whatever its own text does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of an int with 5,000 digits, say; and a class of the user's may do anything
        return f"<{type(value).__name__}>"
    # Messages end in logs, so that a password in a URL is left out of them.
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return printable(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}...")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
