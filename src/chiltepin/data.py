"""Move and delete data: as tasks of a Parsl workflow, or directly.

Parsl is loaded when the first task is made, not by `transfer` and `delete`.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from chiltepin.parsl import calls
from chiltepin.parsl.calls import data_settings
from chiltepin.transfers import arguments
from chiltepin.transfers.timeouts import POLLING_INTERVAL, TIMEOUT

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from typing_extensions import Unpack

    from chiltepin.model import SyncLevel
    from chiltepin.parsl.cleanup import cleanup
    from chiltepin.parsl.files import FileFuture
    from chiltepin.parsl.futures import TransferFuture
    from chiltepin.parsl.local_paths import local_path
    from chiltepin.parsl.operation import Operations
    from chiltepin.transfers.arguments import DeleteOptions, TransferOptions

    # A task argument, or a future of one.
    Text = str | Future[str]
    Path = str | os.PathLike[str] | Future[str] | Future[os.PathLike[str]]
    Number = float | Future[float]
    Flag = bool | Future[bool]

__all__ = [
    "FileFuture",
    "TransferFuture",
    "cleanup",
    "cleanup_task",
    "data_settings",
    "delete",
    "delete_task",
    "local_path",
    "transfer",
    "transfer_task",
]

#: The modules of the names that are loaded when they are first used, because they load Parsl.
_HOMES = {"FileFuture": "files", "TransferFuture": "futures", "cleanup": "cleanup", "local_path": "local_paths"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"chiltepin.parsl.{_HOMES[name]}"), name)


@cache
def _operations() -> Operations:
    """Return what the two kinds of tasks run; this loads Parsl."""
    from chiltepin.parsl.operation import make_operations  # noqa: PLC0415
    from chiltepin.tasks import join_task, python_task  # noqa: PLC0415

    return make_operations(python_task, join_task)


def transfer_task(
    src_ep: Text,
    dst_ep: Text,
    src_path: Path,
    dst_path: Path,
    timeout: Number = TIMEOUT,
    polling_interval: Number = POLLING_INTERVAL,
    client: Any = None,
    recursive: Flag = False,
    *,
    executor: str | list[str] | None = None,
    inputs: Sequence[Any] | None = (),
    check: bool | None = None,
    workers: int | None = None,
    sync_level: SyncLevel | Future[SyncLevel] | None = None,
    verify_checksum: Flag = True,
    preserve_timestamp: Flag = False,
    include: Any = (),
    exclude: Any = (),
    filters: Any = (),
    checksum: Text = "",
    delete_destination_extra: Flag = False,
    label: Text = "",
    walltime: float | None = None,
    outputs: None = None,
    stdout: None = None,
    stderr: None = None,
    chiltepin_task_geometry: Mapping[str, Any] | None = None,
    parsl_resource_specification: Mapping[str, Any] | None = None,
    **options: Unpack[TransferOptions],
) -> TransferFuture:
    """Move a file, or the contents of a folder, as a task of the running workflow.

    Every argument except ``client``, ``executor``, ``check`` and ``workers`` may be a future; its result is used.

    Parameters
    ----------
    src_ep, dst_ep : str
        Names of endpoints, as in ``data: endpoints:`` of the settings, or the UUIDs of their collections. With the
        backend ``globus``, also the UUID or the display name of any collection, or ``this-machine`` for Globus Connect
        Personal on this machine.
    src_path, dst_path : str or path-like
        POSIX paths. An absolute path starts at the endpoint's root; a relative path, or one that begins with ``~``,
        starts at its home folder. The ``dst_path`` of a file is its complete new path; missing folders are created.
    timeout : float
        Seconds that the transfer may take once it has started; the default of an hour fits most single files.
    polling_interval : float
        Longest time between two polls of the task, in seconds. The first polls come sooner.
    client : globus_sdk.TransferClient
        A Globus client whose login is used. It stays in this process; other backends ignore it.
    recursive : bool
        True moves the contents of a folder, False moves a single file; a mismatch is an error, as in Globus.
    executor : str or list of str
        Label of one or more resources whose workers move the bytes; by default ``data: executor:`` of the settings. A
        service moves the bytes without a worker and needs no label.
    inputs : sequence
        Futures to wait for, also inside lists, tuples, dicts and sets; their results are not used.
    check : bool or None
        True: a transfer that does not succeed raises its error. False: it returns ``False``. None: as in the settings
        (``data: check:``, True by default).
    workers : int or None
        Maximum number of workers of the executor that move one folder or large file together. None: as in the settings
        (``data: workers:``, 1 by default). One worker moves a small folder or file in any case; a service ignores this
        parameter.
    sync_level : {"exists", "size", "mtime", "checksum"} or None
        When an existing destination file is skipped; None: it is always replaced. See
        `chiltepin.model.TransferRequest`.
    verify_checksum : bool
        Compare the checksums of the data read and the data written.
    preserve_timestamp : bool
        Give destination files the modification times of their sources.
    include, exclude : sequence of str
        Shell patterns for the names of files in a folder. The patterns of ``include`` are tried first; the first match
        decides.
    filters : sequence of tuple of str
        Rules in any order, as in Globus: ``[("exclude", "1.nc"), ("include", "*.nc")]``. A rule with a third value
        ``"dir"`` applies to the names of folders; an excluded folder is left out with its contents.
    checksum : str
        The expected checksum of the file: ``"md5:..."``, ``"sha1:..."``, ``"sha256:..."`` or ``"sha512:..."``, with the
        hexadecimal digits. If the content differs, the transfer fails and an existing ``dst_path`` is kept. Empty: no
        checksum is expected.
    delete_destination_extra : bool
        Whether files that exist only in the destination folder are deleted, after all data was moved without an error.
        See `chiltepin.model.TransferRequest`. Deleted data cannot be recovered.
    label : str
        A label for the task.
    walltime : float or None
        Parsl's name for ``timeout``; the shorter of the two applies.
    chiltepin_task_geometry, parsl_resource_specification : dict or None
        Resources for the task that moves the bytes, as for other tasks. A service ignores them.
    outputs, stdout, stderr : None
        Rejected with an error, because a transfer produces no such files.
    **options
        ``deadline``: UTC time, as a datetime or text, at which the task expires. ``skip_source_errors``:
        whether files that are missing or unreadable at the source are skipped; the result is still ``True``, and
        ``skipped_paths`` of the status lists them. The other options are for services, and other backends reject
        them: ``encrypt_data``, ``fail_on_quota_errors``, ``checksum_algorithm``, ``source_local_user``,
        ``destination_local_user``, ``notify`` (True, False, or a list of events) and ``submission_id``. See
        `chiltepin.model.TransferRequest`.

    Returns
    -------
    TransferFuture
        A future of ``True``.

    Raises
    ------
    ConfigError
        No workflow is running, or the executor is unknown.
    EndpointError
        An endpoint is unknown, or has no location on the backend.
    PermissionDeniedError
        A path leaves the root of its endpoint.
    TypeError, ValueError
        Another argument is invalid.
    """
    return calls.start(
        _operations().transfer,
        client,
        executor,
        inputs,
        check,
        workers,
        {
            "src_ep": src_ep,
            "dst_ep": dst_ep,
            "src_path": src_path,
            "dst_path": dst_path,
            "timeout": timeout,
            "polling_interval": polling_interval,
            "recursive": recursive,
            "sync_level": sync_level,
            "verify_checksum": verify_checksum,
            "preserve_timestamp": preserve_timestamp,
            "include": include,
            "exclude": exclude,
            "filters": filters,
            "checksum": checksum,
            "delete_destination_extra": delete_destination_extra,
            "label": label,
            "walltime": walltime,
            "outputs": outputs,
            "stdout": stdout,
            "stderr": stderr,
            "chiltepin_task_geometry": chiltepin_task_geometry,
            "parsl_resource_specification": parsl_resource_specification,
            **options,
        },
    )


def delete_task(
    src_ep: Text,
    src_path: Path,
    timeout: Number = TIMEOUT,
    polling_interval: Number = POLLING_INTERVAL,
    client: Any = None,
    recursive: Flag = False,
    *,
    executor: str | list[str] | None = None,
    inputs: Sequence[Any] | None = (),
    check: bool | None = None,
    workers: int | None = None,
    ignore_missing: Flag = False,
    label: Text = "",
    walltime: float | None = None,
    outputs: None = None,
    stdout: None = None,
    stderr: None = None,
    chiltepin_task_geometry: Mapping[str, Any] | None = None,
    parsl_resource_specification: Mapping[str, Any] | None = None,
    **options: Unpack[DeleteOptions],
) -> TransferFuture:
    """Delete a file, or a folder with its contents, as a task of the running workflow.

    Parameters
    ----------
    src_ep : str
        Name of the endpoint.
    src_path : str or path-like
        The path to delete. A symbolic link is deleted, its target is not; the root of an endpoint is rejected.
    recursive : bool
        True deletes a folder with its contents; False rejects a folder. Deleted data cannot be recovered.
    ignore_missing : bool
        Whether a missing path counts as deleted.
    timeout, polling_interval, client, executor, inputs, check, workers, label, and the keywords of tasks
        As in `transfer_task`, with the same errors.
    **options
        ``globs``: whether the last component of ``src_path`` is a pattern with ``*``, ``?`` and ``[...]``, which a
        backslash escapes. ``local_user``: the account to which a service maps the user. ``deadline``, ``notify`` and
        ``submission_id``: as in `transfer_task`.

    Returns
    -------
    TransferFuture
        A future of ``True``.
    """
    return calls.start(
        _operations().delete,
        client,
        executor,
        inputs,
        check,
        workers,
        {
            "src_ep": src_ep,
            "src_path": src_path,
            "timeout": timeout,
            "polling_interval": polling_interval,
            "recursive": recursive,
            "ignore_missing": ignore_missing,
            "label": label,
            "walltime": walltime,
            "outputs": outputs,
            "stdout": stdout,
            "stderr": stderr,
            "chiltepin_task_geometry": chiltepin_task_geometry,
            "parsl_resource_specification": parsl_resource_specification,
            **options,
        },
    )


def transfer(
    src_ep: str,
    dst_ep: str,
    src_path: str | os.PathLike[str],
    dst_path: str | os.PathLike[str],
    timeout: float = TIMEOUT,
    polling_interval: float = POLLING_INTERVAL,
    client: Any = None,
    recursive: bool = False,
    *,
    check: bool | None = None,
    workers: int | None = None,
    sync_level: SyncLevel | None = None,
    verify_checksum: bool = True,
    preserve_timestamp: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    filters: Sequence[tuple[str, ...]] = (),
    checksum: str = "",
    delete_destination_extra: bool = False,
    label: str = "",
    **options: Unpack[TransferOptions],
) -> bool:
    """Move a file, or the contents of a folder, now and without Parsl.

    The arguments, the result and the errors are those of `transfer_task`, without ``executor`` and ``inputs``. The
    ``workers`` are processes on this machine.
    """
    request = arguments.transfer_request(
        src_ep=src_ep,
        dst_ep=dst_ep,
        src_path=src_path,
        dst_path=dst_path,
        recursive=recursive,
        sync_level=sync_level,
        verify_checksum=verify_checksum,
        preserve_timestamp=preserve_timestamp,
        include=include,
        exclude=exclude,
        filters=filters,
        checksum=checksum,
        delete_destination_extra=delete_destination_extra,
        label=label,
        **options,
    )
    return calls.run(request, timeout, polling_interval, client, check=check, workers=workers)


def delete(
    src_ep: str,
    src_path: str | os.PathLike[str],
    timeout: float = TIMEOUT,
    polling_interval: float = POLLING_INTERVAL,
    client: Any = None,
    recursive: bool = False,
    *,
    check: bool | None = None,
    workers: int | None = None,
    ignore_missing: bool = False,
    label: str = "",
    **options: Unpack[DeleteOptions],
) -> bool:
    """Delete a file or a folder now and without Parsl; like `delete_task`, but without ``executor`` and ``inputs``."""
    request = arguments.delete_request(
        src_ep=src_ep, src_path=src_path, recursive=recursive, ignore_missing=ignore_missing, label=label, **options
    )
    return calls.run(request, timeout, polling_interval, client, check=check, workers=workers)


def cleanup_task(
    src_ep: str,
    src_path: str | os.PathLike[str],
    timeout: float = TIMEOUT,
    polling_interval: float = POLLING_INTERVAL,
    client: Any = None,
    *,
    after: Any,
    executor: str | list[str] | None = None,
    check: bool | None = None,
    workers: int | None = None,
    label: str = "",
    **options: Unpack[DeleteOptions],
) -> TransferFuture:
    """Delete a file, or a folder with its contents, when other tasks have ended, whatever their outcome.

    If the workflow is aborted first, the data is deleted after its workers have ended, even though this future is
    canceled. A missing path is not an error, and the root of an endpoint is rejected.

    Parameters
    ----------
    after : Future, or list, tuple, dict or set
        The futures to wait for, at any depth.
    src_ep, src_path, timeout, polling_interval, client, executor, check, workers, label, **options
        As in `delete_task`, but futures are not allowed.

    Returns
    -------
    TransferFuture
        A future of ``True``. Its errors are those of `delete_task`.
    """
    from chiltepin.parsl.cleanup import Deletion, ended  # noqa: PLC0415

    given: dict[str, Any] = {"src_ep": src_ep, "src_path": src_path, "timeout": timeout, "client": client, **options}
    given |= {"polling_interval": polling_interval, "workers": workers, "label": label}
    deletion = Deletion(**given)
    waits: dict[str, Any] = {"executor": executor, "inputs": ended(after), "check": check}
    return deletion.if_aborted(delete_task(**given, **waits, recursive=True, ignore_missing=True))
