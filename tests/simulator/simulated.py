"""Helpers for the tests of the simulator, which use the real SDK."""

from __future__ import annotations

from pathlib import Path

import globus_sdk
import pytest


class World:
    """A simulator, its client, and its folders."""

    def __init__(self, globus):
        self.globus, self.clock, self.client = globus, globus.clock, globus.client()
        self.laptop, self.scratch = globus.collection("my-laptop"), globus.collection("hpc-scratch")

    def put(self, path, content=b"data", collection=None):
        """Write a file directly to a collection's folder; return its path on disk."""
        place = Path((collection or self.laptop).folder, path.strip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place

    def at(self, path, collection=None):
        """Return the path on disk of a path on the destination."""
        return Path((collection or self.scratch).folder, path.strip("/"))

    def files(self, collection=None):
        """Return all files and links of the destination, including leftovers."""
        root = Path((collection or self.scratch).folder)
        return {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}

    def transfer_data(self, *pairs, item=None, **options):
        """Return a transfer of these (source, destination) pairs."""
        data = globus_sdk.TransferData(self.laptop.id, self.scratch.id, **options)
        for source, destination in pairs:
            data.add_item(source, destination, **(item or {}))
        return data

    def transfer(self, *pairs, item=None, **options):
        """Submit a transfer; return its task id."""
        return self.client.submit_transfer(self.transfer_data(*pairs, item=item, **options))["task_id"]

    def delete(self, *paths, **options):
        """Submit a delete on the destination; return its task id."""
        data = globus_sdk.DeleteData(self.scratch.id, **options)
        for path in paths:
            data.add_item(path)
        return self.client.submit_delete(data)["task_id"]

    def task(self, task_id):
        """Return the task document."""
        return self.client.get_task(task_id).data

    def ended(self, task_id, seconds=60):
        """Advance the clock by some seconds; return the task document."""
        self.clock.advance(seconds)
        return self.task(task_id)

    def moved(self, *pairs, item=None, **options):
        """Submit a transfer and advance the clock; return its document."""
        return self.ended(self.transfer(*pairs, item=item, **options))

    def removed(self, *paths, **options):
        """Submit a delete and advance the clock; return its document."""
        return self.ended(self.delete(*paths, **options))

    def codes(self, task_id, **options):
        """Return the codes of a task's events, newest first."""
        return [event["code"] for event in self.client.task_event_list(task_id, **options)]


def refused(call, *args, **options):
    """Return the error that the SDK raises for a call."""
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        call(*args, **options)
    return caught.value
