"""A store of small folders that on command kills, fails or slows down the process that opens one of its files.

Its commands and its records are files in a folder that all processes see.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

FOLDERS, NAMES, SIZE = 8, "ab", 1 << 20
#: The paths of all files.
FILES = [f"{folder}/{name}" for folder in range(FOLDERS) for name in NAMES]
#: Bytes per read of a slow file, and seconds before each read.
PORTION, PAUSE = 1 << 17, 0.1


class TrapFileSystem(AbstractFileSystem):
    """The folders ``0`` to ``7`` with two files each; ``control`` is the folder that holds the commands."""

    protocol = "trap"
    cachable = False

    def __init__(self, control="", **options):
        super().__init__(**options)
        self.control = Path(control)

    def _names(self, path):
        return tuple(name for name in self._strip_protocol(path).split("/") if name)[1:]

    def info(self, path, **_):
        """Describe a folder or a file."""
        names = self._names(path)
        if len(names) == 2 and "/".join(names) in FILES:
            return {"name": path, "size": SIZE, "type": "file"}
        if len(names) > 1 or (names and names[0] not in map(str, range(FOLDERS))):
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def ls(self, path, detail=True, **_):  # noqa: FBT002 - as fsspec has it
        """List a folder; on command it is empty, at once or after a number of full listings."""
        names = self._names(path)
        inner = NAMES if names else map(str, range(FOLDERS))
        if names and told(self.control, f"empty {names[0]}") and not taken(self.control, f"full {names[0]}"):
            inner = ()
        found = [self.info(f"{path.rstrip('/')}/{name}") for name in inner]
        return found if detail else [entry["name"] for entry in found]

    def _open(self, path, mode="rb", **_):
        name = "/".join(self._names(path))
        note(self.control, name)
        while told(self.control, f"wait {os.getpid()}") and any(self.control.glob("kill *")):
            threading.Event().wait(PAUSE / 10)
        if taken(self.control, f"kill {name}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if told(self.control, f"fail {name}"):
            raise PermissionError(errno.EACCES, "Refused", path)
        return (
            SlowFile() if told(self.control, f"slow {name}") or told(self.control, "slow") else io.BytesIO(bytes(SIZE))
        )


class SlowFile(io.BytesIO):
    """A file of the right size that takes about a second to read."""

    def __init__(self):
        super().__init__(bytes(SIZE))

    def read(self, size=-1):
        """Read a small part after a pause."""
        threading.Event().wait(PAUSE)
        return super().read(PORTION if size is None or size < 0 else min(size, PORTION))


def tell(control, what, times=1):
    """Give the store a command: ``kill`` and ``full`` for a number of times, others permanently."""
    for number in range(times):
        (control / f"{what} {number}".replace("/", "-")).touch()


def told(control, what):
    """Return whether a command was given."""
    return (control / f"{what} 0".replace("/", "-")).exists()


def taken(control, what):
    """Use a command up once; return whether one was left."""
    for number in range(100):
        try:
            (control / f"{what} {number}".replace("/", "-")).unlink()
        except FileNotFoundError:
            continue
        return True
    return False


def note(control, name):
    """Record that this process has opened a file."""
    with (control / "opened").open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {name}\n")


def opened(control):
    """Return the process id and the name for each opened file, in order."""
    if not (control / "opened").exists():
        return []
    lines = (control / "opened").read_text(encoding="utf-8").splitlines()
    return [(int(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in lines]


def announce(folder):
    """Register the store in this process, and in each Python that has `folder` on its search path."""
    info = folder / "trap_store-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trap-store\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fsspec.specs]\ntrap = trap_store:TrapFileSystem\n")
    fsspec.register_implementation("trap", TrapFileSystem, clobber=True)
