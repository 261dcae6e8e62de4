"""A tree moved by several processes of this machine without Parsl: lost processes and stopped calls."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
import trap_store
from parsl_configs import BIN, HERE
from trap_store import FILES, SIZE, opened, tell
from waiting import until

from chiltepin import delete, transfer
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.errors import TaskLostError, TaskTimeoutError
from chiltepin.transfers import policy

LIMIT = 60

#: A typical user script, with small shards.
SCRIPT = """
from chiltepin import transfer
from chiltepin.transfers import policy

policy.wait_times.SHARD_FIRST = policy.wait_times.SHARD_SHORT = policy.wait_times.SHARD_LONG = 0.0
print(transfer("here", "there", "/", "/", recursive=True, workers=2))
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """The folder with the commands for the store; a shard is one folder."""
    for name in ("SHARD_FIRST", "SHARD_SHORT", "SHARD_LONG"):
        monkeypatch.setattr(policy.wait_times, name, 0.0)
    trap_store.announce(tmp_path / "packages")
    for folder in (HERE, tmp_path / "packages"):
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    (tmp_path / "control").mkdir()
    (tmp_path / "there").mkdir()
    places = {
        "here": {"filesystem": {"url": "trap://tree", "options": {"control": str(tmp_path / "control")}}},
        "there": {"filesystem": str(tmp_path / "there")},
        "memory": {"filesystem": "memory://chiltepin-test-worker-processes"},
    }
    settings = {"data": {"backend": "filesystem", "endpoints": places, "workers": 3}}
    (tmp_path / "chiltepin.yaml").write_text(json.dumps(settings))
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(tmp_path / "chiltepin.yaml"))
    yield tmp_path / "control"
    until(lambda: not workers_of(psutil.Process()))


def workers_of(process):
    """Return the worker processes of a process."""
    found = []
    for child in process.children(recursive=True):
        # A process that is just ending has no command line.
        with contextlib.suppress(psutil.Error):
            if "worker_processes" in " ".join(child.cmdline()):
                found.append(child)
    return found


def move(**options):
    """Move the tree of the store."""
    return transfer("here", "there", "/", "/", recursive=True, **options)


def arrived(folder):
    """Return the names of the files at the destination, marked if their contents are wrong."""
    top = folder / "there"
    files = [path for path in top.rglob("*") if path.is_file()]
    return sorted(f"{path.relative_to(top)}{'' if path.read_bytes() == bytes(SIZE) else ' is wrong'}" for path in files)


def temp_files(names):
    """Return the temporary files in `names`."""
    return [name for name in names if TEMP_PREFIX in name]


def test_a_lost_process_costs_its_shard(control, tmp_path):
    """If a worker process is killed, only its shard is repeated, and the transfer succeeds."""
    tell(control, "kill 3/b")
    # The calling process waits at another folder until the worker has been killed.
    tell(control, f"wait {os.getpid()}")
    assert move() is True
    assert arrived(tmp_path) == FILES
    names = [name for _, name in opened(control)]
    assert names.count("3/b") == 2
    assert len(names) <= len(FILES) + 2


def test_a_shard_that_kills_every_process(control):
    """After two retries of a shard the call raises TaskLostError or returns False; the caller never runs the shard."""
    losses = 1 + policy.limits.SHARD_RETRIES
    tell(control, f"wait {os.getpid()}")
    tell(control, "kill 3/b", times=losses)
    with pytest.raises(TaskLostError, match=r"was lost with a process .* \(exit code -9\)"):
        move()
    assert [name for _, name in opened(control)].count("3/b") == losses
    tell(control, "kill 3/b", times=losses)
    assert move(check=False) is False


def test_a_timeout_stops_every_process(control, tmp_path):
    """A timeout ends a tree with one error, which names the full timeout, and leaves no temporary file."""
    tell(control, "slow")
    with pytest.raises(TaskTimeoutError, match=r"was not done within 0\.5 seconds and was stopped"):
        move(timeout=0.5)
    assert temp_files(arrived(tmp_path)) == []


def test_what_only_this_process_has(control, tmp_path):
    """The calling process moves an in-memory folder itself, even with delete_destination_extra."""
    top = tmp_path / "there"
    for number in range(3):
        (top / f"in/{number}/inner").mkdir(parents=True)
        (top / f"in/{number}/inner/file").write_bytes(b"content")
    assert transfer("there", "memory", "/in", "/kept", recursive=True) is True
    shutil.rmtree(top / "in/1")
    assert transfer("there", "memory", "/in", "/kept", recursive=True, delete_destination_extra=True) is True
    assert transfer("memory", "there", "/kept", "/out", recursive=True) is True
    assert delete("memory", "/kept", recursive=True) is True
    arrived = sorted(path.relative_to(top / "out").as_posix() for path in top.glob("out/*/*/*"))
    assert arrived == ["0/inner/file", "2/inner/file"]


def test_a_search_path_that_is_no_text(control, monkeypatch):
    """A sys.path entry that Python ignores, such as a Path, does not prevent worker processes."""
    monkeypatch.setattr(sys, "path", [*sys.path, HERE / "nothing"])
    assert move() is True
    assert len({process for process, _ in opened(control)}) > 1


@pytest.fixture
def script(control, tmp_path):
    """Return a function that starts a slow transfer in a program and waits until its processes work."""
    tell(control, "slow")
    programs = []

    def start(*words):
        program = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            # Background jobs of a shell ignore SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        programs.append(program)
        until(lambda: len({process for process, _ in opened(control)}) > 1)
        return program, workers_of(psutil.Process(program.pid))

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def check_stopped(program, workers, folder, *, code):
    """Check that a program and its workers have ended, and that all files are complete."""
    output, _ = program.communicate(timeout=LIMIT)
    assert program.returncode == code, output
    assert not psutil.wait_procs(workers, timeout=LIMIT)[1]
    count = len(opened(folder / "control"))
    names = set(arrived(folder))
    if code == -signal.SIGKILL:
        # The program moves files itself too; its temporary files stay until the next run.
        names -= set(temp_files(names))
    assert names < set(FILES)
    assert len(opened(folder / "control")) == count


def test_a_script_that_is_stopped(script, tmp_path):
    """Ctrl-C ends a script and its worker processes soon, and leaves no temporary file."""
    program, workers = script("-c", SCRIPT)
    assert workers
    program.send_signal(signal.SIGINT)
    check_stopped(program, workers, tmp_path, code=-signal.SIGINT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_command_that_is_stopped(script, tmp_path, number, code):
    """A command that is interrupted or killed ends with its worker processes, and its copied files are complete."""
    program, workers = script(BIN / "chiltepin", "transfer", "here:/", "there:/", "--recursive", "--workers", "2")
    program.send_signal(number)
    check_stopped(program, workers, tmp_path, code=code)
