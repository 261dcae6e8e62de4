"""The routes that list and change the files of a collection at once, without a task."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import g, jsonify, request

from chiltepin.protocol.paths import joined
from chiltepin.testing.simulator import filters
from chiltepin.testing.simulator.api_errors import ApiError, bad_request
from chiltepin.testing.simulator.documents import file_document
from chiltepin.testing.simulator.routes import result
from chiltepin.testing.simulator.submissions import required_text
from chiltepin.testing.simulator.task_faults import FROM_DISK, TaskFault, fault_from_error

if TYPE_CHECKING:
    from flask import Response

    from chiltepin.backends.filesystem.local.folder import LocalFolder
    from chiltepin.protocol.paths import Parts
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.request_guard import RequestGuard
    from chiltepin.testing.simulator.routes import Route
    from chiltepin.testing.simulator.settings import Settings

__all__ = ["file_routes"]

_FIELDS = ("name", "type", "size", "user", "group", "permissions", "last_modified")


def file_routes(guard: RequestGuard, settings: Settings) -> tuple[Route, ...]:
    """Return the routes of the operations."""
    views = _Views(guard, settings)
    path = "/operation/endpoint/<endpoint_id>"
    return (
        ("GET", f"{path}/ls", views.ls),
        ("GET", f"{path}/stat", views.stat),
        ("POST", f"{path}/mkdir", views.mkdir),
        ("POST", f"{path}/rename", views.rename),
    )


class _Views:
    def __init__(self, guard: RequestGuard, settings: Settings) -> None:
        self._guard, self._settings = guard, settings

    def ls(self, endpoint_id: str) -> Response:
        collection = self._open(endpoint_id)
        path = request.args.get("path") or "/~/"
        place = ""
        try:
            parts = self._place(collection, path)
            with collection.store.folder(parts) as folder:
                place = joined(parts)
                entries = sorted(folder.entries(), key=lambda entry: entry.name)
                files = [_entry_document(collection, folder, (*parts, entry.name)) for entry in entries]
        except FROM_DISK as err:
            raise _listing_failed(fault_from_error(err, collection.where(path))) from None
        if request.args.get("show_hidden", "1") in ("0", "false"):
            files = [file for file in files if not file["name"].startswith(".")]
        wanted = [filters.clauses(text, _FIELDS) for text in request.args.getlist("filter") if text]
        if wanted:
            files = [file for file in files if any(filters.matches(file, clauses) for clauses in wanted)]
        files = filters.ordered(files, request.args.get("orderby", ""))
        most = self._settings.listing_size
        limit = min(request.args.get("limit", most, int), most)
        shown = filters.page(files, limit, request.args.get("offset", 0, int))
        return jsonify(
            DATA_TYPE="file_list",
            DATA=shown,
            absolute_path=f"{place.rstrip('/')}/",
            endpoint=collection.id,
            length=len(shown),
            path=f"{path.rstrip('/')}/",
            rename_supported=True,
            symlink_supported=False,
            total=len(files),
        )

    def stat(self, endpoint_id: str) -> Response:
        collection = self._open(endpoint_id)
        path = request.args.get("path") or "/~/"
        try:
            parts = self._place(collection, path)
            if parts:
                with collection.store.folder(parts[:-1]) as above:
                    document = file_document(above.descriptor, parts[-1])
            else:
                with collection.store.folder(()) as root:
                    document = file_document(root.descriptor, ".", called="/")
        except FROM_DISK as err:
            raise _stat_failed(fault_from_error(err, collection.where(path))) from None
        return jsonify(document)

    def mkdir(self, endpoint_id: str) -> Response:
        """Create a folder in an existing folder."""
        collection = self._open(endpoint_id)
        path = required_text(_body(), "path")
        try:
            _mkdir(collection, collection.parts(path))
        except FileExistsError:
            raise ApiError(502, "ExternalError.MkdirFailed.Exists", f"Path already exists: {path}") from None
        except FROM_DISK as err:
            fault = fault_from_error(err, collection.where(path))
            denied = ".PermissionDenied" if fault.code == "PERMISSION_DENIED" else ""
            raise ApiError(502, f"ExternalError.MkdirFailed{denied}", fault.details) from None
        return result("DirectoryCreated", "The directory was created successfully", data_type="mkdir_result")

    def rename(self, endpoint_id: str) -> Response:
        """Rename a file or folder; an existing one is not replaced."""
        collection = self._open(endpoint_id)
        old, new = required_text(_body(), "old_path"), required_text(_body(), "new_path")
        try:
            _rename(collection, collection.parts(old), collection.parts(new))
        except FileExistsError:
            raise ApiError(502, "ExternalError.RenameFailed.Exists", f"Path already exists: {new}") from None
        except FROM_DISK as err:
            fault = fault_from_error(err, collection.where(old))
            if fault.code == "FILE_NOT_FOUND":
                raise ApiError(404, "ClientError.NotFound", fault.details) from None
            denied = ".PermissionDenied" if fault.code == "PERMISSION_DENIED" else ""
            raise ApiError(502, f"ExternalError.RenameFailed{denied}", fault.details) from None
        return result("FileRenamed", "File or directory renamed successfully")

    def _open(self, endpoint_id: str) -> Collection:
        collection = self._guard.collection(endpoint_id)
        self._guard.reachable(g.grant, collection)
        return collection

    def _place(self, collection: Collection, path: str) -> Parts:
        parts = collection.parts(path)
        collection.admit(parts)
        return collection.store.resolve(parts, follow=True)


def _body() -> dict[str, Any]:
    return request.get_json(silent=True) or {}


def _entry_document(collection: Collection, folder: LocalFolder, parts: Parts) -> dict[str, Any]:
    """Return the document of an entry; a link is described by its target, if that is in the collection."""
    document = file_document(folder.descriptor, parts[-1])
    if document["link_target"] is None:
        return document
    with suppress(*FROM_DISK):
        place = collection.store.resolve(parts, follow=True)
        with collection.store.folder(place[:-1]) as there:
            target = file_document(there.descriptor, place[-1] if place else ".", called=parts[-1])
        link = {name: value for name, value in document.items() if name.startswith("link_")}
        return {**target, **link}
    return document


def _mkdir(collection: Collection, parts: Parts) -> None:
    collection.admit(parts)
    if not parts:
        raise FileExistsError
    with collection.store.enter(parts[:-1])[1] as above:
        os.mkdir(parts[-1], dir_fd=above.descriptor)


def _rename(collection: Collection, old: Parts, new: Parts) -> None:
    for parts in (old, new):
        collection.admit(parts)
        if not parts:
            raise TaskFault("PERMISSION_DENIED", f"{collection.where('/')}: The root cannot be renamed")
    with collection.store.enter(old[:-1])[1] as source, collection.store.enter(new[:-1])[1] as goal:
        os.stat(old[-1], dir_fd=source.descriptor, follow_symlinks=False)
        if goal.entry(new[-1]) is not None:
            raise FileExistsError
        os.rename(old[-1], new[-1], src_dir_fd=source.descriptor, dst_dir_fd=goal.descriptor)


def _listing_failed(fault: TaskFault) -> ApiError:
    if fault.code == "FILE_NOT_FOUND":
        return ApiError(404, "ClientError.NotFound", f"Directory Not Found\n{fault.details}")
    if fault.code == "INVALID_PATH_NAME":
        return bad_request(fault.details)
    if fault.outside:
        return ApiError(403, "EndpointPermissionDenied", f"Denied by endpoint, Error (list)\n{fault.details}")
    ends = {"NOT_A_DIRECTORY": ".NotDirectory", "PERMISSION_DENIED": ".PermissionDenied"}
    return ApiError(502, f"ExternalError.DirListingFailed{ends.get(fault.code, '')}", fault.details)


def _stat_failed(fault: TaskFault) -> ApiError:
    # The codes differ from those of a listing (globus_sdk.testing, transfer.operation_stat).
    if fault.code in ("FILE_NOT_FOUND", "NOT_A_DIRECTORY"):
        return ApiError(404, "NotFound", f"Path not found, Error (list)\n{fault.details}")
    if fault.code == "PERMISSION_DENIED":
        return ApiError(403, "EndpointPermissionDenied", f"Denied by endpoint, Error (list)\n{fault.details}")
    return ApiError(502, "EndpointError", fault.details)
