"""Values that do not survive pickling, and tasks that return or raise them; worker processes import this module."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import types
from concurrent import futures

from parsl import python_app

from chiltepin.tasks import bash_task, join_task, python_task


class TwoPlacesError(Exception):
    """Pickles but does not unpickle: it takes two arguments and passes one to Exception."""

    def __init__(self, file, line):
        super().__init__(f"{file}:{line}")


class QuietError(Exception):
    """Cannot be converted to text."""

    def __repr__(self):
        raise TwoPlacesError("repr", 1)

    __str__ = __repr__


def explode(kind):
    """Raise the error of this name."""
    error = RAISED[kind]()
    raise error


RAISED = {
    "two places": lambda: TwoPlacesError("in.nc", 3),
    "exit": lambda: SystemExit("the input is not there"),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "base": lambda: BaseException("base"),
    "asyncio": lambda: asyncio.CancelledError("cancelled"),
    "futures": lambda: futures.CancelledError("cancelled"),
    "stop": lambda: StopIteration(5),
    "recursion": lambda: RecursionError("deep"),
    "quiet": QuietError,
    "value": lambda: ValueError("plain"),
}


def _group():
    if sys.version_info < (3, 11):
        return ValueError("no groups")
    return ExceptionGroup("group", [TwoPlacesError("a", 1), ValueError("b")])  # noqa: F821


def _own_cause():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


RAISED.update({"group": _group, "own cause": _own_cause})

#: What an object pickles to, by name.
REDUCED = {
    "itself": lambda value: (Odd, (value.plan,)),
    "another": lambda _: (dict, ()),
    "junk": lambda _: 5,
    "nothing": lambda _: (Odd, ()),
    "text": lambda _: "no such name",
    "lambda": lambda value: (lambda plan: plan, (value.plan,)),
    "lock": lambda _: (Odd, (threading.Lock(),)),
    "generator": lambda _: (Odd, ((number for number in ()),)),
    "module": lambda _: (Odd, (threading,)),
    "deep": lambda _: (Odd, (_deep(),)),
    "self": lambda value: (Odd, (value,)),
    "foreign class": lambda _: (_elsewhere(), ()),
    "exploding": lambda value: (explode, (value.plan[1],)),
}


def _deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


def _elsewhere():
    """Return a class of a module that only this process has."""
    module = types.ModuleType(f"only_in_{os.getpid()}")
    module.Thing = type("Thing", (), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    return module.Thing


class Odd:
    """Pickles by a plan: a key of `REDUCED` or ``raise``, and the error to raise, a key of `RAISED`."""

    def __init__(self, plan):
        self.plan = plan

    def __reduce__(self):
        if self.plan[0] == "raise":
            explode(self.plan[1])
        return REDUCED[self.plan[0]](self)


class OddError(Exception):
    """An exception that pickles by a plan."""

    def __init__(self, plan):
        super().__init__("odd")
        self.plan = plan

    __reduce__ = Odd.__reduce__


def _act(deed, plan):
    if deed == "return":
        return Odd(plan)
    if deed == "raise":
        error = OddError(plan)
        raise error
    if deed == "cause":
        raise ValueError("effect") from OddError(plan)
    if deed == "context":
        try:
            _act("raise", plan)
        except OddError:
            raise ValueError("effect")  # noqa: B904
    if deed == "attribute":
        error = ValueError("effect")
        error.extra = Odd(plan)
        raise error
    if deed == "args":
        raise ValueError(Odd(plan))
    if deed == "late":
        _late()
    return explode(plan[1])


def wait_long():
    """Keep a worker busy until it is stopped."""
    threading.Event().wait(120)


def _late():
    from late_exception import LateError

    raise LateError("in.nc", 3)


@python_task
def act(deed, plan):
    """Return or raise something odd."""
    return _act(deed, plan)


@bash_task
def act_in_shell(deed, plan):
    """Return or raise something odd while making a command."""
    _act(deed, plan)
    return "true"


@join_task
def act_and_join(deed, plan):
    """Return or raise something odd in a join task."""
    return _act(deed, plan)


@python_app
def plain_act(deed, plan):
    """Return or raise something odd in a plain Parsl app."""
    return _act(deed, plan)


@python_task
def take(value):
    """Take any value."""
    return type(value).__name__


@python_task
def one():
    """Return 1."""
    return 1
