"""``chiltepin activity``."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import tty
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from terminals import CTRL_C, Terminal

from chiltepin.cli.params import Since


@pytest.fixture
def busy(world):
    """A world with one completed transfer and one of a missing file."""
    (world.a / "x.csv").write_bytes(b"12345")
    assert world.run("transfer", "a:/x.csv", "b:/y.csv", "--label", "mine").code == 0
    assert world.run("transfer", "a:/none.csv", "b:/z.csv").code == 1
    return world


def lines(text):
    """Parse a text with one JSON document per line."""
    return [json.loads(line) for line in text.splitlines()]


def test_what_moved_and_what_failed_is_shown_on_every_backend(busy):
    """Each task is a line with its state, endpoints, files and bytes; each failure has a message; a summary is last."""
    ended = busy.run("activity")
    assert ended.code == 0
    head, moved, failed, why, last = ended.out.splitlines()
    assert head.split()[:3] == ["Started", "State", "Backend"]
    assert re.search(rf"succeeded  {busy.backend} +a -> b +1 +5 bytes .* mine: /x.csv -> /y.csv$", moved)
    assert re.search(rf"failed +{busy.backend} +a -> b +0 .* /none.csv -> /z.csv$", failed)
    assert why.startswith("a -> b  /none.csv -> /z.csv: ")
    assert "none.csv" in why
    assert re.fullmatch(r"2 tasks since .*: 1 failed, 1 file, 5 bytes", last)


def test_json_is_one_line_for_each_task(busy):
    """-F json prints one document per line, with times in UTC and all counts, on every backend."""
    moved, failed = lines(busy.run("activity", "-F", "json").out)
    assert (moved["backend"], moved["state"], moved["bytes_done"], moved["files_done"]) == (
        busy.backend,
        "succeeded",
        5,
        1,
    )
    assert moved["items"] == [{"source": "/x.csv", "destination": "/y.csv"}]
    assert (failed["state"], bool(failed["reason"])) == ("failed", True)
    assert "NOT_FOUND" in failed["code"]
    for key in ("asked", "ended"):
        assert datetime.fromisoformat(moved[key]).utcoffset() == timedelta()


def test_options_choose_tasks(busy):
    """Each option selects the tasks that match it."""

    def chosen(*words):
        return [task["label"] or task["state"] for task in lines(busy.run("activity", "-F", "json", *words).out)]

    assert chosen("--failed") == chosen("--last", 1) == ["failed"]
    assert chosen("--label", "MIN") == ["mine"]
    assert chosen("--backend", busy.backend, "--endpoint", "b") == ["mine", "failed"]
    assert chosen("--backend", "none") == chosen("--endpoint", "c") == []


def test_deletions_are_activity_too(busy):
    """A deletion is shown with its endpoint."""
    assert busy.run("delete", "b:/y.csv", "--yes").code == 0
    assert lines(busy.run("activity", "-F", "json").out)[-1]["kind"] == "delete"
    assert "b (delete)" in busy.run("activity").out


def test_a_service_that_refuses_is_shown(service):
    """A submission that the service rejects is shown as a failed task with the service's reason."""
    (service.a / "x").touch()
    service.simulator.collection("b").denied = {"/"}
    service.run("transfer", "a:/x", "b:/x")
    [task] = lines(service.run("activity", "-F", "json").out)
    assert (task["state"], bool(task["reason"])) == ("failed", True)


def test_nothing_to_show_is_a_sentence(local):
    """Without activity the command says so; with -F json it prints nothing."""
    assert "No activity" in local.run("activity").out
    assert local.run("activity", "-F", "json").out == ""


def test_it_needs_no_settings(local):
    """Without a settings file the command shows the user's journal."""
    (local.folder / "chiltepin.yaml").unlink()
    assert local.run("activity").code == 0


