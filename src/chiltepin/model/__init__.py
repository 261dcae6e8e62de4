"""The plain data that backends and callers exchange.

All of it is frozen, keyword-only and made of strings, numbers and tuples, so that it can be sent to another process or
stored as JSON. Times are UTC, sizes are bytes, paths are POSIX paths on an endpoint.
"""

from __future__ import annotations

from chiltepin.model.capabilities import Capabilities, unsupported
from chiltepin.model.endpoints import THIS_MACHINE, UUID, UUID_LENGTH, DirEntry, endpoint_name
from chiltepin.model.requests import (
    BACKEND_OPTIONS,
    CHECKSUMS,
    FAULT_GRACE,
    LABEL_LIMIT,
    NOTIFY_EVENTS,
    SYNC_LEVELS,
    DeleteRequest,
    FilterRule,
    Item,
    Request,
    SyncLevel,
    TransferItem,
    TransferRequest,
    contradiction,
    is_checksum,
    items_of,
    notify_events,
)
from chiltepin.model.tasks import (
    CLIENT_FAILED,
    NO_TASK,
    SKIPPED_KEPT,
    UNREAD,
    ItemOutcome,
    TaskEvent,
    TaskHandle,
    TaskInfo,
    TaskState,
    TaskStatus,
)

__all__ = [
    "BACKEND_OPTIONS",
    "CHECKSUMS",
    "CLIENT_FAILED",
    "FAULT_GRACE",
    "LABEL_LIMIT",
    "NOTIFY_EVENTS",
    "NO_TASK",
    "SKIPPED_KEPT",
    "SYNC_LEVELS",
    "THIS_MACHINE",
    "UNREAD",
    "UUID",
    "UUID_LENGTH",
    "Capabilities",
    "DeleteRequest",
    "DirEntry",
    "FilterRule",
    "Item",
    "ItemOutcome",
    "Request",
    "SyncLevel",
    "TaskEvent",
    "TaskHandle",
    "TaskInfo",
    "TaskState",
    "TaskStatus",
    "TransferItem",
    "TransferRequest",
    "contradiction",
    "endpoint_name",
    "is_checksum",
    "items_of",
    "notify_events",
    "unsupported",
]
