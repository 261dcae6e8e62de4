"""With ``skip_source_errors``, unreadable source files are skipped, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from fileservers import ftp_server
from worlds import local_world

#: Without these capabilities, root cannot read every file.
UNPRIVILEGED = ("--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")

SCRIPT = """
import json, os, sys
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import TransferItem, TransferRequest

options = json.loads(sys.argv[1])
items = tuple(TransferItem(source=source, destination=goal) for source, goal in options.pop("items"))
urls = {"a": os.path.abspath("a"), "b": options.pop("url", os.path.abspath("b"))}
backend = FilesystemBackend.from_config({name: {"url": url} for name, url in urls.items()}, {})
request = TransferRequest(source="a", destination="b", items=items, accept_skipped=True, **options)
handle = backend.submit(request, "id")
backend.wait(handle, 60)
[status] = backend.poll([handle])
print(json.dumps([status.state.value, status.code, status.files_done, sorted(status.skipped_paths)]))
"""


@pytest.fixture
def closed(tmp_path):
    """Two endpoints: the first has unreadable files and folders, the second a folder that is not writable."""
    for name in ("a/t/shut", "a/t/listed", "b/readonly"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("ok", "closed", "shut/in", "listed/in"):
        (tmp_path / "a" / "t" / name).write_text(name)
    for name, mode in {"a/t/closed": 0, "a/t/shut": 0, "a/t/listed": 0o444, "b/readonly": 0o555}.items():
        (tmp_path / name).chmod(mode)
    yield tmp_path
    for name in ("a/t/shut", "a/t/listed", "b/readonly"):
        (tmp_path / name).chmod(0o755)


def moved(folder, *items, **options):
    """Transfer in a process that cannot read every file; return state, code, number of files and skipped paths."""
    drop = ["setpriv", *UNPRIVILEGED] if not os.geteuid() else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("There is no setpriv here, with which root gives up its rights.")
    command = [*drop, sys.executable, "-c", SCRIPT, json.dumps({"items": items, **options})]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("level", [None, "size", "checksum"])
def test_a_tree_is_moved_without_what_may_not_be_read(closed, level):
    """Unreadable files and folders of a tree are skipped and listed; the other files arrive."""
    options = {"recursive": True, "skip_source_errors": True, "sync_level": level}
    skipped = ["/t/closed", "/t/listed/in", "/t/shut"]
    assert moved(closed, ("/t", "/t"), **options) == ["succeeded", "", 1, skipped]
    assert (closed / "b" / "t" / "ok").read_text() == "ok"


def test_a_skipped_file_is_not_taken_for_a_replaced_one(closed):
    """A file that is skipped, with the name of another in a different case, does not fail the transfer to a server."""
    (closed / "a" / "t" / "Closed").write_text("open")
    with ftp_server(str(closed / "b")) as url:
        outcome = moved(closed, ("/t", "/t"), recursive=True, skip_source_errors=True, url=url)
    assert outcome == ["succeeded", "", 2, ["/t/closed", "/t/listed/in", "/t/shut"]]


def test_files_are_moved_without_those_that_may_not_be_read(closed):
    """Of several files, unreadable or missing ones are skipped and listed."""
    items = [("/t/closed", "/c"), ("/t/ok", "/o"), ("/t/shut/in", "/s"), ("/t/none", "/n")]
    skipped = ["/t/closed", "/t/none", "/t/shut/in"]
    assert moved(closed, *items, skip_source_errors=True) == ["succeeded", "", 1, skipped]


def test_a_destination_that_may_not_be_written_fails(closed):
    """A permission error at the destination fails the transfer."""
    assert moved(closed, ("/t/ok", "/readonly/o"), skip_source_errors=True) == ["failed", "PERMISSION_DENIED", 0, []]
    outcome = moved(closed, ("/t", "/readonly/t"), recursive=True, skip_source_errors=True)
    assert outcome[:3] == ["failed", "PERMISSION_DENIED", 0]


def test_without_it_the_transfer_fails(closed):
    """An unreadable file fails the transfer without ``skip_source_errors``."""
    assert moved(closed, ("/t", "/t"), recursive=True)[:3] == ["failed", "PERMISSION_DENIED", 1]


@pytest.mark.parametrize(("path", "recursive"), [("/t/ok", False), ("/t", True), ("/", True)])
def test_a_missing_root_fails(closed, path, recursive):
    """If the root of the source is missing, as on an unmounted disk, nothing is skipped."""
    (closed / "a").rename(closed / "unmounted")
    outcome = moved(closed, (path, "/t"), recursive=recursive, skip_source_errors=True)
    (closed / "unmounted").rename(closed / "a")
    assert outcome == ["failed", "FILE_NOT_FOUND", 0, []]


def test_a_folder_of_the_local_backend_that_was_not_used_yet_is_empty(tmp_path):
    """The missing folder of an endpoint of the backend ``local`` does not fail a transfer that skips."""
    world = local_world(tmp_path)
    os.rmdir(world.roots["laptop"])
    status = world.move("/f", "/f", skip_source_errors=True)
    assert (status.state.value, status.skipped_paths) == ("succeeded", ("/f",))
