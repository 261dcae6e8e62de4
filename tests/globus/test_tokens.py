"""The token file: its permissions, and concurrent writers."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from globus_sdk.token_storage import TokenStorageData

from chiltepin.backends.globus import shared_file
from chiltepin.backends.globus import token_storage as tokens
from chiltepin.backends.globus.token_storage import FileTokenStorage, token_file
from chiltepin.backends.processes import HOST, machine_id
from chiltepin.errors import LoginRequiredError


def token(server, word="spoken"):
    """Return a token for a resource server."""
    return TokenStorageData(
        resource_server=server,
        identity_id="someone",
        scope="all",
        access_token=word,
        refresh_token=f"refresh-{word}",
        expires_at_seconds=4_000_000_000,
        token_type=None,
    )


def store(file, *servers, word="spoken"):
    """Store a token for each of some resource servers."""
    file.store_token_data_by_resource_server({server: token(server, word) for server in servers})


def read(file):
    """Return the stored tokens, by resource server."""
    return {server: kept.access_token for server, kept in file.get_token_data_by_resource_server().items()}


def mode(path):
    """Return the permission bits of a path."""
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def path(tmp_path):
    """The path of the token file, which does not exist yet."""
    return str(tmp_path / "new" / "deeper" / "tokens.json")


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request):
    """A umask, from careless to strict."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_was_stored_comes_back_and_goes(path):
    """Tokens are stored, replaced and removed, each for its resource server, and seen by the next reader."""
    store(FileTokenStorage(path, namespace="a"), "transfer", "auth")
    store(FileTokenStorage(path, namespace="a"), "transfer", word="newer")
    again = FileTokenStorage(path, namespace="a")
    assert read(again) == {"transfer": "newer", "auth": "spoken"}
    assert again.get_token_data("auth").to_dict() == token("auth").to_dict()
    assert again.remove_token_data("auth") is True
    assert again.remove_token_data("auth") is False
    assert set(FileTokenStorage(path, namespace="a").get_token_data_by_resource_server()) == {"transfer"}


def test_logins_of_different_services_and_clients_do_not_mix(path):
    """A namespace sees only its own tokens, and changing them leaves other namespaces unchanged."""
    real, simulated = FileTokenStorage(path, namespace="real"), FileTokenStorage(path, namespace="simulated")
    store(real, "transfer", word="real")
    assert simulated.get_token_data_by_resource_server() == {}
    store(simulated, "transfer", word="simulated")
    simulated.remove_token_data("transfer")
    assert read(real) == {"transfer": "real"}


def test_only_the_owner_may_look(path, tmp_path, umask):
    """The file has mode 0600 and the folders created for it have 0700, whatever the umask."""
    if umask == 0o777 and os.geteuid() != 0:
        pytest.skip("only root can open a folder without permissions")
    store(FileTokenStorage(path, namespace="a"), "transfer")
    assert mode(path) == 0o600
    assert mode(f"{path}.lock") & 0o077 == 0
    if umask != 0o777:
        assert mode(os.path.dirname(path)) == mode(tmp_path / "new") == 0o700


def test_a_file_that_stood_open_is_closed(path):
    """A file that other users can read is restricted to its owner when it is read."""
    file = FileTokenStorage(path, namespace="a")
    store(file, "transfer")
    os.chmod(path, 0o644)
    assert "transfer" in file.get_token_data_by_resource_server()
    assert mode(path) == 0o600


def test_our_own_folder_is_closed_and_another_is_left_alone(tmp_path, monkeypatch):
    """Chiltepin's own folder is restricted to its owner; a folder that the user names keeps its mode."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(tokens.FILE_VARIABLE, raising=False)
    ours, theirs = Path(token_file()).parent, tmp_path / "shared"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    store(FileTokenStorage(token_file(), namespace="a"), "transfer")
    store(FileTokenStorage(str(theirs / "tokens.json"), namespace="a"), "transfer")
    assert mode(ours) == 0o700
    assert mode(theirs) == 0o755


def test_the_environment_names_another_file_and_a_link_stays_one(tmp_path, monkeypatch):
    """CHILTEPIN_TOKENS names the file; if it is a symbolic link, its target is written."""
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real.json")
    monkeypatch.setenv(tokens.FILE_VARIABLE, str(link))
    store(FileTokenStorage(token_file(), namespace="a"), "transfer")
    assert link.is_symlink()
    assert "transfer" in (tmp_path / "real.json").read_text()


#: File locks of a disk: working, unsupported, exhausted, or valid on one host only, with each writer on another.
LOCKS = {
    "right": "",
    "missing": """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
""",
    "exhausted": """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
""",
    "of one host": """
import fcntl, os
fcntl.flock = lambda *_: None
from chiltepin.backends import processes
processes.machine_id = lambda: f"{os.getpid():024x}"
""",
}

WRITER = """
import sys, time
from globus_sdk.token_storage import TokenStorageData
from chiltepin.backends.globus.token_storage import FileTokenStorage
path, name = sys.argv[1:]
sys.stdin.readline()
for number in range(12):
    server = f"{name}-{number}"
    FileTokenStorage(path, namespace=name if number % 2 else "shared").store_token_data_by_resource_server({
        server: TokenStorageData(resource_server=server, identity_id=None, scope="s", access_token="t" * 400,
                                 refresh_token=None, expires_at_seconds=1, token_type=None)})
