"""Laws about operations on a path that need no task, for a `FilesBackend`."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from chiltepin.errors import BackendError, PathNotFoundError, PermissionDeniedError, UnsupportedOptionError
from chiltepin.protocol import ContentBackend, FilesBackend
from chiltepin.testing.conformance.helpers import must_raise, needs_empty_folder, require

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["FileOperationLaws"]

OUTSIDE = "/a/../../secret"


def files_backend(rig: Rig) -> FilesBackend:
    """Return the backend; skip the law if it is not a `FilesBackend`."""
    if not isinstance(rig.backend, FilesBackend):
        pytest.skip(
            "This backend has no operations without a task: it does not implement chiltepin.protocol.FilesBackend."
        )
    return rig.backend


def renames(rig: Rig, path: str, new_path: str) -> None:
    """Rename a path at the destination; skip the law if the store does not support rename."""
    try:
        files_backend(rig).rename(rig.destination, path, new_path)
    except UnsupportedOptionError:
        pytest.skip("The store of the destination does not support rename.")


class FileOperationLaws:
    """What ``stat``, ``mkdir``, ``rename`` and ``checksum`` must do."""

    def test_one_path_is_what_the_listing_says(self, rig: Rig) -> None:
        """``stat`` must return the same entry as ls for a file and a folder; the root must be a folder."""
        backend = files_backend(rig)
        rig.put(rig.source, "/d/file", b"12345")
        (file,) = backend.ls(rig.source, "/d")
        found = backend.stat(rig.source, "/d/file")
        require(
            (found.name, found.kind, found.size) == ("file", "file", 5),
            f"stat must return name, kind and size; got {found}",
        )
        require(found == file, f"stat of a file must return the same entry as ls, {file}; got {found}")
        require(backend.stat(rig.source, "/d/").kind == "dir", "stat of a folder must return the kind 'dir'")
        require(backend.stat(rig.source, "/").kind == "dir", "stat of the root must return the kind 'dir'")

    def test_a_missing_path_is_not_found(self, rig: Rig) -> None:
        """``stat`` and ``rename`` of a missing path must raise PathNotFoundError."""
        backend = files_backend(rig)
        rig.put(rig.source, "/f", b"data")
        law = "stat of a missing path must raise PathNotFoundError"
        must_raise(PathNotFoundError, lambda: backend.stat(rig.source, "/missing"), law)
        law = "rename of a missing path must raise PathNotFoundError"
        must_raise(PathNotFoundError, lambda: renames(rig, "/missing", "/new"), law)

    def test_a_folder_is_made(self, rig: Rig) -> None:
        """``mkdir`` must create one empty folder; an existing name must be an error with the code FILE_EXISTS."""
        backend = files_backend(rig)
        needs_empty_folder(rig, rig.destination, "/d/")
        backend.mkdir(rig.destination, "/d/new")
        require(list(backend.ls(rig.destination, "/d/new")) == [], "mkdir must create an empty folder")
        rig.put(rig.destination, "/d/file", b"data")
        for path in ("/d/new", "/d/file", "/"):
            error = must_raise(
                BackendError,
                partial(backend.mkdir, rig.destination, path),
                f"mkdir of {path}, which exists, must raise BackendError",
            )
            require(
                error.code == "FILE_EXISTS", f"mkdir of {path}, which exists, must report FILE_EXISTS; got {error.code}"
            )
        require(rig.get(rig.destination, "/d/file") == b"data", "mkdir must not change a file that exists")

    def test_a_file_is_renamed(self, rig: Rig) -> None:
        """``rename`` must move a file to its new path, also in another folder, with the same content."""
        rig.put(rig.destination, "/a/old", b"data")
        rig.put(rig.destination, "/b/other", b"other")
        renames(rig, "/a/old", "/b/new")
        found = rig.get(rig.destination, "/a/old"), rig.get(rig.destination, "/b/new")
        require(found == (None, b"data"), f"a renamed file must have its new path and not the old one; got {found}")

    def test_a_folder_is_renamed(self, rig: Rig) -> None:
        """``rename`` must move a folder with its contents; a rename into itself must be an error."""
        rig.put(rig.destination, "/old/deep/f", b"data")
        law = "rename of a folder into itself must raise BackendError"
        must_raise(BackendError, lambda: renames(rig, "/old", "/old/deep/new"), law)
        renames(rig, "/old", "/new")
        require(rig.get(rig.destination, "/new/deep/f") == b"data", "rename of a folder must move its contents")
        require(
            not any(path.startswith("/old") for path in rig.tree(rig.destination)),
            "rename of a folder must remove the old folder",
        )

    def test_nothing_is_replaced(self, rig: Rig) -> None:
        """``rename`` to an existing path must be an error with the code FILE_EXISTS, and both entries must stay."""
        for path in ("/f", "/g", "/d/h"):
            rig.put(rig.destination, path, path.encode())
        for path, new_path in (("/f", "/g"), ("/f", "/d"), ("/d", "/f")):
            error = must_raise(
                BackendError,
                partial(renames, rig, path, new_path),
                f"rename to {new_path}, which exists, must raise BackendError",
            )
            require(
                error.code == "FILE_EXISTS",
                f"rename to {new_path}, which exists, must report FILE_EXISTS; got {error.code}",
            )
        left = [rig.get(rig.destination, path) for path in ("/f", "/g", "/d/h")]
        require(left == [b"/f", b"/g", b"/d/h"], "a refused rename must not change any file")

    def test_nothing_outside_is_touched(self, rig: Rig) -> None:
        """Every operation on a path that leads out of the root must raise PermissionDeniedError."""
        backend = files_backend(rig)
        rig.put(rig.destination, "/f", b"data")
        calls = {
            "stat": lambda: backend.stat(rig.destination, OUTSIDE),
            "mkdir": lambda: backend.mkdir(rig.destination, OUTSIDE),
            "rename from": lambda: backend.rename(rig.destination, OUTSIDE, "/g"),
            "rename to": lambda: backend.rename(rig.destination, "/f", OUTSIDE),
        }
        for name, call in calls.items():
            must_raise(PermissionDeniedError, call, f"{name}: a path outside the root must raise PermissionDeniedError")
        require(rig.get(rig.destination, "/f") == b"data", "a refused operation must not change any file")

    def test_the_root_keeps_its_name(self, rig: Rig) -> None:
        """The root of an endpoint must not be renamed."""
        rig.put(rig.destination, "/f", b"data")
        backend = files_backend(rig)
        must_raise(
            BackendError,
            lambda: backend.rename(rig.destination, "/", "/new"),
            "rename of the root must raise BackendError",
        )
        require(rig.get(rig.destination, "/f") == b"data", "a refused rename of the root must not change any file")

    def test_a_checksum_is_that_of_the_content(self, rig: Rig) -> None:
        """``checksum`` must work for a file, also an empty one; a folder must be an error."""
        backend = rig.backend
        if not isinstance(backend, ContentBackend):
            pytest.skip("This backend does not read files: it does not implement chiltepin.protocol.ContentBackend.")
        for path, content in {"/d/f": b"data" * 1000, "/d/empty": b""}.items():
            rig.put(rig.source, path, content)
            found = backend.checksum(rig.source, path)
            require(
                found == f"sha256:{hashlib.sha256(content).hexdigest()}",
                f"checksum must return the SHA-256 of the content; got {found}",
            )
        must_raise(
            BackendError, lambda: backend.checksum(rig.source, "/d"), "checksum of a folder must raise BackendError"
        )
        law = "checksum of a missing path must raise PathNotFoundError"
        must_raise(PathNotFoundError, lambda: backend.checksum(rig.source, "/missing"), law)
