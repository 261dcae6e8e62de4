"""A process with separate disks in its mount namespace: the disks disappear when it ends, for whatever reason.

Run as a program, this file is that process: it calls the functions that are sent to it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

HERE = Path(__file__).parent

#: Smallest size of a disk of each kind, in MiB; ``mkfs.KIND`` makes the disk.
SMALLEST = {"ext4": 4, "ext2": 1, "xfs": 300, "btrfs": 120, "vfat": 1, "exfat": 1}

#: Options of ``mount`` for kinds that the kernel may not support.
_FUSE = {"exfat": ("-t", "exfat-fuse")}


class NoDiskError(Exception):
    """The disk cannot be made on this machine; the message says why."""


class Elsewhere:
    """The process, as a callable for the tests: call it with a function of a test module and its arguments.

    The call returns or raises what the function does. The function is pickled by name, everything else by value.
    """

    def __init__(self) -> None:
        found = shutil.which("unshare")
        command = [[found, *user, "--mount", "--"] for user in ([], ["--user", "--map-root-user"]) if found]
        usable = [words for words in command if not subprocess.run([*words, "true"], check=False).returncode]
        if not usable:
            raise NoDiskError("no process can have a mount namespace here (unshare --mount)")
        self._process = subprocess.Popen(
            [*usable[0], sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the process."""
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        # The path first: unpickling the function requires it.
        pickle.dump(sys.path, pipes[0])
        pickle.dump((function, arguments), pipes[0])
        pipes[0].flush()
        returned, outcome = pickle.load(pipes[1])  # noqa: S301 - our own data
        if returned:
            return outcome
        raise outcome

    def close(self) -> None:
        """End the process, which removes its disks."""
        self._process.communicate()


@contextmanager
def mounted(kind: str, size: int, *options: str) -> Iterator[str]:
    """Mount an empty disk; call this in the process only.

    Parameters
    ----------
    kind : str
        ``tmpfs``, or a kind that ``mkfs`` can make.
    size : int
        MiB; at least that of its kind in `SMALLEST`.
    options : str
        Options of ``mkfs``, or of ``mount`` for ``tmpfs``.

    Yields
    ------
    str
        Path of the disk.

    Raises
    ------
    NoDiskError
        If the disk cannot be made or mounted.
    """
    with tempfile.TemporaryDirectory() as folder:
        disk = f"{folder}/disk"
        os.mkdir(disk)
        if kind == "tmpfs":
            given = ",".join([f"size={size}m", *options])
            _run("mount", "-t", "tmpfs", "-o", given, "chiltepin", disk)
        else:
            with open(f"{folder}/image", "wb") as image:
                image.truncate(size << 20)
            _run(f"mkfs.{kind}", *options, f"{folder}/image")
            _run("mount", *_FUSE.get(kind, ()), "-o", "loop", f"{folder}/image", disk)
        try:
            os.chmod(disk, 0o777)  # noqa: S103 - the test's user must be able to write there
            os.chmod(folder, 0o755)  # noqa: S103 - and to reach it
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=False)


def _run(*command: str) -> None:
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise NoDiskError(f"there is no {command[0]} here")
    ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["nothing"]
        raise NoDiskError(f"{command[0]} does not work here: {said[0].replace(command[-1], '...')}")


class Faulty:
    """A folder mounted through a disk that fails on command; see faulty.c.

    Parameters
    ----------
    program : str
        Path of the compiled faulty.c.
    folder : str
        The folder behind the disk, which is mounted at ``FOLDER-disk``.
    modes : str
        Modes of the disk.
    """

    def __init__(self, program: str, folder: str, *modes: str) -> None:
        self.folder, self.disk = folder, f"{folder}-disk"
        for path in (self.folder, self.disk):
            os.makedirs(path, exist_ok=True)
        self._process = subprocess.Popen(
            [program, self.folder, self.disk, *modes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._answer() != "mounted":
            raise NoDiskError("FUSE is not allowed here")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _say(self, words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._answer()

    def plan(self, first: int = 0, times: int = 1, error: int = 0, *operations: str) -> None:
        """Make some operations fail; without arguments, none."""
        self._say(" ".join(map(str, ("plan", first, times, error, *operations))))

    def count(self) -> tuple[int, int, str]:
        """Return the numbers of operations and failures since the plan, and the kind of the first failure."""
        count, failed, kind = self._say("count").split()
        return int(count), int(failed), kind

    def close(self) -> None:
        """Unmount the disk."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def compiled(folder: Path) -> str:
    """Compile the failing disk and return the path of its program.

    Raises
    ------
    NoDiskError
        If it cannot be compiled, or FUSE is missing.
    """
    flags = ["pkg-config", "--cflags", "--libs", "fuse3"]
    if not os.access("/dev/fuse", os.W_OK):
        raise NoDiskError("there is no /dev/fuse here")
    try:
        found = subprocess.run(flags, check=True, capture_output=True, text=True).stdout.split()
        program = folder / "faulty"
        subprocess.run(["cc", "-O1", "-o", program, HERE / "faulty.c", *found], check=True)
    except (OSError, subprocess.CalledProcessError):
        raise NoDiskError("a disk that fails wants cc, pkg-config and libfuse3-dev") from None
    return str(program)


def _serve() -> None:
    """Call the functions that arrive, until the input ends."""
    commands, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Output of the functions must not mix with the results.
    os.dup2(2, 1)
    while True:
        try:
            sys.path[:] = pickle.load(commands)  # noqa: S301 - our own data
            function, arguments = pickle.load(commands)  # noqa: S301 - the same
        except EOFError:
            return
        try:
            outcome = pickle.dumps((True, function(*arguments)))
        except Exception as err:  # noqa: BLE001 - the caller raises it again
            outcome = pickle.dumps((False, err))
        answers.write(outcome)
        answers.flush()


if __name__ == "__main__":
    _serve()
