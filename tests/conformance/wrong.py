# ruff: noqa: D102 - each class says what its methods do wrong
"""Backends with a deliberate fault: each is the filesystem backend with one change."""

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
    """Return a backend that changes a request before it submits it; each change is a function of the request."""

    class Altering(FilesystemBackend):
        def submit(self, request, submission_id):
            known = {name: change(request) for name, change in changes.items() if hasattr(request, name)}
            return super().submit(replace(request, **known), submission_id)

    return Altering


class Folders(FilesystemBackend):
    """The backend without faults; it keeps its folders."""

    @classmethod
    def from_config(cls, endpoints, options):
        """Keep the folders."""
        made = super().from_config(endpoints, options)
        made.folders = {name: Path(place["url"]) for name, place in endpoints.items()}
        return made


class SaysItIsDone(FilesystemBackend):
    """Reports success and moves nothing."""

    def submit(self, request, submission_id):
        return TaskHandle(backend=self.name, task_id=submission_id, submission_id=submission_id)

    def poll(self, handles):
        return [TaskStatus(handle=handle, state=TaskState.SUCCEEDED) for handle in handles]


class CountsNothing(FilesystemBackend):
    """Moves the files without counting them."""

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
    """Returns statuses in another order."""

    def poll(self, handles):
        return sorted(super().poll(handles), key=lambda status: status.handle.task_id)


class AnswersOnce(FilesystemBackend):
    """Returns one status for a repeated handle."""

    def poll(self, handles):
        return super().poll(list(dict.fromkeys(handles)))


class SubmitsTwice(FilesystemBackend):
    """Creates a new task for each submission."""

    def submit(self, request, submission_id):
        made = super().submit(request, str(uuid.uuid4()))
        return replace(made, submission_id=submission_id)


class TakesBack(FilesystemBackend):
    """Reports a task as canceled after it has succeeded."""

    cancelled: frozenset = frozenset()

    def cancel(self, handle):
        self.cancelled |= {handle}

    def poll(self, handles):
        return [
            replace(status, state=TaskState.CANCELED) if status.handle in self.cancelled else status
            for status in super().poll(handles)
        ]


class DeletesRoots(Folders):
    """Deletes the contents of a root."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            for path in request.paths:
                shutil.rmtree(self.folders[request.endpoint] / path.strip("/"))
        return super().submit(request, submission_id)


class FollowsLinks(Folders):
    """Deletes the target of a link."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            for path in request.paths:
                place = self.folders[request.endpoint] / path.strip("/")
                if place.is_symlink() and place.is_dir():
                    shutil.rmtree(place.resolve())
        return super().submit(request, submission_id)


class TakesPatterns(Folders):
    """Treats the path of a deletion as a pattern."""

    def submit(self, request, submission_id):
        if isinstance(request, DeleteRequest):
            names = [f"/{place.name}" for place in self.folders[request.endpoint].iterdir()]
            meant = [name for name in names for path in request.paths if fnmatch.fnmatch(name, path)]
            request = replace(request, paths=(*request.paths, *meant), ignore_missing=True)
        return super().submit(request, submission_id)


class LeavesHalf(Folders):
    """Writes to the destination before it knows that there is something to write."""

    def submit(self, request, submission_id):
        if isinstance(request, TransferRequest):
            place = self.folders[request.destination] / request.items[0].destination.strip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"ha")
        return super().submit(request, submission_id)


class DeletesAtTheEnd(Folders):
    """Deletes its folders on close."""

    def close(self):
        for folder in self.folders.values():
            shutil.rmtree(folder, ignore_errors=True)


class ReplacesOnRename(Folders):
    """Replaces an existing file on rename, as rename(2) does."""

    def rename(self, endpoint, path, new_path):
        try:
            super().rename(endpoint, path, new_path)
        except BackendError as err:
            if err.code != "FILE_EXISTS":
                raise
            os.replace(*(f"{self.folders[endpoint]}{one}" for one in (path, new_path)))


