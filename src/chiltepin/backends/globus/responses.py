"""Check the responses of the Transfer API and convert them into our model."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.session_requirements import login_command, options_in
from chiltepin.backends.globus.text import one_line, token, uuid, web_app
from chiltepin.model import UNREAD, DirEntry, TaskEvent, TaskHandle, TaskInfo, TaskState, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "entries",
    "entry_of",
    "event_of",
    "has_error",
    "info_of",
    "is_entry",
    "lost_status",
    "pause_event",
    "result_code",
    "skipped_paths",
    "status_of",
    "task",
    "tasks",
    "unknown_status",
]

_STATES = {"SUCCEEDED": TaskState.SUCCEEDED, "ACTIVE": TaskState.ACTIVE, "INACTIVE": TaskState.PAUSED}
_FATAL = {"CANCELED": TaskState.CANCELED, "EXPIRED": TaskState.EXPIRED}

#: The ``nice_status`` of a task without a fault.
_NO_ERROR = (None, "", "OK", "Queued")

#: What to do about a fault, if known.
_HINTS = {
    "EXTERNAL_CHECKSUM_MISMATCH": "Check that the checksum belongs to the source. ",
    "FILE_NOT_FOUND": "Check the path. ",
    "GC_NOT_CONNECTED": "Start Globus Connect Personal on that machine. ",
    "IS_A_DIRECTORY": "Set recursive=True for a folder. ",
    "MPU_NOT_FOUND": "Check that no rule of the bucket removes incomplete uploads too early. ",
    "NOT_A_DIRECTORY": "Omit recursive for a file. ",
    "NO_PHYSICALS": "Check that a server of the endpoint is running. ",
    "NO_SPACE_LEFT": "Make room there. ",
    "PERMISSION_DENIED": "Check that you may read the source and write to the destination. ",
    "QUOTA_EXCEEDED": "Make room there. ",
}

#: Faults that a new login resolves; the text of the event may say which login.
_LOGIN_CODES = frozenset({"AUTH", "INACTIVE", "NO_CREDENTIALS"})

_KINDS = {"dir": "dir", "file": "file"}


#: All statuses of a task (SDK documentation, ``get_task``).
_STATUSES = frozenset({"ACTIVE", "INACTIVE", "SUCCEEDED", "FAILED"})


def entries(page: Any) -> list[dict[str, Any]]:
    """Return the entries of a list, or of one of its pages; TypeError or KeyError for any other response."""
    found = page["DATA"]
    if not isinstance(found, list):
        raise TypeError(type(found).__name__)
    return [dict(entry) for entry in found]


def result_code(answer: Any) -> str:
    """Return the code of a response; errors as for `entries`."""
    code = answer["code"]
    if not isinstance(code, str) or not code:
        raise TypeError(type(code).__name__)
    return code


def task(document: Any, task_id: str = "") -> dict[str, Any]:
    """Return the document of a task; errors as for `entries`, and ValueError if a required field is missing.

    An incomplete response could be mistaken for a success with skipped files. ``task_id`` is the requested task, if
    known.
    """
    whole = dict(document)
    if uuid(whole["task_id"]).lower() != (task_id or whole["task_id"]).lower():
        raise ValueError(whole["task_id"])
    if whole["status"] not in _STATUSES or whole["type"] not in ("DELETE", "TRANSFER"):
        raise ValueError(whole["status"])
    left_out = whole["subtasks_skipped_errors"] if whole["type"] != "DELETE" else 0
    if isinstance(left_out, bool) or not isinstance(left_out, int) or left_out < 0:
        raise ValueError(left_out)
    return whole


#: The counts of the subtasks of a task.
_COUNTS = (
    "subtasks_canceled",
    "subtasks_expired",
    "subtasks_failed",
    "subtasks_pending",
    "subtasks_retrying",
    "subtasks_skipped_errors",
    "subtasks_succeeded",
)


def skipped_paths(document: Mapping[str, Any]) -> int:
    """Return how many paths a task may have skipped: the reported number, or more if its counts do not add up."""
    reported = int(document.get("subtasks_skipped_errors") or 0)
    total = document.get("subtasks_total")
    counts = [count for name in _COUNTS if isinstance(count := document.get(name), int)]
    if not isinstance(total, int) or len(counts) < len(_COUNTS):
        return reported
    return max(reported, total - sum(counts))


def tasks(page: Any) -> list[dict[str, Any]]:
    """Return the valid documents of a list of tasks; the caller fetches the rest one by one."""
    found = []
    for document in entries(page):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            found.append(task(document))
    return found


def has_error(task: Mapping[str, Any]) -> bool:
    """Whether a task has a fault that its events explain."""
    return task["status"] in ("FAILED", "INACTIVE") or task.get("nice_status") not in _NO_ERROR


def status_of(handle: TaskHandle, task: Mapping[str, Any], event: Mapping[str, Any] | None) -> TaskStatus:
    """Return the status from a task document and the task's last error event, if known.

    The reason of ``FAILED`` is the fatal error; an ``ACTIVE`` task may be paused.
    """
    fatal = task.get("fatal_error")
    fatal = fatal if isinstance(fatal, dict) else {}
    code = token(fatal.get("code")) if fatal else ""
    state = _STATES.get(task["status"]) or _FATAL.get(code, TaskState.FAILED)
    if state is TaskState.ACTIVE and task.get("is_paused"):
        state, code = TaskState.PAUSED, "PAUSED"
    elif state is TaskState.PAUSED:
        code = "INACTIVE"
    elif state is TaskState.ACTIVE and has_error(task):
        code = token(task["nice_status"])
    elif state is TaskState.FAILED and not code:
        code = token((event or {}).get("code")) or "FAILED"
    return TaskStatus(
        handle=handle,
        state=state,
        code=code,
        reason=_reason(task, fatal, event, code),
        bytes_done=_count(task.get("bytes_transferred")),
        files_done=_files_deleted(task) if task.get("type") == "DELETE" else _count(task.get("files_transferred")),
        files_skipped=_count(task.get("files_skipped")),
        faults=_count(task.get("faults")),
    )


def info_of(status: TaskStatus, task: Mapping[str, Any], label: str) -> TaskInfo:
    """Return the facts in a task document; LookupError, TypeError or ValueError if it is invalid."""
    return TaskInfo(
        status=status,
        kind="delete" if task["type"] == "DELETE" else "transfer",
        source=_endpoint(task, "source"),
        destination=_endpoint(task, "destination"),
        label=one_line(label),
        asked=_moment(task["request_time"]),
        ended=_moment(task["completion_time"]) if task.get("completion_time") else None,
        deadline=_moment(task["deadline"]) if task.get("deadline") else None,
    )


def _endpoint(task: Mapping[str, Any], side: str) -> str:
    found = task.get(f"{side}_endpoint_display_name") or task.get(f"{side}_endpoint_id") or ""
    return one_line(str(found))


def event_of(event: Mapping[str, Any]) -> TaskEvent:
    """Return an event of a task; errors as for `info_of`."""
    return TaskEvent(
        time=_moment(event["time"]),
        code=token(event["code"]),
        is_error=bool(event["is_error"]),
        details=one_line(str(event.get("details") or event.get("description") or "")),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def _files_deleted(task: Mapping[str, Any]) -> int:
    """Return the maximum number of files and links that have been deleted so far."""
    # These are files found; subtasks also count folders and items (globus_sdk.testing, "endpoint_manager_task_list").
    found = _count(task.get("files")) + _count(task.get("symlinks"))
    return min(found, _count(task.get("subtasks_succeeded")))


def _count(value: Any) -> int:
    """Return a number that only shows progress; 0 for an invalid one, which must not fail a poll."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _reason(task: Mapping[str, Any], fatal: Mapping[str, Any], event: Mapping[str, Any] | None, code: str) -> str:
    if not code:
        waits = task.get("nice_status") == "Queued"
        return "It is queued: Globus runs three tasks of a kind and user at a time." if waits else ""
    texts = [
        _cancellation(task),
        fatal.get("description"),
        None if fatal else task.get("nice_status_short_description"),
        (event or {}).get("description"),
        (event or {}).get("details") or task.get("nice_status_details"),
    ]
    # The same text often appears twice.
    lines = list(dict.fromkeys(line for text in texts if text and (line := one_line(str(text)))))
    # Also if the code is not about a login: a site's policy may appear as any connection fault.
    options = options_in("\n".join(str(text) for text in texts if text))
    cure = f"Type: {login_command(options)}. " if options or code in _LOGIN_CODES else _HINTS.get(code, "")
    return f"{': '.join(lines) or 'Globus gives no reason'}. {cure}{_task_link(uuid(task['task_id']))}".rstrip()


