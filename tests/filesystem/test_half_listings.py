"""Incomplete listings from FTP and WebDAV servers are errors, and a mirror removes nothing after them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from fileservers import VSFTPD
from liars import Liar, document
from waiting import until
from webservers import answers, files_of, free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

NOBODY = 65534


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def mirrored(settings, folder):
    """Mirror the folder ``d`` of a server to a folder with an extra file; return the status and the files there."""
    (folder / "got").mkdir()
    (folder / "got" / "extra").write_text("stays")
    told = {"there": settings, "here": {"url": str(folder)}}
    places = {name: place_of(name, place) for name, place in told.items()}
    transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
    options = {"recursive": True, "delete_destination_extra": True}
    request = transfer_request(src_ep="there", dst_ep="here", src_path="/d", dst_path="/got", **options)
    status = transfers.run(request, timeout=30, polling_interval=1)
    transfers.backend.close()
    return status, files_of(folder / "got")


@pytest.fixture
def vsftpd(tmp_path):
    """A vsftpd that does not run as root: its folder, and the settings of its endpoint."""
    found = shutil.which("vsftpd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("There is no vsftpd here; install the package of that name.")
    with tempfile.TemporaryDirectory() as top:
        root, port = Path(top, "served"), free_port()
        root.mkdir()
        settings = Path(top, "settings")
        settings.write_text(VSFTPD.format(port=port, root=root, folder=top))
        for place in (Path(top), root):
            place.chmod(0o555)
        as_whom = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if not os.geteuid() else {}
        if as_whom:
            os.chown(settings, NOBODY, NOBODY)
        with subprocess.Popen([found, str(settings)], stdout=subprocess.DEVNULL, **as_whom) as started:
            until(lambda: answers(port) or started.poll() is not None)
            assert started.poll() is None
            yield root, {"url": f"ftp://127.0.0.1:{port}{root}"}
            started.terminate()
        Path(top).chmod(0o755)
        root.chmod(0o755)


@pytest.mark.parametrize("place", ["d", "d/sub"])
def test_a_folder_that_vsftpd_may_not_read_is_not_empty(vsftpd, tmp_path, place):
    """A folder that the server can enter but not list is an error, although the server reports an empty listing."""
    root, settings = vsftpd
    root.chmod(0o755)
    (root / place).mkdir(parents=True)
    (root / place / "f").write_text("data")
    (root / place).chmod(0o311)
    if os.geteuid() == 0:
        os.chown(root / place, NOBODY, NOBODY)
    root.chmod(0o555)
    status, left = mirrored(settings, tmp_path)
    (root / place).chmod(0o755)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert left == {b"extra": b"stays"}


def found(*responses):
    """Return the response to PROPFIND, from pairs of a path and its status, which can be empty."""
    body = "".join(
        f"<D:response><D:href>{href}</D:href>"
        + (f"<D:status>HTTP/1.1 {status}</D:status>" if status else PROPERTIES[href.endswith("/")])
        + "</D:response>"
        for href, status in responses
    )
    whole = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{body}</D:multistatus>'.encode()
    return 207, {"Content-Length": str(len(whole)), "Content-Type": "application/xml"}, [whole]


#: The properties of a file and of a folder.
PROPERTIES = [
    f"<D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype><D:getcontentlength>4</D:getcontentlength></D:prop>"
    "<D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
    for kind in ("", "<D:collection/>")
]
HERE, A = ("/d/", ""), ("/d/a", "")


def from_webdav(folder, responses):
    """Mirror a folder ``d`` that a server lists like this; return the status and the files."""
    told = {"/d": responses, "/d/": responses, "/d/a": (A,), "/": (("/", ""), HERE)}

    def answer(method, path):
        return found(*told.get(path, ())) if method == "PROPFIND" else document(b"data")

    with Liar(answer) as server:
        return mirrored({"url": "webdav://", "options": {"base_url": server.url()}}, folder)


@pytest.mark.parametrize(
    "responses",
    [
        (HERE, A, ("/d/", "507 Insufficient Storage")),
        (("/d/", "507 Insufficient Storage"), HERE, A),
        (HERE, A, ("/other/a", "")),
        (HERE, ("/d/sub/a", "")),
        (HERE, A, ("/d/sub%2Fa", "")),
        (HERE, A, ("/d/%2e%2e/a", "")),
    ],
    ids=["cut", "cut first", "elsewhere", "deeper", "slash in a name", "upwards"],
)
def test_what_a_webdav_server_does_not_list_whole_is_an_error(tmp_path, responses):
    """A listing that is marked as truncated or names paths outside the folder is an error and removes nothing."""
    status, left = from_webdav(tmp_path, responses)
    assert status.state is TaskState.FAILED
    assert left == {b"extra": b"stays"}


def test_what_a_webdav_server_lists_whole_is_mirrored(tmp_path):
    """With a complete listing, the files are copied and the extra file is removed."""
    status, left = from_webdav(tmp_path, (HERE, A))
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert left == {b"a": b"data"}