class MakesAllFolders(FilesystemBackend):
    """Reports an existing folder as created."""

    def mkdir(self, endpoint, path):
        with suppress(BackendError):
            super().mkdir(endpoint, path)


class GuessesSizes(FilesystemBackend):
    """Reports the size of each file as 0."""

    def stat(self, endpoint, path):
        return replace(super().stat(endpoint, path), size=0)


class HashesNames(FilesystemBackend):
    """Returns the checksum of the path instead of the content."""

    def checksum(self, endpoint, path):
        super().checksum(endpoint, path)
        return f"sha256:{hashlib.sha256(path.encode()).hexdigest()}"


class HidesTheHidden(FilesystemBackend):
    """Omits hidden files from a listing."""

    def ls(self, endpoint, path):
        return [entry for entry in super().ls(endpoint, path) if not entry.name.startswith(".")]


class RemembersListings(FilesystemBackend):
    """Returns its first listing again."""

    kept = None

    def ls(self, endpoint, path):
        self.kept = self.kept or super().ls(endpoint, path)
        return self.kept


class SdkError(Exception):
    """The error of an SDK, which holds the failed request with its token."""


class ChainsForeignErrors(FilesystemBackend):
    """Raises its error while it handles the SDK's error."""

    def ask(self):
        raise SdkError("Authorization: Bearer secret")

    def ls(self, endpoint, path):
        try:
            self.ask()
        except SdkError:
            raise PathNotFoundError("There is no such folder.", backend=self.name) from None


class RaisesWhatCannotBeUnpickled(FilesystemBackend):
    """Raises an error whose constructor requires more than a message."""

    class FailureError(PathNotFoundError):
        """Requires two arguments."""

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
    """Contacts its service as soon as it is created, and ignores a failure."""

    @classmethod
    def from_config(cls, endpoints, options):
        with socket.socket() as line, suppress(OSError):
            line.connect(("127.0.0.1", 9))
        return super().from_config(endpoints, options)


class HasNoCancel(FilesystemBackend):
    """Lacks a method."""

    cancel = None


class ClaimsTooMuch(FilesystemBackend):
    """Claims a sync level that does not exist."""

    capabilities = replace(FilesystemBackend.capabilities, sync_levels=("exists", "moonphase"))


class CountsItsIdsFromOne(FilesystemBackend):
    """Returns the same submission id every time."""

    def new_submission_id(self):
        return "1"


class ListsNothing(FilesystemBackend):
    """Lists a path that is not a folder as an empty folder."""

    def ls(self, endpoint, path):
        try:
            return super().ls(endpoint, path)
        except BackendError:
            return []


class GoesOn(FilesystemBackend):
    """Does not stop a canceled task."""

    def cancel(self, handle):
        return None


class StopsAll(FilesystemBackend):
    """Stops all tasks when one is canceled."""

    def cancel(self, handle):
        self.close()


class TakesAnyOption(FilesystemBackend):
    """Ignores unknown options."""

    @classmethod
    def from_config(cls, endpoints, options):
        """Drop the options."""
        return super().from_config(endpoints, {})


def inside(request):
    """Return the items, with each folder below its destination under its own name."""
    return tuple(
        replace(item, destination=f"{item.destination}/{item.source.strip('/').rsplit('/', 1)[-1]}")
        for item in request.items
    )


def unchecked(request):
    """Return the items without their checksums."""
    return tuple(replace(item, checksum="") for item in request.items)


def checked_if_verified(request):
    """Return the items, without their checksums if nothing is verified."""
    return request.items if request.verify_checksum else unchecked(request)


def all_like_the_first(request):
    """Return the items, each with the checksum of the first."""
    return tuple(replace(item, checksum=request.items[0].checksum) for item in request.items)


def checked_for_zeros(request):
    """Return the items, with checksums of zeros."""
    return tuple(
        replace(item, checksum=re.sub(":.*", lambda it: ":" + "0" * len(it[0][1:]), item.checksum))
        for item in request.items
    )