def _cancellation(task: Mapping[str, Any]) -> str | None:
    """Return the message of the administrator who canceled a task; None if no administrator did."""
    side = token(task.get("canceled_by_admin"))
    if not side:
        return None
    who = f"An administrator of the {side.lower()}" if side in ("SOURCE", "DESTINATION") else "Administrators"
    return f"{who} canceled it: {task.get('canceled_by_admin_message') or 'no reason given'}"


#: Keys of the messages of administrators who paused this task alone.
_PAUSE_MESSAGES = (
    "source_pause_message",
    "source_pause_message_share",
    "destination_pause_message",
    "destination_pause_message_share",
)


def pause_event(document: Any) -> dict[str, Any] | None:
    """Return the messages of the administrators and rules that pause a task, as an event; None if there are none.

    Errors as for `entries`.
    """
    explicit = [document.get(key) for key in _PAUSE_MESSAGES]
    rules = [
        f"{rule.get('message') or 'no reason given'} (rule of {rule.get('endpoint_display_name') or 'an endpoint'})"
        for rule in document.get("pause_rules") or ()
    ]
    said = [str(text) for text in (*explicit, *rules) if text]
    return {"description": f"An administrator has paused it: {' '.join(said)}"} if said else None


def _task_link(task_id: str) -> str:
    return web_app("See", f"activity/{task_id}")


