"""What the engine waits for, how much it takes on, and which faults it treats as permanent."""

from __future__ import annotations

from chiltepin.transfers.policy import fault_codes, limits, wait_times

__all__ = ["fault_codes", "limits", "wait_times"]
