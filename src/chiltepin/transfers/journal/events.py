"""Convert the events of a journal to JSON and back; every value that is read is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chiltepin.model import (
    SYNC_LEVELS,
    DeleteRequest,
    FilterRule,
    TaskHandle,
    TaskState,
    TransferItem,
    TransferRequest,
    is_checksum,
    notify_events,
)

if TYPE_CHECKING:
    from chiltepin.model import Request

__all__ = [
    "NO_WORKFLOW",
    "VERSION",
    "CleanShutdown",
    "Ended",
    "Event",
    "ItemsByWorkflow",
    "JournalEntry",
    "intent_to_json",
    "parse_event",
    "request_to_json",
    "workflows_to_json",
]

#: The version of the lines; readers skip lines of other versions.
VERSION = 1

#: Fields of requests that older versions do not have; a line contains those that differ from their defaults.
_OPTIONS: Mapping[str, type] = {
    "accept_skipped": bool,
    "checksum_algorithm": str,
    "destination_local_user": str,
    "encrypt_data": bool,
    "fail_on_quota_errors": bool,
    "globs": bool,
    "local_user": str,
    "notify": list,
    "source_local_user": str,
    "submission_id": str,
}

T = TypeVar("T")

#: Which workflows requested which items: maps the name of a workflow to the numbers of its items, or to None for all
#: items. The name outside any workflow is "".
ItemsByWorkflow = Mapping[str, "frozenset[int] | None"]

#: A request outside any workflow.
NO_WORKFLOW: ItemsByWorkflow = {"": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One submission, merged from all files.

    ``service`` is the URL of the service, ``deadline`` when it gives up, and ``begun`` when the intent was written.
    ``handle`` is None if the process ended before it knew the task; ``state`` is None if no file records the end.
    ``asked`` tells which workflows requested which items, and ``settings`` what its process understood by the request
    (see `ConfiguredBackend`); both are None in lines of older versions.
    """

    submission_id: str
    backend: str
    service: str
    request: Request
    deadline: datetime
    handle: TaskHandle | None
    state: TaskState | None
    begun: datetime
    asked: ItemsByWorkflow | None = None
    settings: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a submission: its state, its time, and which items were requested in the process that saw it."""

    submission_id: str
    state: TaskState
    at: datetime
    asked: ItemsByWorkflow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanShutdown:
    """The clean end of a workflow, or, without a name (older versions), of all workflows of its process so far."""

    at: datetime
    workflow: str | None = None


#: An intent is an entry without handle and state; a submission that became a task is a task handle.
Event = JournalEntry | TaskHandle | Ended | CleanShutdown


def parse_event(line: Any) -> Event:
    """Return the event of a line; raise ValueError, TypeError or KeyError if it is invalid."""
    if _get(line, "v", int) != VERSION:
        raise ValueError(line["v"])
    kind, at = _get(line, "event", str), _parse_time(line["at"])
    if kind == "settled":
        return CleanShutdown(at=at, workflow=_get(line, "workflow", str) if "workflow" in line else None)
    name = _get(line, "submission_id", str)
    if kind == "intent":
        return JournalEntry(
            submission_id=name,
            backend=_get(line, "backend", str),
            service=_get(line, "service", str),
            request=_request(line["request"]),
            deadline=_parse_time(line["deadline"]),
            handle=None,
            state=None,
            begun=at,
            asked=_asked(line),
            settings=_get(line, "settings", dict) if "settings" in line else None,
        )
    if kind == "submitted":
        return TaskHandle(backend=_get(line, "backend", str), task_id=_get(line, "task_id", str), submission_id=name)
    if kind == "ended" and (state := TaskState(line["state"])).final:
        return Ended(submission_id=name, state=state, at=at, asked=_asked(line))
    raise ValueError(kind)


def intent_to_json(
    submission_id: str,
    request: Request,
    backend: str,
    service: str,
    deadline: datetime,
    asked: ItemsByWorkflow,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return a submission as JSON data, from which `parse_event` makes a `JournalEntry`."""
    return {
        "submission_id": submission_id,
        "backend": backend,
        "service": service,
        "deadline": _format_time(deadline),
        "request": request_to_json(request),
        "workflows": workflows_to_json(asked),
        "settings": settings,
    }


def workflows_to_json(asked: ItemsByWorkflow) -> dict[str, list[int] | None]:
    """Return the workflows and their items as JSON data."""
    return {workflow: None if items is None else sorted(items) for workflow, items in asked.items()}


def _asked(line: Any) -> ItemsByWorkflow | None:
    if "workflows" not in line:
        return None
    plain = _get(line, "workflows", dict)
    return {
        workflow: None if items is None else frozenset(_is(item, int) for item in _is(items, list))
        for workflow, items in plain.items()
    }


