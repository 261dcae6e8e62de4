"""What a backend can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chiltepin.model.requests import BACKEND_OPTIONS, SYNC_LEVELS

if TYPE_CHECKING:
    from chiltepin.model.requests import Request, SyncLevel

__all__ = ["Capabilities", "unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend supports; a request for anything else is refused at submission.

    Parameters
    ----------
    runs_on : {"service", "worker"}
        What moves the bytes: a remote service, or the process that calls ``submit``.
    durable : bool
        Whether a task outlives the process that submitted it.
    deadline : bool
        Whether the backend itself stops a task at ``deadline``.
    sync_levels : tuple of str
        The supported sync levels.
    filters : bool
        Whether filter rules are supported.
    checksums : tuple of str
        The algorithms of ``CHECKSUMS`` that are supported.
    deletes_extra : bool
        Whether ``delete_destination_extra`` is supported.
    max_items : int or None
        Maximum number of items in one request; None: no limit.
    finds_endpoints : bool
        Whether the backend finds endpoints that the settings do not declare.
    batches : bool
        Whether the outcome of each item is known, so that one task can contain items of many callers; the backend is
        then a `BatchingBackend`.
    slots : int or None
        Maximum number of tasks of one kind that the service runs at a time; None: no limit.
    options : tuple of str
        The ``BACKEND_OPTIONS`` that are supported.
    """

    runs_on: Literal["service", "worker"]
    durable: bool
    deadline: bool = True
    sync_levels: tuple[SyncLevel, ...] = SYNC_LEVELS
    filters: bool = True
    checksums: tuple[str, ...] = ()
    deletes_extra: bool = False
    max_items: int | None = None
    finds_endpoints: bool = False
    batches: bool = False
    slots: int | None = None
    options: tuple[str, ...] = ()


def unsupported(request: Request, capabilities: Capabilities, backend: str = "") -> str:
    """Return which of the ``BACKEND_OPTIONS`` a backend lacks for a request, as a sentence; empty if it lacks none.

    ``backend`` is the name of the backend.
    """
    for name in BACKEND_OPTIONS:
        value = getattr(request, name, None)
        if value and name not in capabilities.options:
            shown = ",".join(value) if isinstance(value, tuple) else value
            where = f"backend {backend!r}" if backend else "this backend"
            return f"{name}={shown!r} is not possible on {where}; remove it, or use another backend."
    return ""
