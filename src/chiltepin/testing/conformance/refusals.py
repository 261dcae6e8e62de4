"""Laws about requests that a backend must refuse, and about its errors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chiltepin.errors import (
    BackendError,
    ChiltepinError,
    EndpointNotFoundError,
    PathNotFoundError,
    PermissionDeniedError,
)
from chiltepin.testing.conformance.helpers import (
    deletion,
    files,
    move,
    must_be_refused,
    must_move,
    must_raise,
    pickled,
    remove,
    require,
    run,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.testing.conformance.rig import Rig

__all__ = ["RefusalLaws"]

NOWHERE = "no-such-endpoint-anywhere"
OUTSIDE = "/a/../../secret"


def submitted(rig: Rig, request: Any) -> Any:
    """Submit a request under a new id."""
    return rig.backend.submit(request, rig.backend.new_submission_id())


#: Calls that every backend refuses, with the class of the error.
MISTAKES: dict[str, tuple[type[ChiltepinError], Callable[[Rig], Any]]] = {
    "unknown source": (EndpointNotFoundError, lambda rig: submitted(rig, transfer(rig, ("/f", "/f"), source=NOWHERE))),
    "unknown destination": (
        EndpointNotFoundError,
        lambda rig: submitted(rig, transfer(rig, ("/f", "/f"), destination=NOWHERE)),
    ),
    "unknown endpoint of ls": (EndpointNotFoundError, lambda rig: rig.backend.ls(NOWHERE, "/")),
    "source outside": (PermissionDeniedError, lambda rig: submitted(rig, transfer(rig, (OUTSIDE, "/f")))),
    "destination outside": (PermissionDeniedError, lambda rig: submitted(rig, transfer(rig, ("/f", OUTSIDE)))),
    "deletion outside": (PermissionDeniedError, lambda rig: submitted(rig, deletion(rig, OUTSIDE))),
    "ls outside": (PermissionDeniedError, lambda rig: rig.backend.ls(rig.source, "/..")),
    "missing folder": (PathNotFoundError, lambda rig: rig.backend.ls(rig.source, "/missing")),
    "ls of a file": (BackendError, lambda rig: rig.backend.ls(rig.source, "/f")),
}


def refusal(rig: Rig, mistake: str) -> ChiltepinError:
    """Make a mistake and return its error; anything but an error of the given class breaks the law."""
    kind, call = MISTAKES[mistake]
    rig.put(rig.source, "/f", b"data")
    return must_raise(kind, lambda: call(rig), f"{mistake}: the call must raise {kind.__name__}")


def chain(error: BaseException) -> list[BaseException]:
    """Return the errors that a pickle of this one may contain: its causes and contexts."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        for other in (waiting[0].__cause__, waiting[0].__context__):
            if other is not None and other not in found:
                found.append(other)
                waiting.append(other)
        del waiting[0]
    return found


def is_plain(error: BaseException) -> bool:
    """Return whether an error is Chiltepin's or Python's, and has only plain values."""
    known = isinstance(error, ChiltepinError) or type(error).__module__ == "builtins"
    values = (*vars(error).values(), *error.args)
    return known and all(value is None or isinstance(value, str | int | float | bytes) for value in values)


#: A value of each option that not every backend supports.
OPTIONS: dict[str, Any] = {
    "checksum_algorithm": "sha256",
    "destination_local_user": "ada",
    "encrypt_data": True,
    "fail_on_quota_errors": True,
    "globs": True,
    "local_user": "ada",
    "notify": ("failed",),
    "skip_source_errors": True,
    "source_local_user": "ada",
}


