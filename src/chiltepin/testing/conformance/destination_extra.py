"""Laws about ``delete_destination_extra``, which deletes files that exist only in the destination folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chiltepin.errors import UnsupportedOptionError
from chiltepin.model import FilterRule
from chiltepin.testing.conformance.helpers import (
    files,
    move,
    must_be_refused,
    must_move,
    needs,
    needs_empty_folder,
    needs_writable_source,
    require,
)

if TYPE_CHECKING:
    from chiltepin.testing.conformance.helpers import Outcome
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["DestinationExtraLaws"]

#: Files that exist only in the destination folder.
EXTRA = ("/extra", "/.hidden", "/sub/extra", "/gone/extra", "/gone/deeper/extra")


def mirror(rig: Rig, *pairs: tuple[str, str], **options: Any) -> Outcome:
    """Run a transfer of folders with the option."""
    return move(rig, *pairs, **{"recursive": True, "delete_destination_extra": True, **options})


def must_mirror(rig: Rig, **options: Any) -> None:
    """Transfer ``/d`` to ``/e`` with the option; the transfer must succeed."""
    must_move(rig, ("/d", "/e"), recursive=True, delete_destination_extra=True, **options)


def plant(rig: Rig) -> set[str]:
    """Create a folder on both endpoints, with extra files at the destination; return all files there."""
    for path in ("/f", "/sub/f"):
        rig.put(rig.source, f"/d{path}", b"new")
        rig.put(rig.destination, f"/e{path}", b"old")
    for path in EXTRA:
        rig.put(rig.destination, f"/e{path}", b"extra")
    rig.put(rig.destination, "/beside", b"beside")
    rig.put(rig.destination, "/eleven/beside", b"beside")
    return files(rig)


def needs_it(rig: Rig) -> None:
    """Skip the law for a backend without the option."""
    needs(rig.backend.capabilities.deletes_extra, "delete_destination_extra")


class DestinationExtraLaws:
    """What ``delete_destination_extra`` must do, and what it must never do."""

    def test_what_is_too_much_goes(self, rig: Rig) -> None:
        """Files that are not in the source folder must be deleted from the destination folder, and nothing else."""
        plant(rig)
        if not rig.backend.capabilities.deletes_extra:
            outcome = mirror(rig, ("/d", "/e"))
            must_be_refused(
                outcome, "a backend that does not support delete_destination_extra must refuse it at submit"
            )
            require(rig.get(rig.destination, "/e/f") == b"old", "a refused request must not move any file")
            return
        must_mirror(rig)
        found = {path for path in rig.tree(rig.destination) if path.startswith("/e/")} - {"/e/", "/e/sub/"}
        require(
            found == {"/e/f", "/e/sub/f"},
            f"files that are not in the source folder must be deleted; got {found} in the destination folder",
        )
        others = files(rig) - found
        require(
            others == {"/beside", "/eleven/beside"},
            f"files outside the destination folder must not be deleted; got {others}",
        )
        require(rig.get(rig.destination, "/e/sub/f") == b"new", "the files in the source folder must arrive")
        require(files(rig, rig.source) == {"/d/f", "/d/sub/f"}, "no file may be deleted from the source")

    def test_it_goes_into_a_new_folder_too(self, rig: Rig) -> None:
        """If the destination folder is new, nothing may be deleted, and everything must arrive."""
        needs_it(rig)
        rig.put(rig.source, "/d/sub/f", b"new")
        must_mirror(rig)
        require(files(rig) == {"/e/sub/f"}, "a new destination folder must receive the files in the source folder")

    def test_a_root_can_be_mirrored(self, rig: Rig) -> None:
        """The destination may be the root of an endpoint; the root itself must stay."""
        needs_it(rig)
        rig.put(rig.source, "/f", b"new")
        rig.put(rig.destination, "/extra", b"extra")
        outcome = mirror(rig, ("/", "/"))
        require(outcome.succeeded, f"delete_destination_extra must also work in a root; got {outcome}")
        require(files(rig) == {"/f"}, "files in a root that are not at the source must be deleted")

    def test_an_empty_source_empties(self, rig: Rig) -> None:
        """If the source folder exists but is empty, everything in the destination folder must be deleted."""
        needs_it(rig)
        needs_empty_folder(rig, rig.source, "/d/")
        rig.put(rig.destination, "/e/sub/extra", b"extra")
        must_mirror(rig)
        require(files(rig) == set(), "an empty source folder must empty the destination folder")

    @pytest.mark.parametrize("level", ["exists", "size"])
    def test_what_a_sync_level_leaves_alone_stays(self, rig: Rig, level: str) -> None:
        """A file that a sync level skips must not count as extra."""
        needs_it(rig)
        needs(level in rig.backend.capabilities.sync_levels, f"the sync level {level!r}")
        plant(rig)
        must_mirror(rig, sync_level=level)
        require(rig.get(rig.destination, "/e/sub/f") == b"old", f"a file that the sync level {level!r} skips must stay")
        require("/e/sub/extra" not in files(rig), "extra files next to a skipped file must be deleted")

    def test_what_filters_leave_out_stays(self, rig: Rig) -> None:
        """Files that the filters exclude must stay, whether or not the source has them; or the request is refused."""
        needs_it(rig)
        needs(rig.backend.capabilities.filters, "filters")
        rig.put(rig.source, "/d/f.nc", b"new")
        rig.put(rig.source, "/d/both.log", b"new")
        rig.put(rig.source, "/d/both.d/f.nc", b"new")
        folders = ("/both.d/kept.nc", "/only.d/kept.nc", "/gone/only.d/kept.nc")
        for path in ("/both.log", "/only.log", "/gone/only.log", "/extra.nc", "/gone/extra.nc", "/gone/too/extra.nc"):
            rig.put(rig.destination, f"/e{path}", b"old")
        for path in folders:
            rig.put(rig.destination, f"/e{path}", b"old")
        before = files(rig)
        rules = (FilterRule(method="exclude", name="*.log"), FilterRule(method="exclude", name="*.d", kind="dir"))
        outcome = mirror(rig, ("/d", "/e"), filters=rules)
        found = files(rig)
        if isinstance(outcome.error, UnsupportedOptionError):
            require(found == before, "a refused request must not delete any file")
            return
        require(outcome.succeeded, f"delete_destination_extra must work with filters or be refused; got {outcome}")
        stay = {"/e/both.log", "/e/only.log", "/e/gone/only.log", *(f"/e{path}" for path in folders)}
        require(stay <= found, f"files that the filters exclude must not be deleted; got deletions of {stay - found}")
        require(
            found == stay | {"/e/f.nc"}, f"extra files that the filters do not exclude must be deleted; got {found}"
        )

    def test_after_a_fault_nothing_goes(self, rig: Rig) -> None:
        """If a file cannot be moved, nothing may be deleted."""
        needs_it(rig)
        before = plant(rig)
        rig.put(rig.source, "/d/taken", b"new")
        # A folder stays in the place of a file if a filter keeps some of its contents.
        rig.put(rig.destination, "/e/taken/kept", b"kept")
        outcome = mirror(rig, ("/d", "/e"), filters=(FilterRule(method="exclude", name="kept"),))
        if outcome.succeeded:
            # Globus also counts an entry of another kind as extra (docs.globus.org, "Task Submission", 2.3).
            require(
                rig.get(rig.destination, "/e/taken") == b"new", "a transfer that succeeds must have moved every file"
            )
            return
        gone = before - files(rig)
        require(not gone, f"no file may be deleted unless every file was moved; got deletions of {gone}")

    def test_a_missing_source_removes_nothing(self, rig: Rig) -> None:
        """If the source is missing, nothing may be deleted: the path may be wrong, or a disk may be unmounted."""
        needs_it(rig)
        before = plant(rig)
        outcome = mirror(rig, ("/missing", "/e"))
        require(
            outcome.code == "FILE_NOT_FOUND",
            f"a transfer of a missing source must report FILE_NOT_FOUND; got {outcome}",
        )
        require(files(rig) == before, "a transfer of a missing source must not delete any file")

    def test_a_listing_that_leaves_something_out_removes_nothing(self, rig: Rig) -> None:
        """If a source entry cannot be listed or read, nothing may be deleted; a success must count it as skipped."""
        needs_it(rig)
        before = plant(rig)
        rig.spoil(rig.source, "/d")
        outcome = mirror(rig, ("/d", "/e"))
        gone = before - files(rig)
        require(not gone, f"no file may be deleted after an incomplete listing of the source; got deletions of {gone}")
        skipped = outcome.status.files_skipped if outcome.status is not None else 0
        told = not outcome.succeeded or skipped
        require(
            told,
            f"an entry that cannot be listed or read must fail the task or be counted in files_skipped; got {outcome}",
        )

    @pytest.mark.parametrize("folder", ["/all", ""])
    def test_a_source_inside_the_destination_stays(self, rig: Rig, folder: str) -> None:
        """If the source folder is inside the destination folder, nothing may be deleted, even in a root."""
        needs_it(rig)
        needs_writable_source(rig)
        rig.put(rig.source, f"{folder}/d/f", b"data")
        rig.put(rig.source, f"{folder}/other", b"other")
        outcome = mirror(rig, (f"{folder}/d", folder or "/"), destination=rig.source)
        require(
            not outcome.succeeded,
            f"delete_destination_extra must not succeed if the destination folder contains the source; got {outcome}",
        )
        stay = {f"{folder}/d/f", f"{folder}/other"}
        require(stay <= files(rig, rig.source), "the source and what is beside it must never be deleted")

    def test_a_link_that_is_too_much_goes_itself(self, rig: Rig) -> None:
        """An extra link must be deleted, but not its target."""
        needs_it(rig)
        rig.put(rig.source, "/d/f", b"data")
        rig.put(rig.destination, "/kept/f", b"kept")
        rig.link(rig.destination, "/e/sub/extra", "../../kept")
        must_mirror(rig)
        require(rig.get(rig.destination, "/kept/f") == b"kept", "the target of an extra link must not be deleted")
        require("/e/sub/" not in rig.tree(rig.destination), "an extra link must be deleted")

    @pytest.mark.parametrize(
        ("pairs", "options"),
        [((("/d", "/e"),), {"recursive": False}), ((("/d", "/e"), ("/d/sub", "/e/sub")), {})],
        ids=["of a file", "of two folders"],
    )
    def test_more_than_one_folder_is_refused(
        self, rig: Rig, pairs: tuple[tuple[str, str], ...], options: dict[str, bool]
    ) -> None:
        """The option is for one folder; any other request with it must be refused at submit."""
        before = plant(rig)
        outcome = mirror(rig, *pairs, **options)
        must_be_refused(outcome, "delete_destination_extra for anything but one folder must be refused at submit")
        require(files(rig) == before, "a refused request must not delete any file")
