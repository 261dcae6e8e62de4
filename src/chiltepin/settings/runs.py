"""The top-level keys about runs: where Parsl writes its logs, and how many run folders are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from chiltepin.settings.document import RUN_KEYS
from chiltepin.settings.endpoints import located, machine_folder
from chiltepin.settings.limits import COUNT
from chiltepin.settings.messages import Problem, Strict, misfit, validate

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KEEP_ALL", "RunSettings", "is_run_key", "read_runs"]

#: The value of ``keep_runs`` that removes no run folder.
KEEP_ALL = "all"


_EXAMPLE = "/scratch/me/runinfo"


def _folder(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise misfit(f"write a folder of this machine, such as {_EXAMPLE}")
    return machine_folder(value, example=_EXAMPLE)


def _count(value: Any) -> Any:
    if value != KEEP_ALL and not (COUNT.holds(value) and value == int(value)):
        raise misfit(f"write a whole number of at least 1, or {KEEP_ALL!r} to keep every run folder")
    return value if value == KEEP_ALL else int(value)


class RunSettings(Strict):
    """Where to create run folders, and how many to keep; ``KEEP_ALL`` keeps all of them."""

    run_dir: Annotated[str, BeforeValidator(_folder)] = "runinfo"
    keep_runs: Annotated[int | str, BeforeValidator(_count)] = 20


def is_run_key(label: Any, body: Any) -> bool:
    """Whether a top-level key is about runs; with a mapping it is a resource of that name."""
    return label in RUN_KEYS and not isinstance(body, Mapping)


def read_runs(config: Mapping[str, Any], folder: str) -> tuple[RunSettings, Iterable[Problem]]:
    """Return the settings about runs, and all problems; a relative path is resolved against ``folder``."""
    own = {key: config[key] for key in RUN_KEYS if is_run_key(key, config.get(key)) and config.get(key) is not None}
    runs, problems = validate(RunSettings, own, path=(), noun="the settings")
    if runs is None:
        return RunSettings(), problems
    return runs.model_copy(update={"run_dir": located(runs.run_dir, folder)} if "run_dir" in own else {}), problems
