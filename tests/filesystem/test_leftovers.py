"""Leftovers of killed runs on FTP and WebDAV servers: later runs remove them and restore old files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from fileservers import SERVERS, file_server
from test_file_servers import move

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.temp_names import is_temp_name, temporary
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request
from chiltepin.transfers.runner import Transfers

#: Writes a file to a store and kills itself before the commit or after some renames.
KILLED = """
import json, os, signal, sys
from chiltepin.backends.filesystem.locations import place_of
settings, name, renames = json.loads(sys.argv[1])
store = place_of("there", settings).store()
filesystem, left = store.filesystem, renames

def renamed(*pair):
    global left
    known(*pair)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

known, filesystem.mv = filesystem.mv, renamed
with store.folder((), create=True) as folder, folder.temp_file(name) as draft:
    draft.write(memoryview(b"new"))
    draft.read_back().__exit__(None, None, None)
    if not renames:
        os.kill(os.getpid(), signal.SIGKILL)
    draft.commit(None)
"""

#: Writes a file to a store with a clock that is 26 hours ahead.
AHEAD = """
import json, sys, time
right = time.time
time.time = lambda: right() + 26 * 3600
from chiltepin.backends.filesystem.locations import place_of
with place_of("there", json.loads(sys.argv[1])).store().folder((), create=True) as folder, folder.temp_file("g") as f:
    f.write(memoryview(b"g"))
    f.read_back().__exit__(None, None, None)
    f.commit(None)
"""


@pytest.fixture(params=SERVERS)
def served(request, tmp_path, monkeypatch):
    """Transfers between ``there``, on a server, and ``here``; their folders; the server's settings."""
    monkeypatch.setenv("NO_PROXY", "*")
    with file_server(request.param) as (settings, root):
        backend = FilesystemBackend.from_config({"there": settings, "here": {"url": str(tmp_path)}}, {})
        yield Transfers(backend), root, tmp_path, settings


#: The server whose rename does not replace.
PLAINLY = pytest.mark.parametrize("served", ["pyftpdlib-windows"], indirect=True)


def killed(served, name, renames=0):
    """Run a process that is killed while it writes a file."""
    told = json.dumps([served[3], name, renames])
    done = subprocess.run([sys.executable, "-c", KILLED, told], check=False, env=os.environ | {"NO_PROXY": "*"})
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["f", "a b"])
def test_what_a_killed_run_left_is_swept(served, name):
    """Writing a file removes the temporary files of killed writers from its folder and no others."""
    transfers, root, here, settings = served
    with place_of("there", settings).store().folder(()).temp_file("mine") as mine:
        mine.write(memoryview(b"mine"))
        mine.read_back().__exit__(None, None, None)
        killed(served, name)
        (root / temporary("0-elsewhere-1-1-00000000")).write_text("of another machine")
        (root / ".chiltepin-notes").write_text("of a user")
        assert len([name for name in os.listdir(root) if is_temp_name(name)]) == 3
        (here / "g").write_text("g")
        assert move(transfers, "here", "there", "/g").state is TaskState.SUCCEEDED
        assert len([name for name in os.listdir(root) if is_temp_name(name)]) == 2
        assert {"g", ".chiltepin-notes"} < set(os.listdir(root))
        mine.commit(None)
    assert (root / "mine").read_text() == "mine"


def test_a_host_whose_clock_is_ahead_sweeps_nothing_that_is_new(served):
    """The age of another host's temporary file is judged by the server's clock."""
    _, root, _, settings = served
    young, old = (temporary(f"0-elsewhere-{number}-1-00000000") for number in range(2))
    for name in (young, old):
        (root / name).write_text("half")
    os.utime(root / old, (0, 0))
    words = [sys.executable, "-c", AHEAD, json.dumps(settings)]
    subprocess.run(words, check=True, env=os.environ | {"NO_PROXY": "*"})
    # Some servers report no reliable time; then no file counts as old.
    untold = place_of("there", settings).store().folder(()).entry("g").mtime is None
    assert set(os.listdir(root)) == {young, "g", *([old] if untold else [])}


@PLAINLY
@pytest.mark.parametrize("name", ["f", "a b", "é", "x" * 100])
@pytest.mark.parametrize("later", ["other", "same"])
def test_an_old_file_that_made_way_is_put_back(served, name, later):
    """A run that is killed between its two renames loses nothing: the next run restores the old file."""
    transfers, root, here, _ = served
    (root / name).write_text("old")
    killed(served, name, renames=1)
    assert not (root / name).exists()
    # Until then, the copy does not silently omit it.
    status = move(transfers, "there", "here", "/", dst_path="/copy", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert "was renamed to" in status.reason
    (here / "g").write_text("g")
    target = name if later == "same" else "g"
    assert move(transfers, "here", "there", "/g", dst_path=f"/{target}").state is TaskState.SUCCEEDED
    assert (root / name).read_text() == ("g" if later == "same" else "old")
    assert sorted(os.listdir(root)) == sorted({name, target})


@PLAINLY
def test_an_old_file_without_its_name_stays(served):
    """An old file whose name is too long to record is kept under its temporary name and reported."""
    transfers, root, here, _ = served
    name = "x" * 150
    (root / name).write_text("old")
    killed(served, name, renames=1)
    (here / "g").write_text("g")
    assert move(transfers, "here", "there", "/g").state is TaskState.SUCCEEDED
    status = move(transfers, "there", "here", "/", dst_path="/copy", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert [path.read_text() for path in root.iterdir() if is_temp_name(path.name)] == ["old"]
    # A new file of the same name supersedes it.
    assert move(transfers, "here", "there", "/g", dst_path=f"/{name}").state is TaskState.SUCCEEDED
    request = delete_request(src_ep="there", src_path="/g")
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED


def test_the_files_of_the_living_that_made_way_stay():
    """An old file that a running writer moved aside is neither removed nor restored."""
    aside = owners.aside("f", None)
    assert owners.left([aside, "f"], time.time) == ([], {})
    owners.release(aside)
    assert owners.left([aside, "f"], time.time) == ([aside], {})
    assert owners.left([aside], time.time) == ([], {aside: "f"})
    assert owners.left([aside, "g"], time.time) == ([], {aside: "f"})
    for name in ("../f", "..", "a/b", "f\0"):
        made_up = owners.aside(name, None)
        owners.release(made_up)
        assert owners.left([made_up], time.time) == ([], {made_up: ""})
