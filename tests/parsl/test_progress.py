"""The progress view: what a terminal shows while a workflow runs, and when nothing is shown."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
import time
import tty

import pytest

from chiltepin import Workflow, delete_task, python_task, transfer_task
from chiltepin.errors import ConfigError, TaskCanceledError
from chiltepin.parsl.table_layout import RateMeter
from chiltepin.testing.simulator import ManualClock, Simulator
from chiltepin.testing.simulator.clock import utc
from chiltepin.transfers import policy

LIMIT = 60


class Terminal:
    """A pseudo-terminal of 80 columns that records its output."""

    def __init__(self):
        self.inside, outside = pty.openpty()
        tty.setraw(outside)
        self.file = open(outside, "w", encoding="utf-8")  # noqa: SIM115 - closed by the fixture
        self.drawn = self.raw = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self):
        # Not in a fixture: pytest restores its own stderr when a test begins.
        self._before, sys.stderr = sys.stderr, self.file

    def __exit__(self, *_):
        sys.stderr = self._before

    def _read(self):
        try:
            while piece := os.read(self.inside, 4096):
                with self._changed:
                    self.raw += piece.decode("utf-8", "replace")
                    self.drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)
                    self._changed.notify_all()
        except OSError:
            # The other end is closed.
            return

    def shows(self, pattern):
        """Wait until the output matches `pattern`, and return the match."""
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self.drawn), LIMIT), self.drawn
            return re.search(pattern, self.drawn)

    def close(self):
        """Close the terminal and read the remaining output."""
        self.file.close()
        self._reader.join(LIMIT)
        os.close(self.inside)


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that replaces stderr in a ``with`` statement."""
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def folder(tmp_path):
    """A folder with two endpoints, one with a file."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").write_bytes(b"content")
    return tmp_path


def local(folder, **options):
    """Return a workflow whose endpoints are the folders `a` and `b`."""
    data = {"backend": "local", "root": str(folder), "endpoints": {"a": {}, "b": {}}}
    return Workflow({"data": data}, run_dir=folder / "runinfo", **options)


def move(origin="/file", goal="/file", **options):
    """Start a transfer from `a` to `b`."""
    return transfer_task("a", "b", origin, goal, executor="local", **options)


def at_globus(tmp_path, **options):
    """Return a workflow on the simulated Globus."""
    data = {"backend": "globus", "journal": False, "fault_grace": 3600}
    return Workflow({"data": data}, run_dir=tmp_path / "runinfo", **options)


def fly(number=0, origin="/file"):
    """Start a transfer at the simulated Globus."""
    names = "my-laptop", "hpc-scratch", origin, f"/{number}"
    return transfer_task(*names, executor="local", polling_interval=0.1)


def names():
    """Return the names of the living threads."""
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture
def still_globus(tmp_path, monkeypatch):
    """A simulated Globus with a manual clock and a bandwidth of 1,000 bytes per second."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders, clock=ManualClock(utc(time.time())), bandwidth=1000.0, request_rate=None) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        (tmp_path / "my-laptop" / "folder").mkdir()
        for number in range(4):
            (tmp_path / "my-laptop" / "folder" / str(number)).write_bytes(bytes(1000))
        yield simulator


def test_a_terminal_sees_what_is_in_flight_and_how_it_ended(still_globus, tmp_path, terminal):
    """The view shows files, bytes, speed and state of a running task, and the totals at the end."""
    with terminal, at_globus(tmp_path, progress=True):
        names = "my-laptop", "hpc-scratch", "/folder", "/copy"
        future = transfer_task(*names, executor="local", recursive=True, polling_interval=0.1)
        terminal.shows(r"In flight +State +Bytes +Files +Speed\s+my-laptop:/folder -> hpc-scratch:/copy +active ")
        still_globus.clock.advance(2.5)
        terminal.shows(r"my-laptop:/folder -> hpc-scratch:/copy +active +\d\.\d kB +2 +[\d.]+ k?B(ytes)?/s")
        terminal.shows("0 done, 1 in flight, [23].[05] kB, ")
        still_globus.clock.advance(2.5)
        assert future.result(LIMIT)
    terminal.shows(r"1 done, 4\.0 kB, 0:00:\d\d\s*$")


