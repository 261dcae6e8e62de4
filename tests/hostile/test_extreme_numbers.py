"""Extreme numbers: each numeric parameter accepts or refuses them, and other transfers continue."""

from __future__ import annotations

import datetime as dt
import inspect
import math
import re
import sys
import threading
import warnings
from concurrent.futures import Future
from contextlib import AbstractContextManager
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import chiltepin
from chiltepin import Workflow
from chiltepin.cli import main
from chiltepin.errors import TaskError, shown
from chiltepin.settings import ConfigWarning, check, limits
from chiltepin.settings.endpoints import _General
from chiltepin.settings.resources import Resource
from chiltepin.testing.simulator import Simulator

#: Timeout in seconds of a call that has to end.
LIMIT = 60


class Odd(float):
    """A number that cannot be converted to text."""

    def __repr__(self):
        raise OverflowError("too much to tell")


#: Values that are numbers, almost numbers, or not numbers; each has broken a program.
EXTREMES = [
    *(math.nan, math.inf, -math.inf, 1e300, -1e300, sys.float_info.max, 5e-324, 1e-9, -1e-9, 0, 0.0, -0.0, -1, 1),
    *(
        2**31,
        sys.maxsize,
        -sys.maxsize,
        2**63,
        2**64,
        10**400,
        -(10**400),
        10**5000,
        threading.TIMEOUT_MAX,
        9e9,
        2.5e11,
    ),
    *(True, False, None, "", "5", "nan", "1e3", b"5", Decimal(5), Decimal("NaN"), Fraction(1, 3), Fraction(10**400, 3)),
    *(dt.timedelta(seconds=5), 5j, [5], {}, object(), Odd(5.0), Odd(1e300), math.pi, limits.SECONDS.most),
]
ANY = st.one_of(st.sampled_from(EXTREMES), st.floats(), st.integers(), st.fractions())

#: Valid arguments for each public function.
GIVEN = {
    "src_ep": "a",
    "dst_ep": "b",
    "src_path": "/x",
    "dst_path": "/odd",
    "executor": "local",
    "polling_interval": 0.1,
}


def is_numeric(parameter):
    """Whether a parameter of a signature accepts a number."""
    default, hint = parameter.default, str(parameter.annotation)
    numeric = isinstance(default, int | float) and not isinstance(default, bool)
    return numeric or re.search(r"\b(int|float)\b", hint) is not None


def parameters():
    """Yield every numeric parameter of every public function."""
    for name in chiltepin.__all__:
        made = getattr(chiltepin, name)
        if inspect.isfunction(made):
            for parameter in inspect.signature(made).parameters.values():
                if is_numeric(parameter):
                    yield name, parameter.name


def options():
    """Yield every numeric option and argument of every command."""
    for name, command in main.COMMANDS.items():
        loaded = main.chiltepin.get_command(click.Context(main.chiltepin), name) or command
        for option in loaded.params:
            if isinstance(option.type, click.FLOAT.__class__ | click.INT.__class__):
                yield pytest.param(option, id=f"{name} {option.opts[0]}")


def keys():
    """Yield every numeric key of the settings, as its model and name."""
    for model in (Resource, _General):
        for name, field in model.model_fields.items():
            if re.search(r"\b(int|float)\b", str(field.annotation)):
                yield model, name


def is_sentence(text):
    """Whether a message is readable: one line of limited length."""
    return bool(text) and text.isprintable() and len(text) < 500


