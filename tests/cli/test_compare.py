"""``chiltepin compare``: each difference, and what was compared."""

from __future__ import annotations

import os

import pytest

FILES = {"same.csv": b"same", "deep/x.nc": b"x", "changed.csv": b"one", "older.csv": b"time"}


@pytest.fixture
def filled(world):
    """Two folders with the same files and times."""
    for folder in (world.a / "x", world.b / "y"):
        for name, content in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return world


def test_equal_folders_are_exit_code_0(filled):
    """Without a difference, one line says what was compared, and the exit code is 0."""
    shown = filled.run("compare", "a:/x", "b:/y")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == "Compared 4 files and 1 folder by name, kind and size: no differences.\n"


def test_each_difference_is_told(filled):
    """Missing names and differing kinds and sizes are reported, with exit code 1."""
    (filled.a / "x" / "new").mkdir()
    (filled.a / "x" / "new" / "file").touch()
    (filled.b / "y" / "extra").touch()
    (filled.b / "y" / "deep" / "x.nc").write_bytes(b"longer")
    (filled.b / "y" / "same.csv").unlink()
    (filled.b / "y" / "same.csv").mkdir()
    shown = filled.run("compare", "a:/x", "b:/y")
    assert (shown.code, shown.err) == (1, "")
    assert shown.out == (
        "deep/x.nc: size differs: 1, 6\n"
        "extra: only in b:/y\n"
        "new: only in a:/x\n"
        "same.csv: kind differs: file, dir\n"
        "Compared 5 files and 2 folders by name, kind and size: 4 differences.\n"
    )


def test_the_sync_level_says_what_is_the_same(filled):
    """The level mtime compares times, checksum compares contents, and exists compares only names."""
    os.utime(filled.b / "y" / "older.csv", (1_600_000_000, 1_600_000_000))
    (filled.b / "y" / "changed.csv").write_bytes(b"two")
    os.utime(filled.b / "y" / "changed.csv", (1_700_000_000, 1_700_000_000))
    assert filled.run("compare", "a:/x", "b:/y").code == 0
    assert filled.run("compare", "a:/x", "b:/y", "-s", "exists").code == 0
    times = filled.run("compare", "a:/x", "b:/y", "-s", "mtime")
    assert times.code == 1
    assert times.out.startswith("older.csv: time differs: 2023-11-14T22:13:20+00:00, 2020-09-13T12:26:40+00:00\n")
    contents = filled.run("compare", "a:/x", "b:/y", "-s", "checksum", "-F", "json")
    assert contents.code == 1
    if filled.simulator:
        assert "cannot compare contents; give --sync-level" in contents.err
    else:
        assert '"path": "changed.csv",\n      "what": "content"' in contents.out
        assert '"compared": [\n    "name",\n    "kind",\n    "size",\n    "content"\n  ]' in contents.out


def test_two_files(filled):
    """Two files are compared like two files of a folder; a file and a folder differ in their kind."""
    assert filled.run("compare", "a:/x/same.csv", "b:/y/same.csv").code == 0
    shown = filled.run("compare", "a:/x/same.csv", "b:/y/changed.csv")
    assert (shown.code, shown.out.splitlines()[0]) == (1, ".: size differs: 4, 3")
    shown = filled.run("compare", "a:/x/same.csv", "b:/y")
    assert (shown.code, shown.out.splitlines()[0]) == (1, ".: kind differs: file, dir")


def test_what_is_missing_is_an_error(filled):
    """A missing path exits with 1 and a message, without differences."""
    shown = filled.run("compare", "a:/x", "b:/not")
    assert (shown.code, shown.out) == (1, "")
    assert "b:/not does not exist" in shown.err


def test_links_are_not_followed(filled):
    """A link is compared by its name and kind, and the last line says so."""
    for folder in (filled.a / "x", filled.b / "y"):
        (folder / "link").symlink_to("same.csv")
    shown = filled.run("compare", "a:/x", "b:/y")
    assert shown.code == 0
    assert "1 link or special file by name and kind" in shown.out


def test_a_named_link_is_followed(filled):
    """A link that is one of the two paths is followed, as in a transfer; on Globus, only a link to a folder."""
    for folder in (filled.a / "x", filled.b / "y"):
        for name, target in {"link": "same.csv", "to_deep": "deep", "dangling": "none"}.items():
            (folder / name).symlink_to(target)
    assert filled.run("compare", "a:/x/to_deep", "b:/y/deep").out.startswith("Compared 1 file and 0 folders")
    assert filled.run("compare", "a:/x/link", "b:/y/link").code == 0
    if filled.simulator:
        return
    assert filled.run("transfer", "a:/x/link", "b:/copy").code == 0
    assert filled.run("compare", "a:/x/link", "b:/copy", "-s", "checksum").out.startswith("Compared 1 file and")
    assert "a:/x/dangling does not exist" in filled.run("compare", "a:/x/dangling", "b:/copy").err


def test_special_files_and_dots(filled):
    """Pipes are compared by their kind, and dots in a path are resolved."""
    for folder in (filled.a / "x", filled.b / "y"):
        os.mkfifo(folder / "pipe")
    assert filled.run("compare", "a:/x/pipe", "b:/y/pipe").code == 0
    assert filled.run("compare", "a:/x/pipe", "b:/y/same.csv").out.splitlines()[0] == ".: kind differs: other, file"
    assert filled.run("compare", "a:/x/same.csv/.", "b:/y/deep/../same.csv").out.startswith("Compared 1 file and")
    assert filled.run("compare", "a:/x/.", "b:/y/deep/..").code == 0


def test_a_transfer_makes_them_equal(filled):
    """After a transfer with --delete-destination-extra, compare finds no difference."""
    (filled.a / "x" / "new.csv").write_bytes(b"new")
    (filled.b / "y" / "extra.csv").write_bytes(b"extra")
    assert filled.run("compare", "a:/x", "b:/y").code == 1
    assert filled.run("transfer", "-r", "a:/x", "b:/y", "--delete-destination-extra", "-s", "size").code == 0
    assert filled.run("compare", "a:/x", "b:/y").code == 0
