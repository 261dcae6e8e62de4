"""The keywords of every task call, which `transfer_task` and `delete_task` also accept for compatibility."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from chiltepin.errors import shown
from chiltepin.transfers import arguments

__all__ = ["NAMES", "check_geometry", "for_worker"]

_RESOURCES = ("chiltepin_task_geometry", "parsl_resource_specification")

#: Keywords that are rejected, each with the reason.
_REFUSED = {
    "outputs": "the file of a transfer is future.file",
    "stdout": "a transfer or a deletion prints nothing; future.status() tells what it does",
    "stderr": "a transfer or a deletion prints nothing; future.status() tells what it does",
}


#: All keywords of this module.
NAMES = (*_RESOURCES, *_REFUSED, "walltime")


def check_geometry(geometry: Any) -> None:
    """Raise a TypeError for a value that is not a task geometry."""
    if not isinstance(geometry, dict):
        raise TypeError(
            f"chiltepin_task_geometry must be a dict such as {{'num_nodes': 2, 'ranks_per_node': 4}}, not {geometry!r}."
        )


def for_worker(name: str, keywords: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the task keywords that the app for a worker receives.

    ``walltime`` replaces the ``timeout`` in ``asked`` if that is longer. ``name`` is the function's name, for messages.
    """
    for keyword, reason in _REFUSED.items():
        if value := keywords[keyword]:
            raise TypeError(f"{name}() does not accept {keyword}={shown(value)}, because {reason}; remove it.")
    walltime = keywords["walltime"]
    if walltime is not None:
        limit = arguments.check("walltime", walltime)
        if isinstance(asked["timeout"], Future):
            raise TypeError(
                f"{name}() has walltime={shown(walltime)}, and a timeout that is a future; give one of them."
            )
        asked["timeout"] = min(limit, arguments.check("timeout", asked["timeout"]))
    resources = {keyword: keywords[keyword] for keyword in _RESOURCES if keywords[keyword] is not None}
    if "chiltepin_task_geometry" in resources:
        check_geometry(resources["chiltepin_task_geometry"])
    return resources
