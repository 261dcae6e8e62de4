"""The journal: the next process finds every entry, whatever happened to the process that wrote it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_entries import entries

from chiltepin.model import (
    CHECKSUMS,
    NOTIFY_EVENTS,
    SYNC_LEVELS,
    DeleteRequest,
    FilterRule,
    TaskHandle,
    TaskState,
    TransferItem,
    TransferRequest,
    notify_events,
)
from chiltepin.transfers.journal import Journal, JournalEntry, OtherProcesses, ProcessId

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SERVICE = {"backend": "globus", "service": "https://transfer.example/"}
DELETE = DeleteRequest(endpoint="scratch", paths=("/old",))

# Any file name on a disk: text, and bytes that are not valid text (os.fsdecode).
NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
TIMES = st.datetimes(timezones=st.just(timezone.utc))
CHOICES = st.none() | st.booleans()
COMMON = {
    "recursive": st.booleans(),
    "label": NAMES,
    "deadline": st.none() | TIMES,
    "notify": st.none() | st.sets(st.sampled_from(NOTIFY_EVENTS)).map(list).map(notify_events),
    "submission_id": NAMES,
}
CHECKSUM = st.just("") | st.sampled_from(list(CHECKSUMS)).map(lambda name: f"{name}:{'0a' * (CHECKSUMS[name] // 2)}")
TRANSFERS = {
    **COMMON,
    "source": NAMES,
    "destination": NAMES,
    "items": st.lists(st.builds(TransferItem, source=NAMES, destination=NAMES, checksum=CHECKSUM)).map(tuple),
    "sync_level": st.none() | st.sampled_from(SYNC_LEVELS),
    "verify_checksum": st.booleans(),
    "preserve_timestamp": st.booleans(),
    "delete_destination_extra": st.booleans(),
    "skip_source_errors": st.booleans(),
    "accept_skipped": st.booleans(),
    "encrypt_data": CHOICES,
    "fail_on_quota_errors": CHOICES,
    "checksum_algorithm": st.just("") | st.sampled_from(list(CHECKSUMS)),
    "source_local_user": NAMES,
    "destination_local_user": NAMES,
    "filters": st.lists(
        st.builds(
            FilterRule,
            method=st.sampled_from(["include", "exclude"]),
            name=NAMES,
            kind=st.sampled_from(["file", "dir"]),
        )
    ).map(tuple),
}
DELETES = {
    **COMMON,
    "endpoint": NAMES,
    "paths": st.lists(NAMES).map(tuple),
    "ignore_missing": st.booleans(),
    "local_user": NAMES,
    "globs": st.booleans(),
}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@pytest.fixture
def clock():
    """A clock moved by hand."""
    return Clock()


@pytest.fixture
def folder(tmp_path):
    """The journal folder, which does not exist yet."""
    return tmp_path / "state" / "journal"


@pytest.fixture
def journal(folder, clock):
    """A journal of this process."""
    with_it = Journal(folder, clock=clock)
    yield with_it
    with_it.close()


@pytest.fixture
def reader(folder, clock):
    """A journal that has written nothing, like that of the next process before its first submission."""
    return Journal(folder, clock=clock)


def record_intent(journal: Journal, name: str, *, hours: float = 1, request=DELETE, **service: str) -> None:
    """Record an intent with a deadline some hours after START."""
    journal.record_intent(name, request, deadline=START + timedelta(hours=hours), **{**SERVICE, **service})


def handle(name: str) -> TaskHandle:
    """Return the handle of a submission's task."""
    return TaskHandle(backend="globus", task_id=f"task-{name}", submission_id=name)


def unfinished(journal: Journal) -> list[JournalEntry]:
    """Return the entries that a journal considers unfinished."""
    return [news.entry for news in OtherProcesses(journal, **SERVICE).read_news() if news.entry.state is None]


def in_flight(journal: Journal) -> list[str]:
    """Return the submission ids of unfinished entries."""
    return [entry.submission_id for entry in unfinished(journal)]


def only_file(folder: Path) -> Path:
    """Return the only file in a folder."""
    (file,) = folder.iterdir()
    return file


def last_written(file: Path, moment: datetime) -> None:
    """Set the time at which a file was last written."""
    os.utime(file, (moment.timestamp(), moment.timestamp()), follow_symlinks=False)


# Entries


