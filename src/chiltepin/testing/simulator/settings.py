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
        Time that each file takes before its first byte.
    request_latency : float
        Time that each answer takes; the request is carried out at once.
    task_latency : float
        Time that a task takes before its first file.
    slots : int
        Transfers, and deletes, of one user that run at the same time (docs.globus.org, "Task Behavior", 2).
    pending_limit : int
        Unfinished tasks of one user (docs.globus.org, FAQ "Transfer and Sharing", limits).
    request_rate : float or None
        Requests per second of one token, measured over `rate_window`; None: no limit. The default is that of the FAQ.
    rate_window : float
        Time over which the rate is measured.
    retry_interval : float
        Time that a task backs off after an error. That of the service is not documented.
    page_size : int
        Entries in one answer of a list that is paged with markers.
    listing_size : int
        Entries in one answer of a directory listing, at most (globus_sdk, ``TransferClient.operation_ls``).
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
