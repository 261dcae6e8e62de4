"""The wait times and limits of the engine, and the faults that it treats as permanent."""

from __future__ import annotations

from chiltepin.transfers.policy import fault_codes, limits, wait_times

__all__ = ["fault_codes", "limits", "wait_times"]
