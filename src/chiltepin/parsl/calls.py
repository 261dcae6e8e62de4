"""Turn a call of `transfer_task` or `transfer` into a task.

Modules that load Parsl, which takes almost a second, are imported where a Parsl task is made.
"""

from __future__ import annotations

import os
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from chiltepin.backends import registry
from chiltepin.errors import TaskError
from chiltepin.model import DeleteRequest, TaskHandle
from chiltepin.parsl import app_keywords, kernel
from chiltepin.parsl.task_channels import FOLDER, ServiceChannel, WorkerChannel
from chiltepin.transfers import arguments, interruptions, worker, worker_processes
from chiltepin.transfers.resolve import check_places, default_data
from chiltepin.transfers.runner import open_transfers, runs_at_service
from chiltepin.transfers.shards import can_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.model import Request
    from chiltepin.parsl.futures import TransferFuture
    from chiltepin.parsl.operation import Operation
    from chiltepin.parsl.task_channels import TaskChannel
    from chiltepin.settings import DataSettings

__all__ = ["data_settings", "prepared", "run", "start"]


def data_settings() -> DataSettings:
    """Return the data settings of the running workflow, else those of the default settings file."""
    return _settings_of(kernel.running())


def _settings_of(dfk: DataFlowKernel | None) -> DataSettings:
    settings: DataSettings = getattr(dfk.config if dfk is not None else None, "data", None) or default_data()
    return settings


def _check_flag(check: Any, settings: DataSettings) -> bool:
    if check is not None and not isinstance(check, bool):
        raise TypeError(f"check={check!r} is of type {type(check).__name__}; give True or False.")
    return settings.check if check is None else check


def _check_workers(workers: Any, settings: DataSettings) -> int:
    return settings.workers if workers is None else int(arguments.check("workers", workers))


def _payload(
    settings: DataSettings, dfk: DataFlowKernel | None, *, folder: str = "", **known: Any
) -> worker.AppPayload:
    """Return the payload for a worker; ``folder`` is for its stop file, ``known`` holds the arguments known by now."""
    submission_id = str(uuid.uuid4())
    at_service = runs_at_service(registry.load(settings.backend))
    return worker.AppPayload(
        setup=settings.setup,
        submission_id=submission_id,
        stop_file=os.path.join(folder, f"{submission_id}.stop") if folder else "",
        fault_grace=settings.fault_grace,
        workflow=str(dfk.run_id) if dfk is not None else "",
        handle=None if at_service else TaskHandle.at_worker(settings.backend, submission_id),
        **known,
    )


def _pending(asked: dict[str, Any]) -> set[str]:
    """Return the names of the arguments that are or contain futures."""
    from chiltepin.parsl.nested_futures import futures_in  # noqa: PLC0415

    pending = {name for name, value in asked.items() if isinstance(value, Future)}
    lists = {name: asked[name] for name in ("include", "exclude", "filters") if name in asked}
    return pending | {
        name for name, value in lists.items() if (type(value) is not tuple or value) and futures_in(name, value)
    }


def _places(request: Request) -> list[tuple[str, str | None]]:
    """Return each endpoint of a call with its path."""
    if isinstance(request, DeleteRequest):
        return [(request.endpoint, request.paths[0])]
    [item] = request.items
    return [(request.source, item.source), (request.destination, item.destination)]


