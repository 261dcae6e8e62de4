"""Distribute a recursive request over several Parsl workers: each shard is a Parsl task."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from chiltepin.errors import TaskCanceledError
from chiltepin.model import TaskHandle
from chiltepin.parsl import kernel
from chiltepin.parsl.futures import WORKER_GONE, lost_error
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.parsl.task_channels import WorkerChannel
from chiltepin.transfers import policy
from chiltepin.transfers.callbacks import CallbackFuture
from chiltepin.transfers.journal.unfinished import UnfinishedRecord
from chiltepin.transfers.outcomes import describe
from chiltepin.transfers.runner import open_transfers
from chiltepin.transfers.shards import ShardedTask, can_share

if TYPE_CHECKING:
    from concurrent.futures import Future

    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.dataflow.futures import AppFuture

    from chiltepin.model import Request, TaskStatus
    from chiltepin.parsl.operation import Operation
    from chiltepin.protocol import Shard, ShardOutcome
    from chiltepin.transfers.worker import AppPayload

__all__ = ["ShardedChannel"]


class ShardedChannel:
    """A request that up to ``workers`` workers process together; see `TaskChannel`.

    ``place`` has the Parsl keywords that determine where each part runs, such as ``executor``.
    """

    queues = False

    def __init__(
        self,
        handle: TaskHandle,
        operation: Operation,
        dfk: DataFlowKernel,
        place: dict[str, Any],
        workers: int,
    ) -> None:
        self._operation, self._dfk, self._place, self._workers = operation, dfk, place, workers
        self.handle, self.executor = handle, place["executor"]
        self._task: ShardedTask | None = None
        self._stopped = False

    def start(self, payload: AppPayload) -> Future[Any]:
        """Submit the first shard of a payload's request; return a future of the status."""
        transfers = open_transfers(payload.setup)
        request, retries = cast("Request", payload.request), self._dfk.config.retries
        if can_share(transfers.backend, request):
            retries = max(policy.limits.SHARD_RETRIES, retries)
        self._task = task = ShardedTask(
            request,
            self.handle,
            workers=self._workers,
            timeout=payload.timeout,
            start=partial(self._start_shard, payload),
            task_log=transfers.task_log(payload.submission_id, request),
            unfinished=UnfinishedRecord(payload.setup, request),
            retries=retries,
        )
        if self._stopped:
            task.stop()
        return task.begin().future

    def _start_shard(self, payload: AppPayload, request: Request, shard: Shard, seconds: float) -> _ParslShard:
        submission_id = str(uuid.uuid4())
        own = replace(
            payload,
            request=request,
            timeout=seconds,
            submission_id=submission_id,
            stop_file=os.path.join(os.path.dirname(payload.stop_file), f"{submission_id}.stop"),
            handle=TaskHandle.at_worker(self.handle.backend, submission_id),
        )
        with kernel.entered(self._dfk):
            app_future = self._operation.shard(own, shard, **self._place)
        # `ShardedTask` handles lost workers, and nothing else makes the Parsl task fail.
        app_future.task_record["fail_cost"] = self._dfk.config.retries + 1
        return _ParslShard(app_future, own, self._operation)

    def status(self) -> TaskStatus | None:
        """Return the combined status of the shards that have ended or are visible from this process."""
        return self._task.status() if self._task is not None else None

    def stop(self) -> None:
        """Submit no more shards, and stop those in flight."""
        self._stopped = True
        if self._task is not None:
            self._task.stop()

    def cleanup(self) -> None:
        """Do nothing: each shard removes its own files."""


class _ParslShard:
    """A shard that is a Parsl task; see `RunningShard`."""

    def __init__(self, app_future: AppFuture, payload: AppPayload, operation: Operation) -> None:
        self.future: CallbackFuture[ShardOutcome] = CallbackFuture()
        self.future.set_running_or_notify_cancel()
        self._app_future, self._operation = app_future, operation
        self._what = describe(cast("Request", payload.request))
        self._channel, self._given_up = WorkerChannel(payload, cast("TaskHandle", payload.handle)), False
        app_future.add_done_callback(self._follow)

    def status(self) -> TaskStatus | None:
        return None if self.future.done() else self._channel.status()

    def stop(self) -> None:
        self._channel.stop()
        self._abandon()

    def give_up(self) -> None:
        self._channel.stop()
        theirs = self._app_future.task_record["exec_fu"]
        self._given_up = theirs is not None
        self._abandon(far=True)
        if theirs is not None:
            # A worker that receives the shard later must still find the stop file.
            theirs.add_done_callback(lambda _: self._channel.cleanup())

    def _abandon(self, *, far: bool = False) -> None:
        record = self._app_future.task_record
        error = TaskCanceledError(f"{self._what} was canceled.")
        shutdown_of(record["dfk"]).tasks.abandon(record, error, far=far)

    def _follow(self, app_future: AppFuture) -> None:
        error = app_future.exception()
        if not self._given_up:
            self._channel.cleanup()
        if error is None:
            self.future.set_result(app_future.result())
        elif isinstance(error, WORKER_GONE):
            self.future.set_exception(lost_error(self._what, error, self._operation))
        else:
            self.future.set_exception(error)
