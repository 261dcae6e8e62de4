"""Connections to FTP servers: certificates, logins, retries, and servers that do not reply as they should."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest
from certificates import certificate_for
from fileservers import file_server, ftp_server
from webservers import free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


def fetched(settings, here, pause=lambda *_: None):
    """Copy the file ``f`` from a server; ``pause`` is called before each retry."""
    endpoints = {"there": settings, "here": {"url": str(here)}}
    transfers = Transfers(
        FilesystemBackend({name: place_of(name, told) for name, told in endpoints.items()}, pause=pause)
    )
    request = transfer_request(src_ep="there", dst_ep="here", src_path="/f", dst_path="/got")
    return transfers.run(request, timeout=60, polling_interval=1)


@contextmanager
def listening(answer, port=0):
    """Pass each connection to a function, on a port of the loopback."""

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    answer(connection)

    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake the thread.
            server.shutdown(socket.SHUT_RDWR)
            thread.join(60)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_server_without_a_valid_certificate_learns_no_password(tmp_path, monkeypatch, implicit, trusted):
    """A certificate that is unknown, or of another host, ends the connection before the login."""
    monkeypatch.setenv("PW", "secret")
    certificate, key = certificate_for("other.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    received = []

    def answer(connection):
        if not implicit:
            connection.sendall(b"220 Hello\r\n")
            received.append(connection.recv(1000))
            connection.sendall(b"234 Begin\r\n")
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(b"220 Hello\r\n")
            received.append(secure.recv(1000))

    with listening(answer) as port:
        options = {"tls": "tls" if implicit else True, "username": "me", "password": {"env": "PW"}}
        if trusted:
            options["verify"] = str(certificate)
        status = fetched({"url": f"ftp://127.0.0.1:{port}/", "options": options}, tmp_path)
    assert (status.state, status.code) == (TaskState.FAILED, "CONNECT_FAILED")
    assert "The certificate of the FTP server is not trusted (" in status.reason
    assert "write verify: with the path of a file" in status.reason
    assert set(received) <= {b"AUTH TLS\r\n"}


def test_a_certificate_need_not_be_valid_if_the_settings_say_so(tmp_path):
    """With ``verify: false``, any certificate is accepted."""
    with file_server("vsftpd-tls") as (settings, root):
        (root / "f").write_text("data")
        options = {**settings["options"], "verify": False}
        assert fetched({**settings, "options": options}, tmp_path).state is TaskState.SUCCEEDED


@pytest.mark.parametrize("busy", [False, True])
def test_a_server_that_is_not_there_yet_is_tried_again(tmp_path, busy):
    """A server that refuses connections, or has too many, is tried again, as in any later step."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "f").write_text("data")
    with ExitStack() as ends:
        full, port = ExitStack(), free_port()
        if busy:
            full.enter_context(listening(lambda one: one.sendall(b"421 Too many connections\r\n"), port))

        def pause(*_):
            full.close()
            if not started:
                started.append(ends.enter_context(ftp_server(str(tmp_path / "served"), port=port)))

        started = []
        status = fetched({"url": f"ftp://127.0.0.1:{port}/"}, tmp_path, pause)
        assert (status.state, status.faults) == (TaskState.SUCCEEDED, 1), status.reason
        assert (tmp_path / "got").read_text() == "data"


def silent(connection):
    """Send nothing."""
    connection.recv(1)


def endless(connection):
    """Send a greeting that never ends."""
    while True:
        connection.sendall(b"220-Welcome\r\n")


@pytest.mark.parametrize("answer", [silent, endless])
def test_a_server_that_never_ends_its_greeting_is_given_up(tmp_path, answer):
    """A server whose greeting does not arrive, or does not end, fails the transfer after its option ``timeout``."""
    with listening(answer) as port:
        status = fetched({"url": f"ftp://127.0.0.1:{port}/", "options": {"timeout": 0.2}}, tmp_path)
    assert (status.state, status.code) == (TaskState.FAILED, "TIMEOUT"), status.reason


def test_a_user_name_and_a_password_may_have_any_characters(tmp_path, monkeypatch):
    """A user name is unquoted in a URL, and sent in UTF-8 as the password is."""
    monkeypatch.setenv("PW", "s\u00e9same")
    (tmp_path / "f").write_text("data")
    with ftp_server(str(tmp_path), "private") as url:
        options = {"password": {"env": "PW"}}
        assert fetched({"url": url.replace("//", "//me%40site@"), "options": options}, tmp_path).files_done == 1
        options["username"] = "me@site"
        assert fetched({"url": url, "options": options}, tmp_path).files_done == 1


LOGINS = [
    ("private", {}, "PERMISSION_DENIED", "rejected the login (reply 530); it was anonymous; write the options"),
    ("private", {"username": "me@site"}, "PERMISSION_DENIED", "rejected the login (reply 530); check the options user"),
    ("private", {"tls": True}, "CONNECT_FAILED", "does not offer TLS (reply 500); remove the option tls."),
    ("private", {"tls": "tls"}, "CONNECT_FAILED", "if the server expects explicit TLS, write tls: true."),
]


@pytest.mark.parametrize(("kind", "options", "code", "words"), LOGINS)
def test_a_rejected_login_is_explained(tmp_path, kind, options, code, words):
    """If a server rejects a login, the error names the reply and the option to change."""
    with ftp_server(str(tmp_path), kind) as url:
        status = fetched({"url": url, "options": options}, tmp_path)
    assert (status.state, status.code) == (TaskState.FAILED, code)
    assert words in status.reason


def test_a_server_that_requires_encryption_is_told_apart(tmp_path):
    """If a server refuses a login without encryption, the error names the option ``tls``."""
    with file_server("vsftpd-tls") as (settings, _):
        status = fetched({"url": settings["url"]}, tmp_path)
    assert (status.code, "write tls: true as an option" in status.reason) == ("PERMISSION_DENIED", True), status.reason


def test_what_is_no_ftp_server_is_named(tmp_path):
    """A host that does not exist, or a server of another protocol, is named as such."""
    status = fetched({"url": "ftp://no-such-host.invalid/"}, tmp_path)
    assert "o host is named no-such-host.invalid" in status.reason or "could not be reached" in status.reason
    with listening(lambda one: one.sendall(b"* OK IMAP4 ready\r\n")) as port:
        status = fetched({"url": f"ftp://127.0.0.1:{port}/"}, tmp_path)
    assert "127.0.0.1 does not answer as an FTP server does; check host and port" in status.reason
