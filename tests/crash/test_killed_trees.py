"""A process is killed while several workers move a tree; the same call in the next process moves the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from waiting import until

from chiltepin import transfer
from chiltepin.backends.filesystem.temp_names import is_temp_name

FILES = 2500

SETTINGS = "data: {backend: local, root: root, journal: journal, endpoints: {here: {}, there: {}}}\n"

SCRIPT = """
from chiltepin import transfer

assert transfer("here", "there", "/tree", "/copy", recursive=True, workers=2, preserve_timestamp=%s)
"""


def move(folder, *, preserve):
    """Start the transfer in a new process."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT % preserve], cwd=folder)


def known(top):
    """Return the inode number, time and content of each file in a tree."""
    found = {}
    for base, _, names in os.walk(top):
        for name in names:
            path = os.path.join(base, name)
            facts = os.stat(path)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = facts.st_ino, facts.st_mtime_ns, file.read()
    return found


KILLED = """
import os, signal
from chiltepin import transfer
from chiltepin.transfers import policy, worker_processes

policy.limits.SHARD_RANGE = 1000
worker_processes._Processes._elsewhere = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
transfer("here", "there", "/large", "/copy/large", workers=2)
"""


def test_the_next_transfer_to_a_folder_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    """A transfer removes the temporary file of a process that was killed after it had divided another file."""
    (tmp_path / "chiltepin.yaml").write_text(SETTINGS)
    source, target = tmp_path / "root/here", tmp_path / "root/there/copy"
    source.mkdir(parents=True)
    (source / "large").write_bytes(bytes(300_000))
    (source / "small").write_bytes(b"small")
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    assert [is_temp_name(name) for name in os.listdir(target)] == [True]
    monkeypatch.chdir(tmp_path)
    assert transfer("here", "there", "/small", "/copy/small") is True
    assert os.listdir(target) == ["small"]


@pytest.mark.parametrize("preserve", [False, True])
def test_the_next_process_moves_what_was_not_whole(tmp_path, preserve):
    """The next run keeps whole files, copies changed ones again, and leaves no temporary file and no record."""
    (tmp_path / "chiltepin.yaml").write_text(SETTINGS)
    source, target = tmp_path / "root/here/tree", tmp_path / "root/there/copy"
    for number in range(FILES):
        folder = source / str(number // 50)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_text(f"{number} of {FILES}")
    process = move(tmp_path, preserve=preserve)
    children = []
    try:
        until(lambda: sum(len(names) for _, _, names in os.walk(target)) > FILES // 20)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    whole = {name: facts for name, facts in known(target).items() if not is_temp_name(os.path.basename(name))}
    assert FILES // 20 < len(whole) < FILES
    changed = min(whole)
    (source / changed).write_text("something else")
    assert move(tmp_path, preserve=preserve).wait() == 0
    moved, asked = known(target), known(source)
    assert {name: facts[2] for name, facts in moved.items()} == {name: facts[2] for name, facts in asked.items()}
    if preserve:
        assert {name: facts[1] for name, facts in moved.items()} == {name: facts[1] for name, facts in asked.items()}
    del whole[changed]
    assert {name: moved[name] for name in whole} == whole
    assert not [name for name in os.listdir(tmp_path / "journal") if name.endswith(".unfinished")]
