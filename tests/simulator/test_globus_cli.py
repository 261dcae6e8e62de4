"""The real ``globus`` command works with the simulator: its actions, output and exit codes."""

from __future__ import annotations

import hashlib
import os
import uuid

import pytest
from commandline import Shell, advised
from simulated import World

from chiltepin.testing.simulator import ManualClock, Simulator


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A simulated Globus for all tests of this module; each test uses separate folders."""
    root = tmp_path_factory.mktemp("globus")
    with Simulator({name: root / name for name in ("my-laptop", "hpc-scratch")}) as simulator:
        yield World(simulator)


@pytest.fixture(scope="module")
def shell(world, tmp_path_factory):
    """A shell with service credentials in its environment."""
    return Shell(world.globus, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def person(world, tmp_path_factory):
    """A shell of a user who has logged in."""
    shell = Shell(world.globus, tmp_path_factory.mktemp("person"), user=True)
    shell.through_the_browser("login")
    return shell


@pytest.fixture
def laptop(world):
    """The prefix of paths on the laptop, as the command expects it."""
    return f"{world.laptop.id}:"


@pytest.fixture
def scratch(world):
    """The prefix of paths on the scratch file system."""
    return f"{world.scratch.id}:"


def done(world, shell, *words, status="SUCCEEDED", stdin=""):
    """Submit with the command, wait with the SDK, and check the final status; return the task id."""
    task_id = shell.submitted(*words, stdin=stdin)
    world.client.task_wait(task_id, timeout=60, polling_interval=1)
    assert world.task(task_id)["status"] == status
    return task_id


# Listings.


def test_ls_lists_a_folder(world, shell, laptop):
    """``ls`` lists a folder; ``-a`` adds hidden files, ``-l`` adds details, and ``--filter`` selects."""
    for path in ("/ls/b.txt", "/ls/.hidden", "/ls/in/c.dat"):
        world.put(path)
    assert shell.run("ls", f"{laptop}/ls").stdout == "b.txt\nin/\n"
    assert ".hidden" in shell.run("ls", "-a", f"{laptop}/ls").stdout
    long = shell.run("ls", "-l", f"{laptop}/ls").stdout
    assert long.startswith("Permissions | User")
    assert "| file      | b.txt" in long
    assert shell.run("ls", "--filter", "~*.txt", f"{laptop}/ls").stdout == "b.txt\n"


def test_ls_recursive(world, shell, laptop):
    """``ls -r`` lists all subfolders, and a filter shows only matching files."""
    for path in ("/lsr/b.txt", "/lsr/in/c.dat", "/lsr/in/deep/d.txt"):
        world.put(path)
    listed = shell.run("ls", "-r", f"{laptop}/lsr").stdout.split()
    assert set(listed) == {"b.txt", "in/", "in/c.dat", "in/deep/", "in/deep/d.txt"}
    filtered = shell.run("ls", "-r", "--filter", "~*.txt", f"{laptop}/lsr").stdout.split()
    assert {name for name in filtered if not name.endswith("/")} == {"b.txt", "in/deep/d.txt"}


def test_what_cannot_be_listed(world, shell, laptop):
    """Listing a missing folder, a file or an unknown collection exits with 1, or a code mapped from the HTTP status."""
    world.put("/file.txt")
    missing = shell.run("ls", f"{laptop}/missing", code=1).stderr
    assert "404" in missing
    assert "ClientError.NotFound" in missing
    assert "ExternalError.DirListingFailed.NotDirectory" in shell.run("ls", f"{laptop}/file.txt", code=1).stderr
    assert "EndpointNotFound" in shell.run("ls", f"{uuid.uuid4()}:/", code=1).stderr
    shell.run("ls", f"{laptop}/missing", "--map-http-status", "404=50", code=50)


def test_a_wrong_word_is_a_usage_error(shell, laptop):
    """An invalid command line exits with 2."""
    shell.run("ls", "no-uuid:/", code=2)
    shell.run("transfer", f"{laptop}/a", code=2)


def test_stat_tells_one_path(world, shell, laptop):
    """``stat`` reports type and size, or that the path is missing, which is not an error."""
    world.put("/stat/a.txt", b"12345")
    told = shell.told("stat", f"{laptop}/stat/a.txt")
    assert (told["type"], told["size"]) == ("file", 5)
    assert shell.told("stat", f"{laptop}/stat")["type"] == "dir"
    assert "Nothing found at /stat/b.txt" in shell.run("stat", f"{laptop}/stat/b.txt").stdout


def test_a_personal_endpoint_that_is_off(world, shell, laptop):
    """While Globus Connect Personal is off, a listing exits with 1 and shows the service's code."""
    world.laptop.connected = False
    try:
        assert "ExternalError.DirListingFailed.GCDisconnected" in shell.run("ls", f"{laptop}/", code=1).stderr
    finally:
        world.laptop.connected = True


