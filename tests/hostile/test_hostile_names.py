"""Names with terminal escapes, line breaks and HTML: no command prints them unescaped."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from warm import warm_command

NAME = "a\x1b]0;owned\x07\x1b[2J\r\n\u202egnp\x9b31m<script>alert(1)&\udcff"


@pytest.fixture
def chiltepin(tmp_path):
    """Return a function that runs a command over two folders."""
    for name in ("one", "two"):
        (tmp_path / name / NAME).mkdir(parents=True)
    (tmp_path / "one" / NAME / NAME).write_bytes(b"x")
    # This folder prevents the copy of the file.
    (tmp_path / "two" / NAME / NAME).mkdir()
    endpoints = {name: {"filesystem": f"{tmp_path}/{name}"} for name in ("one", "two")}
    data = {"backend": "filesystem", "endpoints": endpoints, "journal": str(tmp_path / "journal")}
    (tmp_path / "c.yaml").write_text(json.dumps({"data": data}))
    environment = {**os.environ, "CHILTEPIN_CONFIG": str(tmp_path / "c.yaml")}

    def run(*words):
        return subprocess.run(
            [warm_command("chiltepin"), *words],
            capture_output=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=90,
        )

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "one:/"),
        ("ls", "-l", "-r", "one:/"),
        ("ls", f"one:/{NAME}-not"),
        ("transfer", "-r", "one:/", "two:/"),
        ("transfer", f"one:/{NAME}", f"two:/{NAME}/x"),
        ("transfer", "--dry-run", f"one:/{NAME}", "two:/x"),
        ("transfer", "--label", NAME, "-r", "one:/", "two:/new"),
        ("delete", "--yes", f"two:/{NAME}"),
        ("delete", "--dry-run", f"two:/{NAME}"),
        ("compare", "one:/", "two:/"),
        ("stat", f"one:/{NAME}"),
        ("stat", f"one:/{NAME}-not"),
        ("rename", f"two:/{NAME}", f"/{NAME}-new"),
        ("mkdir", f"two:/{NAME}-made/{NAME}"),
        ("ls", "one:/", "--filter", f"!{NAME}"),
        ("ls", f"{NAME}:/"),
        ("check", NAME),
    ],
    ids=lambda words: "-".join(words[:2]) if len(words[1]) < 12 else words[0],
)
def test_no_command_shows_what_a_terminal_obeys(chiltepin, words):
    """Both output streams contain printable lines only."""
    done = chiltepin(*words)
    for stream in (done.stdout, done.stderr):
        shown = stream.decode()
        assert all(line.isprintable() for line in shown.split("\n")), shown
        assert "\x1b" not in shown


def test_activity_and_its_page_show_names_as_text(chiltepin, tmp_path):
    """After a failed transfer of such a name, the table shows it escaped, and the page contains it only as text."""
    chiltepin("transfer", "-r", "one:/", "two:/")
    shown = chiltepin("activity").stdout.decode()
    assert "gnp" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert chiltepin("activity", "--html", str(tmp_path / "page.html")).returncode == 0
    page = (tmp_path / "page.html").read_text(encoding="ascii")
    assert "gnp" in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
