"""SFTP, whatever dies: files are complete, lost parts are copied again, and no path leaves the root."""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from children import in_child
from sshserver import SshServer, daemon, ssh_server  # noqa: F401 - a fixture

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.errors import Fault, fault_of
from chiltepin.backends.filesystem.local.writer import PART as LOCAL_PART
from chiltepin.backends.filesystem.store import CopyOptions
from chiltepin.backends.filesystem.stores.sftp import openssh as ssh
from chiltepin.backends.filesystem.stores.sftp.handles import PART
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX, temporary
from chiltepin.backends.processes import HOST
from chiltepin.errors import ConfigError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

LARGE = os.urandom(PART * 3 + 12345)

WRITE = """
import sys
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore
from chiltepin.backends.filesystem.stores.sftp.handles import PART
store = SftpStore(sys.argv[1], dict(zip(("key_filename", "known_hosts", "ssh_config"), sys.argv[2:5])))
content = open(sys.argv[5], "rb").read()
with store.folder(()) as folder, folder.temp_file("f", size=len(content), content_id="m") as draft:
    for offset in (0, 2 * PART):
        draft.write_at(offset, memoryview(content)[offset : offset + PART])
    print("written", flush=True)
    sys.stdin.read()
"""

READ = """
import sys
from chiltepin.transfers.arguments import transfer_request
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import TaskState
from chiltepin.transfers.runner import Transfers
options = dict(zip(("key_filename", "known_hosts", "ssh_config"), sys.argv[2:5]))
endpoints = {"server": {"url": sys.argv[1], "options": options}, "disk": {"url": sys.argv[5]}}
transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
request = transfer_request(src_ep="server", dst_ep="disk", src_path="/tree", dst_path="/tree", recursive=True)
print("begins", flush=True)
transfers.run(request, timeout=60, polling_interval=1)
"""

LEAVE = """
import gc, sys
from concurrent.futures import ThreadPoolExecutor
from chiltepin.backends.filesystem.stores.sftp.store import SftpStore
store = SftpStore(sys.argv[1], dict(zip(("key_filename", "known_hosts", "ssh_config"), sys.argv[2:5])))
folder = store.folder(())
gc.set_threshold(200, 3, 3)

def leave(_):
    listing = [folder.entries()]
    listing.append(listing)
    assert next(listing[0]).name == "f"
    del listing
    return folder.entry("f").size == 4

with ThreadPoolExecutor(6) as pool:
    print(sum(pool.map(leave, range(1200))), "left", flush=True)
"""


@pytest.fixture
def server(ssh_server):  # noqa: F811 - that fixture
    """The server; its connections end with each test."""
    yield ssh_server
    ssh_server.cut()


@pytest.fixture
def far(tmp_path):
    """A folder on the server."""
    folder = tmp_path / "far"
    folder.mkdir()
    return folder


@pytest.fixture
def store(server, far):
    """A store for that folder; its connections are closed at the end."""
    opened = SftpStore(server.url(far), server.options)
    yield opened
    opened.close()


@pytest.fixture
def transfers(server, far, tmp_path):
    """Transfers between the endpoints ``server`` and ``disk``."""
    (tmp_path / "disk").mkdir()
    endpoints = {"server": server.endpoint(far), "disk": {"url": str(tmp_path / "disk")}}
    return Transfers(FilesystemBackend.from_config(endpoints, {}))


