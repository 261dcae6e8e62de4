"""Roots under other names, and folders copied into themselves: bind mounts, overlays, links, `..`.

CHILTEPIN_TREES sets the number of generated layouts, each mounted in a process with a separate mount namespace.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile

import pytest
from elsewhere import NoDiskError
from test_generated_trees import seeds
from worlds import world_of

from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState

#: Folders of the disk; the roots are some of them.
FOLDERS = ("p", "p/q", "p/q/r", "p/s", "t", "t/u")


@pytest.fixture
def done(machine):
    """Run a function in the process with the separate mounts."""

    def do(function, *arguments):
        try:
            return machine(function, *arguments)
        except NoDiskError as err:
            pytest.skip(str(err))

    return do


def bound(folder, name):
    """Bind-mount a folder."""
    os.makedirs(name, exist_ok=True)
    if subprocess.run(["mount", "--bind", folder, name], capture_output=True, check=False).returncode:
        raise NoDiskError("no folder can be mounted a second time here (mount --bind)")


def layered(folder, name, *, apart=True):
    """Mount a folder as the upper layer of an overlay, with other inodes if the lower layer is on a disk ``apart``."""
    for path in (name, f"{name}-lower", f"{name}-work"):
        os.makedirs(path, exist_ok=True)
    layers = f"lowerdir={name}-lower,upperdir={folder},workdir={name}-work,xino=off"
    commands = [["mount", "-t", "tmpfs", "tmpfs", f"{name}-lower"]] * apart
    for command in (*commands, ["mount", "-t", "overlay", "overlay", "-o", layers, name]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise NoDiskError("no overlay can be mounted here")


def unmounted(*names):
    """Unmount folders that `bound` and `layered` have mounted."""
    for name in names:
        for path in (name, f"{name}-lower"):
            subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def named_again(chance, top, folder, number):
    """Return a path to a folder of the disk, perhaps through ``..`` or a mount or link of it or a parent."""
    above = chance.choice([folder[:at] for at, letter in enumerate(f"{folder}/") if letter == "/"])
    rest = folder[len(above) :]
    other = f"{top}/other{number}"
    kind = chance.choice(("same", "bind", "overlay", "link", "up"))
    if kind in ("bind", "overlay"):
        if kind == "bind":
            bound(f"{top}/disk/{above}", other)
        else:
            layered(f"{top}/disk/{above}", other, apart=chance.random() < 0.5)
        return other + rest
    if kind == "link":
        os.symlink(f"disk/{above}", other)
        return other + rest
    return f"{top}/disk/t/../{folder}" if kind == "up" else f"{top}/disk/{folder}"


def layout(seed):
    """Delete and mirror on one layout of roots; return the removed or replaced roots, and the outcomes."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    with tempfile.TemporaryDirectory() as top:
        try:
            return _layout(chance, top)
        finally:
            unmounted(*(f"{top}/other{number}" for number in range(4)))


def _layout(chance, top):
    for folder in FOLDERS:
        os.makedirs(f"{top}/disk/{folder}")
        with open(f"{top}/disk/{folder}/file", "w") as file:
            file.write(folder)
    os.mkdir(f"{top}/empty")
    kept = chance.sample(FOLDERS, 2)
    roots = {f"root{number}": named_again(chance, top, folder, number) for number, folder in enumerate(kept)}
    disk = named_again(chance, top, "", 3) if chance.random() < 0.5 else f"{top}/disk"
    world = world_of({"laptop": f"{top}/empty", "scratch": disk.rstrip("/"), **roots})
    before = {folder: os.stat(f"{top}/disk/{folder}") for folder in kept}
    said = []
    for _ in range(3):
        path = "/" + chance.choice(FOLDERS)
        try:
            if chance.random() < 0.5:
                status = world.remove(path, recursive=True)
            else:
                status = world.move("/", os.path.dirname(path), recursive=True, delete_destination_extra=True)
        except ChiltepinError as err:
            said.append(type(err).__name__)
        else:
            said.append(f"{status.state.name} {status.code}")
    lost = [
        folder
        for folder, facts in before.items()
        if not os.path.exists(f"{top}/disk/{folder}") or not os.path.samestat(os.stat(f"{top}/disk/{folder}"), facts)
    ]
    return lost, said


