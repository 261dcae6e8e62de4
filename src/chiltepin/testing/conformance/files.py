"""Laws about transfers of single files."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from chiltepin.testing.conformance.helpers import files, move, must_move, needs_writable_source, require, transfer

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["FileLaws"]

#: Slightly more than 4 MiB, so that the last block is not full; no two blocks are equal.
LARGE = array("Q", range(1 << 19)).tobytes() + b"the rest"

#: Names that have a special meaning in a shell, a URL or a pattern.
ODD_NAMES = (
    "two words",
    " blank ",
    "100%25",
    "%2e%2e",
    "-rf",
    ".hidden",
    "..twice",
    "ñandú-日本",
    "a[1].txt",
    "*",
    "?",
    "#x",
    "c:d",
    "it's",
    'a"b',
    "a+b&c=d",
)

#: Names that some stores refuse or change; beside each there is a file ``a``.
HARD_NAMES = ("a::b", "a%b", "a%2Fb", "a#b", "a?b", "a*b", "a ", " a", "a\nb", "a;b", "a&amp;b", "a\\b")

#: Names that begin like those of Chiltepin's temporary files but are different.
USERS_OWN = (".chiltepin-notes", ".chiltepin-0123456789abcdef-00000000", ".chiltepin-draft~")


class FileLaws:
    """What a transfer without ``recursive`` must do."""

    def test_a_file_arrives(self, rig: Rig) -> None:
        """A file must arrive at its complete new path; missing folders must be created, and nothing else."""
        rig.put(rig.source, "/a/input.dat", b"some data")
        status = must_move(rig, ("/a/input.dat", "/project/deep/renamed.dat"))
        require(files(rig) == {"/project/deep/renamed.dat"}, "a transfer must create the file and no other file")
        require(
            rig.get(rig.destination, "/project/deep/renamed.dat") == b"some data", "a file must arrive with its content"
        )
        require(rig.get(rig.source, "/a/input.dat") == b"some data", "a transfer must not change its source")
        require(status.files_done == 1, f"files_done must count the file that arrived; got {status.files_done}")
        require(status.bytes_done == len(b"some data"), f"bytes_done must count its bytes; got {status.bytes_done}")

    @pytest.mark.parametrize("content", [b"", LARGE], ids=["empty", "large"])
    def test_a_file_of_any_size_arrives(self, rig: Rig, content: bytes) -> None:
        """An empty file must arrive, and so must a file of several blocks."""
        rig.put(rig.source, "/f", content)
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == content, f"a file of {len(content)} bytes must arrive unchanged")

    def test_a_file_is_replaced(self, rig: Rig) -> None:
        """Without a sync level, an existing destination must be replaced, even if it was longer."""
        rig.put(rig.source, "/f", b"new")
        rig.put(rig.destination, "/f", b"old and longer")
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == b"new", "a transfer must replace an existing destination")

    def test_names_mean_themselves(self, rig: Rig) -> None:
        """Names with blanks, patterns, percent signs, leading dashes or dots, and other alphabets must be kept."""
        for name in ODD_NAMES:
            rig.put(rig.source, f"/{name}", name.encode())
        must_move(rig, *((f"/{name}", f"/to {name}/{name}") for name in ODD_NAMES))
        moved = {name: rig.get(rig.destination, f"/to {name}/{name}") for name in ODD_NAMES}
        wrong = [name for name in ODD_NAMES if moved[name] != name.encode()]
        require(not wrong, f"every name must be taken literally; these were not: {wrong}")
        require(len(files(rig)) == len(ODD_NAMES), "every name must mean exactly one file")

    @pytest.mark.parametrize("name", HARD_NAMES)
    def test_a_name_is_that_name_or_refused(self, rig: Rig, name: str) -> None:
        """A file must get exactly its name or fail; no other file may be read or written instead."""
        for endpoint in (rig.source, rig.destination):
            rig.put(endpoint, "/d/a", b"another file")
        rig.put(rig.source, f"/d/{name}", b"this file")
        outcome = move(rig, (f"/d/{name}", f"/d/{name}"))
        arrived = {f"/d/{name}"} if outcome.succeeded else set()
        found = files(rig)
        require(found == {"/d/a", *arrived}, f"a transfer of {name!r} must create that name and no other; got {found}")
        require(
            rig.get(rig.destination, "/d/a") == b"another file",
            f"a transfer of {name!r} must not write to another file",
        )
        if outcome.succeeded:
            require(
                rig.get(rig.destination, f"/d/{name}") == b"this file", f"{name!r} must arrive with its own content"
            )
            return
        # A store that changes the name does not find the file.
        codes = ("INVALID_PATH_NAME", "FILE_NOT_FOUND")
        require(outcome.code in codes, f"a name that the store cannot keep must report {codes[0]}; got {outcome}")

    def test_a_file_of_an_untold_size_arrives(self, rig: Rig) -> None:
        """A file of unknown size must be read to its end: unknown does not mean zero."""
        rig.put_untold(rig.source, "/d/f", LARGE)
        must_move(rig, ("/d/f", "/one"))
        must_move(rig, ("/d", "/d"), recursive=True)
        arrived = [rig.get(rig.destination, path) for path in ("/one", "/d/f")]
        require(arrived == [LARGE] * 2, "a file of unknown size must arrive complete, alone and in a folder")

    def test_files_named_like_temporary_ones_stay(self, rig: Rig) -> None:
        """A user's file whose name begins like that of a temporary file must be copied, and must never be deleted."""
        for name in USERS_OWN:
            rig.put(rig.destination, f"/d/{name}", b"kept")
        rig.put(rig.source, "/d/f", b"data")
        rig.put(rig.source, f"/d/{USERS_OWN[0]}2", b"copied")
        must_move(rig, ("/d/f", "/d/f"))
        must_move(rig, ("/d", "/d"), recursive=True)
        kept = {name: rig.get(rig.destination, f"/d/{name}") for name in USERS_OWN}
        require(
            set(kept.values()) == {b"kept"},
            f"a user's file must not be deleted as a temporary file, whatever its name; got {kept}",
        )
        require(
            rig.get(rig.destination, f"/d/{USERS_OWN[0]}2") == b"copied",
            "a user's file must not be left out as a temporary file",
        )

    def test_a_file_that_is_replaced_keeps_its_mode(self, rig: Rig) -> None:
        """A file that replaces another must keep the permission bits of the replaced file, if the store has any."""
        rig.put(rig.source, "/f", b"new")
        for mode in (0o600, 0o640, 0o755):
            rig.put(rig.destination, "/f", b"old")
            rig.chmod(rig.destination, "/f", mode)
            must_move(rig, ("/f", "/f"))
            kept = rig.mode(rig.destination, "/f")
            require(kept == mode, f"a file that is replaced must keep its mode {mode:o}; got {kept:o}")

    def test_a_rewritten_source_is_not_mixed(self, rig: Rig) -> None:
        """A source rewritten after a canceled copy, with equal size and time, must arrive with its new content."""
        other = LARGE[::-1]
        rig.put(rig.source, "/f", LARGE, modified=1_600_000_000.0)
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), rig.backend.new_submission_id())
        rig.backend.cancel(handle)
        rig.settle(handle)
        rig.put(rig.source, "/f", other, modified=1_600_000_000.0)
        must_move(rig, ("/f", "/f"))
        found = rig.get(rig.destination, "/f")
        require(found == other, "a transfer must not use any part of the earlier content of its source")

    def test_one_request_moves_many_files(self, rig: Rig) -> None:
        """All items of a request must arrive, as one task."""
        names = [f"/d{number % 3}/f{number}" for number in range(20)]
        for name in names:
            rig.put(rig.source, name, name.encode())
        status = must_move(rig, *((name, name) for name in names))
        require(
            {name for name in names if rig.get(rig.destination, name) == name.encode()} == set(names),
            "a transfer must move all items",
        )
        require(status.files_done == len(names), f"files_done must count {len(names)} files; got {status.files_done}")

    def test_one_bad_item_leaves_the_others(self, rig: Rig) -> None:
        """If one of several items fails, the other items must arrive, and the task must fail with the reason."""
        rig.put(rig.source, "/a", b"a")
        rig.put(rig.source, "/c", b"c")
        outcome = move(rig, ("/a", "/a"), ("/missing", "/missing"), ("/c", "/c"))
        require(
            outcome.code == "FILE_NOT_FOUND", f"a task with a missing item must report FILE_NOT_FOUND; got {outcome}"
        )
        require(files(rig) == {"/a", "/c"}, "the valid items of a request must arrive even if another item fails")

    @pytest.mark.parametrize("recursive", [False, True], ids=["file", "folder"])
    def test_a_missing_source_does_not_succeed(self, rig: Rig, *, recursive: bool) -> None:
        """A transfer of a missing source must fail with FILE_NOT_FOUND, and must not leave anything behind."""
        outcome = move(rig, ("/missing", "/x/y"), recursive=recursive)
        require(
            outcome.code == "FILE_NOT_FOUND",
            f"a transfer of a missing source must report FILE_NOT_FOUND; got {outcome}",
        )
        require(files(rig) == set(), "a transfer of a missing source must not leave any file")

    def test_a_path_below_a_file_is_not_there(self, rig: Rig) -> None:
        """A transfer of a source path below a file must not succeed."""
        rig.put(rig.source, "/file", b"data")
        outcome = move(rig, ("/file/below", "/x"))
        require(not outcome.succeeded, f"a transfer of a path below a file must not succeed; got {outcome}")
        require(files(rig) == set(), "a failed transfer must not leave any file")

    @pytest.mark.parametrize("goal", ["/taken", "/taken/file/x"], ids=["a folder", "below a file"])
    def test_a_destination_that_is_taken_stays(self, rig: Rig, goal: str) -> None:
        """A file must not replace a folder, or a file on its path; both must stay unchanged."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/taken/file", b"kept")
        outcome = move(rig, ("/f", goal))
        require(
            not outcome.succeeded, f"a transfer of a file to {goal}, which is taken, must not succeed; got {outcome}"
        )
        require(files(rig) == {"/taken/file"}, "a failed transfer must not add or delete files at the destination")
        require(
            rig.get(rig.destination, "/taken/file") == b"kept",
            "a failed transfer must not change files at the destination",
        )

    def test_a_folder_needs_recursive(self, rig: Rig) -> None:
        """Without recursive, a transfer of a folder must fail and must not move anything."""
        rig.put(rig.source, "/d/f", b"data")
        outcome = move(rig, ("/d", "/d"))
        require(not outcome.succeeded, f"a transfer of a folder without recursive must not succeed; got {outcome}")
        require(files(rig) == set(), "a transfer of a folder without recursive must not move any file")

    def test_a_file_moves_within_an_endpoint(self, rig: Rig) -> None:
        """A transfer must work if source and destination are the same endpoint."""
        needs_writable_source(rig)
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/copy/f"), destination=rig.source)
        require(rig.get(rig.source, "/copy/f") == b"data", "a transfer must be able to copy a file within its endpoint")

    def test_a_file_onto_itself_stays_whole(self, rig: Rig) -> None:
        """A file that is moved onto itself must not be lost, whatever the outcome."""
        needs_writable_source(rig)
        rig.put(rig.source, "/f", b"data")
        move(rig, ("/f", "/f"), destination=rig.source)
        require(rig.get(rig.source, "/f") == b"data", "a file that is copied onto itself must stay complete")

    @pytest.mark.parametrize(
        "options",
        [{"label": "Day 1, run 7 (ñ)"}, {"label": "x" * 128}, {"verify_checksum": False}],
        ids=["label", "long label", "unverified"],
    )
    def test_an_option_does_not_change_the_file(self, rig: Rig, options: dict[str, str | bool]) -> None:
        """A label of up to 128 characters must be accepted, and so must a transfer without checksums."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/f"), **options)
        require(rig.get(rig.destination, "/f") == b"data", f"a file must arrive with the options {options}")
