"""Every limit of running requests: of numbers, sizes and tries.

`chiltepin.settings.limits` has the ranges of settings.
"""

from __future__ import annotations

# Polling.

#: Bytes of the longest status file; one with a reason of 1 MB was not written by Chiltepin.
STATUS_FILE_LIMIT = 1 << 20

# Retries.

#: Calls that ask for the outcomes of a task's items before they count as unknown; with `RETRY_MAX`, some two minutes.
OUTCOME_TRIES = 8

#: Tasks in which an item may be submitted without learning its outcome: bisecting 10,000 items takes 14.
UNPROVEN_TASKS = 20

# Shards of a tree that several workers move.

#: Folders that a worker gets at a time; it does as many of them as it has time for.
SHARD_FOLDERS = 200

#: Bytes of a large file that a worker copies at a time: some tenths of a second on a fast disk, beside which the
#: milliseconds of one more shard are little. A file of fewer than two such ranges is copied by one worker.
SHARD_RANGE = 1 << 29

#: How often a shard whose worker was lost is given to another one, the repetitions by Parsl (``retries``) included.
SHARD_RETRIES = 2

# Batching.

#: Most tasks at the service at a time; a user may have 100 pending there (Globus FAQ,
#: "Transfer and Sharing", limits), and other programs of the same user need some.
MAX_TASKS = 50

#: Items of a task of which a slot of the service takes only its part: a small task costs its own start and polls.
SLOT_ITEMS = 1000

#: Deadlines of requests that are kept before those of ended requests are removed.
DEADLINES_KEPT = 1000

# Missing paths.

#: Folders that are listed to find what is missing for one deletion; paths in more of them are deleted one by one.
LISTED_FOLDERS = 10

#: Paths of one task that are confirmed to be missing; the rest are retried until their fault grace ends.
CONFIRMED_PATHS = 10

# Journal.

#: Bytes after which a process continues in a new file, and bytes of the longest line that is written or read.
JOURNAL_FILE_LIMIT, JOURNAL_LINE_LIMIT = 16 * 2**20, 64 * 2**20

#: Items that are remembered as done; where newer files tell of more, an older file is removed.
REMEMBERED_ITEMS = 100_000

#: Old files that one process examines.
FILES_PRUNED = 100

# Activity log.

#: Items of a task, and characters of a reason, that are written; the number of items always is.
ACTIVITY_ITEMS, ACTIVITY_REASON = 10, 1000

#: Bytes that a process keeps besides its current file: some 100,000 tasks.
ACTIVITY_SIZE = 96 * 2**20

#: Bytes of a line that is still read: one with ten pairs of the longest paths, each character escaped.
ACTIVITY_LINE_LIMIT = 1 << 20

# Callbacks of futures.

#: Threads that may be idle: one that takes the next callback, and one that watches how long it takes.
CALLBACK_SPARE = 2

# `chiltepin check`, and messages.

#: Most bytes of an existing file that is used for a round trip.
CHECK_SIZE = 1_000_000

#: Most lines of a list that is written to stderr.
LISTED_LINES = 20
