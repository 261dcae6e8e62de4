"""``chiltepin ls``."""

from __future__ import annotations

import os
import re

import pytest


@pytest.fixture
def filled(world):
    """A world with a file, a hidden file, and a folder that contains a file."""
    (world.a / "data" / "deep").mkdir(parents=True)
    (world.a / "data" / "x.csv").write_bytes(b"12345")
    (world.a / "data" / ".hidden").write_bytes(b"")
    (world.a / "data" / "deep" / "y.csv").write_bytes(b"1")
    os.utime(world.a / "data" / "x.csv", (0, 86400))
    return world


def test_names_are_in_order_with_a_stroke_behind_folders(filled):
    """Names are listed in order, one per line; folders end with a slash, and hidden files are included."""
    assert filled.run("ls", "a:/data").out == ".hidden\ndeep/\nx.csv\n"


def test_without_a_path_it_is_the_home_folder(filled):
    """``ls EP`` and ``ls EP:`` list the home folder, here the root."""
    assert filled.run("ls", "a").out == filled.run("ls", "a:").out == "data/\n"


def test_the_long_form_has_kind_size_and_time(filled):
    """-l shows the kind, the size in bytes, and the modification time in UTC."""
    lines = filled.run("ls", "-l", "a:/data").out.splitlines()
    assert re.fullmatch(r"dir +- +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +deep/", lines[1])
    assert lines[2].split() == ["file", "5", "1970-01-02", "00:00:00", "x.csv"]


def test_recursive_shows_what_is_below(filled):
    """-r lists all folders below, each directly before its contents."""
    assert filled.run("ls", "-r", "a:/data").out == ".hidden\ndeep/\ndeep/y.csv\nx.csv\n"


def test_json_is_for_programs(filled):
    """-F json contains the path, kind, size and time."""
    found = filled.json("ls", "-r", "a:data")
    assert [entry["path"] for entry in found] == [".hidden", "deep", "deep/y.csv", "x.csv"]
    assert found[-1] == {"path": "x.csv", "kind": "file", "size": 5, "modified": "1970-01-02T00:00:00+00:00"}


def test_what_is_not_there_is_one_sentence_and_exit_code_1(filled):
    """A missing folder exits with 1 and prints one line on stderr and nothing on stdout."""
    ended = filled.run("ls", "a:/nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(r"chiltepin: .*nowhere.*\n", ended.err)


def test_a_hostile_name_does_not_reach_the_terminal(filled):
    """Escape sequences, line breaks and bidirectional marks are printed as in a Python string, also in messages."""
    hostile = "\x1b[31mred\n\u202etxt"
    (filled.a / "data" / hostile).mkdir()
    shown = filled.run("ls", "-r", "-l", "a:/data").out
    assert r"\x1b[31mred\n\u202etxt/" in shown
    assert "\x1b" not in shown
    refused = filled.run("ls", f"a:/data/{hostile}/none").err
    assert "\x1b" not in refused
    assert refused.count("\n") == 1
    assert hostile in [entry["path"] for entry in filled.json("ls", "a:/data")]


def test_a_folder_that_cannot_be_listed_does_not_hide_the_others(service):
    """With -r, a folder that cannot be listed is reported at the end, with exit code 1; the rest is listed."""
    for name in ("one", "two"):
        (service.a / name).mkdir()
        (service.a / name / "file").touch()
    service.simulator.collection("a").denied = {"/one"}
    ended = service.run("ls", "-r", "a:/")
    assert (ended.code, ended.out) == (1, "one/\ntwo/\ntwo/file\n")
    assert "/one" in ended.err


def test_a_file_and_what_is_not_there_are_told_apart(local):
    """The message differs between a path that is a file and a path that does not exist."""
    (local.a / "file").touch()
    assert local.run("ls", "a:/file").err == (
        "chiltepin: /file on endpoint 'a' is not a folder, or is not below a folder; name a folder.\n"
    )
    assert local.run("ls", "a:/typo").err == "chiltepin: There is no /typo on endpoint 'a'.\n"
