"""Laws about moving single files."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from chiltepin.testing.conformance.helpers import files, move, must_move, require

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["FileLaws"]

#: 4 MiB in which no two blocks are the same, and a bit more, so that the last block is not whole.
LARGE = array("Q", range(1 << 19)).tobytes() + b"the rest"

#: Names that a shell, a URL or a pattern would take for something else.
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


class FileLaws:
    """What a transfer without ``recursive`` does."""

    def test_a_file_arrives(self, rig: Rig) -> None:
        """A file arrives at its whole new path, with folders made on the way and nothing else beside it."""
        rig.put(rig.source, "/a/input.dat", b"some data")
        status = must_move(rig, ("/a/input.dat", "/project/deep/renamed.dat"))
        require(files(rig, rig.destination) == {"/project/deep/renamed.dat"}, "a transfer makes the file and no other")
        require(rig.get(rig.destination, "/project/deep/renamed.dat") == b"some data", "a file arrives with its bytes")
        require(rig.get(rig.source, "/a/input.dat") == b"some data", "a transfer leaves its source as it was")
        require(status.files_done == 1, f"files_done counts the file that arrived; here it is {status.files_done}")
        require(status.bytes_done == len(b"some data"), f"bytes_done counts its bytes; here it is {status.bytes_done}")

    @pytest.mark.parametrize("content", [b"", LARGE], ids=["empty", "large"])
    def test_a_file_of_any_size_arrives(self, rig: Rig, content: bytes) -> None:
        """A file without bytes arrives, and so does one of several blocks."""
        rig.put(rig.source, "/f", content)
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == content, f"a file of {len(content)} bytes arrives as it is")

    def test_a_file_is_replaced(self, rig: Rig) -> None:
        """Without a sync level, a destination that exists is written anew, also if it was longer."""
        rig.put(rig.source, "/f", b"new")
        rig.put(rig.destination, "/f", b"old and longer")
        must_move(rig, ("/f", "/f"))
        require(rig.get(rig.destination, "/f") == b"new", "a destination that exists is replaced")

    def test_names_mean_themselves(self, rig: Rig) -> None:
        """Names with blanks, patterns, percent signs, leading dashes or dots, and other alphabets mean themselves."""
        for name in ODD_NAMES:
            rig.put(rig.source, f"/{name}", name.encode())
        must_move(rig, *((f"/{name}", f"/to {name}/{name}") for name in ODD_NAMES))
        moved = {name: rig.get(rig.destination, f"/to {name}/{name}") for name in ODD_NAMES}
        wrong = [name for name in ODD_NAMES if moved[name] != name.encode()]
        require(not wrong, f"every name is taken by its letters; these were not: {wrong}")
        require(len(files(rig, rig.destination)) == len(ODD_NAMES), "a name never means two files")

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
        """Of several items the good ones arrive; the task as a whole does not succeed, and says why."""
        rig.put(rig.source, "/a", b"a")
        rig.put(rig.source, "/c", b"c")
        outcome = move(rig, ("/a", "/a"), ("/missing", "/missing"), ("/c", "/c"))
        require(outcome.code == "FILE_NOT_FOUND", f"a task with a missing item says FILE_NOT_FOUND; here {outcome}")
        require(files(rig, rig.destination) == {"/a", "/c"}, "the good items of a request arrive beside a bad one")

    @pytest.mark.parametrize("recursive", [False, True], ids=["file", "folder"])
    def test_a_missing_source_does_not_succeed(self, rig: Rig, *, recursive: bool) -> None:
        """A source that is not there ends without success, says FILE_NOT_FOUND, and leaves nothing behind."""
        outcome = move(rig, ("/missing", "/x/y"), recursive=recursive)
        require(outcome.code == "FILE_NOT_FOUND", f"a missing source says FILE_NOT_FOUND; here {outcome}")
        require(files(rig, rig.destination) == set(), "a transfer of nothing leaves no file")

    def test_a_path_below_a_file_is_not_there(self, rig: Rig) -> None:
        """What a source path asks for below a file cannot be moved."""
        rig.put(rig.source, "/file", b"data")
        outcome = move(rig, ("/file/below", "/x"))
        require(not outcome.succeeded, f"nothing is below a file, and it does not move; here {outcome}")
        require(files(rig, rig.destination) == set(), "a transfer that fails leaves no file")

    @pytest.mark.parametrize("goal", ["/taken", "/taken/file/x"], ids=["a folder", "below a file"])
    def test_a_destination_that_is_taken_stays(self, rig: Rig, goal: str) -> None:
        """A file neither replaces a folder nor a file that would have to be a folder; both stay as they were."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/taken/file", b"kept")
        outcome = move(rig, ("/f", goal))
        require(not outcome.succeeded, f"a file does not move to {goal}, which is taken; here {outcome}")
        require(
            files(rig, rig.destination) == {"/taken/file"}, "what was at the destination is still all that is there"
        )
        require(rig.get(rig.destination, "/taken/file") == b"kept", "what was at the destination is as it was")

    def test_a_folder_needs_recursive(self, rig: Rig) -> None:
        """A folder without recursive does not succeed and moves nothing."""
        rig.put(rig.source, "/d/f", b"data")
        outcome = move(rig, ("/d", "/d"))
        require(not outcome.succeeded, f"a folder does not move without recursive; here {outcome}")
        require(files(rig, rig.destination) == set(), "a folder without recursive moves nothing")

    def test_a_file_moves_within_an_endpoint(self, rig: Rig) -> None:
        """Source and destination may be one endpoint."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/copy/f"), destination=rig.source)
        require(rig.get(rig.source, "/copy/f") == b"data", "a file can be copied within its endpoint")

    def test_a_file_onto_itself_stays_whole(self, rig: Rig) -> None:
        """A file that is moved onto itself is not lost, whatever the backend answers."""
        rig.put(rig.source, "/f", b"data")
        move(rig, ("/f", "/f"), destination=rig.source)
        require(rig.get(rig.source, "/f") == b"data", "a file that is copied onto itself stays whole")

    @pytest.mark.parametrize(
        "options",
        [{"label": "Day 1, run 7 (ñ)"}, {"label": "x" * 128}, {"verify_checksum": False}],
        ids=["label", "long label", "unverified"],
    )
    def test_an_option_does_not_change_the_file(self, rig: Rig, options: dict[str, str | bool]) -> None:
        """A label of up to 128 characters is taken, and so is a transfer without checksums."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/f"), **options)
        require(rig.get(rig.destination, "/f") == b"data", f"a file arrives with {options}")
