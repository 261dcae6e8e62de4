"""The activity log, and the page generated from it."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path

import pytest
from journal_entries import entries

from chiltepin.errors import ChiltepinError
from chiltepin.model import NO_TASK, TaskState, TaskStatus
from chiltepin.transfers.activity import ActivityLog, ActivityReader
from chiltepin.transfers.activity.page import page, write
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.recorder import TaskLog, TaskRecorder
from chiltepin.transfers.runner import open_transfers

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


class Clock:
    """A time of day that the test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        """Return the time."""
        return self.now


@pytest.fixture
def clock():
    """The clock of the activity log."""
    return Clock()


@pytest.fixture
def folder(tmp_path):
    """The journal folder."""
    return str(tmp_path / "journal")


@pytest.fixture
def local(tmp_path, folder):
    """Transfers on the backend `local` with endpoints ``a`` and ``b``; ``a`` has a file of five bytes."""
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    setup = {
        "backend": "local",
        "endpoints": {"a": {"folder": "a"}, "b": {"folder": "b"}},
        "options": {"root": str(tmp_path)},
        "journal": folder,
    }
    return open_transfers(json.dumps(setup))


def request_of(source="/x", target="/y", **options):
    """Return a transfer request from ``a`` to ``b``."""
    return transfer_request(src_ep="a", dst_ep="b", src_path=source, dst_path=target, **options)


