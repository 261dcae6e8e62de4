"""Mutate each key of each document that the service sends: no wrong success, no hang."""

from __future__ import annotations

import ast
import copy
import math
import os
import random
import re
from pathlib import Path

import pytest
from guided import Guided
from logins import log_in

import chiltepin.backends.globus
from chiltepin.backends.globus import GlobusBackend, login
from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.outcomes import error_from_status

#: Mutations to try per scenario; all of them, about 3,000, take half an hour.
SOME = int(os.environ.get("CHILTEPIN_MUTATIONS", "25"))

GONE = object()


def other_type(value):
    """Return a value of another type."""
    return {str: 7, int: "seven", bool: "no", float: "x", dict: [], list: {}, type(None): {"a": [1]}}[type(value)]


def respelled(value):
    """Return another spelling: a path with more slashes, a text in the other case, a list twice."""
    if isinstance(value, str):
        return f"/{value}/" if value.startswith("/") else value.swapcase()
    return [*value, *value] if isinstance(value, list) else value


MUTATIONS = {
    "missing": lambda _value: GONE,
    "null": lambda _value: None,
    "other type": other_type,
    "empty": lambda value: type(value)() if value is not None else "",
    "respelled or twice": respelled,
    "huge": lambda _value: 10**30,
    "too large": lambda _value: 1e300,
    "nan": lambda _value: math.nan,
    "true": lambda _value: True,
    "below zero": lambda _value: -1,
    "text of a number": lambda _value: "1",
    "nested": lambda value: {"DATA": [value, {"": [value]}]},
}