def test_a_narrow_terminal_shows_what_matters_most(still_globus, tmp_path, terminal, monkeypatch):
    """A narrow terminal omits speed and number of files, and no line is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", "60")
    with terminal, at_globus(tmp_path, progress=True):
        names = "my-laptop", "hpc-scratch", "/folder", "/copy"
        future = transfer_task(*names, executor="local", recursive=True, polling_interval=0.1)
        terminal.shows(r"In flight +State +Bytes\s+my-laptop:/folder -> hpc-scratch:/copy +active ")
        still_globus.clock.advance(2.5)
        terminal.shows(r"my-laptop:/folder -> hpc-scratch:/copy +active +\d\.\d kB\s+0 done")
        still_globus.clock.advance(2.5)
        assert future.result(LIMIT)
    terminal.shows("1 done")
    assert max(len(line) for line in re.split(r"[\r\n]+", terminal.drawn)) <= 60


def test_those_that_share_a_task_share_a_row(chiltepin_globus, tmp_path, terminal):
    """The transfers of one task share a row with their number; the row of a paused task gives the reason."""
    chiltepin_globus.settings.task_latency = 1e6
    with terminal, at_globus(tmp_path, progress=True):
        futures = [fly(number) for number in range(40)]
        terminal.shows(r"my-laptop -> hpc-scratch, \d+ items +active")
        terminal.shows("40 in flight")
        for task in list(chiltepin_globus.tasks.values()):
            task.pause()
        terminal.shows(r"items +paused +\r?\n  \S+")
        for future in futures:
            future.cancel()
        assert {type(future.exception(LIMIT)) for future in futures} == {TaskCanceledError}
    terminal.shows("0 done, 40 canceled, 0:00:")


def test_a_long_list_is_cut(folder, terminal):
    """The view shows only the rows that fit, and counts the hidden and the waiting transfers."""
    gate = threading.Event()

    @python_task
    def hold():
        return gate.wait(LIMIT)

    with terminal, local(folder, progress=True):
        holding = [hold(executor="local") for _ in range(8)]
        for number in range(30):
            move(goal=f"/{number}")
        later = [move(goal="/later", inputs=[holding[0]]), delete_task("b", "/0", executor="local", inputs=holding)]
        try:
            terminal.shows(r"a:/file -> b:/14 +launched\s+and 15 more\s+0 done, 30 in flight, 2 waiting, 0:00:")
        finally:
            gate.set()
        assert [future.result(LIMIT) for future in later] == [True, True]
    terminal.shows(r"32 done, 217 bytes, 0:00:")


def test_a_tree_of_several_workers_is_one_row(folder, terminal, monkeypatch):
    """A tree that several workers move is one row and counts as one transfer."""
    for name in ("SHARD_FIRST", "SHARD_SHORT", "SHARD_LONG"):
        monkeypatch.setattr(policy.wait_times, name, 0.0)
    for number in range(9):
        (folder / f"a/tree/{number}").mkdir(parents=True)
        (folder / f"a/tree/{number}/file").write_bytes(b"content")
    gate = threading.Event()

    @python_task
    def hold():
        return gate.wait(LIMIT)

    with terminal, local(folder, progress=True):
        holding = [hold(executor="local") for _ in range(8)]
        future = move("/tree", "/tree", recursive=True, workers=3)
        try:
            terminal.shows(r"In flight .*\s+a:/tree -> b:/tree +\S+\s+0 done, 1 in flight, 0:00:")
        finally:
            gate.set()
        assert future.result(LIMIT)
        assert all(held.result(LIMIT) for held in holding)
    terminal.shows(r"1 done, 63 bytes, 0:00:\d\d\s*$")


def test_what_failed_stays_with_its_reason(folder, terminal):
    """A failure keeps its row with the reason, and a file name cannot send escape sequences to the terminal."""
    (folder / "b" / "full").mkdir()
    with terminal, local(folder, progress=True):
        failed = [move("/missing[red]\x1b[31m"), delete_task("b", "/full", executor="local", check=False)]
        failed[0].exception(LIMIT)
        assert failed[1].result(LIMIT) is False
    terminal.shows(r"a:/missing\[red\]\\x1b\[31m -> b:/file +failed +\r?\n  There is no /missing")
    terminal.shows(r"delete b:/full +failed +\r?\n  /full on endpoint")
    terminal.shows(r"0 done, 2 failed, 0:00:")


def test_what_depends_on_a_future_is_named_when_it_is_known(folder, terminal):
    """If a path is the result of a task, the row shows the path once Parsl knows it."""

    @python_task
    def name():
        return "/nowhere"

    with terminal, local(folder, progress=True):
        move(name(executor="local")).exception(LIMIT)
    terminal.shows("a:/nowhere -> b:/file +failed")


def test_what_timed_out_says_so(chiltepin_globus, tmp_path, terminal):
    """A transfer that exceeds its timeout is shown as expired, with the reason."""
    chiltepin_globus.settings.task_latency = 1e6
    with terminal, at_globus(tmp_path, progress=True):
        transfer_task("my-laptop", "hpc-scratch", "/a", "/b", executor="local", timeout=0.5).exception(LIMIT)
    terminal.shows(r"my-laptop:/a -> hpc-scratch:/b +expired +\r?\n  It was not done within 0\.5 seconds")


def test_long_paths_keep_their_ends(folder, terminal):
    """If a line is too short for both paths, it keeps the endpoints and the ends of the paths."""
    with terminal, local(folder, progress=True):
        move(goal=f"/{'long/' * 20}end.dat", origin=f"/{'far/' * 20}start.dat").exception(LIMIT)
    terminal.shows(r"a:…[far/]+start\.dat -> b:…[long/]+end\.dat +failed")


def test_one_terminal_shows_one_view(folder, terminal):
    """Nested workflows share one view, which ends with the outermost."""
    with terminal, local(folder, progress=True):
        assert move().result(LIMIT)
        with local(folder, progress=True):
            assert move(goal="/other").result(LIMIT)
            assert sum(name == "chiltepin-progress" for name in names()) == 1
        assert "chiltepin-progress" in names()
    assert "chiltepin-progress" not in names()
    terminal.shows("2 done, 14 bytes, 0:00:")


def test_an_aborted_workflow_ends_its_view(folder, terminal):
    """An error that ends a workflow also ends its view, after a last summary."""
    gate = threading.Event()

    @python_task
    def hold():
        return gate.wait(LIMIT)

    def abort():
        with terminal, local(folder, progress=True):
            move(inputs=[hold(executor="local")])
            terminal.shows("0 done, 1 waiting")
            gate.set()
            raise KeyError

    with pytest.raises(KeyError):
        abort()
    assert "chiltepin-progress" not in names()
    terminal.shows("(1 done|0 done, 1 (failed|canceled))")


def test_the_cursor_stays_where_it_can_be_seen(folder, terminal):
    """The view never leaves the cursor hidden, because the process can be killed at any time."""
    with terminal, local(folder, progress=True):
        assert move().result(LIMIT)
    terminal.shows("1 done")
    assert terminal.raw.count("\x1b[?25l") <= terminal.raw.count("\x1b[?25l\x1b[?25h")


def test_a_closed_terminal_does_not_stop_the_workflow(folder, terminal, caplog):
    """If the terminal cannot be written to, the workflow continues without the view."""
    with terminal, local(folder, progress=True):
        terminal.file.close()
        assert move().result(LIMIT)
    assert "continue without it" in caplog.text


@pytest.mark.parametrize(("value", "asked", "shown"), [("1", None, True), ("0", None, False), ("1", False, False)])
def test_the_environment_asks_for_it(folder, terminal, monkeypatch, value, asked, shown):
    """CHILTEPIN_PROGRESS=1 shows the view, unless the workflow sets ``progress``."""
    monkeypatch.setenv("CHILTEPIN_PROGRESS", value)
    with terminal, local(folder, progress=asked):
        assert move().result(LIMIT)
        assert ("chiltepin-progress" in names()) is shown
    if shown:
        terminal.shows("1 done")
    assert shown or not terminal.drawn


def test_nonsense_is_refused(folder, monkeypatch):
    """An invalid ``progress`` or CHILTEPIN_PROGRESS raises an error before anything starts."""
    with pytest.raises(TypeError, match="progress='yes' is of type str; give True or False"):
        local(folder, progress="yes")
    monkeypatch.setenv("CHILTEPIN_PROGRESS", "maybe")
    with pytest.raises(ConfigError, match="CHILTEPIN_PROGRESS is 'maybe'; set it to 1"):
        local(folder)


def test_a_workflow_without_transfers_draws_nothing(folder, terminal):
    """A view with nothing to show writes nothing."""
    with terminal, local(folder, progress=True):
        pass
    assert not terminal.drawn


def test_nothing_is_shown_where_stderr_is_no_terminal(folder):
    """If stderr is a pipe, the view writes nothing and does not import rich."""
    code = f"""
import sys
from chiltepin import Workflow, transfer_task
data = {{"backend": "local", "root": {str(folder)!r}, "endpoints": {{"a": {{}}, "b": {{}}}}}}
with Workflow({{"data": data}}, run_dir={str(folder / "runinfo")!r}, progress=True):
    print(transfer_task("a", "b", "/file", "/file", executor="local").result())
print("rich" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.split(), run.stderr) == (["True", "False"], "")


def test_a_speed_is_that_of_the_last_seconds():
    """The speed is the mean over the last ten seconds."""
    meter = RateMeter()
    assert [meter.speed(count, now) for count, now in [(0, 0.0), (0, 1.0), (100, 2.0), (300, 4.0)]] == [0, 0, 50, 75]
    assert meter.speed(300, 14.0) == 0
    assert meter.speed(700, 24.0) == 20


def test_a_speed_is_steady_between_two_steps_of_a_service():
    """A count that grows equally with each poll has a constant speed, also just before the next poll."""
    meter = RateMeter()
    seen = [(now, meter.speed(500 * (now // 5), float(now))) for now in range(40)]
    assert {speed for now, speed in seen if now >= 5} == {100}
    assert meter.speed(3500, 41.0) < 100
