"""Stores that report success for what they did not do: renames of HDFS, moves of WebDAV, folders of fsspec."""

from __future__ import annotations

import pytest
from badwires import BadWire
from fileservers import file_server
from hdfsserver import webhdfs_server
from webservers import files_of

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers


@pytest.fixture
def hdfs(tmp_path, monkeypatch):
    """The endpoints ``there``, a folder of HDFS, and ``here``, and the folders of both."""
    monkeypatch.setenv("NO_PROXY", "*")
    root, here = tmp_path / "hdfs", tmp_path / "here"
    (root / "d").mkdir(parents=True)
    here.mkdir()
    with webhdfs_server(root) as url:
        endpoints = {"there": {"url": f"{url}/d"}, "here": {"url": str(here)}}
        yield Transfers(FilesystemBackend.from_config(endpoints, {})), root / "d", here


def copy(transfers, path, **options):
    """Copy from ``here`` to the same path of ``there``."""
    request = transfer_request(src_ep="here", dst_ep="there", src_path=path, dst_path=path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def test_a_file_of_hdfs_is_replaced(hdfs):
    """A file on HDFS, whose rename never replaces, has the content of the last transfer, and no other file is left."""
    transfers, root, here = hdfs
    for text in ("one", "two!", ""):
        (here / "f").write_text(text)
        assert copy(transfers, "/f").state is TaskState.SUCCEEDED
        assert files_of(root) == {b"f": text.encode()}


def test_a_tree_of_hdfs_is_deleted_with_its_folders(hdfs):
    """A recursive deletion on HDFS deletes the folders, too, and nothing beside them."""
    transfers, root, here = hdfs
    for name in ("t/a/b/f", "t/g", "beside"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    assert copy(transfers, "/", recursive=True).state is TaskState.SUCCEEDED
    request = delete_request(src_ep="there", src_path="/t", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    assert not (root / "t").exists()
    assert files_of(root) == {b"beside": b"beside"}


def test_a_move_that_a_webdav_server_only_accepts_is_no_success(tmp_path, monkeypatch):
    """If a WebDAV server accepts a move and does not do it, the transfer fails and the old file stays."""
    monkeypatch.setenv("NO_PROXY", "*")

    def accept(handler, body):
        if handler.command != "MOVE":
            return body
        handler.send_response(202)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None

    (tmp_path / "f").write_text("new")
    with file_server("wsgidav") as (settings, root):
        (root / "f").write_text("old")
        with BadWire(f"{settings['options']['base_url']}", accept) as wire:
            options = {**settings["options"], "base_url": wire.url}
            endpoints = {"there": {**settings, "options": options}, "here": {"url": str(tmp_path)}}
            status = copy(Transfers(FilesystemBackend.from_config(endpoints, {})), "/f")
        assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR"), status.reason
        assert files_of(root) == {b"f": b"old"}
