"""User tests with the pyfakefs fixture `fs`: the backend `local` copies, deletes and fails in fake files."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem_unittest import Patcher
from pyfakefs.fake_os import FakeOsModule

import chiltepin
from chiltepin import Workflow, delete_task, python_task, transfer, transfer_task
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.errors import ConfigError, TaskFailedError

LIMIT = 60

SETTINGS = """\
data:
  backend: local
  executor: local
  endpoints: {a: , b: }
"""


@python_task
def read(path):
    """Return the content of a file."""
    return Path(path).read_text()


def prepare(fs):
    """Make the packages visible, and create a working directory with settings."""
    packages, own = sysconfig.get_path("purelib"), str(Path(chiltepin.__file__).parent)
    # In a development install, the package itself is not in site-packages.
    fs.add_real_paths([packages] if own.startswith(packages) else [packages, own])
    fs.create_file("/work/chiltepin.yaml", contents=SETTINGS)
    os.chdir("/work")


@pytest.fixture
def fake(fs):
    """A fake filesystem in which the installed packages are visible."""
    prepare(fs)
    return fs


@pytest.fixture
def real_files(tmp_path):
    """Real files that are open under the descriptor numbers that fake files get."""
    with contextlib.ExitStack() as opened:
        for number in range(40):
            file = opened.enter_context(open(tmp_path / str(number), "w+b", buffering=0))
            file.write(b"of the machine")
        yield tmp_path
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"of the machine"}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("content", ["", "some data", "0123456789" * 900_000], ids=len)
def test_a_file_is_copied(real_files, fake, content, verify):
    """A file, small or in parts, arrives with its time and is visible to a task; no real file is changed."""
    fake.create_file("/work/sandbox/a/file", contents=content)
    fake.create_file("/work/sandbox/b/file", contents="before")
    os.utime("/work/sandbox/a/file", (10**9, 10**9))
    with Workflow("chiltepin.yaml"):
        moved = transfer_task("a", "b", "/file", "/file", verify_checksum=verify, preserve_timestamp=True)
        assert read("sandbox/b/file", inputs=[moved]).result(LIMIT) == content
    assert os.stat("/work/sandbox/b/file").st_mtime == 10**9
    assert os.listdir("/work/sandbox/b") == ["file"]
    assert real_files.name


def test_a_tree_is_copied_mirrored_and_deleted(fake):
    """A tree is copied, mirrored after a file is removed from its source, and deleted with its contents."""
    for number in range(30):
        fake.create_file(f"/work/sandbox/a/t/{number % 3}/{number}", contents=str(number) * number)
    fake.create_symlink("/work/sandbox/a/t/link", "0")
    with Workflow("chiltepin.yaml"):
        assert transfer_task("a", "b", "/t", "/t", recursive=True).result(LIMIT) is True
        for number in range(30):
            assert Path(f"sandbox/b/t/{number % 3}/{number}").read_text() == str(number) * number
        fake.remove("/work/sandbox/a/t/2/29")
        mirrored = transfer_task(
            "a", "b", "/t", "/t", recursive=True, delete_destination_extra=True, sync_level="checksum"
        )
        assert mirrored.result(LIMIT) is True
        assert sorted(os.listdir("sandbox/b/t/2")) == sorted(str(number) for number in range(2, 29, 3))
        assert delete_task("b", "/t", recursive=True).result(LIMIT) is True
        assert os.listdir("sandbox/b") == []


def test_a_tree_is_copied_by_one_thread(fake):
    """A store of fake files asks for one thread, because two that use them at the same time disturb each other."""
    assert LocalStore("/work").width == 1


def test_a_full_disk(fake):
    """A full disk fails the transfer with NO_SPACE_LEFT, and the existing destination file is kept."""
    fake.add_mount_point("/work/sandbox/b", total_size=10_000_000)
    fake.create_file("/work/sandbox/a/big", contents="0123456789" * 2_000_000)
    fake.create_file("/work/sandbox/b/big", contents="before")
    with Workflow("chiltepin.yaml"), pytest.raises(TaskFailedError, match="NO_SPACE_LEFT"):
        transfer_task("a", "b", "/big", "/big").result(LIMIT)
    assert Path("sandbox/b/big").read_text() == "before"
    assert os.listdir("sandbox/b") == ["big"]


def test_hidden_packages_are_named(fs):
    """In a fake filesystem without the installed packages, an error message says how to add them."""
    fs.create_file("/work/chiltepin.yaml", contents=SETTINGS)
    os.chdir("/work")
    said = r"add them in the test: fs\.add_real_paths\(\[sysconfig"
    with pytest.raises(ConfigError, match=said):
        transfer("a", "b", "/file", "/file")
    with pytest.raises(ConfigError, match=said), Workflow("chiltepin.yaml"):
        pass


def test_real_files_after_fake_ones(tmp_path, monkeypatch):
    """Nothing found or opened in a fake filesystem is used for the same paths in the real filesystem."""
    monkeypatch.chdir(tmp_path)
    for turn in ("fake", "real", "fake"):
        with Patcher() if turn == "fake" else contextlib.nullcontext() as patcher:
            if patcher:
                prepare(patcher.fs)
            # Before Python 3.12, a path object made in the real filesystem keeps using it.
            top = Path(str(tmp_path), "sandbox")
            (top / "a").mkdir(parents=True)
            (top / "a" / "file").write_text(turn)
            with Workflow(
                {"data": {"backend": "local", "root": str(top), "executor": "local", "endpoints": {"a": {}, "b": {}}}}
            ):
                assert transfer_task("a", "b", "/file", "/file").result(LIMIT) is True
            assert (top / "b" / "file").read_text() == turn
    assert (tmp_path / "sandbox" / "b" / "file").read_text() == "real"


#: Calls that pyfakefs passes to the real `os`, and that use none of our files or are not reached with fake files.
PASSED_ON = frozenset(
    {"_exit", "copy_file_range", "cpu_count", "fspath", "geteuid", "getpid", "major", "minor", "preadv", "readv"}
    | {"fchown", "posix_fadvise", "pread", "pwrite", "sched_getaffinity", "strerror", "uname"}
)


def test_versions_of_packages_can_be_read_after_fake_files():
    """A workflow in fake files leaves nothing in Python's cache of installed packages, which web servers read later."""
    version("werkzeug")
    with Patcher() as patcher:
        prepare(patcher.fs)
        with Workflow("chiltepin.yaml"):
            os.makedirs("/work/sandbox/a")
            Path("/work/sandbox/a/x").write_bytes(b"x")
            assert transfer_task("a", "b", "/x", "/x").result(LIMIT) is True
    assert version("werkzeug")


def test_every_call_of_the_mover_is_faked():
    """The mover calls no `os` function that would access a real file under the descriptor number of a fake file."""
    top = Path(chiltepin.__file__).parent / "backends" / "filesystem"
    called = {}
    for file in [*top.glob("*.py"), *top.glob("local/*.py"), *top.glob("mover/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := re.fullmatch(r"os\.(\w+)", ast.unparse(node.func))):
                called.setdefault(name[1], set()).add(file.name)
    passed_on = {name: files for name, files in called.items() if not hasattr(FakeOsModule, name)}
    assert set(passed_on) <= PASSED_ON
    for name in ("fchown", "posix_fadvise", "pread", "preadv", "pwrite", "readv"):
        assert passed_on[name] == {"descriptors.py"}, name
    assert passed_on["copy_file_range"] == {"kernel_copy.py"}