def test_endpoint_search_and_show(world, shell):
    """Collections can be searched by text and by scope, and shown."""
    found = shell.told("endpoint", "search", "my-laptop")["DATA"]
    assert [one["id"] for one in found] == [world.laptop.id]
    mine = shell.told("endpoint", "search", "--filter-scope", "my-endpoints")["DATA"]
    assert {world.laptop.id, world.scratch.id} <= {one["id"] for one in mine}
    assert shell.told("endpoint", "search", "no-such-name")["DATA"] == []
    shell.run("endpoint", "search", code=2)
    assert "my-laptop" in shell.run("endpoint", "show", world.laptop.id).stdout
    assert "EndpointNotFound" in shell.run("endpoint", "show", str(uuid.uuid4()), code=1).stderr


def test_a_collection_of_the_wrong_kind(world, shell, tmp_path):
    """``endpoint show`` of a Connect Server collection exits with 3 and names the command that shows it."""
    lab = world.globus.add_collection("lab", tmp_path / "lab", entity_type="GCSv5_mapped_collection")
    assert f"globus gcs collection show {lab.id}" in shell.run("endpoint", "show", lab.id, code=3).stderr


# Immediate changes.


def test_mkdir_makes_one_folder(world, shell, laptop):
    """``mkdir`` creates a folder once, and fails if the parent is missing."""
    assert "created successfully" in shell.run("mkdir", f"{laptop}/made").stdout
    assert world.at("/made", world.laptop).is_dir()
    assert "ExternalError.MkdirFailed.Exists" in shell.run("mkdir", f"{laptop}/made", code=1).stderr
    shell.run("mkdir", f"{laptop}/no/parent", code=1)
    assert not world.at("/no", world.laptop).exists()


def test_rename_moves_one_path(world, shell):
    """``rename`` changes a path, does not overwrite an existing one, and fails if the source is missing."""
    world.put("/rename/a", b"a")
    shell.run("rename", world.laptop.id, "/rename/a", "/rename/b")
    assert world.at("/rename/b", world.laptop).read_bytes() == b"a"
    world.put("/rename/c", b"c")
    shell.run("rename", world.laptop.id, "/rename/c", "/rename/b", code=1)
    assert world.at("/rename/b", world.laptop).read_bytes() == b"a"
    shell.run("rename", world.laptop.id, "/rename/missing", "/rename/d", code=1)


# Transfers.


def test_transfer_of_a_file(world, shell, laptop, scratch):
    """A file is transferred to its new path; the task reports its label, deadline and transferred files."""
    world.put("/one.txt", b"one")
    options = ("--label", "first light", "--deadline", "2031-01-01", "--preserve-timestamp")
    task_id = shell.submitted("transfer", f"{laptop}/one.txt", f"{scratch}/single/uno.txt", *options)
    task = shell.ended(task_id)
    assert world.at("/single/uno.txt").read_bytes() == b"one"
    assert (task["status"], task["label"], task["type"]) == ("SUCCEEDED", "first light", "TRANSFER")
    assert task["deadline"].startswith("2031-01-01")
    assert (task["files_transferred"], task["bytes_transferred"], task["verify_checksum"]) == (1, 3, True)
    listed = shell.run("task", "show", "-t", task_id).stdout
    assert "/one.txt" in listed
    assert hashlib.md5(b"one", usedforsecurity=False).hexdigest() in listed


def test_transfer_of_a_folder(world, shell, laptop, scratch):
    """A folder is transferred with its contents, also if the command leaves the type of the path to the service."""
    for path in ("/tree/a.txt", "/tree/in/b.txt"):
        world.put(path, path.encode())
    done(world, shell, "transfer", "-r", f"{laptop}/tree", f"{scratch}/tree")
    assert world.at("/tree/in/b.txt").read_bytes() == b"/tree/in/b.txt"
    done(world, shell, "transfer", f"{laptop}/tree", f"{scratch}/looked")
    assert world.at("/looked/a.txt").read_bytes() == b"/tree/a.txt"
    done(world, shell, "transfer", "--no-recursive", f"{laptop}/tree", f"{scratch}/refused", status="FAILED")
    assert not world.at("/refused").exists()


