"""Start Parsl with settings, and shut it down cleanly: `Workflow`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import parsl
from parsl.errors import NoDataFlowKernelError

from chiltepin import configure, settings
from chiltepin.errors import ConfigError
from chiltepin.parsl import kernel, run_folders, run_logs
from chiltepin.parsl.shutdown import install_shutdown, shutdown_of, wait_all
from chiltepin.transfers.service import manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from parsl.dataflow.dflow import DataFlowKernel
    from typing_extensions import Self

__all__ = ["Workflow"]

logger = logging.getLogger(__name__)

# Parsl has a race: it checks for a loaded kernel, and for the next run folder, before it sets either.
_LOADING = threading.Lock()


class Workflow:
    """A ``with`` block in which tasks and transfers run.

    The first workflow loads Parsl for the whole process; later ones, nested or in other threads, use a separate Parsl.
    Calls go to the innermost running workflow of their thread. Calls in a callback go to the workflow in which the
    callback was added; calls in a task that runs in a thread, and in a join task, go to the workflow of the task. Calls
    in any other thread, such as a thread that you start, go to the first workflow.

    At its end, the block waits for everything that was started in it. After an error, or Ctrl-C during this wait, it
    waits only for tasks in threads, stops everything else, and ends each unfinished future with an error.

    Where a block does not fit, use `start` and `cleanup`. A workflow that has ended can be entered again.

    Parameters
    ----------
    config : path, mapping or parsl.Config, optional
        The settings file, its content, or a configuration of Parsl. By default the settings file, if one is found, else
        one executor ``local``.
    include : str or iterable of str, optional
        The resources to use in addition to ``local``; by default all.
    client : globus_compute_sdk.Client, optional
        The client for resources that are compute endpoints.
    run_dir : path, optional
        Where Parsl writes its logs, a new folder for each run; by default the ``run_dir`` of the settings, else
        ``runinfo``.
    backend : str, optional
        The backend; it overrides the settings.
    progress : bool, optional
        Whether to show the transfers and deletions in flight as a live table, if stderr is a terminal. By default only
        if the environment variable ``CHILTEPIN_PROGRESS`` is 1.
    log_file : path, optional
        A file to which the logs of Parsl and Chiltepin are appended as well, while the workflow runs.
    log_level : int, optional
        The lowest level for that file, such as ``logging.DEBUG``; by default ``logging.INFO``.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | parsl.Config | None = None,
        *,
        include: str | Iterable[str] | None = None,
        client: Any = None,
        run_dir: str | os.PathLike[str] | None = None,
        backend: str | None = None,
        progress: bool | None = None,
        log_file: str | os.PathLike[str] | None = None,
        log_level: int | None = None,
    ) -> None:
        if progress is not None and not isinstance(progress, bool):
            raise TypeError(f"progress={progress!r} is of type {type(progress).__name__}; give True or False.")
        if log_level is not None:
            _check_level(log_level)
        self._source = config
        self._options: dict[str, Any] = {"include": include, "client": client, "run_dir": run_dir, "backend": backend}
        self._progress = _progress_by_environment() if progress is None else progress
        self._log_file, self._log_level = log_file, logging.INFO if log_level is None else log_level
        self._config: parsl.Config | None = None
        self._dfk: DataFlowKernel | None = None
        self._leave: Callable[[], object] = int

    @property
    def config(self) -> parsl.Config:
        """The configuration of Parsl."""
        if self._config is None:
            raise ConfigError("This Workflow is not running yet; read its config inside its `with` block.")
        return self._config

    @property
    def dfk(self) -> DataFlowKernel:
        """The DataFlowKernel of this workflow."""
        if self._dfk is None:
            raise ConfigError("This Workflow is not running; read its dfk inside its `with` block.")
        return self._dfk

    @property
    def tasks(self) -> dict[int, Any]:
        """Parsl's records of the tasks of this workflow, by number."""
        return self.dfk.tasks  # type: ignore[no-any-return] # parsl has no types

    def start(self) -> DataFlowKernel:
        """Start as at the beginning of a ``with`` block, and return the DataFlowKernel.

        Raises
        ------
        ConfigError
            The workflow is running, the settings are invalid, or the ``parsl.Config`` was used before.
        """
        if self._dfk is not None:
            raise ConfigError(
                "Workflow already started; call its cleanup() first, or make another: `with chiltepin.Workflow(...):`."
            )
        with contextlib.ExitStack() as entered:
            if self._log_file is not None:
                entered.enter_context(run_logs.also_to(self._log_file, self._log_level))
            self._config = self._load()
            dfk = _start(self._config)
            install_shutdown(dfk)
            entered.enter_context(kernel.entered(dfk))
            if self._progress and sys.stderr is not None and sys.stderr.isatty():
                from chiltepin.parsl.progress import shown  # noqa: PLC0415 - rich is loaded only when it is needed

                entered.enter_context(shown(shutdown_of(dfk)))
            # Also called when Python exits, if this workflow has not ended by then.
            self._leave = weakref.finalize(self, entered.pop_all().close)
        self._dfk = dfk
        return dfk

    def cleanup(self, *, suppress_exceptions: bool = False) -> None:
        """End as at the end of a ``with`` block; do nothing if the workflow is not running.

        While an exception is being handled, for example in a ``finally``, it does not wait for unfinished tasks.

        Parameters
        ----------
        suppress_exceptions : bool
            Whether an error during the end is logged instead of raised.
        """
        if self._dfk is None:
            return
        try:
            self.__exit__(*sys.exc_info())
        except Exception:
            if not suppress_exceptions:
                raise
            logger.exception("The workflow did not shut down cleanly.")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, exc_type: object, error: BaseException | None, traceback: object) -> None:
        workflow, in_order = str(self.dfk.run_id), False
        clean = error is None or (isinstance(error, SystemExit) and not error.code)
        try:
            try:
                if clean:
                    wait_all([shutdown_of(self.dfk)])
            except BaseException:
                self._end(quietly=True)
                raise
            self._end(quietly=exc_type is not None)
            in_order = clean
        finally:
            # For this workflow only: other workflows of this process may still run, or may have failed.
            manager.workflow_ended(workflow, in_order=in_order)

    def _load(self) -> parsl.Config:
        if not isinstance(self._source, parsl.Config):
            source = settings.default_file() if self._source is None else self._source
            return configure.load({} if source is None else source, **self._options)
        given = [name for name, value in self._options.items() if value is not None]
        if given:
            raise TypeError(f"{given[0]} goes with settings, not with a parsl.Config; set it in the Config itself.")
        if self._config is not None:
            raise ConfigError(
                "Parsl starts the executors of a parsl.Config once; give settings, or make another Config."
            )
        return self._source

    def _end(self, *, quietly: bool) -> None:
        dfk = self.dfk
        try:
            if not dfk.cleanup_called:
                dfk.cleanup()
        except Exception:
            if not quietly:
                raise
            logger.exception("Parsl did not shut down cleanly; the error that ended the workflow is raised instead.")
        finally:
            if isinstance(dfk.config, configure.WorkflowConfig):
                run_folders.mark_ended(dfk.run_dir)
            self._leave()
            self._dfk = None
            if _loaded() is dfk:
                parsl.clear()


