"""Laws about requests that a backend refuses, and about its errors."""

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
    """Submit under a new id."""
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
    """Return the error of a mistake; anything but an error of the given class breaks the law."""
    kind, call = MISTAKES[mistake]
    rig.put(rig.source, "/f", b"data")
    return must_raise(kind, lambda: call(rig), f"{mistake} raises {kind.__name__}")


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
    """Whether an error is ours or Python's, and has only plain values."""
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
    """Which requests a backend refuses, and how."""

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_a_mistake_has_its_error(self, rig: Rig, mistake: str) -> None:
        """A request that cannot be done raises the right error, with a sentence, and moves nothing."""
        error = refusal(rig, mistake)
        require(" " in str(error).strip(), f"the message for {mistake} is a sentence, not {str(error)!r}")
        require(files(rig) == set(), f"{mistake} moves nothing")

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_an_error_is_plain(self, rig: Rig, mistake: str) -> None:
        """An error survives a pickle, and neither it nor its causes contain an object of an SDK."""
        error = refusal(rig, mistake)
        again = pickled(error, f"the error for {mistake}")
        same = type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
        require(same, f"the error for {mistake} is the same after a pickle")
        foreign = [type(one).__qualname__ for one in (error, *chain(error)) if not is_plain(one)]
        require(
            not foreign, f"the error for {mistake} takes nothing foreign along, by cause or context; here {foreign}"
        )

    def test_an_unknown_endpoint_is_named(self, rig: Rig) -> None:
        """The error for an unknown endpoint contains the name that was given."""
        error = refusal(rig, "unknown destination")
        require(getattr(error, "endpoint", "") == NOWHERE, "EndpointNotFoundError.endpoint is the name that was given")
        require(NOWHERE in str(error), "the message for an unknown endpoint names it")

    def test_too_many_items_are_refused(self, rig: Rig) -> None:
        """A request with more items than the backend accepts is refused at submit, and nothing is moved."""
        most = rig.backend.capabilities.max_items
        if most is None:
            pytest.skip("The capabilities of this backend set no limit to the items of a request.")
        rig.put(rig.source, "/f", b"data")
        outcome = run(rig, transfer(rig, *(("/f", f"/{number}") for number in range(most + 1))))
        require(
            isinstance(outcome.error, BackendError), f"more than {most} items are refused at submit; here {outcome}"
        )
        require(files(rig) == set(), "what is refused moves nothing")

    @pytest.mark.parametrize("option", OPTIONS)
    def test_an_option_is_supported_or_refused(self, rig: Rig, option: str) -> None:
        """An option that the capabilities do not include is refused at submit, and moves nothing; any other works."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/g", b"data")
        request = deletion(rig, "/g") if option in ("globs", "local_user") else transfer(rig, ("/f", "/f"))
        outcome = run(rig, replace(request, **{option: OPTIONS[option]}))
        if option in rig.backend.capabilities.options:
            require(outcome.succeeded, f"{option} is one of the capabilities, and works; here {outcome}")
            return
        must_be_refused(outcome, f"{option} is not one of the capabilities, and is refused at submit")
        require(files(rig) == {"/g"}, f"a request that is refused because of {option} does nothing")

    def test_a_submission_id_of_the_caller_counts(self, rig: Rig) -> None:
        """A request with a submission id is refused at submit, or returns the task with this id."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        request = replace(transfer(rig, ("/f", "/f")), submission_id=submission_id)
        if "submission_id" not in rig.backend.capabilities.options:
            must_be_refused(run(rig, request), "submission_id is not one of the capabilities, and is refused at submit")
            require(files(rig) == set(), "what is refused moves nothing")
            return
        first = rig.backend.submit(request, submission_id)
        rig.settle(first)
        require(rig.backend.submit(request, submission_id) == first, "the same submission id is the same task")
        other = replace(transfer(rig, ("/f", "/g")), submission_id=submission_id)
        law = "a submission id of a task with other paths is a BackendError"
        must_raise(BackendError, lambda: rig.backend.submit(other, submission_id), law)

    def test_a_relative_path_counts_from_home(self, rig: Rig) -> None:
        """A relative path, and one that begins with ``~``, starts at the home folder of its endpoint."""
        home, there = rig.home(rig.source).rstrip("/"), rig.home(rig.destination).rstrip("/")
        rig.put(rig.source, f"{home}/a/f", b"data")
        must_move(rig, ("a/f", "~/g"), ("~/a/f", "b/h"))
        require(files(rig) == {f"{there}/g", f"{there}/b/h"}, "relative paths count from home")
        names = {entry.name for entry in rig.backend.ls(rig.source, "a")}
        require(names == {"f"}, "ls of a relative path counts from home")

    def test_dots_are_resolved_by_their_letters(self, rig: Rig) -> None:
        """``/missing/../d/./f`` is ``/d/f``, whether or not ``missing`` exists."""
        rig.put(rig.source, "/d/f", b"data")
        must_move(rig, ("/missing/../d/./f", "/x/../y//f"))
        require(files(rig) == {"/y/f"}, "dots are resolved before anything looks at a disk")

    def test_a_link_out_of_the_root_is_not_followed(self, rig: Rig) -> None:
        """A link that leads out of an endpoint's root is followed neither for reading, nor writing, nor deleting."""
        rig.put(rig.source, "/f", b"data")
        for endpoint in (rig.source, rig.destination):
            rig.link(endpoint, "/out", "..")
        listing = "ls of a link that leads out of the root raises PermissionDeniedError"
        must_raise(PermissionDeniedError, lambda: rig.backend.ls(rig.source, "/out"), listing)
        into = move(rig, ("/f", "/out/stray"))
        require(into.code == "PERMISSION_DENIED", f"nothing is written through a link out of the root; here {into}")
        away = remove(rig, "/out/no-such-stray", ignore_missing=True)
        require(away.code == "PERMISSION_DENIED", f"nothing is deleted through a link out of the root; here {away}")
