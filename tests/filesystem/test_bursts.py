"""Bursts of small files over SFTP: each file arrives whole or not at all, and fails alone."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest
from sshserver import ssh_server  # noqa: F401 - a fixture
from waiting import until

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.errors import fault_of
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.store import CopyOptions
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

#: More files and more bytes than fit into one burst.
MANY = {f"{number:03}": os.urandom(number * 700) for number in range(120)} | {"large": os.urandom(1_500_000)}


@pytest.fixture
def server(ssh_server):  # noqa: F811 - that fixture
    """The server; connections that a test leaves open are cut."""
    yield ssh_server
    ssh_server.cut()


@pytest.fixture
def roots(tmp_path):
    """The folders behind the endpoints ``disk``, ``server`` and ``other``, which is on the same server."""
    folders = {name: tmp_path / name for name in ("disk", "server", "other")}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture
def transfers(server, roots):
    """The endpoints, where retries start at once."""
    settings = {name: server.endpoint(folder) for name, folder in roots.items()} | {"disk": {"url": str(roots["disk"])}}
    places = {name: place_of(name, where) for name, where in settings.items()}
    return Transfers(FilesystemBackend(places, pause=lambda *_: None))


def fill(folder, files=MANY):
    """Write files into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def stop(server):
    """Stop the processes of all connections without closing the connections."""
    for session in server.sessions():
        session.send_signal(signal.SIGSTOP)