@pytest.mark.parametrize("origin", ["file", "stdin"])
def test_transfer_of_a_batch(origin, world, shell, laptop, scratch, tmp_path):
    """A batch has one pair of paths per line, relative to two folders, with comments and quotes as in a shell."""
    for path in ("/batch/a.txt", "/batch/with space.txt", "/batch/in/b.txt"):
        world.put(path, path.encode())
    lines = "# what to move\na.txt a\n'with space.txt' 'with space'\n-r in inner\n"
    (tmp_path / "batch.txt").write_text(lines)
    batch = str(tmp_path / "batch.txt") if origin == "file" else "-"
    words = ("transfer", f"{laptop}/batch", f"{scratch}/batch-{origin}", "--batch", batch)
    done(world, shell, *words, stdin="" if origin == "file" else lines)
    arrived = {name.removeprefix(f"/batch-{origin}/") for name in world.files() if f"/batch-{origin}/" in name}
    assert arrived == {"a", "with space", "inner/b.txt"}


@pytest.mark.parametrize(
    ("level", "replaced"),
    [
        ("exists", {"new"}),
        ("size", {"new", "longer"}),
        ("mtime", {"new", "longer", "newer"}),
        ("checksum", {"new", "longer", "newer", "changed"}),
    ],
)
def test_transfer_with_a_sync_level(level, replaced, world, shell, laptop, scratch):
    """Each sync level skips files that it considers unchanged."""
    source, goal = f"/{level}/from", f"/{level}/to"
    files = {"new": b"new", "longer": b"longer", "newer": b"newer", "changed": b"CHANGED", "same": b"same"}
    there = {"longer": b"long", "newer": b"older", "changed": b"changed", "same": b"same"}
    for name, content in files.items():
        os.utime(world.put(f"{source}/{name}", content), (1000, 3000 if name == "newer" else 1000))
    for name, content in there.items():
        os.utime(world.put(f"{goal}/{name}", content, world.scratch), (2000, 2000))
    task_id = done(world, shell, "transfer", "-r", "--sync-level", level, f"{laptop}{source}", f"{scratch}{goal}")
    now = {name: world.at(f"{goal}/{name}").read_bytes() for name in files}
    assert now == {name: content if name in replaced else there[name] for name, content in files.items()}
    task = world.task(task_id)
    assert (task["files_transferred"], task["files_skipped"]) == (len(replaced), len(files) - len(replaced))


def test_transfer_of_some_files(world, shell, laptop, scratch):
    """``--include`` and ``--exclude`` rules apply to files, in the given order."""
    for path in ("/some/a.txt", "/some/b.log", "/some/in/c.txt", "/some/in/keep.log"):
        world.put(path)
    rules = ("--include", "keep.*", "--exclude", "*.log")
    done(world, shell, "transfer", "-r", *rules, f"{laptop}/some", f"{scratch}/some")
    assert {name for name in world.files() if name.startswith("/some/")} == {
        "/some/a.txt",
        "/some/in/c.txt",
        "/some/in/keep.log",
    }


def test_transfer_with_a_checksum_of_the_users_own(world, shell, laptop, scratch):
    """A file with the given checksum is transferred; a file with another one fails the task and is not written."""
    world.put("/sum.txt", b"sum")
    right = hashlib.sha256(b"sum").hexdigest()
    words = ("transfer", "--checksum-algorithm", "sha256", "--external-checksum")
    shell.moved(*words, right, f"{laptop}/sum.txt", f"{scratch}/sum-right.txt")
    assert world.at("/sum-right.txt").read_bytes() == b"sum"
    failed = shell.moved(*words, "0" * 64, f"{laptop}/sum.txt", f"{scratch}/sum-wrong.txt", code=1)
    assert world.task(failed)["fatal_error"]["code"] == "EXTERNAL_CHECKSUM_MISMATCH"
    assert not world.at("/sum-wrong.txt").exists()


