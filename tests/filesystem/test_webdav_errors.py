"""What a WebDAV server refuses: the code, and a sentence that says what to do."""

from __future__ import annotations

import base64

import pytest
from badwires import BadWire
from fileservers import file_server
from webservers import files_of, free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


def sent(base_url, here, **options):
    """Copy the file ``f`` to a server; retries start at once."""
    there = {"url": "webdav://", "options": {"base_url": base_url, **options}}
    endpoints = {"there": there, "here": {"url": str(here)}}
    places = {name: place_of(name, told) for name, told in endpoints.items()}
    transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
    request = transfer_request(src_ep="here", dst_ep="there", src_path="/f", dst_path="/f")
    return transfers.run(request, timeout=60, polling_interval=1)


@pytest.fixture
def dav(tmp_path, monkeypatch):
    """The URL of a WebDAV server, its folder, and a folder with a file to send."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "f").write_text("data")
    with file_server("wsgidav") as (settings, root):
        yield f"{settings['options']['base_url']}/{root.name}/", root, tmp_path


STATUSES = [
    (401, "PERMISSION_DENIED", "denied the login for /", "check the option auth"),
    (403, "PERMISSION_DENIED", "denied access to /", "check the user's permissions"),
    (413, "LIMIT_EXCEEDED", "accepts no file of this size", "(status 413)"),
    (423, "ENDPOINT_ERROR", "has locked /", "run it again when the lock has ended"),
    (507, "NO_SPACE_LEFT", "has no room in /", "make room there"),
    (503, "ENDPOINT_ERROR", "cannot serve /", "now (status 503)"),
]


@pytest.mark.parametrize("method", ["PUT", "PROPFIND", "MOVE"])
@pytest.mark.parametrize(("status", "code", "words", "cure"), STATUSES)
def test_a_refused_request_is_explained(dav, method, status, code, words, cure):
    """Each status that refuses a request has its code and sentence, and only a busy server is tried again."""
    url, root, here = dav

    def refuse(handler, body):
        if handler.command != method:
            return body
        handler.refuse(status, "Refused")
        return None

    with BadWire(url, refuse) as wire:
        ended = sent(wire.url + "/" + root.name, here)
    assert (ended.state, ended.code) == (TaskState.FAILED, code), ended.reason
    assert words in ended.reason
    assert cure in ended.reason
    assert ".chiltepin" not in ended.reason
    assert (ended.faults > 1) is (status == 503)
    assert files_of(root) == {}


def test_a_busy_server_is_tried_again(dav):
    """A server that is busy for a moment gets the file at the next attempt."""
    url, root, here = dav
    refused = []

    def refuse(handler, body):
        if handler.command != "PUT" or refused:
            return body
        refused.append(handler.path)
        handler.refuse(503, "Busy")
        return None

    with BadWire(url, refuse) as wire:
        ended = sent(wire.url + "/" + root.name, here)
    assert (ended.state, ended.faults) == (TaskState.SUCCEEDED, 1), ended.reason
    assert files_of(root) == {b"f": b"data"}


def test_a_login_is_sent_as_the_settings_say(dav):
    """A list of a user name and a password is sent as a login."""
    url, root, here = dav
    received = set()

    def note(handler, body):
        received.add(handler.headers["Authorization"])
        return body

    with BadWire(url, note) as wire:
        sent(wire.url + "/" + root.name, here, auth=["me", "secret"])
    assert received == {f"Basic {base64.b64encode(b'me:secret').decode()}"}


def test_a_server_that_is_not_there_is_named(tmp_path, monkeypatch):
    """A server that cannot be reached is named, with the reason, and tried again."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "f").write_text("data")
    ended = sent(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert (ended.code, ended.faults) == ("CONNECT_FAILED", 6)
    assert "the WebDAV server 127.0.0.1 could not be reached (Connection refused); check base_url" in ended.reason
