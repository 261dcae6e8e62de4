# ruff: noqa: D102 - what a method here does wrong stands at its class
"""Backends that are wrong on purpose: each is the filesystem backend with one fault."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import socket
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import fsspec

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.errors import BackendError, PathNotFoundError
from chiltepin.model import DeleteRequest, TaskHandle, TaskState, TaskStatus, TransferRequest


def altered(**changes):
    """A backend that hands a request on with changes; each is a function of the request."""

    class Altering(FilesystemBackend):
        def submit(self, request, submission_id):
            known = {name: change(request) for name, change in changes.items() if hasattr(request, name)}
            return super().submit(replace(request, **known), submission_id)

    return Altering


class Folders(FilesystemBackend):
    """The right backend, and where its folders are."""

    @classmethod
    def from_config(cls, endpoints, options):
        """Keep the folders."""
        made = super().from_config(endpoints, options)
        made.folders = {name: Path(place["url"]) for name, place in endpoints.items()}
        return made


class SaysItIsDone(FilesystemBackend):
    """Tells success and moves nothing."""

    def submit(self, request, submission_id):
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles):
        return [TaskStatus(handle=handle, state=TaskState.SUCCEEDED) for handle in handles]


class CountsNothing(FilesystemBackend):
    """Moves the files and does not count them."""

    def poll(self, handles):
        return [replace(status, files_done=0, bytes_done=0) for status in super().poll(handles)]


class RaisesForTheUnknown(FilesystemBackend):
    """Treats an unknown task as an error."""

    def poll(self, handles):
        found = super().poll(handles)
        if any(status.state is TaskState.LOST for status in found):
            raise PathNotFoundError("No such task.")
        return found


class LosesTheOrder(FilesystemBackend):
    """Answers in another order."""

    def poll(self, handles):
        return sorted(super().poll(handles), key=lambda status: status.handle.task_id)


class AnswersOnce(FilesystemBackend):
    """Answers a repeated handle once."""

    def poll(self, handles):
        return super().poll(list(dict.fromkeys(handles)))


class SubmitsTwice(FilesystemBackend):
    """Makes a new task of each submit."""

    def submit(self, request, submission_id):
        made = super().submit(request, str(uuid.uuid4()))
        return replace(made, submission_id=submission_id)


class TakesBack(FilesystemBackend):
    """Tells that a task was cancelled after it had succeeded."""

    cancelled: frozenset = frozenset()

    def cancel(self, handle):
        self.cancelled |= {handle}

    def poll(self, handles):
        return [
            replace(status, state=TaskState.CANCELED) if status.handle in self.cancelled else status
            for status in super().poll(handles)
        ]


class DeletesRoots(Folders):
    """Deletes what is in a root."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            for path in request.paths:
                shutil.rmtree(self.folders[request.endpoint] / path.strip("/"))
        return super().submit(request, submission_id)


class FollowsLinks(Folders):
    """Deletes what a link leads to."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            for path in request.paths:
                place = self.folders[request.endpoint] / path.strip("/")
                if place.is_symlink() and place.is_dir():
                    shutil.rmtree(place.resolve())
        return super().submit(request, submission_id)


class TakesPatterns(Folders):
    """Takes the path of a deletion for a pattern."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            names = [f"/{place.name}" for place in self.folders[request.endpoint].iterdir()]
            meant = [name for name in names for path in request.paths if fnmatch.fnmatch(name, path)]
            request = replace(request, paths=(*request.paths, *meant), ignore_missing=True)
        return super().submit(request, submission_id)


class LeavesHalf(Folders):
    """Writes under the real name before it knows that there is something to write."""

    def submit(self, request, submission_id):
        if isinstance(request, TransferRequest):
            place = self.folders[request.destination] / request.items[0].destination.strip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"ha")
        return super().submit(request, submission_id)


class DeletesAtTheEnd(Folders):
    """Cleans up on close."""

    def close(self):
        for folder in self.folders.values():
            shutil.rmtree(folder, ignore_errors=True)


class ReplacesOnRename(Folders):
    """Renames as rename(2) does, which replaces a file."""

    def rename(self, endpoint, path, new_path):
        try:
            super().rename(endpoint, path, new_path)
        except BackendError as err:
            if err.code != "FILE_EXISTS":
                raise
            os.replace(*(f"{self.folders[endpoint]}{one}" for one in (path, new_path)))


class MakesAllFolders(FilesystemBackend):
    """Takes a folder that exists for one that was made."""

    def mkdir(self, endpoint, path):
        with suppress(BackendError):
            super().mkdir(endpoint, path)


class GuessesSizes(FilesystemBackend):
    """Does not ask for the size of a file."""

    def stat(self, endpoint, path):
        return replace(super().stat(endpoint, path), size=0)


class HashesNames(FilesystemBackend):
    """Takes the checksum of the path for that of the content."""

    def checksum(self, endpoint, path):
        super().checksum(endpoint, path)
        return f"sha256:{hashlib.sha256(path.encode()).hexdigest()}"


