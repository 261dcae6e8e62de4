"""Roots on an SFTP server: under other names of the server, behind links, and below a deleted folder."""

from __future__ import annotations

import os

import pytest
from sshserver import ssh_server  # noqa: F401 - a fixture

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.stores.sftp.openssh import OpenSSH
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers


@pytest.fixture
def server(ssh_server):  # noqa: F811 - that fixture
    """The server; its connections end with each test."""
    yield ssh_server
    ssh_server.cut()


def world(server, roots, hosts=()):
    """Return transfers between endpoints of the server, some with another host name."""
    endpoints = {name: server.endpoint(root) for name, root in roots.items()}
    for name, host in dict(hosts).items():
        endpoints[name]["url"] = endpoints[name]["url"].replace("127.0.0.1", host)
    return Transfers(FilesystemBackend.from_config(endpoints, {}))


def move(transfers, path, goal=None, *, source="laptop", to="scratch", **options):
    """Transfer within the server and wait."""
    request = transfer_request(src_ep=source, dst_ep=to, src_path=path, dst_path=goal or path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def remove(transfers, path, endpoint="scratch"):
    """Delete a tree and wait."""
    request = delete_request(src_ep=endpoint, src_path=path, recursive=True)
    return transfers.run(request, timeout=60, polling_interval=1)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1", "[::1]"])
@pytest.mark.parametrize("how", ["delete", "above", "mirror"])
def test_a_root_stays_by_whatever_name_its_server_has(server, tmp_path, host, how):
    """An endpoint's root stays even if its URL names the host differently; a sibling folder is deleted."""
    (tmp_path / "disk/p/root").mkdir(parents=True)
    (tmp_path / "disk/other").mkdir()
    (tmp_path / "laptop").mkdir()
    roots = {"laptop": tmp_path / "laptop", "scratch": tmp_path / "disk", "inner": tmp_path / "disk/p/root"}
    transfers = world(server, roots, {"inner": host})
    status = {
        "delete": lambda: remove(transfers, "/p/root"),
        "above": lambda: remove(transfers, "/p"),
        "mirror": lambda: move(transfers, "/", recursive=True, delete_destination_extra=True),
    }[how]()
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert (tmp_path / "disk/p/root").is_dir()
    if how != "mirror":
        assert remove(transfers, "/other").state is TaskState.SUCCEEDED


@pytest.mark.parametrize("how", ["delete", "tree", "mirror", "replace", "into", "folder"])
def test_the_link_that_a_root_is_named_by_stays(server, tmp_path, how):
    """A link in the path of an endpoint's root is neither deleted nor replaced through another endpoint."""
    for name in ("laptop/d", "laptop/with-folder/current", "laptop/with-file", "disk/d", "disk/runs/1"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("laptop/with-file/current", "laptop/f", "disk/d/extra"):
        (tmp_path / name).write_text("f")
    (tmp_path / "disk/d/current").symlink_to("../runs/1")
    roots = {"laptop": tmp_path / "laptop", "scratch": tmp_path / "disk", "run": tmp_path / "disk/d/current"}
    transfers = world(server, roots)
    status = {
        "delete": lambda: remove(transfers, "/d/current"),
        "tree": lambda: remove(transfers, "/d"),
        "mirror": lambda: move(transfers, "/d", recursive=True, delete_destination_extra=True),
        "replace": lambda: move(transfers, "/f", "/d/current"),
        "into": lambda: move(transfers, "/with-file", "/d", recursive=True),
        "folder": lambda: move(transfers, "/with-folder", "/d", recursive=True, delete_destination_extra=True),
    }[how]()
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert move(transfers, "/f", "/g", to="run").state is TaskState.SUCCEEDED
    assert (tmp_path / "disk/runs/1/g").exists()


@pytest.mark.parametrize("mirror", [False, True])
def test_a_link_goes_and_what_it_points_to_stays(server, tmp_path, mirror):
    """A deletion or mirror removes a link, wherever it leads, but never its target."""
    for name in ("laptop/d", "disk/d/sub", "disk/within", "outside", "root"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("disk/within/f", "outside/f", "root/f"):
        (tmp_path / name).write_text("kept")
    for name, target in (("in", "../within"), ("out", "../../outside"), ("root", str(tmp_path / "root"))):
        (tmp_path / "disk/d" / name).symlink_to(target)
        (tmp_path / "disk/d/sub" / name).symlink_to(target if target.startswith("/") else f"../{target}")
    roots = {"laptop": tmp_path / "laptop", "scratch": tmp_path / "disk", "root": tmp_path / "root"}
    transfers = world(server, roots)
    options = {"recursive": True, "delete_destination_extra": True}
    status = move(transfers, "/d", **options) if mirror else remove(transfers, "/d")
    assert status.state is TaskState.SUCCEEDED
    assert (os.listdir(tmp_path / "disk/d") == []) if mirror else not (tmp_path / "disk/d").exists()
    assert all((tmp_path / name).read_text() == "kept" for name in ("disk/within/f", "outside/f", "root/f"))


def test_a_root_that_is_a_link_is_resolved_for_each_task(server, tmp_path):
    """If an endpoint's root is a link, each task follows its current target, and a removed link fails the task."""
    for name in ("laptop", "run1", "run2"):
        (tmp_path / name).mkdir()
    (tmp_path / "laptop/f").write_text("f")
    link = tmp_path / "current"
    link.symlink_to("run1")
    transfers = world(server, {"laptop": tmp_path / "laptop", "scratch": link})
    assert move(transfers, "/f", "/one").state is TaskState.SUCCEEDED
    link.unlink()
    link.symlink_to("run2")
    assert move(transfers, "/f", "/two").state is TaskState.SUCCEEDED
    assert {entry.name for entry in transfers.ls("scratch", "/")} == {"two"}
    assert remove(transfers, "/one").state is TaskState.FAILED
    link.unlink()
    assert move(transfers, "/f", "/three").code == "FILE_NOT_FOUND"
    (tmp_path / "run2").rename(link)
    assert move(transfers, "/f", "/four").state is TaskState.SUCCEEDED
    assert (sorted(os.listdir(tmp_path / "run1")), sorted(os.listdir(link))) == (["one"], ["four", "two"])


def test_the_link_of_another_root_is_looked_at_for_each_task(server, tmp_path):
    """Each deletion resolves the link of another endpoint's root again and keeps its current target."""
    for name in ("disk/a", "disk/b", "disk/c"):
        (tmp_path / name).mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("disk/a")
    transfers = world(server, {"scratch": tmp_path / "disk", "run": link})
    assert remove(transfers, "/c").state is TaskState.SUCCEEDED
    link.unlink()
    link.symlink_to("disk/b")
    assert remove(transfers, "/b").code == "PERMISSION_DENIED"
    assert remove(transfers, "/a").state is TaskState.SUCCEEDED
    assert os.listdir(tmp_path / "disk") == ["b"]


def test_an_alias_of_the_ssh_settings_names_the_same_server(tmp_path):
    """Hosts are compared as ssh resolves them; an address behind a jump host is another machine's."""
    (tmp_path / "config").write_text(
        "Host cluster\n HostName 127.0.0.1\n Port 2200\n User me\nHost inside\n HostName 127.0.0.1\n ProxyJump gate\n"
    )

    def login(url):
        return OpenSSH(url, {"ssh_config": str(tmp_path / "config")})

    cluster = login("sftp://cluster/data")
    for url, same in {
        "sftp://me@localhost:2200/data": True,
        "sftp://me@127.0.0.1:2200/~/data": True,
        "sftp://you@127.0.0.1:2200/data": True,
        "sftp://you@127.0.0.1:2200/~/data": False,
        "sftp://localhost:2201/data": False,
        "sftp://inside:2200/data": False,
        "sftp://other.invalid:2200/data": False,
    }.items():
        assert cluster.same(login(url)) == same, url
