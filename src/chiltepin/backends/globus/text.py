"""Make text from Globus safe for one line of a terminal or log."""

from __future__ import annotations

import os
from typing import Any

from chiltepin.model import UUID

__all__ = ["one_line", "token", "uuid", "web_app"]

#: Maximum length of a code or id from the service, in characters.
MAX_TOKEN = 100

#: Maximum length of a text from the service in a message; its details can fill pages.
MAX_LINE = 500


def one_line(said: str) -> str:
    """Return a text on one line, without control characters or a final period, and limited in length.

    A text that an endpoint's owner chose may contain terminal escapes.
    """
    words = "".join(letter if letter.isprintable() else " " for letter in said).split()
    line = " ".join(words).removesuffix(".")
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + "..."


def token(said: Any) -> str:
    """Return a code or an id of the service for messages, short and on one line; empty for None."""
    return "" if said is None else one_line(str(said))[:MAX_TOKEN]


def uuid(said: Any) -> str:
    """Return an id of the service, for URLs, the journal and the terminal; ValueError if it is not a UUID."""
    if not isinstance(said, str) or not UUID.fullmatch(said):
        raise ValueError("no id")
    return said


def web_app(words: str, page: str) -> str:
    """Return the words and the address of a web app page; empty for a Globus deployment other than production."""
    if os.environ.get("GLOBUS_SDK_SERVICE_URL_TRANSFER"):
        return ""
    if os.environ.get("GLOBUS_SDK_ENVIRONMENT", "production") not in ("", "production"):
        return ""
    return f"{words} https://app.globus.org/{page}"