def start(
    operation: Operation,
    client: Any,
    executor: Any,
    inputs: Any,
    check: Any,
    workers: Any,
    asked: dict[str, Any],
) -> TransferFuture:
    """Check the known arguments of a call, and submit the task to Parsl."""
    from chiltepin.parsl.files import input_futures  # noqa: PLC0415
    from chiltepin.parsl.futures import TransferFuture  # noqa: PLC0415
    from chiltepin.parsl.shards import ShardedChannel  # noqa: PLC0415

    dfk = kernel.current()
    settings = _settings_of(dfk)
    check = _check_flag(check, settings)
    workers = _check_workers(workers, settings)
    if not isinstance(inputs, list | tuple | None):
        # Do not iterate: Parsl's futures have a __getitem__ that creates a task for every index.
        raise TypeError(f"inputs={inputs!r} is of type {type(inputs).__name__}; give a list of futures.")
    keywords = {name: asked.pop(name) for name in app_keywords.NAMES}
    resources = {}
    if any(value is not None for value in keywords.values()):
        resources = app_keywords.for_worker(operation.name, keywords, asked)
    known, rest = _known(operation, settings, asked)
    payload = _payload(settings, dfk, folder=os.path.join(os.path.abspath(dfk.run_dir), FOLDER), **known)
    # Parsl scans every argument for futures; if there are none, a single payload is cheapest.
    options = {
        "executor": _executor(operation, settings, executor),
        **({"inputs": input_futures(inputs)} if inputs else {}),
        **rest,
    }
    channel: TaskChannel
    if payload.handle is None:
        service = ServiceChannel(payload, open_transfers(payload.setup, client).manager)
        app_future, channel = operation.elsewhere(payload, service.start, **options), service
    elif workers > 1:
        place = {"executor": options["executor"], **resources}
        shards = ShardedChannel(payload.handle, operation, dfk, place, workers)
        app_future, channel = operation.elsewhere(payload, shards.start, **options), shards
    else:
        app_future = operation.at_worker(payload, **options, **resources)
        channel = WorkerChannel(payload, payload.handle)
    return TransferFuture(app_future, operation, channel, payload.request, check=check)


def _executor(operation: Operation, settings: DataSettings, executor: Any) -> Any:
    """Return the executor that the call names, else the one in the settings; a service needs none."""
    if executor is not None:
        return executor
    if settings.executor:
        return settings.executor
    if runs_at_service(registry.load(settings.backend)):
        return "all"
    raise TypeError(
        f"{operation.name}() missing 1 required keyword-only argument: 'executor'; name the resource whose workers "
        "move the bytes, or add 'executor:' below 'data:' in the settings."
    )


def _known(
    operation: Operation, settings: DataSettings, asked: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the known arguments of a call; return those for the payload, and the arguments that depend on futures."""
    times = {name: asked.pop(name) for name in arguments.TIMES}
    known = arguments.checked({name: value for name, value in times.items() if not isinstance(value, Future)})
    rest = {name: value for name, value in times.items() if name not in known}
    if pending := _pending(asked):
        checked = arguments.checked({name: value for name, value in asked.items() if name not in pending})
        ends = [(checked[f"{end}_ep"], checked.get(f"{end}_path")) for end in ("src", "dst") if f"{end}_ep" in checked]
        rest |= {**asked, **checked}
    else:
        known["request"] = request = operation.make_request(**asked)
        ends = _places(request)
    check_places(settings, ends, globs=bool(asked.get("globs")))
    return known, rest


def run(
    request: Request, timeout: float, polling_interval: float, client: Any, *, check: bool | None, workers: int | None
) -> bool:
    """Run a request in this process, and wait until it ends; several workers are processes on this machine."""
    times = arguments.checked({"timeout": timeout, "polling_interval": polling_interval})

    def work(interrupted: Callable[[], bool]) -> bool:
        return prepared(request, **times, client=client, check=check, workers=workers)(interrupted)

    return interruptions.call(work, timeout=times["timeout"])


def prepared(
    request: Request, timeout: float, polling_interval: float, client: Any, *, check: bool | None, workers: int | None
) -> Callable[[Callable[[], bool]], bool]:
    """Check a request against the current settings; return a function that runs it with them, as `run` does.

    The function takes one that tells whether to stop.
    """
    dfk = kernel.running()
    settings = _settings_of(dfk)
    check = _check_flag(check, settings)
    workers = _check_workers(workers, settings)
    check_places(settings, _places(request), globs=isinstance(request, DeleteRequest) and request.globs)
    times = arguments.checked({"timeout": timeout, "polling_interval": polling_interval})

    def run_now(interrupted: Callable[[], bool]) -> bool:
        try:
            if workers > 1 and can_share(open_transfers(settings.setup).backend, request):
                worker_processes.run(settings.setup, request, workers=workers, **times, interrupted=interrupted)
            else:
                worker.run(_payload(settings, dfk, request=request, **times), client, interrupted=interrupted)
        except TaskError:
            if check:
                raise
            return False
        return True

    return run_now
