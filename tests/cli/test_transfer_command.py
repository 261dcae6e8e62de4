"""``chiltepin transfer``: what it moves, what it prints, and its exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from chiltepin.transfers import doubtful_paths


@pytest.fixture
def filled(world):
    """A world with a folder of two kinds of files."""
    (world.a / "data" / "deep").mkdir(parents=True)
    for name in ("x.csv", "y.nc", "deep/z.csv"):
        (world.a / "data" / name).write_bytes(name.encode())
    return world


def names(folder):
    """The files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_moved_to_its_whole_new_path(filled):
    """A file is transferred to the given path, and the output has its files, bytes and duration."""
    ended = filled.run("transfer", "a:/data/x.csv", "b:/in/new.csv")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"1 file, 5 bytes in \d+(\.\d s| ms) \(.*/s\)\n", ended.out)
    assert (filled.b / "in" / "new.csv").read_bytes() == b"x.csv"


def test_a_folder_is_moved_with_what_the_patterns_let_through(filled):
    """-r transfers a folder; --include and --exclude select its files."""
    ended = filled.run("transfer", "-r", "a:/data", "b:/in", "--include", "*.csv", "--exclude", "*")
    assert ended.code == 0
    assert names(filled.b) == ["in/deep/z.csv", "in/x.csv"]


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (("--exclude", "x.csv", "--include", "*.csv", "--exclude", "*"), ["in/deep/z.csv"]),
        (("--include", "*.csv", "--exclude", "x.csv", "--exclude", "*"), ["in/deep/z.csv", "in/x.csv"]),
        (("--exclude", "*", "--include", "*.csv"), []),
        (("--exclude=x*", "--exclude-dirs", "de*"), ["in/y.nc"]),
        (("--include-dirs", "deep", "--exclude-dirs", "*", "--exclude", "[!z]*"), ["in/deep/z.csv"]),
    ],
)
def test_patterns_count_in_the_order_in_which_they_are_typed(filled, words, moved):
    """The first pattern that matches decides, on every backend."""
    ended = filled.run("transfer", "-r", "a:/data", "b:/in", *words)
    assert (ended.code, ended.err) == (0, "")
    assert names(filled.b) == moved


def test_what_is_missing_at_the_source_is_skipped_and_named(filled):
    """With --skip-source-errors the rest of a batch is transferred, and skipped paths are named in all output."""
    filled.write(journal=str(filled.folder / "journal"))
    lines = "/data/x.csv /in/x.csv\n/data/none.csv /in/none.csv\n"
    ended = filled.run("transfer", "a", "b", "--batch", "-", "--skip-source-errors", stdin=lines)
    assert ended.code == 0
    assert ended.err.splitlines() == ["chiltepin: Skipped because it is missing or unreadable: /data/none.csv"]
    assert names(filled.b) == ["in/x.csv"]
    record = filled.json("activity")
    assert (record["state"], record["files_skipped"], record["skipped_paths"]) == ("succeeded", 1, ["/data/none.csv"])
    assert "unreadable: /data/none.csv" in filled.run("activity").out
    shown = filled.json("transfer", "a:/no", "b:/no", "--skip-source-errors")
    assert (shown["state"], shown["files_done"], shown["skipped_paths"]) == ("succeeded", 0, ["/no"])


def test_skipping_and_deleting_exclude_each_other(filled):
    """--skip-source-errors and --delete-destination-extra are refused together: unreadable files would be deleted."""
    ended = filled.run("transfer", "-r", "a:/data", "b:/in", "--skip-source-errors", "--delete-destination-extra")
    assert ended.code == 2
    assert "remove skip_source_errors or delete_destination_extra" in ended.err


def test_json_tells_programs_what_was_done(filled):
    """-F json contains the state, task ids, files, bytes, seconds, and no failures."""
    shown = filled.json("transfer", "-r", "a:/data", "b:/in")
    assert shown.pop("seconds") >= 0
    assert len(shown.pop("task_ids")) == 1
    assert shown == {
        "state": "succeeded",
        "files_done": 3,
        "files_skipped": 0,
        "skipped_paths": [],
        "bytes_done": 19,
        "faults": 0,
        "failures": [],
    }


def test_a_sync_level_leaves_alone_what_is_there(filled):
    """--sync-level size transfers only the files that differ in size, and counts the rest as skipped."""
    filled.run("transfer", "-r", "a:/data", "b:/in")
    (filled.b / "in" / "x.csv").write_bytes(b"longer than it was")
    shown = filled.json("transfer", "-r", "a:/data", "b:/in", "-s", "size")
    assert (shown["files_done"], shown["files_skipped"]) == (1, 2)
    assert (filled.b / "in" / "x.csv").read_bytes() == b"x.csv"


