"""Laws about moving single files."""

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
    """What a transfer without ``recursive`` does."""

    def test_a_file_arrives(self, rig: Rig) -> None:
        """A file arrives at its complete new path; missing folders are created, and nothing else."""
        rig.put(rig.source, "/a/input.dat", b"some data")
        status = must_move(rig, ("/a/input.dat", "/project/deep/renamed.dat"))
        require(files(rig) == {"/project/deep/renamed.dat"}, "a transfer makes the file and no other")
        require(rig.get(rig.destination, "/project/deep/renamed.dat") == b"some data", "a file arrives with its bytes")
        require(rig.get(rig.source, "/a/input.dat") == b"some data", "a transfer leaves its source as it was")
        require(status.files_done == 1, f"files_done counts the file that arrived; here it is {status.files_done}")
        require(status.bytes_done == len(b"some data"), f"bytes_done counts its bytes; here it is {status.bytes_done}")

    @pytest.mark.parametrize("content", [b"", LARGE], ids=["empty", "large"])
    def test_a_file_of_any_size_arrives(self, rig: Rig, content: bytes) -> None:
        """An empty file arrives, and so does a file of several blocks."""
        rig.put(rig.source, "/f", content)
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == content, f"a file of {len(content)} bytes arrives as it is")

    def test_a_file_is_replaced(self, rig: Rig) -> None:
        """Without a sync level, an existing destination is replaced, even if it was longer."""
        rig.put(rig.source, "/f", b"new")
        rig.put(rig.destination, "/f", b"old and longer")
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == b"new", "a destination that exists is replaced")

    def test_names_mean_themselves(self, rig: Rig) -> None:
        """Names with blanks, patterns, percent signs, leading dashes or dots, and other alphabets are kept."""
        for name in ODD_NAMES:
            rig.put(rig.source, f"/{name}", name.encode())
        must_move(rig, *((f"/{name}", f"/to {name}/{name}") for name in ODD_NAMES))
        moved = {name: rig.get(rig.destination, f"/to {name}/{name}") for name in ODD_NAMES}
        wrong = [name for name in ODD_NAMES if moved[name] != name.encode()]
        require(not wrong, f"every name is taken by its letters; these were not: {wrong}")
        require(len(files(rig)) == len(ODD_NAMES), "a name never means two files")

    @pytest.mark.parametrize("name", HARD_NAMES)
    def test_a_name_is_that_name_or_refused(self, rig: Rig, name: str) -> None:
        """A file gets exactly its name or fails; no other file is read or written instead."""
        for endpoint in (rig.source, rig.destination):
            rig.put(endpoint, "/d/a", b"another file")
        rig.put(rig.source, f"/d/{name}", b"this file")
        outcome = move(rig, (f"/d/{name}", f"/d/{name}"))
        arrived = {f"/d/{name}"} if outcome.succeeded else set()
        found = files(rig)
        require(found == {"/d/a", *arrived}, f"{name!r} is one name, and no other; here {found}")
        require(rig.get(rig.destination, "/d/a") == b"another file", f"{name!r} is not the name of another file")
        if outcome.succeeded:
            require(rig.get(rig.destination, f"/d/{name}") == b"this file", f"{name!r} arrives with its own bytes")
            return
        # A store that changes the name does not find the file.
        codes = ("INVALID_PATH_NAME", "FILE_NOT_FOUND")
        require(outcome.code in codes, f"a name that the store cannot keep says {codes[0]}; here {outcome}")

    def test_a_file_of_an_untold_size_arrives(self, rig: Rig) -> None:
        """A file of unknown size is read to its end: unknown is not zero."""
        rig.put_untold(rig.source, "/d/f", LARGE)
        must_move(rig, ("/d/f", "/one"))
        must_move(rig, ("/d", "/d"), recursive=True)
        arrived = [rig.get(rig.destination, path) for path in ("/one", "/d/f")]
        require(arrived == [LARGE] * 2, "a file of unknown size arrives whole, alone and in a folder")

    def test_files_named_like_temporary_ones_stay(self, rig: Rig) -> None:
        """A user's file whose name begins like that of a temporary file is copied, and is never removed."""
        for name in USERS_OWN:
            rig.put(rig.destination, f"/d/{name}", b"kept")
        rig.put(rig.source, "/d/f", b"data")
        rig.put(rig.source, f"/d/{USERS_OWN[0]}2", b"copied")
        must_move(rig, ("/d/f", "/d/f"))
        must_move(rig, ("/d", "/d"), recursive=True)
        kept = {name: rig.get(rig.destination, f"/d/{name}") for name in USERS_OWN}
        require(set(kept.values()) == {b"kept"}, f"no file of a user is swept, whatever its name; here {kept}")
        require(rig.get(rig.destination, f"/d/{USERS_OWN[0]}2") == b"copied", "no file of a user is left out")

    def test_a_file_that_is_replaced_keeps_its_mode(self, rig: Rig) -> None:
        """A file that replaces another keeps its permission bits, if the store has any."""
        rig.put(rig.source, "/f", b"new")
        for mode in (0o600, 0o640, 0o755):
            rig.put(rig.destination, "/f", b"old")
            rig.chmod(rig.destination, "/f", mode)
            must_move(rig, ("/f", "/f"))
            kept = rig.mode(rig.destination, "/f")
            require(kept == mode, f"a file that is replaced keeps its mode {mode:o}; here it is {kept:o}")

    def test_a_rewritten_source_is_not_mixed(self, rig: Rig) -> None:
        """A source that is rewritten after a cancelled copy, with equal size and time, arrives as it is now."""
        other = LARGE[::-1]
        rig.put(rig.source, "/f", LARGE, modified=1_600_000_000.0)
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), rig.backend.new_submission_id())
        rig.backend.cancel(handle)
        rig.settle(handle)
        rig.put(rig.source, "/f", other, modified=1_600_000_000.0)
        must_move(rig, ("/f", "/f"))
        found = rig.get(rig.destination, "/f")
        require(found == other, "no part of what a source held before is taken for its content")

    def test_one_request_moves_many_files(self, rig: Rig) -> None:
        """All items of a request arrive, as one task."""
        names = [f"/d{number % 3}/f{number}" for number in range(20)]
        for name in names:
            rig.put(rig.source, name, name.encode())
        status = must_move(rig, *((name, name) for name in names))
        require(
            {name for name in names if rig.get(rig.destination, name) == name.encode()} == set(names), "all items move"
        )
        require(
            status.files_done == len(names), f"files_done counts {len(names)} files; here it is {status.files_done}"
        )

    def test_one_bad_item_leaves_the_others(self, rig: Rig) -> None:
        """If one of several items fails, the others arrive; the task fails with the reason."""
        rig.put(rig.source, "/a", b"a")
        rig.put(rig.source, "/c", b"c")
        outcome = move(rig, ("/a", "/a"), ("/missing", "/missing"), ("/c", "/c"))
        require(outcome.code == "FILE_NOT_FOUND", f"a task with a missing item says FILE_NOT_FOUND; here {outcome}")
        require(files(rig) == {"/a", "/c"}, "the good items of a request arrive beside a bad one")

    @pytest.mark.parametrize("recursive", [False, True], ids=["file", "folder"])
    def test_a_missing_source_does_not_succeed(self, rig: Rig, *, recursive: bool) -> None:
        """A transfer of a missing source fails with FILE_NOT_FOUND, and leaves nothing behind."""
        outcome = move(rig, ("/missing", "/x/y"), recursive=recursive)
        require(outcome.code == "FILE_NOT_FOUND", f"a missing source says FILE_NOT_FOUND; here {outcome}")
        require(files(rig) == set(), "a transfer of nothing leaves no file")

    def test_a_path_below_a_file_is_not_there(self, rig: Rig) -> None:
        """A source path below a file cannot be moved."""
        rig.put(rig.source, "/file", b"data")
        outcome = move(rig, ("/file/below", "/x"))
        require(not outcome.succeeded, f"nothing is below a file, and it does not move; here {outcome}")
        require(files(rig) == set(), "a transfer that fails leaves no file")

    @pytest.mark.parametrize("goal", ["/taken", "/taken/file/x"], ids=["a folder", "below a file"])
    def test_a_destination_that_is_taken_stays(self, rig: Rig, goal: str) -> None:
        """A file replaces neither a folder nor a file on its path; both stay unchanged."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/taken/file", b"kept")
        outcome = move(rig, ("/f", goal))
        require(not outcome.succeeded, f"a file does not move to {goal}, which is taken; here {outcome}")
        require(files(rig) == {"/taken/file"}, "what was at the destination is still all that is there")
        require(rig.get(rig.destination, "/taken/file") == b"kept", "what was at the destination is as it was")

    def test_a_folder_needs_recursive(self, rig: Rig) -> None:
        """Without recursive, a transfer of a folder fails and moves nothing."""
        rig.put(rig.source, "/d/f", b"data")
        outcome = move(rig, ("/d", "/d"))
        require(not outcome.succeeded, f"a folder does not move without recursive; here {outcome}")
        require(files(rig) == set(), "a folder without recursive moves nothing")

    def test_a_file_moves_within_an_endpoint(self, rig: Rig) -> None:
        """Source and destination may be one endpoint."""
        needs_writable_source(rig)
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/copy/f"), destination=rig.source)
        require(rig.get(rig.source, "/copy/f") == b"data", "a file can be copied within its endpoint")

    def test_a_file_onto_itself_stays_whole(self, rig: Rig) -> None:
        """A file that is moved onto itself is not lost, whatever the outcome."""
        needs_writable_source(rig)
        rig.put(rig.source, "/f", b"data")
        move(rig, ("/f", "/f"), destination=rig.source)
        require(rig.get(rig.source, "/f") == b"data", "a file that is copied onto itself stays whole")

    @pytest.mark.parametrize(
        "options",
        [{"label": "Day 1, run 7 (ñ)"}, {"label": "x" * 128}, {"verify_checksum": False}],
        ids=["label", "long label", "unverified"],
    )
    def test_an_option_does_not_change_the_file(self, rig: Rig, options: dict[str, str | bool]) -> None:
        """A label of up to 128 characters is accepted, and so is a transfer without checksums."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/f"), **options)
        require(rig.get(rig.destination, "/f") == b"data", f"a file arrives with {options}")