@pytest.mark.timeout(3600)
def test_no_root_is_deleted_by_any_of_its_names(done):
    """Whatever mounts and links give an endpoint's root another name, no deletion or mirror removes it."""
    said = []
    for seed in seeds():
        lost, outcomes = done(layout, seed)
        assert not lost, f"seed {seed}: the roots {lost} are gone; {outcomes}"
        said += outcomes
    assert "FAILED PERMISSION_DENIED" in said
    assert any(outcome.startswith("SUCCEEDED") for outcome in said)


def into_itself(mirror):
    """Copy a folder into itself through a bind mount, a link or another spelling."""
    said = {}
    with tempfile.TemporaryDirectory() as top:
        os.makedirs(f"{top}/disk/a/b/goal")
        for name in ("f", "b/g", "b/goal/old"):
            with open(f"{top}/disk/a/{name}", "w") as file:
                file.write(name)
        os.symlink("disk/a/b", f"{top}/link")
        bound(f"{top}/disk/a/b", f"{top}/bind")
        bound(f"{top}/disk", f"{top}/whole")
        layered(f"{top}/disk", f"{top}/layers")
        try:
            for name in ("link", "bind", "whole/a/b", "disk/a/../a/b", "layers/a/b"):
                world = world_of({"laptop": f"{top}/disk", "scratch": f"{top}/{name}"})
                status = world.move("/a", "/goal", recursive=True, delete_destination_extra=mirror)
                with open(f"{top}/disk/a/f") as file:
                    whole = file.read() == "f" and os.path.exists(f"{top}/disk/a/b/g")
                deepest = max(len(above.split("/")) for above, _, _ in os.walk(f"{top}/disk/a"))
                said[name] = (status.state.name, status.code, whole, deepest - len(top.split("/")))
        finally:
            unmounted(*(f"{top}/{name}" for name in ("bind", "whole", "layers")))
    return said


@pytest.mark.parametrize("mirror", [False, True])
def test_a_walk_that_meets_its_destination_ends(done, mirror):
    """Copying a folder into itself under another name fails and does not recurse."""
    said = done(into_itself, mirror)
    assert {outcome[:3] for outcome in said.values()} == {("FAILED", "INVALID_PATH_NAME", True)}, said
    assert all(outcome[3] <= 5 for outcome in said.values()), said


def source_in_destination():
    """Mirror a folder that is inside its destination through a bind mount."""
    with tempfile.TemporaryDirectory() as top:
        os.makedirs(f"{top}/disk/d/source")
        os.makedirs(f"{top}/work")
        with open(f"{top}/disk/d/source/f", "w") as file:
            file.write("kept")
        bound(f"{top}/disk/d/source", f"{top}/work")
        try:
            status = world_of({"laptop": f"{top}/work", "scratch": f"{top}/disk"}).move(
                "/", "/d", recursive=True, delete_destination_extra=True
            )
            return status.code, sorted(os.listdir(f"{top}/disk/d/source"))
        finally:
            subprocess.run(["umount", "--lazy", f"{top}/work"], check=False)


def test_a_mirror_does_not_remove_its_own_source(done):
    """A mirror keeps a source that its destination contains under another name."""
    assert done(source_in_destination) == ("PERMISSION_DENIED", ["f"])


def test_a_root_that_is_a_link_is_resolved_for_each_task(tmp_path):
    """If an endpoint's root is a link, each task follows its current target, and a removed link fails the task."""
    for name in ("laptop", "run1", "run2"):
        (tmp_path / name).mkdir()
    (tmp_path / "laptop/f").write_text("f")
    link = tmp_path / "current"
    link.symlink_to("run1")
    world = world_of({"laptop": str(tmp_path / "laptop"), "scratch": str(link)})
    assert world.move("/f", "/one").state is TaskState.SUCCEEDED
    link.unlink()
    link.symlink_to("run2")
    assert world.move("/f", "/two").state is TaskState.SUCCEEDED
    assert {entry.name for entry in world.transfers.ls("scratch", "/")} == {"two"}
    link.unlink()
    assert world.move("/f", "/three").code == "FILE_NOT_FOUND"
    # A folder with the name of the link.
    (tmp_path / "run2").rename(link)
    assert world.move("/f", "/four").state is TaskState.SUCCEEDED
    assert sorted(os.listdir(tmp_path / "run1")) == ["one"]
    assert sorted(os.listdir(link)) == ["four", "two"]