def unknown_status(handle: TaskHandle, why: str) -> TaskStatus:
    """Return the status of a task whose document could not be read this time; the task may still be running."""
    return TaskStatus(handle=handle, state=TaskState.ACTIVE, code=UNREAD, reason=one_line(why) + ".")


def lost_status(handle: TaskHandle) -> TaskStatus:
    """Return the status of a task that Globus does not know, or no longer knows."""
    reason = f"Globus does not know the task, or no longer knows it. {_task_link(handle.task_id)}".rstrip()
    return TaskStatus(handle=handle, state=TaskState.LOST, code="LOST", reason=reason)


def is_entry(document: Any) -> bool:
    """Return True for the document of a file or folder; errors as for `entries` if it has no type."""
    if not isinstance(kind := document["type"], str) or not kind:
        raise TypeError(type(kind).__name__)
    return True


def entry_of(entry: Mapping[str, Any]) -> DirEntry:
    """Return an entry of a listing; LookupError, TypeError or ValueError if it is invalid."""
    name = entry["name"]
    # An empty name, or one with a slash, would lead to another folder.
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("no name")
    kind = "link" if entry.get("link_target") else _KINDS.get(str(entry["type"]), "other")
    modified = entry.get("last_modified")
    return DirEntry(
        name=name,
        kind="link" if entry["type"] == "invalid_symlink" else kind,  # type: ignore[arg-type]
        size=int(entry.get("size") or 0) if kind == "file" else 0,
        modified=_moment(modified) if modified else None,
    )