def test_a_checksum_from_outside_is_checked(filled):
    """--checksum fails a file with other content and accepts the right one, also in a line of a batch."""
    digest = hashlib.sha256(b"x.csv").hexdigest()
    right, wrong = f"sha256:{digest}", f"sha256:{'0' * 64}"
    assert filled.run("transfer", "a:/data/x.csv", "b:/x", "--checksum", right).code == 0
    assert filled.run("transfer", "a:/data/x.csv", "b:/y", "--checksum", wrong).code == 1
    lines = f"/data/x.csv /z --checksum {right}\n/data/y.nc /w\n"
    assert filled.run("transfer", "a", "b", "--batch", "-", stdin=lines).code == 0
    assert names(filled.b) == ["w", "x", "z"]


def test_what_is_too_much_at_the_destination_goes(filled):
    """--delete-destination-extra deletes the files that the source folder does not contain."""
    (filled.b / "in").mkdir()
    (filled.b / "in" / "old").touch()
    assert filled.run("transfer", "-r", "a:/data", "b:/in", "--delete-destination-extra").code == 0
    assert names(filled.b) == ["in/deep/z.csv", "in/x.csv", "in/y.nc"]


def test_timestamps_are_kept_on_demand(filled):
    """--preserve-timestamp gives the copy the modification time of its source."""
    os.utime(filled.a / "data" / "x.csv", (1000, 1000))
    assert filled.run("transfer", "a:/data/x.csv", "b:/x", "--preserve-timestamp", "--no-verify").code == 0
    assert (filled.b / "x").stat().st_mtime == 1000


def test_a_dry_run_moves_nothing(filled):
    """--dry-run shows the request with its options, and submits nothing."""
    words = ("transfer", "-r", "a:/data", "b:/in", "--no-verify", "--label", "spring", "--dry-run")
    assert "/data -> /in" in filled.run(*words).out
    [shown] = filled.json(*words)
    assert (shown["source"], shown["destination"], shown["items"]) == ("a", "b", [["/data", "/in"]])
    assert (shown["recursive"], shown["verify_checksum"], shown["label"]) == (True, False, "spring")
    assert not names(filled.b)
    if filled.simulator:
        assert not filled.simulator.tasks


BATCH = """
# what there is
x.csv  copies/x.csv
"y.nc" 'copies/with a space.nc'   # quoted
deep   copies/deep  --recursive
"""


@pytest.mark.parametrize("origin", ["file", "-"])
def test_a_batch_moves_the_pairs_of_its_lines(filled, origin):
    """--batch reads pairs from a file or standard input, relative to the paths on the command line."""
    (filled.folder / "file").write_text(BATCH)
    ended = filled.run("transfer", "a:/data", "b:/in", "--batch", origin, stdin=BATCH)
    assert (ended.code, ended.err) == (0, "")
    assert names(filled.b) == ["in/copies/deep/z.csv", "in/copies/with a space.nc", "in/copies/x.csv"]


def test_one_bad_line_does_not_keep_the_others(filled):
    """If one line of a batch fails, the rest is transferred, the failed line is named, and the exit code is 1."""
    good = "".join(f"/data/x.csv /x{number}\n" for number in range(20))
    ended = filled.run("transfer", "a", "b", "--batch", "-", "-F", "json", stdin=f"{good}/none /y\n")
    assert ended.code == 1
    assert ended.err.count("/data/x.csv") <= 3
    shown = json.loads(ended.out)
    assert (shown["state"], shown["files_done"]) == ("failed", 20)
    [failure] = shown["failures"]
    assert failure["code"] == "FILE_NOT_FOUND"
    assert "/none" in failure["message"]
    assert {"source": "/none", "destination": "/y"} in failure["items"]
    assert "/none" in ended.err
    assert re.search(
        r"Transferred despite the failure: 20 files\.|1 of 21 items failed; 20 files, \d+ bytes? done\.", ended.err
    )
    assert len(names(filled.b)) == 20


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("'$HOME/x' /y", "'$HOME', which is not expanded; did you mean '~/x'?"),
        ("/x '/y*'", "contains a pattern, which is not expanded"),
        ("'C:\\x' /y", "is written as on Windows"),
        ("{root}/x /y", "the root from which it is counted: did you mean '/x'?"),
    ],
)
def test_a_doubtful_path_in_a_batch_is_a_warning(local, line, said, caplog):
    """A path in a batch that is probably a mistake causes a warning, as on the command line."""
    doubtful_paths._warned.clear()
    ended = local.run("transfer", "a", "b", "--batch", "-", "--dry-run", stdin=line.format(root=local.a))
    assert said in " ".join((caplog.text + ended.err).split())


