"""Read tasks of Globus: their statuses, the outcomes of their items, and running tasks with the same paths."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chiltepin.backends.globus import documents, responses
from chiltepin.backends.globus import item_outcomes as items
from chiltepin.backends.globus.errors import BACKEND
from chiltepin.backends.globus.text import uuid
from chiltepin.errors import BackendError, LoginRequiredError, PathNotFoundError
from chiltepin.model import UUID, TaskHandle, TaskState, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import globus_sdk

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import ItemOutcome, Request, TaskEvent, TaskInfo, TaskStatus

__all__ = ["TaskReader", "known_id"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Limit of files in the list of a task; a longer list is treated as endless.
MAX_LISTED = 1_000_000

#: Limit of pages of such a list; each has up to 1,000 files.
MAX_PAGES = 10_000

#: Tasks in one request. The filter accepts a list of ids, without a documented limit; the filter for administrators of
#: endpoints accepts 50 (Transfer API, "endpoint_manager_task_list").
TASKS_PER_POLL = 50

#: Tasks in one page of the list of all tasks.
LISTED = 100

#: Running tasks: the statuses in which the service refuses a new task with identical paths.
_LIVE = "status:ACTIVE,INACTIVE"

#: Without this filter, the service lists only transfers (SDK documentation, ``task_list``).
_KINDS = "type:TRANSFER,DELETE"


def known_id(task_id: str) -> str:
    """Return the id of a task, which becomes part of a URL; PathNotFoundError if it is not a UUID."""
    if not UUID.fullmatch(task_id):
        raise PathNotFoundError(
            f"{task_id!r} is not the id of a Globus task; give a UUID from: chiltepin task list", backend=BACKEND
        )
    return task_id


class Ask(Protocol):
    """Runs one call with the Globus client; ``what`` begins the error message."""

    def __call__(self, what: str, call: Callable[[globus_sdk.TransferClient], T]) -> T:
        """Return what the call returns."""


class TaskReader:
    """Reads tasks of one login.

    ``ask`` runs one call with the client, ``find`` returns the collection of an endpoint.
    """

    def __init__(
        self,
        ask: Ask,
        find: Callable[[str], Collection],
    ) -> None:
        self._ask, self._find = ask, find
        # For each task with a fault, the fault whose event was fetched, and the event.
        self._events: dict[str, tuple[Any, dict[str, Any] | None]] = {}

    def forget(self) -> None:
        """Forget the events of all tasks."""
        self._events.clear()

    def find_duplicate(self, document: Mapping[str, Any]) -> str | None:
        """Return the id of Chiltepin's running task with the same paths; None if there is none."""
        mark = documents.fingerprint(document)
        live = self._ask(
            "Looking for the task with the same paths",
            lambda client: [
                (uuid(task["task_id"]), documents.fingerprint(task))
                for task in responses.entries(client.task_list(limit=1000, filter=f"{_LIVE}/{_KINDS}"))
            ],
        )
        return next((task_id for task_id, its_mark in live if mark and its_mark == mark), None)

    def require_same(self, task_id: str, document: Mapping[str, Any]) -> None:
        """Raise a BackendError unless a task, which was found by its submission id, has the paths of a document."""
        label = self._ask(f"Reading task {task_id}", lambda client: {"label": client.get_task(task_id)["label"]})
        if documents.fingerprint(label) != documents.fingerprint(document):
            raise BackendError(
                f"submission_id={document['submission_id']!r} was used before for task {task_id}, which may have other "
                "endpoints or paths; use a new one.",
                backend="globus",
                code="Duplicate",
            )

    def poll(self, handles: Sequence[TaskHandle]) -> list[TaskStatus]:
        """Return the status of each task, in the same order."""
        found = {
            task["task_id"].lower(): task
            for chunk in _chunks(sorted({handle.task_id for handle in handles if UUID.fullmatch(handle.task_id)}))
            for task in self._documents(chunk)
        }
        statuses = [self._status(handle, found.get(handle.task_id.lower())) for handle in handles]
        living = {status.handle.task_id for status in statuses if not status.state.final}
        # Nothing is kept about tasks that have ended or are no longer polled.
        self._events = {task_id: known for task_id, known in self._events.items() if task_id in living}
        return statuses

    def _documents(self, task_ids: Sequence[str]) -> list[dict[str, Any]]:
        wanted = f"task_id:{','.join(task_ids)}/{_KINDS}"
        return self._ask(
            "Polling tasks",
            lambda client: responses.tasks(client.task_list(limit=len(task_ids), filter=wanted)),
        )

    def _document(self, handle: TaskHandle) -> dict[str, Any]:
        return self._ask(
            f"Reading task {handle.task_id}",
            lambda client: responses.task(client.get_task(known_id(handle.task_id)).data, handle.task_id),
        )

    def _status(self, handle: TaskHandle, task: Mapping[str, Any] | None) -> TaskStatus:
        """Return the status of one task; an error with it does not affect other tasks."""
        if task is None:
            # The list may be late or malformed; the request for the single task decides.
            try:
                task = self._document(handle)
            except PathNotFoundError:
                return responses.lost_status(handle)
            except LoginRequiredError:
                raise
            except BackendError as err:
                return responses.unknown_status(handle, str(err))
        status = responses.status_of(handle, task, self._event(task))
        left_out = int(task.get("subtasks_skipped_errors") or 0)
        if status.state is TaskState.SUCCEEDED and left_out and task.get("skip_source_errors") is False:
            reason = (
                f"Globus skipped {left_out} paths whose source it could not read, although skip_source_errors was "
                "not set."
            )
            return replace(status, state=TaskState.FAILED, code="SKIPPED", reason=reason)
        return status

    def _event(self, task: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the last error event of a task with a fault; it is requested once for each fault."""
        task_id = task["task_id"]
        if not responses.has_error(task) and not task.get("is_paused"):
            self._events.pop(task_id, None)
            return None
        fault = (task["status"], task.get("nice_status"))
        known, event = self._events.get(task_id, (None, None))
        if known != fault:
            try:
                paused = task.get("is_paused")
                event = self._pause(task_id) if paused else next(iter(self._errors(task_id, most=1)), None)
            except LoginRequiredError:
                raise
            except BackendError as err:
                # The task document has the essentials; a retry at every poll would fail as often.
                logger.warning("Could not read the events of task %s: %s", task_id, err)
                event = None
            self._events[task_id] = fault, event
        return event

    def _pause(self, task_id: str) -> dict[str, Any] | None:
        """Return the messages of the administrators who paused a task, as an event."""
        return responses.pause_event(
            self._ask(
                f"Reading the pause rules of task {task_id}",
                lambda client: client.task_pause_info(task_id).data,
            )
        )

    def outcomes(self, handle: TaskHandle, request: Request) -> list[ItemOutcome | None]:
        """Return the outcome of each item; None if it is unknown."""
        task = self._document(handle)
        left_out = responses.skipped_paths(task)
        skipped = self._list(handle, "task_skipped_errors") if left_out else []
        find, succeeded = self._find, task["status"] == "SUCCEEDED"
        # A skipped path that is not listed, or belongs to no item, may belong to any of them.
        accepted = isinstance(request, TransferRequest) and request.accept_skipped
        whole = succeeded and (accepted or items.all_skipped_known(request, find, skipped, left_out))
        moved = [] if whole or task["type"] == "DELETE" else self._list(handle, "task_successful_transfers")
        # The errors of a successful task were overcome.
        errors = [] if succeeded else self._errors(handle.task_id, most=1000)
        return items.outcomes_of(request, find, whole=whole, skipped=skipped, moved=moved, errors=errors)

    def tasks(self) -> Iterator[TaskInfo]:
        """Yield all tasks of the user, newest first."""
        for start in count(step=LISTED):
            page = self._ask("Listing the tasks", partial(_task_page, start=start))
            for task in responses.tasks(page):
                handle = TaskHandle(backend=BACKEND, task_id=uuid(task["task_id"]), submission_id="")
                yield responses.info_of(responses.status_of(handle, task, None), task, documents.plain_label(task))
            if len(page["DATA"]) < LISTED:
                return

    def task(self, task_id: str) -> TaskInfo:
        """Return one task, with the reason for a fault."""
        handle = TaskHandle(backend=BACKEND, task_id=task_id, submission_id="")
        task = self._document(handle)
        return responses.info_of(self._status(handle, task), task, documents.plain_label(task))

    def events(self, task_id: str, *, limit: int) -> list[TaskEvent]:
        """Return the last events of a task, newest first."""
        return self._ask(
            f"Reading the events of task {task_id}",
            lambda client: [
                responses.event_of(event)
                for event in responses.entries(client.task_event_list(known_id(task_id), limit=limit))
            ],
        )

    def _list(self, handle: TaskHandle, method: str) -> list[dict[str, Any]]:
        return self._ask(
            f"Reading the items of task {handle.task_id}",
            lambda client: _all(getattr(client.paginated, method)(handle.task_id)),
        )

    def _errors(self, task_id: str, *, most: int) -> list[dict[str, Any]]:
        """Return the last error events of a task, newest first."""
        return self._ask(
            f"Reading the events of task {task_id}",
            lambda client: responses.entries(
                client.task_event_list(task_id, limit=most, query_params={"filter": "is_error:1"})
            ),
        )


def _task_page(client: globus_sdk.TransferClient, *, start: int) -> dict[str, Any]:
    page = client.task_list(limit=LISTED, offset=start, filter=_KINDS, orderby="request_time DESC")
    return {"DATA": responses.entries(page)}


def _all(pages: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the entries of all pages; ValueError if a page is repeated, or there are too many."""
    found: list[dict[str, Any]] = []
    markers: set[str] = set()
    for number, page in enumerate(pages):
        found += responses.entries(page)
        marker = str(page.get("next_marker"))
        if marker in markers or number >= MAX_PAGES or len(found) > MAX_LISTED:
            raise ValueError("no end")
        markers.add(marker)
    return found


def _chunks(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(task_ids), TASKS_PER_POLL):
        yield task_ids[start : start + TASKS_PER_POLL]
