"""Real FTP and WebDAV servers: the contents of their folders, and how they handle names and renames."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import re
import shutil
import threading
import uuid

import pytest
from badwires import BadWire
from fileservers import SERVERS, file_server
from test_web_indexes import seeds
from webservers import files_of, odd_tree

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.errors import PermissionDeniedError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

FTP = ["pyftpdlib", "pyftpdlib-windows", "pyftpdlib-old", "vsftpd", "vsftpd-tls", "vsftpd-implicit"]
DAV = ["wsgidav", "apache-dav"]


@pytest.fixture(params=SERVERS)
def served(request, tmp_path, monkeypatch):
    """The endpoints ``there``, on a server, and ``here``, and the folders of both."""
    monkeypatch.setenv("NO_PROXY", "*")
    with file_server(request.param) as (settings, root):
        endpoints = {"there": settings, "here": {"url": str(tmp_path)}}
        places = {name: place_of(name, told) for name, told in endpoints.items()}
        # Retries start at once.
        transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
        transfers.settings = settings
        yield transfers, root, tmp_path


def on(*kinds):
    """Run a test with these servers only."""
    return pytest.mark.parametrize("served", kinds, indirect=True)


def move(transfers, source, target, path, **options):
    """Copy from one endpoint to another, by default to the same path."""
    told = {"src_path": path, "dst_path": path, **options}
    request = transfer_request(src_ep=source, dst_ep=target, **told)
    return transfers.run(request, timeout=60, polling_interval=1)


@pytest.mark.timeout(3600)
def test_a_tree_goes_there_and_back(served):
    """A generated tree with odd names arrives whole on a server and comes back whole, or the transfer fails."""
    transfers, root, here = served
    for seed in seeds(3):
        tree, back = here / f"t{seed}", here / f"back{seed}"
        tree.mkdir()
        odd_tree(random.Random(seed), tree, names=8)  # noqa: S311 - reproducible, not secret
        (tree / ".hidden").write_text("hidden")
        (tree / " spaces ").write_text("in a name")
        status = move(transfers, "here", "there", f"/t{seed}", recursive=True)
        wanted, found = files_of(tree), files_of(root / f"t{seed}")
        assert found == wanted if status.state is TaskState.SUCCEEDED else set(found.items()) < set(wanted.items()), (
            seed
        )
        status = move(transfers, "there", "here", f"/t{seed}", dst_path=f"/back{seed}", recursive=True)
        # If a name is not UTF-8, Apache's listing of the folder is not valid XML, and the transfer fails.
        assert status.state is not TaskState.SUCCEEDED or files_of(back) == found, seed


@pytest.mark.timeout(3600)
@on(*FTP)
def test_what_is_in_a_folder_of_an_ftp_server_arrives(served):
    """A generated tree on an FTP server arrives whole, including hidden files, if the server can name every file."""
    transfers, root, here = served
    for seed in seeds(6):
        tree = root / f"t{seed}"
        tree.mkdir()
        odd_tree(random.Random(seed), tree)  # noqa: S311 - reproducible, not secret
        (tree / ".hidden").mkdir()
        (tree / ".hidden" / "  two spaces before").write_text("and a name")
        (tree / "a[1]*").mkdir()
        (tree / "a[1]*" / "pattern").write_text("in brackets")
        status = move(transfers, "there", "here", f"/t{seed}", recursive=True)
        wanted, found = files_of(tree), files_of(here / f"t{seed}")
        assert found.items() <= wanted.items()
        if status.state is TaskState.SUCCEEDED or can_be_named(transfers, tree):
            assert (status.state, found) == (TaskState.SUCCEEDED, wanted), status.reason


def can_be_named(transfers, tree):
    """Whether an FTP server can name every file of a tree: no server a line end, pyftpdlib only UTF-8."""
    names = [name for _, folders, files in os.walk(os.fsencode(tree)) for name in [*folders, *files]]
    utf8 = all(name.decode(errors="replace").encode() == name for name in names)
    return not re.search(b"[\r\n]", b"".join(names)) and (utf8 or not served_by_pyftpdlib(transfers))


@on(*FTP)
@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("a\nb", True),
        ("a\rb", True),
        ("a\r\nb", False),
        ("a\r\ntype=file;size=4; other", False),
        ("a\r\n-rw-r--r--    1 0        0               4 Nov 29 19:19 other", False),
    ],
)
def test_a_line_end_in_a_name_hides_no_file(served, name, arrives):
    """A file name with a line end fails the transfer, corrupts no other file, and no extra file is deleted."""
    transfers, root, here = served
    for other in ("a", "other", name):
        (root / other).write_text(f"in {other}")
    (here / "got").mkdir()
    (here / "got" / "extra").write_text("stays")
    status = move(transfers, "there", "here", "/", dst_path="/got", recursive=True, delete_destination_extra=True)
    assert status.state is TaskState.FAILED
    kept = {b"a": b"in a", b"other": b"in other"} if arrives else {}
    assert files_of(here / "got") == {b"extra": b"stays", **kept}


def served_by_pyftpdlib(transfers):
    """Whether an FTP server is pyftpdlib; the paths of vsftpd are those of the machine."""
    return transfers.backend._place("there").store().root.startswith("/data")


def test_what_is_there_is_replaced(served):
    """A file that is copied again replaces the old file and leaves no other file."""
    transfers, root, here = served
    for content in ("one", "two, and longer", ""):
        (here / "f").write_text(content)
        assert move(transfers, "here", "there", "/f").state is TaskState.SUCCEEDED
        assert files_of(root) == {b"f": content.encode()}


@on("pyftpdlib-windows")
def test_the_old_file_is_kept_where_the_new_one_cannot_be_put_in_place(served):
    """If a rename does not replace, the old file is moved aside, and moved back if the new file cannot be renamed."""
    transfers, root, here = served
    (here / "f").write_text("new")
    (root / "f").write_text("old")
    filesystem = transfers.backend._place("there").store().filesystem
    known, names = filesystem.mv, []

    def failing(old, new):
        names.append((old, new))
        if len(names) == 3:
            raise ConnectionResetError
        known(old, new)

    filesystem.mv = failing
    status = move(transfers, "here", "there", "/f")
    # The retry succeeds.
    assert (status.state, status.faults) == (TaskState.SUCCEEDED, 1)
    assert names[3] == names[1][::-1]
    assert files_of(root) == {b"f": b"new"}


NAMES = ["a%20b", "50%", "a#b", "a?b", "%2e%2e", "a;b", "a:b", "é", "e\u0301", " x ", "a+b&c", "~"]


def test_a_name_is_kept_or_refused(served):
    """A file keeps its name on the server, or the transfer fails and leaves no file under another name."""
    transfers, root, here = served
    # Existing files under the names that a server could make of the odd names.
    others = {b"a b": b"other", b"a": b"other", b"..x": b"other"}
    for name in others:
        (root / os.fsdecode(name)).write_text("other")
    for name, text in itertools.product(NAMES, ("one", "two")):
        (here / name).write_text(text)
        status = move(transfers, "here", "there", f"/{name}")
        found = files_of(root)
        if status.state is TaskState.SUCCEEDED:
            assert found.pop(os.fsencode(name)) == text.encode()
            assert move(transfers, "there", "here", f"/{name}", dst_path="/back").state is TaskState.SUCCEEDED
            assert (here / "back").read_text() == text
            (root / name).unlink()
        else:
            assert "under another name" in status.reason
        assert found == others, name


@on("pyftpdlib")
def test_a_folder_that_gets_another_name_is_refused(served):
    """A folder that the server would create under another name fails and leaves nothing."""
    transfers, root, here = served
    os.mkdir(os.path.join(os.fsencode(here), b"caf\xe9"))
    with open(os.path.join(os.fsencode(here), b"caf\xe9", b"f"), "w") as file:
        file.write("x")
    status = move(transfers, "here", "there", "/", dst_path="/d", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert os.listdir(root / "d") == []


@on(*FTP)
def test_a_root_is_named_as_what_is_in_it(served):
    """The name of a root on an FTP server is sent in UTF-8, like the names of the files in it."""
    transfers, root, here = served
    (root / "caf\u00e9").mkdir()
    (root / "caf\u00e9").chmod(0o777)
    (here / "caf\u00e9").write_text("data")
    settings = {**transfers.settings, "url": f"{transfers.settings['url']}/caf\u00e9"}
    endpoints = {"there": settings, "here": {"url": str(here)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    status = move(transfers, "here", "there", "/caf\u00e9")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_of(root) == {os.fsencode("caf\u00e9/caf\u00e9"): b"data"}


@on(*FTP)
def test_files_go_both_ways_at_once(served):
    """Concurrent transfers from, to and within one FTP server do not interfere with each other."""
    transfers, root, here = served
    states = []
    for number in range(4):
        (root / f"down{number}").write_bytes(bytes([number]) * 1_000_000)
        (here / f"up{number}").write_bytes(bytes([number + 10]) * 1_000_000)
        (root / f"in{number}").write_bytes(bytes([number + 20]) * 1_000_000)

    def one(source, target, name):
        states.append(move(transfers, source, target, f"/{name}", dst_path=f"/got/{name}").state)

    ways = [("there", "here", "down"), ("here", "there", "up"), ("there", "there", "in")]
    threads = [threading.Thread(target=one, args=(*way[:2], f"{way[2]}{n}")) for way in ways for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert states == [TaskState.SUCCEEDED] * 12
    for number in range(4):
        assert (here / "got" / f"down{number}").read_bytes() == (root / f"down{number}").read_bytes()
        assert (root / "got" / f"up{number}").read_bytes() == (here / f"up{number}").read_bytes()
        assert (root / "got" / f"in{number}").read_bytes() == (root / f"in{number}").read_bytes()


@on(*FTP)
def test_a_connection_that_the_server_has_ended_is_made_again(served):
    """An idle connection that the server has closed is replaced by a new connection."""
    transfers, _, here = served
    (here / "f").write_text("x")
    assert move(transfers, "here", "there", "/f").state is TaskState.SUCCEEDED
    for _, ftp in transfers.backend._place("there").store().filesystem._idle:
        ftp.sock.shutdown(2)
    assert move(transfers, "there", "here", "/f", dst_path="/g").state is TaskState.SUCCEEDED
    assert (here / "g").read_text() == "x"


@on("apache-dav")
def test_what_a_webdav_server_keeps_compressed_arrives_as_it_is_kept(served):
    """A file that the server marks as encoded is copied without decoding."""
    transfers, root, here = served
    stored = gzip.compress(b"text" * 100_000)
    (root / "t.csv.gz").write_bytes(stored)
    assert move(transfers, "there", "here", "/t.csv.gz").state is TaskState.SUCCEEDED
    assert (here / "t.csv.gz").read_bytes() == stored


def test_a_tree_is_deleted(served):
    """Deleting a tree on a server deletes its contents, including hidden files, and nothing beside it."""
    transfers, root, here = served
    for name in ("d/a", "d/e/.b", "d/e/c d", "beside"):
        (here / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "t" / name).write_text(name)
    assert move(transfers, "here", "there", "/t", recursive=True).state is TaskState.SUCCEEDED
    request = delete_request(src_ep="there", src_path="/t/d", recursive=True)
    status = transfers.run(request, timeout=60, polling_interval=1)
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_of(root) == {b"t/beside": b"beside"}
    assert not (root / "t" / "d").exists()


@pytest.fixture
def outside(served):
    """A folder beside the root on a server, with a file."""
    folder = served[1].parent / uuid.uuid4().hex
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "secret").write_text("secret")
    yield folder
    assert files_of(folder) == {b"secret": b"secret"}
    shutil.rmtree(folder)


def planted(folder, outside):
    """Make a folder with a file and links: to a folder, to files, to nothing."""
    (folder / "f").parent.mkdir(exist_ok=True)
    folder.chmod(0o777)
    (folder / "f").write_text("data")
    targets = {"l": outside, ".l": outside, "file": outside / "secret", "no": "nowhere"}
    for name, target in targets.items():
        (folder / name).symlink_to(target)


@on(*FTP)
def test_a_link_on_an_ftp_server_leads_nowhere(served, outside):
    """Reading, listing or writing through a link on an FTP server fails, and a link in a tree is skipped."""
    transfers, root, here = served
    planted(root / "d", outside)
    (here / "new").write_text("new")
    for path in ("/d/file", "/d/l/secret", "/d/.l/secret"):
        status = move(transfers, "there", "here", path, dst_path="/got")
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert move(transfers, "there", "here", "/d/l", dst_path="/got", recursive=True).code == "PERMISSION_DENIED"
    assert move(transfers, "here", "there", "/new", dst_path="/d/l/new").code == "PERMISSION_DENIED"
    with pytest.raises(PermissionDeniedError):
        transfers.ls("there", "/d/l")
    status = move(transfers, "there", "here", "/d", dst_path="/got", recursive=True)
    assert (status.state, status.files_skipped) == (TaskState.SUCCEEDED, 4)
    assert files_of(here / "got") == {b"f": b"data"}


@on(*FTP)
def test_a_link_on_an_ftp_server_is_deleted_without_its_target(served, outside):
    """A deletion and a mirror on an FTP server delete links, and nothing through them."""
    transfers, root, here = served
    for name in ("d", "e", "p"):
        planted(root / name, outside)
    (here / "e").mkdir()
    status = move(transfers, "here", "there", "/e", recursive=True, delete_destination_extra=True)
    assert (status.state, os.listdir(root / "e")) == (TaskState.SUCCEEDED, []), status.reason
    for options in ({"src_path": "/d"}, {"src_path": "/p*", "globs": True}):
        request = delete_request(src_ep="there", recursive=True, **options)
        status = transfers.run(request, timeout=60, polling_interval=1)
        assert status.state is TaskState.SUCCEEDED, status.reason
    assert os.listdir(root) == ["e"]


@on(*FTP)
def test_a_link_that_an_ftp_server_lists_ambiguously_is_not_followed(served, outside):
    """If a listing does not tell which of two entries is a link, nothing is read or deleted."""
    transfers, root, _ = served
    planted(root / "d", outside)
    (root / "d" / "l").unlink()
    (root / "d" / "l").mkdir()
    (root / "d" / "l -> l").symlink_to(outside)
    status = move(transfers, "there", "here", "/d", dst_path="/got", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    request = delete_request(src_ep="there", src_path="/d", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).code == "INVALID_PATH_NAME"
    assert (root / "d" / "f").exists()


def named_again(settings, how):
    """Return the settings of folder ``a`` in an endpoint, by another URL, host name, login or option."""
    url, options = f"{settings['url'].rstrip('/')}/a", settings.get("options", {})
    base = options.get("base_url")
    if how == "host" and base:
        options = {"base_url": base.replace("127.0.0.1", "localhost")}
    elif how == "host":
        url = url.replace("127.0.0.1", "localhost")
    elif how == "login" and base:
        options = {**options, "auth": {"env": "NO_SUCH_SECRET"}}
    elif how == "login":
        url = url.replace("127.0.0.1", "anonymous:x@127.0.0.1")
    elif how == "option":
        options = {**options, "timeout": 60}
    elif how == "base" and base:
        url, options = "webdav://", {"base_url": f"{base}/{url.partition('://')[2]}/"}
    return {"url": url, "options": options}


@on(*FTP, *DAV)
@pytest.mark.parametrize("how", ["same", "host", "login", "option", "base"])
def test_the_root_of_another_endpoint_on_a_server_is_not_deleted(served, how):
    """The root of another endpoint on a server is neither deleted nor copied into itself, however it is named."""
    transfers, root, here = served
    settings = transfers.settings
    down = (
        {"url": "ftp://127.0.0.1:1/a"}
        if "ftp" in settings["url"]
        else {"url": "webdav://", "options": {"base_url": "http://127.0.0.1:1/"}}
    )
    endpoints = {"there": settings, "other": named_again(settings, how), "down": down, "here": {"url": str(here)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "f").write_text("data")
    for folder in ("a", "a/b"):
        (root / folder).chmod(0o777)
    (here / "empty").mkdir()
    request = delete_request(src_ep="there", src_path="/a", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).code == "PERMISSION_DENIED"
    told = {"dst_path": "/", "recursive": True, "delete_destination_extra": True}
    assert move(transfers, "here", "there", "/empty", **told).code == "PERMISSION_DENIED"
    assert files_of(root) == {b"a/f": b"data"}
    request = delete_request(src_ep="there", src_path="/a/b", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    # Another login may see other files.
    if how != "login":
        assert move(transfers, "there", "other", "/", dst_path="/b", recursive=True).code == "INVALID_PATH_NAME"


@on("wsgidav")
def test_names_are_tried_once_for_a_store_and_not_for_each_file(served):
    """A server's support for a kind of odd name is checked once; the next such file needs no more requests."""
    transfers, _, here = served
    with BadWire(str(transfers.backend._place("there").store().filesystem.client.base_url)) as line:
        backend = FilesystemBackend.from_config(
            {"there": {"url": "webdav://", "options": {"base_url": line.url}}, "here": {"url": str(here)}}, {}
        )
        transfers = Transfers(backend)

        def requests(name):
            (here / name).write_text(name)
            before = len(line.asked)
            assert move(transfers, "here", "there", f"/{name}").state is TaskState.SUCCEEDED
            return len(line.asked) - before

        first, plain, odd, *others = [requests(name) for name in ("plain", "two", "a b", "c d", "e f g", " h")]
        assert others[:2] == [plain, plain]
        assert max(first, odd, others[2]) <= plain + 6
