"""A transfer on a terminal: the progress bar and Ctrl-C, with a real process on a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from terminals import CTRL_C, Terminal

#: A store whose files are slow to read: each block waits briefly for an event that is never set.
SLOW = """
import fsspec, threading
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

never = threading.Event()

class SlowFile(MemoryFile):
    def read(self, *words):
        never.wait(0.05)
        return super().read(*words)
    def readinto(self, block):
        never.wait(0.05)
        return super().readinto(block)

class Slow(MemoryFileSystem):
    protocol = "slow"
    store, pseudo_dirs = {}, [""]
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("slow://", "memory://", 1))
    def _open(self, path, mode="rb", **options):
        if "r" not in mode:
            return super()._open(path, mode, **options)
        return SlowFile(None, None, self.store[self._strip_protocol(path)].getvalue())
    def cat_file(self, *words, **options):
        never.wait(0.05)
        return super().cat_file(*words, **options)

fsspec.register_implementation("slow", Slow)
Slow().pipe_file("/store/big", b"x" * 100_000_000)
"""

TELLING = """
import sys
opened = Slow._open
def _open(self, path, mode="rb", **options):
    print("reading", file=sys.stderr, flush=True)
    return opened(self, path, mode, **options)
Slow._open = _open
"""

HURRIED = """
import os

class Hurried(type(never)):
    def wait(self, seconds):
        return os.path.exists("hurry") or super().wait(seconds)

never = Hurried()
"""

STUCK = """
def _open(self, path, mode="rb", opened=Slow._open, **options):
    file = opened(self, path, mode, **options)
    def stick(*words, read=file.read):
        if file.tell() > 1_000_000:
            never.wait(3600)
        return read(*words)
    def stick_into(block, readinto=file.readinto):
        if file.tell() > 1_000_000:
            never.wait(3600)
        return readinto(block)
    file.read, file.readinto = stick, stick_into
    return file
Slow._open = _open
"""


class Slowly:
    """A slow transfer, on a backend of each kind."""

    def __init__(self, world):
        self.world, self.before, self.words = world, "", ("transfer", "a:/big", "b:/big")
        if world.simulator:
            world.simulator.settings.bandwidth = 1_000_000
            (world.a / "big").write_bytes(b"x" * 100_000_000)
        else:
            self.before = SLOW
            endpoints = {"a": {"filesystem": "slow:///store"}, "b": {"filesystem": str(world.b)}}
            world.write(backend="filesystem", endpoints=endpoints)

    def begin(self, *words, columns=80):
        """Start the transfer on a terminal, and wait until its bar shows the bytes done and the total."""
        terminal = Terminal(self.world, *self.words, *words, columns=columns, before=self.before)
        terminal.until(r"0/1 file [1-9][\d.]* MB/100\.0 MB")
        return terminal


@pytest.fixture(params=["filesystem", "globus"])
def slowly(request):
    """A slow transfer."""
    return Slowly(request.getfixturevalue("service" if request.param == "globus" else "local"))


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_has_files_bytes_speed_and_time_left(slowly, columns):
    """The bar is one line of files, bytes, speed and time left, with room for the ^C that a terminal echoes."""
    with slowly.begin(columns=columns) as terminal:
        shown = terminal.until(r"Moving [^\r\n]*0/1 file [\d.]+ MB/100\.0 MB [\d.]+ [kM]B/s \d\d:\d\d").group()
    assert len(shown) <= columns - len("^C")


def test_a_narrow_terminal_has_one_line_without_the_speed(slowly):
    """On 40 columns the bar is still one line, without the speed."""
    with slowly.begin(columns=40) as terminal:
        shown = terminal.until(r"[━╸╺]+ 0/1 file [\d.]+ MB/100\.0 MB  ?\d\d:\d\d").group()
    assert len(shown) <= 40 - len("^C")


def test_the_cursor_stays_where_it_can_be_seen(slowly):
    """The bar never hides the cursor, which a killed command could not restore."""
    with slowly.begin() as terminal:
        assert terminal.raw.count("\x1b[?25l") <= terminal.raw.count("\x1b[?25l\x1b[?25h")


@pytest.mark.parametrize(("sent", "state"), [(0, "succeeded"), (signal.SIGTERM, "canceled")])
def test_a_terminal_that_is_gone_changes_nothing_for_a_transfer(local, sent, state):
    """If the bar's terminal is gone, the transfer continues, can be canceled, and reports its end in JSON."""
    slowly = Slowly(local)
    (local.folder / "run.py").write_text(f"{SLOW}\n{HURRIED}\nfrom chiltepin.cli.main import main\nmain()\n")
    inside, outside = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "run.py", *slowly.words, "-F", "json"],
        cwd=local.folder,
        stdout=subprocess.PIPE,
        stderr=outside,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(outside)
        while b"Moving" not in os.read(inside, 65536):
            pass
        os.close(inside)
        if sent:
            process.send_signal(sent)
        else:
            (local.folder / "hurry").touch()
        out, _ = process.communicate(timeout=60)
    assert json.loads(out)["state"] == state
    assert os.listdir(local.b) == (["big"] if state == "succeeded" else [])


def test_ctrl_c_stops_in_an_orderly_way(slowly):
    """One Ctrl-C cancels the task, reports what was transferred, leaves no partial file, and exits with 130."""
    with slowly.begin() as terminal:
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
    assert "Shutting down cleanly" in terminal.shown
    assert "Interrupted after 0 complete files" in terminal.shown
    if slowly.world.simulator:
        [task] = slowly.world.simulator.tasks.values()
        assert task.document()["fatal_error"]["code"] == "CANCELED"
    else:
        assert os.listdir(slowly.world.b) == []


def test_a_second_ctrl_c_leaves_at_once(local):
    """If a store does not respond, a second Ctrl-C exits at once with the same code."""
    slowly = Slowly(local)
    slowly.before = f"{SLOW}\n{STUCK}"
    with slowly.begin() as terminal:
        terminal.type(CTRL_C)
        terminal.until("Shutting down cleanly")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
    assert "Interrupted after" not in terminal.shown


def test_the_end_that_a_batch_system_sends_is_orderly_too(local):
    """SIGTERM to a process without a terminal cancels the task as well, and JSON contains the state."""
    slowly = Slowly(local)
    (local.folder / "run.py").write_text(f"{SLOW}\n{TELLING}\nfrom chiltepin.cli.main import main\nmain()\n")
    with subprocess.Popen(
        [sys.executable, "run.py", *slowly.words, "-F", "json"],
        cwd=local.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr.readline() == "reading\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert '"state": "canceled"' in out
    assert "Interrupted after 0 complete files" in err
    assert os.listdir(local.b) == []
