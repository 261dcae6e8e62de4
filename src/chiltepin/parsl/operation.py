"""`Operation`: the differences between a transfer and a deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.futures import AppFuture

    from chiltepin.model import Request

__all__ = ["Operation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A kind of task that moves or deletes data, with the name of its function.

    ``at_worker`` is the app for a worker that moves the bytes, ``elsewhere`` the app that starts the request at a
    service or with several workers, and ``shard`` the app for one part of it. ``make_request`` creates the request from
    the arguments of a call. ``retry_hint`` tells how to start such a task again without an error for completed items.
    """

    name: str
    at_worker: Callable[..., AppFuture]
    elsewhere: Callable[..., AppFuture]
    shard: Callable[..., AppFuture]
    make_request: Callable[..., Request]
    retry_hint: str