def move(transfers, source, goal, path="/f", **options):
    """Transfer from one endpoint to the other."""
    request = transfer_request(src_ep=source, dst_ep=goal, src_path=path, dst_path=path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def write(folder, content=LARGE, *, parts=None, mark="m"):
    """Write a large file in parts; return the offsets of those that were kept."""
    kept = []
    with folder.temp_file("f", size=len(content), content_id=mark) as temp_file:
        for offset in range(0, len(content), PART) if parts is None else parts:
            block = memoryview(content)[offset : offset + PART]
            if temp_file.has_part(offset, len(block)):
                kept.append(offset)
            else:
                temp_file.write_at(offset, block)
        temp_file.commit(None)
    return kept


@pytest.mark.parametrize("size", [0, 1, 300_000, PART + 1, len(LARGE)])
def test_a_file_goes_there_and_back(transfers, far, tmp_path, size):
    """Files around the sizes at which the copy method changes arrive unchanged, in both directions."""
    (tmp_path / "disk" / "f").write_bytes(LARGE[:size])
    assert move(transfers, "disk", "server", preserve_timestamp=True).bytes_done == size
    assert (far / "f").read_bytes() == LARGE[:size]
    assert 0 <= (far / "f").stat().st_mtime - (tmp_path / "disk" / "f").stat().st_mtime < 1
    (tmp_path / "disk" / "f").unlink()
    assert move(transfers, "server", "disk").bytes_done == size
    assert (tmp_path / "disk" / "f").read_bytes() == LARGE[:size]
    assert [entry.name for entry in far.iterdir()] == ["f"]


def test_a_writer_that_is_killed_leaves_its_parts(server, store, far, tmp_path):
    """After kill -9, no file has the final name, and the next copy of the file keeps its intact parts."""
    (tmp_path / "content").write_bytes(LARGE)
    words = [sys.executable, "-c", WRITE, server.url(far), *server.options.values(), tmp_path / "content"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
    assert not (far / "f").exists()
    (temp_file,) = far.iterdir()
    with open(temp_file, "r+b") as file:
        file.seek(2 * PART)
        file.write(b"damaged")
    assert write(store.folder(())) == [0]
    assert (far / "f").read_bytes() == LARGE
    assert [entry.name for entry in far.iterdir()] == ["f"]


def test_a_reader_that_is_killed_leaves_no_file(server, far, tmp_path):
    """After kill -9 during a download, every file with its final name is complete."""
    (far / "tree").mkdir()
    for number in range(300):
        (far / "tree" / str(number)).write_bytes(LARGE[:100_000])
    (tmp_path / "disk").mkdir()
    words = [sys.executable, "-c", READ, server.url(far), *server.options.values(), tmp_path / "disk"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        reader.stdout.readline()
        limit = time.monotonic() + 60
        while not list((tmp_path / "disk").glob("tree/[0-9]*")) and time.monotonic() < limit:
            pass
        reader.kill()
    whole = [file for file in (tmp_path / "disk" / "tree").iterdir() if not file.name.startswith(TEMP_PREFIX)]
    assert whole
    assert all(file.read_bytes() == LARGE[:100_000] for file in whole)


def test_a_source_that_was_rewritten_is_not_mixed_with_what_was_left(server, transfers, far, tmp_path):
    """A killed download is not resumed with parts of earlier content of the same size and time."""
    old, new = (os.urandom(8 * LOCAL_PART + 5) for _ in range(2))
    (far / "tree").mkdir()
    words = [sys.executable, "-c", READ, server.url(far), *server.options.values(), tmp_path / "disk"]
    kept = 0
    while not kept:
        shutil.rmtree(tmp_path / "disk" / "tree", ignore_errors=True)
        (far / "tree" / "f").write_bytes(old)
        os.utime(far / "tree" / "f", (1e9, 1e9))
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
            # The first part's digest is written after the content.
            while reader.poll() is None and kept <= len(old):
                with suppress(FileNotFoundError):
                    kept = sum(file.stat().st_size for file in (tmp_path / "disk").glob("tree/.*"))
            reader.kill()
        kept *= not (tmp_path / "disk" / "tree" / "f").exists()
    (far / "tree" / "f").write_bytes(new)
    os.utime(far / "tree" / "f", (1e9, 1e9))
    assert move(transfers, "server", "disk", "/tree", recursive=True).state is TaskState.SUCCEEDED
    assert (tmp_path / "disk" / "tree" / "f").read_bytes() == new
    assert os.listdir(tmp_path / "disk" / "tree") == ["f"]


def test_a_lost_connection_is_made_anew(server, store, far):
    """A lost connection is a transient error; the next try opens a new one and keeps the intact parts."""
    folder = store.folder(())

    def cut_in_the_middle():
        with folder.temp_file("f", size=len(LARGE), content_id="m") as temp_file:
            temp_file.write_at(0, memoryview(LARGE)[:PART])
            server.cut()
            temp_file.write_at(PART, memoryview(LARGE)[PART : 2 * PART])

    with pytest.raises(ConnectionError) as caught:
        cut_in_the_middle()
    assert store.transient(caught.value)
    assert fault_of(caught.value, "Copying").code == "CONNECTION_RESET"
    assert write(folder) == [0]
    assert (far / "f").read_bytes() == LARGE


def test_listings_that_are_left_unread_hold_nothing_up(server, far):
    """When the garbage collector ends unread listings, in whatever thread it runs, the server closes them."""
    (far / "f").write_bytes(b"data")
    sshd = psutil.Process(server.process.pid)
    before = sshd.rlimit(psutil.RLIMIT_NOFILE)
    # With more open listings than this, the server would fail.
    sshd.rlimit(psutil.RLIMIT_NOFILE, (300, before[1]))
    words = [sys.executable, "-c", LEAVE, server.url(far), *server.options.values()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert select.select([reader.stdout], [], [], 60)[0], "it hangs"
            assert reader.stdout.readline() == "1200 left\n"
        finally:
            reader.kill()
            sshd.rlimit(psutil.RLIMIT_NOFILE, before)


def test_a_server_that_is_down_is_a_fault(tmp_path):
    """A stopped server is a transient error, and the store works again after its restart."""
    if daemon() is None:
        pytest.skip("There is no sshd here; install openssh-server.")
    (tmp_path / "ssh").mkdir()
    (tmp_path / "far").mkdir()
    with SshServer(tmp_path / "ssh") as server:
        store = SftpStore(server.url(tmp_path / "far"), server.options)
        assert list(store.folder(()).entries()) == []
        server.stop()
        with pytest.raises(ConnectionError):
            store.folder(()).entry("f")
        with pytest.raises(ConnectionError) as caught:
            store.folder(()).entry("f")
        assert store.transient(caught.value)
        server.start()
        assert store.folder(()).entry("f") is None
        store.close()


def test_the_drafts_of_others_stay(store, far):
    """Only temporary files of running processes, and for a day those of other hosts, are kept."""
    with store.folder(()).temp_file("f") as living:
        mine = next(entry.name for entry in far.iterdir())
        machine, began = mine.split("-")[2], mine.split("-")[4]
        # This process's id, before the machine's last boot.
        before = machine[:HOST] + "0" * (len(machine) - HOST)
        dead, elsewhere, old, earlier = (
            temporary(f"0-{place}-{process}-{began}-00000000")
            for place, process in ((machine, 2**22 + 1), ("elsewhere", 1), ("elsewhere", 2), (before, os.getpid()))
        )
        for name in (dead, elsewhere, old, earlier):
            (far / name).write_bytes(b"half")
        os.utime(far / old, (0, 0))
        again = SftpStore(store._login.url, store._login.options)
        with again.folder(()).temp_file("g"):
            pass
        again.close()
        assert {entry.name for entry in far.iterdir()} == {mine, elsewhere}
        living.commit(None)


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_temporary_file_that_was_taken_away_fails_its_copy(store, far, before):
    """Removing a temporary file during its copy is an error that says so, and the old file stays."""
    if before:
        (far / "f").write_bytes(before)
    with store.folder(()).temp_file("f", size=3) as temp_file:
        temp_file.write(memoryview(b"new"))
        temp_file.read_back()
        for path in far.glob(f"{TEMP_PREFIX}*"):
            path.unlink()
        with pytest.raises(Fault, match="the temporary file of f, was removed while it was written"):
            temp_file.commit(None)
    assert [path.read_bytes() for path in far.iterdir()] == [before] * bool(before)


def test_a_link_out_of_the_root_is_refused(transfers, store, far, tmp_path):
    """A link inside the root is followed; one that leads out is neither read nor written through."""
    (tmp_path / "secret").write_bytes(b"secret")
    (far / "data").mkdir()
    (far / "data" / "f").write_bytes(b"data")
    (far / "inside").symlink_to("data")
    (far / "whole").symlink_to(far / "data")
    (far / "out").symlink_to("../")
    (far / "key").symlink_to(tmp_path / "secret")
    (far / "loop").symlink_to("loop")
    for way in ("/inside/f", "/whole/f"):
        (tmp_path / "disk" / way.split("/")[1]).mkdir()
        assert move(transfers, "server", "disk", way).state.name == "SUCCEEDED"
    for way, code in (
        ("/out/secret", "PERMISSION_DENIED"),
        ("/key", "PERMISSION_DENIED"),
        ("/loop", "INVALID_SYMLINK"),
    ):
        assert move(transfers, "server", "disk", way).code == code
    with pytest.raises(OSError, match="symbolic links"):
        store.folder(()).read("key")
    (tmp_path / "disk" / "key").write_bytes(b"new")
    assert move(transfers, "disk", "server", "/key").state.name == "SUCCEEDED"
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize(
    ("known", "said"),
    [(False, "is missing from known_hosts; compare"), (True, "differs from that in known_hosts; ask")],
)
def test_an_unknown_or_changed_host_key_is_refused(server, far, tmp_path, known, said):
    """An unknown or changed host key is a permanent error, whatever the options say."""
    key = Path(server.options["key_filename"]).with_suffix(".pub").read_text()
    (tmp_path / "none").write_text(f"[127.0.0.1]:{server.port} {key}" if known else "")
    options = server.options | {"known_hosts": str(tmp_path / "none")}
    store = SftpStore(server.url(far), options | {"ssh_options": {"StrictHostKeyChecking": "no"}})
    with pytest.raises(Fault, match=f"The host key of .* {said}.*UserKnownHostsFile={tmp_path}/none ") as caught:
        store.folder(()).entry("f")
    assert not store.transient(caught.value)


def test_who_has_no_key_is_told_what_to_try(server, far, tmp_path):
    """A login that would prompt fails at once, with a command to test it."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, stdin=subprocess.DEVNULL)
    options = server.options | {"key_filename": str(key), "ssh_options": {"IdentityAgent": "none"}}
    with pytest.raises(Fault, match="BatchMode=yes"):
        SftpStore(server.url(far), options).folder(()).entry("f")


@pytest.mark.parametrize(("passphrase", "opens"), [("hush hush", True), ("wrong", False), ("", False)])
def test_a_secret_is_given_where_it_is_asked_for(server, far, tmp_path, passphrase, opens):
    """The passphrase in the options unlocks a key; without it, the login fails and does not prompt."""
    shutil.copy(server.folder / "user", tmp_path / "key")
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "hush hush", "-f", tmp_path / "key"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    options = server.options | {"key_filename": str(tmp_path / "key"), "passphrase": passphrase}
    store = SftpStore(server.url(far), options | {"ssh_options": {"IdentityAgent": "none"}})
    if opens:
        assert store.folder(()).entry("f") is None
        store.close()
    else:
        with pytest.raises(Fault, match="rejected the non-interactive login"):
            store.folder(()).entry("f")


def test_without_ssh_it_is_said_what_to_install(server, far, monkeypatch):
    """Without OpenSSH, the error says to install it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Fault, match="install the OpenSSH"):
        SftpStore(server.url(far), server.options).folder(()).entry("f")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("sftp://host/x", {"pasword": "secret"}),
        ("sftp://me:secret@host/x", {}),
        ("sftp:///x", {}),
        ("sftp://-oProxyCommand=touch/x", {}),
    ],
)
def test_what_it_does_not_know_is_refused(url, options):
    """Unknown options, passwords in URLs, and missing or option-like hosts are refused, and no secret is shown."""
    with pytest.raises(ConfigError) as caught:
        SftpStore(url, options)
    assert "secret" not in str(caught.value)


def test_what_is_in_the_way_has_its_name(store, far):
    """A folder in place of a file, or a file in place of a folder, raises the matching error."""
    (far / "taken").mkdir()
    with pytest.raises(IsADirectoryError), store.folder(()).temp_file("taken") as temp_file:
        temp_file.commit(None)
    (far / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        store.folder(("file", "below"), create=True)
    with pytest.raises(FileNotFoundError):
        store.folder(("none",))


def test_a_server_of_another_make_serves_too(tmp_path):
    """A server without OpenSSH's extensions and with small messages replaces a file."""
    if daemon() is None:
        pytest.skip("There is no sshd here; install openssh-server.")
    (tmp_path / "ssh").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "f").write_bytes(b"old")
    with SshServer(tmp_path / "ssh") as server:
        store = SftpStore(server.url(tmp_path / "far"), server.options)
        channel = store.connection()
        channel.extensions.clear()
        channel.reads = channel.writes = 32768
        assert write(store.folder(())) == []
        store.close()
    assert (tmp_path / "far" / "f").read_bytes() == LARGE


@pytest.mark.parametrize("refused", ["setstat,fsetstat", "fsetstat", "posix-rename,limits,statvfs,fsync"])
def test_a_server_that_refuses_some_requests_serves_too(tmp_path, refused):
    """Files of all sizes arrive and are replaced if OpenSSH's server refuses requests; preserving times may fail."""
    if daemon() is None:
        pytest.skip("There is no sshd here; install openssh-server.")
    for name in ("ssh", "far", "disk"):
        (tmp_path / name).mkdir()
    with SshServer(tmp_path / "ssh", subsystem=f"internal-sftp -P {refused}") as server:
        endpoints = {"server": server.endpoint(tmp_path / "far"), "disk": {"url": str(tmp_path / "disk")}}
        transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
        for size in (300_000, len(LARGE), 0):
            (tmp_path / "disk" / "f").write_bytes(LARGE[:size])
            assert move(transfers, "disk", "server").state.name == "SUCCEEDED"
            assert (tmp_path / "far" / "f").read_bytes() == LARGE[:size]
        (tmp_path / "far" / "f").write_bytes(b"old")
        status = move(transfers, "disk", "server", preserve_timestamp=True)
        if refused == "setstat,fsetstat":
            assert "cannot set modification times" in status.reason
            assert (tmp_path / "far" / "f").read_bytes() == b"old"
        else:
            assert status.state.name == "SUCCEEDED"
        assert [entry.name for entry in (tmp_path / "far").iterdir()] == ["f"]


def test_a_shell_that_talks_is_named(tmp_path, monkeypatch):
    """Text before the protocol, of any length, is reported as the cause and not retried."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for words in ("Welcome to the cluster", "hi", "Hey!", "x" * 100_000):
        # Exit before or after reading from the client.
        ends = "exit" if words == "hi" else "head -c 9 >/dev/null"
        (tmp_path / "ssh").write_text(f"#!/bin/sh\nprintf '{words}'\n{ends}\n")
        (tmp_path / "ssh").chmod(0o755)
        store = SftpStore("sftp://me@host/x", {"silence": 5})
        with pytest.raises(Fault, match=f"sends text before SFTP begins .'{words[:100]}") as caught:
            store.folder(())
        assert not store.transient(caught.value)


def test_a_size_that_is_made_when_it_is_read_is_not_zero(server, tmp_path):
    """Files of /proc, whose sizes are reported as 0, arrive complete."""
    if not os.path.exists("/proc/version"):
        pytest.skip("There is no /proc here.")
    (tmp_path / "disk").mkdir()
    endpoints = {"server": server.endpoint("/proc"), "disk": {"url": str(tmp_path / "disk")}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    assert move(transfers, "server", "disk", "/version").state.name == "SUCCEEDED"
    assert (tmp_path / "disk" / "version").read_text() == Path("/proc/version").read_text()


def test_an_address_of_ipv6_is_reached(tmp_path):
    """A host may be an IPv6 address, in brackets and with a port."""
    if daemon() is None or not Path("/proc/net/if_inet6").exists() or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("There is no sshd here, or no IPv6.")
    for name in ("ssh", "far"):
        (tmp_path / name).mkdir()
    (tmp_path / "far" / "f").write_bytes(b"data")
    with SshServer(tmp_path / "ssh", more="ListenAddress ::1") as server:
        known = (tmp_path / "ssh" / "known_hosts").read_text().replace("127.0.0.1", "::1")
        (tmp_path / "ssh" / "known_hosts").write_text(known)
        store = SftpStore(server.url(tmp_path / "far").replace("127.0.0.1", "[::1]"), server.options)
        assert store.folder(()).entry("f").size == 4
        store.close()


def test_a_jump_host_is_passed(server, far, tmp_path):
    """An endpoint can be a server that ssh's settings reach through a jump host."""
    (far / "f").write_bytes(b"data")
    known, key = server.options["known_hosts"], server.options["key_filename"]
    both = f"HostName 127.0.0.1\n Port {server.port}\n IdentityFile {key}\n UserKnownHostsFile {known}\n"
    (tmp_path / "config").write_text(f"Host gate\n {both}Host inside\n {both} ProxyJump {server.user}@gate\n")
    store = SftpStore(f"sftp://{server.user}@inside{far}", {"ssh_config": str(tmp_path / "config")})
    assert store.folder(()).entry("f").size == 4
    store.close()


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a;b", "::"])
def test_a_root_is_the_path_that_is_written(server, tmp_path, name):
    """No character in a path on the server acts as URL syntax."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "f").write_bytes(b"data")
    store = SftpStore(server.url(tmp_path / name), server.options)
    assert store.folder(()).entry("f").size == 4
    store.close()


def test_a_source_that_changes_is_no_copy(store, far):
    """A file that grows while it is read is detected."""
    (far / "f").write_bytes(LARGE)
    with store.folder(()).read("f") as reader:
        with open(far / "f", "ab") as file:
            file.write(b"more")
        assert reader.changed()


def test_a_small_file_is_checked(store, far, tmp_path):
    """A small file is copied within the server in one call and arrives complete."""
    (far / "a").mkdir()
    (far / "a" / "f").write_bytes(b"data")
    here = store.folder(("a",))
    assert store.folder(("b",), create=True).copy_from(here, here.entry("f"), "f", CopyOptions()) == 4
    assert (far / "b" / "f").read_bytes() == b"data"


def ciphers(server, far, **options):
    """Return the ciphers that a connection passes to ssh."""
    before = set(psutil.Process().children())
    opened = SftpStore(server.url(far), server.options | options)
    try:
        opened.connection()
        (ssh,) = (process for process in set(psutil.Process().children()) - before if process.name() == "ssh")
        return [word.removeprefix("Ciphers=") for word in ssh.cmdline() if word.startswith("Ciphers=")]
    finally:
        opened.close()


def test_a_cipher_of_the_processor_is_preferred_unless_one_is_chosen(server, far, tmp_path):
    """Without cipher settings, a hardware-accelerated cipher comes first; a user's choice is kept."""
    # Another test may have cached an ssh without ciphers.
    ssh._settings.cache_clear()
    settings = tmp_path / "config"
    settings.write_text("Ciphers aes256-ctr\n")
    assert ciphers(server, far, ssh_config=str(settings)) == []
    assert ciphers(server, far, ssh_options={"Ciphers": "aes192-ctr"}) == ["aes192-ctr"]
    facts = Path("/proc/cpuinfo")
    if facts.exists() and " aes " not in facts.read_text().replace("\n", " "):
        pytest.skip("This processor has no cipher.")
    (told,) = ciphers(server, far)
    assert told.startswith("aes128-gcm@openssh.com,")
    assert "chacha20-poly1305@openssh.com" in told


def test_a_root_that_is_not_there_stays_not_there(server, tmp_path):
    """Every request for a missing root fails, and nothing is removed from the server's top folder instead."""
    (tmp_path / "victim").write_bytes(b"outside")
    store = SftpStore(server.url(tmp_path / "missing"), server.options)
    parts = tuple(str(tmp_path).strip("/").split("/"))
    for _ in range(3):
        with pytest.raises(Fault, match="does not exist; create it first"), store.folder(parts) as folder:
            folder.remove("victim")
    assert (tmp_path / "victim").read_bytes() == b"outside"
    store.close()


def test_a_child_made_by_fork_has_connections_of_its_own(transfers, far, tmp_path):
    """A forked child opens its own connections, and its exit leaves its parent's open."""
    (tmp_path / "disk/f").write_bytes(b"content")

    def send(name):
        assert move(transfers, "disk", "server", path=name).state is TaskState.SUCCEEDED

    def child():
        (tmp_path / "disk/child").write_bytes(b"of the child")
        send("/child")
        gc.collect()
        # The interpreter calls this at exit.
        weakref.finalize._exitfunc()

    send("/f")
    [channel] = transfers.backend._places["server"].store()._connections
    in_child(child)
    assert (far / "child").read_bytes() == b"of the child"
    (tmp_path / "disk/again").write_bytes(b"again")
    send("/again")
    assert transfers.backend._places["server"].store()._connections[0] is channel
    assert not channel.broken


@pytest.mark.parametrize("top", ["/proc", "/sys"])
@pytest.mark.parametrize("how", ["alone", "tree"])
def test_a_size_that_is_made_up_cuts_no_file(server, tmp_path, top, how):
    """Kernel files that report 0 or 4096 bytes arrive complete or fail, alone and in a tree."""
    folder = {"/proc": "/proc/sys/kernel/random", "/sys": "/sys/kernel/mm/transparent_hugepage"}[top]
    names = {"/proc": ["boot_id", "poolsize"], "/sys": ["enabled", "defrag", "shmem_enabled"]}[top]
    held = {name: Path(folder, name).read_bytes() for name in names if Path(folder, name).exists()}
    if not held:
        pytest.skip(f"There is no {folder} here.")
    (tmp_path / "disk").mkdir()
    endpoints = {"server": server.endpoint(folder), "disk": {"url": str(tmp_path / "disk")}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    paths = ["/"] if how == "tree" else [f"/{name}" for name in held]
    statuses = [move(transfers, "server", "disk", path, recursive=how == "tree") for path in paths]
    copied = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir() if path.name in held}
    # A file that reports a full page but is shorter is refused.
    assert copied == (held if top == "/proc" else {})
    assert how == "tree" or all((status.state.name == "SUCCEEDED") == bool(copied) for status in statuses)
