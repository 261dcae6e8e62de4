"""A page for a browser that contains everything it needs and contacts no server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import stat
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from chiltepin.errors import printable
from chiltepin.transfers.activity.records import BAD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["page", "write"]


def write(path: str, records: Sequence[TransferRecord], *, since: datetime, now: datetime) -> int:
    """Write the page and return its size in bytes; a reader sees either the old page or the complete new one.

    If ``path`` is a link, its target is replaced. A device or a pipe is not replaced; the page is written into it. If
    the page cannot be written, an OSError is raised and the old page is kept.
    """
    text = page(records, since=since, now=now).encode("ascii")
    if _is_regular(path):
        _replace(os.path.realpath(path), text)
    else:
        with open(path, "wb") as file:
            file.write(text)
    return len(text)


def _is_regular(path: str) -> bool:
    """Return whether a path names a regular file or no file yet; links are followed."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _replace(path: str, text: bytes) -> None:
    temp_file = f"{path}.{secrets.token_hex(4)}.tmp"
    descriptor = os.open(temp_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
        os.replace(temp_file, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp_file)
        raise


def page(records: Sequence[TransferRecord], *, since: datetime, now: datetime) -> str:
    """Return the page as HTML in ASCII.

    Notes
    -----
    Names are passed to the page as JSON in a block that is not executed and in which no ``<`` can end it (HTML,
    4.12.1.3, "Restrictions for contents of script elements"), and are shown as text. The policy allows a browser to run
    exactly these scripts, and no network access (Content Security Policy 3, ``default-src 'none'``).
    """
    styles = _asset("uPlot.min.css") + _asset("page.css")
    library, script = _asset("uPlot.min.js"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(styles)}; script-src {_hash(library)} {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(_plain(records, since, now), separators=(",", ":")).replace("<", "\\u003c")
    return Template(_asset("page.html")).substitute(
        policy=policy, style=styles, data=data, library=library, script=script, licence=_asset("uPlot.LICENSE")
    )


def _asset(name: str) -> str:
    return files("chiltepin.transfers.activity").joinpath("assets", name).read_text(encoding="ascii")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class _Words:
    """Numbers strings, so that each is written once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.known.setdefault(printable(text), len(self.known))


def _plain(records: Sequence[TransferRecord], since: datetime, now: datetime) -> dict[str, Any]:
    """Return the data of the page as its script reads it; times in rows are milliseconds."""
    states, pairs, whys = _Words(), _Words(), _Words()
    rows = []
    for record in records:
        # One character: a browser may break a line within "->".
        pair, what = record.told("\u2192")
        row = [
            round(record.asked.timestamp() * 1000),
            round(record.waited * 1000),
            round(record.lasted * 1000),
            states(record.shown),
            pairs(pair),
            printable(f"{record.label}: {what}" if record.label else what),
            record.files,
            record.bytes,
            whys(
                f"{record.failed} of {record.count} items failed. {record.remark}" if record.failed else record.remark
            ),
            printable(record.code),
        ]
        rows.append(row)
    return {
        "since": since.timestamp(),
        "now": now.timestamp(),
        "states": list(states.known),
        "pairs": list(pairs.known),
        "whys": list(whys.known),
        "bad": ["partial", *(state.value for state in BAD)],
        "live": ["active", "paused"],
        "rows": rows,
    }
