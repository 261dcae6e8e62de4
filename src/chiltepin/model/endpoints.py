"""Endpoints, and the entries of a listing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["THIS_MACHINE", "UUID", "UUID_LENGTH", "DirEntry", "endpoint_name"]

#: The pattern of a UUID.
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

#: The name for the Globus Connect Personal collection of the machine where the workflow runs.
THIS_MACHINE = "this-machine"

UUID_LENGTH = 36


def endpoint_name(name: str) -> str:
    """Return the canonical name of an endpoint: a UUID in lower case, any other name unchanged."""
    return name.lower() if UUID.fullmatch(name) else name


@dataclass(frozen=True, slots=True, kw_only=True)
class DirEntry:
    """One entry of a folder.

    Parameters
    ----------
    name : str
        The base name.
    kind : {"file", "dir", "link", "other"}
        Links are not followed; ``other`` is a device, a socket or a pipe.
    size : int or None
        Bytes; 0 for anything but a file, None if unknown.
    modified : datetime or None
        Last modification in UTC; None if unknown.
    """

    name: str
    kind: Literal["file", "dir", "link", "other"]
    size: int | None = 0
    modified: datetime | None = None
