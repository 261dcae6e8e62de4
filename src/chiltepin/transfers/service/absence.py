"""Confirm that a path which a task does not find is not there, so that the task need not be waited for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chiltepin.model import DeleteRequest
from chiltepin.protocol import StatBackend

if TYPE_CHECKING:
    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend

__all__ = ["confirm_missing"]

logger = logging.getLogger(__name__)


def confirm_missing(backend: TransferBackend, request: Request) -> str:
    """Return a sentence that names the one path of a request, if nothing is there; empty if that is not confirmed.

    Parameters
    ----------
    backend : TransferBackend
        Is asked once, if it can tell (`StatBackend`).
    request : TransferRequest or DeleteRequest
        What does not find a file. Nothing is asked about one of many paths: the others may arrive meanwhile.
    """
    if not isinstance(backend, StatBackend):
        return ""
    if isinstance(request, DeleteRequest):
        endpoint, paths = request.endpoint, request.paths
    else:
        endpoint, paths = request.source, tuple(item.source for item in request.items)
    if len(paths) != 1:
        return ""
    try:
        if backend.exists(endpoint, paths[0]):
            return ""
    except Exception as err:  # noqa: BLE001 - then it is waited for, as any other trouble
        logger.warning("Could not confirm that %s on endpoint %s is missing: %s", paths[0], endpoint, err)
        return ""
    return f"There is no {paths[0]} on endpoint {endpoint!r}."
