"""Compare calls when Parsl caches results: ``cache=True``, and checkpoints.

Parsl compares plain data, and rejects other types. Futures are replaced by their results first, and a ``File`` is
compared by its URL (docs/decisions/caches.md).
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from parsl.data_provider.files import File
from parsl.dataflow.memoization import id_for_memo

from chiltepin.parsl.serialization import type_name
from chiltepin.transfers.worker import WithOutputDir

if TYPE_CHECKING:
    from parsl.dataflow.taskrecord import TaskRecord

__all__ = ["uncacheable", "writes_files"]


def _id_of_file(file: File, output_ref: bool = False) -> bytes:  # noqa: FBT001, FBT002 - as Parsl calls it
    del output_ref
    return pickle.dumps(["File", file.url])


# The user may have registered another function, as Parsl's manual shows.
if id_for_memo.dispatch(File) is id_for_memo.dispatch(object):
    id_for_memo.register(File, _id_of_file)


def writes_files(record: TaskRecord) -> bool:
    """Whether a task writes files; a cached result does not prove that they still exist unchanged."""
    if isinstance(record["func"], WithOutputDir):
        return True
    given = record["kwargs"]
    made = [*given.get("outputs", ()), given.get("stdout"), given.get("stderr")]
    return any(isinstance(one, File) for one in made) and id_for_memo.dispatch(File) is _id_of_file


def uncacheable(record: TaskRecord) -> ValueError | None:
    """Return an error that names the argument that Parsl cannot compare; None if there is none."""
    if not record["memoize"] or record["hashsum"] is not None:
        return None
    positional = {str(number): value for number, value in enumerate(record["args"], start=1)}
    for name, value in {**positional, **record["kwargs"]}.items():
        if name in record["ignore_for_cache"]:
            continue
        try:
            id_for_memo(value)
        except Exception:  # noqa: BLE001 - the user's code, too
            return ValueError(
                f"App {record['func_name']!r} cannot be cached: Parsl cannot compare argument {name}, of type "
                f"{type_name(type(value))}; name it in ignore_for_cache, or give plain data."
            )
    return None
