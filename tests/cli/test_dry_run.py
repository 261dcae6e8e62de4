"""``--dry-run`` lists what the command then does.

CHILTEPIN_TREES sets the number of generated trees, or a range of seeds such as 1000:2000.
"""

from __future__ import annotations

import os
import random
import shutil
import stat

import pytest


def tree(folder):
    """The files below a folder with their contents; the names of folders end with a slash."""
    return {
        f"/{path.relative_to(folder)}{'/' if path.is_dir() else ''}": path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def write(folder, names):
    """Write files with these contents and a modification time in the past."""
    for name, content in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))


SOURCE = {
    "data/new.csv": b"new",
    "data/same.csv": b"same",
    "data/longer.csv": b"longer",
    "data/other.csv": b"other",
    "data/deep/x.nc": b"x",
    "data/skip/y.csv": b"y",
    "data/is_file": b"f",
    "data/is_folder/z.csv": b"z",
}
DESTINATION = {
    "in/same.csv": b"same",
    "in/longer.csv": b"short",
    "in/other.csv": b"OTHER",
    "in/extra.csv": b"extra",
    "in/extra.nc": b"extra",
    "in/gone/deep/a.csv": b"a",
    "in/skip/b.csv": b"b",
    "in/is_file/c.csv": b"c",
    "in/is_folder": b"d",
}

OPTIONS = [
    (),
    ("-s", "exists"),
    ("-s", "size"),
    ("-s", "mtime"),
    ("-s", "checksum"),
    ("--exclude", "*.csv"),
    ("--exclude-dirs", "skip", "-s", "size"),
]


@pytest.fixture
def filled(world):
    """A source and a destination with every kind of difference."""
    write(world.a, SOURCE)
    write(world.b, DESTINATION)
    return world


@pytest.mark.parametrize("options", OPTIONS, ids=lambda words: "_".join(words) or "plain")
@pytest.mark.parametrize("extra", [False, True], ids=["", "extra"])
def test_what_is_listed_is_what_happens(filled, options, extra):
    """A dry run lists the files that the transfer then moves and the paths that it deletes."""
    if extra and filled.simulator and any(word.startswith("--exclude") for word in options):
        pytest.skip("refused on Globus")
    if not extra or "--exclude" in options or filled.simulator:
        # A folder in the place of a file fails the transfer unless all of the folder is removed.
        shutil.rmtree(filled.b / "in" / "is_file")
        (filled.b / "in" / "is_folder").unlink()
    words = ("transfer", "-r", "a:/data", "b:/in", *options, *(["--delete-destination-extra"] if extra else []))
    before = tree(filled.b)
    [shown] = filled.json(*words, "--dry-run")
    assert tree(filled.b) == before
    assert shown["problems"] == []

    filled.json(*words)
    after = tree(filled.b)
    moved = {one["destination"]: one["size"] for one in shown["would_move"]}
    assert moved == {path: len(after[path]) for path in moved}
    changed = {path for path in after if not path.endswith("/") and after[path] != before.get(path)}
    content_differs = {one["destination"] for one in shown["would_compare"]} & changed
    assert changed == {path for path in moved if after[path] != before.get(path)} | content_differs
    deleted = set(shown["would_delete"])
    assert {path for path in before if path not in after} - {path for path in before if path.endswith("/")} <= deleted
    assert all(path not in after or path in moved for path in deleted)
    assert bool(deleted) is extra
    if filled.simulator:
        assert len(filled.simulator.tasks) == 1


def test_the_lists_for_people(filled):
    """The text output lists the files to move and the paths to delete, with their counts."""
    words = ("transfer", "-r", "a:/data", "b:/in", "-s", "checksum", "--include", "*.csv", "--exclude", "*")
    (filled.b / "in" / "is_folder").unlink()
    shown = filled.run(*words, "--delete-destination-extra", "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.partition("  - /data -> /in\n")[2] == (
        "  4 files, 11 bytes would move\n"
        "    /data/is_folder/z.csv -> /in/is_folder/z.csv\n"
        "    /data/longer.csv -> /in/longer.csv\n"
        "    /data/new.csv -> /in/new.csv\n"
        "    /data/skip/y.csv -> /in/skip/y.csv\n"
        "  2 files, 9 bytes would move if the content differs\n"
        "    /data/other.csv -> /in/other.csv\n"
        "    /data/same.csv -> /in/same.csv\n"
        "  2 files would be skipped\n"
        "  5 paths would be deleted\n"
        "    /in/extra.csv\n"
        "    /in/gone/\n"
        "    /in/gone/deep/\n"
        "    /in/gone/deep/a.csv\n"
        "    /in/skip/b.csv\n"
    )