def _format_time(moment: datetime) -> str:
    """Return a time as text, in UTC."""
    return moment.astimezone(timezone.utc).isoformat()


def _parse_time(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(timezone.utc)


def _get(plain: Any, key: str, kind: type[T]) -> T:
    return _is(plain[key], kind)


def _is(value: Any, kind: type[T]) -> T:
    """Return a value of exactly this type; True is not an int here."""
    if type(value) is not kind:
        raise TypeError(kind)
    return value


def _strings(plain: Any, key: str) -> tuple[str, ...]:
    return tuple(_is(value, str) for value in _get(plain, key, list))


def request_to_json(request: Request) -> dict[str, Any]:
    """Return a request as JSON data."""
    plain: dict[str, Any] = {"label": request.label, "recursive": request.recursive}
    plain["deadline"] = None if request.deadline is None else _format_time(request.deadline)
    plain |= _plain_options(request)
    if isinstance(request, DeleteRequest):
        return plain | {
            "kind": "delete",
            "endpoint": request.endpoint,
            "paths": request.paths,
            "ignore_missing": request.ignore_missing,
        }
    return plain | {
        "kind": "transfer",
        "source": request.source,
        "destination": request.destination,
        "items": [_plain_item(item) for item in request.items],
        "sync_level": request.sync_level,
        "verify_checksum": request.verify_checksum,
        "preserve_timestamp": request.preserve_timestamp,
        "delete_destination_extra": request.delete_destination_extra,
        "skip_source_errors": request.skip_source_errors,
        "filters": [_plain_rule(rule) for rule in request.filters],
    }


def _plain_options(request: Request) -> dict[str, Any]:
    values = {one.name: getattr(request, one.name) for one in fields(request) if one.name in _OPTIONS}
    defaults = {one.name: one.default for one in fields(request)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != defaults[name]
    }


def _options(plain: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: _get(plain, name, kind) for name, kind in _OPTIONS.items() if name in plain}
    if "notify" in found and (events := notify_events(found["notify"])) is not None:
        found["notify"] = events
    elif "notify" in found:
        raise ValueError(found)
    return found


def _plain_item(item: TransferItem) -> tuple[str, ...]:
    """Return an item as two strings, or three if it has a checksum."""
    return (item.source, item.destination, item.checksum)[: 3 if item.checksum else 2]


def _plain_rule(rule: FilterRule) -> tuple[str, ...]:
    """Return a filter rule as two strings, or three if it is for folders."""
    return (rule.method, rule.name, rule.kind)[: 2 if rule.kind == "file" else 3]


def _rule(plain: Any) -> FilterRule:
    method, name, *kind = (_is(text, str) for text in _is(plain, list))
    if method not in ("include", "exclude") or kind not in ([], ["dir"]):
        raise ValueError(plain)
    return FilterRule(method=cast("Any", method), name=name, kind="dir" if kind else "file")


def _item(plain: Any) -> TransferItem:
    texts = [_is(value, str) for value in _is(plain, list)]
    source, destination, checksum = texts if len(texts) == 3 else (*texts, "")  # noqa: PLR2004 - see _plain_item
    if checksum and not is_checksum(checksum):
        raise ValueError(checksum)
    return TransferItem(source=source, destination=destination, checksum=checksum)


def _request(plain: Any) -> Request:
    label, recursive = _get(plain, "label", str), _get(plain, "recursive", bool)
    deadline = None if plain["deadline"] is None else _parse_time(plain["deadline"])
    if plain["kind"] == "delete":
        return DeleteRequest(
            endpoint=_get(plain, "endpoint", str),
            paths=_strings(plain, "paths"),
            recursive=recursive,
            ignore_missing=_get(plain, "ignore_missing", bool),
            label=label,
            deadline=deadline,
            **_options(plain),
        )
    if plain["kind"] != "transfer":
        raise ValueError(plain["kind"])
    if (level := plain["sync_level"]) not in (None, *SYNC_LEVELS):
        raise ValueError(level)
    return TransferRequest(
        source=_get(plain, "source", str),
        destination=_get(plain, "destination", str),
        items=tuple(_item(item) for item in _get(plain, "items", list)),
        recursive=recursive,
        sync_level=level,
        verify_checksum=_get(plain, "verify_checksum", bool),
        preserve_timestamp=_get(plain, "preserve_timestamp", bool),
        # Missing in lines of older versions.
        delete_destination_extra=_is(plain.get("delete_destination_extra", False), bool),
        skip_source_errors=_get(plain, "skip_source_errors", bool),
        filters=tuple(_rule(rule) for rule in _get(plain, "filters", list)),
        label=label,
        deadline=deadline,
        **_options(plain),
    )
