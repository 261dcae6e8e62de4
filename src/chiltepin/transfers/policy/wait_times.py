"""Waits, intervals, timeouts and graces of running requests, in seconds.

Those of one backend are in its modules, such as `backends/filesystem/mover/retry.py`; those of Parsl tasks in `parsl`.

`chiltepin.model.FAULT_GRACE` is the default time for which a fault is tolerated.
"""

from __future__ import annotations

from datetime import timedelta

# Polling.

#: Before the first poll of a task at a service, and the minimum between two; few tasks of a service end sooner.
POLL_MIN = 0.5

#: Until the next poll, as a fraction of the time that has passed: an end is detected at most a tenth late.
POLL_FRACTION = 0.1

#: Between two polls of a task of this process. Its end is reported at once; a poll only detects that another process
#: has canceled it, and costs nothing.
WORKER_POLL = 0.25

#: Before a worker writes its first status file, and the minimum between two; a task that ends sooner writes none.
STATUS_FILE_INTERVAL = 1.0

# Retries.

#: First and longest wait before a failed call to the service is retried; it doubles.
RETRY_MIN, RETRY_MAX = 1.0, 30.0

#: Longest wait before an item with a fault is submitted again.
ITEM_RETRY_MAX = 10.0

# Stopping.

#: Seconds to wait for a canceled task to end.
STOP_GRACE = 10.0

#: Between two attempts to cancel a task that other requests wait for, after its own requests have ended.
CANCEL_RETRY = 30.0

#: For the service to receive the cancellations when the process exits.
EXIT_GRACE = 10.0

#: Seconds by which the service's clock may be ahead of this machine's.
CLOCK_SKEW = 10.0

#: Assumed error of this machine's clock, so that no live task of another process is forgotten because of it:
#: machines without network time, and those set to local time instead of UTC, are hours off.
CLOCK_ERROR = timedelta(days=1)

# Batching.

#: Time without a new request before a task is submitted, and the maximum wait for more: a loop of calls makes a request
#: every millisecond or two, and a single transfer must not be delayed noticeably.
BATCH_QUIET, BATCH_WINDOW = 0.05, 0.5

#: Longest wait of a task for a free slot at the service. Until then more requests may join it, and the service would
#: only queue it as well; but a task that is not submitted does not outlive this process.
SLOT_WAIT = 10.0

# Shards of a tree that several workers move.

#: How long the first shard of a tree takes: a tree that is done by then is not worth a second worker, which costs up
#: to 30 ms for each shard (benchmarks/many_workers.py).
SHARD_FIRST = 0.1

#: How long a shard takes while there are too few folders for all workers, and later. Between two shards a worker
#: waits some milliseconds, and a lost worker costs the work of one shard.
SHARD_SHORT, SHARD_LONG = 0.25, 1.0

# Journal.

#: How long a file without anything in flight is kept.
FILES_KEPT = timedelta(days=30)

#: The fraction of the time that may be spent on reading new lines of other processes, the seconds that may be saved up,
#: and those by which one read may exceed them: it must not slow down a loop of 1,000 calls of a millisecond each.
READ_FRACTION, READ_SAVED, READ_EXCESS = 0.01, 0.005, 0.05

#: Longest wait for other processes that look for overlapping tasks and record theirs. That takes them milliseconds, but
#: a process that was stopped meanwhile must not stop the others.
SUBMISSION_TURN = 5.0

#: How long to wait for the task of a submission that a process on another machine has recorded, before that process
#: counts as killed: a submission takes about a second.
INTENT_WAIT = 10.0

#: Between two checks that a file still exists, if lines are not forced to the disk.
FILE_CHECK = 1.0

# Activity log.

#: Minimum and maximum between two lines about a running task; in between, half of the time that it has run.
ACTIVITY_MIN, ACTIVITY_MAX = 1.0, 300.0

#: How long a process on another machine counts as running after its last line.
ASSUMED_RUNNING = timedelta(hours=1)

# Callbacks of futures.

#: Time after which a callback no longer delays the next one.
CALLBACK_TURN = 0.02

#: Time after which an idle thread ends.
CALLBACK_IDLE = 0.5

# `chiltepin check`, and messages.

#: The timeout of each transfer of a round trip.
CHECK_TIMEOUT = 300.0
