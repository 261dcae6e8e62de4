"""Copies that are killed at a random moment, and what must hold after the kill and after the next run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import psutil
import xxhash
from buckets import KEYS

from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.temp_names import TEMP_PREFIX

HERE = Path(__file__).parent
#: The environment variables to which the settings refer.
SECRETS = {"KILLED_KEY": KEYS["key"], "KILLED_SECRET": KEYS["secret"]}
NAMED = {"key": {"env": "KILLED_KEY"}, "secret": {"env": "KILLED_SECRET"}}
POOL = {"provider": "localhost", "init_blocks": 1, "cores_per_worker": 0.1, "max_workers_per_node": 1}
#: Worker processes that move one tree together.
CREW = 4

#: Timeout of one step, in seconds: on a busy machine, worker processes take a minute to start.
LIMIT = 240

#: Seconds within which the processes of a killed workflow end. Workers that are just starting take the longest: they
#: try to reach their interchange for 30 s.
GONE = 45


def seeds(fewest):
    """Return the seeds of a test: as many as CHILTEPIN_KILLS says, or a range such as 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_KILLS", str(fewest)).rpartition(":")
    return range(int(first or 0), int(last))


#: The modification time of all source files, in seconds since 1970 UTC.
EARLIER = 1_000_000_000.25


class ForkServer:
    """Starts workflows, one at a time."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        #: Seconds that a copy of each kind takes, with a default for the first.
        self.took = defaultdict(lambda: 0.3)
        #: The last message; empty while a response is pending.
        self.heard = {"ended": 0}

    def say(self, what):
        """Send a message to the fork server, or to the running workflow."""
        self.heard = {}
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    def hear(self):
        """Return the next message."""
        assert select.select([self._process.stdout], [], [], LIMIT)[0], "nothing is heard of the workflow: it hangs"
        self.heard = json.loads(self._process.stdout.readline())
        return self.heard

    @property
    def idle(self):
        """Whether no workflow is running."""
        return "ended" in self.heard

    def close(self):
        """End the fork server, and kill a workflow that a test has left running."""
        for process in psutil.Process(self._process.pid).children():
            kill(process.pid)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def lent(kept, name, make):
    """Share an object between tests; replace it if a failed test has left it busy."""
    if name not in kept:
        kept[name] = make()
    yield kept[name]
    if not kept[name].idle:
        kept.pop(name).close()


class Run:
    """One workflow.

    Parameters
    ----------
    fork_server : ForkServer
        The server that starts it.
    folder : Path
        Its working folder.
    endpoints : dict
        The endpoints in its settings.
    executor : str
        ``local`` for threads of the workflow, ``pool`` for one worker process, or ``crew`` for four.
    """

    def __init__(self, fork_server, folder, endpoints, executor="local"):
        self.fork_server, self._folder, self._executor = fork_server, folder, executor
        config = {"data": {"backend": "filesystem", "endpoints": endpoints}}
        if executor == "pool":
            config["pool"] = POOL
        if executor == "crew":
            config["crew"] = {**POOL, "max_workers_per_node": CREW}
        own = {"XDG_STATE_HOME": str(folder / "state"), "CHILTEPIN_JOURNAL": str(folder / "journal")}
        environment = {**os.environ, **SECRETS, **own}
        fork_server.say({"folder": str(folder), "environment": environment, "config": config, "executor": executor})
        self.process = fork_server.hear()["process"]
        ready = fork_server.hear()
        assert "ready" in ready, self.output()
        self.worker = int(ready["ready"])

    def copy(self, case):
        """Start a copy."""
        self.fork_server.say({"paths": case.paths, "options": case.options, "executor": self._executor})
        assert self.fork_server.hear() == {"moving": True}

    def outcome(self):
        """Return the message about the end of the copy or of the workflow."""
        said = self.fork_server.hear()
        if said.get("worker", "").isdecimal():
            self.worker = int(said["worker"])
        return said

    def end(self):
        """Shut the workflow down."""
        self.fork_server.say({})
        assert self.fork_server.hear() == {"ended": 0}, self.output()

    def output(self):
        """Return all output of the workflow."""
        return (self._folder / "output").read_text()


class KeptRun(Run):
    """A workflow that several tests share; ``folder`` is the working folder of its processes."""

    @property
    def idle(self):
        """Whether the last copy has ended."""
        return "ends" in self.fork_server.heard

    def close(self):
        """Shut the workflow down and check that no process is left; if it is busy, kill it."""
        if self.idle:
            self.end()
        self.fork_server.close()
        check_alone(self.folder)


def kill(process):
    """Send SIGKILL to a process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def processes(folder, word=""):
    """Return the processes of the workflows in a folder whose commands contain a word."""
    found = []
    for process in psutil.process_iter():
        # A process that ends meanwhile, or a zombie, has no command.
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder) and word in " ".join(process.cmdline()):
                found.append(process)
    return found


def check_alone(folder, within=GONE):
    """Check that no process of a workflow in a folder is left after ``within`` seconds."""
    _, left = psutil.wait_procs(processes(folder), timeout=within)
    assert not left, [(process.pid, process.cmdline()) for process in left]


