"""Locate endpoints: turn plain settings into stores, which are opened when they are first needed."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chiltepin.backends import forks
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.location import Location
from chiltepin.errors import BackendError, ConfigError, UnsupportedOptionError
from chiltepin.protocol import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chiltepin.backends.filesystem.store import Store

__all__ = ["Place", "local_places", "place_of"]


#: How to install the packages that may be missing for a kind of store.
_INSTALL = {
    scheme: f"; run: pip install {packages}"
    for packages, schemes in (
        ("boto3 obstore", ("s3", "s3a")),
        ("azure-identity azure-storage-blob", ("az", "abfs", "abfss")),
        ("'google-auth[urllib3]' google-crc32c", ("gs", "gcs")),
    )
    for scheme in schemes
}


#: Schemes of stores that open without a request.
_UNASKED = frozenset(("s3", "s3a", "az", "abfs", "abfss", "gs", "gcs", "sftp", "ssh", "http", "https"))


class Place:
    """The location of one endpoint: the kind of store, such as ``file`` or ``s3``, and its home folder.

    ``opener`` opens the store; it is called once, and again if its root has become another folder. ``namer`` returns a
    store that only stands for the root; it is needed if opening sends a request.
    """

    def __init__(
        self,
        endpoint: str,
        scheme: str,
        home: str,
        opener: Callable[[], Store],
        namer: Callable[[], Store] | None = None,
    ) -> None:
        self.scheme = scheme
        self._endpoint, self._home, self._opener, self._namer = endpoint, home, opener, namer
        self._store: Store | None = None
        self.renew()

    def renew(self) -> None:
        """Start without an open store, as in a process made by ``fork``."""
        forks.leave(self._store)
        self._store, self._lock = None, threading.Lock()

    def locations(self, asked: Iterable[str]) -> list[Location]:
        """Return the locations of a task's paths, all below one root; errors are those of `store` and `paths.parts`."""
        store = self.store()
        return [
            Location(self._endpoint, store, paths.parts(path, home=self._home, endpoint=self._endpoint))
            for path in asked
        ]

    def root(self) -> Location:
        """Return the root, to be compared with other places; no request is sent. Errors are those of `store`."""
        return Location(self._endpoint, self._namer() if self._namer else self.store(), ())

    @property
    def opened(self) -> Store:
        """The store of the last task, or a new one; errors are those of `store`."""
        return self._store or self.store()

    def store(self) -> Store:
        """Return the open store; a task calls this once, so that all of it uses one root.

        A store that cannot be opened is a BackendError; a missing package for it is an UnsupportedOptionError.
        """
        with self._lock:
            # A root may be a link, so it is resolved again for each task.
            store = self._store = (self._store and self._store.renewed()) or self._open()
            return store

    def _open(self) -> Store:
        error: BackendError
        try:
            return self._opener()
        except ConfigError:
            raise
        except Fault as err:
            error = BackendError(
                f"The store of endpoint {self._endpoint!r} ({self.scheme}) cannot be opened: {err.reason}"
            )
        except ImportError as err:
            error = UnsupportedOptionError(
                f"Endpoint {self._endpoint!r} is on {self.scheme!r}, which needs a package that is not installed "
                f"({err.name or err})"
                f"{_INSTALL.get(self.scheme, '')}."
            )
        except Exception as err:  # noqa: BLE001 - any store's own error; its text may hold a key
            error = self._unopened(err)
        # Raised here, after the except: a Parsl worker would pickle the store's own error along as __context__.
        raise error

    def _unopened(self, err: Exception) -> BackendError:
        # Of fsspec's registry; any other ValueError is that of a store.
        if isinstance(err, ValueError) and str(err).startswith("Protocol not known"):
            return UnsupportedOptionError(
                f"Endpoint {self._endpoint!r} is on {self.scheme!r}, a kind of store that fsspec does not know; "
                f"write a URL such as 'file:///scratch' or 's3://bucket/folder'."
            )
        why = os.strerror(err.errno) if isinstance(err, OSError) and err.errno else type(err).__name__
        return BackendError(f"The store of endpoint {self._endpoint!r} ({self.scheme}) cannot be opened: {why}.")