class HidesTheHidden(FilesystemBackend):
    """Leaves hidden files out of a listing."""

    def ls(self, endpoint, path):
        return [entry for entry in super().ls(endpoint, path) if not entry.name.startswith(".")]


class RemembersListings(FilesystemBackend):
    """Lists what was there when it was first asked."""

    kept = None

    def ls(self, endpoint, path):
        self.kept = self.kept or super().ls(endpoint, path)
        return self.kept


class SdkError(Exception):
    """What an SDK raises; it holds the request that failed, with its token."""


class ChainsForeignErrors(FilesystemBackend):
    """Raises its error while that of the SDK is handled."""

    def ask(self):
        raise SdkError("Authorization: Bearer secret")

    def ls(self, endpoint, path):
        try:
            self.ask()
        except SdkError:
            raise PathNotFoundError("There is no such folder.", backend=self.name) from None


class RaisesWhatCannotBeUnpickled(FilesystemBackend):
    """Raises an error whose maker wants more than a message."""

    class FailureError(PathNotFoundError):
        """Wants two arguments."""

        def __init__(self, message, *, response):
            super().__init__(f"{message}, {response}")

    def ls(self, endpoint, path):
        raise self.FailureError("There is no such folder", response="404")


class RaisesWhatItGets(FilesystemBackend):
    """Raises an internal error."""

    def submit(self, request, submission_id):
        if "no-such" in request.destination:
            raise KeyError(request.destination)
        return super().submit(request, submission_id)


class LogsInAtOnce(FilesystemBackend):
    """Contacts its service as soon as it is made, and goes on without it."""

    @classmethod
    def from_config(cls, endpoints, options):
        with socket.socket() as line, suppress(OSError):
            line.connect(("127.0.0.1", 9))
        return super().from_config(endpoints, options)


class HasNoCancel(FilesystemBackend):
    """Lacks a method."""

    cancel = None


class ClaimsTooMuch(FilesystemBackend):
    """Says that it has a sync level which is none."""

    capabilities = replace(FilesystemBackend.capabilities, sync_levels=("exists", "moonphase"))


class CountsItsIdsFromOne(FilesystemBackend):
    """Makes one submission id for all."""

    def new_submission_id(self):
        return "1"


class ListsNothing(FilesystemBackend):
    """Lists what is no folder as an empty one."""

    def ls(self, endpoint, path):
        try:
            return super().ls(endpoint, path)
        except BackendError:
            return []


class GoesOn(FilesystemBackend):
    """Does not stop when it is asked to."""

    def cancel(self, handle):
        return None


class StopsAll(FilesystemBackend):
    """Stops all tasks when it is asked to stop one."""

    def cancel(self, handle):
        self.close()


class TakesAnyOption(FilesystemBackend):
    """Ignores options that it does not know."""

    @classmethod
    def from_config(cls, endpoints, options):
        """Drop the options."""
        return super().from_config(endpoints, {})


def inside(request):
    """The items, each folder put below its destination under its own name."""
    return tuple(
        replace(item, destination=f"{item.destination}/{item.source.strip('/').rsplit('/', 1)[-1]}")
        for item in request.items
    )


def unchecked(request):
    """The items without their checksums."""
    return tuple(replace(item, checksum="") for item in request.items)


def checked_if_verified(request):
    """The items, without their checksums where nothing is verified."""
    return request.items if request.verify_checksum else unchecked(request)


def all_like_the_first(request):
    """The items, each with the checksum of the first."""
    return tuple(replace(item, checksum=request.items[0].checksum) for item in request.items)


def checked_for_zeros(request):
    """The items, their checksums all zeros."""
    return tuple(
        replace(item, checksum=re.sub(":.*", lambda it: ":" + "0" * len(it[0][1:]), item.checksum))
        for item in request.items
    )


class ChecksAfterwards(Folders):
    """Compares a file with its checksum when it is in its place already."""

    def submit(self, request, submission_id):
        self.asked = request
        return super().submit(replace(request, items=unchecked(request)), submission_id)

    def poll(self, handles):
        (status,) = super().poll(handles)
        (item,) = self.asked.items
        place = self.folders[self.asked.destination] / item.destination.strip("/")
        algorithm, _, digits = item.checksum.partition(":")
        if not status.state.final or hashlib.new(algorithm, place.read_bytes()).hexdigest() == digits:
            return [status]
        return [replace(status, state=TaskState.FAILED, code="EXTERNAL_CHECKSUM_MISMATCH")]


class ClaimsNoChecksums(FilesystemBackend):
    """Takes checksums, and says that it does not."""

    capabilities = replace(FilesystemBackend.capabilities, checksums=())


class ClaimsUnknownChecksums(FilesystemBackend):
    """Claims an unknown checksum."""

    capabilities = replace(FilesystemBackend.capabilities, checksums=("md5", "crc32"))


