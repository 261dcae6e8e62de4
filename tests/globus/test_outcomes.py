"""Outcomes of the items of a shared task when the service reports them badly: no success without proof."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiltepin.backends.globus import item_outcomes as items
from chiltepin.backends.globus.collections import Collection
from chiltepin.model import TaskState, TransferItem, TransferRequest
from chiltepin.transfers.arguments import transfer_request

DONE = TaskState.SUCCEEDED
NUMBERS = range(4)
MISSING = 2

#: The service's entry for the one source that it skipped.
ENTRY = {
    "DATA_TYPE": "skipped_error",
    "source_path": f"/{MISSING}",
    "destination_path": f"/out/{MISSING}",
    "error_code": "FILE_NOT_FOUND",
    "error_details": "No such file or directory",
}


def without(*keys):
    """Return the entry without some of its keys."""
    return {key: value for key, value in ENTRY.items() if key not in keys}


def page(*entries, following=None):
    """Return a page of the list of skipped files."""
    return json.dumps({"DATA_TYPE": "skipped_errors", "DATA": entries, "next_marker": following}).encode()


PAGES = {
    "no source": page({**ENTRY, "source_path": None}),
    "no path": page({**ENTRY, "source_path": None, "destination_path": None}),
    "another spelling": page({**ENTRY, "source_path": f"/.//{MISSING}/"}),
    "another root": page({**ENTRY, "source_path": f"/data/{MISSING}", "destination_path": f"/data/out/{MISSING}"}),
    "a path that is a number": page({**ENTRY, "source_path": MISSING, "destination_path": []}),
    "twice": page(ENTRY, ENTRY),
    "another one as well": page(ENTRY, {**ENTRY, "source_path": "/else", "destination_path": "/else"}),
    "without paths": page(without("source_path", "destination_path")),
    "without a reason": page(without("error_code", "error_details")),
    "nothing": page(),
    "an entry that is a number": page(1),
    "a page that comes again": page(ENTRY, following="same"),
    "empty pages without an end": page(following="same"),
    "not a list": b'{"DATA": {}}',
}


@pytest.mark.parametrize("name", PAGES)
def test_a_source_that_was_left_out_is_no_success_however_it_is_told(guided, globus, laptop, scratch, name):
    """If one of four sources is missing and reported badly, only its future fails, with the reason, after few tasks."""
    for number in NUMBERS:
        if number != MISSING:
            (laptop / str(number)).write_text(str(number))
    globus.fail_next(10_000, 200, path="/skipped_errors", body=PAGES[name])
    pending_requests = [
        guided.start(
            transfer_request(src_ep="a", dst_ep="b", src_path=f"/{number}", dst_path=f"/out/{number}"), grace=20
        )
        for number in NUMBERS
    ]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [end.state is DONE for end in ends] == [number != MISSING for number in NUMBERS]
    assert ends[MISSING].code in ("FILE_NOT_FOUND", "SKIPPED")
    assert {int(file.read_text()) for file in (scratch / "out").iterdir()} == set(NUMBERS) - {MISSING}
    assert len(globus.tasks) <= 12


def test_what_was_left_out_without_being_asked_is_no_success(guided, globus, laptop):
    """A task of one request that reports a skipped file fails if skipping was not requested."""
    globus.settings.task_latency = 1
    pending = guided.start(transfer_request(src_ep="a", dst_ep="b", src_path="/file", dst_path="/copy"))
    guided.live(seconds=0.5)
    globus.clock.advance(30)
    [task] = globus.tasks.values()
    listed = {**task.document(), "subtasks_skipped_errors": 1}
    globus.fail_next(1, 200, path="/task_list", body=json.dumps({"DATA": [listed]}).encode())
    guided.live()
    end = pending.future.result(0)
    assert (end.state, end.code) == (TaskState.FAILED, "SKIPPED")


@pytest.mark.parametrize("hidden", ["my-laptop", "hpc-scratch"])
def test_hidden_paths_of_one_side_are_enough(guided, globus, laptop, scratch, hidden):
    """If Globus hides the paths of one side, the other side identifies the moved files, and none is moved twice."""
    for number in NUMBERS:
        if number != MISSING:
            (laptop / str(number)).write_text(str(number))
    globus.collection(hidden).hides_paths = True
    pending_requests = [guided.start(file(number), grace=1) for number in NUMBERS]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [end.state is DONE for end in ends] == [number != MISSING for number in NUMBERS]
    assert ends[MISSING].code == "FILE_NOT_FOUND"
    moved = [path for task in globus.tasks.values() for path in task.destinations if path != f"/out/{MISSING}"]
    assert sorted(moved) == sorted(f"/out/{number}" for number in NUMBERS if number != MISSING)


@pytest.mark.parametrize("hidden", ["my-laptop", "hpc-scratch"])
def test_hidden_paths_of_a_failed_task_are_enough(guided, globus, laptop, scratch, hidden):
    """If a task fails for one file, files that it lists as moved with only one path are done and not moved again."""
    for number in NUMBERS:
        (laptop / str(number)).write_text(str(number))
    globus.collection(hidden).hides_paths = True
    globus.collection("hpc-scratch").denied.add(f"/out/{MISSING}")
    pending_requests = [guided.start(file(number), grace=5) for number in NUMBERS]
    guided.live()
    ends = [pending.future.result(0) for pending in pending_requests]
    assert [end.state is DONE for end in ends] == [number != MISSING for number in NUMBERS]
    assert len(globus.tasks) == 1


@pytest.mark.parametrize("code", ["NO_PHYSICALS", "MPU_NOT_FOUND", "NOT_A_SYMLINK"])
def test_a_fault_that_does_not_heal_ends_within_the_grace(guided, globus, laptop, code):
    """A fault that Globus would retry for a day ends the request after its fault grace, with the fault's code."""
    (laptop / "0").write_text("0")
    globus.collection("hpc-scratch").faulty["/out"] = code
    pending = guided.start(file(0), grace=20, timeout=3600)
    guided.live(seconds=60)
    end = pending.future.result(0)
    assert (end.state, end.code) == (TaskState.FAILED, code)


