"""The documents of the Transfer API, and what they are in our model: pure translation, nothing is asked here."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import globus_sdk

from chiltepin.backends.globus.session_requirements import login_command, options_in
from chiltepin.backends.globus.text import identifier, one_line, word
from chiltepin.errors import PermissionDeniedError
from chiltepin.model import LABEL_LIMIT, UNREAD, DirEntry, TaskHandle, TaskState, TaskStatus
from chiltepin.paths import joined, named, parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import DeleteRequest, Request, TransferRequest

__all__ = [
    "delete_document",
    "entries",
    "entry_of",
    "global_path",
    "lost",
    "mark",
    "said",
    "status_of",
    "task",
    "tasks",
    "transfer_document",
    "troubled",
    "unsure",
    "untold",
]

_STATES = {"SUCCEEDED": TaskState.SUCCEEDED, "ACTIVE": TaskState.ACTIVE, "INACTIVE": TaskState.PAUSED}
_FATAL = {"CANCELED": TaskState.CANCELED, "EXPIRED": TaskState.EXPIRED}

#: What ``nice_status`` says of a task that has no trouble.
_FINE = (None, "", "OK", "Queued")

#: What to do about a trouble, where that is known.
_CURES = {
    "EXTERNAL_CHECKSUM_MISMATCH": "See that source and checksum belong together. ",
    "FILE_NOT_FOUND": "Check the path. ",
    "GC_NOT_CONNECTED": "Start Globus Connect Personal there. ",
    "IS_A_DIRECTORY": "Give recursive=True for a folder. ",
    "NOT_A_DIRECTORY": "Leave recursive out for a file. ",
    "NO_SPACE_LEFT": "Make room there. ",
    "PERMISSION_DENIED": "See that you may read the source, and write to the destination. ",
    "QUOTA_EXCEEDED": "Make room there. ",
}

#: Troubles that a login cures; the words of the event may say which.
_LOGINS = frozenset({"AUTH", "INACTIVE", "NO_CREDENTIALS"})

_KINDS = {"dir": "dir", "file": "file"}


#: Every status of a task (SDK documentation, ``get_task``).
_STATUSES = frozenset({"ACTIVE", "INACTIVE", "SUCCEEDED", "FAILED"})


def entries(page: Any) -> list[dict[str, Any]]:
    """Return the entries of a list, or of a page of one.

    Raises
    ------
    TypeError, KeyError
        If it has none: then it is no answer of the Transfer API, whatever its HTTP status.
    """
    found = page["DATA"]
    if not isinstance(found, list):
        raise TypeError(type(found).__name__)
    return [dict(entry) for entry in found]


def said(answer: Any) -> str:
    """Return the code of an answer to a request; errors as `entries`."""
    code = answer["code"]
    if not isinstance(code, str) or not code:
        raise TypeError(type(code).__name__)
    return code


def task(document: Any, task_id: str = "") -> dict[str, Any]:
    """Return the document of a task; errors as `entries`, and ValueError, if not all is there that has to be known.

    To take a part of an answer for the whole could call a success what has left files out.

    Parameters
    ----------
    document : Any
        What the service has sent.
    task_id : str
        The task that was asked for; empty if that is not known.
    """
    whole = dict(document)
    if identifier(whole["task_id"]).lower() != (task_id or whole["task_id"]).lower():
        raise ValueError(whole["task_id"])
    if whole["status"] not in _STATUSES or whole["type"] not in ("DELETE", "TRANSFER"):
        raise ValueError(whole["status"])
    left_out = whole["subtasks_skipped_errors"] if whole["type"] != "DELETE" else 0
    if isinstance(left_out, bool) or not isinstance(left_out, int) or left_out < 0:
        raise ValueError(left_out)
    return whole


def tasks(page: Any) -> list[dict[str, Any]]:
    """Return the documents of a list of tasks that can be read; one that cannot is asked for alone."""
    found = []
    for document in entries(page):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            found.append(task(document))
    return found


def global_path(path: str, place: Collection) -> str:
    """Return a path as the Transfer API takes it.

    An absolute one counts from the root of the collection. A relative one, or one under ``~``, counts from ``home:`` of
    the endpoint, else from the default directory that Globus itself has there, which it calls ``/~/``.

    Raises
    ------
    PermissionDeniedError
        If ``..`` leads out of the root, or out of a home folder that only Globus knows.
    """
    if place.home is not None or named(path).startswith("/"):
        return joined(parts(path, home=place.home or "/", endpoint=place.name))
    return joined(("~", *parts(path, endpoint=place.name)))


def doomed_path(path: str, place: Collection) -> str:
    """Return a path to delete; as `global_path`, but a root, or the home folder itself, is refused."""
    found = global_path(path, place)
    if found in ("/", "/~"):
        raise PermissionDeniedError(
            f"{path!r} on endpoint {place.name!r} is a root, and a root is never deleted; name what is to go.",
            backend="globus",
            code="PERMISSION_DENIED",
        )
    return found


def unsure(request: TransferRequest, source: Collection, destination: Collection) -> str:
    """Return why Globus is not asked to remove what is too much, as a sentence; empty if it may be.

    Globus removes files, folders and links that the source lacks or has as another kind (docs.globus.org, "Task
    Submission", 2.3). It does not say whether that goes for what the filter rules leave out, nor what becomes of a
    source that lies in the destination itself.
    """
    if not request.delete_destination_extra:
        return ""
    if request.filters:
        return (
            "Globus does not promise to keep what include and exclude leave out when it removes what is too much; "
            "leave them out, or delete_destination_extra."
        )
    (item,) = request.items
    origin, goal = global_path(item.source, source), global_path(item.destination, destination)
    if source.id == destination.id and f"{origin}/".startswith(f"{goal.rstrip('/')}/"):
        return f"{item.source} lies in {item.destination}, and would be removed with what is too much there."
    return ""


def transfer_document(
    request: TransferRequest, source: Collection, destination: Collection, **rest: Any
) -> globus_sdk.TransferData:
    """Return the document of a transfer; ``rest`` are fields that a deletion has too, from `_common`."""
    pairs = [(global_path(item.source, source), global_path(item.destination, destination)) for item in request.items]
    # Globus holds tasks with identical paths against each other, whatever their options.
    signature = ["transfer", source.id, destination.id, sorted(pairs)]
    document = globus_sdk.TransferData(
        source.id,
        destination.id,
        sync_level=request.sync_level or globus_sdk.MISSING,
        verify_checksum=request.verify_checksum,
        preserve_timestamp=request.preserve_timestamp,
        delete_destination_extra=request.delete_destination_extra or globus_sdk.MISSING,
        skip_source_errors=request.skip_source_errors or globus_sdk.MISSING,
        **_common(request, signature, **rest),
    )
    for item, (origin, goal) in zip(request.items, pairs, strict=True):
        algorithm, _, digits = item.checksum.partition(":")
        document.add_item(
            origin,
            goal,
            recursive=request.recursive,
            external_checksum=digits or globus_sdk.MISSING,
            checksum_algorithm=algorithm.upper() or globus_sdk.MISSING,
        )
    for rule in request.filters:
        # Of files only: a folder that a pattern happens to match would go with all that is in it.
        document.add_filter_rule(rule.name, method=rule.method, type="file")
    return document


def delete_document(request: DeleteRequest, place: Collection, **rest: Any) -> globus_sdk.DeleteData:
    """Return the document of a deletion; ``rest`` as for `transfer_document`."""
    doomed = [doomed_path(path, place) for path in request.paths]
    document = globus_sdk.DeleteData(
        place.id,
        recursive=request.recursive,
        ignore_missing=request.ignore_missing,
        # A name with a star in it is a name.
        interpret_globs=False,
        **_common(request, ["delete", place.id, sorted(doomed)], **rest),
    )
    for path in doomed:
        document.add_item(path)
    return document


def _common(request: Request, signature: Any, *, submission_id: str, notify: bool) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "label": _label(request.label, signature),
        "deadline": _whole_second(request.deadline) if request.deadline else globus_sdk.MISSING,
        "notify_on_succeeded": notify,
        "notify_on_failed": notify,
        "notify_on_inactive": notify,
    }


def _whole_second(moment: datetime) -> str:
    """Return a moment as the service writes it, never an earlier one."""
    return (moment.astimezone(timezone.utc) + timedelta(microseconds=999_999)).isoformat(timespec="seconds")


def _label(label: str, signature: Any) -> str:
    """Return a label by which the task can be found again: the service does not tell the items of a live task."""
    digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()[:12]
    marked = f"{label} chiltepin-{digest}".strip()
    return marked if len(marked) <= LABEL_LIMIT else label


def mark(document: Mapping[str, Any]) -> str:
    """Return the mark in the label of a document or of a task; empty if it has none."""
    last = str(document.get("label") or "").rpartition(" ")[2]
    return last if last.startswith("chiltepin-") else ""


def troubled(task: Mapping[str, Any]) -> bool:
    """Whether something is wrong with a task that its events tell more about."""
    return task["status"] in ("FAILED", "INACTIVE") or task.get("nice_status") not in _FINE


def status_of(handle: TaskHandle, task: Mapping[str, Any], event: Mapping[str, Any] | None) -> TaskStatus:
    """Return what a task document says.

    Parameters
    ----------
    handle : TaskHandle
        The task.
    task : mapping
        Its document. Of ``FAILED`` the fatal error tells what it was; ``ACTIVE`` may be paused.
    event : mapping or None
        Its last event that was an error, if one is known.
    """
    fatal = task.get("fatal_error")
    fatal = fatal if isinstance(fatal, dict) else {}
    code = word(fatal.get("code"))
    state = _STATES.get(task["status"]) or _FATAL.get(code, TaskState.FAILED)
    if state is TaskState.ACTIVE and task.get("is_paused"):
        state, code = TaskState.PAUSED, "PAUSED"
    elif state is TaskState.PAUSED:
        code = "INACTIVE"
    elif state is TaskState.ACTIVE and troubled(task):
        code = word(task["nice_status"])
    elif state is TaskState.FAILED and not code:
        code = word((event or {}).get("code")) or "FAILED"
    deletes = task.get("type") == "DELETE"
    return TaskStatus(
        handle=handle,
        state=state,
        code=code,
        reason=_reason(task, fatal, event, code),
        bytes_done=_count(task.get("bytes_transferred")),
        files_done=_count(task.get("subtasks_succeeded" if deletes else "files_transferred")),
        files_skipped=_count(task.get("files_skipped")),
        faults=_count(task.get("faults")),
    )


def _count(value: Any) -> int:
    """Return a number that only tells how far a task is; 0 if it is none, for an end is not to depend on it."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _reason(task: Mapping[str, Any], fatal: Mapping[str, Any], event: Mapping[str, Any] | None, code: str) -> str:
    if not code:
        waits = task.get("nice_status") == "Queued"
        return "It waits for its turn: Globus works on three tasks of a kind and user at a time." if waits else ""
    said = [
        fatal.get("description"),
        None if fatal else task.get("nice_status_short_description"),
        (event or {}).get("description"),
        (event or {}).get("details") or task.get("nice_status_details"),
    ]
    # The same words often come twice.
    lines = list(dict.fromkeys(line for text in said if text and (line := one_line(str(text)))))
    # Also where the code says nothing of a login: a site's policy may come as any trouble of a connection.
    options = options_in("\n".join(str(text) for text in said if text))
    cure = f"Type: {login_command(options)}. " if options or code in _LOGINS else _CURES.get(code, "")
    return f"{': '.join(lines) or 'Globus gives no reason'}. {cure}{_see(identifier(task['task_id']))}"


def _see(task_id: str) -> str:
    """Return where a person looks at a task."""
    return f"See https://app.globus.org/activity/{task_id}"


def untold(handle: TaskHandle, why: str) -> TaskStatus:
    """Return the status of a task of which nothing could be learned this time: it may go on."""
    return TaskStatus(handle=handle, state=TaskState.ACTIVE, code=UNREAD, reason=one_line(why) + ".")


def lost(handle: TaskHandle) -> TaskStatus:
    """Return the status of a task that Globus does not know, or not any more."""
    reason = f"Globus does not know the task, or not any more. {_see(handle.task_id)}"
    return TaskStatus(handle=handle, state=TaskState.LOST, code="LOST", reason=reason)


def is_entry(document: Any) -> bool:
    """Return True for the document of a file or folder; errors as `entries` for one that does not say what it is."""
    if not isinstance(kind := document["type"], str) or not kind:
        raise TypeError(type(kind).__name__)
    return True


def entry_of(entry: Mapping[str, Any]) -> DirEntry:
    """Return an entry of a listing.

    Raises
    ------
    LookupError, TypeError, ValueError
        If it makes no sense.
    """
    name = entry["name"]
    # A name with a slash, or none, leads elsewhere than the folder that was asked for.
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("no name")
    kind = "link" if entry.get("link_target") else _KINDS.get(str(entry["type"]), "other")
    modified = entry.get("last_modified")
    return DirEntry(
        name=name,
        kind="link" if entry["type"] == "invalid_symlink" else kind,  # type: ignore[arg-type]
        size=int(entry.get("size") or 0) if kind == "file" else 0,
        modified=datetime.fromisoformat(modified).astimezone(timezone.utc) if modified else None,
    )
