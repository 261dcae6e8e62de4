"""Generated trees with arbitrary names, on disks and SFTP servers: exactly the folder's files arrive."""

from __future__ import annotations

import os
import random
import subprocess

import pytest
from sftpservers import sftp_server
from sshserver import ssh_server  # noqa: F401 - a fixture
from test_web_indexes import seeds
from webservers import files_of, odd_tree

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

#: Not rclone, which lists names with control characters or invalid UTF-8 under other names.
KINDS = ["folder", "openssh", "asyncssh"]


@pytest.fixture(params=KINDS)
def there(request, tmp_path, ssh_server):  # noqa: F811 - that fixture
    """The settings of an endpoint, and its folder."""
    folder = tmp_path / "there"
    if request.param == "asyncssh":
        (tmp_path / "server").mkdir()
        with sftp_server("asyncssh", tmp_path / "server") as (settings, root):
            yield settings, root
        return
    folder.mkdir()
    yield ({"url": str(folder)} if request.param == "folder" else ssh_server.endpoint(folder)), folder


def found(folder):
    """Return the files that ``find`` lists."""
    said = subprocess.run(["find", ".", "-type", "f", "-print0"], cwd=folder, check=True, capture_output=True).stdout
    return {name.removeprefix(b"./") for name in said.split(b"\0") if name}


@pytest.mark.timeout(3600)
def test_a_tree_of_any_names_goes_there_and_back(there, tmp_path):
    """Generated trees arrive and return byte for byte; a mirror removes extra files and nothing else."""
    settings, root = there
    here = tmp_path / "here"
    here.mkdir()
    transfers = Transfers(FilesystemBackend.from_config({"here": {"url": str(here)}, "there": settings}, {}))

    def move(source, target, path, goal, **options):
        told = {"src_path": path, "dst_path": goal, "recursive": True, **options}
        status = transfers.run(transfer_request(src_ep=source, dst_ep=target, **told), timeout=60, polling_interval=1)
        assert status.state is TaskState.SUCCEEDED, status.reason

    for seed in seeds(4):
        for name, names in ((f"{seed}", 12), (f"other{seed}", 6)):
            (here / name).mkdir()
            odd_tree(random.Random(f"{seed} {name}"), here / name, names)  # noqa: S311 - repeatable
        move("here", "there", f"/{seed}", "/tree")
        move("here", "there", f"/{seed}", "/tree", delete_destination_extra=True)
        wanted = files_of(here / f"{seed}")
        assert found(root / "tree") == set(wanted)
        assert files_of(root / "tree") == wanted
        move("there", "here", "/tree", f"/back{seed}")
        assert files_of(here / f"back{seed}") == wanted
        move("here", "there", f"/other{seed}", "/tree", delete_destination_extra=True)
        assert files_of(root / "tree") == files_of(here / f"other{seed}")
    assert os.listdir(root) == ["tree"]
    transfers.backend.close()