#: Every string literal in the backend's sources, which include the keys that it reads.
READ = {
    node.value
    for file in Path(chiltepin.backends.globus.__file__).parent.glob("*.py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


def kind_of(method, path):
    """Return the kind of a document: its request, with ids replaced."""
    return f"{method} {re.sub(r'[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}', 'ID', path)}"


def places(document, at=()):
    """Yield the position of each value in a document; in a list, only of the first and last entry."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*at, key)
            yield from places(value, (*at, key))
    elif isinstance(document, list):
        for index in sorted({0, len(document) - 1}) if document else ():
            yield (*at, index)
            yield from places(document[index], (*at, index))


def mutated(document, wheres, mutation):
    """Return a copy of a document that is mutated at some places."""
    document = copy.deepcopy(document)
    for where in wheres:
        holder = document
        try:
            for key in where[:-1]:
                holder = holder[key]
            new = MUTATIONS[mutation](holder[where[-1]])
            if new is GONE:
                del holder[where[-1]]
            else:
                holder[where[-1]] = new
        except LookupError:
            # Not every document of a kind has every key.
            continue
    return document


class World:
    """A simulator, with a new backend and task manager for each run."""

    def __init__(self, globus, laptop, scratch):
        self.globus, self.laptop, self.scratch = globus, laptop, scratch
        self.runs = 0

    def begin(self):
        """Start a run, after ending all tasks of the last one."""
        self.globus.rewrite_answers(None)
        for task in self.globus.tasks.values():
            if task.status in ("ACTIVE", "INACTIVE"):
                task.fail()
        self.globus.settings.task_latency = 0.0
        self.runs += 1
        names = {"a": "my-laptop", "b": "hpc-scratch"}
        self.backend = GlobusBackend.from_config(
            {short: {"collection": self.globus.collection(name).id} for short, name in names.items()}, {}
        )
        self.guided = Guided(self.backend, self.globus)

    def file(self, name):
        """Create a file for this run; return its path on the endpoint and on disk."""
        place = self.laptop / f"r{self.runs}" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{self.runs} {name}")
        return f"/r{self.runs}/{name}", place

    def move(self, name, *, there=True, **ends):
        """Start a transfer of a file; return it with a check that a success has to pass."""
        path, place = self.file(name)
        if not there:
            place.unlink()
        goal = self.scratch / path.strip("/")
        ends = {"src_ep": "a", "dst_ep": "b", **ends}
        pending = self.guided.start(transfer_request(src_path=path, dst_path=path, **ends), timeout=300, grace=1)
        return pending, lambda: there and goal.read_text() == place.read_text()

    def delete(self, name, *, there=True):
        """Start a deletion of a file; return it with a check that a success has to pass."""
        path, place = self.file(name)
        if not there:
            place.unlink()
        return self.guided.start(delete_request(src_ep="a", src_path=path), timeout=300, grace=1), (
            lambda: there and not place.exists()
        )


def one(world):
    """Transfer a file."""
    return [world.move("x")]


def many(world):
    """Transfer files in one task; one source is missing."""
    return [world.move("x"), world.move("y"), world.move("missing", there=False)]


def refused(world):
    """Transfer files in one task; one destination is not writable."""
    world.globus.collection("hpc-scratch").denied = {f"/r{world.runs}/y"}
    pending, _ = world.move("y")
    return [world.move("x"), (pending, lambda: False)]


def deleted(world):
    """Delete files in one task; one is missing."""
    return [world.delete("x"), world.delete("y"), world.delete("missing", there=False)]


def cancelled(world):
    """Cancel a slow transfer."""
    world.globus.settings.task_latency = 1e6
    pending, _ = world.move("x")
    world.guided.live(seconds=5)
    world.guided.manager.stop(f"pending request {world.guided._count}")
    return [(pending, lambda: False)]


def late(world):
    """Wait for a transfer that does not end before its timeout."""
    world.globus.settings.task_latency = 1e6
    pending, _ = world.move("x")
    return [(pending, lambda: False)]


def by_name(world):
    """Transfer a file between collections that are found by display name."""
    return [world.move("x", src_ep="my-laptop", dst_ep="hpc-scratch")]


def listed(world):
    """List a folder whose listing takes several pages."""
    names = {f"f{number}" for number in range(5)}
    for name in names:
        world.file(name)
    world.globus.settings.listing_size = 3
    try:
        return {entry.name.casefold() for entry in world.backend.ls("a", f"/r{world.runs}")} >= names
    finally:
        world.globus.settings.listing_size = 100_000


def logged_in(world):
    """Log in as a user with a consent, and check the username."""
    site = world.globus.collection("hpc-scratch")
    site.entity_type, site.needs_consent = "GCSv5_mapped_collection", True
    Path(os.environ["CHILTEPIN_TOKENS"]).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"):
            patch.delenv(name)
        log_in(site.id)
        try:
            world.backend.ls("b", "/")
        finally:
            site.entity_type, site.needs_consent = "GCP_mapped_collection", False
        return re.fullmatch(r"[\w.@]+", login.whoami().username) is not None


SCENARIOS = [one, many, refused, deleted, cancelled, late, by_name, listed, logged_in]


@pytest.fixture
def world(globus, laptop, scratch, monkeypatch):
    """A simulator without rate limiting, and an SDK that retries without delay."""
    globus.settings.request_rate = None
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return World(globus, laptop, scratch)


def ended(world, scenario):
    """Run a scenario to its end; return each request's outcome with its check."""
    world.begin()
    try:
        made = scenario(world)
        if isinstance(made, list):
            world.guided.live()
    except ChiltepinError as err:
        return [(err, lambda: False)]
    finally:
        world.globus.collection("hpc-scratch").denied = set()
        world.backend.close()
    if not isinstance(made, list):
        return [(TaskState.SUCCEEDED, lambda: made)]
    return [(outcome(pending), true) for pending, true in made]


def outcome(pending):
    """Return the outcome of a request: SUCCEEDED, or its error."""
    assert pending.future.done(), "it hangs"
    failure = pending.future.exception(0)
    return failure or error_from_status(pending.future.result(0), pending.request) or TaskState.SUCCEEDED


def recorded(world, scenario):
    """Run a scenario without mutations; return the received documents by kind."""
    seen = {}

    def note(method, path, document):
        seen.setdefault(kind_of(method, path), []).append(document)
        return document

    world.begin()
    begin, world.begin = world.begin, lambda: None
    world.globus.rewrite_answers(note)
    ends = ended(world, scenario)
    world.begin = begin
    assert all(end is not TaskState.SUCCEEDED or true() for end, true in ends)
    return seen


def cases(seen):
    """Return the cases: a kind of document, the places to mutate together, and the mutation."""
    found = []
    for kind, documents in sorted(seen.items()):
        wheres = {where for document in documents for where in places(document)}
        # Keys that the backend does not read cannot matter; mutating all of them at once proves it.
        read = [where for where in sorted(wheres, key=str) if where[-1] in READ or isinstance(where[-1], int)]
        unread = tuple(sorted(wheres - set(read), key=str))
        found += [(kind, (where,), mutation) for where in read for mutation in MUTATIONS]
        found += [(kind, unread, mutation) for mutation in MUTATIONS if unread]
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_no_spoiled_document_makes_a_wrong_success(world, scenario):
    """Whichever key is mutated, each request truly succeeds or raises a Chiltepin error."""
    tried = cases(recorded(world, scenario))
    if len(tried) > SOME:
        tried = random.Random(f"{scenario.__name__} {len(READ)}").sample(tried, SOME)  # noqa: S311 - reproducible
    wrong = []
    for kind, wheres, mutation in tried:
        world.begin()
        begin, world.begin = world.begin, lambda: None
        world.globus.rewrite_answers(
            lambda method, path, document, kind=kind, wheres=wheres, mutation=mutation: (
                mutated(document, wheres, mutation) if kind_of(method, path) == kind else document
            )
        )
        told = f"{kind} {wheres[0]} {mutation}"
        try:
            for end, true in ended(world, scenario):
                if end is TaskState.SUCCEEDED:
                    wrong += [] if true() else [f"{told}: a wrong success"]
                elif not isinstance(end, ChiltepinError) or not str(end).isprintable():
                    wrong.append(f"{told}: {end!r}")
        except Exception as err:  # noqa: BLE001 - reported with the mutation that caused it
            wrong.append(f"{told}: {type(err).__name__}: {err}")
        finally:
            world.begin = begin
    assert not wrong, "\n".join(wrong)
