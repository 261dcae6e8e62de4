"""Source files that become something else between their listing and the copy."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from chiltepin.model import TaskState

#: What a file becomes, and the words for it in the message.
BECOMES = {
    "link": (lambda path: os.symlink("other", path), "a link"),
    "folder": (os.mkdir, "a folder"),
    "pipe": (os.mkfifo, "neither a file nor a folder"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "neither a file nor a folder"),
}


class Replacement:
    """Replaces a file when it is opened for the first time."""

    def __init__(self):
        self.path, self.make = "", None

    def arm(self, path, make):
        """Replace a file at the next opening of its name."""
        self.make, self.path = make, path

    def watch(self, event, given):
        """Python calls this before each operation."""
        if event == "open" and self.path and given[0] == os.path.basename(self.path):
            path, self.path = self.path, ""
            os.unlink(path)
            self.make(path)


@pytest.fixture(scope="module")
def replacement():
    """The hook, which cannot be removed and does nothing unless armed."""
    made = Replacement()
    sys.addaudithook(made.watch)
    return made


@pytest.mark.parametrize("size", [4, 3_000_000])
@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("kind", BECOMES)
def test_what_a_file_became_is_said(disk, replacement, kind, recursive, size):
    """A source file that becomes something else before it is opened fails with a message that says so."""
    make, words = BECOMES[kind]
    disk.put("laptop", "/d/f", b"x" * size)
    disk.put("laptop", "/d/other", b"other")
    replacement.arm(disk.path("laptop", "/d/f"), make)
    path = "/d" if recursive else "/d/f"
    status = disk.move(path, path, recursive=recursive)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_SIZE_CHANGED")
    assert status.reason == (
        f"/d/f on endpoint 'laptop' changed during the copy, and is now {words}; run the transfer again."
    )
    assert disk.files("scratch") == ({"/d/other"} if recursive else set())


def test_another_file_of_the_name_is_copied(disk, replacement):
    """A source file that is replaced by another file before it is opened is copied."""
    disk.put("laptop", "/d/f", b"old")
    replacement.arm(disk.path("laptop", "/d/f"), lambda _: disk.put("laptop", "/d/f", b"newer"))
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert disk.get("scratch", "/d/f") == b"newer"