def test_an_entry_tells_all_that_is_known(journal, reader, clock):
    """The intent, task and end of a submission are read as one entry."""
    record_intent(journal, "a")
    (begun,) = unfinished(reader)
    assert (begun.backend, begun.service, begun.request) == ("globus", SERVICE["service"], DELETE)
    assert (begun.begun, begun.deadline) == (START, START + timedelta(hours=1))
    assert begun.handle is begun.state is None
    clock.now += timedelta(minutes=1)
    journal.submitted(handle("a"))
    assert unfinished(reader) == [dataclasses.replace(begun, handle=handle("a"))]
    journal.ended("a", TaskState.FAILED, code="QUOTA", reason="full", bytes_done=1, files_done=2, faults=3)
    assert unfinished(reader) == []
    assert entries(reader.folder) == [dataclasses.replace(begun, handle=handle("a"), state=TaskState.FAILED)]


@pytest.mark.parametrize(("kind", "fields"), [(TransferRequest, TRANSFERS), (DeleteRequest, DELETES)])
def test_the_next_test_knows_every_field_of_a_request(kind, fields):
    """The strategies of the next test cover every field of a request."""
    assert {field.name for field in dataclasses.fields(kind)} == set(fields)


@given(st.lists(st.builds(TransferRequest, **TRANSFERS) | st.builds(DeleteRequest, **DELETES), min_size=1, max_size=5))
def test_every_request_comes_back_equal(requests):
    """Any request, with any text, is read back equal."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(folder)
        for number, request in enumerate(requests):
            record_intent(journal, str(number), request=request)
        journal.close()
        assert [entry.request for entry in entries(folder)] == requests


def test_another_time_zone_is_the_same_moment(journal, reader):
    """A deadline in another time zone is stored as the same time in UTC."""
    east = timezone(timedelta(hours=9))
    request = dataclasses.replace(DELETE, deadline=START.astimezone(east))
    journal.record_intent("a", request, deadline=(START + timedelta(hours=1)).astimezone(east), **SERVICE)
    (entry,) = unfinished(reader)
    assert entry.request == request
    assert entry.deadline.tzinfo is entry.request.deadline.tzinfo is timezone.utc


def test_oldest_first_over_all_files(folder, clock):
    """Entries of all files are in the order of their intents."""
    first, second = Journal(folder, clock=clock), Journal(folder, clock=clock)
    for journal, name in [(first, "1"), (second, "2"), (first, "3"), (second, "4")]:
        record_intent(journal, name)
        clock.now += timedelta(seconds=1)
    reader = Journal(folder, clock=clock)
    assert in_flight(reader) == [entry.submission_id for entry in entries(reader.folder)] == ["1", "2", "3", "4"]
    first.close()
    second.close()


def test_the_latest_end_counts(folder, clock, journal, reader):
    """Of two ends of one submission the later one counts, whichever file it is in."""
    other = Journal(folder, clock=clock)
    record_intent(other, "a")
    for writer, state in [(journal, TaskState.LOST), (other, TaskState.SUCCEEDED)]:
        clock.now += timedelta(seconds=1)
        writer.ended("a", state)
    other.close()
    assert [entry.state for entry in entries(reader.folder)] == [TaskState.SUCCEEDED]


# Entries that are not in flight


def test_another_service_or_backend_is_left_out(journal, reader):
    """Submissions to another service or backend are not in flight for this service."""
    record_intent(journal, "here")
    record_intent(journal, "elsewhere", service="https://test.example/")
    record_intent(journal, "otherwise", backend="other")
    assert in_flight(reader) == ["here"]
    assert len(entries(reader.folder)) == 3


def test_what_the_service_has_given_up_is_left_out(journal, reader, clock):
    """A submission stays in flight until a day after its deadline, because a clock may be wrong."""
    record_intent(journal, "short", hours=1)
    record_intent(journal, "long", hours=2)
    clock.now += timedelta(hours=24)
    assert in_flight(reader) == ["short", "long"]
    clock.now += timedelta(hours=1)
    assert in_flight(reader) == ["long"]


def test_an_end_in_another_file_counts(folder, clock, journal):
    """An end that a later process recorded in a separate file ends the submission."""
    record_intent(journal, "a")
    record_intent(journal, "b")
    later = Journal(folder, clock=clock)
    assert in_flight(later) == ["a", "b"]
    later.ended("a", TaskState.SUCCEEDED)
    later.close()
    assert in_flight(Journal(folder, clock=clock)) == ["b"]


def test_a_journal_leaves_its_own_out(journal, reader):
    """A journal does not report its own submissions, which this process already follows."""
    record_intent(journal, "a")
    assert in_flight(journal) == []
    assert in_flight(reader) == ["a"]


def test_a_submission_that_was_taken_on_is_no_longer_offered(folder, clock, journal, reader):
    """A process that records the task of an earlier process's submission takes it over."""
    record_intent(journal, "a")
    later = Journal(folder, clock=clock)
    later.submitted(handle("a"))
    later.close()
    assert in_flight(later) == []
    assert [entry.handle for entry in unfinished(reader)] == [handle("a")]


