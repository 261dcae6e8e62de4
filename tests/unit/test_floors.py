"""The layers of the package: allowed imports, public names, and the cost of an import."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import chiltepin

SOURCE = Path(chiltepin.__file__).parent

#: The layer of each top-level module or subpackage, which may import only from its own and lower layers.
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

#: Third-party packages, each with the parts of the package that may import it.
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

#: Parts of one layer that must not import each other.
NEIGHBOURS = {frozenset({"settings", "backends"}), frozenset({"globus", "filesystem"})}


def named(file: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(("chiltepin", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {named(file): file for file in sorted(SOURCE.rglob("*.py"))}


def imported(file: Path) -> set[str]:
    """Return every module, ours or third-party, that a file imports anywhere, even for type checkers only."""
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


@cache
def graph() -> dict[str, set[str]]:
    """Return what each module imports, itself left out."""
    return {module: imported(file) - {module} for module, file in MODULES.items()}


def room_of(module: str) -> str:
    """Return the top-level module or subpackage that contains a module."""
    return module.split(".")[1]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "chiltepin"])
def test_no_module_imports_from_above(module):
    """No module imports from a higher layer, and only the listed parts import heavy packages."""
    for other in graph()[module]:
        top, *below = other.split(".")
        if top == "chiltepin" and below and not allowed_above(module, other):
            assert FLOORS[below[0]] <= FLOORS[room_of(module)], f"{module} imports {other}, which is above it"
        if top in WALLS:
            assert room_of(module) in WALLS[top], f"{module} imports {top}"


def allowed_above(module: str, other: str) -> bool:
    """Return whether an import is the one exception: the command that runs the simulator."""
    return module == "chiltepin.cli.commands.simulate" and other.startswith("chiltepin.testing.simulator")


def test_rooms_of_one_floor_that_are_apart_do_not_import_each_other():
    """Settings and backends do not import each other; nor do the backends `globus` and `filesystem`."""
    for module, others in graph().items():
        for other in others:
            apart = frozenset(module.split(".")[1:3]), frozenset(other.split(".")[1:3])
            assert not any(
                len(pair & apart[0]) == 1 and len(pair & apart[1]) == 1 and pair <= apart[0] | apart[1]
                for pair in NEIGHBOURS
            ), f"{module} imports {other}"


def test_no_import_goes_in_a_circle():
    """There are no import cycles, not even within a subpackage, inside functions or for type checkers only."""
    inner = {module: others & MODULES.keys() for module, others in graph().items()}
    TopologicalSorter(inner).prepare()  # raises CycleError, which names the cycle


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages that a new process has loaded after running some code."""
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
    """Neither importing the package nor `chiltepin --help` loads a heavy package."""
    assert not loaded_by(code) & {"parsl", "globus_sdk", "globus_compute_sdk", "fsspec", "pydantic", "requests", "rich"}


def test_the_bar_of_a_command_is_light():
    """The progress bar of the command line loads neither Parsl, the Globus SDK nor fsspec."""
    assert not loaded_by("import chiltepin.cli.progress_bar") & {"parsl", "globus_sdk", "fsspec"}


def test_a_script_that_only_copies_loads_neither_parsl_nor_an_sdk(tmp_path, monkeypatch):
    """`transfer` and `delete`, which need no workflow, load neither Parsl, an SDK nor fsspec."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "f").write_bytes(b"x")
    (tmp_path / "chiltepin.yaml").write_text(f"data: {{backend: local, root: {tmp_path}, endpoints: {{here: {{}}}}}}")
    monkeypatch.chdir(tmp_path)
    code = "from chiltepin import delete, transfer\ntransfer('here', 'here', '/f', '/g')\ndelete('here', '/f')"
    assert not loaded_by(code) & {"parsl", "globus_sdk", "fsspec"}
    assert os.listdir(tmp_path / "here") == ["g"]


def test_a_worker_that_copies_loads_neither_parsl_nor_an_sdk(tmp_path):
    """A worker that copies between local folders loads neither Parsl, an SDK nor fsspec."""
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
    """Every name in `__all__` exists, and any other name raises an AttributeError that names it."""
    for name in chiltepin.__all__:
        assert getattr(chiltepin, name) is not None
    assert set(chiltepin.__all__) <= set(dir(chiltepin))
    with pytest.raises(AttributeError, match="no attribute 'transfr'"):
        chiltepin.transfr  # noqa: B018
