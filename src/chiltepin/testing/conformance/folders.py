"""Laws about transfers of the contents of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chiltepin.testing.conformance.helpers import (
    files,
    move,
    must_move,
    needs_empty_folder,
    needs_writable_source,
    require,
)

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["FolderLaws"]

TREE = {"/one": b"1", "/.hidden": b"h", "/sub/two": b"22", "/sub/deeper/three": b"333"}


def plant(rig: Rig, top: str) -> None:
    """Create the tree below a folder of the source."""
    for path, content in TREE.items():
        rig.put(rig.source, top + path, content)


class FolderLaws:
    """What a transfer with ``recursive`` must do."""

    @pytest.mark.parametrize("goal", ["/e", "/e/"])
    @pytest.mark.parametrize("origin", ["/d", "/d/"])
    def test_what_is_in_a_folder_goes_into_the_other(self, rig: Rig, origin: str, goal: str) -> None:
        """The contents of a folder must arrive in the destination folder, with or without a trailing slash."""
        plant(rig, "/d")
        rig.put(rig.source, "/beside", b"not asked for")
        status = must_move(rig, (origin, goal), recursive=True)
        require(
            files(rig) == {"/e" + path for path in TREE},
            "the contents must arrive in the destination folder, not in a folder below it",
        )
        moved = {path: rig.get(rig.destination, "/e" + path) for path in TREE}
        require(moved == TREE, "every file of a tree must arrive with its content")
        require(status.files_done == len(TREE), f"files_done must count {len(TREE)} files; got {status.files_done}")

    def test_a_tree_merges(self, rig: Rig) -> None:
        """In an existing destination folder, files without a counterpart must stay; all other files are replaced."""
        plant(rig, "/d")
        rig.put(rig.destination, "/e/sub/stays", b"stays")
        rig.put(rig.destination, "/e/sub/two", b"old and longer")
        must_move(rig, ("/d", "/e"), recursive=True)
        require(
            rig.get(rig.destination, "/e/sub/stays") == b"stays", "a file without a counterpart in the source must stay"
        )
        require(
            rig.get(rig.destination, "/e/sub/two") == b"22", "a file with a counterpart in the source must be replaced"
        )

    def test_an_empty_folder_is_kept(self, rig: Rig) -> None:
        """Empty folders of a tree must be created at the destination."""
        rig.put(rig.source, "/d/f", b"data")
        needs_empty_folder(rig, rig.source, "/d/sub/empty/")
        needs_empty_folder(rig, rig.destination, "/e/there/")
        must_move(rig, ("/d", "/e"), recursive=True)
        require(
            {"/e/f", "/e/sub/empty/"} <= rig.tree(rig.destination), "an empty folder must be created at the destination"
        )

    def test_a_folder_of_nothing_is_a_folder(self, rig: Rig) -> None:
        """If the source folder is empty, the destination folder must be created."""
        needs_empty_folder(rig, rig.source, "/d/")
        needs_empty_folder(rig, rig.destination, "/there/")
        must_move(rig, ("/d", "/e"), recursive=True)
        require(
            rig.tree(rig.destination) == {"/e/", "/there/"}, "a transfer of an empty folder must create an empty folder"
        )

    def test_a_root_can_be_moved(self, rig: Rig) -> None:
        """The root of an endpoint must work like any other folder, as source and as destination."""
        plant(rig, "")
        must_move(rig, ("/", "/"), recursive=True)
        require(files(rig) == set(TREE), "the contents of a root must arrive in a root")

    @pytest.mark.parametrize("folder", ["/d", "/"])
    def test_a_folder_is_not_copied_into_its_copy(self, rig: Rig, folder: str) -> None:
        """A transfer of a folder to a path inside it must end, and must not copy the copy."""
        needs_writable_source(rig)
        rig.put(rig.source, "/d/f", b"data")
        outcome = move(rig, (folder, "/d/e"), destination=rig.source, recursive=True)
        require(outcome.status is None or outcome.status.state.final, "a copy of a folder into itself must end")
        copies = {path for path in files(rig, rig.source) if path.split("/").count("e") > 1}
        require(not copies, f"a copy of a folder into itself must not copy its own files; got {copies}")

    def test_one_request_moves_many_folders(self, rig: Rig) -> None:
        """Each item of a recursive request must be transferred as a separate folder."""
        plant(rig, "/a")
        rig.put(rig.source, "/b/x", b"x")
        must_move(rig, ("/a", "/all/a"), ("/b", "/all/b"), recursive=True)
        expected = {f"/all/a{path}" for path in TREE} | {"/all/b/x"}
        require(files(rig) == expected, "the contents of each folder must arrive in its own destination")

    def test_a_file_is_no_folder(self, rig: Rig) -> None:
        """With recursive, a transfer of a file must fail and must not move anything."""
        rig.put(rig.source, "/f", b"data")
        outcome = move(rig, ("/f", "/x"), recursive=True)
        require(not outcome.succeeded, f"a transfer of a file with recursive must not succeed; got {outcome}")
        require(files(rig) == set(), "a transfer of a file with recursive must not move any file")

    def test_a_folder_does_not_replace_a_file(self, rig: Rig) -> None:
        """A folder must not replace a file: the transfer must fail, and the file must stay."""
        plant(rig, "/d")
        rig.put(rig.destination, "/taken", b"kept")
        outcome = move(rig, ("/d", "/taken"), recursive=True)
        require(not outcome.succeeded, f"a transfer of a folder to the path of a file must not succeed; got {outcome}")
        require(
            rig.get(rig.destination, "/taken") == b"kept", "a file at the destination of a folder must stay unchanged"
        )

    def test_links_in_a_tree_are_skipped(self, rig: Rig) -> None:
        """A link inside a tree must not be followed or recreated."""
        plant(rig, "/d")
        rig.put(rig.source, "/elsewhere/secret", b"secret")
        rig.link(rig.source, "/d/to-folder", "../elsewhere")
        rig.link(rig.source, "/d/to-file", "../elsewhere/secret")
        must_move(rig, ("/d", "/e"), recursive=True)
        require(files(rig) == {"/e" + path for path in TREE}, "links inside a tree must be skipped")

    def test_a_link_that_is_named_is_followed(self, rig: Rig) -> None:
        """A link that is the source itself must be followed."""
        plant(rig, "/d")
        rig.link(rig.source, "/to-file", "d/one")
        rig.link(rig.source, "/to-folder", "d")
        must_move(rig, ("/to-file", "/one"))
        must_move(rig, ("/to-folder", "/e"), recursive=True)
        require(rig.get(rig.destination, "/one") == b"1", "a transfer of a link to a file must move that file")
        require(
            rig.get(rig.destination, "/e/sub/two") == b"22",
            "a transfer of a link to a folder must move the contents of that folder",
        )