# Files


def test_nothing_is_touched_before_the_first_line(folder, reader):
    """Reading a journal creates no folder."""
    assert in_flight(reader) == entries(reader.folder) == []
    reader.close()
    assert not folder.parent.exists()


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_only_the_owner_reads_it(folder, journal, mask):
    """The journal folder has mode 0700 and its file 0600, whatever the umask."""
    before = os.umask(mask)
    try:
        record_intent(journal, "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600


def test_a_name_tells_when_and_who(folder, journal):
    """The name of a file contains the time and the process that writes to it."""
    record_intent(journal, "a")
    assert only_file(folder).name.startswith("20260301T120000.000000Z-")
    assert f"-{os.getpid()}-" in only_file(folder).name


def test_every_line_is_json_with_a_version(folder, journal):
    """Every line is JSON with a version, so that any program can read the file."""
    record_intent(journal, "a")
    journal.submitted(handle("a"))
    journal.ended("a", TaskState.CANCELED)
    lines = [json.loads(line) for line in only_file(folder).read_text(encoding="ascii").splitlines()]
    assert [(line["v"], line["event"]) for line in lines] == [(1, "intent"), (1, "submitted"), (1, "ended")]


def test_a_large_file_is_left_for_a_new_one(folder, journal, reader):
    """After 16 MB the journal continues in another file, and all files are read."""
    large = DeleteRequest(endpoint="e", paths=("x" * (6 * 2**20),))
    for name in "abc":
        record_intent(journal, name, request=large)
    assert len(list(folder.iterdir())) == 2
    assert max(file.stat().st_size for file in folder.iterdir()) < 16 * 2**20
    assert sorted(in_flight(reader)) == ["a", "b", "c"]


@pytest.fixture
def small(monkeypatch):
    """Limit a journal file to 4 kB, and the remembered items to ten."""
    monkeypatch.setattr("chiltepin.transfers.policy.limits.JOURNAL_FILE_LIMIT", 4096)
    monkeypatch.setattr("chiltepin.transfers.policy.limits.REMEMBERED_ITEMS", 10)


def test_a_process_that_lives_on_keeps_what_counts(small, folder, clock, reader):
    """After 1,000 submissions a journal keeps the latest, all in flight, and the end of another process's task."""
    other = Journal(folder, clock=clock)
    record_intent(other, "theirs")
    other.close()
    journal = Journal(folder, clock=clock)
    journal.ended("theirs", TaskState.SUCCEEDED)
    record_intent(journal, "long", hours=90)
    journal.submitted(handle("long"))
    record_intent(journal, "unnamed", hours=90)
    record_intent(journal, "given up", hours=0.1)
    clock.now += timedelta(hours=24.5)
    most = 0
    for number in range(1000):
        record_intent(journal, f"{number}")
        journal.submitted(handle(f"{number}"))
        journal.ended(f"{number}", TaskState.SUCCEEDED)
        most = max(most, sum(file.stat().st_size for file in folder.iterdir()))
    assert most < 30_000
    assert in_flight(reader) == ["long", "unnamed"]
    known = {entry.submission_id: entry for entry in entries(reader.folder)}
    assert known["long"].handle == handle("long")
    assert known["long"].begun == known["theirs"].begun == START
    assert known["theirs"].state is TaskState.SUCCEEDED
    assert {f"{number}" for number in range(990, 1000)} < set(known)
    assert in_flight(journal) == []
    assert len(journal._mine) == 2


def test_what_is_in_flight_for_long_leaves_room(small, folder, clock, reader):
    """If more submissions are in flight than fit in a file, the number of files still stays small."""
    journal = Journal(folder, clock=clock)
    for number in range(40):
        record_intent(journal, f"long {number}")
    before = len(list(folder.iterdir()))
    for number in range(500):
        record_intent(journal, f"short {number}")
        journal.ended(f"short {number}", TaskState.FAILED)
        assert len(list(folder.iterdir())) <= before + 3
    assert len(in_flight(reader)) == 40


def test_a_child_removes_no_file_of_its_parent(small, folder, clock):
    """A forked child removes no journal file of its parent."""
    journal = Journal(folder, clock=clock)
    for number in range(20):
        record_intent(journal, f"{number}")
    journal.reset()
    before = set(folder.iterdir())
    for number in range(100):
        record_intent(journal, f"child {number}")
        journal.ended(f"child {number}", TaskState.FAILED)
    assert before <= set(folder.iterdir())


def test_a_line_of_its_own_may_be_larger_than_a_file(folder, journal, reader):
    """A request of more than 16 MB is still written."""
    record_intent(journal, "a", request=DeleteRequest(endpoint="e", paths=("x" * (17 * 2**20),)))
    record_intent(journal, "b")
    assert sorted(in_flight(reader)) == ["a", "b"]
    assert len(list(folder.iterdir())) == 2


def test_a_line_too_long_to_be_read_is_not_written(folder, journal, reader, caplog):
    """A request of more than 64 MB is skipped with a warning, and the next request is written."""
    record_intent(journal, "a", request=DeleteRequest(endpoint="e", paths=("x" * (64 * 2**20),)))
    assert "too long" in caplog.text
    record_intent(journal, "b")
    assert in_flight(reader) == ["b"]
    assert len(list(folder.iterdir())) == 1


def test_a_file_that_was_removed_is_replaced(folder, journal, reader):
    """If a journal file is removed, later lines are written to a new file."""
    record_intent(journal, "a")
    only_file(folder).unlink()
    record_intent(journal, "b")
    assert in_flight(reader) == ["b"]


def test_after_close_a_new_file_begins(folder, journal, reader):
    """A line written after `close` is kept in a new file."""
    record_intent(journal, "a")
    journal.close()
    journal.ended("a", TaskState.SUCCEEDED)
    assert len(list(folder.iterdir())) == 2
    assert in_flight(reader) == []


# Old files


def test_old_files_go_when_a_journal_first_writes(folder, clock, journal):
    """The first write removes files not written for 30 days, unless they contain a submission in flight."""
    for name, hours, day in [("ended", 10_000, 0), ("given up", 1, 0), ("in flight", 10_000, 0), ("young", 1, 2)]:
        each = Journal(folder, clock=clock)
        record_intent(each, name, hours=hours)
        if name == "ended":
            each.ended(name, TaskState.SUCCEEDED)
        each.close()
        last_written(max(folder.iterdir()), START + timedelta(days=day))
        clock.now += timedelta(seconds=1)
    clock.now = START + timedelta(days=31)
    assert len(entries(journal.folder)) == 4
    record_intent(journal, "new")
    assert [entry.submission_id for entry in entries(journal.folder)] == ["in flight", "young", "new"]


def test_the_end_of_what_stays_stays(folder, clock, journal):
    """An old file is kept while it holds the end of a submission in another kept file."""
    first, second = Journal(folder, clock=clock), Journal(folder, clock=clock)
    record_intent(first, "a", hours=10_000)
    record_intent(first, "b", hours=10_000)
    first.close()
    clock.now += timedelta(seconds=1)
    second.ended("a", TaskState.SUCCEEDED)
    second.close()
    for file in folder.iterdir():
        last_written(file, START)
    clock.now += timedelta(days=31)
    record_intent(journal, "new", hours=10_000)
    assert len(list(folder.iterdir())) == 3
    assert in_flight(Journal(folder, clock=clock)) == ["b", "new"]


def test_no_more_than_a_hundred_old_files_go_at_once(folder, clock, journal):
    """The first write removes at most 100 old files, so that it does not delay the first transfer."""
    folder.mkdir(parents=True)
    for number in range(103):
        file = folder / f"{number:03}.jsonl"
        file.touch()
        last_written(file, START - timedelta(days=31))
    record_intent(journal, "a")
    assert sorted(file.name[:4] for file in folder.iterdir()) == ["100.", "101.", "102.", "2026"]


def test_other_files_are_left_alone(folder, clock, journal):
    """Files that are not journals are neither read nor removed."""
    folder.mkdir(parents=True)
    (folder / "README").write_text("ours")
    last_written(folder / "README", START - timedelta(days=1000))
    record_intent(journal, "a")
    assert (folder / "README").read_text() == "ours"


# Damaged files and failed writes


def test_a_file_cut_at_any_byte_tells_what_is_whole(folder, journal, clock, tmp_path):
    """A file truncated at any byte is read up to its last complete line, without an error."""
    record_intent(journal, "a")
    journal.submitted(handle("a"))
    record_intent(journal, "b")
    journal.ended("a", TaskState.SUCCEEDED)
    journal.submitted(handle("b"))
    whole = only_file(folder).read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    for length in range(len(whole) + 1):
        (cut / "x.jsonl").write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        told = [(entry.submission_id, entry.handle, entry.state) for entry in entries(cut)]
        a = ("a", handle("a") if lines > 1 else None, TaskState.SUCCEEDED if lines > 3 else None)
        b = ("b", handle("b") if lines > 4 else None, None)
        assert told == ([], [a], [a], [a, b], [a, b], [a, b])[lines]


def test_a_line_of_before_there_were_more_options_counts(folder, reader):
    """An intent written before checksums and deletion of extra files existed is read with their defaults."""
    request = {"kind": "transfer", "source": "a", "destination": "b", "items": [["/a", "/b"]], "sync_level": None}
    request |= {"verify_checksum": True, "preserve_timestamp": False, "filters": [], "skip_source_errors": False}
    request |= {"recursive": True, "label": "", "deadline": None}
    line = {"v": 1, "event": "intent", "at": START.isoformat(), "submission_id": "x", **SERVICE, "request": request}
    line |= {"deadline": (START + timedelta(hours=1)).isoformat()}
    folder.mkdir(parents=True)
    (folder / "old.jsonl").write_text(f"{json.dumps(line)}\n")
    (entry,) = entries(reader.folder)
    item = TransferItem(source="/a", destination="/b")
    assert entry.request == TransferRequest(source="a", destination="b", items=(item,), recursive=True)


def wrong_lines() -> dict[str, bytes]:
    """Return invalid journal lines, by their fault."""
    request = {"kind": "delete", "endpoint": "e", "paths": ["/p"], "recursive": False, "ignore_missing": False}
    request |= {"label": "", "deadline": None}
    moved = {"kind": "transfer", "source": "a", "destination": "b", "items": [["/a", "/b"]], "sync_level": None}
    moved |= {"verify_checksum": True, "preserve_timestamp": False, "filters": [], "skip_source_errors": False}
    moved |= {"recursive": True, "label": "", "deadline": None}
    intent = {"v": 1, "event": "intent", "at": START.isoformat(), "submission_id": "x", **SERVICE}
    intent |= {"deadline": (START + timedelta(hours=1)).isoformat(), "request": request}
    ended = {"v": 1, "event": "ended", "at": START.isoformat(), "submission_id": "a", "state": "succeeded"}
    changed = {
        "another version": intent | {"v": 2},
        "a version that is true": intent | {"v": True},
        "an unknown event": intent | {"event": "thought"},
        "an event that is a list": intent | {"event": []},
        "a number for an id": intent | {"submission_id": 5},
        "an id that cannot be a key": intent | {"submission_id": {}},
        "no deadline": intent | {"deadline": None},
        "a deadline of nowhere": intent | {"deadline": "2026-03-01T13:00:00"},
        "a deadline out of all times": intent | {"deadline": "9999-12-31T23:59:59-12:00"},
        "no request": intent | {"request": None},
        "a list for a request": intent | {"request": [request]},
        "an unknown kind": intent | {"request": request | {"kind": "copy"}},
        "a text for paths": intent | {"request": request | {"paths": "/p"}},
        "a number for a path": intent | {"request": request | {"paths": [1]}},
        "a number for yes": intent | {"request": request | {"recursive": 1}},
        "a text for a pair": intent | {"request": moved | {"items": [5]}},
        "one of a pair": intent | {"request": moved | {"items": [["/a"]]}},
        "a third that is no checksum": intent | {"request": moved | {"items": [["/a", "/b", "md5:0"]]}},
        "four of a pair": intent | {"request": moved | {"items": [["/a", "/b", f"md5:{'0' * 32}", ""]]}},
        "an unknown level": intent | {"request": moved | {"sync_level": "always"}},
        "an unknown rule": intent | {"request": moved | {"filters": [["perhaps", "*"]]}},
        "unknown events": intent | {"request": moved | {"notify": ["started"]}},
        "an option of another kind": intent | {"request": moved | {"encrypt_data": "yes"}},
        "a rule for unknown things": intent | {"request": moved | {"filters": [["exclude", "*", "link"]]}},
        "no such state": ended | {"state": "bored"},
        "a state that is no end": ended | {"state": "active"},
        "a state that is a list": ended | {"state": ["succeeded"]},
        "a task without an id": {**ended, "event": "submitted", "backend": "globus"},
        "a list": [intent],
        "a number": 7,
    }
    lines = {what: json.dumps(line).encode() for what, line in changed.items()}
    whole = json.dumps(intent).encode()
    return lines | {
        "no JSON": b"hello",
        "an empty line": b"",
        "bytes that are no text": b"\xff\xfe\x00" + whole,
        "a hole that a crash left": b"\0" * 4096 + whole,
        "half a line before a whole one": whole[:50] + whole,
        "lists in lists": b"[" * 200_000 + b"]" * 200_000,
        "a number without an end": b'{"v": ' + b"1" * 10_000 + b"}",
        "a key too few": whole.replace(b'"recursive"', b'"recursiv"'),
    }


@pytest.mark.parametrize("line", [pytest.param(line, id=what) for what, line in wrong_lines().items()])
def test_a_line_that_makes_no_sense_harms_no_other(folder, journal, reader, line, caplog):
    """An invalid line is skipped and logged, and the lines around it are read."""
    caplog.set_level(logging.INFO)
    record_intent(journal, "a")
    with only_file(folder).open("ab") as file:
        file.write(line + b"\n")
    record_intent(journal, "b")
    assert in_flight(reader) == ["a", "b"]
    assert "Skipped 1 lines" in caplog.text


ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["intent", "ended", "delete"])
)
NESTED = st.lists(ANYTHING, max_size=3) | st.dictionaries(st.sampled_from(["kind", "label", "deadline"]), ANYTHING)
KEYS = st.sampled_from(["event", "at", "submission_id", "backend", "service", "deadline", "request", "state"])
ODD = st.dictionaries(KEYS, ANYTHING | NESTED).map(lambda plain: json.dumps({"v": 1, **plain}).encode())


