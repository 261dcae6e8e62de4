"""OpenSSH as the transport of SFTP: its command line, and the meaning of its messages.

OpenSSH handles encryption, keys and host keys: what works with the command ``ssh`` works here, with the same
``~/.ssh/config``, agent, jump hosts and shared connections. It never prompts.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache, cached_property
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from chiltepin.backends import forks
from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault
from chiltepin.backends.filesystem.stores.same_server import same_host
from chiltepin.backends.filesystem.stores.sftp.ciphers import QUICK, in_hardware
from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["OpenSSH"]

#: Options that override the user's settings, because ssh uses the first value (ssh_config(5)): no prompts, no unknown
#: hosts, no forwarding, and a server that has gone is noticed within a minute.
_ALWAYS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    # Use a shared connection, but never become its master: ours ends with this process.
    "ControlMaster": "no",
    "LogLevel": "ERROR",
}

#: Defaults, unless the options of the endpoint set them.
_USUALLY = {"ConnectTimeout": "30", "ServerAliveInterval": "15", "ServerAliveCountMax": "4"}

_SECRETS = ("passphrase", "password")
_KNOWN = (
    "connections",
    "key_filename",
    "known_hosts",
    "port",
    "silence",
    "ssh_config",
    "ssh_options",
    "username",
    *_SECRETS,
)

#: The askpass script: answers ssh's prompts for a password or passphrase from its environment, and no other prompt.
_ANSWER = """#!/bin/sh
case "$1" in
*assphrase*) [ -n "$CHILTEPIN_SSH_PASSPHRASE" ] && printf '%s\\n' "$CHILTEPIN_SSH_PASSPHRASE" ;;
*assword*) [ -n "$CHILTEPIN_SSH_PASSWORD" ] && printf '%s\\n' "$CHILTEPIN_SSH_PASSWORD" ;;
*) exit 1 ;;
esac
"""


#: Seconds for ssh to print its settings, without a connection.
_TELLING = 10.0

#: Bytes shown of output that is not a reply.
_SHOWN = 120

#: ssh's error for a host, perhaps a jump host, whose address it cannot find.
_UNKNOWN_HOST = re.compile(r"Could not resolve hostname ([^\s:]+)")

#: Capacity in bytes of a pipe to ssh, where it can be set.
_PIPE = 1 << 20


class OpenSSH:
    """The connection to a server, ``sftp://user@host:port/path``; for the options see `docs/howto/sftp.md`.

    A host may be an alias in ``~/.ssh/config``. A path that begins with ``/~/`` is relative to the login folder. An
    unknown option, or a URL without a host, raises ConfigError.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url, parts = url, urlsplit(url)
        for option in options:
            if option not in _KNOWN:
                raise ConfigError(f"SFTP has no option {option!r}; {suggest(option, _KNOWN)}")
        if parts.password:
            raise ConfigError(
                "An SFTP URL must not contain a password; write sftp://user@host/path, and use a key or password: "
                "{env: NAME}."
            )
        self.host = parts.hostname or ""
        # ssh would parse the host as an option, or a part of one.
        if not self.host or self.host.startswith("-"):
            raise ConfigError("An SFTP URL needs a host; write one such as 'sftp://user@host/folder'.")
        self.user = unquote(parts.username or "") or str(options.get("username", ""))
        self.port = int(parts.port or options.get("port", 0))
        # Not urlsplit's path: a folder of the server may have "?" or "#" in its name.
        path = url.partition("://")[2].removeprefix(parts.netloc)
        self.path = path.removeprefix("/~/") if path.startswith("/~/") else path or "/"
        self.connections = max(1, int(options.get("connections", 4)))
        #: Seconds without any reply to a request before the connection is given up.
        self.response_timeout = float(options.get("silence", 120))
        self.options = dict(options)

    @property
    def command(self) -> list[str]:
        """The ssh command line, without the host and what to run there."""
        words = ["ssh"]
        if config := self.options.get("ssh_config"):
            words += ["-F", str(config)]
        for key in self._keys:
            words += ["-i", key]
        said = dict(self.options.get("ssh_options", {}))
        if known_hosts := self.options.get("known_hosts"):
            said["UserKnownHostsFile"] = known_hosts
        if self.user:
            said["User"] = self.user
        if self.port:
            said["Port"] = self.port
        # ssh prompts in neither case: with a secret, the askpass script answers.
        always = _ALWAYS | ({"BatchMode": "no", "NumberOfPasswordPrompts": "1"} if self._secrets() else {})
        for name, value in (always | {k: v for k, v in (_USUALLY | said).items() if k not in always}).items():
            words += ["-o", f"{name}={value}"]
        return words

    def _typed(self, *further: str) -> str:
        """Return the command for a user to try the same connection."""
        words = ["ssh", *further]
        if config := self.options.get("ssh_config"):
            words += ["-F", str(config)]
        for key in self._keys:
            words += ["-i", key]
        if known_hosts := self.options.get("known_hosts"):
            words += ["-o", f"UserKnownHostsFile={known_hosts}"]
        if self.port:
            words += ["-p", str(self.port)]
        return shlex.join([*words, f"{self.user}@{self.host}" if self.user else self.host])

    @property
    def _keys(self) -> list[str]:
        given = self.options.get("key_filename", ())
        return [given] if isinstance(given, str) else list(map(str, given))

    @cached_property
    def _ciphers(self) -> list[str]:
        """Options that prefer ciphers in hardware; none if the user has chosen ciphers, or there are none."""
        usual = _settings("ssh", "-F", "none", "-G", "--", "localhost").get("ciphers", "") if in_hardware() else ""
        known = usual.split(",")
        quick = [cipher for cipher in QUICK if cipher in known]
        if not quick or usual != _settings(*self.command, "-G", "--", self.host).get("ciphers", ""):
            return []
        return ["-o", f"Ciphers={','.join(dict.fromkeys((*quick, *known)))}"]

    def _secrets(self) -> dict[str, str]:
        given = {name: self.options.get(name) for name in _SECRETS}
        return {f"CHILTEPIN_SSH_{name.upper()}": str(value) for name, value in given.items() if value}

    def _environment(self) -> dict[str, str]:
        secrets = self._secrets()
        if not secrets:
            return dict(os.environ)
        # Before OpenSSH 8.4, ssh ran an askpass program only if DISPLAY was set.
        asking = {"SSH_ASKPASS": _answering(), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
        return dict(os.environ) | secrets | asking

    @cached_property
    def _target(self) -> dict[str, str]:
        """How ssh resolves the host: its settings may change the name, port, user or jump host."""
        told = _settings(*self.command, "-G", "--", self.host)
        given = {"hostname": self.host, "port": str(self.port or 22), "user": self.user}
        named = {name: told.get(name, "none") for name in (*given, "proxyjump", "proxycommand")}
        return given | {name: value for name, value in named.items() if value != "none"}

    def same(self, other: OpenSSH) -> bool:
        """Whether the settings of both lead to one server; the user may differ only if the other path is absolute."""
        ours, theirs = dict(self._target), dict(other._target)
        users = ours.pop("user") == theirs.pop("user") or other.path.startswith("/")
        host, other_host = ours.pop("hostname"), theirs.pop("hostname")
        # Behind a jump host a name may have another address than here, so it is not looked up.
        direct = ours.keys() == {"port"}
        return users and ours == theirs and (same_host(host, other_host) if direct else host == other_host)

    def start(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """Start ssh with the server's SFTP subsystem; return the process and the file of its error output.

        A missing ssh raises ``Fault``.
        """
        if shutil.which("ssh") is None:
            raise Fault(
                "ENDPOINT_ERROR", "SFTP needs the command ssh, which is not installed; install the OpenSSH client."
            )
        # Not a pipe: a shared connection may keep it open, with no reader.
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        process = subprocess.Popen(  # noqa: S603 - no shell, and the host is not an option
            [*self.command, *self._ciphers, "-s", "--", self.host, "sftp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=self._environment(),
            # Without a terminal ssh cannot prompt, and Ctrl-C does not end it before incomplete files are removed.
            start_new_session=True,
        )
        _widen(process)
        return process, errors

    def failure(self, said: str, words: bytes = b"") -> Exception:
        """Return the error for a connection that could not be opened.

        Parameters
        ----------
        said : str
            The error output of ssh.
        words : bytes
            The output received instead of a reply.
        """
        if words:
            shown = " ".join(words[:_SHOWN].decode(errors="replace").split())
            reason = (
                f"{self.host} sends text before SFTP begins ({shown!r}); "
                "check that the shell's start files there, such as .bashrc, print nothing."
            )
            return Fault("ENDPOINT_ERROR", reason)
        return _failure(self.host, said, self._typed)


@cache
def _settings(*words: str) -> dict[str, str]:
    """Return the settings that ssh would use, by their names in lower case; empty if ssh fails."""
    try:
        told = subprocess.run(  # noqa: S603 - no shell, and the host is not an option
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TELLING, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = told.stdout.decode(errors="surrogateescape").splitlines()
    # For a setting that occurs several times, any one will do here.
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


@cache
def _answering() -> str:
    """Return the path of the askpass script; it is removed when this process exits."""
    folder = tempfile.mkdtemp(prefix="chiltepin-")
    atexit.register(_remove, folder, os.getpid())
    path = os.path.join(folder, "answer")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o700), "w", encoding="ascii") as script:
        script.write(_ANSWER)
    return path


# A child made by fork makes a new script, because the parent may exit first.
forks.register(_answering.cache_clear)


def _remove(folder: str, process: int) -> None:
    """Remove a folder, but not in a child made by ``fork`` while its parent uses it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Enlarge the pipes, for fewer context switches."""
    for pipe in (process.stdin, process.stdout):
        # Linux only, and up to the limit of this user.
        with suppress(OSError, AttributeError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)  # type: ignore[arg-type]


def _failure(host: str, said: str, typed: Callable[..., str]) -> Exception:
    # ssh's last lines: the headline "REMOTE HOST IDENTIFICATION HAS CHANGED" before them is cut off.
    changed = "has changed and you have requested strict checking" in said
    if changed or "Host key verification failed" in said:
        reason = (
            "differs from that in known_hosts; ask its operators whether they have changed it, then remove the old key "
            "as ssh says, and accept the new one with"
            if changed
            else "is missing from known_hosts; compare it with the key that its operators publish, and accept it with"
        )
        return Fault("CONNECT_FAILED", f"The host key of {host} {reason} `{typed()}`.")
    if "Permission denied" in said or "Too many authentication failures" in said:
        return Fault(
            "PERMISSION_DENIED",
            f"{host} rejected the non-interactive login; check that `{typed('-o', 'BatchMode=yes')}` works here.",
        )
    if "subsystem request failed" in said:
        return Fault("ENDPOINT_ERROR", f"{host} does not offer SFTP; ask its operators.")
    unknown = _UNKNOWN_HOST.search(said)
    # With EAI_AGAIN, the name server did not reply (getaddrinfo(3)).
    if unknown and "Temporary failure" not in said:
        name = unknown.group(1)
        return Fault("CONNECT_FAILED", f"No host is named {name}; correct the URL of the endpoint, or ~/.ssh/config.")
    if "Bad configuration option" in said or "Bad owner or permissions" in said or "command-line" in said:
        return Fault("ENDPOINT_ERROR", f"ssh rejects its settings for {host}; see the output of `{typed()}`.")
    return ConnectionLostError(
        "CONNECT_FAILED", f"{host} could not be reached ({said}); check that `{typed()}` works here."
    )
