"""Operations on a path that need no task: list, stat, make a folder, rename."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import globus_sdk

from chiltepin.backends.globus import documents, responses
from chiltepin.backends.globus import listing as pages
from chiltepin.backends.globus.errors import call_globus
from chiltepin.errors import BackendError, PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.model import DirEntry

__all__ = ["FileOperations"]


class FileOperations:
    """The operations on the files of collections.

    ``ask`` runs a call of a client, and ``find`` returns the collection of an endpoint, once the login has the consent
    to its data.
    """

    def __init__(
        self, ask: Callable[[str, Callable[[globus_sdk.TransferClient], Any]], Any], find: Callable[[str], Collection]
    ) -> None:
        self._ask, self._find = ask, find

    def ls(self, endpoint: str, path: str) -> list[DirEntry]:
        """List a folder of any size."""
        place, folder = self._place(endpoint, path)
        what = f"Listing {folder} on endpoint {endpoint!r}"

        def page(offset: int) -> Mapping[str, Any]:
            found: dict[str, Any] = self._ask(
                what,
                lambda client: dict(
                    client.operation_ls(
                        place.id,
                        path=folder,
                        show_hidden=True,
                        orderby="name",
                        limit=pages.PAGE,
                        offset=offset,
                        local_user=_local_user(place),
                    ).data
                ),
            )
            return found

        return call_globus(partial(pages.complete, page, what), what)

    def exists(self, endpoint: str, path: str) -> bool:
        """Whether a path exists."""
        try:
            self._stat(endpoint, path, responses.is_entry)
        except PathNotFoundError:
            return False
        return True

    def stat(self, endpoint: str, path: str) -> DirEntry:
        """Return the entry at a path."""
        # The name comes from the path: the document of the root has none.
        entry: DirEntry = self._stat(endpoint, path, lambda document: responses.entry_of({**document, "name": "it"}))
        return replace(entry, name=posixpath.basename(posixpath.normpath(path)) or "/")

    def _stat(self, endpoint: str, path: str, read: Callable[[Any], Any]) -> Any:
        place, where = self._place(endpoint, path)
        return self._ask(
            f"Reading {path} on endpoint {endpoint!r}",
            lambda client: read(client.operation_stat(place.id, path=where, local_user=_local_user(place)).data),
        )

    def mkdir(self, endpoint: str, path: str) -> None:
        """Make one folder."""
        place, where = self._place(endpoint, path)
        self._change(
            f"Creating folder {where} on endpoint {endpoint!r}",
            lambda client: client.operation_mkdir(place.id, where, local_user=_local_user(place)),
        )

    def rename(self, endpoint: str, path: str, new_path: str) -> None:
        """Rename a file or a folder."""
        place, where = self._place(endpoint, path)
        _, new = self._place(endpoint, new_path)
        self._change(
            f"Renaming {where} to {new} on endpoint {endpoint!r}",
            lambda client: client.operation_rename(place.id, where, new, local_user=_local_user(place)),
        )

    def _change(self, what: str, call: Callable[[globus_sdk.TransferClient], Any]) -> None:
        failure = None
        try:
            self._ask(what, lambda client: responses.result_code(call(client)))
        except BackendError as err:
            if not err.code.endswith(".Exists"):
                raise
            failure = BackendError(str(err), backend=err.backend, code="FILE_EXISTS", request_id=err.request_id)
        if failure is not None:
            raise failure

    def _place(self, endpoint: str, path: str) -> tuple[Collection, str]:
        place = self._find(endpoint)
        return place, documents.global_path(path, place)


def _local_user(place: Collection) -> Any:
    return place.local_user or globus_sdk.MISSING