@pytest.mark.parametrize("how", ["delete", "tree", "mirror", "replace", "into", "folder"])
def test_the_link_that_a_root_is_named_by_stays(tmp_path, how):
    """A link in the path of an endpoint's root is neither deleted nor replaced through another endpoint."""
    for name in ("laptop/d", "laptop/with-folder/current", "laptop/with-file", "disk/d", "disk/runs/1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "laptop/with-file/current").write_text("f")
    (tmp_path / "laptop/f").write_text("f")
    (tmp_path / "disk/d/current").symlink_to("../runs/1")
    world = world_of(
        {
            "laptop": str(tmp_path / "laptop"),
            "scratch": str(tmp_path / "disk"),
            "run": str(tmp_path / "disk/d/current"),
        }
    )
    status = {
        "delete": lambda: world.remove("/d/current"),
        "tree": lambda: world.remove("/d", recursive=True),
        "mirror": lambda: world.move("/d", "/d", recursive=True, delete_destination_extra=True),
        "replace": lambda: world.move("/f", "/d/current"),
        "into": lambda: world.move("/with-file", "/d", recursive=True),
        "folder": lambda: world.move("/with-folder", "/d", recursive=True, delete_destination_extra=True),
    }[how]()
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert world.move("/f", "/g", dst_ep="run").state is TaskState.SUCCEEDED
    assert (tmp_path / "disk/runs/1/g").exists()


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("latest/../input", "right"),
        ("latest/../../input", "middle"),
        ("./latest/./../input", "right"),
        ("sub/../latest/../input", "right"),
        ("again/../input", "right"),
        ("{root}/latest/../input", "right"),
        ("{named}/latest/../input", "right"),
    ],
)
def test_a_link_is_followed_as_the_kernel_does(tmp_path, target, read):
    """`..` after a link means the parent of the link's target, in files and in trees."""
    root = tmp_path / "disk"
    (root / "runs/2026/out").mkdir(parents=True)
    (root / "sub").mkdir()
    for name, content in (("input", "wrong"), ("runs/input", "middle"), ("runs/2026/input", "right")):
        (root / name).write_text(content)
    (root / "latest").symlink_to("runs/2026/out")
    (root / "again").symlink_to("latest")
    (tmp_path / "named").symlink_to("disk")
    (root / "link").symlink_to(target.format(root=root, named=tmp_path / "named"))
    (root / "up").symlink_to("latest/..")
    (tmp_path / "scratch").mkdir()
    world = world_of({"laptop": str(tmp_path / "named"), "scratch": str(tmp_path / "scratch")})
    assert (root / "link").read_text() == read
    assert world.move("/link", "/copy").state is TaskState.SUCCEEDED
    assert (tmp_path / "scratch/copy").read_text() == read
    assert world.move("/up", "/tree", recursive=True).state is TaskState.SUCCEEDED
    assert (tmp_path / "scratch/tree/input").read_text() == "right"


def test_a_link_up_from_what_is_no_folder_leads_nowhere(tmp_path):
    """As in the kernel, `..` after a file or a missing name is an error, and nothing is copied."""
    for name in ("laptop", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "laptop/f").write_text("f")
    for name, target in (("behind-a-file", "f/../f"), ("behind-nothing", "none/../f")):
        (tmp_path / "laptop" / name).symlink_to(target)
    world = world_of({name: str(tmp_path / name) for name in ("laptop", "scratch")})
    assert world.move("/behind-a-file", "/x").code == "NOT_A_DIRECTORY"
    assert world.move("/behind-nothing", "/x").code == "FILE_NOT_FOUND"
    assert os.listdir(tmp_path / "scratch") == []
