"""``chiltepin stat``, ``mkdir``, ``rename`` and ``ls --filter``, on each backend."""

from __future__ import annotations

import pytest


@pytest.fixture
def filled(world):
    """A folder with files."""
    for name in ("data/x.csv", "data/y.nc", "data/Z.NC", "data/deep/w.nc"):
        path = world.a / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return world


def test_stat_tells_what_is_at_a_path(filled):
    """The lines have the name, kind, size and time; -F json agrees with the listing."""
    shown = filled.run("stat", "a:/data/x.csv")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Name:          x.csv\nKind:          file\nSize:          10\nLast Modified: 20")
    found = filled.json("stat", "a:/data/x.csv")
    [listed] = filled.json("ls", "a:/data", "--filter", "x.csv")
    assert found == {"name": "x.csv", **{key: listed[key] for key in ("kind", "size", "modified")}}
    assert filled.json("stat", "a:/data/")["kind"] == "dir"
    assert filled.json("stat", "a:")["kind"] == "dir"


def test_stat_of_nothing_is_exit_code_1(filled):
    """A missing path exits with 1 and a message."""
    shown = filled.run("stat", "a:/data/not")
    assert (shown.code, shown.out) == (1, "")
    assert "/data/not" in shown.err


def test_mkdir_makes_one_folder(filled):
    """One folder is created; an existing folder and a missing parent are errors."""
    assert filled.run("mkdir", "a:/data/new").code == 0
    assert (filled.a / "data" / "new").is_dir()
    again = filled.run("mkdir", "a:/data/new")
    assert again.code == 1
    assert "exists" in again.err
    assert filled.run("mkdir", "a:/not/new").code == 1
    assert not (filled.a / "not").exists()
    assert filled.run("mkdir", "a").code == 2


@pytest.mark.parametrize("new", ["/data/deep/v.csv", "a:/data/deep/v.csv", "data/deep/v.csv"])
def test_rename_gives_another_path(filled, new):
    """The new path can be given with or without the endpoint."""
    assert filled.run("rename", "a:/data/x.csv", new).code == 0
    assert (filled.a / "data" / "deep" / "v.csv").read_bytes() == b"data/x.csv"
    assert not (filled.a / "data" / "x.csv").exists()


def test_rename_replaces_nothing(filled):
    """An existing new path exits with 1, a path on another endpoint exits with 2, and all files are kept."""
    assert filled.run("rename", "a:/data/x.csv", "/data/y.nc").code == 1
    assert filled.run("rename", "a:/data", "/data/deep/data").code == 1
    assert filled.run("rename", "a:/data/x.csv", "b:/x.csv").code == 2
    assert sorted(path.read_bytes() for path in filled.a.rglob("*") if path.is_file()) == [
        b"data/Z.NC",
        b"data/deep/w.nc",
        b"data/x.csv",
        b"data/y.nc",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rename", "a:/data/x.csv", "/none/x.csv"), "There is no /none on endpoint 'a'."),
        (("rename", "a:/data/x.csv", "/none/deep/x.csv"), "There is no /none/deep on endpoint 'a'."),
        (("rename", "a:/data/x.csv", "/data/y.nc/x.csv"), "/data/y.nc on endpoint 'a' is not a folder"),
        (("rename", "a:/data/none", "/none/x"), "There is no /data/none on endpoint 'a'."),
        (("mkdir", "a:/none/x"), "There is no /none on endpoint 'a'."),
    ],
)
def test_what_is_missing_is_named(local, words, said):
    """If one of two paths, or the folder above one, is missing or is a file, the message names that one."""
    (local.a / "data").mkdir()
    for name in ("x.csv", "y.nc"):
        (local.a / "data" / name).write_text(name)
    ended = local.run(*words)
    assert (ended.code, said in ended.err) == (1, True), ended.err
    assert (local.a / "data" / "x.csv").read_text() == "x.csv"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("~*.nc", ["Z.NC", "y.nc"]),
        ("!~*.nc", ["deep/", "x.csv"]),
        ("y.nc", ["y.nc"]),
        ("=y.nc", ["y.nc"]),
        ("!=y.nc", ["Z.NC", "deep/", "x.csv"]),
        ("!y.nc", ["Z.NC", "deep/", "x.csv"]),
        ("*.nc", []),
        ("~d*p", ["deep/"]),
    ],
)
def test_a_filter_shows_the_names_that_match(filled, pattern, names):
    """The patterns mean the same as in ``globus ls --filter``."""
    assert filled.run("ls", "a:/data", "--filter", pattern).out.splitlines() == names


def test_a_filter_of_a_whole_tree(filled):
    """With -r every name below is compared, and folders that do not match are still searched."""
    assert filled.run("ls", "-r", "a:/data", "--filter", "~*.nc").out.splitlines() == ["Z.NC", "deep/w.nc", "y.nc"]
    assert filled.run("ls", "a:/data", "--filter", "a/b").code == 2


def test_a_folder_of_more_entries_than_one_answer_has(service):
    """A listing is complete if the service returns it in pages."""
    service.simulator.settings.listing_size = 7
    for number in range(50):
        (service.a / f"{number:02}.nc").touch()
    assert len(service.run("ls", "a:/").out.splitlines()) == 50
    assert len(service.run("ls", "a:/", "--filter", "~4*.nc").out.splitlines()) == 10
