"""Turn settings into a Parsl ``Config`` that also holds the data settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from parsl.config import Config
from parsl.data_provider.data_manager import default_staging

from chiltepin.backends import registry
from chiltepin.errors import ConfigError, suggest
from chiltepin.parsl import executors as parsl_executors
from chiltepin.parsl.run_folders import checked_path
from chiltepin.settings import LOCAL, Document, Settings, check, read, working_folder
from chiltepin.settings.runs import KEEP_ALL
from chiltepin.staging import ChiltepinStaging
from chiltepin.transfers.resolve import BACKEND_VARIABLE, default_data, with_backend

if TYPE_CHECKING:
    from parsl.executors.base import ParslExecutor
    from parsl.providers.base import ExecutionProvider

    from chiltepin.settings import DataSettings, Resource

__all__ = [
    "BACKEND_VARIABLE",
    "WorkflowConfig",
    "create_executor",
    "create_globus_compute_executor",
    "create_htex_executor",
    "create_mpi_executor",
    "create_provider",
    "default_data",
    "load",
    "parse_file",
]


#: The Parsl providers that `create_provider` can make.
PROVIDERS = ("localhost", "pbspro", "slurm")
#: Types of plain data, which is never a client.
_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set)


class WorkflowConfig(Config):  # type: ignore[misc]
    """A Parsl ``Config`` from `load`; you may change its other attributes before Parsl starts.

    Attributes
    ----------
    data : DataSettings
        The data settings, with the chosen backend.
    keep_runs : int or str
        How many run folders a `chiltepin.workflow.Workflow` keeps; ``"all"`` keeps every one.
    """

    data: DataSettings
    keep_runs: int | str = KEEP_ALL


def parse_file(path: str | os.PathLike[str]) -> Document:
    """Read and check a settings file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Document
        The content of the file: a dict that also records the file and line numbers. ``yaml.safe_dump`` can write it.

    Raises
    ------
    ConfigError
        If the file cannot be read or is invalid; the message has one line per problem, with file, line and key.
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
    """Make a Parsl ``Config`` from settings, without logging in or contacting a service.

    Parameters
    ----------
    config : mapping, str or path-like
        Settings, or the settings file.
    include : str or iterable of str, optional
        Labels of the resources to use; ``local`` is always first. Default: all.
    client : globus_compute_sdk.Client, optional
        The client for Globus Compute endpoints; without it, the first app for one logs in.
    run_dir : str or path-like, optional
        Where Parsl writes its logs. If not given, the ``run_dir`` of the settings, else ``runinfo``.
    backend : str, optional
        The backend. If not given, the environment variable ``CHILTEPIN_BACKEND``, else ``backend`` in the ``data``
        section.

    Returns
    -------
    WorkflowConfig
        Its ``data`` attribute holds the data settings.

    Raises
    ------
    ConfigError
        If the settings are invalid, ``include`` names an unknown resource, the backend is not installed, the working
        directory was deleted, or ``run_dir`` cannot be the name of a folder.
    TypeError
        If an argument has a wrong type.
    """
    # Parsl needs the working directory, even where all paths are absolute.
    working_folder()
    folder = None if run_dir is None else checked_path("run_dir", run_dir, "folder")
    if isinstance(client, _PLAIN):
        # Without the value, which may be a token.
        raise TypeError(f"client is of type {type(client).__name__}; give a globus_compute_sdk.Client.")
    document = _document(config)
    settings = check(document, backends=registry.names())
    data = with_backend(settings.data, document, backend)
    labels = _included(settings, include)
    made = WorkflowConfig(
        executors=[_executor(label, settings.resources[label], data, client) for label in labels],
        # Parsl's default, 'cleanup', leaves futures pending.
        exit_mode="wait",
        # A block starts at the first tick after an app is submitted; Parsl's default tick is 5 s.
        strategy_period=0.5,
        run_dir=settings.runs.run_dir if folder is None else folder,
    )
    made.data, made.keep_runs = data, settings.runs.keep_runs
    return made


def create_executor(name: str, config: Mapping[str, Any], client: Any = None) -> ParslExecutor:
    """Make the executor of one resource, for your own Parsl ``Config``.

    ``create_htex_executor``, ``create_mpi_executor`` and ``create_globus_compute_executor`` are aliases of this
    function: the keys of the resource determine the kind of executor.

    Parameters
    ----------
    name : str
        The label.
    config : mapping
        The keys of the resource, as in the settings.
    client : globus_compute_sdk.Client, optional
        As for `load`.
    """
    settings = check({name: config}, backends=registry.names())
    return _executor(name, settings.resources[name], settings.data, client)


create_htex_executor = create_mpi_executor = create_globus_compute_executor = create_executor


def create_provider(config: Mapping[str, Any]) -> ExecutionProvider:
    """Make the provider of a resource: ``localhost``, ``slurm`` or ``pbspro``; ``endpoint`` is ignored."""
    name = config.get("provider", "localhost")
    if name not in PROVIDERS:
        raise ConfigError(f"Unsupported provider {name!r}; {suggest(name, PROVIDERS)}", key="provider")
    keys = {key: value for key, value in config.items() if key != "endpoint"}
    settings = check({"provider": keys}, backends=registry.names())
    return parsl_executors.create_provider(settings.resources["provider"])


def _executor(label: str, resource: Resource, data: DataSettings, client: Any) -> ParslExecutor:
    executor = parsl_executors.create_executor(label, resource, client=client)
    _give_files(executor, resource.working_dir, data)
    return executor


def _give_files(executor: ParslExecutor, working_dir: str | None, data: DataSettings) -> None:
    """Let an executor stage Parsl files, including files on endpoints."""
    executor.storage_access = [*default_staging, ChiltepinStaging(working_dir)]
    endpoint, _, folder = (working_dir or "").partition(":/")
    if mount := data.active_places.get(endpoint, {}).get("mount"):
        # Parsl's staging providers download http: and ftp: files to this folder.
        executor.working_dir = os.path.join(mount, folder)


def _document(config: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if isinstance(config, str | os.PathLike):
        return read(config)
    raise TypeError(f"load() takes a dict or the path of a settings file, not {config!r}; an empty dict is enough.")


def _included(settings: Settings, include: str | Iterable[str] | None) -> list[str]:
    if include is None:
        return list(settings.resources)
    if not isinstance(include, Iterable):
        raise TypeError(f"include={include!r} is of type {type(include).__name__}; give a label or a list.")
    labels = [include] if isinstance(include, str) else list(include)
    if missing := [label for label in labels if label not in settings.resources]:
        raise ConfigError(
            f"Resources specified in include list not found in config: {', '.join(map(repr, missing))}; "
            f"{suggest(missing[0], settings.resources)}",
            file=settings.file,
            key=str(missing[0]),
        )
    return list(dict.fromkeys([LOCAL, *labels]))