def test_settings_without_a_journal_are_told(local):
    """With ``journal: false`` the command exits with 2 and names the setting."""
    local.write(journal=False)
    ended = local.run("activity")
    assert (ended.code, ended.out) == (2, "")
    assert "journal" in ended.err


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01", "5", "-2h", "9999-01-01", "1e9d", "٣h", ""])
def test_a_wrong_since_is_a_sentence(local, wrong):
    """An invalid or future --since exits with 2 and examples of valid values."""
    ended = local.run("activity", f"--since={wrong}")
    assert ended.code == 2
    assert re.search(r"write a period, such as 30m, 2h or 7d|write a time in the past", ended.err)


NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("1.5d", NOW - timedelta(days=1.5)),
        ("0s", NOW),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-11-22T11:00Z", NOW - timedelta(hours=1)),
        ("2026-11-22T12:00+02:00", NOW - timedelta(hours=2)),
    ],
)
def test_since_is_a_moment(text, moment):
    """A duration counts back from now; a time can include a UTC offset."""
    assert Since(lambda: NOW).convert(text, None, None) == moment


def test_a_day_is_a_local_one():
    """A date without a UTC offset starts at midnight in local time."""
    day = Since(lambda: NOW).convert("2026-11-20", None, None)
    assert day.astimezone().replace(tzinfo=None) == datetime(2026, 11, 20)  # noqa: DTZ001 - a local one


def test_since_leaves_out_what_is_older(busy):
    """--since omits the tasks that have not changed since that time."""
    assert busy.run("activity", "--since", "0s", "-F", "json").out == ""
    assert len(lines(busy.run("activity", "--since", "1h", "-F", "json").out)) == 2


def test_a_hostile_name_does_not_reach_the_terminal(local):
    """Escape sequences in names are printed escaped in tables and messages; JSON has the name unchanged."""
    hostile = "\x1b[31mred\n\u202etxt"
    (local.a / hostile).touch()
    assert local.run("transfer", f"a:/{hostile}", "b:/z").code == 0
    assert local.run("transfer", f"a:/{hostile}-none", "b:/z").code == 1
    shown = local.run("activity").out
    assert r"\x1b[31mred\n\u202etxt" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert lines(local.run("activity", "-F", "json").out)[0]["items"][0]["source"] == f"/{hostile}"


def test_on_a_terminal_failures_stand_out_and_follow_ends_quietly(local):
    """--follow shows tasks as they end; Ctrl-C exits with 0 and without a message."""
    (local.a / "x").write_bytes(b"1")
    local.run("transfer", "a:/x", "b:/before")
    with Terminal(local, "activity", "--follow", "--since", "1h", columns=120) as terminal:
        terminal.until("/before")
        local.run("transfer", "a:/x", "b:/during")
        terminal.until("succeeded.*/during")
        local.run("transfer", "a:/none", "b:/during")
        terminal.until("failed.*/none.*FILE_NOT_FOUND")
        terminal.type(CTRL_C)
        assert terminal.ended() == 0
        assert not re.search("Traceback|Interrupted|Aborted", terminal.shown)


def test_a_narrow_terminal_breaks_no_word_but_paths(local):
    """On 80 columns the times, states and endpoints are not broken; on 40 the table becomes a list."""
    folder = local.a / "observations-of-a-long-campaign"
    folder.mkdir()
    (folder / "station-one.csv").write_bytes(b"1")
    local.run("transfer", f"a:/{folder.name}", f"b:/{folder.name}", "-r")
    with Terminal(local, "activity") as terminal:
        assert terminal.ended() == 0
        assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d +succeeded +a -> b +1 byte ", terminal.shown)
        assert re.search(r"1 task since .*: 0 failed, 1 file, 1 byte", terminal.shown)
        assert "Speed" not in terminal.shown
    with Terminal(local, "activity", columns=40) as terminal:
        assert terminal.ended() == 0
        assert re.search(r"State: succeeded\s+Endpoints: a -> b\s+Bytes: 1 byte\s+What: /observations", terminal.shown)
    with Terminal(local, "activity", columns=140) as terminal:
        terminal.until("Speed +Took +What")


