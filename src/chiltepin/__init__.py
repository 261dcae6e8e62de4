"""Chiltepin moves the data of scientific workflows.

The names below are loaded when they are first used: ``import chiltepin`` loads neither Parsl nor any SDK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiltepin import configure, data, errors, tasks
    from chiltepin.data import (
        TransferFuture,
        cleanup,
        cleanup_task,
        delete,
        delete_task,
        local_path,
        transfer,
        transfer_task,
    )
    from chiltepin.errors import ChiltepinError
    from chiltepin.tasks import bash_task, join_task, python_task
    from chiltepin.workflow import Workflow

__all__ = [
    "ChiltepinError",
    "TransferFuture",
    "Workflow",
    "bash_task",
    "cleanup",
    "cleanup_task",
    "configure",
    "data",
    "delete",
    "delete_task",
    "errors",
    "join_task",
    "local_path",
    "python_task",
    "tasks",
    "transfer",
    "transfer_task",
]

_HOMES = {
    "ChiltepinError": "errors",
    "TransferFuture": "data",
    "Workflow": "workflow",
    "bash_task": "tasks",
    "cleanup": "data",
    "cleanup_task": "data",
    "delete": "data",
    "delete_task": "data",
    "join_task": "tasks",
    "local_path": "data",
    "python_task": "tasks",
    "transfer": "data",
    "transfer_task": "data",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Loading this takes as long as the rest of `chiltepin --help`.
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            return version("chiltepin")
        except PackageNotFoundError:
            # The sources are on PYTHONPATH, not installed.
            return "dev"
    if name in _HOMES:
        return getattr(_module(_HOMES[name]), name)
    return _module(name)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
