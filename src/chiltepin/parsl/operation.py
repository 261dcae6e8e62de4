"""`Operation`: the differences between a transfer and a deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from chiltepin.transfers import arguments, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.futures import AppFuture

    from chiltepin.model import Request

__all__ = ["Operation", "Operations", "make_operations"]


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


class Operations(NamedTuple):
    """The two kinds of tasks."""

    transfer: Operation
    delete: Operation


def make_operations(python_task: Callable[..., Any], join_task: Callable[..., Any]) -> Operations:
    """Return both operations; the arguments make Parsl apps of functions."""
    shard = python_task(worker.run_shard)
    transfer = Operation(
        name="transfer_task",
        at_worker=python_task(worker.transfer_task),
        elsewhere=join_task(worker.transfer_task),
        shard=shard,
        make_request=arguments.transfer_request,
        retry_hint="; the files that arrived are complete, and sync_level='size' skips them",
    )
    delete = Operation(
        name="delete_task",
        at_worker=python_task(worker.delete_task),
        elsewhere=join_task(worker.delete_task),
        shard=shard,
        make_request=arguments.delete_request,
        retry_hint=", with ignore_missing=True",
    )
    return Operations(transfer, delete)
