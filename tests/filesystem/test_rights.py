"""Permissions of files that replace others: the same as after ``cp``."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from chiltepin.backends.filesystem.store import SMALL
from chiltepin.model import TaskState

SIZES = (5, SMALL + 1, (8 << 20) + 5)
MODES = (0o600, 0o640, 0o644, 0o660, 0o664, 0o755, 0o444, 0o400, 0o000, 0o777, 0o606)


def facts(path):
    """Return a file's mode, owner and group."""
    found = os.stat(path)
    return oct(found.st_mode & 0o7777), found.st_uid, found.st_gid


@pytest.mark.parametrize("size", SIZES)
def test_a_replaced_file_keeps_its_rights(disk, size):
    """A replaced file keeps its mode, owner and group, as after cp, alone and in a tree; a new file gets defaults."""
    disk.put("laptop", "/new", b"x" * size)
    others = (1234, 2345) if not os.geteuid() else (os.geteuid(), os.getegid())
    wanted = {}
    for number, mode in enumerate(MODES):
        for top, owner in (("d", (os.geteuid(), os.getegid())), ("e", others)):
            path = f"/{top}/{number}"
            disk.put("laptop", path, b"x" * size)
            disk.put("scratch", path, b"old")
            os.chown(disk.path("scratch", path), *owner)
            os.chmod(disk.path("scratch", path), mode)
            wanted[path] = facts(disk.path("scratch", path))
    assert disk.move("/d", "/d", recursive=True).state is TaskState.SUCCEEDED
    for number in range(len(MODES)):
        assert disk.move(f"/e/{number}", f"/e/{number}").state is TaskState.SUCCEEDED
    assert disk.move("/new", "/new").state is TaskState.SUCCEEDED
    assert {path: facts(disk.path("scratch", path)) for path in wanted} == wanted
    umask = os.umask(0)
    os.umask(umask)
    assert facts(disk.path("scratch", "/new"))[0] == oct(0o666 & ~umask)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6711, 0o1644])
def test_a_replaced_file_runs_as_no_other_user(disk, size, bits):
    """Replacing a file clears its setuid, setgid and sticky bits."""
    disk.put("laptop", "/f", b"x" * size)
    disk.put("scratch", "/f", b"old")
    os.chmod(disk.path("scratch", "/f"), bits)
    assert disk.move("/f", "/f").state is TaskState.SUCCEEDED
    assert facts(disk.path("scratch", "/f"))[0] == oct(bits & 0o777)


def acl(path):
    """Return the entries of an access control list."""
    told = subprocess.run(["getfacl", "-cnp", path], capture_output=True, text=True, check=True).stdout
    return sorted(line.split("\t")[0] for line in told.split("\n") if line)


@pytest.mark.parametrize("size", SIZES)
def test_a_replaced_file_keeps_its_access_list(disk, size):
    """A replaced file keeps its access control list, and a default list of the folder adds no users to it."""
    if shutil.which("setfacl") is None:
        pytest.skip("there is no setfacl here")
    for name in ("listed", "plain"):
        disk.put("laptop", f"/{name}", b"x" * size)
        disk.put("scratch", f"/{name}", b"old")
        os.chmod(disk.path("scratch", f"/{name}"), 0o640)
    listed, plain = (disk.path("scratch", f"/{name}") for name in ("listed", "plain"))
    if subprocess.run(["setfacl", "-m", "u:1234:r,g::-", listed], capture_output=True, check=False).returncode:
        pytest.skip("this disk has no access lists")
    before = acl(listed), acl(plain)
    subprocess.run(["setfacl", "-d", "-m", "u:4321:rw", disk.roots["scratch"]], check=True)
    assert disk.move("/", "/", recursive=True).state is TaskState.SUCCEEDED
    assert (acl(listed), acl(plain)) == before
    assert os.path.getsize(plain) == size