def held(folder):
    """The contents of the files in a folder, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def move(transfers, source, goal, **options):
    """Transfer a tree from one endpoint to another."""
    request = transfer_request(src_ep=source, dst_ep=goal, src_path="/d", dst_path="/d", recursive=True, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("source", "goal"), [("disk", "server"), ("server", "disk"), ("server", "other")])
def test_many_files_arrive_as_they_are(transfers, roots, source, goal, verify):
    """Files of many sizes arrive whole, are counted exactly, keep their times, and replace existing files."""
    fill(roots[source] / "d")
    os.utime(roots[source] / "d" / "007", (1e9, 1e9))
    fill(roots[goal] / "d", {"007": b"old"})
    status = move(transfers, source, goal, preserve_timestamp=True, verify_checksum=verify)
    counts = (status.files_done, status.bytes_done, status.faults, status.files_skipped)
    assert (status.state, *counts) == (TaskState.SUCCEEDED, len(MANY), sum(map(len, MANY.values())), 0, 0)
    assert held(roots[goal] / "d") == MANY
    assert (roots[goal] / "d" / "007").stat().st_mtime == 1e9


@pytest.mark.parametrize(("source", "goal"), [("disk", "server"), ("server", "disk")])
@pytest.mark.parametrize("level", ["exists", "size", "mtime", "checksum"])
def test_a_sync_level_counts_in_bursts_too(transfers, roots, source, goal, level):
    """With each sync level, existing files are skipped and missing files are copied."""
    fill(roots[source] / "d")
    for file in (roots[source] / "d").iterdir():
        os.utime(file, (1e9, 1e9))
    assert move(transfers, source, goal, sync_level=level).files_done == len(MANY)
    (roots[goal] / "d" / "030").unlink()
    status = move(transfers, source, goal, sync_level=level)
    assert (status.files_done, status.files_skipped) == (1, len(MANY) - 1)
    assert held(roots[goal] / "d") == MANY


def test_one_that_is_in_the_way_holds_up_no_other(transfers, roots):
    """A folder with the name of a file fails only that file, and no temporary file is left."""
    fill(roots["disk"] / "d")
    (roots["server"] / "d" / "055").mkdir(parents=True)
    status = move(transfers, "disk", "server")
    assert (status.state, status.code, status.faults) == (TaskState.FAILED, "IS_A_DIRECTORY", 1)
    assert status.files_done == len(MANY) - 1
    assert sorted(file.name for file in (roots["server"] / "d").iterdir()) == sorted(MANY)


def test_what_became_a_link_is_refused(server, roots):
    """A file that is replaced by a link before it is read is refused; the files beside it are read."""
    (roots["other"] / "secret").write_bytes(b"secret")
    fill(roots["server"] / "d", {"a": b"1", "b": b"secret", "c": b"3"})
    store = SftpStore(server.url(roots["server"]), server.options)
    folder = store.folder(("d",))
    entries = sorted(folder.entries(), key=lambda entry: entry.name)
    (roots["server"] / "d" / "b").unlink()
    (roots["server"] / "d" / "b").symlink_to(roots["other"] / "secret")
    ahead, block = folder.prefetch(entries), memoryview(bytearray(10))
    for name in "ac":
        with ahead.read(name) as reader:
            assert (reader.readinto(block), reader.changed()) == (1, False)
    with pytest.raises(OSError, match="symbolic links"):
        ahead.read("b")
    store.close()


def test_a_connection_that_is_cut_is_tried_again_file_by_file(transfers, server, roots):
    """After all connections are lost, the files of a burst are copied over new connections, and all arrive."""
    fill(roots["disk"] / "d")
    store = transfers.backend._places["server"].store()
    folder, here = store.folder(()), transfers.backend._places["disk"].store().folder(("d",))
    some = [here.entry("001"), here.entry("002")]
    assert [outcome for _, outcome in folder.copy_all_from(here, some, CopyOptions())] == [700, 1400]
    server.cut()
    outcomes = [outcome for _, outcome in folder.copy_all_from(here, some, CopyOptions())]
    # The outcome depends on whether ssh ends before the burst.
    assert outcomes == [700, 1400] or [store.transient(outcome) for outcome in outcomes] == [True, True]
    server.cut()
    assert move(transfers, "disk", "server").state is TaskState.SUCCEEDED
    assert held(roots["server"] / "d") == MANY


def test_a_task_that_is_cancelled_stops_between_bursts(transfers, roots):
    """A canceled task ends between bursts and leaves only whole files and no temporary file."""
    fill(roots["disk"] / "d", {str(number): os.urandom(20_000) for number in range(1000)})
    backend = transfers.backend
    request = transfer_request(src_ep="disk", dst_ep="server", src_path="/d", dst_path="/d", recursive=True)
    handle = backend.submit(request, backend.new_submission_id())
    limit = threading.Event()
    while not backend.poll([handle])[0].files_done and not limit.wait(0.01):
        pass
    backend.cancel(handle)
    backend.wait(handle, 60)
    (status,) = backend.poll([handle])
    assert status.state is TaskState.CANCELED
    arrived = held(roots["server"] / "d")
    assert 0 < len(arrived) < 1000
    assert all(len(content) == 20_000 for content in arrived.values())
    assert not any(name.startswith(TEMP_PREFIX) for name in arrived)


def test_a_server_that_is_silent_is_given_up(server, roots):
    """A connected server that does not respond for ``silence`` seconds causes a transient fault."""
    store = SftpStore(server.url(roots["server"]), server.options | {"silence": 2})
    folder = store.folder(())

    def write():
        with folder.temp_file("f", size=8 << 20) as temp_file:
            stop(server)
            temp_file.write_at(0, memoryview(bytes(8 << 20)))

    def look():
        stop(server)
        folder.entry("f")

    for deed in (look, write):
        assert folder.entry("f") is None
        with pytest.raises(ConnectionError, match="not responded") as caught:
            deed()
        assert store.transient(caught.value)
        assert fault_of(caught.value, "Looking").code == "TIMEOUT"
    store.close()


def test_a_connection_that_is_shared_is_used(server, roots, tmp_path_factory):
    """If the user has opened an SSH connection to share, transfers use it and do not log in."""
    # Short, because the path of a socket is limited to about 100 bytes.
    control = tmp_path_factory.mktemp("c") / "s"
    words = ["ssh", "-M", "-N", "-F", "none", "-i", server.options["key_filename"], "-S", str(control)]
    words += ["-o", f"UserKnownHostsFile={server.options['known_hosts']}", "-p", str(server.port)]
    with subprocess.Popen([*words, f"{server.user}@127.0.0.1"], stdin=subprocess.DEVNULL) as shared:
        try:
            until(control.exists)
            # Without the key, only this connection works.
            options = server.options | {"key_filename": [], "ssh_options": {"ControlPath": str(control)}}
            options["ssh_options"] |= {"IdentityAgent": "none", "IdentitiesOnly": "yes", "IdentityFile": "none"}
            store = SftpStore(server.url(roots["server"]), options)
            (roots["server"] / "f").write_bytes(b"data")
            assert [entry.name for entry in store.folder(()).entries()] == ["f"]
            store.close()
            assert shared.poll() is None
        finally:
            # Not SIGTERM: OpenSSH 9.2 loses one that arrives just before it waits.
            shared.kill()


@pytest.mark.parametrize("path", ["/link", "/second", "/d"])
def test_a_link_that_leads_to_a_root_stays(server, roots, path):
    """No link on the path to the root of another endpoint of the server is deleted, nor is the folder of the link."""
    (roots["server"] / "d").mkdir()
    (roots["server"] / "d" / "third").symlink_to(roots["other"])
    (roots["server"] / "second").symlink_to("d/third")
    (roots["server"] / "link").symlink_to(roots["server"] / "second")
    (roots["other"] / "kept").write_bytes(b"data")
    settings = {
        "outer": server.endpoint(roots["server"]),
        "inner": server.endpoint(roots["server"] / "link") | {"home": "/"},
    }
    settings["inner"]["url"] = settings["inner"]["url"].replace(f"{server.user}@", "another@")
    transfers = Transfers(FilesystemBackend.from_config(settings, {}))
    request = delete_request(src_ep="outer", src_path=path, recursive=True)
    status = transfers.run(request, timeout=60, polling_interval=1)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert held(roots["server"] / "link") == {"kept": b"data"}


def test_a_root_inside_a_deleted_folder_stays(server, roots, tmp_path):
    """Deleting a folder does not delete another endpoint's root in it on the same server."""
    (roots["server"] / "d" / "inner").mkdir(parents=True)
    (roots["server"] / "d" / "f").write_bytes(b"data")
    (roots["server"] / "d" / "inner" / "kept").write_bytes(b"data")
    settings = {
        "outer": server.endpoint(roots["server"]),
        "inner": server.endpoint(roots["server"] / "d" / "inner"),
        "elsewhere": {"url": "sftp://nobody@192.0.2.1/", "options": {}},
    }
    transfers = Transfers(FilesystemBackend.from_config(settings, {}))
    request = delete_request(src_ep="outer", src_path="/d", recursive=True)
    status = transfers.run(request, timeout=60, polling_interval=1)
    assert status.state is TaskState.FAILED
    assert held(roots["server"] / "d" / "inner") == {"kept": b"data"}
    store = transfers.backend._places["elsewhere"].store()
    assert store._connections == []
