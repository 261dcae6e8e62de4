"""Random histories of journal files: processes, workflows, kills, and files that must not be trusted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chiltepin.model import DeleteRequest, TaskHandle, TaskState
from chiltepin.transfers.journal import Journal, OtherProcesses, ProcessId

SERVICE = {"backend": "globus", "service": "https://transfer.example/"}
WORKFLOWS = st.sampled_from(["", "a", "b"])
HISTORIES = int(os.environ.get("CHILTEPIN_HISTORIES", "60"))

#: A folder in memory, where writes do not wait for a disk.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a new folder is made in it


@pytest.fixture(autouse=True)
def looking(monkeypatch):
    """Make every call read the files, however recent the last read was."""
    monkeypatch.setattr("chiltepin.transfers.policy.wait_times.READ_FRACTION", 1.0)


class Files(RuleBasedStateMachine):
    """A model of the written lines, which is compared with one long-lived reader and with new readers."""

    def __init__(self):
        super().__init__()
        self.now = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.count = 0
        self.journals = [self._process(), self._process()]
        #: Requesters of each submission; submissions in flight; requesters of ended ones without a clean end.
        self.begun, self.flying, self.over = {}, set(), {}
        self.reader = Journal(self.folder, clock=self._clock)
        self.others, self.heard = OtherProcesses(self.reader, **SERVICE), {}

    def _clock(self):
        return self.now

    def _process(self):
        self.count += 1
        return Journal(self.folder, clock=self._clock, owner=ProcessId("gone", self.count, "0"))

    def _next(self):
        self.now += timedelta(milliseconds=1)
        self.count += 1
        return str(self.count)

    @rule(which=st.integers(0, 1), workflows=st.sets(WORKFLOWS, max_size=2))
    def begin(self, which, workflows):
        """A process records the intent to submit a request, for some workflows."""
        name, journal = self._next(), self.journals[which]
        request = DeleteRequest(endpoint="e", paths=(f"/{name}",))
        deadline = self.now + timedelta(days=400)
        asked = dict.fromkeys(workflows)
        journal.record_intent(name, request, deadline=deadline, asked=asked, **SERVICE)
        self.begun[name] = [(journal, workflow) for workflow in workflows]
        self.flying.add(name)

    @rule(which=st.integers(0, 1), data=st.data())
    def submit(self, which, data):
        """A process records the task of a submission, its own or another's."""
        if self.flying:
            name = data.draw(st.sampled_from(sorted(self.flying)))
            self.journals[which].submitted(TaskHandle(backend="globus", task_id=f"t{name}", submission_id=name))

    @rule(which=st.integers(0, 1), workflows=st.sets(WORKFLOWS, max_size=2), data=st.data())
    def end(self, which, workflows, data):
        """A process records the end of a submission, its own or another's, and the workflows that requested it."""
        if not self.flying:
            return
        self._next()
        name, journal = data.draw(st.sampled_from(sorted(self.flying))), self.journals[which]
        journal.ended(name, TaskState.SUCCEEDED, asked=dict.fromkeys(workflows))
        self.flying.discard(name)
        self.over[name] = {(journal, workflow) for workflow in workflows} or set(self.begun[name])

    @rule(which=st.integers(0, 1), workflow=WORKFLOWS)
    def record_clean_end(self, which, workflow):
        """A workflow ends cleanly."""
        journal = self.journals[which]
        journal.record_clean_end(workflow)
        for asked in (*self.over.values(), *self.begun.values()):
            while (journal, workflow) in asked:
                asked.remove((journal, workflow))

    @rule(which=st.integers(0, 1))
    def kill(self, which):
        """A process dies, and another starts."""
        self.journals[which].close()
        self.journals[which] = self._process()

    @rule(which=st.integers(0, 1))
    def leave(self, which):
        """A process continues in another file."""
        self.journals[which].close()

    @rule(seconds=st.sampled_from([-3600.0, -0.5, 60.0]))
    def clock(self, seconds):
        """Time passes, or the clock is set back, at most to the start of the first day."""
        self.now = max(self.now + timedelta(seconds=seconds), datetime(2026, 3, 1, tzinfo=timezone.utc))

    @rule(data=st.data(), junk=st.sampled_from([b"{", b"[]\n", b'{"v": 2, "event": "ended"}\n', b"\xff\n", b"\n"]))
    def spoil(self, data, junk):
        """A file of a dead process gets an invalid line, or a line of a later version."""
        dead = self._dead()
        if dead:
            with data.draw(st.sampled_from(dead)).open("ab") as file:
                file.write(junk)

    @rule(data=st.data())
    def repeat(self, data):
        """The first line of a dead process's file is repeated at its end."""
        dead = self._dead()
        if dead:
            file = data.draw(st.sampled_from(dead))
            first = file.read_bytes().split(b"\n", 1)[0]
            if json.loads(first)["event"] != "settled":
                with file.open("ab") as end:
                    end.write(b"\n" + first + b"\n")

    @rule(
        how=st.sampled_from(["open to the group", "open to all", "a link", "two names", "another owner"]),
        data=st.data(),
    )
    def forge(self, how, data):
        """Another user forges clean ends and ends of tasks, under the name of one of our processes."""
        owner = data.draw(st.sampled_from(self.journals)).owner
        lines = [{"event": "settled", "workflow": workflow} for workflow in ("", "a", "b")] + [
            {"event": "ended", "submission_id": name, "state": "failed"} for name in sorted(self.flying)
        ]
        text = "".join(json.dumps({"v": 1, "at": self.now.isoformat(), **line}) + "\n" for line in lines)
        name = self.folder / f"20300101T000000.000000Z-{owner}-{self._next()}.jsonl"
        written = self.folder / f"{self._next()}.elsewhere"
        written.write_text(text)
        written.chmod(0o620 if how == "open to the group" else 0o602 if how == "open to all" else 0o600)
        if how == "a link":
            name.symlink_to(written)
        elif how == "two names":
            name.hardlink_to(written)
        elif how != "another owner":
            written.rename(name)
        elif os.geteuid() == 0:
            os.chown(written, 65534, 65534)
            written.rename(name)

    @rule()
    def read_news(self):
        """The long-lived reader reads the news."""
        for news in self.others.read_news():
            self.heard[news.entry.submission_id] = news

    @invariant()
    def what_is_read_is_what_was_written(self):
        """A new reader knows what is in flight, and which ended submissions belong to killed processes."""
        fresh = OtherProcesses(self.reader, **SERVICE)
        self._compare(fresh, {news.entry.submission_id: news for news in fresh.read_news()})

    def teardown(self):
        """The long-lived reader, which has read each line once, knows the same as a new reader."""
        self.read_news()
        self._compare(self.others, self.heard)
        for journal in self.journals:
            journal.close()
        shutil.rmtree(self.folder)

    def _compare(self, others, known):
        assert {name for name, news in known.items() if news.entry.state is None} == self.flying
        killed = {name for name in self.over if any(map(others.killed, known[name].askers(0)))}
        assert killed == {name for name, asked in self.over.items() if asked}

    def _dead(self):
        living = tuple(f"-{journal.owner}-" for journal in self.journals)
        files = sorted(self.folder.glob("2026*.jsonl"))
        return [file for file in files if not any(owner in file.name for owner in living)]


TestFiles = Files.TestCase
TestFiles.pytestmark = [pytest.mark.timeout(300 + HISTORIES)]
TestFiles.settings = settings(max_examples=HISTORIES, stateful_step_count=30)