def test_a_folder_in_the_place_of_a_file_is_a_problem(filled):
    """A conflict that would fail the transfer is reported with its path."""
    [shown] = filled.json("transfer", "-r", "a:/data", "b:/in", "--dry-run")
    assert [one.partition(" is a ")[0] for one in shown["problems"]] == ["b:/in/is_file", "b:/in/is_folder"]
    assert filled.run("transfer", "-r", "a:/data", "b:/in").code == 1


def test_what_is_missing_is_told_and_nothing_is_to_be_deleted(filled):
    """A missing source is reported, and no deletions are listed, because the transfer would delete nothing."""
    [shown] = filled.json("transfer", "-r", "a:/not", "b:/in", "--delete-destination-extra", "--dry-run")
    assert shown["would_move"] == shown["would_delete"] == []
    assert len(shown["problems"]) == 1
    [file] = filled.json("transfer", "a:/data/not", "b:/in/not", "--dry-run")
    assert file["problems"] == ["a:/data/not does not exist; check the path."]


def test_files_one_by_one(filled):
    """Single files, also in a batch, are looked up at both ends, with one listing per folder."""
    lines = "new.csv new.csv\nsame.csv same.csv\nlonger.csv longer.csv\nnot.csv not.csv\n"
    words = ("transfer", "a:/data", "b:/in", "--batch", "-", "-s", "size", "--dry-run")
    [shown] = filled.json(*words, stdin=lines)
    assert [one["source"] for one in shown["would_move"]] == ["/data/new.csv", "/data/longer.csv"]
    assert shown["would_skip"] == 1
    assert len(shown["problems"]) == 1
    if filled.simulator:
        assert sum(one.path.endswith("/ls") for one in filled.simulator.requests) == 2


def test_a_deletion_lists_what_goes(filled):
    """The dry run of a deletion lists exactly the paths that are then deleted."""
    before = tree(filled.b)
    [shown] = filled.json("delete", "-r", "b:/in", "--dry-run")
    assert tree(filled.b) == before
    assert filled.run("delete", "-r", "b:/in", "--yes").code == 0
    assert sorted(shown["would_delete"]) == sorted(set(before) - set(tree(filled.b)))
    [shown] = filled.json("delete", "a:/data", "--dry-run")
    assert shown["would_delete"] == []
    assert "is a folder" in shown["problems"][0]
    [shown] = filled.json("delete", "a:/not", "--ignore-missing", "--dry-run")
    assert (shown["would_delete"], shown["problems"]) == ([], [])


@pytest.mark.parametrize("options", [(), ("-r",)])
def test_a_missing_source_is_foreseen_as_skipped(world, options):
    """With --skip-source-errors a missing source counts as skipped and not as a problem."""
    foreseen = world.json("transfer", "a:/none", "b:/none", *options, "--skip-source-errors", "--dry-run")[0]
    assert (foreseen["would_skip"], foreseen["would_move"], foreseen["problems"]) == (1, [], [])


def seeds():
    """Return the seeds: 40, or the number or range in CHILTEPIN_TREES."""
    first, _, last = os.environ.get("CHILTEPIN_TREES", "40").rpartition(":")
    return range(int(first or 0), int(last))


def grow(chance, folder, depth=0):
    """Make a folder with files, folders, links and pipes."""
    folder.mkdir()
    for name in ("x", "y.nc", "z.txt", "s", "t"):
        path, kind = folder / name, chance.choice("ffdd--lpe")
        if kind == "f":
            path.write_text("ab"[: chance.randrange(3)])
            os.utime(path, (1e9 + chance.randrange(3), 1e9))
        elif kind == "d" and depth < 2:
            grow(chance, path, depth + 1)
        elif kind == "e":
            path.mkdir()
        elif kind == "l":
            path.symlink_to(chance.choice(["x", "y.nc", "nowhere", "s"]))
        elif kind == "p" and chance.random() < 0.3:
            os.mkfifo(path)


def states(folder):
    """The state of each path below a folder; it changes whenever a file is written."""
    found = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        is_folder = stat.S_ISDIR(facts.st_mode)
        found[f"/D/{path.relative_to(folder)}"] = is_folder, None if is_folder else (facts.st_ino, facts.st_mtime_ns)
    return found


