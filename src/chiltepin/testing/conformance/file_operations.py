"""Laws about operations on a path without a task, for a `FilesBackend`."""

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
        pytest.skip("This backend does nothing at once; see chiltepin.protocol.FilesBackend.")
    return rig.backend


def renames(rig: Rig, path: str, new_path: str) -> None:
    """Rename at the destination; skip the law if the store cannot rename."""
    try:
        files_backend(rig).rename(rig.destination, path, new_path)
    except UnsupportedOptionError:
        pytest.skip("The store of the destination cannot rename.")


class FileOperationLaws:
    """What ``stat``, ``mkdir``, ``rename`` and ``checksum`` do."""

    def test_one_path_is_what_the_listing_says(self, rig: Rig) -> None:
        """Stat returns the same entry as ls for a file and a folder; the root is a folder."""
        backend = files_backend(rig)
        rig.put(rig.source, "/d/file", b"12345")
        (file,) = backend.ls(rig.source, "/d")
        found = backend.stat(rig.source, "/d/file")
        require((found.name, found.kind, found.size) == ("file", "file", 5), f"stat tells name, kind and size; {found}")
        require(found == file, f"stat tells of a file what ls tells: {file}; here {found}")
        require(backend.stat(rig.source, "/d/").kind == "dir", "stat of a folder tells that it is one")
        require(backend.stat(rig.source, "/").kind == "dir", "the root is a folder")

    def test_a_missing_path_is_not_found(self, rig: Rig) -> None:
        """Stat and rename of a missing path raise PathNotFoundError."""
        backend = files_backend(rig)
        rig.put(rig.source, "/f", b"data")
        law = "stat of what is not there raises PathNotFoundError"
        must_raise(PathNotFoundError, lambda: backend.stat(rig.source, "/missing"), law)
        law = "rename of what is not there raises PathNotFoundError"
        must_raise(PathNotFoundError, lambda: renames(rig, "/missing", "/new"), law)

    def test_a_folder_is_made(self, rig: Rig) -> None:
        """Mkdir creates one empty folder; an existing name is an error with the code FILE_EXISTS."""
        backend = files_backend(rig)
        needs_empty_folder(rig, rig.destination, "/d/")
        backend.mkdir(rig.destination, "/d/new")
        require(list(backend.ls(rig.destination, "/d/new")) == [], "mkdir makes an empty folder")
        rig.put(rig.destination, "/d/file", b"data")
        for path in ("/d/new", "/d/file", "/"):
            error = must_raise(BackendError, partial(backend.mkdir, rig.destination, path), f"{path} exists")
            require(error.code == "FILE_EXISTS", f"mkdir of {path}, which exists, has that code; here {error.code}")
        require(rig.get(rig.destination, "/d/file") == b"data", "mkdir changes nothing that exists")

    def test_a_file_is_renamed(self, rig: Rig) -> None:
        """Rename gives a file its new path, also in another folder, with the same content."""
        rig.put(rig.destination, "/a/old", b"data")
        rig.put(rig.destination, "/b/other", b"other")
        renames(rig, "/a/old", "/b/new")
        found = rig.get(rig.destination, "/a/old"), rig.get(rig.destination, "/b/new")
        require(found == (None, b"data"), f"the file has its new path, and not the old one; here {found}")

    def test_a_folder_is_renamed(self, rig: Rig) -> None:
        """Rename moves a folder with its contents; a rename into itself is an error."""
        rig.put(rig.destination, "/old/deep/f", b"data")
        law = "a folder is not renamed into itself"
        must_raise(BackendError, lambda: renames(rig, "/old", "/old/deep/new"), law)
        renames(rig, "/old", "/new")
        require(rig.get(rig.destination, "/new/deep/f") == b"data", "rename moves what is in a folder")
        require(not any(path.startswith("/old") for path in rig.tree(rig.destination)), "the old folder is gone")

    def test_nothing_is_replaced(self, rig: Rig) -> None:
        """Rename to an existing path is an error with the code FILE_EXISTS, and both entries stay."""
        for path in ("/f", "/g", "/d/h"):
            rig.put(rig.destination, path, path.encode())
        for path, new_path in (("/f", "/g"), ("/f", "/d"), ("/d", "/f")):
            error = must_raise(BackendError, partial(renames, rig, path, new_path), f"{new_path} is not replaced")
            require(error.code == "FILE_EXISTS", f"rename to {new_path}, which exists, has that code; {error.code}")
        left = [rig.get(rig.destination, path) for path in ("/f", "/g", "/d/h")]
        require(left == [b"/f", b"/g", b"/d/h"], "what was there before stays")

    def test_nothing_outside_is_touched(self, rig: Rig) -> None:
        """A path that leads out of the root is a PermissionDeniedError for each operation."""
        backend = files_backend(rig)
        rig.put(rig.destination, "/f", b"data")
        calls = {
            "stat": lambda: backend.stat(rig.destination, OUTSIDE),
            "mkdir": lambda: backend.mkdir(rig.destination, OUTSIDE),
            "rename from": lambda: backend.rename(rig.destination, OUTSIDE, "/g"),
            "rename to": lambda: backend.rename(rig.destination, "/f", OUTSIDE),
        }
        for name, call in calls.items():
            must_raise(PermissionDeniedError, call, f"{name} a path outside of the root is denied")
        require(rig.get(rig.destination, "/f") == b"data", "what is denied changes nothing")

    def test_the_root_keeps_its_name(self, rig: Rig) -> None:
        """The root of an endpoint cannot be renamed."""
        rig.put(rig.destination, "/f", b"data")
        backend = files_backend(rig)
        must_raise(BackendError, lambda: backend.rename(rig.destination, "/", "/new"), "a root is not renamed")
        require(rig.get(rig.destination, "/f") == b"data", "the root stays")

    def test_a_checksum_is_that_of_the_content(self, rig: Rig) -> None:
        """Checksum works for a file, also an empty one; a folder is an error."""
        backend = rig.backend
        if not isinstance(backend, ContentBackend):
            pytest.skip("This backend reads no files; see chiltepin.protocol.ContentBackend.")
        for path, content in {"/d/f": b"data" * 1000, "/d/empty": b""}.items():
            rig.put(rig.source, path, content)
            found = backend.checksum(rig.source, path)
            require(found == f"sha256:{hashlib.sha256(content).hexdigest()}", f"that is not the checksum: {found}")
        must_raise(BackendError, lambda: backend.checksum(rig.source, "/d"), "a folder has no checksum")
        law = "what is not there raises PathNotFoundError"
        must_raise(PathNotFoundError, lambda: backend.checksum(rig.source, "/missing"), law)
