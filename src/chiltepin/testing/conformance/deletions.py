"""Laws about deletions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState
from chiltepin.testing.conformance.helpers import (
    deletion,
    files,
    must_be_refused,
    must_raise,
    must_remove,
    needs,
    remove,
    require,
)

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["DeletionLaws"]


class DeletionLaws:
    """What a `DeleteRequest` must do."""

    def test_a_file_goes(self, rig: Rig) -> None:
        """A deletion must delete the named file, and nothing else."""
        for path in ("/d/a", "/d/b", "/d/a.bak"):
            rig.put(rig.destination, path, b"data")
        must_remove(rig, "/d/a")
        require(
            files(rig) == {"/d/b", "/d/a.bak"}, "a deletion must delete the named file and keep the files next to it"
        )

    @pytest.mark.parametrize("folder", ["/d", "/d/"])
    def test_a_tree_goes(self, rig: Rig, folder: str) -> None:
        """A recursive deletion must delete a folder with its contents, including hidden files."""
        for path in ("/d/a", "/d/.hidden", "/d/sub/deep/c", "/kept"):
            rig.put(rig.destination, path, b"data")
        rig.mkdir(rig.destination, "/d/empty")
        status = must_remove(rig, folder, recursive=True)
        require(
            rig.tree(rig.destination) == {"/kept"},
            "a recursive deletion must delete the folder with its contents, and nothing else",
        )
        require(status.files_done == 3, f"files_done must count the 3 deleted files; got {status.files_done}")  # noqa: PLR2004

    def test_one_request_deletes_many(self, rig: Rig) -> None:
        """A deletion must delete all paths of its request; with recursive, both files and folders."""
        for path in ("/a", "/d/b", "/kept"):
            rig.put(rig.destination, path, b"data")
        must_remove(rig, "/a", "/d", recursive=True)
        require(files(rig) == {"/kept"}, "a deletion must delete all paths of its request, and no other file")

    def test_a_folder_goes_only_with_recursive(self, rig: Rig) -> None:
        """Without recursive, a folder must not be deleted and must keep its contents."""
        rig.put(rig.destination, "/d/a", b"data")
        outcome = remove(rig, "/d")
        require(not outcome.succeeded, f"a deletion of a folder without recursive must not succeed; got {outcome}")
        require(files(rig) == {"/d/a"}, "a folder that was not deleted must keep its contents")

    def test_a_missing_path_is_no_success(self, rig: Rig) -> None:
        """Deleting a missing path must fail with FILE_NOT_FOUND."""
        outcome = remove(rig, "/missing")
        require(not outcome.succeeded, f"deleting a missing path must not succeed; got {outcome}")
        require(outcome.code == "FILE_NOT_FOUND", f"deleting a missing path must report FILE_NOT_FOUND; got {outcome}")

    def test_a_missing_path_may_be_ignored(self, rig: Rig) -> None:
        """With ignore_missing, a missing path must count as deleted, and existing paths must be deleted."""
        rig.put(rig.destination, "/a", b"data")
        must_remove(rig, "/missing", "/a", ignore_missing=True)
        require(files(rig) == set(), "a deletion with ignore_missing must delete the paths that exist")

    def test_a_pattern_is_a_name(self, rig: Rig) -> None:
        """Without globs, a path that contains pattern characters must mean only the file with that name."""
        for path in ("/a[1].txt", "/a1.txt", "/*", "/b"):
            rig.put(rig.destination, path, b"data")
        must_remove(rig, "/a[1].txt", "/*")
        require(files(rig) == {"/a1.txt", "/b"}, "a deletion without globs must not treat a path as a pattern")

    @pytest.mark.parametrize(
        ("pattern", "gone"),
        [
            ("*.tmp", {"a.tmp", "b.tmp", "a*.tmp"}),
            ("?.tmp", {"a.tmp", "b.tmp"}),
            ("[!a].tmp", {"b.tmp"}),
            ("[]a].tmp", {"a.tmp"}),
            (r"a\*.tmp", {"a*.tmp"}),
            (r"a[\*]*.tmp", {"a*.tmp"}),
            ("a[*].*", {"a*.tmp"}),
            (".*.tmp", {".hid.tmp"}),
            ("*", {"a.tmp", "b.tmp", "a*.tmp", "plain", "folder/in.tmp", "folder/deep/in.tmp"}),
            ("f*", {"folder/in.tmp", "folder/deep/in.tmp"}),
            ("plain", {"plain"}),
        ],
    )
    def test_a_pattern_is_a_pattern_with_globs(self, rig: Rig, pattern: str, gone: set[str]) -> None:
        """With globs, the last name of a path is a pattern: its matches must be deleted, and nothing else."""
        names = {"a.tmp", "b.tmp", "a*.tmp", "plain", ".hid.tmp", "folder/in.tmp", "folder/deep/in.tmp"}
        for path in (*(f"/d/{name}" for name in names), "/a.tmp", "/e/a.tmp"):
            rig.put(rig.destination, path, b"data")
        before = files(rig)
        outcome = remove(rig, f"/d/{pattern}", globs=True, recursive=True)
        if "globs" not in rig.backend.capabilities.options:
            must_be_refused(outcome, "a backend that does not support globs must refuse it at submit")
            require(files(rig) == before, "a refused request must not delete any file")
            return
        require(outcome.succeeded, f"a deletion of {pattern!r} must end as SUCCEEDED; got {outcome}")
        found = before - files(rig)
        require(found == {f"/d/{name}" for name in gone}, f"the pattern {pattern!r} must delete {gone}; got {found}")

    def test_a_pattern_without_a_match_is_missing(self, rig: Rig) -> None:
        """A pattern that matches nothing must count as a missing path, which ignore_missing allows."""
        needs("globs" in rig.backend.capabilities.options, "globs")
        rig.put(rig.destination, "/d/kept", b"data")
        for path in ("/d/*.tmp", "/missing/*"):
            outcome = remove(rig, path, globs=True)
            require(not outcome.succeeded, f"deleting {path!r}, which matches nothing, must not succeed; got {outcome}")
            require(
                outcome.code == "FILE_NOT_FOUND",
                f"deleting {path!r}, which matches nothing, must report FILE_NOT_FOUND",
            )
            must_remove(rig, path, globs=True, ignore_missing=True)
        require(files(rig) == {"/d/kept"}, "a pattern that matches nothing must not delete any file")

    def test_a_pattern_with_a_folder_needs_recursive(self, rig: Rig) -> None:
        """Without recursive, a pattern that matches a folder must fail, and the folder must stay."""
        needs("globs" in rig.backend.capabilities.options, "globs")
        rig.put(rig.destination, "/d/folder/f", b"data")
        outcome = remove(rig, "/d/*", globs=True)
        require(
            not outcome.succeeded, f"a pattern that matches a folder must not succeed without recursive; got {outcome}"
        )
        require(files(rig) == {"/d/folder/f"}, "a pattern that matches a folder must not delete it without recursive")

    @pytest.mark.parametrize("pattern", [".*", ".?", "[.].", "..*", r"\.*", "/../*", "/d/..", "/"])
    def test_a_pattern_never_leads_up(self, rig: Rig, pattern: str) -> None:
        """A pattern that might match the parent folder, or a root, must not delete anything outside its folder."""
        needs("globs" in rig.backend.capabilities.options, "globs")
        rig.put(rig.destination, "/kept", b"data")
        rig.put(rig.destination, "/d/e/kept", b"data")
        path = pattern if pattern.startswith("/") else f"/d/e/{pattern}"
        outcome = remove(rig, path, globs=True, recursive=True)
        require(not outcome.succeeded, f"the pattern {path!r} must be refused or match nothing; got {outcome}")
        require(files(rig) == {"/kept", "/d/e/kept"}, f"the pattern {path!r} must not delete any file; got {outcome}")

    @pytest.mark.parametrize("root", ["/", "//", "/.", "/./", ".", "/a/..", "/a/../", "/missing/.."])
    def test_a_root_is_never_deleted(self, rig: Rig, root: str) -> None:
        """Deleting the root of an endpoint must be refused in every spelling, and nothing in it may be deleted."""
        if root == "." and rig.home(rig.destination).strip("/"):
            pytest.skip("The home folder of this endpoint is not its root.")
        rig.put(rig.destination, "/a/kept", b"data")
        outcome = remove(rig, root, recursive=True)
        require(files(rig) == {"/a/kept"}, f"deleting the root as {root!r} must not delete any file in it")
        require(
            outcome.code == "PERMISSION_DENIED",
            f"deleting the root as {root!r} must report PERMISSION_DENIED; got {outcome}",
        )

    @pytest.mark.parametrize("spelled", ["/self", "/self/", "/self/.", "/a/up/", "/self/a/up/", "/self/a/.."])
    def test_a_root_is_not_deleted_through_links(self, rig: Rig, spelled: str) -> None:
        """A link to the root of an endpoint may itself be deleted, but nothing in the root may be deleted."""
        rig.put(rig.destination, "/a/kept", b"data")
        rig.link(rig.destination, "/self", ".")
        rig.link(rig.destination, "/a/up", "..")
        remove(rig, spelled, recursive=True)
        require(
            "/a/kept" in files(rig), f"deleting {spelled!r}, which leads to the root, must not delete any file in it"
        )

    def test_a_path_of_nothing_is_no_root(self, rig: Rig) -> None:
        """An empty path must be refused, and must not delete anything."""
        rig.put(rig.destination, "/a/kept", b"data")
        request, submission_id = deletion(rig, "", recursive=True), rig.backend.new_submission_id()
        law = "an empty path must raise a ChiltepinError or a ValueError at submit"
        must_raise((ChiltepinError, ValueError), lambda: rig.backend.submit(request, submission_id), law)
        require(files(rig) == {"/a/kept"}, "an empty path must not delete any file")

    def test_a_root_beside_others_is_refused(self, rig: Rig) -> None:
        """A request with a root among its paths must not delete anything below the root that it does not name."""
        rig.put(rig.destination, "/a", b"data")
        rig.put(rig.destination, "/kept", b"data")
        outcome = remove(rig, "/a", "/", recursive=True)
        require(
            outcome.state is not TaskState.SUCCEEDED,
            f"a deletion with a root among its paths must not succeed; got {outcome}",
        )
        require("/kept" in files(rig), "a deletion with a root among its paths must not delete other files in the root")

    def test_a_link_goes_itself(self, rig: Rig) -> None:
        """Deleting a link, alone or in a tree, must delete the link but not its target."""
        rig.put(rig.destination, "/precious/f", b"data")
        rig.link(rig.destination, "/alone", "precious")
        rig.link(rig.destination, "/to-file", "precious/f")
        rig.link(rig.destination, "/d/inside", "../precious")
        must_remove(rig, "/alone", "/to-file", "/d", recursive=True)
        require(files(rig) == {"/precious/f"}, "deleting a link must delete the link and keep its target")
