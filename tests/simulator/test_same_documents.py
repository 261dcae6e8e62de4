"""``chiltepin transfer`` and ``delete`` submit the same documents as ``globus`` for the same arguments."""

from __future__ import annotations

import sys
import uuid
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from commandline import Shell
from simulated import World

from chiltepin.cli import main
from chiltepin.testing.simulator import Simulator

#: Placeholders for a deadline before the timeout of a command, which is a day, and for an unused id: each test has its
#: own values.
SOON, SOON_APART, NEW_ID = "SOON", "SOON APART", "NEW-ID"

TRANSFERS = [
    (),
    ("--recursive",),
    ("-r", "--exclude", "1.nc", "--include", "*.nc", "--exclude", "*"),
    ("-r", "--include", "[!a-c]?.nc", "--include", "*.txt", "--exclude=*"),
    ("--sync-level", "checksum", "--preserve-timestamp"),
    ("-s", "exists", "--checksum-algorithm", "SHA256"),
    ("--encrypt-data", "--fail-on-quota-errors"),
    ("--skip-source-errors",),
    ("-r", "--delete-destination-extra"),
    ("--source-local-user", "ada", "--destination-local-user", "grace"),
    ("--notify", "succeeded,failed"),
    ("--notify", "inactive"),
    ("--notify", "on"),
    ("--notify", "off"),
    ("--deadline", SOON),
    ("--deadline", SOON, "--label", "of today"),
    ("--submission-id", NEW_ID),
]

#: Keys that globus omits because they have the service's default (SDK documentation, ``TransferData``).
DEFAULTS = {f"notify_on_{event}": True for event in ("succeeded", "failed", "inactive")}

DELETIONS = [
    (),
    ("--recursive",),
    ("-r", "--ignore-missing"),
    ("--enable-globs", "--ignore-missing"),
    ("-r", "--no-enable-globs", "--ignore-missing"),
    ("--local-user", "ada", "--ignore-missing"),
    ("--notify", "failed", "--label", "of today", "--ignore-missing"),
    ("--deadline", SOON_APART, "--submission-id", NEW_ID, "--ignore-missing"),
]


@pytest.fixture
def words(request):
    """The arguments of one command line, with this test's time and id."""
    soon = f"{datetime.now(timezone.utc) + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"
    own = {SOON: soon, SOON_APART: soon.replace("T", " "), NEW_ID: str(uuid.uuid4())}
    return tuple(own.get(word, word) for word in request.param)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A simulated Globus with two collections."""
    root = tmp_path_factory.mktemp("globus")
    with Simulator({name: root / name for name in ("my-laptop", "hpc-scratch")}, request_rate=None) as simulator:
        yield World(simulator)


@pytest.fixture(scope="module")
def shell(world, tmp_path_factory):
    """A shell with service credentials in its environment."""
    return Shell(world.globus, tmp_path_factory.mktemp("service"))


@pytest.fixture
def ours(world, tmp_path, monkeypatch):
    """Run ``chiltepin`` in this process; return the document of the task that it submits."""
    for name, value in world.globus.environment().items():
        monkeypatch.setenv(name, value)
    settings = tmp_path / "chiltepin.yaml"
    settings.write_text(yaml.safe_dump({"data": {"backend": "globus", "journal": False}}))

    def submitted(*words):
        before = set(world.globus.tasks)
        monkeypatch.setattr(sys, "argv", ["chiltepin", *words, "--config", str(settings)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert not ended.value.code
        (task_id,) = set(world.globus.tasks) - before
        return world.globus.task(task_id).submitted

    return submitted


def aligned(our, theirs, words):
    """Return both documents without the mark, deadline, id and notifications that chiltepin sets on purpose."""
    our, theirs = dict(our), {**DEFAULTS, **theirs}
    label = our.pop("label").rpartition("chiltepin-")[0].strip()
    if "--label" in words:
        our["label"] = label
    for option, key in (("--deadline", "deadline"), ("--submission-id", "submission_id")):
        if option not in words:
            del our[key]
    if "deadline" in our:
        our["deadline"] = datetime.fromisoformat(our["deadline"])
        theirs["deadline"] = datetime.fromisoformat(theirs["deadline"]).replace(tzinfo=timezone.utc)
    return our, theirs


def quiet(words):
    """Return the arguments with notifications off, unless they set notifications."""
    return words if "--notify" in words else (*words, "--notify", "off")


@pytest.mark.parametrize("words", TRANSFERS, ids=" ".join, indirect=True)
def test_a_transfer_is_the_document_of_globus(world, shell, ours, words):
    """The document of a transfer equals the one of ``globus transfer --dry-run``."""
    folder = str(uuid.uuid4())
    world.put(f"/{folder}/f/a.nc" if {"-r", "--recursive"} & {*words} else f"/{folder}/f")
    pair = (f"{world.laptop.id}:/{folder}/f", f"{world.scratch.id}:/{folder}/f")
    theirs = shell.told("transfer", *pair, "--dry-run", *quiet(words))
    our = ours("transfer", *pair, *words, "--detach")
    # Without --recursive, globus leaves the type of a path to the service.
    theirs["DATA"][0].setdefault("recursive", False)
    our, theirs = aligned(our, theirs, words)
    assert our == theirs


@pytest.mark.parametrize("words", DELETIONS, ids=" ".join, indirect=True)
def test_a_deletion_is_the_document_of_globus(world, shell, ours, words):
    """The document of a deletion equals the one of ``globus delete --dry-run``."""
    path = f"/{uuid.uuid4()}"
    world.put(path)
    place = f"{world.laptop.id}:{path}"
    theirs = shell.told("delete", place, "--dry-run", *quiet(words))
    theirs.setdefault("recursive", False)
    our, theirs = aligned(ours("delete", place, *words, "--yes"), theirs, words)
    assert our == theirs
