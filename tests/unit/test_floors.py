"""The house: what may import what, what is public, and what an import costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import chiltepin

SOURCE = Path(chiltepin.__file__).parent

#: The floor of each room, by the name at the top of the package; a module may import from its own floor and from below.
FLOORS = {
    "model": 1,
    "errors": 1.1,
    "protocol": 1.2,
    "settings": 3,
    "backends": 3,
    "transfers": 4,
    "parsl": 5,
    "endpoint": 6,
    "tasks": 6.1,
    "data": 6.2,
    "staging": 6.3,
    "configure": 6.4,
    "workflow": 6.5,
    "testing": 6.9,
    "cli": 7,
}

#: Third-party packages that only some rooms may load.
WALLS = {
    "parsl": {"parsl", "tasks", "data", "staging", "configure", "workflow", "testing", "cli"},
    "globus_sdk": {"backends", "testing"},
    "globus_compute_sdk": {"parsl"},
    "flask": {"testing"},
    "pytest": {"testing"},
    "fsspec": {"backends"},
    "pydantic": {"settings"},
    "yaml": {"settings"},
    "click": {"cli"},
    "rich": {"parsl", "cli"},
}

#: Rooms of one floor that must not import each other.
NEIGHBOURS = {frozenset({"settings", "backends"}), frozenset({"globus", "filesystem"})}


def named(file: Path) -> str:
    """The dotted name of a module."""
    return ".".join(("chiltepin", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {named(file): file for file in sorted(SOURCE.rglob("*.py"))}


def imported(file: Path) -> set[str]:
    """What a file imports anywhere, also for type checkers only: modules of ours, packages of others."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "chiltepin":
            names = [f"chiltepin.{chiltepin._HOMES.get(alias.name, alias.name)}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {
            name if name in MODULES or not name.startswith("chiltepin.") else name.rpartition(".")[0] for name in names
        }
    return found


GRAPH = {module: imported(file) - {module} for module, file in MODULES.items()}


def room_of(module: str) -> str:
    """The room that a module belongs to."""
    return module.split(".")[1]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "chiltepin"])
def test_no_module_imports_from_above(module):
    """No module imports from a floor above its own, and only some rooms load heavy packages."""
    for other in GRAPH[module]:
        top, *below = other.split(".")
        if top == "chiltepin" and below and not allowed_above(module, other):
            assert FLOORS[below[0]] <= FLOORS[room_of(module)], f"{module} imports {other}, which is above it"
        if top in WALLS:
            assert room_of(module) in WALLS[top], f"{module} imports {top}"


def allowed_above(module: str, other: str) -> bool:
    """Whether an import is the one that goes to the room beside the house: a command that runs the simulator."""
    return module == "chiltepin.cli.commands.simulate" and other.startswith("chiltepin.testing.simulator")


def test_rooms_of_one_floor_that_are_apart_do_not_import_each_other():
    """Settings know no backend and backends no settings; a backend imports nothing of another backend."""
    for module, others in GRAPH.items():
        for other in others:
            apart = frozenset(module.split(".")[1:3]), frozenset(other.split(".")[1:3])
            assert not any(
                len(pair & apart[0]) == 1 and len(pair & apart[1]) == 1 and pair <= apart[0] | apart[1]
                for pair in NEIGHBOURS
            ), f"{module} imports {other}"


def test_no_import_goes_in_a_circle():
    """No modules import each other in a circle, also not inside a room, later, or for type checkers only."""
    graph = {module: others & MODULES.keys() for module, others in GRAPH.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh process has loaded after some code."""
    probe = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import chiltepin",
        "import sys, chiltepin.cli.main as m\ntry: m.chiltepin.main(['--help'])\nexcept SystemExit: pass",
    ],
    ids=["import chiltepin", "chiltepin --help"],
)
def test_the_door_is_light(code):
    """Importing the package, and asking for help, load nothing heavy."""
    assert not loaded_by(code) & {"parsl", "globus_sdk", "globus_compute_sdk", "fsspec", "pydantic", "requests", "rich"}


def test_the_bar_of_a_command_is_light():
    """The command line draws with the view of workflows, and does not wait for Parsl to be loaded."""
    assert not loaded_by("import chiltepin.cli.progress_bar") & {"parsl", "globus_sdk", "fsspec"}


def test_a_worker_that_copies_loads_neither_parsl_nor_an_sdk(tmp_path):
    """The process that moves the bytes between folders loads no Parsl, no SDK and not even fsspec."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "f").write_bytes(b"x")
    setup = json.dumps({"backend": "local", "endpoints": {"a": {}, "b": {}}, "options": {"root": str(tmp_path)}})
    code = f"""
from chiltepin.transfers.worker import AppPayload, transfer_task
payload = AppPayload(setup={setup!r}, submission_id="1", stop_file="{tmp_path}/stop")
transfer_task(payload, timeout=60, polling_interval=1, src_ep="a", dst_ep="b", src_path="/f", dst_path="/g")
"""
    assert not loaded_by(code) & {"parsl", "globus_sdk", "globus_compute_sdk", "fsspec", "pydantic", "requests"}
    assert (tmp_path / "b" / "g").read_bytes() == b"x"


def test_every_public_name_is_there():
    """What the package promises in __all__ exists, and what it does not have is refused by name."""
    for name in chiltepin.__all__:
        assert getattr(chiltepin, name) is not None
    assert set(chiltepin.__all__) <= set(dir(chiltepin))
    with pytest.raises(AttributeError, match="no attribute 'transfr'"):
        chiltepin.transfr  # noqa: B018
