"""Delete staged data at the end of a block or of tasks, even if the workflow is aborted."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any

from chiltepin.parsl import calls, kernel
from chiltepin.parsl.nested_futures import futures_in
from chiltepin.parsl.shutdown import ends_in_order, shutdown_of
from chiltepin.parsl.task_records import unfinished
from chiltepin.protocol import paths
from chiltepin.transfers import arguments, interruptions
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.resolve import resolve_endpoint
from chiltepin.transfers.timeouts import POLLING_INTERVAL, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parsl.dataflow.dflow import DataFlowKernel
    from typing_extensions import Unpack

    from chiltepin.parsl.futures import TransferFuture
    from chiltepin.transfers.arguments import DeleteOptions

__all__ = ["Deletion", "cleanup", "ended"]

logger = logging.getLogger(__name__)


class Deletion:
    """A deletion that is checked when created and runs later with the same settings; a missing path is not an error."""

    def __init__(
        self,
        src_ep: str,
        src_path: str | os.PathLike[str],
        timeout: float,
        polling_interval: float,
        client: Any,
        *,
        workers: int | None,
        label: str,
        **options: Unpack[DeleteOptions],
    ) -> None:
        request = arguments.delete_request(
            src_ep=src_ep, src_path=src_path, recursive=True, ignore_missing=True, label=label, **options
        )
        self.what = describe(request)
        work = calls.prepared(request, timeout, polling_interval, client, check=True, workers=workers)
        #: Run the deletion in this process, and wait until it ends.
        self.run = partial(interruptions.call, work, timeout=timeout)
        home = resolve_endpoint(calls.data_settings(), request.endpoint).get("home", "/")
        if not paths.parts(request.paths[0], home=home, endpoint=request.endpoint):
            raise paths.root_refusal(request.paths[0], endpoint=request.endpoint)

    def run_after(self, dfk: DataFlowKernel, future: TransferFuture | None = None) -> None:
        """Run the deletion after the run of `dfk` and its workers end; a failure is listed with those of the run.

        ``future``, of the same deletion, was canceled by the end; if the deletion succeeds, ``future`` is not listed.
        """
        run = shutdown_of(dfk)

        def delete() -> None:
            try:
                with ends_in_order(self.what):
                    self.run()
                if future is not None:
                    future.on_read()
            except Exception as error:  # noqa: BLE001 - the run has ended; listed with its other failures
                run.unread.add(str(error))

        run.after_end(delete)

    def run_after_error(self, error: BaseException) -> None:
        """Run the deletion while `error` propagates; a failure of the deletion does not hide it."""
        try:
            self.run()
        except Exception as failure:  # noqa: BLE001 - logged
            text = f"{self.what} at the end of a cleanup block failed: {failure}"
            # Also logged, because a caught error may never show its note, and Python 3.10 has no notes.
            logger.warning("%s", text)
            if hasattr(error, "add_note"):
                error.add_note(text)

    def if_aborted(self, future: TransferFuture) -> TransferFuture:
        """Run the deletion if the run ends before `future`, which is of the same deletion; return `future`."""
        record = future.task_record
        run = shutdown_of(record["dfk"])
        forget = run.on_end(lambda _: self.run_after(record["dfk"], future))
        future.add_done_callback(lambda _: forget())
        return future


@contextlib.contextmanager
def cleanup(
    src_ep: str,
    src_path: str | os.PathLike[str],
    timeout: float = TIMEOUT,
    polling_interval: float = POLLING_INTERVAL,
    client: Any = None,
    *,
    workers: int | None = None,
    label: str = "",
    **options: Unpack[DeleteOptions],
) -> Iterator[None]:
    """Delete a file, or a folder with its contents, at the end of a ``with`` block, whatever ends the block.

    The deletion runs after a normal end, after an exception, and after Ctrl-C or SIGTERM; a second Ctrl-C stops it, and
    after SIGTERM it has 4 seconds. SIGKILL leaves the data. A missing path is not an error.

    Inside a workflow, a normal end first waits for the tasks that were started in the block. After an exception it does
    not: if one of these tasks is unfinished, the data is deleted when the workflow has ended.

    Parameters
    ----------
    src_ep : str
        Name of the endpoint.
    src_path : str or path-like
        The path to delete; the root of an endpoint is rejected.
    timeout, polling_interval, client, workers, label, **options
        As in `chiltepin.data.delete`.

    Raises
    ------
    ChiltepinError, TypeError, ValueError
        At the start of the block, the errors of `chiltepin.data.delete` about its arguments; at the end, those of the
        deletion. An exception in the block is always raised: a failure of the deletion is then logged and, from
        Python 3.11, added to the exception as a note.

    Notes
    -----
    The settings are read when the block starts: from the running workflow, else from the default settings file.

    Examples
    --------
    >>> with cleanup("hpc-scratch", "/job"):  # doctest: +SKIP
    ...     transfer("my-laptop", "hpc-scratch", "/data", "/job", recursive=True)
    """
    deletion = Deletion(src_ep, src_path, timeout, polling_interval, client, workers=workers, label=label, **options)
    tasks, process = _TasksOfBlock(), os.getpid()
    with ends_in_order(deletion.what):
        try:
            yield
            tasks.wait()
        except BaseException as error:
            # A forked child leaves the block, too.
            if os.getpid() == process:
                _end(deletion, tasks, error)
            raise
        if os.getpid() == process:
            _end(deletion, tasks)


def _end(deletion: Deletion, tasks: _TasksOfBlock, error: BaseException | None = None) -> None:
    if tasks.dfk is not None and tasks.unfinished():
        deletion.run_after(tasks.dfk)
    elif error is not None:
        deletion.run_after_error(error)
    else:
        deletion.run()


class _TasksOfBlock:
    """The tasks of the running workflow that are started after this object is created."""

    def __init__(self) -> None:
        self.dfk = kernel.running()
        self._first = self.dfk.task_count if self.dfk is not None else 0

    def unfinished(self) -> list[futures.Future[Any]]:
        """Return the futures of the unfinished tasks."""
        records = unfinished(self.dfk) if self.dfk is not None else []
        return [record["app_fu"] for record in records if record["id"] >= self._first]

    def wait(self) -> None:
        """Wait for the tasks, in the main thread only: in a join task they may in turn wait for the join task."""
        while threading.current_thread() is threading.main_thread() and (waiting := self.unfinished()):
            # A Ctrl-C that arrives just before this wait is handled only after it.
            futures.wait(waiting, timeout=1)


def ended(after: Any) -> list[futures.Future[None]]:
    """Return futures that end with the futures in an argument, and never fail."""
    return [_end_of(future) for future in futures_in("argument after of cleanup_task()", after, only_waited_for=True)]


def _end_of(future: futures.Future[Any]) -> futures.Future[None]:
    end: futures.Future[None] = futures.Future()
    future.add_done_callback(lambda _: end.set_result(None))
    return end
