"""The tables of docs/reference/testing.md match the simulator."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from chiltepin.testing.simulator import ManualClock, Simulator
from chiltepin.testing.simulator.differences import DIFFERENCES
from chiltepin.testing.simulator.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "testing.md").read_text(encoding="utf-8")


def rows(heading):
    """Return the cells of the table below a heading, without its two head lines."""
    section = re.split(r"^#+ ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_table_of_differences_is_the_data():
    """The documents, keys and reasons on the page are those that the tests of the simulator use."""
    told = {}
    for document, keys, reason in rows("Differences"):
        for key in re.findall(r"`([^`]+)`", keys):
            assert told.setdefault(document.strip("`"), {}).setdefault(key, reason) == reason
    assert told == DIFFERENCES


@pytest.mark.parametrize("row", rows("Faults"), ids=lambda row: row[0])
def test_what_can_go_wrong_can_be_written(row, tmp_path):
    """The simulator accepts the code in each row of the table of faults, with a task that has not ended."""
    with Simulator({"my-laptop": tmp_path / "a", "hpc-scratch": tmp_path / "b"}, clock=ManualClock()) as globus:
        client, laptop, collection = globus.client(), globus.collection("my-laptop"), globus.collection("hpc-scratch")
        items = [{"DATA_TYPE": "transfer_item", "source_path": "/f", "destination_path": "/f"}]
        document = {"DATA_TYPE": "transfer", "source_endpoint": laptop.id, "destination_endpoint": collection.id}
        document |= {"DATA": items, "submission_id": client.get_submission_id()["value"]}
        world = {"globus": globus, "collection": collection, "task_id": client.submit_transfer(document)["task_id"]}
        held = "globus.task(task_id)"
        known = [set(vars(one)) for one in (globus.settings, laptop, collection)]
        for code in re.findall(r"`([^`]+)`", row[1].replace('"folder"', repr(str(tmp_path / "c")))):
            short = re.fullmatch(r"\.(\w+)(\(\))?", code)
            if short and short[1] in {field.name for field in fields(Settings)}:
                setattr(globus.settings, short[1], 1.0)
            else:
                exec(held + code if short else code, world)  # noqa: S102 - the code of the page
        # A wrong name would set a new attribute without any effect.
        assert known == [set(vars(one)) for one in (globus.settings, laptop, collection)]
