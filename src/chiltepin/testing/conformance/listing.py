"""Laws about listing a folder."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chiltepin.errors import BackendError, PathNotFoundError
from chiltepin.model import DirEntry
from chiltepin.testing.conformance.helpers import must_raise, needs_empty_folder, require

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["ListingLaws"]

#: The first second after `datetime.MAXYEAR`, in seconds since 1970.
YEAR_10000 = 253_402_300_800.0


class ListingLaws:
    """What ``ls`` must do."""

    @pytest.mark.parametrize("folder", ["/d", "/d/", "/./d", "/x/../d"])
    def test_a_folder_is_listed(self, rig: Rig, folder: str) -> None:
        """``ls`` must return name, kind and size of each entry of one folder, including hidden ones."""
        rig.put(rig.source, "/d/file", b"12345")
        rig.put(rig.source, "/d/.hidden", b"")
        rig.put(rig.source, "/d/two words", b"1")
        rig.put(rig.source, "/d/sub/not-this-one", b"1")
        found = {entry.name: (entry.kind, entry.size) for entry in rig.backend.ls(rig.source, folder)}
        expected = {"file": ("file", 5), ".hidden": ("file", 0), "two words": ("file", 1), "sub": ("dir", 0)}
        require(found == expected, f"ls of {folder} must return {expected}; got {found}")

    def test_an_entry_is_plain(self, rig: Rig) -> None:
        """An entry must be a DirEntry, and its time must be in UTC or None."""
        rig.put(rig.source, "/f", b"data")
        (entry,) = rig.backend.ls(rig.source, "/")
        require(type(entry) is DirEntry, "ls must return chiltepin.model.DirEntry objects")
        utc = entry.modified is None or entry.modified.utcoffset() == timedelta(0)
        require(utc, f"the time of an entry must be in UTC, or None; got {entry.modified!r}")

    def test_a_time_after_the_last_year_is_none(self, rig: Rig) -> None:
        """A file whose time no datetime can hold must be listed, with its time as None."""
        rig.put(rig.source, "/far", b"data", modified=YEAR_10000)
        rig.put(rig.source, "/near", b"data")
        found = {entry.name: entry.modified for entry in rig.backend.ls(rig.source, "/")}
        require(found.keys() == {"far", "near"}, f"ls must list a file whatever its time; got {set(found)}")
        require(found["far"] is None, f"a time that no datetime can hold must be None; got {found['far']!r}")

    def test_what_was_moved_is_listed(self, rig: Rig) -> None:
        """``ls`` must return the present entries, not those of an earlier call."""
        rig.put(rig.source, "/d/a", b"1")
        before = {entry.name for entry in rig.backend.ls(rig.source, "/d")}
        rig.put(rig.source, "/d/b", b"1")
        after = {entry.name for entry in rig.backend.ls(rig.source, "/d")}
        require((before, after) == ({"a"}, {"a", "b"}), "ls must not return the listing of an earlier call")

    def test_an_empty_folder_is_listed(self, rig: Rig) -> None:
        """``ls`` of an empty folder must return nothing."""
        needs_empty_folder(rig, rig.source, "/d/")
        require(list(rig.backend.ls(rig.source, "/d")) == [], "ls of an empty folder must return no entries")

    def test_a_missing_folder_is_not_found(self, rig: Rig) -> None:
        """``ls`` of a missing path must raise PathNotFoundError."""
        rig.put(rig.source, "/f", b"data")
        law = "ls of a missing path must raise PathNotFoundError"
        must_raise(PathNotFoundError, lambda: rig.backend.ls(rig.source, "/missing"), law)

    def test_a_file_cannot_be_listed(self, rig: Rig) -> None:
        """``ls`` of a file must raise BackendError."""
        rig.put(rig.source, "/f", b"data")
        must_raise(BackendError, lambda: rig.backend.ls(rig.source, "/f"), "ls of a file must raise BackendError")

    def test_a_link_is_a_link(self, rig: Rig) -> None:
        """``ls`` must return a link as a link, whatever its target."""
        rig.put(rig.source, "/d/file", b"12345")
        rig.link(rig.source, "/to-folder", "d")
        rig.link(rig.source, "/to-file", "d/file")
        rig.link(rig.source, "/to-nothing", "missing")
        found = {entry.name: entry.kind for entry in rig.backend.ls(rig.source, "/")}
        expected = {"d": "dir", "to-folder": "link", "to-file": "link", "to-nothing": "link"}
        require(found == expected, f"ls must not follow links but return {expected}; got {found}")
