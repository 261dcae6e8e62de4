"""Laws about which files are moved (sync levels and filters), and about the time that a file keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chiltepin.errors import UnsupportedOptionError
from chiltepin.model import SYNC_LEVELS, FilterRule, TaskState
from chiltepin.protocol import BatchingBackend
from chiltepin.testing.conformance.helpers import (
    files,
    move,
    must_be_refused,
    must_move,
    needs,
    require,
    run,
    transfer,
)

if TYPE_CHECKING:
    from chiltepin.model import SyncLevel
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["SelectionLaws"]

#: An old modification time, in seconds since 1970.
THEN = 1_600_000_000.0
HOUR = 3600.0

#: Level, content of the destination, by how much it is younger than the source (None: irrelevant), skipped or not.
CASES = [
    ("exists", b"x", None, True),
    ("size", b"atad", None, True),
    ("size", b"xxx", None, False),
    ("mtime", b"atad", HOUR, True),
    ("mtime", b"atad", 0.0, True),
    ("mtime", b"atad", -HOUR, False),
    ("mtime", b"xxx", HOUR, False),
    ("checksum", b"data", -HOUR, True),
    ("checksum", b"atad", HOUR, False),
    ("checksum", b"xxx", HOUR, False),
]

ONLY_NC = (FilterRule(method="include", name="*.nc"), FilterRule(method="exclude", name="*"))
BUT_LOGS = (FilterRule(method="exclude", name="*.log"),)
FIRST_WINS = (
    FilterRule(method="exclude", name="a*"),
    FilterRule(method="include", name="a.nc"),
    FilterRule(method="exclude", name="[b-d].t?t"),
)
NO_SUB = (FilterRule(method="exclude", name="sub*", kind="dir"),)
NO_OTHER_SUB = (
    FilterRule(method="include", name="[a-s]*.log", kind="dir"),
    FilterRule(method="exclude", name="*", kind="dir"),
    FilterRule(method="exclude", name="d*"),
)


class SelectionLaws:
    """What ``sync_level``, ``filters`` and ``preserve_timestamp`` must do."""

    @pytest.mark.parametrize(("level", "old", "younger", "left"), CASES)
    def test_a_sync_level_decides(
        self, rig: Rig, level: SyncLevel, old: bytes, younger: float | None, *, left: bool
    ) -> None:
        """Each sync level must skip the files that it considers equal, and must replace all other files."""
        needs(level in rig.backend.capabilities.sync_levels, f"the sync level {level!r}")
        rig.put(rig.source, "/f", b"data", modified=None if younger is None else THEN)
        rig.put(rig.destination, "/f", old, modified=None if younger is None else THEN + younger)
        status = must_move(rig, ("/f", "/f"), sync_level=level)
        found, expected = rig.get(rig.destination, "/f"), old if left else b"data"
        action = "must skip" if left else "must replace"
        require(
            found == expected, f"{level!r} {action} a file {old!r} that is {younger} s younger than the source b'data'"
        )
        counts = (status.files_done, status.files_skipped)
        require(
            counts == ((0, 1) if left else (1, 0)),
            f"{level!r} {action} the file and count it; got (done, skipped): {counts}",
        )

    @pytest.mark.parametrize("level", SYNC_LEVELS)
    def test_a_sync_level_moves_what_is_missing(self, rig: Rig, level: SyncLevel) -> None:
        """Every sync level must move a file of a tree that is missing at the destination."""
        if level not in rig.backend.capabilities.sync_levels:
            outcome = move(rig, ("/d", "/d"), recursive=True, sync_level=level)
            must_be_refused(outcome, f"a backend without the sync level {level!r} must refuse it at submit")
            return
        rig.put(rig.source, "/d/there", b"data")
        rig.put(rig.source, "/d/missing", b"data")
        rig.put(rig.destination, "/d/there", b"data")
        must_move(rig, ("/d", "/d"), recursive=True, sync_level=level)
        require(
            rig.get(rig.destination, "/d/missing") == b"data",
            f"{level!r} must move a file that is missing at the destination",
        )

    @pytest.mark.parametrize(
        ("rules", "moved"),
        [
            (ONLY_NC, {"/a.nc", "/sub.log/c.nc", "/sub.log/t/deep.nc"}),
            (BUT_LOGS, {"/a.nc", "/b.txt", "/sub.log/c.nc", "/sub.log/t/deep.nc"}),
            (FIRST_WINS, {"/sub.log/c.nc", "/sub.log/d.log", "/sub.log/t/deep.nc"}),
            (NO_SUB, {"/a.nc", "/b.txt"}),
            (NO_OTHER_SUB, {"/a.nc", "/b.txt", "/sub.log/c.nc"}),
        ],
        ids=["include some", "exclude some", "first match", "exclude folders", "include a folder"],
    )
    def test_filters_choose_files(self, rig: Rig, rules: tuple[FilterRule, ...], moved: set[str]) -> None:
        """The first rule that matches the name of a file or folder must decide; without a match it must be moved."""
        for path in ("/a.nc", "/b.txt", "/sub.log/c.nc", "/sub.log/d.log", "/sub.log/t/deep.nc"):
            rig.put(rig.source, f"/d{path}", b"data")
        if not rig.backend.capabilities.filters:
            outcome = move(rig, ("/d", "/e"), recursive=True, filters=rules)
            must_be_refused(outcome, "a backend without filters must refuse them at submit")
            return
        must_move(rig, ("/d", "/e"), recursive=True, filters=rules)
        found = files(rig)
        require(found == {f"/e{path}" for path in moved}, f"the filters {rules} must move {moved}; got {found}")
        if rules == NO_SUB:
            created = {path for path in rig.tree(rig.destination) if path.endswith("/sub.log/")}
            require(created == set(), f"the filters {rules} must not create a folder that they exclude; got {created}")

    def test_what_cannot_be_read_is_skipped(self, rig: Rig) -> None:
        """``skip_source_errors`` must skip and report a missing source and move other files, or must be refused."""
        rig.put(rig.source, "/f", b"data")
        request = transfer(
            rig, ("/f", "/f"), ("/missing", "/g"), ("/no/f", "/h"), skip_source_errors=True, accept_skipped=True
        )
        if "skip_source_errors" not in rig.backend.capabilities.options:
            must_be_refused(
                run(rig, request), "a backend that does not support skip_source_errors must refuse it at submit"
            )
            return
        handle = rig.backend.submit(request, rig.backend.new_submission_id())
        status = rig.settle(handle)
        require(
            status.state is TaskState.SUCCEEDED, f"a transfer that skips missing sources must succeed; got {status}"
        )
        require(files(rig) == {"/f"}, "the files that can be read must arrive, and nothing else")
        skipped = status.skipped_paths
        if isinstance(rig.backend, BatchingBackend):
            outcomes = rig.backend.outcomes(handle, request)
            require(
                all(one is not None and one.done for one in outcomes), f"each item must count as done; got {outcomes}"
            )
            skipped = tuple(path for one in outcomes if one is not None for path in one.skipped_paths)
        else:
            count = status.files_skipped
            require(count == len(skipped), f"files_skipped must count the skipped files; got {count} of {skipped}")
        require(sorted(skipped) == ["/missing", "/no/f"], f"skipped_paths must name the skipped files; got {skipped}")

    def test_a_tree_is_moved_but_for_what_cannot_be_read(self, rig: Rig) -> None:
        """With skip_source_errors, an unreadable file must be skipped; any other error with it must be a failure."""
        needs("skip_source_errors" in rig.backend.capabilities.options, "skip_source_errors")
        rig.put(rig.source, "/d/sub/f", b"data")
        rig.spoil(rig.source, "/d")
        outcome = move(rig, ("/d", "/e"), recursive=True, skip_source_errors=True, accept_skipped=True)
        require(files(rig) == {"/e/sub/f"}, "the files that can be read must arrive, and nothing else")
        skippable = outcome.code in ("FILE_NOT_FOUND", "PERMISSION_DENIED")
        require(outcome.succeeded or not skippable, f"an unreadable file must be skipped; got {outcome}")

    def test_a_destination_that_fails_is_not_skipped(self, rig: Rig) -> None:
        """``skip_source_errors`` is for the source: a destination that cannot be written must fail."""
        needs("skip_source_errors" in rig.backend.capabilities.options, "skip_source_errors")
        rig.put(rig.source, "/d/f", b"data")
        rig.put(rig.destination, "/e/f/kept", b"data")
        outcome = move(rig, ("/d", "/e"), recursive=True, skip_source_errors=True, accept_skipped=True)
        require(not outcome.succeeded, f"a file that cannot be written must not succeed; got {outcome}")

    @pytest.mark.parametrize("then", [-86_400.0, 4_300_000_000.0], ids=["before 1970", "after 2106"])
    def test_a_time_out_of_the_common_range_is_kept_or_refused(self, rig: Rig, then: float) -> None:
        """A time before 1970 or after 2106 must be kept, or the file must fail and not arrive with another time."""
        rig.put(rig.source, "/f", b"data", modified=then)
        outcome = move(rig, ("/f", "/f"), preserve_timestamp=True)
        if not outcome.succeeded:
            require(files(rig) == set(), "a file whose time cannot be kept must not arrive")
            return
        kept = rig.modified(rig.destination, "/f")
        require(int(kept) == int(then), f"preserve_timestamp must keep the time {then}; got {kept}")

    def test_a_time_is_kept_or_refused(self, rig: Rig) -> None:
        """``preserve_timestamp`` must keep the time of the source, or must be refused and move nothing."""
        rig.put(rig.source, "/f", b"data")
        outcome = move(rig, ("/f", "/f"), preserve_timestamp=True)
        if isinstance(outcome.error, UnsupportedOptionError):
            require(files(rig) == set(), "a refused request must not move any file")
            return
        rig.put(rig.source, "/f", b"data", modified=THEN)
        must_move(rig, ("/f", "/f"), preserve_timestamp=True)
        kept = rig.modified(rig.destination, "/f")
        require(int(kept) == int(THEN), f"preserve_timestamp must keep the time {THEN}; got {kept}")
