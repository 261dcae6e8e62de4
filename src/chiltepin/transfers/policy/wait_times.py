"""Every wait, interval, timeout and grace of running requests, in seconds.

`chiltepin.model.FAULT_GRACE` is the default time for which a fault is tolerated.
"""

from __future__ import annotations

from datetime import timedelta

# Polling.

#: Before the first poll of a task at a service, and the least between two; few tasks of a service end sooner.
POLL_MIN = 0.5

#: The next poll comes after this fraction of the time that has passed: an end is noticed at most a tenth late.
POLL_FRACTION = 0.1

#: Between two polls of a task of this process. Its end is reported at once; a poll only notices that another process
#: has cancelled it, and costs nothing.
WORKER_POLL = 0.25

#: Before a worker writes its first status file, and the least between two; a task that ends sooner costs none.
STATUS_FILE_INTERVAL = 1.0

# Retries.

#: First and longest wait before a failed call of the service is repeated; it doubles.
RETRY_MIN, RETRY_MAX = 1.0, 30.0

#: Longest wait before an item with a fault is submitted again.
ITEM_RETRY_MAX = 10.0

# Stopping.

#: Seconds to wait for a task that was cancelled.
STOP_GRACE = 10.0

#: Between two tries to cancel a task that other requests wait for, after its own requests have ended.
CANCEL_RETRY = 30.0

#: For the service to receive the cancellations at the exit of the process.
EXIT_GRACE = 10.0

#: By which the service's clock may be ahead of this one.
CLOCK_SKEW = 10.0

#: By which the clock of this machine may be wrong before a task of another process is forgotten that may still be live:
#: machines without network time, and those set to local time instead of UTC, are hours off.
CLOCK_ERROR = timedelta(days=1)

# Batching.

#: Without a new request before a task is submitted, and the longest that it waits for more: a loop of calls makes one
#: every millisecond or two, and a single transfer must not be delayed noticeably.
BATCH_QUIET, BATCH_WINDOW = 0.05, 0.5

#: Longest that a task waits for a free slot at the service. Until then more requests may join it, and it would only
#: wait there as well; but what is not submitted does not outlive this process.
SLOT_WAIT = 10.0

# Shards of a tree that several workers move.

#: How long the first shard of a tree takes: a tree that is done by then is not worth a second worker, which costs up
#: to 30 ms for each shard (benchmarks/many_workers.py).
SHARD_FIRST = 0.1

#: How long a shard takes as long as there are too few folders for all workers, and later. Between two shards a worker
#: waits for some milliseconds, and a lost worker costs the work of one.
SHARD_SHORT, SHARD_LONG = 0.25, 1.0

# Journal.

#: How long a file is kept in which nothing is in flight.
FILES_KEPT = timedelta(days=30)

#: The fraction of the time that may go into reading new lines of other processes, the seconds of it that may be saved,
#: and those by which one reading may exceed them: it must not slow down a loop of 1,000 calls of a millisecond each.
READ_FRACTION, READ_SAVED, READ_EXCESS = 0.01, 0.005, 0.05

#: Between two checks that a file still exists, where lines are not forced to the disk.
FILE_CHECK = 1.0

# Activity log.

#: Least and most between two lines about a running task; in between, half of the time for which it has run.
ACTIVITY_MIN, ACTIVITY_MAX = 1.0, 300.0

#: How long a process of another machine counts as running after its last line.
ASSUMED_RUNNING = timedelta(hours=1)

# Callbacks of futures.

#: After which a callback no longer delays the next one.
CALLBACK_TURN = 0.02

#: After which an idle thread ends.
CALLBACK_IDLE = 0.5

# `chiltepin check`, and messages.

#: The timeout of each transfer of a round trip.
CHECK_TIMEOUT = 300.0