def test_a_dry_run_asks_for_nothing(world, shell, laptop, scratch):
    """``--dry-run`` shows the document and sends no request."""
    before = len(world.globus.requests)
    shown = shell.told("transfer", "--dry-run", "-r", f"{laptop}/a", f"{scratch}/b")
    assert (shown["source_endpoint"], shown["DATA"][0]["destination_path"]) == (world.laptop.id, "/b")
    assert len(world.globus.requests) == before


def test_a_submission_id_makes_one_task(world, shell, laptop, scratch):
    """The same submission id returns the same task; without it, identical paths in flight are refused."""
    submission_id = shell.run("task", "generate-submission-id").stdout.strip()
    words = ("transfer", f"{laptop}/never", f"{scratch}/never")
    first = shell.told(*words, "--submission-id", submission_id)
    again = shell.told(*words, "--submission-id", submission_id)
    assert (first["code"], again["code"]) == ("Accepted", "Duplicate")
    assert first["task_id"] == again["task_id"]
    assert "Conflict" in shell.run(*words, code=1).stderr
    shell.run("task", "cancel", first["task_id"])


# Deleting.


def test_delete_of_a_folder(world, shell, scratch):
    """A folder is deleted only with ``-r``."""
    world.put("/gone/in/a.txt", collection=world.scratch)
    refused = shell.moved("delete", f"{scratch}/gone", code=1)
    assert world.task(refused)["fatal_error"]["code"] == "IS_A_DIRECTORY"
    assert world.at("/gone/in/a.txt").exists()
    shell.moved("delete", "-r", f"{scratch}/gone")
    assert not world.at("/gone").exists()


def test_delete_of_what_is_missing(world, shell, scratch):
    """A missing path fails the task, except with ``--ignore-missing``."""
    failed = shell.moved("delete", f"{scratch}/missing", code=1)
    assert world.task(failed)["fatal_error"]["code"] == "FILE_NOT_FOUND"
    shell.moved("delete", "--ignore-missing", f"{scratch}/missing")


def test_delete_of_a_batch_and_of_a_pattern(world, shell, scratch):
    """A batch has one path per line; with ``--enable-globs``, the last name of a path may be a pattern."""
    for name in ("a.txt", "b.txt", "c.log", "d.log"):
        world.put(f"/many/{name}", collection=world.scratch)
    done(world, shell, "delete", "--batch", "-", f"{scratch}/many", stdin="a.txt\nc.log\n")
    assert {name for name in world.files() if "/many/" in name} == {"/many/b.txt", "/many/d.log"}
    done(world, shell, "delete", "--enable-globs", f"{scratch}/many/*.log")
    assert {name for name in world.files() if "/many/" in name} == {"/many/b.txt"}


def test_rm_waits_for_the_end(world, shell, scratch):
    """``rm`` waits for the deletion; a missing file exits with 1, or with 0 if ``--ignore-missing`` is given."""
    world.put("/rm.txt", collection=world.scratch)
    shell.run("rm", f"{scratch}/rm.txt")
    assert not world.at("/rm.txt").exists()
    shell.run("rm", f"{scratch}/rm.txt", code=1)
    shell.run("rm", "--ignore-missing", f"{scratch}/rm.txt")


# Tasks.


@pytest.fixture
def stuck(world):
    """A task that waits for a missing file."""
    task_id = world.transfer((f"/{uuid.uuid4()}", "/stuck"), label="stuck")
    yield task_id
    world.client.cancel_task(task_id)


def test_waiting_has_an_end(shell, stuck):
    """``task wait`` exits with 1 after its timeout, or with the requested exit code."""
    timed_out = shell.run("task", "wait", "--timeout", "1", stuck, code=1)
    assert "Task has yet to complete after 1 seconds" in timed_out.stderr
    shell.run("task", "wait", "--timeout", "1", "--timeout-exit-code", "55", stuck, code=55)


def test_a_task_says_what_holds_it_up(world, shell, stuck):
    """A missing source leaves the task active; its events, faults and status state the reason."""
    shell.run("task", "wait", "--timeout", "1", stuck, code=1)
    task = shell.told("task", "show", stuck)
    assert (task["status"], task["nice_status"], task["is_ok"]) == ("ACTIVE", "FILE_NOT_FOUND", False)
    assert task["faults"] > 0
    assert "Details:" in shell.run("task", "show", stuck).stdout
    events = shell.told("task", "event-list", stuck)["DATA"]
    assert [event["code"] for event in events][-2:] == ["FILE_NOT_FOUND", "STARTED"]
    errors = shell.told("task", "event-list", "--filter-errors", stuck)["DATA"]
    assert {event["code"] for event in errors} == {"FILE_NOT_FOUND"}


