"""The simulator's documents, key by key, against the examples that Globus ships with its SDK.

`chiltepin.testing.simulator.differences` explains each difference; these tests prove that there are no others.
"""

from __future__ import annotations

import json

import pytest
from globus_sdk.testing import get_response_set
from simulated import refused

from chiltepin.testing.simulator.differences import DIFFERENCES


def shipped(name, case="default"):
    """Return a document that globus_sdk.testing ships."""
    document = get_response_set(f"transfer.{name}").lookup(case).json
    return document["DATA"][0] if name == "task_list" and case == "default" else document


def asked(name, world):
    """Return the simulator's version of the same document."""
    client, here = world.client, world.laptop.id
    world.put("/f")
    if name == "get_endpoint":
        world.laptop.entity_type = "GCSv5_mapped_collection"
    calls = {
        "task_list": lambda: world.moved(("/f", "/g")),
        "get_submission_id": lambda: client.get_submission_id().data,
        "submit_transfer": lambda: client.submit_transfer(world.transfer_data(("/f", "/g"))).data,
        "submit_delete": lambda: client.post("/v0.10/delete", data=delete_body(world)).data,
        "cancel_task": lambda: client.cancel_task(world.transfer(("/f", "/g"))).data,
        "operation_mkdir": lambda: client.operation_mkdir(here, "/new").data,
        "operation_rename": lambda: client.operation_rename(here, "/f", "/g").data,
        "operation_stat": lambda: client.operation_stat(here, "/f").data,
        "get_endpoint": lambda: client.get_endpoint(here).data,
        "submit_transfer failure": lambda: refusal(client.submit_transfer, world.transfer_data()),
        "operation_stat not_found": lambda: refusal(client.operation_stat, here, "/nothing"),
        "operation_stat permission_denied": lambda: refusal(client.operation_stat, here, "/../f"),
    }
    return calls[name]()


NAMES = [
    "task_list",
    "get_submission_id",
    "submit_transfer",
    "submit_delete",
    "cancel_task",
    "operation_mkdir",
    "operation_rename",
    "operation_stat",
    "get_endpoint",
    "submit_transfer failure",
    "operation_stat not_found",
    "operation_stat permission_denied",
]

#: Keys whose values are fixed words of the service rather than examples.
WORDS = {"DATA_TYPE", "code", "rel", "type", "title", "command", "recursive_symlinks", "status"}


def delete_body(world):
    """Return a delete document as the SDK sends it."""
    submission_id = world.client.get_submission_id()["value"]
    items = [{"DATA_TYPE": "delete_item", "path": "/x"}]
    return {"DATA_TYPE": "delete", "endpoint": world.scratch.id, "submission_id": submission_id, "DATA": items}


def refusal(call, *args):
    """Return the document of an error."""
    return json.loads(refused(call, *args).text)


def alike(key, theirs, ours):
    """Return whether two values have the same type, and are equal if they are fixed words; null matches any type."""
    if None in (theirs, ours):
        return True
    return type(theirs) is type(ours) and (key not in WORDS or theirs == ours)


def differences(theirs, ours, above=""):
    """Return all keys that only one document has, or whose values do not match."""
    found = set()
    for key in theirs.keys() | ours.keys():
        name = f"{above}{key}"
        if key not in ours or key not in theirs:
            found.add(name)
        elif isinstance(theirs[key], dict) and isinstance(ours[key], dict):
            found |= differences(theirs[key], ours[key], f"{name}.")
        elif isinstance(theirs[key], list) and theirs[key] and isinstance(theirs[key][0], dict):
            found |= differences(theirs[key][0], ours[key][0], f"{name}.")
        elif not alike(key, theirs[key], ours[key]):
            found.add(name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_document_differs_only_where_it_is_said(name, world):
    """Keys, value types and fixed words match the SDK's examples, except for the listed differences."""
    expected = set(DIFFERENCES.get(name, {}))
    assert differences(shipped(*name.split()), asked(name, world)) == expected


@pytest.mark.parametrize(("case", "status"), [("not_found", 404), ("permission_denied", 403), ("default", 200)])
def test_a_status_is_that_of_the_example(world, case, status):
    """The HTTP status of stat matches the SDK's example."""
    path = {"not_found": "/nothing", "permission_denied": "/../f", "default": "/"}[case]
    call = world.client.operation_stat
    answer = call(world.laptop.id, path) if case == "default" else refused(call, world.laptop.id, path)
    assert answer.http_status == status


def test_every_shipped_document_of_its_routes_is_compared():
    """Each listed difference belongs to a compared document and has a reason."""
    assert set(DIFFERENCES) <= set(NAMES)
    assert all(reason.endswith(".") for keys in DIFFERENCES.values() for reason in keys.values())