@given(st.lists(st.binary(max_size=20) | ODD, max_size=5))
def test_garbage_raises_nothing(lines):
    """Reading arbitrary bytes or JSON raises nothing and finds no entry."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.jsonl").write_bytes(b"\n".join([*lines, b""]))
        assert entries(folder) == []


def test_a_huge_line_is_skipped(folder, journal, reader):
    """A line of more than 64 MB is skipped to its end, and the next line is read."""
    record_intent(journal, "a")
    file = only_file(folder)
    whole = file.read_bytes()
    os.truncate(file, len(whole) + 64 * 2**20)
    with file.open("ab") as end:
        end.write(whole.replace(b'"a"', b'"b"') + whole.replace(b'"a"', b'"c"'))
    assert in_flight(reader) == ["a", "c"]


@pytest.mark.parametrize("kind", ["a pipe", "a link", "a folder", "a link to nothing"])
def test_what_is_no_file_is_skipped(folder, journal, reader, tmp_path, kind):
    """Pipes, links and folders with the name of a journal are skipped."""
    record_intent(journal, "a")
    (tmp_path / "elsewhere").write_bytes(only_file(folder).read_bytes().replace(b'"a"', b'"b"'))
    strange = folder / "0.jsonl"
    if kind == "a pipe":
        os.mkfifo(strange)
    elif kind == "a folder":
        strange.mkdir()
    else:
        strange.symlink_to(tmp_path / ("elsewhere" if kind == "a link" else "nowhere"))
    assert in_flight(reader) == ["a"]


def others_can_have_written(how, file):
    """Change a file so that another user can have written it."""
    if how == "another owner":
        if os.geteuid() != 0:
            pytest.skip("Only root can give a file away.")
        os.chown(file, 65534, 65534)
    elif how == "a second name":
        (file.parent / "second").hardlink_to(file)
    else:
        file.chmod(0o620 if how == "open to the group" else 0o602)


@pytest.mark.parametrize("how", ["another owner", "a second name", "open to the group", "open to all"])
def test_what_others_can_have_written_is_not_believed(folder, journal, reader, caplog, how):
    """In a folder that others may write to, only files of this user are read; one warning names the first other."""
    record_intent(journal, "a")
    forged = folder / "20200101T000000.000000Z-evil-1-1-00000000.jsonl"
    forged.write_bytes(only_file(folder).read_bytes().replace(b'"a"', b'"b"'))
    folder.chmod(0o1777)
    others_can_have_written(how, forged)
    assert in_flight(reader) == in_flight(reader) == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "evil" in caplog.text


@pytest.mark.parametrize("how", ["another owner", "a second name", "open to the group", "open to all"])
def test_old_files_of_others_stay(folder, clock, how):
    """An old file that another user can have written is not removed."""
    folder.mkdir(parents=True)
    old = folder / "20200101T000000.000000Z-host-1-1-00000000.jsonl"
    old.write_text("{}\n")
    others_can_have_written(how, old)
    last_written(old, START - timedelta(days=31))
    journal = Journal(folder, clock=clock)
    record_intent(journal, "a")
    journal.close()
    assert old.exists()


def test_a_file_that_changes_its_owner_tells_no_more(folder, journal, clock):
    """Lines added to a file after it became writable by others are ignored."""
    record_intent(journal, "a")
    others = OtherProcesses(Journal(folder, clock=clock), **SERVICE)
    assert [news.entry.submission_id for news in others.read_news()] == ["a"]
    only_file(folder).chmod(0o666)
    record_intent(journal, "b")
    assert others.read_news() == []


def test_a_file_that_cannot_be_read_harms_no_other(folder, clock, journal, reader, caplog):
    """A link to itself is logged and not removed, and the other files are read."""
    folder.mkdir(parents=True)
    (folder / "0.jsonl").symlink_to("0.jsonl")
    last_written(folder / "0.jsonl", START - timedelta(days=31))
    record_intent(journal, "a")
    assert in_flight(reader) == ["a"]
    assert "0.jsonl cannot be read" in caplog.text
    assert (folder / "0.jsonl").is_symlink()


def test_a_folder_that_is_none_raises_nothing(tmp_path, clock, caplog):
    """If the journal folder cannot be created, one warning is logged and no call raises."""
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file", clock=clock)
    assert in_flight(journal) == []
    caplog.clear()
    for name in "abc":
        record_intent(journal, name)
        journal.submitted(handle(name))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be written" in caplog.text


def test_each_intent_is_tried_anew(folder, journal, reader, caplog):
    """Each intent tries to write again after a failure, and a new failure logs another warning."""
    folder.parent.mkdir()
    folder.write_text("in the way")
    record_intent(journal, "a")
    folder.unlink()
    record_intent(journal, "b")
    assert in_flight(reader) == ["b"]
    only_file(folder).unlink()
    folder.rmdir()
    folder.write_text("in the way")
    record_intent(journal, "c")
    assert caplog.text.count("cannot be written") == 2


FULL_DISK = """
import resource, sys
from datetime import datetime, timedelta, timezone
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.model import DeleteRequest
journal = Journal(sys.argv[1])
deadline = datetime.now(timezone.utc) + timedelta(hours=1)
for name, size in [("a", 10_000), ("b", 800), ("c", 800), ("d", 0), ("e", 0), ("f", 10_000)]:
    # The kernel then writes the part of a line that has room, and refuses the next write, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    request = DeleteRequest(endpoint="e", paths=("x" * 200,))
    journal.record_intent(name, request, backend="globus", service="https://transfer.example/", deadline=deadline)
