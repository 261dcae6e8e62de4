"""From a call of `transfer_task`, or of `transfer`, to the task that does it."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from chiltepin import paths
from chiltepin.backends import registry
from chiltepin.errors import TaskError
from chiltepin.model import DeleteRequest
from chiltepin.parsl import kernel
from chiltepin.parsl.files import input_futures
from chiltepin.parsl.futures import TransferFuture
from chiltepin.parsl.nested_futures import futures_in
from chiltepin.parsl.task_channels import ServiceChannel, WorkerChannel
from chiltepin.transfers import arguments, worker
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.resolve import default_data, resolve_endpoint
from chiltepin.transfers.runner import open_transfers, runs_at_service

if TYPE_CHECKING:
    from parsl.dataflow.dflow import DataFlowKernel

    from chiltepin.model import Request
    from chiltepin.parsl.operation import Operation
    from chiltepin.parsl.task_channels import TaskChannel
    from chiltepin.settings import DataSettings

__all__ = ["data_settings", "run", "start"]


def data_settings() -> DataSettings:
    """Return the data settings of the running workflow, else those of the default settings file."""
    return _settings_of(kernel.running())


def _settings_of(dfk: DataFlowKernel | None) -> DataSettings:
    settings: DataSettings = getattr(dfk.config if dfk is not None else None, "data", None) or default_data()
    return settings


def _check_endpoint(settings: DataSettings, argument: str, endpoint: Any, path: Any) -> None:
    """Check one endpoint of a call and, unless it is still a future, that its path stays inside the root."""
    if endpoint is None or isinstance(endpoint, Future):
        return
    place = resolve_endpoint(settings, argument, endpoint)
    if not isinstance(path, Future):
        paths.parts(os.fspath(path), home=place.get("home", "/"), endpoint=endpoint)


def _check_flag(check: Any, settings: DataSettings) -> bool:
    if check is not None and not isinstance(check, bool):
        raise TypeError(f"check={check!r} is of type {type(check).__name__}; give True or False.")
    return settings.check if check is None else check


def _payload(settings: DataSettings, dfk: DataFlowKernel | None, *, folder: str = "") -> worker.AppPayload:
    """Return what a worker needs besides the request; ``folder`` is where a file may tell it to stop."""
    submission_id = str(uuid.uuid4())
    return worker.AppPayload(
        setup=settings.setup,
        submission_id=submission_id,
        stop_file=os.path.join(folder, f"{submission_id}.stop") if folder else "",
        fault_grace=settings.fault_grace,
        workflow=str(dfk.run_id) if dfk is not None else "",
    )


def start(
    operation: Operation,
    client: Any,
    executor: Any,
    inputs: Any,
    check: Any,
    asked: dict[str, Any],
) -> TransferFuture:
    """Check what is known of a call, and submit it to Parsl."""
    dfk = kernel.current()
    settings = _settings_of(dfk)
    check = _check_flag(check, settings)
    if not isinstance(inputs, list | tuple):
        # Not iterated: a future has a __getitem__ that makes one Parsl task after another.
        raise TypeError(f"inputs={inputs!r} is of type {type(inputs).__name__}; give a list of futures.")
    waits = {"timeout": asked.pop("timeout"), "polling_interval": asked.pop("polling_interval")}
    pending = {name for name, value in asked.items() if isinstance(value, Future)}
    pending |= {name for name in ("include", "exclude") if name in asked and futures_in(name, asked[name])}
    request = None if pending else operation.make_request(**asked)
    for argument, value in ({**waits, **asked} if pending else waits).items():
        if argument not in pending and not isinstance(value, Future):
            arguments.check(argument, value)
    for end in ("src", "dst"):
        _check_endpoint(settings, f"{end}_ep", asked.get(f"{end}_ep"), asked.get(f"{end}_path"))
    payload = _payload(settings, dfk, folder=os.path.join(os.path.abspath(dfk.run_dir), "chiltepin"))
    # Parsl looks into every argument of a task for a future; where there is none, one request costs it least.
    rest = {"request": request} if request else asked
    options = {"executor": executor, "inputs": input_futures(inputs), **waits, **rest}
    channel: TaskChannel
    if runs_at_service(registry.load(settings.backend)):
        transfers = open_transfers(payload.setup, client)
        app_future = operation.at_service(payload, transfers, **options)
        channel = ServiceChannel(payload, transfers.manager)
    else:
        app_future = operation.at_worker(payload, **options)
        channel = WorkerChannel(payload, settings.backend)
    what = describe(request) if request else f"The {operation.name}"
    return TransferFuture(app_future, operation, channel, what, check=check)


def run(request: Request, timeout: float, polling_interval: float, client: Any, *, check: bool | None) -> bool:
    """Run a request in this process, and wait for its end."""
    dfk = kernel.running()
    settings = _settings_of(dfk)
    check = _check_flag(check, settings)
    if isinstance(request, DeleteRequest):
        resolve_endpoint(settings, "src_ep", request.endpoint)
    else:
        resolve_endpoint(settings, "src_ep", request.source)
        resolve_endpoint(settings, "dst_ep", request.destination)
    try:
        worker.run(_payload(settings, dfk), request, timeout, polling_interval, client)
    except TaskError:
        if check:
            raise
        return False
    return True
