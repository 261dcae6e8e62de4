"""Callbacks of futures: they are independent and ordered, and run on separate threads."""

from __future__ import annotations

import contextvars
import sys
import threading
from concurrent import futures
from concurrent.futures import Future

import pytest
from waiting import until, without_threads

from chiltepin.transfers import callbacks
from chiltepin.transfers.callbacks import CallbackFuture

LIMIT = 60


def ended(result=1):
    """Return a running future without callbacks, and a function that ends it."""
    future = CallbackFuture()
    future.set_running_or_notify_cancel()
    return future, lambda: future.set_result(result)


def test_a_callback_does_not_run_in_the_thread_that_ends_the_future():
    """A callback gets its future, and runs in another thread than the one that sets the result."""
    future, end = ended("done")
    seen, told = [], threading.Event()
    future.add_done_callback(lambda one: (seen.append((one.result(), threading.get_ident())), told.set()))
    end()
    assert told.wait(LIMIT)
    assert seen[0][0] == "done"
    assert seen[0][1] != threading.get_ident()


def test_a_callback_runs_in_the_context_that_added_it():
    """A callback reads the context variables of the place where it was added, and cannot change them there."""
    variable = contextvars.ContextVar("variable", default="")
    future, end = ended()
    seen, told = [], threading.Event()

    def call(_):
        seen.append(variable.get())
        variable.set("changed")
        told.set()

    variable.set("added")
    future.add_done_callback(call)
    variable.set("later")
    end()
    assert told.wait(LIMIT)
    assert seen == ["added"]
    assert variable.get() == "later"


def test_callbacks_run_in_their_order():
    """Callbacks run in the order in which their futures end; those of one future, in the order of addition."""
    seen, told = [], threading.Event()
    pairs = [ended() for _ in range(200)]
    for number, (future, _) in enumerate(pairs):
        for position in range(3):
            future.add_done_callback(lambda _, key=(number, position): seen.append(key))
    pairs[-1][0].add_done_callback(lambda _: told.set())
    for _, end in pairs:
        end()
    assert told.wait(LIMIT)
    assert seen == sorted(seen)
    assert len(seen) == 600


@pytest.mark.parametrize("blocking", [1, 5, 40])
def test_callbacks_that_block_hold_up_no_other(blocking):
    """Blocked callbacks, however many, delay no later callback, even of the same future."""
    go, last = threading.Event(), threading.Event()
    future, end = ended()
    for _ in range(blocking):
        future.add_done_callback(lambda _: go.wait(LIMIT))
    future.add_done_callback(lambda _: last.set())
    end()
    assert last.wait(LIMIT)
    go.set()
    assert callbacks.settled(lambda one: one is future, LIMIT)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_a_callback_that_raises_ends_itself_only(error):
    """After a callback raises any exception, the next callback still runs, and so do those of later futures."""
    seen, told = [], threading.Event()

    def fail(_):
        raise error

    for number in range(3):
        future, end = ended()
        future.add_done_callback(fail)
        future.add_done_callback(lambda _, number=number: seen.append(number))
        end()
    future, end = ended()
    future.add_done_callback(lambda _: told.set())
    end()
    assert told.wait(LIMIT)
    assert seen == [0, 1, 2]


def test_a_callback_may_wait_for_the_callback_of_another_future():
    """Callbacks that wait for callbacks of other futures, 30 deep, all end."""
    pairs = [ended() for _ in range(30)]
    told = [threading.Event() for _ in pairs]
    for number, (future, _) in enumerate(pairs):

        def wait(_, number=number):
            if number + 1 < len(pairs):
                assert told[number + 1].wait(LIMIT)
            told[number].set()

        future.add_done_callback(wait)
    for _, end in pairs:
        end()
    assert told[0].wait(LIMIT)


def test_a_callback_may_end_futures_and_add_callbacks():
    """A callback can add callbacks and end other futures, and all callbacks run."""
    first, end = ended()
    second, end_second = ended()
    told = threading.Event()
    first.add_done_callback(lambda _: second.add_done_callback(lambda _: told.set()))
    first.add_done_callback(lambda _: end_second())
    end()
    assert told.wait(LIMIT)


def test_who_waits_is_woken_before_callbacks_run():
    """While a callback blocks, the result is available and `futures.wait` returns."""
    go = threading.Event()
    future, end = ended()
    future.add_done_callback(lambda _: go.wait(LIMIT))
    end()
    assert future.result(0) == 1
    assert futures.wait([future], timeout=0).done == {future}
    go.set()
    assert callbacks.settled(lambda one: one is future, LIMIT)


def test_without_threads_a_callback_runs_where_the_future_ends():
    """If no thread can start, a callback runs once, in the thread that ends the future."""
    until(lambda: not [one for one in threading.enumerate() if one.name == "chiltepin-callbacks"])
    seen = []
    future, end = ended()
    future.add_done_callback(lambda _: seen.append(threading.get_ident()))
    with without_threads():
        end()
    assert seen == [threading.get_ident()]
    told = threading.Event()
    other, end = ended()
    other.add_done_callback(lambda _: told.set())
    end()
    assert told.wait(LIMIT)
    assert len(seen) == 1


def test_idle_threads_end():
    """A burst of callbacks that block leaves no thread behind."""
    go = threading.Event()
    future, end = ended()
    for _ in range(20):
        future.add_done_callback(lambda _: go.wait(LIMIT))
    end()
    go.set()
    until(lambda: not [one for one in threading.enumerate() if one.name == "chiltepin-callbacks"])


def test_short_callbacks_need_few_threads():
    """A thousand futures that end together start a few threads, not a thousand."""
    most, told = [], threading.Event()
    pairs = [ended() for _ in range(1000)]
    for future, _ in pairs:
        future.add_done_callback(
            lambda _: most.append(sum(one.name == "chiltepin-callbacks" for one in threading.enumerate()))
        )
    pairs[-1][0].add_done_callback(lambda _: told.set())
    for _, end in pairs:
        end()
    assert told.wait(LIMIT)
    # On a busy machine even a short callback may last longer than its turn.
    assert max(most) < 20


def test_settled_leaves_out_the_callback_that_asks():
    """A callback that waits for all callbacks does not wait for itself."""
    future, end = ended()
    seen, told = [], threading.Event()
    future.add_done_callback(lambda one: (seen.append(callbacks.settled(lambda two: two is one, 5)), told.set()))
    end()
    assert told.wait(LIMIT)
    assert seen == [True]


def test_a_method_of_such_a_future_is_called_at_once():
    """A callback that is a method of a CallbackFuture runs at once."""

    class Follower(CallbackFuture):
        def follow(self, other):
            self.set_result(other.result())

    first, end = ended(7)
    second = Follower()
    first.add_done_callback(second.follow)
    end()
    assert second.result(0) == 7


def test_a_plain_future_can_be_adopted():
    """A plain future that a CallbackFuture class adopts runs its callbacks on other threads."""

    class Adopted(CallbackFuture):
        pass

    future = Future()
    Adopted.adopt(future)
    told = threading.Event()
    future.add_done_callback(lambda _: sys.exit("only the callback"))
    future.add_done_callback(lambda _: told.set())
    future.set_result(1)
    assert told.wait(LIMIT)


def test_a_future_that_ends_while_it_is_adopted_is_not_unfinished():
    """A future that ends while it is adopted is not listed as unfinished."""

    class EndsMeanwhile(CallbackFuture):
        def done(self):
            before = super().done()
            if not before:
                self.set_result(1)
            return before

    future = Future()
    EndsMeanwhile.adopt(future)
    assert Future.done(future)
    assert not callbacks.unfinished(lambda one: one is future)
