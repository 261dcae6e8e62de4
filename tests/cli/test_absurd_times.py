"""Modification times that no calendar has: they are unknown, and everything else is shown and moved."""

from __future__ import annotations

import io
import tarfile

import pytest
from terminals import Terminal

#: Seconds since 1970: years before 1, after 9999, and beyond what the C library can convert.
TIMES = {"early": "-100000000000", "late": "400000000000", "far": "100000000000000000", "none": "nan", "never": "inf"}


@pytest.fixture
def archive(user, local):
    """A world in which endpoint ``t`` is a tar archive with a file of each time, and a file of today."""
    with tarfile.open(user / "t.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, time in (TIMES | {"today": "1700000000"}).items():
            info = tarfile.TarInfo(f"d/{name}")
            info.size, info.pax_headers = 1, {"mtime": time}
            tar.addfile(info, io.BytesIO(b"x"))
    places = {"t": f"tar://::{user}/t.tar", "b": str(local.b)}
    local.backend = "filesystem"
    local.write(backend="filesystem", endpoints={name: {"filesystem": {"url": url}} for name, url in places.items()})
    return local


def test_an_absurd_time_is_unknown(archive):
    """A file whose time no calendar has is shown by ls and stat with an unknown time, and the other files as usual."""
    listed = {entry["path"]: entry["modified"] for entry in archive.json("ls", "t:/d")}
    assert listed == dict.fromkeys(TIMES) | {"today": "2023-11-14T22:13:20+00:00"}
    assert len(archive.run("ls", "-l", "t:/d").out.splitlines()) == len(listed)
    for name in TIMES:
        assert archive.json("stat", f"t:/d/{name}")["modified"] is None


@pytest.mark.parametrize("level", [None, "size", "mtime"])
def test_a_folder_with_absurd_times_is_compared_and_moved(archive, level):
    """Comparing, a dry run and a transfer work with files whose times no calendar has."""
    synced = ("--sync-level", level) if level else ()
    planned = archive.run("transfer", "-r", "t:/d", "b:/d", "--dry-run", *synced)
    assert (planned.code, planned.err) == (0, "")
    assert archive.run("transfer", "-r", "t:/d", "b:/d", *synced).code == 0
    assert archive.run("compare", "t:/d", "b:/d").code == 0


def test_files_with_absurd_times_are_counted(archive):
    """On a terminal, the bar of a transfer of such files prints no traceback."""
    with Terminal(archive, "transfer", "-r", "t:/d", "b:/d") as terminal:
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.shown
    assert len(list((archive.b / "d").iterdir())) == len(TIMES) + 1