"""


def test_a_full_disk_costs_only_what_did_not_fit(folder):
    """A full disk loses only the lines that did not fit, and leaves no empty files."""
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stderr.count("cannot be written") == 2
    assert in_flight(Journal(folder)) == ["a", "c", "f"]
    assert all(file.stat().st_size for file in folder.iterdir())


# Processes and threads

WRITER = """
import sys
from datetime import datetime, timedelta, timezone
from chiltepin.transfers.journal import Journal, ProcessId
from chiltepin.model import DeleteRequest, TaskHandle, TaskState
journal = Journal(sys.argv[1])
deadline = datetime.now(timezone.utc) + timedelta(hours=1)
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}-{number}"
    request = DeleteRequest(endpoint="e", paths=("x" * 50_000,))
    journal.record_intent(name, request, backend="globus", service="https://transfer.example/", deadline=deadline)
    print(name, flush=True)
    if number % 2:
        journal.ended(name, TaskState.SUCCEEDED)
"""


def writer(folder: Path, name: str, number: int) -> subprocess.Popen[str]:
    """Start a process that writes a number of intents and prints the name of each once it is on disk."""
    command = [sys.executable, "-c", WRITER, str(folder), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", [1, 4, 17])
def test_after_kill_9_all_that_was_said_is_there(folder, after):
    """After SIGKILL the journal has every intent that the process reported, and at most one more."""
    process = writer(folder, "p", 100_000)
    said = [process.stdout.readline().strip() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    told = {entry.submission_id: entry.state for entry in entries(folder)}
    assert list(told)[: len(said)] == said
    assert len(told) <= len(said) + 1
    assert all(told[name] is TaskState.SUCCEEDED for name in said[1:-1:2])
    assert all(told[name] is None for name in said[::2])


def test_two_processes_at_once_lose_nothing(folder):
    """Two processes write to separate files, which can be read meanwhile, and no line is lost."""
    processes = [writer(folder, name, 30) for name in "pq"]
    reader = Journal(folder)
    while any(process.poll() is None for process in processes):
        assert len(entries(reader.folder)) <= 60
    for process in processes:
        process.communicate()
    assert len(list(folder.iterdir())) == 2
    assert set(in_flight(reader)) == {f"{name}-{number}" for name in "pq" for number in range(0, 30, 2)}


def test_threads_write_whole_lines(folder, journal, reader):
    """Eight threads that write at once lose no line."""

    def work(name: str) -> None:
        for number in range(10):
            record_intent(journal, f"{name}-{number}")
            journal.submitted(handle(f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(only_file(folder).read_bytes().splitlines()) == 160
    assert all(entry.handle == handle(entry.submission_id) for entry in unfinished(reader))
    assert len(in_flight(reader)) == 80


FORK = """
import os, sys, threading
from datetime import datetime, timedelta, timezone
from chiltepin.transfers.journal import Journal, OtherProcesses, ProcessId
from chiltepin.model import DeleteRequest
where = {"backend": "globus", "service": "s", "deadline": datetime.now(timezone.utc) + timedelta(hours=1)}
journal = Journal(sys.argv[1])
journal.record_intent("before", DeleteRequest(endpoint="e", paths=("/p",)), **where)
with journal._lock:  # as if another thread were just writing
    child = os.fork()