def place_of(endpoint: str, settings: Mapping[str, Any]) -> Place:
    """Return the place that an endpoint's settings for the filesystem backend describe."""
    url, home = str(settings["url"]), settings.get("home", "/")
    folder = paths.machine_path(url)
    if folder is not None:
        if not folder.startswith("/"):
            raise ConfigError(
                f"Endpoint {endpoint!r} is at {url!r}, which is not an absolute path; write 'file:///...'.",
                key=f"data.endpoints.{endpoint}.filesystem",
            )
        return Place(endpoint, "file", home, lambda: LocalStore(folder))
    options, scheme = settings.get("options", {}), urlsplit(url).scheme

    def remote() -> Store:
        if scheme in ("s3", "s3a"):
            # Imported here, because only transfers with S3 need its extra.
            from chiltepin.backends.filesystem.stores.s3.store import S3Store  # noqa: PLC0415

            return S3Store(url, _with_secrets(endpoint, options))
        if scheme in ("az", "abfs", "abfss"):
            from chiltepin.backends.filesystem.stores.cloud.azure import azure_store  # noqa: PLC0415

            return azure_store(url, _with_secrets(endpoint, options))
        if scheme in ("gs", "gcs"):
            from chiltepin.backends.filesystem.stores.cloud.gcs import gcs_store  # noqa: PLC0415

            return gcs_store(url, _with_secrets(endpoint, options))
        if scheme in ("sftp", "ssh"):
            from chiltepin.backends.filesystem.stores.sftp.store import SftpStore  # noqa: PLC0415

            return SftpStore(url, _with_secrets(endpoint, options))
        if scheme in ("http", "https"):
            from chiltepin.backends.filesystem.stores.http.store import HttpStore  # noqa: PLC0415

            return HttpStore(url, _with_secrets(endpoint, options))
        # Imported here: a process that moves only local files does not have to load fsspec.
        from chiltepin.backends.filesystem.stores.fsspec.store import opened  # noqa: PLC0415

        return opened(url, _with_secrets(endpoint, options))

    def named() -> Store:
        from chiltepin.backends.filesystem.stores.fsspec.store import FsspecStore  # noqa: PLC0415

        told = options
        # A root is known without its login.
        with suppress(ConfigError):
            told = _with_secrets(endpoint, options)
        return FsspecStore(url, told, any_login=True)

    return Place(endpoint, scheme, home, remote, None if scheme in _UNASKED else named)


def local_places(root: str, endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Place]:
    """Return the places of the ``local`` backend's endpoints: folders below its root, created when needed."""
    folders = {name: os.path.join(root, settings.get("folder", name)) for name, settings in endpoints.items()}

    def spelled(folder: str) -> tuple[str, ...]:
        return tuple(map(paths.folded, folder.split("/")))

    alike: dict[tuple[str, ...], list[str]] = {}
    for name, folder in folders.items():
        alike.setdefault(spelled(folder), []).append(name)

    def opener(name: str) -> Callable[[], Store]:
        others = [other for other in alike[spelled(folders[name])] if folders[other] != folders[name]]
        return lambda: _opened(name, folders, others)

    return {name: Place(name, "file", settings.get("home", "/"), opener(name)) for name, settings in endpoints.items()}


def _opened(name: str, folders: Mapping[str, str], others: list[str]) -> Store:
    """Open the folder of an endpoint, unless the disk treats it as that of another endpoint."""
    store = LocalStore(folders[name], create=True)
    for other in others:
        with suppress(FileNotFoundError):
            if os.path.samefile(folders[name], folders[other]):
                raise ConfigError(
                    f"Endpoints {name!r} and {other!r} share the folder {folders[name]!r}, because its disk ignores "
                    f"case in names; add 'local: some-folder' below one of them.",
                    key=f"data.endpoints.{name}",
                )
    return store


def _with_secrets(endpoint: str, value: Any) -> Any:
    """Replace each ``{"env": NAME}`` with the value of that environment variable."""
    if isinstance(value, list):
        return [_with_secrets(endpoint, inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"}:
        secret = os.environ.get(str(value["env"]))
        if secret is None:
            raise ConfigError(
                f"Endpoint {endpoint!r} needs the environment variable {value['env']!r}, which is not set here; "
                f"set it where the transfer runs (environment: of the resource).",
            )
        return secret
    return {key: _with_secrets(endpoint, inner) for key, inner in value.items()}
