"""Laws about tasks that reach a deadline or are canceled."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chiltepin.model import TaskState
from chiltepin.testing.conformance.helpers import (
    files,
    move,
    must_be_refused,
    must_move,
    needs,
    remove,
    require,
    transfer,
)

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["CancellationLaws"]


def needs_deadlines(rig: Rig) -> None:
    """Skip the law for a backend without deadlines."""
    needs(rig.backend.capabilities.deadline, "deadlines")


class CancellationLaws:
    """What deadlines and cancellations must do."""

    def test_a_deadline_is_known_or_refused(self, rig: Rig) -> None:
        """A deadline in the far future must change nothing; a backend without deadlines must refuse it at submit."""
        rig.put(rig.source, "/f", b"data")
        later = rig.now() + timedelta(days=1)
        if rig.backend.capabilities.deadline:
            must_move(rig, ("/f", "/f"), deadline=later)
            require(rig.get(rig.destination, "/f") == b"data", "a file must arrive before its deadline")
            return
        outcome = move(rig, ("/f", "/f"), deadline=later)
        must_be_refused(outcome, "a backend without deadlines must refuse a deadline at submit")

    def test_a_deadline_that_has_passed_moves_nothing(self, rig: Rig) -> None:
        """A task whose deadline has passed must be refused or end as EXPIRED, and must not leave any file."""
        needs_deadlines(rig)
        rig.put(rig.source, "/f", b"data")
        outcome = move(rig, ("/f", "/f"), deadline=rig.now() - timedelta(seconds=rig.soon))
        expired = outcome.error is not None or outcome.state is TaskState.EXPIRED
        require(expired, f"a task whose deadline has passed must be refused or end as EXPIRED; got {outcome}")
        require(files(rig) == set(), "a task whose deadline has passed must not leave any file")

    def test_a_deadline_that_has_passed_deletes_nothing(self, rig: Rig) -> None:
        """A deletion whose deadline has passed must be refused or end as EXPIRED, and must not delete anything."""
        needs_deadlines(rig)
        rig.put(rig.destination, "/f", b"data")
        outcome = remove(rig, "/f", deadline=rig.now() - timedelta(seconds=rig.soon))
        expired = outcome.error is not None or outcome.state is TaskState.EXPIRED
        require(expired, f"a deletion whose deadline has passed must be refused or end as EXPIRED; got {outcome}")
        require(
            rig.get(rig.destination, "/f") == b"data", "a deletion whose deadline has passed must not delete any file"
        )

    def test_a_deadline_stops_a_task(self, rig: Rig) -> None:
        """A task that has not ended at its deadline must end as EXPIRED, with no partial file under a final name."""
        needs_deadlines(rig)
        rig.put(rig.source, "/f", b"data")
        with rig.hold():
            request = transfer(rig, ("/f", "/f"), deadline=rig.now() + timedelta(seconds=rig.soon))
            handle = rig.backend.submit(request, rig.backend.new_submission_id())
            rig.pass_time(2 * rig.soon)
        state = rig.settle(handle).state
        require(state is TaskState.EXPIRED, f"a task that reaches its deadline must end as EXPIRED, not {state.name}")
        require(rig.get(rig.destination, "/f") is None, "an expired task must not leave a partial file")

    def test_a_cancelled_task_stops(self, rig: Rig) -> None:
        """A live task that is canceled, once or several times, must end as CANCELED and leave no partial file."""
        rig.put(rig.source, "/f", b"data")
        rig.put(rig.destination, "/kept", b"kept")
        with rig.hold():
            handle = rig.backend.submit(transfer(rig, ("/f", "/f")), rig.backend.new_submission_id())
            state = rig.backend.poll([handle])[0].state
            require(not state.final, f"a task must be live while the rig holds it, not {state.name}")
            rig.backend.cancel(handle)
            rig.backend.cancel(handle)
        state = rig.settle(handle).state
        require(state is TaskState.CANCELED, f"a canceled task must end as CANCELED, not {state.name}")
        require(rig.get(rig.destination, "/f") is None, "a canceled task must not leave a partial file")
        require(rig.get(rig.destination, "/kept") == b"kept", "a canceled task must not remove any other file")

    def test_a_cancelled_task_stays_so(self, rig: Rig) -> None:
        """Repeating the submission of a canceled task must not start it again."""
        rig.put(rig.source, "/f", b"data")
        request, submission_id = transfer(rig, ("/f", "/f")), rig.backend.new_submission_id()
        with rig.hold():
            handle = rig.backend.submit(request, submission_id)
            rig.backend.cancel(handle)
        rig.settle(handle)
        require(
            rig.backend.submit(request, submission_id) == handle,
            "a repeated submit of a canceled task must return the same handle",
        )
        state = rig.settle(handle).state
        require(
            state is TaskState.CANCELED,
            f"a canceled task must stay CANCELED after a repeated submit, not become {state.name}",
        )

    def test_a_task_does_not_stop_another(self, rig: Rig) -> None:
        """Canceling one task must not affect another task."""
        for path in ("/a", "/b"):
            rig.put(rig.source, path, b"data")
        with rig.hold():
            doomed, other = (
                rig.backend.submit(transfer(rig, (path, path)), rig.backend.new_submission_id())
                for path in ("/a", "/b")
            )
            rig.backend.cancel(doomed)
        state = rig.settle(other).state
        require(
            state is TaskState.SUCCEEDED, f"a task must succeed when another task is canceled, not end as {state.name}"
        )
        require(files(rig) == {"/b"}, "when one of two tasks is canceled, only the other task must move its file")