def test_follow_gives_lines_of_json_as_they_come(local):
    """--follow -F json prints each update of a task as one line at once; earlier tasks are not printed."""
    (local.a / "x").write_bytes(b"1")
    local.run("transfer", "a:/x", "b:/before")
    process = local.process("activity", "--follow", "-F", "json", stdout=subprocess.PIPE, text=True)
    try:
        # The command counts tasks that end before its first poll as earlier ones.
        while not select.select([process.stdout], [], [], 0.3)[0]:
            local.run("transfer", "a:/x", "b:/during")
        [task] = lines(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert (task["items"][0]["destination"], task["state"]) == ("/during", "succeeded")


def test_a_page_is_written(busy):
    """--html writes a page, replaces an existing one, and prints the number of tasks and its size."""
    (busy.folder / "page.html").write_text("old")
    ended = busy.run("activity", "--html", "page.html")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"page.html: 2 tasks, .* kB\n", ended.out)
    assert "none.csv" in (busy.folder / "page.html").read_text()
    assert not list(busy.folder.glob("*.tmp"))


def test_a_page_that_cannot_be_written_is_a_sentence(local):
    """A page in a missing folder exits with 1 and a one-line message."""
    ended = local.run("activity", "--html", "nowhere/page.html")
    assert ended.code == 1
    assert re.fullmatch(r"chiltepin: Could not write the page to 'nowhere/page.html': No such .*\n", ended.err)


def test_a_page_behind_a_link_replaces_the_target(local):
    """--html follows a link, even one to a missing file: the link stays, and its target is the page."""
    (local.folder / "www").mkdir()
    (local.folder / "www" / "old.html").write_text("old")
    for name in ("old.html", "new.html"):
        link = local.folder / name
        link.symlink_to(f"www/{name}")
        assert local.run("activity", "--html", name).code == 0
        assert link.is_symlink()
        assert "<html" in (local.folder / "www" / name).read_text()
    assert sorted(os.listdir(local.folder / "www")) == ["new.html", "old.html"]


def test_a_page_is_written_into_a_device_or_pipe(local):
    """--html writes the page into a terminal, a pipe and a link to a pipe, and replaces none of them."""
    reading, writing = os.pipe()
    leader, follower = pty.openpty()
    tty.setraw(follower)
    os.mkfifo(local.folder / "pipe")
    fifo = os.open(local.folder / "pipe", os.O_RDWR)
    (local.folder / "link").symlink_to("pipe")
    places = {
        f"/dev/fd/{writing}": reading,
        os.ttyname(follower): leader,
        str(local.folder / "pipe"): fifo,
        str(local.folder / "link"): fifo,
    }
    for place, output in places.items():
        before = os.stat(place)
        with ThreadPoolExecutor(1) as pool:
            page = pool.submit(read_page, output)
            assert local.run("activity", "--html", place).code == 0
            assert page.result(timeout=60).lstrip().startswith(b"<!DOCTYPE html>")
        assert os.path.samestat(before, os.stat(place))
    assert (local.folder / "link").is_symlink()
    for descriptor in (reading, writing, leader, follower, fifo):
        os.close(descriptor)


def read_page(descriptor):
    """Read from a descriptor until the page ends, or nothing arrives."""
    page = b""
    while b"</html>" not in page and select.select([descriptor], [], [], 30)[0]:
        page += os.read(descriptor, 65536)
    return page


def test_a_page_cannot_replace_a_folder(local):
    """--html with a folder, or a link to one, is a usage error that says so."""
    (local.folder / "folder").mkdir()
    (local.folder / "link").symlink_to("folder")
    for name in ("folder", "link"):
        ended = local.run("activity", "--html", name)
        assert ended.code == 2
        assert f"'{name}' is a directory" in ended.err


@pytest.mark.parametrize("other", [("--follow",), ("-F", "json")])
def test_a_page_is_no_stream(local, other):
    """--html cannot be combined with --follow or -F json."""
    assert local.run("activity", "--html", "page.html", *other).code == 2