class RefusalLaws:
    """Which requests a backend must refuse, and how."""

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_a_mistake_has_its_error(self, rig: Rig, mistake: str) -> None:
        """An impossible request must raise the right error, with a sentence as its message, and move nothing."""
        error = refusal(rig, mistake)
        require(" " in str(error).strip(), f"{mistake}: the error message must be a sentence, not {str(error)!r}")
        require(files(rig) == set(), f"{mistake}: the refused call must not move any file")

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_an_error_is_plain(self, rig: Rig, mistake: str) -> None:
        """An error must survive a pickle round trip, and neither it nor its causes may contain an object of an SDK."""
        error = refusal(rig, mistake)
        again = pickled(error, f"the error for {mistake}")
        same = type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
        require(same, f"the error for {mistake} must be the same after a pickle round trip")
        foreign = [type(one).__qualname__ for one in (error, *chain(error)) if not is_plain(one)]
        require(
            not foreign, f"the error for {mistake} must not carry foreign objects, by cause or context; got {foreign}"
        )

    def test_an_unknown_endpoint_is_named(self, rig: Rig) -> None:
        """The error for an unknown endpoint must contain the name that was given."""
        error = refusal(rig, "unknown destination")
        require(
            getattr(error, "endpoint", "") == NOWHERE, "EndpointNotFoundError.endpoint must be the name that was given"
        )
        require(NOWHERE in str(error), "the message for an unknown endpoint must contain its name")

    def test_too_many_items_are_refused(self, rig: Rig) -> None:
        """A request with more items than the backend accepts must be refused at submit, and must not move anything."""
        most = rig.backend.capabilities.max_items
        if most is None:
            pytest.skip("The capabilities of this backend do not limit the number of items in a request.")
        rig.put(rig.source, "/f", b"data")
        outcome = run(rig, transfer(rig, *(("/f", f"/{number}") for number in range(most + 1))))
        require(
            isinstance(outcome.error, BackendError),
            f"a request with more than {most} items must be refused at submit; got {outcome}",
        )
        require(files(rig) == set(), "a refused request must not move any file")

    @pytest.mark.parametrize("option", OPTIONS)
    def test_an_option_is_supported_or_refused(self, rig: Rig, option: str) -> None:
        """An option of the capabilities must work; any other must be refused at submit and must not move anything."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/g", b"data")
        request = deletion(rig, "/g") if option in ("globs", "local_user") else transfer(rig, ("/f", "/f"))
        outcome = run(rig, replace(request, **{option: OPTIONS[option]}))
        if option in rig.backend.capabilities.options:
            require(outcome.succeeded, f"{option} is one of the capabilities and must work; got {outcome}")
            return
        must_be_refused(outcome, f"{option} is not one of the capabilities and must be refused at submit")
        require(files(rig) == {"/g"}, f"a request that is refused because of {option} must not change any file")

    def test_a_submission_id_of_the_caller_counts(self, rig: Rig) -> None:
        """A request with a submission id must be refused at submit, or return the task with this id."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        request = replace(transfer(rig, ("/f", "/f")), submission_id=submission_id)
        if "submission_id" not in rig.backend.capabilities.options:
            must_be_refused(
                run(rig, request), "submission_id is not one of the capabilities and must be refused at submit"
            )
            require(files(rig) == set(), "a refused request must not move any file")
            return
        first = rig.backend.submit(request, submission_id)
        rig.settle(first)
        require(
            rig.backend.submit(request, submission_id) == first,
            "a second submit with the same submission id must return the same task",
        )
        other = replace(transfer(rig, ("/f", "/g")), submission_id=submission_id)
        law = "the submission id of a task with other paths must raise BackendError"
        must_raise(BackendError, lambda: rig.backend.submit(other, submission_id), law)

    def test_a_relative_path_counts_from_home(self, rig: Rig) -> None:
        """A relative path, and one that begins with ``~``, must start at the home folder of its endpoint."""
        home, there = rig.home(rig.source).rstrip("/"), rig.home(rig.destination).rstrip("/")
        rig.put(rig.source, f"{home}/a/f", b"data")
        must_move(rig, ("a/f", "~/g"), ("~/a/f", "b/h"))
        require(files(rig) == {f"{there}/g", f"{there}/b/h"}, "relative paths must start at the home folder")
        names = {entry.name for entry in rig.backend.ls(rig.source, "a")}
        require(names == {"f"}, "ls of a relative path must start at the home folder")

    def test_dots_are_resolved_by_their_letters(self, rig: Rig) -> None:
        """``/missing/../d/./f`` must mean ``/d/f``, whether or not ``missing`` exists."""
        rig.put(rig.source, "/d/f", b"data")
        must_move(rig, ("/missing/../d/./f", "/x/../y//f"))
        require(files(rig) == {"/y/f"}, "dots in a path must be resolved before any access to a disk")

    def test_a_link_out_of_the_root_is_not_followed(self, rig: Rig) -> None:
        """A link that leads out of an endpoint's root must not be followed for reading, writing or deleting."""
        rig.put(rig.source, "/f", b"data")
        for endpoint in (rig.source, rig.destination):
            rig.link(endpoint, "/out", "..")
        listing = "ls of a link that leads out of the root must raise PermissionDeniedError"
        must_raise(PermissionDeniedError, lambda: rig.backend.ls(rig.source, "/out"), listing)
        into = move(rig, ("/f", "/out/stray"))
        require(
            into.code == "PERMISSION_DENIED",
            f"writing through a link out of the root must report PERMISSION_DENIED; got {into}",
        )
        away = remove(rig, "/out/no-such-stray", ignore_missing=True)
        require(
            away.code == "PERMISSION_DENIED",
            f"deleting through a link out of the root must report PERMISSION_DENIED; got {away}",
        )