def _check_level(level: Any) -> None:
    try:
        # The check of `logging`, which also takes the name of a level.
        logging.Handler(level)
    except (TypeError, ValueError):
        pass
    else:
        return
    raise TypeError(f"log_level={level!r} is not a level of a log; give one such as logging.DEBUG.")


def _progress_by_environment() -> bool:
    value = os.environ.get("CHILTEPIN_PROGRESS", "")
    if value not in ("", "0", "1"):
        raise ConfigError(f"CHILTEPIN_PROGRESS is {value!r}; set it to 1 to show transfers in progress, or to 0.")
    return value == "1"


def _loaded() -> DataFlowKernel | None:
    try:
        return parsl.dfk()
    except NoDataFlowKernelError:
        return None


def _make_run_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise ConfigError(
            f"Parsl cannot write its logs to {os.path.abspath(folder)!r} ({reason}); start in a folder that you can "
            "write to, or set run_dir."
        )


def _start(config: parsl.Config) -> DataFlowKernel:
    _make_run_folder(config.run_dir)
    with _LOADING:
        try:
            dfk = parsl.load(config) if _loaded() is None else parsl.DataFlowKernel(config)
        except BaseException:
            # Parsl does not stop the executors that it has already started.
            for executor in config.executors:
                with contextlib.suppress(Exception):
                    executor.shutdown()
            raise
    if isinstance(config, configure.WorkflowConfig):
        run_folders.mark_started(dfk.run_dir)
        if isinstance(config.keep_runs, int):
            run_folders.remove_old(config.run_dir, config.keep_runs)
    return dfk
