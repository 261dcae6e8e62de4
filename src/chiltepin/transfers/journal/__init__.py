"""A record, on disk, of what a service was asked to do, for the process that comes after this one.

A task at a service outlives the process that asked for it. So each submission is written down before it goes out, then
its task, then its end; one line of JSON each. A workflow that was killed and is started again finds here what is still
in flight, and what it had done.

The rules that keep the record whole:

- Each process writes to a file of its own and reads those of all. On NFS, two processes that append to one file
  overwrite each other's lines (open(2), ``O_APPEND``), and locks work on some clusters only. A file that has one writer
  needs neither.
- A line is one write, and is forced to the disk before the method returns: if the submission went out, its intent is
  there. On NFS that also shows it to whoever opens the file afterwards (nfs(5), close-to-open).
- A reader believes nothing. A file that another user can have written is skipped (`chiltepin.transfers.own_files`),
  and so is, line by line, what is cut, no JSON, of another version or of the wrong type.

Moving data matters more than the record of it. If a line cannot be written, because the disk is full or the folder is
forbidden, nothing is raised: one warning is logged, and every later line is tried anew. What is not in the record
cannot be joined after a restart.

No token and no credential is ever in it. Files have mode 0600.
"""

from __future__ import annotations

from chiltepin.transfers.journal.events import NO_WORKFLOW, ItemsByWorkflow, JournalEntry
from chiltepin.transfers.journal.journal import Journal
from chiltepin.transfers.journal.other_processes import KnownSubmission, OtherProcesses, Requester
from chiltepin.transfers.journal.process import ProcessId

__all__ = [
    "NO_WORKFLOW",
    "ItemsByWorkflow",
    "Journal",
    "JournalEntry",
    "KnownSubmission",
    "OtherProcesses",
    "ProcessId",
    "Requester",
]