def written(folder):
    """Return all lines of all activity files, without validation."""
    paths = sorted(Path(folder).glob("*.activity"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def told(folder, clock, *, state=TaskState.SUCCEEDED, source="/x", label="", **counts):
    """Log a complete task, and return what a reader reports."""
    activity_log = ActivityLog(folder, clock)
    task_log = TaskLog(activity_log, "1", request_of(source, label=label), backend="globus", asked=clock.now)
    task_log.began("task")
    clock.now += timedelta(seconds=4)
    task_log.ended(TaskStatus(handle=NO_TASK, state=state, **counts))
    return ActivityReader(folder).news()


def test_a_transfer_of_this_process_is_one_line_with_all_that_it_did(local, folder):
    """A short transfer writes one line: endpoints, paths, label, state, bytes, files, faults, and times in UTC."""
    before = datetime.now(timezone.utc)
    local.run(request_of(label="mine"), timeout=60, polling_interval=1)
    [line] = written(folder)
    known = {"backend": "local", "from": "a", "to": "b", "items": [["/x", "/y"]], "label": "mine", "state": "succeeded"}
    assert {key: line[key] for key in known} == known
    assert (line["bytes"], line["files"], line["faults"]) == (5, 1, 0)
    moments = [datetime.fromisoformat(line[key]) for key in ("asked", "moving", "at")]
    assert sorted(moments) == moments
    assert before <= moments[0]
    assert {moment.utcoffset() for moment in moments} == {timedelta()}


def test_a_reader_of_one_task_returns_only_that_task(local, folder):
    """With `only`, the lines of other tasks are skipped; the text may contain characters that JSON escapes."""
    for target in ("/y", '/"ü"'):
        local.run(request_of(target=target), timeout=60, polling_interval=1)
    first, second = ActivityReader(folder).news()
    assert ActivityReader(folder, only=first.name).news() == [first]
    assert ActivityReader(folder, only=second.name).news() == [second]
    assert ActivityReader(folder, only='"ü"').news() == [second]
    assert ActivityReader(folder, only="none").news() == []


def test_what_failed_and_why_is_there(local, folder):
    """A missing source file is logged as a failed task with the code and message of the error."""
    local.run(request_of("/none"), timeout=60, polling_interval=1)
    [move] = ActivityReader(folder).news()
    assert (move.shown, move.code, move.bad) == ("failed", "FILE_NOT_FOUND", True)
    assert "/none" in move.reason


def test_what_was_refused_is_there(local, folder):
    """A request that is refused before it becomes a task is logged as failed, with the message of its error."""
    with pytest.raises(ChiltepinError) as caught:
        local.run(delete_request(src_ep="a", src_path="/", recursive=True), timeout=60, polling_interval=1)
    [move] = ActivityReader(folder).news()
    assert (move.shown, move.kind) == ("failed", "delete")
    assert move.reason in str(caught.value)


def test_what_is_not_called_anything_keeps_its_words(local, folder, clock):
    """A request that a service refuses is logged as failed, with the complete error message."""
    recorder = TaskRecorder(local.backend, None, ActivityLog(folder, clock))
    recorder.record_intent("1", request_of(), waited=0.0)
    recorder.refused("1", ChiltepinError("'/' is a root."))
    [move] = ActivityReader(folder).news()
    assert (move.shown, move.reason) == ("failed", "'/' is a root.")


def test_the_journal_that_is_resumed_from_does_not_see_it(local, folder):
    """The activity log adds no entries to the journal."""
    local.run(request_of(), timeout=60, polling_interval=1)
    assert written(folder)
    assert entries(folder) == []


def test_no_secret_is_written(tmp_path, folder):
    """The activity log contains no endpoint options, which may hold secrets, even after a failure."""
    place = {"url": "memory://secret-place", "options": {"password": "hunter2", "token": "t0ken"}}
    setup = {"backend": "filesystem", "endpoints": {"a": place, "b": place}, "options": {}, "journal": folder}
    with pytest.raises(ChiltepinError):
        open_transfers(json.dumps(setup)).run(
            delete_request(src_ep="a", src_path="/", recursive=True), timeout=60, polling_interval=1
        )
    text = "".join(path.read_text() for path in Path(folder).iterdir())
    assert text
    assert not [word for word in ("hunter2", "t0ken", "secret-place") if word in text]


def test_a_long_task_tells_how_it_goes(folder, clock):
    """A running task reports its bytes and why it waits; its wait ends at the last poll that saw no progress."""
    activity_log = ActivityLog(folder, clock)
    task_log = TaskLog(activity_log, "1", request_of(), backend="globus", asked=clock.now - timedelta(seconds=5))
    reader = ActivityReader(folder)
    task_log.began("task")
    assert [move.shown for move in reader.news()] == ["active"]
    status = TaskStatus(handle=NO_TASK, state=TaskState.PAUSED, code="PAUSED", reason="The collection is paused.")
    clock.now += timedelta(seconds=10)
    task_log.seen(status)
    assert [(move.shown, move.reason) for move in reader.news()] == [("paused", "The collection is paused.")]
    clock.now += timedelta(seconds=10)
    task_log.seen(TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, bytes_done=700))
    [move] = reader.news()
    assert (move.shown, move.bytes, move.waited, move.speed) == ("active", 700, 15, 70)
    task_log.ended(TaskStatus(handle=NO_TASK, state=TaskState.SUCCEEDED, bytes_done=1000, files_done=1))
    [move] = reader.news()
    assert (move.shown, move.bytes, move.waited, move.lasted) == ("succeeded", 1000, 15, 25)
    assert reader.news() == []


def test_lines_about_a_living_task_become_rare(folder, clock):
    """A poll that finds the same state soon after the last line adds no line."""
    task_log = TaskLog(ActivityLog(folder, clock), "1", request_of(), backend="local", asked=clock.now)
    for done in range(1, 100):
        task_log.seen(TaskStatus(handle=NO_TASK, state=TaskState.ACTIVE, bytes_done=done))
    assert [line["event"] for line in written(folder)] == ["began", "seen"]


@pytest.mark.parametrize(("failed", "shown"), [(2, "partial"), (3, "failed")])
def test_a_task_that_lost_items_is_partial(folder, clock, failed, shown):
    """A succeeded task with failed items is shown as partial, or as failed if all items failed."""
    [item] = (whole := request_of()).items
    request = replace(whole, items=(item, replace(item, source="/u"), replace(item, source="/v")))
    task_log = TaskLog(ActivityLog(folder, clock), "1", request, backend="globus", asked=clock.now)
    task_log.ended(TaskStatus(handle=NO_TASK, state=TaskState.SUCCEEDED, reason="no such file"), failed=failed)
    [move] = ActivityReader(folder).news()
    assert (move.shown, move.bad, move.failed) == (shown, True, failed)
    assert (move.moving is None) == (shown == "failed")


def test_tasks_of_a_killed_process_have_an_unknown_end(folder, clock):
    """A task whose process was killed before the task ended is shown as unknown, not as active."""
    code = f"""
import os, datetime
from chiltepin.transfers.activity import ActivityLog
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.recorder import TaskLog
request = transfer_request(src_ep="a", dst_ep="b", src_path="/x", dst_path="/y")
now = lambda: datetime.datetime.now(datetime.timezone.utc)
TaskLog(ActivityLog({folder!r}, now), "1", request, backend="local", asked=now()).began()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    [move] = ActivityReader(folder).news()
    assert (move.shown, move.followed, move.ended) == ("unknown", False, None)


@pytest.mark.parametrize(
    "wrong",
    [
        b"no json\n",
        b"[]\n",
        b"null\n",
        b"\xff\x00\n",
        b'{"v":2,"event":"ended","id":"2","at":"2026-11-22T12:00:00+00:00"}\n',
        b'{"v":1,"event":"ended","id":"2","at":"2026-11-22T12:00:00+00:00"}\n',
        b'{"v":1,"event":"seen","id":"2","at":"2026-11-22T12:00:00"}\n',
        b'{"v":1,"event":"seen","id":"2","at":"0001-01-01T00:00:00+00:00"}\n',
        b'{"v":1,"event":"seen","id":"2","at":"2026-11-22T12:00:00+00:00","bytes":true}\n',
        b'{"v":1,"event":"seen","id":"2","at":"2026-11-22T12:00:00+00:00","bytes":1e999}\n',
        b'{"v":1,"event":"seen","id":"2","at":"2026-11-22T12:00:00+00:00","state":"flying"}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (2 << 20) + b"\n",
    ],
    ids=range(13),
)
def test_a_line_that_makes_no_sense_harms_no_other(folder, clock, wrong):
    """Lines that are too long, not JSON, or of another version or wrong type are skipped; other lines are read."""
    told(folder, clock)
    [path] = Path(folder).glob("*.activity")
    text = path.read_bytes()
    path.write_bytes(wrong + text + wrong)
    assert [move.name for move in ActivityReader(folder).news()] == ["1"]


def test_half_a_line_is_read_when_it_is_whole(folder, clock):
    """An incomplete line is reported once, when its end has been written."""
    told(folder, clock)
    [path] = Path(folder).glob("*.activity")
    text = path.read_bytes()
    path.write_bytes(text[:-10])
    reader = ActivityReader(folder)
    assert [move.shown for move in reader.news()] == ["active"]
    with path.open("ab") as file:
        file.write(text[-10:])
    assert [move.shown for move in reader.news()] == ["succeeded"]


def test_a_folder_that_cannot_be_written_harms_no_transfer(tmp_path, local, folder, caplog):
    """If the journal cannot be written, the transfer succeeds and a warning says what will be missing."""
    Path(folder).write_text("a file in its place")
    assert local.run(request_of(), timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    assert "chiltepin activity" in caplog.text


def test_old_files_go(folder, clock):
    """The next process that writes removes activity files not written for 30 days, and keeps other files."""
    Path(folder).mkdir()
    old, young, other = (Path(folder) / name for name in ("1.activity", "2.activity", "3.jsonl"))
    for file in (old, young, other):
        file.touch()
    for file in (old, other):
        os.utime(file, (0, 0))
    told(folder, clock)
    assert [file.exists() for file in (old, young, other)] == [False, True, True]


class Scripts(html.parser.HTMLParser):
    """The contents of script elements, and all elements and attributes, as a browser parses them."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.tags, self.found, self.values, self.inside = [], [], {}, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Record an element."""
        self.inside = tag
        self.tags.append(tag)
        self.values += [value for _, value in attrs]
        self.found |= {f"{tag} {name}": value for name, value in attrs}
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        """Record the end of an element."""
        self.inside = ""

    def handle_data(self, data):
        """Record the contents of a script."""
        if self.inside == "script":
            self.scripts[-1] += data


HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>$data\u202e\x1b[31m\udc80&amp;\u2028"


def test_hostile_names_stay_text_on_the_page(folder, clock):
    """Names that would end a script, start a comment or reverse the text direction add no element and stay data."""
    hostile = told(folder, clock, source=f"/{HOSTILE}", label=HOSTILE[:60], reason=HOSTILE, state=TaskState.FAILED)
    shown, plain = (Scripts(page(moves, since=NOW, now=NOW)) for moves in (hostile, []))
    assert shown.tags == plain.tags
    assert shown.scripts[1:] == plain.scripts[1:]
    [row] = json.loads(shown.scripts[0])["rows"]
    assert "</script><script>alert(1)" in row[5]
    assert not [char for char in row[5] if not char.isprintable()]


def test_the_page_runs_only_its_own_scripts_and_makes_no_request(folder, clock):
    """The page's content security policy allows only its own scripts, by hash, and the page loads no resource."""
    text = page(told(folder, clock), since=NOW, now=NOW)
    found = Scripts(text)
    [policy] = [value for value in found.values if value and "default-src 'none'" in value]
    for script in found.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert not {"link", "img", "iframe"} & set(found.tags)
    assert "script src" not in found.found


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """A failed write keeps the existing file and leaves no temporary file."""
    taken = tmp_path / "page.html"
    taken.mkdir()
    with pytest.raises(OSError, match="directory"):
        write(str(taken), [], since=NOW, now=NOW)
    assert os.listdir(tmp_path) == ["page.html"]


def test_the_library_is_the_one_that_was_taken():
    """The uPlot script is identical to that of release 1.6.32, and the page contains its license."""
    assets = files("chiltepin.transfers.activity") / "assets"
    digest = hashlib.sha256((assets / "uPlot.min.js").read_bytes()).hexdigest()
    assert digest == "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
    assert (assets / "uPlot.LICENSE").read_text() in page([], since=NOW, now=NOW)


@pytest.mark.parametrize("how", ["open to all", "a second name", "a link"])
def test_lines_that_another_user_can_have_written_are_not_shown(folder, clock, how):
    """Lines that another user can have written are not shown, and files of other users are not removed."""
    assert len(told(folder, clock)) == 1
    [file] = Path(folder).glob("*.activity")
    if how == "open to all":
        file.chmod(0o666)
    elif how == "a second name":
        file.with_suffix(".other").hardlink_to(file)
    else:
        file.rename(file.with_suffix(".other"))
        file.symlink_to(file.with_suffix(".other"))
    os.utime(file, (0, 0), follow_symlinks=False)
    assert ActivityReader(folder).news() == []
    told(folder, clock)
    assert file.is_symlink() or file.exists()