class ChecksAfterwards(Folders):
    """Compares a file with its checksum only after the file is in place."""

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
    """Accepts checksums, and claims that it does not."""

    capabilities = replace(FilesystemBackend.capabilities, checksums=())


class ClaimsUnknownChecksums(FilesystemBackend):
    """Claims an unknown checksum."""

    capabilities = replace(FilesystemBackend.capabilities, checksums=("md5", "crc32"))


class ClaimsToRemoveNothing(FilesystemBackend):
    """Removes extra files, and claims that it does not."""

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
    """Removes extra files even if something cannot be moved."""

    def spoil(self, place):
        (place / "extra").unlink(missing_ok=True)


class RemovesBeside(Removing):
    """Removes the folders whose names begin with that of the destination folder."""

    def spoil(self, place):
        for one in place.parent.glob(f"{place.name}?*"):
            shutil.rmtree(one)


class RemovesThroughLinks(Removing):
    """Removes the target of an extra link."""

    def spoil(self, place):
        for one in place.rglob("*"):
            if one.is_symlink():
                shutil.rmtree(one.resolve())


class WantsAFolder(Removing):
    """Lists the destination folder before it creates it."""

    def spoil(self, place):
        if not place.exists():
            raise PathNotFoundError("There is no such folder.", backend=self.name)


class WantsMoreThanARoot(Removing):
    """Treats a root as an error."""

    def spoil(self, place):
        if place in self.folders.values():
            raise BackendError("That is a root.", backend=self.name)


def cut_at_a_number_sign(request):
    """Return the items, with their sources cut at a number sign, as in a URL."""
    return tuple(replace(item, source=item.source.partition("#")[0]) for item in request.items)


class SweepsByPrefix(Folders):
    """Removes any file with the prefix of temporary files."""

    def submit(self, request, submission_id):
        for one in self.folders[request.destination].rglob(".chiltepin-*"):
            one.unlink()
        return super().submit(request, submission_id)


class Afterwards(Folders):
    """Changes each file after it has arrived."""

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
    """Gives a replaced file the mode of a new file."""

    def spoil(self, place):
        place.chmod(0o644)


class BeginsIn1970(Afterwards):
    """Sets the nearest time that fits into 32 unsigned bits."""

    def spoil(self, place):
        os.utime(place, (0, 0))


class CopiesTheCopy(Folders):
    """Copies a folder into itself, and then the copy into the copy."""

    def submit(self, request, submission_id):
        copy = self.folders[request.destination] / request.items[0].destination.strip("/") / "e"
        copy.mkdir(parents=True)
        (copy / "f").write_bytes(b"data")
        return super().submit(request, submission_id)


class ContinuesBlindly(Folders):
    """Identifies a source by path, size and time, and writes what a canceled copy read of an earlier version."""

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
    """Reads as many bytes of a file as the store reports, and none if the store reports no size."""

    def poll(self, handles):
        found = super().poll(handles)
        memory = fsspec.filesystem("gated-memory")
        # Not while the task writes, because it reads back what it has written.
        if all(status.state.final for status in found):
            for path in [path for path in memory.store if "/scratch/" in path]:
                memory.pipe_file(path, b"")
        return found


class RemovesUnseen(FilesystemBackend):
    """Removes files that it has not seen at the source, even if a listing was incomplete."""

    def poll(self, handles):
        memory = fsspec.filesystem("gated-memory")
        # A copy, because the task may be adding files.
        for path in [path for path in list(memory.store) if path.endswith("/scratch/e/extra")]:
            memory.rm_file(path)
        return super().poll(handles)


class SeesNoTrouble(FilesystemBackend):
    """Reports success even if something was left out."""

    def poll(self, handles):
        return [
            replace(status, state=TaskState.SUCCEEDED) if status.state is TaskState.FAILED else status
            for status in super().poll(handles)
        ]


class KeepsTrying(FilesystemBackend):
    """Treats a failure as a service does: the task stays active and retries until it is canceled."""

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
