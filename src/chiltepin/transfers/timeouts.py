"""How long to wait for a request by default, and the error if it is not done by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.errors import TaskTimeoutError
from chiltepin.transfers.outcomes import describe

if TYPE_CHECKING:
    from chiltepin.model import Request, TaskStatus

__all__ = ["POLLING_INTERVAL", "TIMEOUT", "timeout_error"]

#: Seconds that a caller waits, and the longest time between two polls; both are upstream's.
TIMEOUT, POLLING_INTERVAL = 3600, 30


def timeout_error(
    request: Request, timeout: float, *, status: TaskStatus | None = None, continues: str = "", last: str = ""
) -> TaskTimeoutError:
    """Return the error of a request that was not done in time.

    Parameters
    ----------
    request : Request
        What was asked for.
    timeout : float
        The seconds after which the caller no longer waited.
    status : TaskStatus or None
        The last status of the task, if there is one.
    continues : str
        A clause about the task if it was not stopped, because others wait for it.
    last : str
        A sentence with the last message of the service, after a space.
    """
    stopped = "" if continues else " and was stopped"
    waits = f" Chiltepin no longer waits for it: {continues}." if continues else ""
    said = f"{describe(request)} was not done within {timeout:g} seconds{stopped}; give a longer timeout=.{waits}{last}"
    return TaskTimeoutError(said, status=status)