class Case:
    """A copy: its source, its options and its expected result.

    Parameters
    ----------
    folder : Path
        The folder that contains both endpoints.
    chance : random.Random
        The random generator of the test.
    name : str
        The name of the copy's folder at both endpoints.
    """

    def __init__(self, folder, chance, name="x"):
        self.folder, self.chance, self.name = folder, chance, name
        self.a, self.b = folder / "a" / name, folder / "b" / name
        for place in (self.a, self.b):
            place.mkdir(parents=True)
        self.endpoints = {end: {"filesystem": f"file://{folder}/{end}"} for end in "ab"}
        self.paths, self.options = [], {}
        #: Whether a process was killed during the copy.
        self.hurt = False
        #: Digests of the files that the copy produces, and of the files that it replaces.
        self.wanted, self.old = {}, {}

    def tree(self, *, files, largest, large=()):
        """Create a source tree."""
        sizes = [self.chance.choice([0, 1, 4096, self.chance.randrange(largest)]) for _ in range(files)]
        for number, size in enumerate([*sizes, *large]):
            self.put(f"tree/{number % 7}/{'deeper/' * (number % 3)}{number}", size)
        level = self.chance.choice(["exists", "size", "mtime", "checksum"])
        self.paths = ["a", "b", f"/{self.name}/tree", f"/{self.name}/tree"]
        self.options = {"recursive": True, "sync_level": level}

    def large(self, size):
        """Create one large source file."""
        self.put("out/big", size)
        self.paths = ["a", "b", f"/{self.name}/out/big", f"/{self.name}/out/big"]

    def put(self, name, size):
        """Create a source file."""
        content = self.chance.randbytes(size)
        (self.a / name).parent.mkdir(parents=True, exist_ok=True)
        (self.a / name).write_bytes(content)
        # S3 reports whole seconds: a file that changed in the second of its copy may have changed again since.
        os.utime(self.a / name, (EARLIER, EARLIER))
        self.wanted[name] = xxhash.xxh3_128_digest(content)

    def outdate(self):
        """Write other versions of some files to the destination, which the copy replaces."""
        del self.options["sync_level"]
        for name in self.chance.sample(sorted(self.wanted), len(self.wanted) // 3):
            content = self.chance.randbytes(1000)
            (self.b / name).parent.mkdir(parents=True, exist_ok=True)
            (self.b / name).write_bytes(content)
            self.old[name] = xxhash.xxh3_128_digest(content)

    def workflow(self, fork_server, executor="local"):
        """Start a workflow for this copy."""
        return Run(fork_server, self.folder, self.endpoints, executor)

    def hit(self, begin, victim):
        """Start the copy and kill a process, repeatedly, until the kill interrupts the copy.

        Returns the workflow and its next message. ``begin`` returns a running workflow, ``victim`` the process to kill.
        """
        while True:
            run = begin()
            run.copy(self)
            threading.Event().wait(self.chance.uniform(0, run.fork_server.took[type(self)]))
            target, worker = victim(run), run.worker
            kill(target)
            said = run.outcome()
            if said.get("ends") != ["True"]:
                self.hurt = True
                return run, said
            run.fork_server.took[type(self)] = said["took"]
            if target == run.process:
                assert run.outcome() == {"ended": -signal.SIGKILL}
            elif target != worker:
                run.end()
            if not self.old:
                self.emptied()

    def emptied(self):
        """Empty the destination."""
        shutil.rmtree(self.b)
        self.b.mkdir()

    def cleared(self):
        """Delete the source, and empty the destination."""
        self.emptied()
        shutil.rmtree(self.a)

    def present(self):
        """Return the digest of each file at the destination, including temporary files."""
        found = {}
        for path in self.b.rglob("*"):
            if path.is_file():
                found[str(path.relative_to(self.b))] = xxhash.xxh3_128_digest(path.read_bytes())
        return found

    def names(self):
        """Return the names of the files at the destination, which can change meanwhile."""
        return {os.path.relpath(os.path.join(top, name), self.b) for top, _, files in os.walk(self.b) for name in files}

    def identities(self, names):
        """Return facts about each file that change when it is rewritten."""
        facts = {name: (self.b / name).stat() for name in names}
        return {name: (found.st_ino, found.st_mtime_ns, found.st_ctime_ns) for name, found in facts.items()}

    def rerun(self, run):
        """Copy again; check that no file was partial, that whole files are kept, and that the rest arrives.

        Returns the message of the workflow.
        """
        whole = []
        for name, digest in self.present().items():
            if digest == self.wanted.get(name):
                whole.append(name)
            elif not Path(name).name.startswith(TEMP_PREFIX):
                assert digest == self.old.get(name), f"{name} is half"
        before = self.identities(whole)
        run.copy(self)
        said = run.outcome()
        assert said.get("ends") == ["True"], (said, run.output())
        if self.hurt:
            # About half of the copy was left.
            run.fork_server.took[type(self)] = (run.fork_server.took[type(self)] + 2 * said["took"]) / 2
        self.check_whole()
        if "sync_level" in self.options:
            assert self.identities(whole) == before, "a whole file was moved again"
        return said

    def finish(self, fork_server):
        """Check that no process is left; copy again, in threads, and check that the copy succeeds.

        Returns the message of the workflow.
        """
        check_alone(self.folder)
        run = self.workflow(fork_server)
        said = self.rerun(run)
        run.end()
        check_alone(self.folder)
        return said

    def check_whole(self):
        """Check that the destination has all expected files and no other file."""
        present = self.present()
        assert sorted(present) == sorted(self.wanted), sorted(set(present) ^ set(self.wanted))
        assert present == self.wanted


def kept_bytes(temp_file, size):
    """Return how many bytes of a temporary file match the digests that follow its content."""
    kept = 0
    with temp_file.open("rb") as file:
        for offset in range(0, size, PART):
            file.seek(offset)
            part = file.read(min(PART, size - offset))
            digest = xxhash.xxh3_128_digest(part)
            file.seek(size + offset // PART * len(digest))
            if file.read(len(digest)) == digest:
                kept += len(part)
    return kept
