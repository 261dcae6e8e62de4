"""From settings to a Parsl ``Config`` that carries what they say about data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from parsl.config import Config

from chiltepin import registry
from chiltepin.errors import ConfigError, suggest
from chiltepin.executors import create_executor
from chiltepin.settings import FILE_NAME, FILE_VARIABLE, LOCAL, Document, Settings, check, default_file, read

if TYPE_CHECKING:
    from chiltepin.settings import DataSettings

__all__ = ["BACKEND_VARIABLE", "WorkflowConfig", "default_data", "load", "parse_file"]

#: The environment variable that chooses the backend.
BACKEND_VARIABLE = "CHILTEPIN_BACKEND"


class WorkflowConfig(Config):  # type: ignore[misc]
    """A Parsl ``Config``, made by `load`; its other attributes may be changed before Parsl is started with it.

    Attributes
    ----------
    data : DataSettings
        What the settings say about data, with the backend that was chosen.
    """

    data: DataSettings


def parse_file(path: str | os.PathLike[str]) -> Document:
    """Read and check a settings file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Document
        What the file says, as a dict that knows its file and lines.

    Raises
    ------
    ConfigError
        If the file cannot be read, or anything in it is wrong: one sentence per problem, with file, line and key.
    """
    document = read(path)
    check(document, backends=registry.names())
    return document


def load(
    config: Mapping[str, Any] | str | os.PathLike[str],
    include: str | Iterable[str] | None = None,
    client: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    backend: str | None = None,
) -> WorkflowConfig:
    """Make a Parsl ``Config`` of settings; this logs in nowhere and contacts nothing.

    Parameters
    ----------
    config : mapping, str or path-like
        Settings, or the file that holds them.
    include : str or iterable of str, optional
        Labels of the resources to make; ``local`` is always made, and first. All of them if not given.
    client : globus_compute_sdk.Client, optional
        The client for Globus Compute endpoints; without it, the first app that is sent to one logs in.
    run_dir : str or path-like, optional
        Where Parsl writes its logs; ``runinfo`` if not given.
    backend : str, optional
        Who moves the bytes. If not given, the environment variable ``CHILTEPIN_BACKEND`` says it, else ``backend`` in
        the ``data`` section.

    Returns
    -------
    WorkflowConfig
        With ``data``, what the settings say about data.

    Raises
    ------
    ConfigError
        If the settings are wrong, ``include`` names an unknown resource, or the backend is not installed.
    TypeError
        If ``config`` is neither a mapping nor a path.
    """
    document = _document(config)
    settings = check(document, backends=registry.names())
    made = WorkflowConfig(
        executors=[
            create_executor(label, settings.resources[label], client=client) for label in _included(settings, include)
        ],
        # Parsl's default, 'cleanup', leaves what is in flight as futures that never end.
        exit_mode="wait",
        # A block starts at the next tick after the first app, so that Parsl's 5 s would be 5 s of waiting.
        strategy_period=0.5,
        run_dir="runinfo" if run_dir is None else os.fspath(run_dir),
    )
    made.data = _with_backend(settings.data, document, backend)
    return made


def default_data() -> DataSettings:
    """Return what the default settings file says about data, for a workflow with a Parsl ``Config`` of its own.

    The file is read again only when it has changed, so that this may be called for every transfer.

    Raises
    ------
    ConfigError
        If there is no default settings file, or it is wrong.
    """
    file = default_file()
    if file is None:
        raise ConfigError(
            f"No settings say where data is: there is no {FILE_NAME} in {os.getcwd()!r} nor in your config folder. "
            f"Write one, name one with 'export {FILE_VARIABLE}=/path/to/file', "
            "or start Parsl with chiltepin.configure.load(...)."
        )
    state = file.stat()
    return _read_data(str(file), os.environ.get(BACKEND_VARIABLE), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read_data(file: str, _backend: str | None, _modified: int, _size: int) -> DataSettings:
    """Return the data settings of a file; the other arguments only tell one reading from the next."""
    document = read(file)
    return _with_backend(check(document, backends=registry.names()).data, document, None)


def _document(config: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if isinstance(config, str | os.PathLike):
        return read(config)
    raise TypeError(f"load() takes a dict or the path of a settings file, and not {config!r}; an empty dict is enough.")


def _included(settings: Settings, include: str | Iterable[str] | None) -> list[str]:
    """Return the labels to make, ``local`` first, each once."""
    if include is None:
        return list(settings.resources)
    labels = [include] if isinstance(include, str) else list(include)
    for label in labels:
        if label not in settings.resources:
            raise ConfigError(
                f"include names the resource {label!r}, which the settings do not have; "
                f"{suggest(label, settings.resources)}",
                file=settings.file,
                key=str(label),
            )
    return list(dict.fromkeys([LOCAL, *labels]))


def _with_backend(data: DataSettings, document: Mapping[str, Any], argument: str | None) -> DataSettings:
    """Return the settings with the backend that argument, environment or file choose, in this order."""
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