def refusal(call):
    """Call a function; return the text of a refusal or the result, and None for the other."""
    try:
        return None, call()
    except click.BadParameter as err:
        return err.message, None
    except (TypeError, ValueError, TaskError) as err:
        return str(err), None


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A workflow on a simulated Globus, with a file to transfer."""
    with Simulator({name: tmp_path / name for name in "ab"}, request_rate=None) as globus:
        for name, value in globus.environment().items():
            monkeypatch.setenv(name, value)
        (tmp_path / "a" / "plain").write_text("x")
        with Workflow({"data": {"backend": "globus", "journal": False}}, run_dir=tmp_path / "runinfo"):
            yield SimpleNamespace(a=tmp_path / "a", globus=globus)


def test_there_are_numbers_to_try():
    """The parameters, options and keys of the tests below are found."""
    assert ("transfer_task", "timeout") in set(parameters())
    assert ("delete", "polling_interval") in set(parameters())
    assert {option.id for option in options()} >= {"transfer --timeout", "delete --timeout", "simulate --bandwidth"}
    assert {name for _, name in keys()} >= {"max_blocks", "cores_per_worker", "fault_grace", "max_threads"}


def moved(name, parameter, value):
    """Call a public function and wait until it ends."""
    function = getattr(chiltepin, name)
    given = {key: GIVEN[key] for key in inspect.signature(function).parameters if key in GIVEN}
    made = function(**{**given, parameter: value})
    if isinstance(made, AbstractContextManager):
        with made:
            return True
    return made.result(LIMIT) if isinstance(made, Future) else made


@pytest.mark.parametrize(("name", "parameter"), sorted(parameters()))
@settings(max_examples=6)
@given(value=ANY)
@example(value=float(sys.maxsize))
@example(value=10**400)
@example(value=10**5000)
@example(value=5e-324)
@example(value=math.nan)
def test_an_extreme_number_holds_nothing_up(world, name, parameter, value):
    """An extreme number works or is refused in one sentence, and the next transfer succeeds."""
    (world.a / "x").write_text("x")
    refused, done = refusal(lambda: moved(name, parameter, value))
    assert done is True or is_sentence(refused), refused
    (world.a / "plain").write_text("x")
    assert chiltepin.transfer_task("a", "b", "/plain", "/plain", executor="local", polling_interval=0.1).result(LIMIT)


@pytest.mark.parametrize("value", [float(sys.maxsize), math.nan, 10**400, -1, True, "5", dt.timedelta(seconds=5)])
@pytest.mark.parametrize("parameter", ["timeout", "polling_interval"])
def test_a_number_that_comes_late_is_looked_at_too(world, parameter, value):
    """A number from a future is checked like a value, and the future of the transfer raises the error."""
    late = chiltepin.python_task(lambda: value)(executor="local")
    options = {"executor": "local", "polling_interval": 0.1, parameter: late}
    refused, _ = refusal(chiltepin.transfer_task("a", "b", "/plain", "/late", **options).result)
    assert parameter in refused


def text_of(value):
    """Return a value as a user types it; "many" for a value that has no text."""
    try:
        return str(value)
    except (ValueError, OverflowError):
        return "many"


@pytest.mark.parametrize("option", list(options()))
@given(value=ANY)
def test_a_number_on_the_command_line_is_in_range(option, value):
    """An option accepts a finite number, or says in one line what to give."""
    refused, taken = refusal(lambda: option.type.convert(text_of(value), option, None))
    assert is_sentence(refused) if refused else 0 <= taken <= limits.BANDWIDTH.most


@pytest.mark.parametrize(("model", "key"), sorted(keys(), key=lambda pair: pair[1]))
@given(value=ANY)
def test_a_number_of_the_settings_is_in_range(model, key, value):
    """A key accepts a number in its range, or the settings are refused in one sentence."""
    other = {"provider": "threads"} if key == "max_threads" else {"provider": "slurm", "mpi": key == "max_mpi_apps"}
    most = {} if key in {"max_blocks", "max_threads"} else {"max_blocks": 100_000}
    config = {"r": {**other, **most, key: value}} if model is Resource else {"data": {key: value}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigWarning)
        refused, checked = refusal(lambda: check(config, backends=["local"]))
    assert checked or is_sentence(refused), refused
    taken = getattr(checked.resources["r"] if model is Resource else checked.data, key) if checked else None
    assert taken is None or (type(taken) in (int, float) and 0 <= taken <= limits.SECONDS.most)


@pytest.mark.parametrize("value", [math.nan, 1e300, sys.maxsize, 10**400, 10**5000, -1, 2**53], ids=shown)
@pytest.mark.parametrize("option", ["connect_timeout", "read_timeout", "timeout"])
def test_a_timeout_of_a_store_is_in_range(option, value):
    """An invalid timeout in a store's options is refused when the settings are read."""
    options = {"config_kwargs": {option: value}}
    config = {"data": {"endpoints": {"e": {"filesystem": {"url": "s3://b", "options": options}}}}}
    refused, _ = refusal(lambda: check(config, backends=["filesystem"]))
    assert option in refused
    assert is_sentence(refused)


def test_a_short_interval_does_not_flood_the_service(world):
    """A very short polling interval causes no more polls per second than Globus allows."""
    globus, before = world.globus, len(world.globus.requests)
    globus.settings.task_latency = 1.0
    assert chiltepin.transfer("a", "b", "/plain", "/short", polling_interval=1e-300) is True
    globus.settings.task_latency = 0.0
    assert len([one for one in globus.requests[before:] if "task_list" in one.path]) <= 1.5 / limits.SHORTEST_POLL