class ClaimsToRemoveNothing(FilesystemBackend):
    """Removes what is too much, and says that it does not."""

    capabilities = replace(FilesystemBackend.capabilities, deletes_extra=False)


class Removing(Folders):
    """Changes the destination folder before extra files are removed."""

    def submit(self, request, submission_id):
        if request.delete_destination_extra:
            self.spoil(self.folders[request.destination] / request.items[0].destination.strip("/"))
        return super().submit(request, submission_id)

    def spoil(self, place):
        raise NotImplementedError


class RemovesFirst(Removing):
    """Empties the destination before anything is moved."""

    def spoil(self, place):
        for one in place.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()


class RemovesAnyway(Removing):
    """Removes what is too much, also if something cannot be moved."""

    def spoil(self, place):
        (place / "extra").unlink(missing_ok=True)


class RemovesBeside(Removing):
    """Removes what begins with the name of the destination folder."""

    def spoil(self, place):
        for one in place.parent.glob(f"{place.name}?*"):
            shutil.rmtree(one)


class RemovesThroughLinks(Removing):
    """Removes what a link that is too much leads to."""

    def spoil(self, place):
        for one in place.rglob("*"):
            if one.is_symlink():
                shutil.rmtree(one.resolve())


class WantsAFolder(Removing):
    """Lists the destination folder before it makes it."""

    def spoil(self, place):
        if not place.exists():
            raise PathNotFoundError("There is no such folder.", backend=self.name)


class WantsMoreThanARoot(Removing):
    """Takes a root for a mistake."""

    def spoil(self, place):
        if place in self.folders.values():
            raise BackendError("That is a root.", backend=self.name)


def cut_at_a_number_sign(request):
    """The items, their sources cut as a URL is at its fragment."""
    return tuple(replace(item, source=item.source.partition("#")[0]) for item in request.items)


class SweepsByPrefix(Folders):
    """Takes whatever begins like a temporary file for one that a dead process left."""

    def submit(self, request, submission_id):
        for one in self.folders[request.destination].rglob(".chiltepin-*"):
            one.unlink()
        return super().submit(request, submission_id)


class Afterwards(Folders):
    """Does something of its own to each file that has arrived."""

    def submit(self, request, submission_id):
        self.asked = request
        return super().submit(request, submission_id)

    def poll(self, handles):
        found = super().poll(handles)
        place = self.folders[self.asked.destination] / self.asked.items[0].destination.strip("/")
        if found[0].state is TaskState.SUCCEEDED:
            self.spoil(place)
        return found

    def spoil(self, place):
        raise NotImplementedError


class OpensFiles(Afterwards):
    """Gives a file that replaces another one the mode of a new file."""

    def spoil(self, place):
        place.chmod(0o644)


class BeginsIn1970(Afterwards):
    """Sets the nearest time that 32 bits can hold."""

    def spoil(self, place):
        os.utime(place, (0, 0))


class ContinuesBlindly(Folders):
    """Knows a source by its path, size and time, and writes what a cancelled copy has read of it."""

    def submit(self, request, submission_id):
        self.asked = request
        return super().submit(request, submission_id)

    def cancel(self, handle):
        self.kept = (self.folders[self.asked.source] / "f").read_bytes()
        super().cancel(handle)

    def poll(self, handles):
        found = super().poll(handles)
        if found[0].state is TaskState.SUCCEEDED:
            (self.folders[self.asked.destination] / "f").write_bytes(self.kept)
        return found


class TakesUntoldForEmpty(FilesystemBackend):
    """Reads so many bytes of a file as a store says, and none if it says nothing."""

    def poll(self, handles):
        found = super().poll(handles)
        memory = fsspec.filesystem("gated-memory")
        # Not while the task writes, which then reads back what it did not write.
        if all(status.state.final for status in found):
            for path in [path for path in memory.store if "/scratch/" in path]:
                memory.pipe_file(path, b"")
        return found


class RemovesUnseen(FilesystemBackend):
    """Removes what it has not seen at the source, also if it could not see all."""

    def poll(self, handles):
        memory = fsspec.filesystem("gated-memory")
        # A copy: the task may be adding to it.
        for path in [path for path in list(memory.store) if path.endswith("/scratch/e/extra")]:
            memory.rm_file(path)
        return super().poll(handles)


class SeesNoTrouble(FilesystemBackend):
    """Calls success what has left something out."""

    def poll(self, handles):
        return [
            replace(status, state=TaskState.SUCCEEDED) if status.state is TaskState.FAILED else status
            for status in super().poll(handles)
        ]


class KeepsTrying(FilesystemBackend):
    """Treats a failure as a service does: the task lives, shows its trouble, and tries again until it is cancelled."""

    cancelled: frozenset = frozenset()

    def cancel(self, handle):
        self.cancelled |= {handle}

    def poll(self, handles):
        return [
            status
            if status.state is TaskState.SUCCEEDED
            else replace(status, state=TaskState.CANCELED if status.handle in self.cancelled else TaskState.ACTIVE)
            for status in super().poll(handles)
        ]
