"""The steps of a task, and retries of transient failures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chiltepin.backends.filesystem.location import Location
    from chiltepin.backends.filesystem.mover.task import TaskRun
    from chiltepin.backends.filesystem.store import Store

__all__ = ["in_steps", "with_retries"]

T = TypeVar("T")

#: Seconds before the first retry, doubled for each further retry; and the maximum.
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0

#: Attempts at one step; with these waits, a fault may last some eight seconds. A longer fault fails the file, and the
#: next run of the transfer continues there.
TRIES = 6


#: The description of a failure, the operation, and the locations concerned.
Step = tuple["Callable[[Exception], str]", "Callable[[TaskRun], None]", "Sequence[Location]"]


def in_steps(steps: Sequence[Step]) -> Callable[[TaskRun], None]:
    """Return an operation that runs all steps, even after one has failed.

    The description of a failure begins the sentence of its ``Fault``.
    """

    def one(
        run: TaskRun,
        describe: Callable[[Exception], str],
        step: Callable[[TaskRun], None],
        locations: Sequence[Location],
    ) -> None:
        try:
            with_retries(run, partial(step, run), *(location.store for location in locations))
        except Exception as err:  # noqa: BLE001 - the other steps still run
            run.fail(err, describe(err))

    def all_of(run: TaskRun) -> Iterator[Callable[[], None]]:
        for step in steps:
            run.check()
            yield partial(one, run, *step)

    def operation(run: TaskRun) -> None:
        if len(steps) == 1:
            # Not worth a measurement of the threads.
            one(run, *steps[0])
        else:
            run.pool.all(all_of(run))

    return operation


def with_retries(run: TaskRun, operation: Callable[[], T], *stores: Store) -> T:
    """Run an operation, and retry it after a delay if it fails with a transient error of its store.

    The operation must leave nothing behind when it fails. The last error is raised and not counted; if the task must
    stop, `Cancelled` is raised.
    """
    try:
        return operation()
    except Exception as err:
        if not any(store.transient(err) for store in stores):
            raise
        failed = [err]

    def again() -> T:
        if failed:
            raise failed.pop()
        return operation()

    # Only here: for a small file, this would dominate the cost, with some 50 microseconds and the import.
    from tenacity import (  # noqa: PLC0415
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        wait_exponential,
        wait_random,
    )

    return Retrying(
        sleep=run.pause,
        stop=stop_after_attempt(TRIES),
        # Plus a random part, so that the threads of a pool do not retry at the same moment.
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + wait_random(0, FIRST_WAIT),
        retry=retry_if_exception(lambda err: any(_transient(store, err) for store in stores)),
        before_sleep=lambda _: run.count(faults=1),
        reraise=True,
    )(again)


def _transient(store: Store, error: BaseException) -> bool:
    return isinstance(error, Exception) and store.transient(error)
