"""A record on disk of the submissions to services, for processes that start later.

A task at a service outlives the process that submitted it. So each submission is recorded before it is sent, then its
task, then its end, each as one line of JSON. A killed workflow that is restarted finds here what is still in flight,
and what was done.

Rules that keep the record consistent:

- Each process writes to a separate file and reads the files of all processes. On NFS, two processes that append to
  one file overwrite each other's lines (open(2), ``O_APPEND``), and locks work only on some clusters.
- A line is one write, and is forced to the disk before the method returns: if the submission was sent, its intent is on
  the disk. On NFS, every process that opens the file later then sees it (nfs(5), close-to-open).
- A reader trusts no file. A file that another user may have written is skipped (`chiltepin.transfers.own_files`), and
  so is each line that is truncated, is not JSON, has another version or has a value of the wrong type.

Moving data matters more than recording it. If a line cannot be written, because the disk is full or the folder is not
writable, no error is raised: one warning is logged, and the next line is tried. A submission that is not recorded
cannot be joined after a restart.

The journal contains no tokens and no credentials. Files have mode 0600.
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
