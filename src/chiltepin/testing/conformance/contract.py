"""Laws of the contract: submissions, handles, statuses, threads, creating and closing a backend."""

from __future__ import annotations

import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from chiltepin.errors import ChiltepinError, ConfigError, PermissionDeniedError
from chiltepin.model import CHECKSUMS, SYNC_LEVELS, Capabilities, TaskHandle, TaskState
from chiltepin.protocol import TransferBackend, WorkerBackend
from chiltepin.testing.conformance.helpers import files, must_move, must_raise, pickled, require, transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.testing.conformance.rig import Rig

__all__ = ["ContractLaws"]

#: Threads that call a backend at the same time.
CROWD = 6


def config_of(rig: Rig) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the arguments for ``from_config``, or skip the law."""
    if rig.config is None:
        pytest.skip("This rig has no configuration of its backend; pass config=(endpoints, options) to the rig.")
    return rig.config


class ContractLaws:
    """What every `TransferBackend` must guarantee, whatever it moves."""

    def test_it_has_all_methods(self, rig: Rig) -> None:
        """A backend must have every method and attribute of the protocol."""
        require(
            isinstance(rig.backend, TransferBackend),
            "a backend must have every method and attribute of chiltepin.protocol.TransferBackend",
        )

    def test_a_worker_backend_can_wait(self, rig: Rig) -> None:
        """A worker backend must have the method wait, and must use submission ids as task ids."""
        if rig.backend.capabilities.runs_on != "worker":
            pytest.skip("This backend runs on a service, so it has no wait method.")
        require(
            isinstance(rig.backend, WorkerBackend), "a backend that runs on a worker must have wait(handle, seconds)"
        )
        rig.put(rig.source, "/f", b"data")
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), "an-id")
        require(handle.task_id == "an-id", "a worker backend must use the submission id as the task id")
        cast("WorkerBackend", rig.backend).wait(handle, 60)
        require(rig.backend.poll([handle])[0].state.final, "wait must return when the task has ended")

    def test_it_says_what_it_can(self, rig: Rig) -> None:
        """The name and the capabilities must be plain data with valid values."""
        name, can = rig.backend.name, rig.backend.capabilities
        require(isinstance(name, str) and name.strip(), f"name must be a non-blank string, not {name!r}")
        require(isinstance(can, Capabilities), f"capabilities must be a chiltepin.model.Capabilities, not {can!r}")
        require(can.runs_on in ("service", "worker"), f"runs_on must be 'service' or 'worker', not {can.runs_on!r}")
        require(set(can.sync_levels) <= set(SYNC_LEVELS), f"sync_levels must be a subset of {SYNC_LEVELS}")
        require(set(can.checksums) <= set(CHECKSUMS), f"checksums must be a subset of {', '.join(CHECKSUMS)}")
        require(can.max_items is None or can.max_items > 0, "max_items must be None or greater than 0")
        require(pickled(can, "a Capabilities") == can, "capabilities must be equal after a pickle round trip")

    def test_submission_ids_differ(self, rig: Rig) -> None:
        """Every new submission id must be different."""
        ids = [rig.backend.new_submission_id() for _ in range(CROWD)]
        require(all(isinstance(one, str) and one for one in ids), "a submission id must be a non-empty string")
        require(len(set(ids)) == CROWD, "new_submission_id must not return the same id twice")

    def test_a_handle_is_plain(self, rig: Rig) -> None:
        """``submit`` must return a handle that names backend, task and submission, and survives a pickle round trip."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), submission_id)
        require(type(handle) is TaskHandle, "submit must return a chiltepin.model.TaskHandle")
        require(handle.backend == rig.backend.name, "a handle must contain the name of its backend")
        require(
            handle.submission_id == submission_id, "a handle must contain the submission id that was passed to submit"
        )
        require(
            isinstance(handle.task_id, str) and handle.task_id, "a handle must contain a task id, as a non-empty string"
        )
        again = pickled(handle, "a handle")
        require(again == handle, "a handle must be equal after a pickle round trip")
        require(
            rig.settle(again).state is TaskState.SUCCEEDED,
            "a handle must still identify its task after a pickle round trip",
        )

    def test_a_status_is_plain(self, rig: Rig) -> None:
        """A status must contain the requested handle, have no code on success, and survive a pickle round trip."""
        rig.put(rig.source, "/f", b"data")
        status = must_move(rig, ("/f", "/f"))
        require(pickled(status, "a status") == status, "a status must be equal after a pickle round trip")
        require(not status.code, f"a task that succeeded must have no code, not {status.code!r}")
        require(
            rig.backend.poll([status.handle])[0].handle == status.handle,
            "a status must contain the handle that was polled",
        )

    def test_one_submission_id_makes_one_task(self, rig: Rig) -> None:
        """A second submit with the same submission id must return the first task, and must not move anything twice."""
        rig.put(rig.source, "/f", b"first")
        request, submission_id = transfer(rig, ("/f", "/f")), rig.backend.new_submission_id()
        handle = rig.backend.submit(request, submission_id)
        require(
            rig.backend.submit(request, submission_id) == handle,
            "a second submit with the same submission id must return the same handle",
        )
        require(rig.settle(handle).state is TaskState.SUCCEEDED, "a task that was submitted twice must succeed")
        rig.put(rig.source, "/f", b"second")
        require(
            rig.backend.submit(request, submission_id) == handle,
            "a repeated submit must return the same handle even after the task has ended",
        )
        rig.settle(handle)
        require(rig.get(rig.destination, "/f") == b"first", "a repeated submit must not move any file again")

    def test_one_submission_id_makes_one_task_for_a_crowd(self, rig: Rig) -> None:
        """Submits of the same submission id from many threads at the same time must create one task."""
        rig.put(rig.source, "/f", b"data")
        request, submission_id = transfer(rig, ("/f", "/f")), rig.backend.new_submission_id()
        with ThreadPoolExecutor(CROWD) as crowd:
            handles = list(crowd.map(lambda _: rig.backend.submit(request, submission_id), range(CROWD)))
        require(len(set(handles)) == 1, "concurrent submits of one submission id must return one handle")
        require(rig.settle(handles[0]).state is TaskState.SUCCEEDED, "a task that many threads submitted must succeed")

    def test_a_refused_submission_made_no_task(self, rig: Rig) -> None:
        """A refused submission must not create a task: the corrected request must be able to use its id."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        outside = transfer(rig, ("/f", "/a/../../f"))
        law = "a path out of the root must raise PermissionDeniedError at submit"
        must_raise(PermissionDeniedError, lambda: rig.backend.submit(outside, submission_id), law)
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), submission_id)
        require(rig.settle(handle).state is TaskState.SUCCEEDED, "a refused submission must leave its id free")
        require(rig.get(rig.destination, "/f") == b"data", "a corrected request must move its file")

    def test_poll_keeps_the_order(self, rig: Rig) -> None:
        """``poll`` must return one status for each handle, in the order of the handles, also for repeated handles."""
        handles = []
        for name in ("a", "b", "c"):
            rig.put(rig.source, f"/{name}", b"data")
            handle = rig.backend.submit(transfer(rig, (f"/{name}", f"/{name}")), rig.backend.new_submission_id())
            rig.settle(handle)
            handles.append(handle)
        asked = [handles[2], handles[0], handles[1], handles[0]]
        found = [status.handle for status in rig.backend.poll(asked)]
        require(
            found == asked,
            "poll must return one status for each handle, in the order of the handles, also for repeated handles",
        )
        require(list(rig.backend.poll([])) == [], "poll of no handles must return no statuses")

    def test_an_unknown_task_is_lost(self, rig: Rig) -> None:
        """An unknown task must be reported as LOST, not as an error, and must not affect the status of another task."""
        rig.put(rig.source, "/f", b"data")
        known = must_move(rig, ("/f", "/f")).handle
        missing = str(uuid.uuid4())
        unknown = TaskHandle(backend=rig.backend.name, task_id=missing, submission_id=missing)
        try:
            lost, found = rig.backend.poll([unknown, known])
        except ChiltepinError as err:
            raise AssertionError(
                f"poll must report an unknown task as LOST and must not raise an error; got {err!r}."
            ) from None
        require(lost.state is TaskState.LOST, f"poll must report an unknown task as LOST, not {lost.state.name}")
        require(lost.handle == unknown, "the status of a lost task must contain its handle")
        require(found.state is TaskState.SUCCEEDED, "a lost task must not change the status of another task")

    def test_a_final_state_stays(self, rig: Rig) -> None:
        """A task that has ended must keep its status; canceling it, once or several times, must have no effect."""
        rig.put(rig.source, "/f", b"data")
        ended = must_move(rig, ("/f", "/f"))
        rig.backend.cancel(ended.handle)
        rig.backend.cancel(ended.handle)
        rig.pass_time(rig.soon)
        state = rig.backend.poll([ended.handle])[0].state
        require(
            state is TaskState.SUCCEEDED,
            f"a task that has SUCCEEDED must stay SUCCEEDED after a cancel, not become {state.name}",
        )
        require(rig.get(rig.destination, "/f") == b"data", "canceling a task that has ended must not remove its files")

    def test_many_threads_may_call(self, rig: Rig) -> None:
        """Many threads must be able to call submit, poll and ls at the same time."""
        names = [f"/f{number}" for number in range(CROWD)]
        for name in names:
            rig.put(rig.source, name, name.encode())

        def use(name: str) -> TaskHandle:
            handle = rig.backend.submit(transfer(rig, (name, name)), rig.backend.new_submission_id())
            rig.backend.poll([handle])
            require(
                len(rig.backend.ls(rig.source, "/")) == CROWD,
                "ls must return all entries, also when many threads call it at the same time",
            )
            return handle

        with ThreadPoolExecutor(CROWD) as crowd:
            handles = list(crowd.map(use, names))
        ends = {rig.settle(handle).state for handle in handles}
        require(ends == {TaskState.SUCCEEDED}, f"the tasks of all threads must succeed; got {ends}")
        moved = {name: rig.get(rig.destination, name) for name in names}
        require(moved == {name: name.encode() for name in names}, "each thread must get the file that it requested")

    def test_close_keeps_the_data(self, rig: Rig) -> None:
        """``close`` must not delete anything, and a second call must be allowed."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/f"))
        rig.backend.close()
        rig.backend.close()
        require(files(rig, rig.source) == {"/f"} == files(rig), "close must not delete data")

    def test_from_config_makes_no_connection(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """``from_config`` must create a backend from plain data without opening a connection."""
        endpoints, options = config_of(rig)
        reached = []

        def refuse(*address: object) -> NoReturn:
            reached.append(address)
            raise ConnectionRefusedError("from_config must not open a connection")

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            patch.setattr(socket, "getaddrinfo", refuse)
            made = type(rig.backend).from_config(endpoints, options)
        require(isinstance(made, TransferBackend), "from_config must return a backend")
        require(not reached, f"from_config must not open a connection; got connections to {reached}")
        made.close()

    def test_from_config_refuses_what_it_does_not_know(self, rig: Rig) -> None:
        """An unknown option must raise a ConfigError whose message contains the option."""
        endpoints, options = config_of(rig)
        more = {**options, "no_such_option": True}
        law = "from_config must raise ConfigError for an unknown option"
        error = must_raise(ConfigError, lambda: type(rig.backend).from_config(endpoints, more), law)
        require(
            "no_such_option" in str(error), f"the ConfigError for an unknown option must name the option; got {error}"
        )
