"""Limits on running requests: counts, sizes and retries.

Those of one backend are in its modules, such as `backends/globus/backend.py`; those of Parsl tasks in `parsl`.

`chiltepin.settings.limits` has the ranges of settings.
"""

from __future__ import annotations

# Polling.

#: Maximum bytes of a status file; Chiltepin does not write a longer one.
STATUS_FILE_LIMIT = 1 << 20

# Retries.

#: Attempts to read the outcomes of a task's items before they count as unknown; with `RETRY_MAX`, about two minutes.
OUTCOME_TRIES = 8

#: Tasks in which an item may be submitted without a known outcome: bisecting 10,000 items takes 14.
UNPROVEN_TASKS = 20

# Shards of a tree that several workers move.

#: Folders that a worker gets at a time; it processes as many of them as its time allows.
SHARD_FOLDERS = 200

#: Bytes of a large file that a worker copies at a time: some tenths of a second on a fast disk, compared with
#: which the milliseconds of one more shard are little. A file of fewer than two such ranges is copied by one worker.
SHARD_RANGE = 1 << 29

#: How often a shard whose worker was lost is given to another one, the repetitions by Parsl (``retries``) included.
SHARD_RETRIES = 2

#: How many attempts and tasks without success a process remembers, to remove their temporary files: more than workers
#: are lost at a time, and as ids of 32 bytes little in a shard.
ABANDONED_ATTEMPTS = 100

# Batching.

#: Maximum tasks at the service at a time; a user may have 100 pending tasks there (Globus FAQ,
#: "Transfer and Sharing", limits), and other programs of the same user need some.
MAX_TASKS = 50

#: Minimum items of a part, if a batch is divided among the slots of the service: each task costs a start and polls.
SLOT_ITEMS = 1000

#: Timeouts of requests that are kept before those of ended requests are removed.
DEADLINES_KEPT = 1000

# Missing paths.

#: Folders to list for the missing paths of one deletion; paths in more folders than that are deleted one by one.
LISTED_FOLDERS = 10

#: Paths of one task that are confirmed to be missing; the rest are retried until their fault grace ends.
CONFIRMED_PATHS = 10

# Journal.

#: Bytes after which a process continues in a new file, and bytes of the longest line that is written or read.
JOURNAL_FILE_LIMIT, JOURNAL_LINE_LIMIT = 16 * 2**20, 64 * 2**20

#: Items that are remembered as done; if newer files cover this many, an older file is removed.
REMEMBERED_ITEMS = 100_000

#: Old files that one process examines.
FILES_PRUNED = 100

# Activity log.

#: Items of a task, and characters of a reason, that are written; the number of items is always written.
ACTIVITY_ITEMS, ACTIVITY_REASON = 10, 1000

#: Bytes that a process keeps besides its current file: some 100,000 tasks.
ACTIVITY_SIZE = 96 * 2**20

#: Bytes of the longest line that is read: ten pairs of the longest paths, each character escaped.
ACTIVITY_LINE_LIMIT = 1 << 20

# Callbacks of futures.

#: Threads that may be idle: one to run the next callback, and one to measure how long it runs.
CALLBACK_SPARE = 2

# `chiltepin check`, and messages.

#: Maximum bytes of an existing file that is used for a round trip.
CHECK_SIZE = 1_000_000

#: Maximum lines of a list that is written to stderr.
LISTED_LINES = 20
