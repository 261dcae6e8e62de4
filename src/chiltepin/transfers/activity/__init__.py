"""What moved, when, how fast, and what failed and why: for people, on every backend, while a workflow runs and after.

It stands in the folder of the journal, in files of its own. The journal is for the process that comes after this one,
and each of its lines is forced to the disk; nothing here is needed to go on, and a line costs a few microseconds.

- One task that is over within a quarter of a second is one line. A longer one has a line when it has begun, some while
  it goes on, ever more seldom, and one when it has ended.
- The last line repeats the first, so that a line that is lost costs no other.
- Each process writes to a file of its own. Files that nobody has written to for 30 days are removed.

No token, no option of an endpoint and no URL of a service is in it: only the names of endpoints, paths, labels, counts,
times, and the words with which a task failed.
"""

from __future__ import annotations

from chiltepin.transfers.activity.log import ActivityLog, TaskLog
from chiltepin.transfers.activity.reader import ActivityReader
from chiltepin.transfers.activity.records import TransferRecord

__all__ = ["ActivityLog", "ActivityReader", "TaskLog", "TransferRecord"]
