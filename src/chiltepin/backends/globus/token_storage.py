"""The file that stores the login between runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import platformdirs
from globus_sdk.token_storage import TokenStorage, TokenStorageData

from chiltepin.backends.globus.shared_file import BusyFileError, change_file
from chiltepin.errors import LoginRequiredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FILE_VARIABLE", "FileTokenStorage", "token_file"]

#: The environment variable that names another file.
FILE_VARIABLE = "CHILTEPIN_TOKENS"

#: Seconds to wait for another writer, which needs milliseconds.
LOCK_TIMEOUT = 30.0

_FORMAT = 1

#: The fields of the token for each namespace and resource server.
_Logins = dict[str, dict[str, dict[str, Any]]]


def token_file() -> str:
    """Return the path of the user's token file: ``CHILTEPIN_TOKENS``, or else a file in the user's state folder."""
    named = os.environ.get(FILE_VARIABLE)
    default = os.path.join(platformdirs.user_state_dir("chiltepin"), "tokens.json")
    # A link is resolved once, here, so that its target is replaced and not the link.
    return os.path.realpath(os.path.expanduser(named)) if named else default


class FileTokenStorage(TokenStorage):
    """Tokens in one JSON file that only its owner can read, safe with several writers.

    Tokens of other namespaces are neither read nor changed. If the file cannot be read, written or parsed, every method
    raises a LoginRequiredError.

    Notes
    -----
    A reader needs no lock: it sees the old file or the new one, because the new file is written beside the old one and
    renamed (POSIX, ``rename``). Writers on several hosts do not lose each other's changes, even on disks without locks;
    see `shared_file`.
    """

    def __init__(self, path: str, *, namespace: str) -> None:
        super().__init__(namespace=namespace)
        self.path = path

    def __reduce__(self) -> Any:
        raise TypeError("A token file object cannot be sent to another process; open the file by its name there.")

    def store_token_data_by_resource_server(
        self, token_data_by_resource_server: Mapping[str, TokenStorageData]
    ) -> None:
        """Store tokens; each replaces the token for the same resource server."""
        new = {server: data.to_dict() for server, data in token_data_by_resource_server.items()}
        self._change(lambda logins: logins.setdefault(self.namespace, {}).update(new))

    def get_token_data_by_resource_server(self) -> dict[str, TokenStorageData]:
        """Return the tokens, by resource server; empty without a login."""
        stored = self._translate_errors(self._read).get(self.namespace, {})
        tokens = {}
        for server, fields in stored.items():
            with contextlib.suppress(TypeError, ValueError):
                tokens[server] = TokenStorageData.from_dict(fields)
        if len(tokens) < len(stored):
            raise _broken_file(self.path)
        return tokens

    def remove_token_data(self, resource_server: str) -> bool:
        """Delete the token for a resource server; return whether there was one."""
        found = []

        def remove(logins: _Logins) -> None:
            tokens = logins.get(self.namespace, {})
            found.append(tokens.pop(resource_server, None))
            if not tokens:
                logins.pop(self.namespace, None)

        self._change(remove)
        return found[0] is not None

    def _change(self, change: Callable[[_Logins], None]) -> None:
        def changed() -> bytes:
            logins = self._read()
            change(logins)
            return json.dumps({"format": _FORMAT, "logins": logins}, indent=1).encode()

        def run() -> None:
            _make_folder(os.path.dirname(self.path))
            change_file(self.path, changed, timeout=LOCK_TIMEOUT)

        self._translate_errors(run)

    def _translate_errors(self, call: Callable[[], Any]) -> Any:
        """Run a call; an error of the filesystem becomes a LoginRequiredError."""
        try:
            return call()
        except BusyFileError:
            why = f"another process has held {self.path}.lock for {LOCK_TIMEOUT:.0f} s"
        except OSError as err:
            why = err.strerror or type(err).__name__
        # Raised here, not above: an error from a JSON decoder holds the text of the file.
        raise LoginRequiredError(
            f"The token file {self.path} cannot be used: {why}; fix that, or set another file with "
            f"'export {FILE_VARIABLE}=FILE' and run: chiltepin login",
            backend="globus",
        )

    def _read(self) -> _Logins:
        try:
            # Non-blocking: a pipe with this name would make the login wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, encoding="utf-8") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    raise PermissionError(errno.EPERM, "it is not a regular file")
                if facts.st_uid != os.geteuid():
                    # The owner of the file would choose the identity of all transfers.
                    raise PermissionError(errno.EPERM, f"it belongs to user {facts.st_uid}")
                if facts.st_mode & 0o077:
                    os.fchmod(descriptor, 0o600)
                document = json.load(file)
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            document = None
        if not _is_understood(document):
            raise _broken_file(self.path)
        logins: _Logins = document["logins"]
        return logins


def _make_folder(folder: str) -> None:
    """Make a folder and its missing parents, for the owner only; make our own folder private if it is not."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for made in reversed(missing):
        # Not makedirs: with umask 0, it makes the parents writable for all.
        with contextlib.suppress(FileExistsError):
            os.mkdir(made, 0o700)
    own = platformdirs.user_state_dir("chiltepin")
    if os.path.isdir(own) and os.stat(own).st_mode & 0o077:
        os.chmod(own, 0o700)


def _is_understood(document: Any) -> bool:
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        return False
    logins = document.get("logins")
    return isinstance(logins, dict) and all(
        isinstance(tokens, dict) and all(isinstance(fields, dict) for fields in tokens.values())
        for tokens in logins.values()
    )


def _broken_file(path: str) -> LoginRequiredError:
    return LoginRequiredError(f"The token file {path} is corrupt; delete it and run: chiltepin login", backend="globus")
