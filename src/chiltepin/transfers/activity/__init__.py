"""What moved, when, how fast, and what failed and why: for people, on every backend, during and after a workflow.

The log is in separate files in the folder of the journal. Other processes need the journal to continue, and each of its
lines is forced to the disk; they do not need the log, and a line of it costs 0.05 ms.

- A task that ends within a quarter of a second is one line. A longer one has a line at its beginning, some lines, at
  growing intervals, while it runs, and one at its end.
- The last line repeats the first, so that a lost line loses nothing else.
- Each process writes to a separate file. Files to which no process has written for 30 days are removed.

The log contains no tokens, no options of endpoints and no URLs of services: only the names of endpoints, paths, labels,
counts, times, and the messages of failures.
"""

from __future__ import annotations

from chiltepin.transfers.activity.log import ActivityLog
from chiltepin.transfers.activity.reader import ActivityReader
from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["ActivityLog", "ActivityReader", "TransferRecord"]
