"""Check a settings file: the result is valid settings, or one error with all problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chiltepin.errors import ConfigError, shown, suggest
from chiltepin.protocol.paths import VARIABLE
from chiltepin.settings.document import DATA
from chiltepin.settings.endpoints import read_data
from chiltepin.settings.file import working_folder
from chiltepin.settings.messages import Problem, Source, validate
from chiltepin.settings.resources import LOCAL, Resource, label_problem
from chiltepin.settings.runs import RunSettings, is_run_key, read_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from chiltepin.settings.data import DataSettings

__all__ = ["ConfigWarning", "Settings", "check"]

#: A key in an example of the upstream project; it has no effect there either.
UPSTREAMS_LAUNCHER = "launcher"

_DATA_KEYS = {"backend", "endpoints"}
_PATH_KEYS = {"root", "journal", "home", "local", "filesystem", "url", "mount"}


class ConfigWarning(UserWarning):
    """A setting has no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked settings: the file as the user named it, or empty; the resources by label, ``local`` first; the data."""

    file: str = ""
    runs: RunSettings = field(default_factory=RunSettings)
    resources: dict[str, Resource] = field(default_factory=dict)
    data: DataSettings


def check(config: Mapping[str, Any], *, backends: Collection[str]) -> Settings:
    """Check settings and fill in the defaults, without contacting anything.

    Parameters
    ----------
    config : mapping
        A `Document`, whose file and lines are used in messages, or a plain dict.
    backends : collection of str
        Names of the installed backends; ``globus``, ``filesystem`` and ``local`` are always known.

    Raises
    ------
    ConfigError
        One sentence for each problem, each on one line. ``file``, ``key`` and ``line`` are those of the first.

    Warns
    -----
    ConfigWarning
        For each key that has no effect on its resource, because it belongs to another provider, and for each path that
        contains a shell variable such as ``$HOME``, which is not expanded.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"Settings are a mapping of names to resources, but this is {shown(config)}; give a dict.")
    source = Source(file=getattr(config, "file", ""), lines=getattr(config, "lines", {}))
    folder = str(Path(source.file).absolute().parent if source.file else working_folder())
    written = config.get(DATA)
    data, problems = read_data(written, backends=backends, folder=folder, file=source.file)
    runs, found = read_runs(config, folder)
    problems += found
    config = {label: body for label, body in config.items() if not is_run_key(label, body)}
    resources = {LOCAL: Resource(provider="threads")}
    for label, body in config.items():
        if label == DATA or _is_template(label, body, in_file=bool(source.file)):
            continue
        resource, found = _resource(label, body)
        problems += found
        if resource:
            resources[label] = resource
            problems += _folder_problems(label, resource, data)
    problems += _executor_problems(data, [LOCAL, *config])
    if problems:
        source.refuse(problems)
    for label, resource in resources.items():
        _warn(source, label, resource, config.get(label) or {})
    for problem in _variables(written, (DATA,)):
        source.warn(problem, ConfigWarning)
    return Settings(file=source.file, runs=runs, resources=resources, data=data)


def _resource(label: Any, body: Any) -> tuple[Resource | None, list[Problem]]:
    if sentence := _shape_problem(label, body):
        return None, [Problem(path=(label,), sentence=sentence)]
    known = {key: value for key, value in (body or {}).items() if key != UPSTREAMS_LAUNCHER}
    return validate(Resource, known, path=(label,), noun="a resource")


def _is_template(label: Any, body: Any, *, in_file: bool) -> bool:
    """Whether a value exists only for aliases; `read` tells this by the anchors, which a dict does not have."""
    if isinstance(label, str) and label.startswith("x-") and body:
        return not isinstance(body, Mapping) or Resource.model_fields.keys().isdisjoint(body)
    return not in_file and bool(body) and isinstance(body, list) and all(isinstance(line, str) for line in body)


def _folder_problems(label: str, resource: Resource, data: DataSettings) -> list[Problem]:
    written = resource.working_dir or ""
    endpoint = written.partition(":/")[0]
    longer = next((name for name in data.endpoints if name != endpoint and written.startswith(f"{name}:/")), None)
    if longer is not None:
        sentence = f"cannot name the endpoint {longer!r}, because ':/' ends the name; give that endpoint another name"
    elif endpoint and endpoint not in data.endpoints:
        sentence = f"names the endpoint {endpoint!r}, which is not declared; {suggest(endpoint, data.endpoints)}"
    else:
        return []
    return [Problem(path=(label, "working_dir"), sentence=sentence)]


def _executor_problems(data: DataSettings, labels: Collection[Any]) -> list[Problem]:
    if data.executor is None or isinstance(data.executor, str):
        return []
    known = {str(label) for label in labels} - {DATA}
    return [
        Problem(
            path=(DATA, "executor"),
            sentence=f"names the resource {label!r}, which is not declared; {suggest(label, known)}",
        )
        for label in data.executor
        if label not in known
    ]


def _wrong_case(label: Any) -> str:
    return f"is not a resource; write '{DATA}'" if isinstance(label, str) and label.casefold() == DATA else ""


def _shape_problem(label: Any, body: Any) -> str:
    """Return why this cannot be a resource; empty if it may be one."""
    is_mapping = isinstance(body, Mapping)
    if label in Resource.model_fields and not is_mapping:
        return "belongs to a resource; indent it below the name of one"
    if label in _DATA_KEYS:
        return f"belongs to the data section; indent it below '{DATA}:'"
    if sentence := _wrong_case(label) or label_problem(label):
        return sentence
    if body is not None and not is_mapping:
        return f"is {shown(body)}; write the keys of a resource below it, such as 'provider: localhost'"
    if is_mapping and _DATA_KEYS & set(body):
        return f"holds keys of the data section, which is called '{DATA}'; rename it, or move them there"
    return ""


def _variables(body: Any, path: tuple[Any, ...]) -> Iterator[Problem]:
    """Find the paths of the data section that contain a shell variable."""
    for key, value in body.items() if isinstance(body, Mapping) else ():
        if isinstance(value, str) and key in _PATH_KEYS and (name := VARIABLE.search(value)):
            sentence = f"contains {name[0]!r}, which is not expanded; write its value"
            yield Problem(path=(*path, key), sentence=sentence)
        yield from _variables(value, (*path, key))


def _warn(source: Source, label: str, resource: Resource, body: Mapping[str, Any]) -> None:
    idle = dict.fromkeys(
        resource.idle_keys(), f"has no effect with {resource.kind}; remove it, unless you mean to change back"
    )
    if UPSTREAMS_LAUNCHER in body:
        idle[UPSTREAMS_LAUNCHER] = (
            "has no effect; write mpi: true for MPI programs, and mpi_launcher: for the program that starts them"
        )
    for key, sentence in idle.items():
        source.warn(Problem(path=(label, key), sentence=sentence), ConfigWarning)
