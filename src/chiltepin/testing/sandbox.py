"""Test a pipeline with folders as endpoints, a workflow on threads, and a record of the moved files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chiltepin.backends import registry
from chiltepin.data import local_path
from chiltepin.settings import ConfigWarning, check, read, working_folder
from chiltepin.transfers.runner import open_transfers
from chiltepin.workflow import Workflow

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from chiltepin.backends.filesystem import LocalBackend
    from chiltepin.settings import Settings

__all__ = ["Sandbox"]

#: The endpoints of a sandbox without settings.
ENDPOINTS = ("my-laptop", "hpc-scratch")


class Sandbox:
    """A ``with`` block in which a pipeline runs on this machine only.

    Each endpoint of the settings is a folder, each resource is a pool of threads, and the journal, unless it is
    ``false``, is in ``folder``. Inside the block a workflow is
    running, so that tasks and transfers can be called; the end of the block waits for all of them.

    Parameters
    ----------
    folder : path
        An empty folder for everything.
    settings : path or mapping or None
        The settings file of the pipeline, or its content; None: the endpoints ``my-laptop`` and ``hpc-scratch``.

    Attributes
    ----------
    file : str
        The path of the settings in the sandbox, for a pipeline that starts a ``Workflow`` itself.

    Raises
    ------
    ConfigError
        If the settings are wrong.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: str | os.PathLike[str] | Mapping[str, Any] | None = None
    ) -> None:
        self._folder = Path(working_folder(), folder)
        document = _document(settings)
        with warnings.catch_warnings():
            # The run in production reports keys without effect.
            warnings.simplefilter("ignore", ConfigWarning)
            checked = check(document, backends=registry.names())
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "chiltepin.yaml"
        # JSON is valid YAML.
        plain = json.dumps(_inside(document, checked, self._folder), ensure_ascii=False, indent=2, default=str)
        file.write_text(plain, encoding="utf-8")
        self.file = str(file)
        self._names = {
            place["collection"]: name
            for name, endpoint in reversed(checked.data.endpoints.items())
            if (place := endpoint.places.get("globus"))
        }
        self._workflow = Workflow(self.file, run_dir=self._folder / "runinfo", backend="local")
        self._moved: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._workflow.__enter__()
        backend = cast("LocalBackend", open_transfers(self._workflow.config.data.setup).backend)
        backend.witness = self._witness
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._workflow.__exit__(kind, error, trace)

    @property
    def moved(self) -> list[tuple[str, str]]:
        """Every file that has arrived, as ``("my-laptop:/in.dat", "hpc-scratch:/run/in.dat")``, sorted.

        Each file of a folder has a pair, and a file that was moved twice has two. A file that a sync level skipped, or
        that is incomplete, has none. Files moved by other processes are not recorded.
        """
        return sorted(self._moved)

    def path(self, endpoint: str, path: str | os.PathLike[str] = "/") -> Path:
        """Return the location of a path of an endpoint on this machine."""
        return Path(local_path(endpoint, path))

    def put(self, endpoint: str, path: str | os.PathLike[str], content: str | bytes = "") -> Path:
        """Write a file on an endpoint, and create its parent folders; return its location on this machine."""
        place = self.path(endpoint, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def files(self, endpoint: str) -> list[str]:
        """Return the paths of all files of an endpoint, sorted; empty if there is none."""
        top = self.path(endpoint)
        return sorted(f"/{place.relative_to(top).as_posix()}" for place in top.rglob("*") if not place.is_dir())

    def _witness(self, source: tuple[str, str], destination: tuple[str, str]) -> None:
        self._moved.append((self._location(*source), self._location(*destination)))

    def _location(self, endpoint: str, path: str) -> str:
        return f"{self._names.get(endpoint, endpoint)}:{path}"


def _document(settings: str | os.PathLike[str] | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if settings is None:
        return {"data": {"endpoints": dict.fromkeys(ENDPOINTS)}}
    return settings if isinstance(settings, Mapping) else read(settings)


def _inside(document: Mapping[str, Any], checked: Settings, folder: Path) -> dict[str, Any]:
    section = dict(document.get("data") or {})
    resources: dict[str, Any] = {}
    for label, resource in checked.resources.items():
        resources[label] = {"provider": "threads", "max_threads": resource.max_threads}
        if resource.working_dir:
            resources[label]["working_dir"] = resource.working_dir
    # The journal of production must not show the tasks of tests.
    journal = section.get("journal") is not False and str(folder / "journal")
    own = {"backend": "local", "root": str(folder / "endpoints"), "journal": journal}
    return {**resources, "data": {**section, **own}}
