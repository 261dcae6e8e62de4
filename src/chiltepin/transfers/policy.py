"""Every interval, limit and list of fault codes of running requests; times are in seconds.

`chiltepin.settings.limits` has the ranges of settings, and `chiltepin.model.FAULT_GRACE` the default time for which a
fault is tolerated.
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

#: Bytes of the longest status file; one with a reason of 1 MB was not written by Chiltepin.
STATUS_FILE_LIMIT = 1 << 20

# Retries.

#: First and longest wait before a failed call of the service is repeated; it doubles.
RETRY_MIN, RETRY_MAX = 1.0, 30.0

#: Longest wait before an item with a fault is submitted again.
ITEM_RETRY_MAX = 10.0

#: Calls that ask for the outcomes of a task's items before they count as unknown; with `RETRY_MAX`, some two minutes.
OUTCOME_TRIES = 8

#: Tasks in which an item may be submitted without learning its outcome: bisecting 10,000 items takes 14.
UNPROVEN_TASKS = 20

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

#: Most tasks at the service at a time; a user may have 100 pending there (Globus FAQ,
#: "Transfer and Sharing", limits), and other programs of the same user need some.
MAX_TASKS = 50

#: Deadlines of requests that are kept before those of ended requests are removed.
DEADLINES_KEPT = 1000

# Missing paths.

#: Folders that are listed to find what is missing for one deletion; paths in more of them are deleted one by one.
LISTED_FOLDERS = 10

#: Paths of one task that are confirmed to be missing; the rest are retried until their fault grace ends.
CONFIRMED_PATHS = 10

# Fault codes: the event codes of Globus, as its staff listed them (Globus developer-discuss, 2020).

#: A path was not found.
NOT_FOUND = "FILE_NOT_FOUND"

#: Faults that one item of a task causes, so that the rest may succeed without it.
PER_ITEM_CODES = frozenset(
    {
        "AMBIGUOUS_PATH",
        "EXTERNAL_CHECKSUM_MISMATCH",
        "FILE_ACCESS",
        NOT_FOUND,
        "INVALID_PATH_NAME",
        "INVALID_SYMLINK",
        "IS_A_DIRECTORY",
        "IS_A_FILE",
        "NOT_A_DIRECTORY",
        "NOT_A_FILE",
        "PERMISSION_DENIED",
    }
)

#: Faults that do not heal without help, those of items among them. The service itself would retry until the deadline,
#: by default a day (docs.globus.org, "Task Behavior", 3 and 4). A wrong checksum ends at once: a retry would move all
#: bytes again.
PERMANENT_CODES = (PER_ITEM_CODES - {"EXTERNAL_CHECKSUM_MISMATCH"}) | {
    "ACL_CHANGED",
    "AUTH",
    "GC_NOT_CONNECTED",
    "GC_PAUSED",
    "GSI_DN_MISMATCH",
    "INVALID_SERVICE_CREDENTIAL",
    "LIMIT_EXCEEDED",
    "NO_APPEND_FILESYSTEM",
    "NO_CREDENTIALS",
    "NO_SPACE_LEFT",
    "QUOTA_EXCEEDED",
}

#: Ends of the codes that say that a folder cannot be listed although its endpoint answers: of errors and of events.
FOLDER_CODES = ("NotDirectory", "SizeLimit", "NOT_A_DIRECTORY", "INVALID_SYMLINK", "INVALID_PATH_NAME")

# Journal.

#: Bytes after which a process continues in a new file, and bytes of the longest line that is written or read.
JOURNAL_FILE_LIMIT, JOURNAL_LINE_LIMIT = 16 * 2**20, 64 * 2**20

#: Items that are remembered as done; where newer files tell of more, an older file is removed.
REMEMBERED_ITEMS = 100_000

#: How long a file is kept in which nothing is in flight, and how many old files one process examines.
FILES_KEPT, FILES_PRUNED = timedelta(days=30), 100

#: The fraction of the time that may go into reading new lines of other processes, the seconds of it that may be saved,
#: and those by which one reading may exceed them: it must not slow down a loop of 1,000 calls of a millisecond each.
READ_FRACTION, READ_SAVED, READ_EXCESS = 0.01, 0.005, 0.05

#: Between two checks that a file still exists, where lines are not forced to the disk.
FILE_CHECK = 1.0

# Activity log.

#: Least and most between two lines about a running task; in between, half of the time for which it has run.
ACTIVITY_MIN, ACTIVITY_MAX = 1.0, 300.0

#: Items of a task, and characters of a reason, that are written; the number of items always is.
ACTIVITY_ITEMS, ACTIVITY_REASON = 10, 1000

#: Bytes that a process keeps besides its current file: some 100,000 tasks.
ACTIVITY_SIZE = 96 * 2**20

#: Bytes of a line that is still read: one with ten pairs of the longest paths, each character escaped.
ACTIVITY_LINE_LIMIT = 1 << 20

#: How long a process of another machine counts as running after its last line.
ASSUMED_RUNNING = timedelta(hours=1)

# Callbacks of futures.

#: After which a callback no longer delays the next one.
CALLBACK_TURN = 0.02

#: After which an idle thread ends, and the number of threads that may be idle: one that takes the next callback, and
#: one that watches how long it takes.
CALLBACK_IDLE, CALLBACK_SPARE = 0.5, 2

# `chiltepin check`, and messages.

#: Most bytes of an existing file that is used for a round trip, and the timeout of each of its transfers.
CHECK_SIZE, CHECK_TIMEOUT = 1_000_000, 300.0

#: Most lines of a list that is written to stderr.
LISTED_LINES = 20