if child == 0:
    journal.record_intent("child", DeleteRequest(endpoint="e", paths=("/p",)), **where)
    others = OtherProcesses(journal, backend="globus", service="s")
    print(*[news.entry.submission_id for news in others.read_news()], flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
journal.record_intent("after", DeleteRequest(endpoint="e", paths=("/p",)), **where)
"""


def test_a_child_has_a_file_of_its_own(folder):
    """After a fork, parent and child write to separate files, even if the fork interrupts a write."""
    run = subprocess.run(
        [sys.executable, "-c", FORK, str(folder)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == ["before"]
    names = [
        sorted(json.loads(line)["submission_id"] for line in file.read_text().splitlines())
        for file in sorted(folder.iterdir())
    ]
    assert names == [["after", "before"], ["child"]]


# Killed processes, and the ends that they recorded


def lived(folder, clock, *names, owner, settle=False):
    """Write the journal of a process that saw some submissions end."""
    journal = Journal(folder, clock=clock, owner=owner)
    for name in names:
        record_intent(journal, name, request=DeleteRequest(endpoint="scratch", paths=(f"/{name}",)))
        clock.now += timedelta(seconds=1)
        journal.ended(name, TaskState.SUCCEEDED)
    if settle:
        journal.record_clean_end()
    clock.now += timedelta(seconds=1)
    journal.close()


def lately(journal):
    """Return the ids of ended submissions, each with whether its process was killed."""
    others = OtherProcesses(journal, **SERVICE)
    ends = [news for news in others.read_news() if news.entry.state is not None]
    return [(news.entry.submission_id, any(map(others.killed, news.askers(0)))) for news in ends]


def test_what_killed_processes_saw_end_is_told(folder, clock, reader):
    """Every ended submission is reported, with whether its process was killed."""
    lived(folder, clock, "before", owner=ProcessId("gone", 1, "0"), settle=True)
    assert lately(reader) == [("before", False)]
    lived(folder, clock, "a", "b", owner=ProcessId("gone", 2, "0"))
    lived(folder, clock, "c", owner=ProcessId("gone", 3, "0"), settle=True)
    lived(folder, clock, "d", owner=ProcessId.current())
    assert lately(reader) == [("before", False), ("a", True), ("b", True), ("c", False), ("d", False)]


def test_what_was_settled_in_between_is_in_order(folder, clock, reader):
    """If a process is killed after a clean end of a workflow, only its later submissions count as killed."""
    lived(folder, clock, "a", owner=ProcessId("gone", 1, "0"), settle=True)
    lived(folder, clock, "b", owner=ProcessId("gone", 1, "0"))
    assert lately(reader) == [("a", False), ("b", True)]


def test_an_end_counts_for_the_process_that_saw_it(folder, clock, reader):
    """Whether a submission ended cleanly depends on the process that recorded its end, not on its first process."""
    journal = Journal(folder, clock=clock, owner=ProcessId("gone", 1, "0"))
    record_intent(journal, "a")
    journal.close()
    clock.now += timedelta(seconds=1)
    later = Journal(folder, clock=clock, owner=ProcessId("gone", 2, "0"))
    later.ended("a", TaskState.SUCCEEDED)
    assert lately(reader) == [("a", True)]
    later.record_clean_end()
    later.close()
    assert lately(reader) == [("a", False)]


def test_a_journal_that_wrote_nothing_settles_nothing(folder, journal):
    """A clean end alone creates no file."""
    journal.record_clean_end()
    assert not folder.exists()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="The system does not tell when a process was started.")
def test_a_process_lives_until_it_is_killed():
    """A process is identified by its host, pid and start time; a zombie is not running."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = owner_of(process.pid)
    assert found.is_running()
    assert not dataclasses.replace(found, started="1").is_running()
    assert not dataclasses.replace(found, host="gone").is_running()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_running()
    process.communicate()
    assert not found.is_running()


def owner_of(pid):
    """Return the owner of the journal files of a process on this machine."""
    started = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    return dataclasses.replace(ProcessId.current(), pid=pid, started=started)


@pytest.mark.parametrize("name", ["x.jsonl", "20260301T120000.000000Z-host-name-1-0-abcd", "a-b-c-d-e.jsonl"])
def test_a_file_of_unknown_make_has_no_owner(name):
    """A file name identifies a process only if it has the journal's format; the host name may contain dashes."""
    owner = ProcessId.from_path(f"/some-where/{name}")
    assert owner == (ProcessId("host-name", 1, "0") if "host" in name else None)
