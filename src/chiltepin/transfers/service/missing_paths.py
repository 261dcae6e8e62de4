"""Find missing paths: among those that one task deletes, and of a request whose task cannot find a file.

If one task deletes many paths and one of them is missing, the whole task fails, and it is unknown which other paths
were deleted and which were missing too. So the folders are listed first, and existing paths are deleted with
`ignore_missing`: a path that disappears in the meantime is gone, as requested.
"""

from __future__ import annotations

import logging
import posixpath
from typing import TYPE_CHECKING

from chiltepin.errors import BackendError, EndpointError, PathNotFoundError
from chiltepin.model import DeleteRequest, ItemOutcome
from chiltepin.protocol import StatBackend
from chiltepin.transfers import policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend

__all__ = ["confirm_missing", "find_missing"]

logger = logging.getLogger(__name__)


def find_missing(
    backend: TransferBackend, kind: DeleteRequest, paths: Iterable[str]
) -> tuple[dict[str, ItemOutcome], list[str]]:
    """Check the paths of a deletion before it is submitted.

    Return the outcomes of the paths that cannot be deleted, and the unchecked paths, to be deleted one by one.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(posixpath.dirname(path.rstrip("/")) or "~", []).append(path)
    if len(folders) > policy.limits.LISTED_FOLDERS:
        return {}, [path for inside in folders.values() for path in inside]
    failed: dict[str, ItemOutcome] = {}
    unknown: list[str] = []
    for folder, inside in folders.items():
        try:
            kinds = {entry.name: entry.kind for entry in backend.ls(kind.endpoint, folder)}
        except PathNotFoundError:
            kinds = {}
        except (BackendError, EndpointError):
            unknown += inside
            continue
        for path in inside:
            name = posixpath.basename(path.rstrip("/"))
            if name in ("", ".", "..", "~"):
                unknown.append(path)
            elif name not in kinds:
                failed[path] = ItemOutcome(
                    done=False,
                    code=policy.fault_codes.NOT_FOUND,
                    reason=f"There is no {path} on endpoint {kind.endpoint!r}.",
                )
            elif kinds[name] == "dir" and not kind.recursive:
                failed[path] = ItemOutcome(
                    done=False,
                    code="IS_A_DIRECTORY",
                    reason=f"{path} on endpoint {kind.endpoint!r} is a folder; set recursive=True to delete it "
                    "and everything in it.",
                )
    return failed, unknown


def confirm_missing(backend: TransferBackend, request: Request) -> str:
    """Return a sentence that names the only path of a request, if it is missing; empty if that is not confirmed.

    A `StatBackend` is asked once. A request with several paths is not checked: its other paths may still succeed.
    """
    if not isinstance(backend, StatBackend):
        return ""
    if isinstance(request, DeleteRequest):
        endpoint, paths = request.endpoint, () if request.globs else request.paths
    else:
        endpoint, paths = request.source, tuple(item.source for item in request.items)
    if len(paths) != 1:
        return ""
    try:
        if backend.exists(endpoint, paths[0]):
            return ""
    except Exception as err:  # noqa: BLE001 - then it is tolerated like any other fault
        logger.warning("Could not confirm that %s on endpoint %s is missing: %s", paths[0], endpoint, err)
        return ""
    return f"There is no {paths[0]} on endpoint {endpoint!r}."