def test_a_trouble_that_may_heal_is_told_with_the_time_that_it_has(service):
    """While a service retries an unreadable source, the message says for how long."""
    service.write(fault_grace=2)
    service.simulator.collection("a").denied.add("/secret")
    ended = service.run("transfer", "a", "b", "--batch", "-", stdin="/secret/x /x\n/secret/y /y\n")
    assert ended.code == 1
    assert re.search(r"Waits up to 2 s for this to recover: .*/secret", ended.err)


def test_a_trouble_is_told_with_no_longer_time_than_the_timeout_leaves(service):
    """If the task is stopped before the tolerated time, the message names the time until the stop."""
    service.write(fault_grace=60)
    service.simulator.collection("a").denied.add("/secret")
    ended = service.run("transfer", "a:/secret/x", "b:/x", "--timeout", "6")
    assert ended.code == 1
    (wait,) = re.findall(r"Waits up to (\d+) s for this to recover: permission denied", ended.err)
    assert 0 < int(wait) <= 6


def test_a_missing_source_is_not_waited_for(service):
    """The message about a missing source says that it is not waited for once it is confirmed missing."""
    service.write(fault_grace=60)
    ended = service.run("transfer", "a:/none", "b:/x")
    assert ended.code == 1
    assert "for this to recover unless the path is confirmed missing: file not found" in ended.err
    assert "There is no /none on endpoint 'a'." in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a:/data", "b:/x"), "set --recursive to transfer it."),
        (("a:/data/x.csv", "b:/x", "-r"), "omit --recursive to transfer it."),
        (("a:/data/x.csv", "b:/x", "--backend", "glob"), "The argument --backend 'glob' names"),
        (("a:/data/x.csv", "b:/x", "--checksum", "md5:0"), "--checksum 'md5:0' is not a valid checksum"),
        (("a:/label=True", "b:/x"), "There is no /label=True on"),
        (("a:/data/x.csv", "b:/x", "--timeout", "soon"), "'soon' is not a valid number."),
    ],
)
def test_messages_have_the_words_of_the_command_line(local, words, said):
    """Messages name command-line options, not Python arguments; file names are unchanged."""
    (local.a / "data").mkdir()
    (local.a / "data" / "x.csv").write_bytes(b"1")
    assert said in local.run("transfer", *words).err


def test_a_missing_source_is_one_sentence_and_exit_code_1(filled):
    """A missing source exits with 1 and a message with the paths and the code."""
    ended = filled.run("transfer", "a:/none", "b:/x")
    assert (ended.code, ended.out) == (1, "")
    wanted = r"^chiltepin: Transfer from 'a' to 'b' of /none to /x failed \(FILE_NOT_FOUND\)"
    assert re.search(wanted, ended.err, re.MULTILINE)


def test_a_hostile_name_does_not_reach_the_terminal(filled):
    """Escape sequences in a file name are escaped in an error, on one line."""
    ended = filled.run("transfer", "a:/\x1b]0;owned\x07\nnone", "b:/x")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert all(line.startswith("chiltepin: ") for line in ended.err.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a:/data/x.csv", "b:/in/"), "write b:/in/x.csv, or add --recursive"),
        (("a:/data/x.csv", "b:/x", "--include", "*"), "add --recursive"),
        (("a", "b:/x"), "a:/data"),
        (("a:/x", ":/x"), "has no endpoint"),
        (("a:/x", "b:/x", "--timeout", "0"), "--timeout"),
        (("a:/x", "b:/x", "--label", "x" * 129), "128"),
        (("a:/x", "b:/x", "-s", "never"), "checksum"),
        (("a", "b", "--batch", "nowhere.txt"), "nowhere.txt"),
        (("a", "b", "-r", "--batch", "-"), "With --batch, write"),
        (("a", "b", "--batch", "-", "--exclude", "*"), "--recursive"),
        (("a", "b", "--batch", "-", "--delete-destination-extra"), "omit --batch"),
        (("a:/x", "b:/x", "--delete-destination-extra"), "set --recursive"),
        (("a:/x", "b:/x", "--checksum", "sha256:1"), "64 hexadecimal digits"),
    ],
)
def test_an_error_of_usage_is_exit_code_2(local, words, said):
    """A usage error exits with 2 and says what to type."""
    ended = local.run("transfer", *words, stdin="x y\n")
    assert (ended.code, said in ended.err) == (2, True), ended.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("one", "is 'one'; write 'SOURCE DESTINATION'"),
        ("one two three", "is 'one two three'"),
        ("one two --force", "'--force'"),
        ("'one two", "quot"),
        ("#", "batch is empty"),
    ],
)
def test_a_line_that_is_no_pair_is_named(local, line, said):
    """A bad line of a batch is a usage error with its line number."""
    ended = local.run("transfer", "a", "b", "--batch", "-", stdin=f"/x /y\n{line}\n" if line != "#" else "#\n")
    assert (ended.code, said in ended.err, "Line 2" in ended.err) == (2, True, line != "#")


