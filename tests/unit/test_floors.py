"""The house: what may import what, what is public, and what an import costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import chiltepin

SOURCE = Path(chiltepin.__file__).parent

FLOORS = {
    "errors": 0,
    "forks": 0,
    "limits": 0,
    "threads": 0,
    "model": 0,
    "owned": 0,
    "paths": 0,
    "screen": 0,
    "protocol": 1,
    "settings": 1,
    "arguments": 1,
    "backends": 2,
    "choice": 3,
    "journal": 3,
    "registry": 3,
    "absence": 4,
    "activity": 4,
    "arrivals": 4,
    "batch": 4,
    "checkup": 4,
    "callbacks": 4,
    "chores": 4,
    "claims": 4,
    "deletions": 4,
    "departures": 4,
    "errand": 4,
    "exits": 4,
    "unread": 4,
    "hub": 4,
    "listing": 4,
    "notes": 4,
    "outcomes": 4,
    "record": 4,
    "repeats": 4,
    "service": 4,
    "transfers": 4,
    "underway": 4,
    "worker": 4,
    "executors": 5,
    "compute": 5,
    "pools": 5,
    "workerpool": 5,
    "interchange": 5,
    "configure": 5,
    "descendants": 5,
    "draining": 5,
    "last": 5,
    "ending": 5,
    "files": 5,
    "kernel": 5,
    "futures": 5,
    "caching": 5,
    "guards": 5,
    "nested": 5,
    "remote": 5,
    "progress": 5,
    "schedulers": 5,
    "signals": 5,
    "staging": 5,
    "tasks": 5,
    "data": 5,
    "workflow": 5,
    "testing": 5.5,
    "cli": 6,
}

#: Packages that only some rooms may load.
WALLS = {
    "parsl": {5, 5.5, 6},
    "globus_sdk": {2, 5.5},
    "flask": {5.5},
    "pytest": {5.5},
    "globus_compute_sdk": {5},
    "fsspec": {2},
    "pydantic": {1},
    "yaml": {1},
    "click": {6},
    "rich": {5, 6},
}


def room_of(file: Path) -> str:
    """The room that a file belongs to."""
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imports(file: Path) -> set[str]:
    """All modules that a file imports, those for type checkers only left out."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "chiltepin":
            found |= {f"chiltepin.{chiltepin._HOMES.get(alias.name, alias.name)}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        waiting.extend(ast.iter_child_nodes(node))
    return found


FILES = [file for file in sorted(SOURCE.rglob("*.py")) if file != SOURCE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_room_imports_from_its_own_floor_or_below(file):
    """No module imports from a floor above its own, and only some floors load heavy packages."""
    room = room_of(file)
    assert room in FLOORS, f"{room} has no floor yet; give it one here and in docs/concepts."
    for module in imports(file):
        top, *below = module.split(".")
        if top == "chiltepin" and below:
            assert FLOORS[below[0]] <= FLOORS[room], f"{room} imports {module}, which is above it"
        if top in WALLS:
            assert FLOORS[room] in WALLS[top], f"{room} imports {top}"


def test_rooms_of_one_floor_do_not_import_in_a_circle():
    """Between rooms, also of one floor, imports go one way only."""
    graph: dict[str, set[str]] = {}
    for file in FILES:
        rooms = {module.split(".")[1] for module in imports(file) if module.startswith("chiltepin.")}
        graph.setdefault(room_of(file), set()).update(rooms - {room_of(file)})
    while ready := {room for room in graph if not graph[room] & set(graph)}:
        for room in ready:
            del graph[room]
    assert not graph


def test_backends_do_not_import_each_other():
    """A backend imports nothing of another backend."""
    for file in FILES:
        parts = file.relative_to(SOURCE).parts
        if parts[0] == "backends" and len(parts) > 2:
            for module in imports(file):
                if module.startswith("chiltepin.backends."):
                    assert module.split(".")[2] == parts[1]


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


def test_a_worker_that_copies_loads_neither_parsl_nor_an_sdk(tmp_path):
    """The process that moves the bytes between folders loads no Parsl, no SDK and not even fsspec."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "f").write_bytes(b"x")
    setup = json.dumps({"backend": "local", "endpoints": {"a": {}, "b": {}}, "options": {"root": str(tmp_path)}})
    code = f"""
from chiltepin.worker import Call, transfer_task
call = Call(setup={setup!r}, submission_id="1", stop_file="{tmp_path}/stop", check=True)
transfer_task(call, timeout=60, polling_interval=1, src_ep="a", dst_ep="b", src_path="/f", dst_path="/g")
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