"""


@pytest.mark.parametrize("locks", LOCKS)
def test_of_eight_processes_that_write_at_once_nothing_is_lost(path, locks):
    """Eight processes store 12 tokens each at the same time, and all 96 are stored at the end."""
    code = LOCKS[locks] + WRITER
    writers = [
        subprocess.Popen([sys.executable, "-c", code, path, f"p{number}"], stdin=subprocess.PIPE) for number in range(8)
    ]
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    assert [(writer.communicate(timeout=60), writer.returncode)[1] for writer in writers] == [0] * 8
    document = json.loads(Path(path).read_text())
    assert sum(len(kept) for kept in document["logins"].values()) == 96
    assert sorted(os.listdir(os.path.dirname(path))) == ["tokens.json", "tokens.json.lock"]


def test_of_eight_threads_that_write_at_once_nothing_is_lost_and_readers_see_whole_files(path):
    """Eight threads store tokens while one reads: no token is lost, and no read sees a partial file."""
    file = FileTokenStorage(path, namespace="a")
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(store, file, f"server-{number}") for number in range(64)]
        while not all(future.done() for future in written):
            file.get_token_data_by_resource_server()
        for future in written:
            future.result()
    assert len(file.get_token_data_by_resource_server()) == 64


@pytest.mark.parametrize("locks", ["missing", "of one host"])
def test_what_a_writer_has_stored_stays_though_others_are_killed(path, locks):
    """Every stored token survives if some of eight writers are killed, and no extra files remain."""
    patience = "from chiltepin.backends.globus import shared_file\nshared_file.PATIENCE = 1\n"
    code = LOCKS[locks] + patience + WRITER + "    print(server, flush=True)\n"
    words = [[sys.executable, "-c", code, path, f"p{number}"] for number in range(8)]
    writers = [subprocess.Popen(word, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for word in words]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.stdout.readline() for writer in writers]
    for writer in writers[::2]:
        writer.kill()
    said += [writer.communicate(timeout=120)[0] for writer in writers]
    store(FileTokenStorage(path, namespace="shared"), "last")
    stored = {server for kept in json.loads(Path(path).read_text())["logins"].values() for server in kept}
    assert set("".join(said).split()) <= stored
    assert len(stored) > 4 * 12
    assert sorted(os.listdir(os.path.dirname(path))) == ["tokens.json", "tokens.json.lock"]


@pytest.mark.parametrize(
    "writer",
    [
        "",
        f".{machine_id()}-{2**22 + 1}-1-00000000",
        f".{machine_id()[:HOST]}{'0' * (len(machine_id()) - HOST)}-{os.getpid()}-1-00000000",
        f".{'0' * len(machine_id())}-1-1-00000000",
    ],
    ids=["an earlier version", "dead", "an earlier boot", "another host"],
)
def test_a_writer_that_was_killed_leaves_nothing_behind(path, writer, monkeypatch):
    """A dead writer's partial file and lock file do no harm, and the next write removes them."""
    # Chiltepin cannot tell whether a writer on another host is still alive.
    monkeypatch.setattr(shared_file, "PATIENCE", 0.1 if writer.startswith(".000") else 1000)
    file = FileTokenStorage(path, namespace="a")
    store(file, "transfer")
    Path(f"{path}{writer}.new").write_text('{"half": "a sec')
    assert "transfer" in file.get_token_data_by_resource_server()
    store(file, "auth")
    assert sorted(os.listdir(os.path.dirname(path))) == ["tokens.json", "tokens.json.lock"]


def test_a_lock_that_is_never_released_is_named(path, monkeypatch):
    """The error for a lock that is never released names the lock file."""
    monkeypatch.setattr(tokens, "LOCK_TIMEOUT", 0.1)
    store(FileTokenStorage(path, namespace="a"), "transfer")
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LoginRequiredError, match=r"tokens\.json\.lock"):
            store(FileTokenStorage(path, namespace="a"), "auth")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json, but secret",
        '["secret"]',
        "[" * 100_000 + '"secret"',
        '{"format": 99, "logins": {}}',
        '{"format": 1, "logins": {"a": ["secret"]}}',
        '{"format": 1, "logins": {"a": {"transfer": {"access_token": "secret"}}}}',
        '{"format": 1, "logins": {"a": {"transfer": "secret"}}}',
        b"\xff\xfe\x00".decode("latin-1"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence_without_what_is_in_it(path, content):
    """The error for a corrupt file names the file and the fix, and shows none of its contents."""
    os.makedirs(os.path.dirname(path))
    Path(path).write_text(content, encoding="latin-1")
    with pytest.raises(LoginRequiredError) as caught:
        FileTokenStorage(path, namespace="a").get_token_data_by_resource_server()
    assert str(caught.value) == f"The token file {path} is corrupt; delete it and run: chiltepin login"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_file_that_cannot_be_used_says_why(tmp_path):
    """A folder in place of the token file raises an error with its path and the system's message."""
    with pytest.raises(LoginRequiredError, match="Is a directory") as caught:
        FileTokenStorage(str(tmp_path), namespace="a").get_token_data_by_resource_server()
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__context__ is None


def test_the_file_does_not_travel(path):
    """Pickling a token storage raises TypeError, because tokens must stay in their process."""
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        pickle.dumps(FileTokenStorage(path, namespace="a"))


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can give a file away.")
def test_a_login_of_another_user_is_refused(path):
    """Another user's token file is rejected, because all transfers would run as that user."""
    file = FileTokenStorage(path, namespace="a")
    store(file, "transfer")
    os.chown(path, 65534, 65534)
    with pytest.raises(LoginRequiredError, match="it belongs to user 65534"):
        read(file)
    with pytest.raises(LoginRequiredError, match="belongs to user"):
        store(file, "auth")


def test_a_pipe_for_a_token_file_is_refused(path):
    """A named pipe in place of the token file is rejected without waiting for a writer."""
    os.makedirs(os.path.dirname(path))
    os.mkfifo(path, 0o600)
    with pytest.raises(LoginRequiredError, match="it is not a regular file; fix that"):
        read(FileTokenStorage(path, namespace="a"))
