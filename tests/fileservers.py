"""Real FTP and WebDAV servers on ports of the loopback, each serving a folder."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates import certificate_for
from waiting import until
from webservers import answers, free_port, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PYFTPDLIB = """
import os, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import MultiprocessFTPServer

class Groups(AbstractedFS):
    def get_group_by_gid(self, gid):
        return "domain users"

class Windows(Groups):
    def rename(self, src, dst):
        if os.path.exists(dst):
            raise FileExistsError(17, "Cannot create a file when that file already exists")
        super().rename(src, dst)

root, port, kind = sys.argv[1:]
users = DummyAuthorizer()
users.add_user("me@site", "s\u00e9same", root, perm="elradfmwMT")
if kind != "private":
    users.add_anonymous(root, perm="elradfmwMT")
FTPHandler.authorizer = users
FTPHandler.auth_failed_timeout = 0
FTPHandler.abstracted_fs = Windows if kind == "windows" else Groups
if kind == "old":
    FTPHandler.proto_cmds = {name: it for name, it in FTPHandler.proto_cmds.items() if name not in ("MLSD", "MLST")}
# Not the one with threads: ftp_CWD changes the folder of the process for a moment. Two at once may leave it in one that
# a test removes; then os.getcwd fails in each CWD after that, and ends its session.
MultiprocessFTPServer(("127.0.0.1", int(port)), FTPHandler).serve_forever()
"""

VSFTPD = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
run_as_launching_user=YES
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
connect_from_port_20=NO
seccomp_sandbox=NO
secure_chroot_dir={folder}
"""

#: Settings for encryption; by default, vsftpd requires that data connections resume the TLS session.
VSFTPD_TLS = """
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=YES
force_anon_logins_ssl={forced}
implicit_ssl={implicit}
rsa_cert_file={certificate}
rsa_private_key_file={key}
ssl_ciphers=HIGH
"""


def close_at_exit(ends: ExitStack) -> None:
    """Stop servers when this process ends; a child made by ``fork`` leaves them to its parent."""
    process = os.getpid()
    atexit.register(lambda: ends.close() if os.getpid() == process else None)


@contextmanager
def running(words: list[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a server during the block, which starts once the server listens on the port."""
    # Not a pipe, which would fill up: pyftpdlib logs every file.
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, env=env) as started,
    ):
        until(lambda: answers(port) or started.poll() is not None)
        assert started.poll() is None, said.seek(0) or said.read().decode()
        try:
            yield
        finally:
            started.terminate()


def _needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"There is no {module} here; it is in the dependency group test.")


@contextmanager
def ftp_server(root: str, kind: str = "plain", port: int | None = None) -> Iterator[str]:
    """Serve an existing folder with pyftpdlib, and yield its URL; ``private`` is without anonymous users."""
    _needs("pyftpdlib")
    port = port or free_port()
    with running([sys.executable, "-c", PYFTPDLIB, root, str(port), kind], port):
        yield f"ftp://127.0.0.1:{port}/"


@contextmanager
def _ftp(kind: str) -> Iterator[tuple[dict[str, Any], Path]]:
    with tempfile.TemporaryDirectory() as top:
        root, port = Path(top, "served"), free_port()
        (root / "data").mkdir(parents=True)
        options: dict[str, Any] = {}
        if kind.startswith("vsftpd"):
            found = shutil.which("vsftpd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
            if found is None:
                pytest.skip("There is no vsftpd here; install the package of that name.")
            settings = Path(top, "settings")
            told = VSFTPD.format(port=port, root=root, folder=top)
            if kind != "vsftpd":
                certificate, key = certificate_for("localhost", Path(top))
                forced, implicit = ("NO", "YES") if kind == "vsftpd-implicit" else ("YES", "NO")
                told += VSFTPD_TLS.format(forced=forced, implicit=implicit, certificate=certificate, key=key)
                options = {"tls": "tls" if kind == "vsftpd-implicit" else True, "verify": str(certificate)}
            settings.write_text(told)
            words = [found, str(settings)]
        else:
            _needs("pyftpdlib")
            words = [sys.executable, "-c", PYFTPDLIB, str(root), str(port), kind]
        # vsftpd refuses a world-writable root.
        root.chmod(0o555)
        (root / "data").chmod(0o777)
        with running(words, port):
            # vsftpd cannot use chroot as an ordinary user.
            above = root if kind.startswith("vsftpd") else ""
            yield {"url": f"ftp://127.0.0.1:{port}{above}/data/", "options": options}, root / "data"
        with suppress(FileNotFoundError):
            root.chmod(0o755)


@contextmanager
def _wsgidav() -> Iterator[tuple[dict[str, Any], Path]]:
    _needs("wsgidav")
    _needs("webdav4")
    with tempfile.TemporaryDirectory() as root:
        port = free_port()
        script = "from wsgidav.server.server_cli import run; run()"
        words = [sys.executable, "-c", script, "--host", "127.0.0.1", "-p", str(port), "-r", root]
        with running([*words, "--auth", "anonymous", "-q"], port):
            yield {"url": "webdav://", "options": {"base_url": f"http://127.0.0.1:{port}"}}, Path(root)


@contextmanager
def _apache() -> Iterator[tuple[dict[str, Any], Path]]:
    _needs("webdav4")
    with web_server("apache-dav") as (url, root):
        yield {"url": "webdav://", "options": {"base_url": url}}, root


#: The kinds of servers, all of them writable.
SERVERS = {
    "pyftpdlib": lambda: _ftp("plain"),
    "pyftpdlib-windows": lambda: _ftp("windows"),
    "pyftpdlib-old": lambda: _ftp("old"),
    "vsftpd": lambda: _ftp("vsftpd"),
    "vsftpd-tls": lambda: _ftp("vsftpd-tls"),
    "vsftpd-implicit": lambda: _ftp("vsftpd-implicit"),
    "wsgidav": _wsgidav,
    "apache-dav": _apache,
}


#: Servers that run until the end of the tests, each with its endpoint and its folder.
_started: dict[str, tuple[dict[str, Any], Path]] = {}
_ends = ExitStack()
close_at_exit(_ends)


@contextmanager
def file_server(kind: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield the settings of an endpoint and its new folder; start the server once, and skip without it."""
    if kind not in _started:
        _started[kind] = _ends.enter_context(SERVERS[kind]())
    settings, root = _started[kind]
    name = uuid.uuid4().hex
    folder = root / name
    folder.mkdir()
    # Some servers run as another user.
    folder.chmod(0o777)
    yield {**settings, "url": f"{settings['url']}{name}"}, folder
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