def test_a_task_can_be_changed_while_it_runs(shell, stuck):
    """``task update`` changes the label and deadline of a task; for a task that has ended it exits with 1."""
    shell.run("task", "update", stuck, "--label", "still stuck", "--deadline", "2031-02-03")
    task = shell.told("task", "show", stuck)
    assert (task["label"], task["deadline"][:10]) == ("still stuck", "2031-02-03")
    shell.run("task", "cancel", stuck)
    assert "BadRequest" in shell.run("task", "update", stuck, "--label", "late", code=1).stderr


def test_a_task_can_be_canceled(shell, stuck):
    """A canceled task has failed; canceling it again reports that it has ended, which is not an error."""
    assert "cancelled successfully" in shell.run("task", "cancel", stuck).stdout
    task = shell.ended(stuck, code=1)
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "CANCELED")
    assert "completed before" in shell.run("task", "cancel", stuck).stdout
    assert "ClientError.NotFound" in shell.run("task", "cancel", str(uuid.uuid4()), code=1).stderr


def test_all_tasks_can_be_canceled(world, shell, stuck):
    """``task cancel --all`` cancels all tasks in flight."""
    shell.run("task", "cancel", "--all")
    assert world.globus.task(stuck).status == "FAILED"


def test_a_paused_collection_pauses_its_tasks(world, shell, stuck):
    """``task pause-info`` names the rule that pauses a task."""
    assert "is not paused" in shell.run("task", "pause-info", stuck).stdout
    world.scratch.paused = True
    try:
        assert "hpc-scratch" in shell.run("task", "pause-info", stuck).stdout
        assert shell.told("task", "show", stuck)["is_paused"] is True
    finally:
        world.scratch.paused = False


def test_tasks_are_listed(world, shell, laptop, scratch):
    """``task list`` shows transfers and deletes, newest first, and can be filtered."""
    world.put("/listed.txt")
    moved = done(world, shell, "transfer", f"{laptop}/listed.txt", f"{scratch}/listed.txt", "--label", "listed one")
    gone = done(world, shell, "delete", f"{scratch}/listed.txt", "--label", "listed two")

    def listed(*words):
        return [task["task_id"] for task in shell.told("task", "list", *words)["DATA"]]

    assert listed("--limit", "2") == [gone, moved]
    assert listed("--filter-label", "listed one") == [moved]
    assert gone not in listed("--filter-type", "TRANSFER")
    assert moved not in listed("--filter-status", "FAILED")


def test_errors_can_be_skipped(world, shell, laptop, scratch):
    """With ``--skip-source-errors``, a missing file is skipped and listed, and the task succeeds."""
    world.put("/skip/a.txt")
    lines = "a.txt a.txt\nmissing.txt missing.txt\n"
    words = ("transfer", "--skip-source-errors", "--batch", "-", f"{laptop}/skip", f"{scratch}/skip")
    task_id = done(world, shell, *words, stdin=lines)
    assert world.at("/skip/a.txt").exists()
    assert "FILE_NOT_FOUND" in shell.run("task", "show", "--skipped-errors", task_id).stdout


def test_a_deadline_that_passes_fails_the_task(tmp_path):
    """After its deadline, a task has failed with EXPIRED, and waiting for it exits with 1."""
    clock = ManualClock()
    with Simulator({name: tmp_path / name for name in ("a", "b")}, clock=clock) as simulator:
        shell = Shell(simulator, tmp_path)
        paths = [f"{simulator.collection(name).id}:/missing" for name in ("a", "b")]
        task_id = shell.submitted("transfer", *paths, "--deadline", "2026-01-02 00:00:00")
        clock.advance(11 * 3600)
        shell.run("task", "wait", "--timeout", "1", "--timeout-exit-code", "55", task_id, code=55)
        clock.advance(2 * 3600)
        assert shell.ended(task_id, code=1)["fatal_error"]["code"] == "EXPIRED"


# Identities and logins.


