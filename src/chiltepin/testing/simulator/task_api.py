"""The routes that submit, describe and cancel tasks."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from flask import g, jsonify, request

from chiltepin.model import UUID
from chiltepin.testing.simulator import filters
from chiltepin.testing.simulator.api_errors import ApiError, bad_request, request_id
from chiltepin.testing.simulator.routes import result
from chiltepin.testing.simulator.submissions import checked_deadline, checked_label, read_submission, read_submission_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Response

    from chiltepin.testing.simulator.engine import Engine
    from chiltepin.testing.simulator.request_guard import RequestGuard
    from chiltepin.testing.simulator.routes import Route
    from chiltepin.testing.simulator.tasks import Task

__all__ = ["task_routes"]

#: Default and maximum number of entries of a list (globus_sdk, paging of task_list).
PAGE, PAGE_LIMIT = 10, 1000
_FIELDS = ("type", "task_id", "status", "label", "request_time", "completion_time", "owner_id", "username")


def task_routes(guard: RequestGuard, engine: Engine) -> tuple[Route, ...]:
    """Return the routes of submissions and tasks."""
    views = _Views(guard, engine)
    return (
        ("GET", "/submission_id", views.submission_id),
        ("POST", "/transfer", views.submit),
        ("POST", "/delete", views.submit),
        ("GET", "/task_list", views.task_list),
        ("GET", "/task/<task_id>", views.get_task),
        ("PUT", "/task/<task_id>", views.update_task),
        ("POST", "/task/<task_id>/cancel", views.cancel),
        ("GET", "/task/<task_id>/event_list", views.events),
        ("GET", "/task/<task_id>/successful_transfers", views.successful_transfers),
        ("GET", "/task/<task_id>/skipped_errors", views.skipped_errors),
        ("GET", "/task/<task_id>/pause_info", views.pause_info),
    )


class _Views:
    def __init__(self, guard: RequestGuard, engine: Engine) -> None:
        self._guard, self._engine = guard, engine

    def submission_id(self) -> Response:
        return jsonify(DATA_TYPE="submission_id", value=str(uuid.uuid4()))

    def submit(self) -> tuple[Response, int]:
        """Create a task; a repetition with the same submission id returns the existing task."""
        kind = request.path.rsplit("/", 1)[1]
        body = request.get_json(silent=True)
        if not isinstance(body, dict):
            raise bad_request("The body of the request is not a JSON object")
        if body.get("DATA_TYPE") != kind:
            raise bad_request(f"DATA_TYPE is {body.get('DATA_TYPE')!r}; expected {kind!r}")
        submission_id, owner_id = read_submission_id(body), g.grant.identity_id
        # Under one lock: two equal submissions at once must not create two tasks.
        with self._engine.lock:
            known = self._engine.known(owner_id, submission_id)
            if known is not None:
                return jsonify(_accepted(kind, submission_id, known, new=False)), 200
            submission, deadline = read_submission(body, self._guard.collection, self._engine.clock.time())
            for collection in filter(None, (submission.source, submission.destination)):
                self._guard.consented(g.grant, collection)
            task = self._engine.submit(submission, owner_id=owner_id, submission_id=submission_id, deadline=deadline)
        return jsonify(_accepted(kind, submission_id, task.id, new=True)), 202

    def task_list(self) -> Response:
        """List tasks; without a ``type`` in the filter, transfers only."""
        wanted = {"type": "TRANSFER", **filters.clauses(request.args.get("filter", ""), _FIELDS)}
        with self._engine.lock:
            known = self._engine.tasks
            # Tasks that are named by id are looked up directly.
            named = wanted.get("task_id", "").split(",")
            if all(map(UUID.fullmatch, named)):
                known = {name: known[name] for name in named if name in known}
            mine = [task for task in known.values() if task.owner_id == g.grant.identity_id]
            documents = [self._engine.document(task) for task in mine]
        # Newest first, even among tasks of the same second.
        documents = [document for document in reversed(documents) if filters.matches(document, wanted)]
        documents = filters.ordered(documents, request.args.get("orderby", "request_time DESC"))
        return self._list("task_list", documents)

    def get_task(self, task_id: str) -> Response:
        document = self._engine.document(self._task(task_id))
        return jsonify(filters.trimmed(document, request.args.get("fields")))

    def update_task(self, task_id: str) -> Response:
        task, body = self._task(task_id), request.get_json(silent=True) or {}
        with self._engine.lock:
            if task.over:
                raise bad_request("The task has completed and cannot be updated")
            if "label" in body:
                task.submission.label = checked_label(body["label"])
            deadline = checked_deadline(body.get("deadline"), self._engine.clock.time())
            if deadline is not None:
                task.deadline, task.submission.fixed_deadline = deadline, True
        self._engine.changed.set()
        return result("Updated", "Updated task deadline/label successfully")

    def cancel(self, task_id: str) -> Response:
        if self._engine.cancel(self._task(task_id)):
            return result("Canceled", "The task has been cancelled successfully.")
        return result("TaskComplete", "The task completed before the cancel request was processed.")

    def events(self, task_id: str) -> Response:
        wanted = filters.clauses(request.args.get("filter", ""), ("is_error", "code"))
        with self._engine.lock:
            events = [event.document() for event in reversed(self._task(task_id).events)]
        return self._list("event_list", [event for event in events if filters.matches(event, wanted)])

    def successful_transfers(self, task_id: str) -> Response:
        task = self._ended(task_id, "successful transfers")
        return self._marked("successful_transfers", _seen(task, task.successful))

    def skipped_errors(self, task_id: str) -> Response:
        task = self._ended(task_id, "skipped errors")
        return self._marked("skipped_errors", _seen(task, task.skipped))

    def pause_info(self, task_id: str) -> Response:
        task = self._task(task_id)
        rules = [
            {
                "DATA_TYPE": "pause_rule_limited",
                "id": str(uuid.uuid5(uuid.UUID(collection.id), "pause rule")),
                "message": collection.pause_message or f"The administrator of {collection.display_name} has paused it.",
                "endpoint_id": collection.id,
                "endpoint_display_name": collection.display_name,
                "identity_id": None,
                "modified_time": task.document(self._engine.clock.time())["request_time"],
                **dict.fromkeys(_PAUSABLE, True),
            }
            for collection in task.collections
            if collection.paused
        ]
        messages: dict[str, str | None] = dict.fromkeys(
            f"{side}_pause_message{share}" for side in ("source", "destination") for share in ("", "_share")
        )
        if task.paused and not task.by_rule:
            messages["source_pause_message"] = task.admin_message or None
        return jsonify(DATA_TYPE="pause_info_limited", pause_rules=rules, **messages)

    def _task(self, task_id: str) -> Task:
        task = self._engine.tasks.get(task_id.lower())
        if task is None or task.owner_id != g.grant.identity_id:
            raise ApiError(404, "ClientError.NotFound", f"No task found with id '{task_id}'")
        return task

    def _ended(self, task_id: str, what: str) -> Task:
        task = self._task(task_id)
        if not task.over:
            raise bad_request(f"Task {task_id} is still in progress, {what} are not yet available")
        if task.kind != "TRANSFER":
            raise bad_request(f"Task {task_id} is not a transfer, it has no {what}")
        return task

    def _list(self, data_type: str, documents: Sequence[dict[str, Any]]) -> Response:
        limit = min(request.args.get("limit", PAGE, int), PAGE_LIMIT)
        offset = request.args.get("offset", 0, int)
        shown = filters.page(documents, limit, offset)
        return jsonify(
            DATA_TYPE=data_type,
            DATA=[filters.trimmed(document, request.args.get("fields")) for document in shown],
            length=len(shown),
            limit=limit,
            offset=offset,
            total=len(documents),
        )

    def _marked(self, data_type: str, documents: Sequence[dict[str, Any]]) -> Response:
        marker = request.args.get("marker")
        try:
            start = int(marker or 0)
        except ValueError:
            raise bad_request(f"The marker {marker!r} is not one of ours") from None
        end = start + self._engine.settings.page_size
        following = str(end) if end < len(documents) else None
        return jsonify(DATA_TYPE=data_type, DATA=documents[start:end], marker=marker, next_marker=following)


def _seen(task: Task, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of a list as the user may see them (types of the JavaScript SDK, ``SkippedErrorDocument``)."""
    sides = zip(("source_path", "destination_path"), task.collections, strict=True)
    hidden: dict[str, Any] = {side: None for side, collection in sides if collection.hides_paths}
    return [{**entry, **hidden} for entry in entries]


_PAUSABLE = (
    "pause_ls",
    "pause_mkdir",
    "pause_rename",
    "pause_symlink",
    "pause_task_delete",
    "pause_task_transfer_read",
    "pause_task_transfer_write",
)


def _accepted(kind: str, submission_id: str, task_id: str, *, new: bool) -> dict[str, Any]:
    first = f"The {kind} has been accepted and a task has been created and queued for execution"
    again = f"A {kind} with this submission id has been accepted before"
    return {
        "DATA_TYPE": f"{kind}_result",
        "code": "Accepted" if new else "Duplicate",
        "message": first if new else again,
        "request_id": request_id(),
        "resource": request.path,
        "submission_id": submission_id,
        "task_id": task_id,
        "task_link": {
            "DATA_TYPE": "link",
            "href": f"/v0.10/task/{task_id}?format=json",
            "rel": "related",
            "resource": "task",
            "title": "related task",
        },
    }
