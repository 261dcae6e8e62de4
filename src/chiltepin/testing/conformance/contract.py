"""Laws of the contract: submissions, handles, statuses, threads, making and closing a backend."""

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
        pytest.skip("This rig does not say how its backend is configured; give it config=(endpoints, options).")
    return rig.config


class ContractLaws:
    """What `TransferBackend` guarantees, whatever is moved."""

    def test_it_has_all_methods(self, rig: Rig) -> None:
        """A backend has every method and attribute of the protocol."""
        require(
            isinstance(rig.backend, TransferBackend), "a backend has all that chiltepin.protocol.TransferBackend has"
        )

    def test_a_worker_backend_can_wait(self, rig: Rig) -> None:
        """A worker backend has the method wait, and its task ids are the submission ids."""
        if rig.backend.capabilities.runs_on != "worker":
            pytest.skip("This is a backend of a service: it has no wait.")
        require(isinstance(rig.backend, WorkerBackend), "a backend that runs on a worker has wait(handle, seconds)")
        rig.put(rig.source, "/f", b"data")
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), "an-id")
        require(handle.task_id == "an-id", "a worker backend uses the submission id as the task id")
        cast("WorkerBackend", rig.backend).wait(handle, 60)
        require(rig.backend.poll([handle])[0].state.final, "wait returns when the task has ended")

    def test_it_says_what_it_can(self, rig: Rig) -> None:
        """Name and capabilities are plain data with valid values."""
        name, can = rig.backend.name, rig.backend.capabilities
        require(isinstance(name, str) and name.strip(), f"name is a text that names the backend, not {name!r}")
        require(isinstance(can, Capabilities), f"capabilities are a chiltepin.model.Capabilities, not {can!r}")
        require(can.runs_on in ("service", "worker"), f"runs_on is 'service' or 'worker', not {can.runs_on!r}")
        require(set(can.sync_levels) <= set(SYNC_LEVELS), f"sync_levels are some of {SYNC_LEVELS}")
        require(set(can.checksums) <= set(CHECKSUMS), f"checksums are some of {', '.join(CHECKSUMS)}")
        require(can.max_items is None or can.max_items > 0, "max_items is None or above 0")
        require(pickled(can, "a Capabilities") == can, "capabilities are the same after a pickle")

    def test_submission_ids_differ(self, rig: Rig) -> None:
        """Every new submission id is different."""
        ids = [rig.backend.new_submission_id() for _ in range(CROWD)]
        require(all(isinstance(one, str) and one for one in ids), "a submission id is a text that is not empty")
        require(len(set(ids)) == CROWD, "no submission id is made twice")

    def test_a_handle_is_plain(self, rig: Rig) -> None:
        """Submit returns a handle that names backend, task and submission, and survives a pickle."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), submission_id)
        require(type(handle) is TaskHandle, "submit returns a chiltepin.model.TaskHandle")
        require(handle.backend == rig.backend.name, "a handle names its backend")
        require(handle.submission_id == submission_id, "a handle keeps the submission id that was given")
        require(isinstance(handle.task_id, str) and handle.task_id, "a handle has a task id, as text")
        again = pickled(handle, "a handle")
        require(again == handle, "a handle is the same after a pickle")
        require(rig.settle(again).state is TaskState.SUCCEEDED, "a handle that was pickled names its task")

    def test_a_status_is_plain(self, rig: Rig) -> None:
        """A status contains the requested handle, has no code on success, and survives a pickle."""
        rig.put(rig.source, "/f", b"data")
        status = must_move(rig, ("/f", "/f"))
        require(pickled(status, "a status") == status, "a status is the same after a pickle")
        require(not status.code, f"a task that succeeded has no code, not {status.code!r}")
        require(
            rig.backend.poll([status.handle])[0].handle == status.handle, "a status holds the handle that was polled"
        )

    def test_one_submission_id_makes_one_task(self, rig: Rig) -> None:
        """A repetition with the same submission id returns the first task, and moves nothing twice."""
        rig.put(rig.source, "/f", b"first")
        request, submission_id = transfer(rig, ("/f", "/f")), rig.backend.new_submission_id()
        handle = rig.backend.submit(request, submission_id)
        require(rig.backend.submit(request, submission_id) == handle, "a repetition of submit returns the same handle")
        require(rig.settle(handle).state is TaskState.SUCCEEDED, "a task that was submitted twice succeeds")
        rig.put(rig.source, "/f", b"second")
        require(
            rig.backend.submit(request, submission_id) == handle, "a repetition finds its task also when it has ended"
        )
        rig.settle(handle)
        require(rig.get(rig.destination, "/f") == b"first", "a repetition of submit moves nothing again")

    def test_one_submission_id_makes_one_task_for_a_crowd(self, rig: Rig) -> None:
        """Repetitions at the same moment from many threads make one task."""
        rig.put(rig.source, "/f", b"data")
        request, submission_id = transfer(rig, ("/f", "/f")), rig.backend.new_submission_id()
        with ThreadPoolExecutor(CROWD) as crowd:
            handles = list(crowd.map(lambda _: rig.backend.submit(request, submission_id), range(CROWD)))
        require(len(set(handles)) == 1, "submits of one submission id return one handle, also at the same moment")
        require(rig.settle(handles[0]).state is TaskState.SUCCEEDED, "a task that many have submitted succeeds")

    def test_a_refused_submission_made_no_task(self, rig: Rig) -> None:
        """A refused submission makes no task: its id can be used for the corrected request."""
        rig.put(rig.source, "/f", b"data")
        submission_id = rig.backend.new_submission_id()
        outside = transfer(rig, ("/f", "/a/../../f"))
        law = "a path out of the root raises PermissionDeniedError at submit"
        must_raise(PermissionDeniedError, lambda: rig.backend.submit(outside, submission_id), law)
        handle = rig.backend.submit(transfer(rig, ("/f", "/f")), submission_id)
        require(rig.settle(handle).state is TaskState.SUCCEEDED, "a refused submission leaves its id free")
        require(rig.get(rig.destination, "/f") == b"data", "a request that was put right moves its file")

    def test_poll_keeps_the_order(self, rig: Rig) -> None:
        """Poll returns one status for each handle, in the order of the handles, also if one is repeated."""
        handles = []
        for name in ("a", "b", "c"):
            rig.put(rig.source, f"/{name}", b"data")
            handle = rig.backend.submit(transfer(rig, (f"/{name}", f"/{name}")), rig.backend.new_submission_id())
            rig.settle(handle)
            handles.append(handle)
        asked = [handles[2], handles[0], handles[1], handles[0]]
        found = [status.handle for status in rig.backend.poll(asked)]
        require(found == asked, "poll returns one status for each handle, in their order, repeated ones too")
        require(list(rig.backend.poll([])) == [], "poll of no handles returns no statuses")

    def test_an_unknown_task_is_lost(self, rig: Rig) -> None:
        """An unknown task is LOST; this is not an error, and does not affect the statuses of others."""
        rig.put(rig.source, "/f", b"data")
        known = must_move(rig, ("/f", "/f")).handle
        missing = str(uuid.uuid4())
        unknown = TaskHandle(backend=rig.backend.name, task_id=missing, submission_id=missing)
        try:
            lost, found = rig.backend.poll([unknown, known])
        except ChiltepinError as err:
            raise AssertionError(f"an unknown task is LOST and no error; here poll raised {err!r}.") from None
        require(lost.state is TaskState.LOST, f"an unknown task is LOST, not {lost.state.name}")
        require(lost.handle == unknown, "the status of a lost task holds its handle")
        require(found.state is TaskState.SUCCEEDED, "a lost task does not change the status of another one")

    def test_a_final_state_stays(self, rig: Rig) -> None:
        """A task that has ended keeps its status; cancelling it, once or more often, has no effect."""
        rig.put(rig.source, "/f", b"data")
        ended = must_move(rig, ("/f", "/f"))
        rig.backend.cancel(ended.handle)
        rig.backend.cancel(ended.handle)
        rig.pass_time(rig.soon)
        state = rig.backend.poll([ended.handle])[0].state
        require(
            state is TaskState.SUCCEEDED, f"a task that has SUCCEEDED stays so, and is not {state.name} after a cancel"
        )
        require(rig.get(rig.destination, "/f") == b"data", "a cancel of a task that has ended takes nothing back")

    def test_many_threads_may_call(self, rig: Rig) -> None:
        """Submit, poll and ls may be called by many threads at the same moment."""
        names = [f"/f{number}" for number in range(CROWD)]
        for name in names:
            rig.put(rig.source, name, name.encode())

        def use(name: str) -> TaskHandle:
            handle = rig.backend.submit(transfer(rig, (name, name)), rig.backend.new_submission_id())
            rig.backend.poll([handle])
            require(len(rig.backend.ls(rig.source, "/")) == CROWD, "ls is right also when many call at once")
            return handle

        with ThreadPoolExecutor(CROWD) as crowd:
            handles = list(crowd.map(use, names))
        ends = {rig.settle(handle).state for handle in handles}
        require(ends == {TaskState.SUCCEEDED}, f"tasks of many threads succeed; here {ends}")
        moved = {name: rig.get(rig.destination, name) for name in names}
        require(moved == {name: name.encode() for name in names}, "each thread gets the file that it asked for")

    def test_close_keeps_the_data(self, rig: Rig) -> None:
        """Close deletes nothing, and may be called twice."""
        rig.put(rig.source, "/f", b"data")
        must_move(rig, ("/f", "/f"))
        rig.backend.close()
        rig.backend.close()
        require(files(rig, rig.source) == {"/f"} == files(rig), "close never deletes data")

    def test_from_config_contacts_nobody(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """From_config makes a backend from plain data without opening a connection."""
        endpoints, options = config_of(rig)
        reached = []

        def refuse(*address: object) -> NoReturn:
            reached.append(address)
            raise ConnectionRefusedError("from_config opens no connection")

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            patch.setattr(socket, "getaddrinfo", refuse)
            made = type(rig.backend).from_config(endpoints, options)
        require(isinstance(made, TransferBackend), "from_config returns a backend")
        require(not reached, f"from_config opens no connection; here to {reached}")
        made.close()

    def test_from_config_refuses_what_it_does_not_know(self, rig: Rig) -> None:
        """An unknown option is a ConfigError whose message contains the option."""
        endpoints, options = config_of(rig)
        more = {**options, "no_such_option": True}
        law = "from_config raises ConfigError for an option that it does not know"
        error = must_raise(ConfigError, lambda: type(rig.backend).from_config(endpoints, more), law)
        require("no_such_option" in str(error), f"the ConfigError for an unknown option names it; here {error}")