def test_a_service_says_who_it_is(world, shell):
    """With service credentials, ``whoami`` names the client, and ``login`` is refused."""
    client_id = world.globus.authority.client_id
    assert shell.run("whoami").stdout == f"{client_id}@clients.auth.globus.org\n"
    assert client_id in shell.run("session", "show").stdout
    shell.run("login", "--no-local-server", code=2)


def test_identities_are_found_by_name_and_by_id(world, shell):
    """``get-identities`` converts a username to an id and back."""
    user = world.globus.authority.user
    assert shell.run("get-identities", user.username).stdout == f"{user.identity_id}\n"
    assert shell.run("get-identities", user.identity_id).stdout == f"{user.username}\n"


def test_a_service_consents_for_itself(world, shell, tmp_path):
    """With service credentials, the command gets the consent for a collection by itself."""
    vault = world.globus.add_collection(
        "service-vault", tmp_path / "vault", entity_type="GCSv5_mapped_collection", needs_consent=True
    )
    world.put("/kept.txt", collection=vault)
    assert shell.run("ls", f"{vault.id}:/").stdout == "kept.txt\n"


def test_what_is_refused_once_is_tried_again(world, shell, laptop):
    """The command recovers by itself from an expired token and from a short outage."""

    def answers():
        return [served.status for served in world.globus.requests if served.path.endswith("/ls")]

    shell.run("ls", f"{laptop}/")
    world.globus.authority.expire_all()
    world.client = world.globus.client()
    shell.run("ls", f"{laptop}/")
    assert answers()[-2:] == [401, 200]
    world.globus.fail_next(1, 503, path="/ls")
    shell.run("ls", f"{laptop}/")
    assert answers()[-2:] == [503, 200]


def test_a_whole_login(world, tmp_path, laptop, scratch):
    """Login, whoami, transfer and logout work; before and after, commands require a login and exit with 4."""
    shell = Shell(world.globus, tmp_path, user=True)
    assert "globus login" in shell.run("ls", f"{laptop}/", code=4).stderr
    assert "You have successfully logged in to the Globus CLI!" in shell.through_the_browser("login")
    user = world.globus.authority.user
    assert shell.run("whoami").stdout == f"{user.username}\n"
    assert user.username in shell.run("session", "show").stdout
    world.put("/login.txt", b"mine")
    task_id = shell.moved("transfer", f"{laptop}/login.txt", f"{scratch}/login.txt")
    assert world.at("/login.txt").read_bytes() == b"mine"
    assert world.globus.task(task_id).document()["owner_id"] == user.identity_id
    assert f"Logging out of Globus as {user.username}" in shell.run("logout", "--yes").stdout
    assert "globus login" in shell.run("whoami", code=4).stderr


def test_a_second_login_finds_the_first(person):
    """A second ``login`` reports the existing login and shows no link."""
    assert "You are already logged in!" in person.run("login", "--no-local-server").stdout


def test_tasks_are_their_owners(person, shell, stuck):
    """Another identity can neither see nor cancel a task."""
    assert "ClientError.NotFound" in person.run("task", "show", stuck, code=1).stderr
    assert "ClientError.NotFound" in person.run("task", "cancel", stuck, code=1).stderr


def test_a_user_is_told_how_to_consent(world, person, tmp_path):
    """For a missing consent, ``ls`` exits with 4 and names the command that adds it."""
    vault = world.globus.add_collection(
        "vault", tmp_path / "vault", entity_type="GCSv5_mapped_collection", needs_consent=True
    )
    world.put("/kept.txt", collection=vault)
    refused = person.run("ls", f"{vault.id}:/", code=4)
    words = advised(refused.stdout + refused.stderr)
    assert words[:2] == ["session", "consent"]
    assert vault.consent_scope in words[2]
    person.through_the_browser(*words)
    assert person.run("ls", f"{vault.id}:/").stdout == "kept.txt\n"


def test_a_user_is_told_how_to_renew_the_session(world, person, tmp_path):
    """For a session that is too old, ``ls`` exits with 4 and names the command that renews it."""
    lab = world.globus.add_collection("strict", tmp_path / "strict", session_policy="lab.example.org")
    world.put("/kept.txt", collection=lab)
    refused = person.run("ls", f"{lab.id}:/", code=4)
    words = advised(refused.stdout + refused.stderr)
    assert words == ["session", "update", "lab.example.org"]
    person.through_the_browser(*words)
    assert person.run("ls", f"{lab.id}:/").stdout == "kept.txt\n"
