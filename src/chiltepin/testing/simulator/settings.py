"""The speed and the limits of the simulated service."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass
class Settings:
    """The settings of the simulator, which may change while it runs. Times are seconds of its clock.

    Parameters
    ----------
    bandwidth : float or None
        Bytes per second of one task; None: no time passes while bytes move.
    latency : float
        Time before the first byte of each file.
    request_latency : float
        Time before each response; the request is performed at once.
    task_latency : float
        Time before the first file of a task.
    slots : int
        Limit of transfers, and of deletes, of one user that run at the same time (docs.globus.org, "Task Behavior", 2).
    pending_limit : int
        Limit of unfinished tasks of one user (docs.globus.org, FAQ "Transfer and Sharing", limits).
    request_rate : float or None
        Requests per second of one token, measured over `rate_window`; None: no limit. The default is from the FAQ.
    rate_window : float
        Time over which to measure the rate.
    retry_interval : float
        Time before a task retries after an error. The interval of the service is not documented.
    page_size : int
        Entries in one page of a list that is paged with markers.
    listing_size : int
        Limit of entries in one directory listing (globus_sdk, ``TransferClient.operation_ls``).
    """

    bandwidth: float | None = None
    latency: float = 0.0
    request_latency: float = 0.0
    task_latency: float = 0.0
    slots: int = 3
    pending_limit: int = 100
    request_rate: float | None = 20.0
    rate_window: float = 10.0
    retry_interval: float = 10.0
    page_size: int = 1000
    listing_size: int = 100_000