def judge(shown, before, after, code):
    """Return what a dry run has announced and the transfer has not done, or the other way round."""
    if code or shown["problems"]:
        return bool(code) != bool(shown["problems"]) and (code, shown["problems"])
    moved = {one["destination"] for one in shown["would_move"]} ^ {
        path for path, (is_folder, state) in after.items() if not is_folder and before.get(path) != (False, state)
    }
    deleted = {path.rstrip("/") for path in shown["would_delete"]} ^ {
        path for path, (is_folder, _) in before.items() if path not in after or after[path][0] is not is_folder
    }
    return moved | deleted


@pytest.mark.timeout(3600)
def test_generated_trees_are_foreseen(world):
    """A dry run lists exactly what a transfer moves and deletes, and has a problem if and only if it then fails."""
    wrong = {}
    # A task of the simulated service takes a second.
    for seed in seeds()[:: 5 if world.simulator else 1]:
        chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        for folder in (world.a / "S", world.b / "D"):
            shutil.rmtree(folder, ignore_errors=True)
        grow(chance, world.a / "S")
        if chance.random() < 0.9:
            grow(chance, world.b / "D")
        level = chance.choice([(), ("-s", "exists"), ("-s", "size"), ("-s", "mtime")])
        filters = chance.choice([(), (), ("--exclude", "*.nc"), ("--include", "*.nc", "--exclude", "*")])
        extra = chance.random() < 0.5 and not (world.simulator and filters)
        words = ["transfer", "-r", "a:/S", "b:/D", *level, *filters, *(["--delete-destination-extra"] * extra)]
        [shown] = world.json(*words, "--dry-run")
        before = states(world.b / "D")
        code = world.run(*words).code
        if differs := judge(shown, before, states(world.b / "D"), code):
            wrong[seed] = differs
    assert wrong == {}


REFUSED = [
    ("transfer", "a:/d", "b:/new"),
    ("transfer", "a:/to_d", "b:/new"),
    ("transfer", "a:/dangling", "b:/new"),
    ("transfer", "a:/pipe", "b:/new"),
    ("transfer", "-r", "a:/f", "b:/new"),
    ("transfer", "a:/f", "b:/d"),
    ("transfer", "a:/f", "b:/f/below"),
    ("transfer", "-r", "a:/d", "b:/f"),
    ("transfer", "a:/f", "a:/d/../f"),
    ("transfer", "-r", "a:/", "a:/d/x"),
    ("transfer", "-r", "a:/d", "a:/d"),
    ("transfer", "-r", "a:/d", "a:/", "--delete-destination-extra"),
    ("delete", "-r", "a:/"),
    ("delete", "-r", "a:/d/.."),
    ("delete", "a:/d"),
    ("delete", "a:/none"),
]
DONE = [
    ("transfer", "a:/to_f", "b:/new"),
    ("transfer", "-r", "a:/to_d", "b:/new"),
    ("transfer", "a:/f/.", "b:/new"),
    ("transfer", "a:/f", "b:/to_d"),
    ("transfer", "a:/f", "b:/pipe"),
    ("delete", "a:/to_d"),
    ("delete", "-r", "a:/dangling"),
    ("delete", "a:/pipe"),
]


@pytest.fixture
def odd(world):
    """Two folders with a file, a folder, links to both, a dangling link and a pipe."""
    if world.simulator:
        pytest.skip("The documentation of Globus does not define these cases.")
    for folder in (world.a, world.b):
        write(folder, {"f": b"f", "d/g": b"g"})
        for name, target in {"to_f": "f", "to_d": "d", "dangling": "none"}.items():
            (folder / name).symlink_to(target)
        os.mkfifo(folder / "pipe")
    return world


def confirmed(words):
    """The words of a command that asks nothing."""
    return (*words, "--yes") if words[0] == "delete" else words


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_is_refused_is_a_problem(odd, words):
    """What the command refuses is a problem of its dry run, which then lists nothing."""
    [shown] = odd.json(*words, "--dry-run")
    assert len(shown["problems"]) == 1
    assert shown.get("would_move", []) == shown["would_delete"] == []
    assert odd.run(*confirmed(words)).code == 1


@pytest.mark.parametrize("words", DONE, ids=" ".join)
def test_what_is_done_is_no_problem(odd, words):
    """What the command does with links and special files is listed by its dry run without a problem."""
    [shown] = odd.json(*words, "--dry-run")
    assert shown["problems"] == []
    assert len(shown.get("would_move", []) + shown["would_delete"]) == 1
    assert odd.run(*confirmed(words)).code == 0