@pytest.mark.parametrize("origin", ["file", "-"])
def test_a_batch_keeps_the_bytes_of_names(local, origin):
    """A batch may begin with a byte order mark, and its names may have any encoding."""
    names = [b"plain", "\u00e9".encode(), b"latin-\xe9", b"\xff\xfe", b"with space"]
    for name in names:
        (local.a / os.fsdecode(name)).write_bytes(name)
    lines = b"\xef\xbb\xbf" + b"".join(b"'%s' 'to-%s'\r\n" % (name, name) for name in names)
    (local.folder / "file").write_bytes(lines)
    ended = local.run("transfer", "a:/", "b:/", "--batch", origin, stdin=lines)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(os.listdir(os.fsencode(local.b))) == sorted(b"to-" + name for name in names)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_batch_in_another_encoding_is_a_sentence(local, encoding):
    """A batch in UTF-16 or UTF-32 is a usage error that names the encoding to use."""
    ended = local.run("transfer", "a:/", "b:/", "--batch", "-", stdin="x y\n".encode(encoding))
    assert (ended.code, "probably UTF-16; save it as UTF-8" in ended.err) == (2, True), ended.err


@pytest.mark.parametrize(
    ("origin", "said"),
    [("-", "Standard input is closed"), ("/proc/self/mem", "Could not read the batch: Input/output error")],
)
def test_a_batch_that_cannot_be_read_is_a_sentence(local, origin, said):
    """A closed standard input and a file with read errors are usage errors."""
    ended = local.run("transfer", "a:/", "b:/", "--batch", origin, stdin=None)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_an_unknown_endpoint_is_exit_code_1(local):
    """An unknown endpoint exits with 1, and the message lists the known ones."""
    ended = local.run("transfer", "c:/x", "b:/x")
    assert ended.code == 1
    assert "known: a, b" in ended.err


def test_more_items_than_a_task_takes_become_several(service):
    """A batch with more lines than the service accepts in one task becomes several requests."""
    lines = "".join(f"/data/{number} /in/{number}\n" for number in range(10_001))
    shown = service.json("transfer", "a", "b", "--batch", "-", "--dry-run", stdin=lines)
    assert [len(request["items"]) for request in shown] == [10_000, 1]


# Without waiting.


def test_a_service_goes_on_after_detach(service):
    """--detach prints the task id, the task continues at the service, and the journal contains the id."""
    (service.a / "x").write_bytes(b"1")
    ended = service.run("transfer", "a:/x", "b:/x", "--detach", "--timeout", "600")
    assert ended.code == 0
    [(task_id, task)] = service.simulator.tasks.items()
    assert ended.out == f"{task_id}\n"
    assert task.document()["deadline"]
    [handle] = service.json("transfer", "a:/x", "b:/y", "--detach")
    assert handle["backend"] == "globus"
    assert handle["task_id"] in service.simulator.tasks
    lines = "".join(path.read_text() for path in Path(os.environ["CHILTEPIN_JOURNAL"]).rglob("*") if path.is_file())
    assert handle["task_id"] in lines


@pytest.mark.parametrize("backend", ["local", "filesystem"])
def test_who_moves_the_bytes_cannot_go(local, backend):
    """--detach is a usage error on a worker backend."""
    ended = local.run("transfer", "a:/x", "b:/x", "--detach", "--backend", backend)
    assert ended.code == 2
    assert "omit --detach" in ended.err


def test_a_login_that_is_missing_is_exit_code_4(service, monkeypatch):
    """Without a login the exit code is 4, and the message gives the command to run."""
    monkeypatch.delenv("CHILTEPIN_CLIENT_ID")
    monkeypatch.delenv("CHILTEPIN_CLIENT_SECRET")
    ended = service.run("transfer", "a:/x", "b:/x")
    assert ended.code == 4
    assert "chiltepin login" in ended.err
