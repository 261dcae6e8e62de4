"""SFTP servers with fewer features than OpenSSH's: transfers are correct, or fail with the reason."""

from __future__ import annotations

import os
import random

import lesserserver
import pytest
from lesserserver import LACKS

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.stores import owners
from chiltepin.backends.filesystem.stores.sftp.handles import PART
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

#: Sizes around those at which the copy method changes; three quarters of 1,334 bytes are as many as the server reads.
FILES = {
    "empty": 0,
    "one": 1,
    "small": 40_000,
    "small too": 999,
    "read": 1334,
    "mid\udcffdle": (1 << 20) + 1,
    "large": PART + 70_000,
}

#: Extensions that a server announces to resemble OpenSSH's.
ABLE = ("fsync@openssh.com", "limits@openssh.com")


def subsets():
    """No lack, all, two that hide the end of a file, each alone, and random sets; CHILTEPIN_SERVERS is their number."""
    chance = random.Random(15)  # noqa: S311 - repeatable, not secret
    yield from ((), LACKS, ("long", "short"))
    yield from ((lack,) for lack in LACKS)
    for _ in range(int(os.environ.get("CHILTEPIN_SERVERS", "8"))):
        yield tuple(lack for lack in LACKS if chance.random() < 0.3)


def with_every_server(test):
    """Run a test with each server: what it lacks, and whether it announces all extensions."""
    test = pytest.mark.parametrize("lacks", list(subsets()), ids="-".join)(test)
    test = pytest.mark.parametrize("extensions", [(), ABLE], ids=["modest", "boasting"])(test)
    return pytest.mark.timeout(600)(test)


def told(lacks):
    """Leave out ``deaf`` with ``setstat``, which excludes it."""
    return [lack for lack in lacks if not (lack == "deaf" and "setstat" in lacks)]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A function that makes transfers between ``there``, on a lesser server, and ``here``."""
    for name in ("here", "there", "back"):
        (tmp_path / name).mkdir()
    stores = []

    def made(lacks, extensions=()):
        lesserserver.install(tmp_path / "bin", monkeypatch, lacks, extensions)
        settings = {name: {"url": str(tmp_path / name)} for name in ("here", "back")}
        settings["there"] = {"url": f"sftp://nobody@nowhere{tmp_path}/there", "options": {"silence": 20}}
        places = {name: place_of(name, where) for name, where in settings.items()}
        stores.append(places["there"].store())
        return Transfers(FilesystemBackend(places, pause=lambda *_: None))

    yield made
    for store in stores:
        store.close()


def move(transfers, source, target, path="/d", **options):
    """Transfer a tree between two endpoints."""
    request = transfer_request(src_ep=source, dst_ep=target, src_path=path, dst_path=path, recursive=True, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def fill(folder):
    """Write the files."""
    (folder / "sub" / "inner").mkdir(parents=True)
    for name, size in FILES.items():
        (folder / name).write_bytes(os.urandom(size))
        os.utime(folder / name, (1e9, 1e9))
    (folder / "sub" / "inner" / "f").write_bytes(b"data")


def held(folder):
    """Return all files below a folder and their contents."""
    return {os.fsencode(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_old_file_stays_until_the_new_one_is_in_place(world, tmp_path):
    """Where a rename cannot replace, a run restores the old file of a killed run unless a newer one has its name."""
    aside = owners.aside("f", None)
    (tmp_path / "there" / aside).write_bytes(b"old")
    (tmp_path / "here" / "g").write_bytes(b"g")
    os.utime(tmp_path / "there" / aside, (0, 0))

    def put(name):
        transfers = world(("replace",))
        request = transfer_request(src_ep="here", dst_ep="there", src_path="/g", dst_path=f"/{name}")
        assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
        return {file.name for file in (tmp_path / "there").iterdir()}

    assert put("g") == {aside, "g"}
    # Until here, its writer counted as running.
    owners.release(aside)
    listed = {
        entry.name: entry.fault for entry in world(("replace",)).backend._place("there").store().folder(()).entries()
    }
    assert listed.pop("g") is None
    assert "was renamed to" in str(listed.pop("f"))
    assert put("g") == {"f", "g"}
    assert (tmp_path / "there" / "f").read_bytes() == b"old"
    (tmp_path / "there" / aside).write_bytes(b"older")
    assert put("g") == {"f", "g"}
    assert (tmp_path / "there" / "f").read_bytes() == b"old"


@with_every_server
def test_a_tree_goes_there_and_back(world, tmp_path, lacks, extensions):
    """Whatever a server lacks, a successful transfer is complete, and a failed one leaves old files unchanged."""
    transfers = world(told(lacks), extensions)
    fill(tmp_path / "here" / "d")
    wanted = held(tmp_path / "here" / "d")
    (tmp_path / "there" / "d").mkdir()
    (tmp_path / "there" / "d" / "small").write_bytes(b"old")
    up = move(transfers, "here", "there")
    found = held(tmp_path / "there" / "d")
    old = {b"small": b"old"}
    assert all(content in (wanted.get(name), old.get(name)) for name, content in found.items())
    assert b"small" in found
    # A server that announces features it lacks, or reports wrong sizes, may fail; an honest one succeeds.
    if not extensions and "short" not in lacks:
        assert up.state is TaskState.SUCCEEDED or {"mode", "links"} <= set(lacks), up.reason
    if up.state is not TaskState.SUCCEEDED:
        assert up.reason.endswith(".")
        return
    assert found == wanted
    down = move(transfers, "there", "here", "/d", sync_level="checksum")
    assert down.state is TaskState.SUCCEEDED, down.reason
    down = move(transfers, "there", "back")
    assert down.state is TaskState.SUCCEEDED, down.reason
    assert held(tmp_path / "back" / "d") == wanted
    gone = transfers.run(delete_request(src_ep="there", src_path="/d", recursive=True), timeout=60, polling_interval=1)
    assert gone.state is TaskState.SUCCEEDED, gone.reason
    assert not (tmp_path / "there" / "d").exists()


@with_every_server
def test_a_download_is_whole_or_fails(world, tmp_path, lacks, extensions):
    """Whatever a server lacks or reports, each file that arrives is whole, and all do if the transfer succeeds."""
    transfers = world(told(lacks), extensions)
    fill(tmp_path / "there" / "d")
    wanted = held(tmp_path / "there" / "d")
    tree = move(transfers, "there", "back")
    single = [
        transfers.run(
            transfer_request(src_ep="there", dst_ep="here", src_path=f"/d/{name}", dst_path=f"/d/{name}"),
            timeout=60,
            polling_interval=1,
        )
        for name in FILES
    ]
    for folder, done in (("back", [tree]), ("here", single)):
        assert held(tmp_path / folder / "d").items() <= wanted.items()
        assert len(held(tmp_path / folder / "d")) >= sum(one.files_done for one in done)
    assert all(one.state is TaskState.SUCCEEDED or one.reason.endswith(".") for one in (tree, *single))
    assert tree.state is not TaskState.SUCCEEDED or held(tmp_path / "back" / "d") == wanted
