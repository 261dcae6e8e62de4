"""For users: what moved, when and how fast, and what failed and why, on every backend, even while a workflow runs.

The log is in separate files in the folder of the journal. Other processes need the journal to continue, so each of its
lines is forced to the disk. They do not need the log; writing a line of it takes 0.05 ms.

- A task that ends within a quarter of a second gets one line. A longer task gets a line when it begins, lines at
  growing intervals while it runs, and a line when it ends.
- The last line repeats the first, so that losing the first line loses nothing else.
- Each process writes to a separate file. Files to which no process has written for 30 days are removed.

The log contains no tokens, no options of endpoints and no URLs of services: only the names of endpoints, paths, labels,
counts, times, and the messages of failures.
"""

from __future__ import annotations

from chiltepin.transfers.activity.log import ActivityLog
from chiltepin.transfers.activity.reader import ActivityReader
from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["ActivityLog", "ActivityReader", "TransferRecord"]
