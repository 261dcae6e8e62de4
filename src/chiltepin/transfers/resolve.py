"""Find the settings, the backend that moves the bytes, and the location of an endpoint on it."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chiltepin.backends import registry
from chiltepin.backends.fake_files import fake_os
from chiltepin.errors import ConfigError, EndpointMismatchError, EndpointNotFoundError, suggest
from chiltepin.protocol import paths
from chiltepin.settings import FILE_NAME, FILE_VARIABLE, check, default_file, read
from chiltepin.transfers.doubtful_paths import warn_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chiltepin.settings import DataSettings

__all__ = ["BACKEND_VARIABLE", "check_places", "default_data", "file_data", "resolve_endpoint", "with_backend"]

#: The environment variable that chooses the backend.
BACKEND_VARIABLE = "CHILTEPIN_BACKEND"


def default_data() -> DataSettings:
    """Return the data settings of the default file, for a workflow with its own Parsl ``Config``.

    The file is read again only when it has changed, so that this may be called for every transfer. A missing or invalid
    file raises a ConfigError.
    """
    file = default_file()
    if file is None:
        raise ConfigError(
            f"No settings say where data is: there is no {FILE_NAME} in {os.getcwd()!r} nor in your config folder. "
            f"Write one, name one with 'export {FILE_VARIABLE}=/path/to/file', "
            "or start Parsl with chiltepin.configure.load(...)."
        )
    state = file.stat()
    return _read_data(str(file), os.environ.get(BACKEND_VARIABLE), state.st_mtime_ns, state.st_size, fake_os())


@lru_cache(maxsize=1)
def _read_data(file: str, _backend: str | None, _modified: int, _size: int, _fake: object | None) -> DataSettings:
    """Return the data settings of a file; the other arguments are only cache keys."""
    return file_data(file)


def file_data(file: str | os.PathLike[str], backend: str | None = None) -> DataSettings:
    """Return the data settings of a file, with the backend that `with_backend` chooses."""
    document = read(file)
    return with_backend(check(document, backends=registry.names()).data, document, backend)


def with_backend(data: DataSettings, document: Mapping[str, Any], argument: str | None) -> DataSettings:
    """Return the settings with the backend from the argument, the environment or the file, in this order."""
    variable = os.environ.get(BACKEND_VARIABLE)
    name = argument or variable or data.backend
    installed = registry.names()
    if name in installed:
        return replace(data, backend=name)
    line = getattr(document, "lines", {}).get(("data", "backend"), 0)
    if argument:
        origin = f"The argument backend={name!r}"
    elif variable:
        origin = f"The environment variable {BACKEND_VARIABLE}={name!r}"
    else:
        origin = f"{data.file}:{line}: data.backend: {name!r}" if data.file else f"data.backend: {name!r}"
    in_file = not argument and not variable
    raise ConfigError(
        f"{origin} names a backend that is not installed here; {suggest(name, installed)}",
        file=data.file if in_file else "",
        key="data.backend" if in_file else "",
        line=line if in_file else 0,
    )


def check_places(settings: DataSettings, asked: Iterable[tuple[str, str | None]], *, globs: bool = False) -> None:
    """Check endpoints, each with a path that must stay inside its root, or None if the path is not known yet.

    A doubtful path causes a warning; ``globs`` tells whether paths may be patterns.
    """
    known = []
    for endpoint, path in asked:
        place = resolve_endpoint(settings, endpoint)
        if path is not None:
            paths.parts(path, home=place.get("home", "/"), endpoint=endpoint)
            known.append((endpoint, path, place))
    warn_of(known, globs=globs)


def resolve_endpoint(settings: DataSettings, name: str) -> dict[str, Any]:
    """Return the location of an endpoint on the active backend; see `chiltepin.settings.DataSettings.places`.

    The mapping is read only, and empty for an undeclared endpoint that the backend may find by itself.

    Raises
    ------
    EndpointMismatchError
        If the endpoint has no location on this backend.
    EndpointNotFoundError
        If the name is unknown.
    """
    places = settings.active_places
    if name in places:
        return places[name]
    where = settings.file or "the configuration"
    if name in settings.endpoints:
        raise EndpointMismatchError(
            f"Endpoint {name!r} is not configured for backend {settings.backend!r}; "
            f"add '{settings.backend}:' with its location below it in {where}.",
            endpoint=name,
        )
    if registry.load(settings.backend).capabilities.finds_endpoints:
        return {}
    raise EndpointNotFoundError(
        f"No endpoint named {name!r} in {where}; {suggest(name, settings.endpoints)}", endpoint=name
    )