def test_base_paths_are_no_trouble(guided, globus, laptop):
    """A task with stored base paths, as the web app submits it, is treated like any other."""
    (laptop / "0").write_text("0")
    globus.rewrite_answers(
        lambda _method, _path, document: {**document, "source_base_path": "/", "destination_base_path": None}
    )
    pending = guided.start(file(0))
    guided.live()
    assert pending.future.result(0).state is DONE


def file(number):
    """Return a request to transfer one file."""
    return transfer_request(src_ep="a", dst_ep="b", src_path=f"/{number}", dst_path=f"/out/{number}")


SIDES = st.one_of(
    st.none(),
    st.sampled_from(["/0", "/1", "/2", "//0", "/./1", "/0/", "/out/0", "/out/1", "/else", "", "0", "/~/0"]),
    st.integers(),
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"source_path": SIDES, "destination_path": SIDES, "error_code": st.one_of(st.none(), st.integers())},
    ),
    max_size=4,
)
REQUEST = TransferRequest(
    source="a",
    destination="b",
    items=tuple(TransferItem(source=f"/{number}", destination=f"/out/{number}") for number in range(3)),
)


@given(skipped=ENTRIES, moved=ENTRIES, count=st.integers(1, 4))
def test_nothing_is_done_without_proof(skipped, moved, count):
    """An item is done only if it is listed as moved, or if every skipped entry belongs to an item of the request."""
    find = {"a": Collection("a", "1"), "b": Collection("b", "2")}.__getitem__
    whole = items.all_skipped_known(REQUEST, find, skipped, count)
    outcomes = items.outcomes_of(REQUEST, find, whole=whole, skipped=skipped, moved=moved, errors=[])
    listed, arrived = pairs(skipped), pairs(moved)
    owners = [[item for item in REQUEST.items if is_of(item, pair)] for pair in listed]
    for item, outcome in zip(REQUEST.items, outcomes, strict=True):
        if any(item in found for found in owners):
            assert outcome is not None
            assert not outcome.done
        elif outcome is not None:
            assert outcome.done
            told = ((item.source, item.destination), (None, item.destination), (item.source, None))
            assert whole or any(pair in arrived for pair in told)
    assert whole == (all(owners) and len(set(listed)) >= count)


def is_of(item, pair):
    """Return whether an entry with these paths belongs to an item."""
    return item.source == pair[0] or item.destination == pair[1]


def pairs(entries):
    """Return the normalized source and destination of each entry."""
    return [tuple(spelled(entry.get(f"{side}_path")) for side in ("source", "destination")) for entry in entries]


def spelled(path):
    """Return the normalized path, or None if the value is not a path."""
    if not isinstance(path, str) or not path:
        return None
    return "/" + "/".join(name for name in path.split("/") if name not in ("", "."))
