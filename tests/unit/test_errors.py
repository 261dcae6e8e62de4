"""The exception tree."""

from __future__ import annotations

import inspect
import pickle

import pytest

from chiltepin import errors
from chiltepin.model import TaskHandle, TaskState, TaskStatus

STATUS = TaskStatus(
    handle=TaskHandle(backend="local", task_id="1", submission_id="1"), state=TaskState.FAILED, code="X", reason="y"
)
FACTS = {
    "file": "chiltepin.yaml",
    "key": "data.backend",
    "line": 7,
    "endpoint": "hpc",
    "backend": "local",
    "code": "FILE_NOT_FOUND",
    "request_id": "abc",
    "transient": True,
    "status": STATUS,
}
CLASSES = [getattr(errors, name) for name in errors.__all__ if inspect.isclass(getattr(errors, name))]


def facts_of(kind: type) -> dict:
    """Return values for the keyword-only attributes of an error class."""
    return {
        name: FACTS[name]
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_a_pickle(kind):
    """A pickled error keeps its class, message and attributes."""
    facts = facts_of(kind)
    error = pickle.loads(pickle.dumps(kind("What, which value, what to do.", **facts)))  # noqa: S301
    assert type(error) is kind
    assert str(error) == "What, which value, what to do."
    assert {name: getattr(error, name) for name in facts} == facts


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_needs_its_message_only(kind):
    """Each error needs only a message, and is a ChiltepinError."""
    assert isinstance(kind("message"), errors.ChiltepinError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.EndpointNotFoundError, LookupError),
        (errors.EndpointNotFoundError, RuntimeError),
        (errors.PermissionDeniedError, PermissionError),
        (errors.PathNotFoundError, FileNotFoundError),
        (errors.TaskTimeoutError, TimeoutError),
        (errors.ConsentRequiredError, errors.LoginRequiredError),
    ],
)
def test_an_error_is_also_the_builtin_that_a_user_would_catch(kind, builtin):
    """An error with a built-in counterpart is an instance of that built-in."""
    assert issubclass(kind, builtin)


def test_the_tree_at_the_head_of_the_module_names_every_error():
    """The tree in the module's docstring names every error class."""
    for kind in CLASSES:
        assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("compte", ["compute", "local"], "did you mean 'compute'? Known: compute, local."),
        ("HPC-Scratch", ["hpc-scratch"], "did you mean 'hpc-scratch'? Known: hpc-scratch."),
        ("xyz", ["compute"], "known: compute."),
        ("xyz", [], "none exists yet."),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, known, said):
    """A suggestion gives the nearest known name, then all known names."""
    assert errors.suggest(name, known) == said


@pytest.mark.parametrize("kind", [errors.BackendError, errors.PathNotFoundError, errors.TaskFailedError])
def test_no_message_has_what_a_terminal_obeys(kind):
    """An error message shows control characters as escapes, and pickling does not escape them again."""
    error = kind("There is no \x1b[2J\n\u202e.")
    assert str(error) == "There is no \\x1b[2J\\n\\u202e."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


def test_problems_of_settings_are_a_line_each():
    """ConfigError keeps the line breaks between problems and escapes other control characters."""
    assert str(errors.ConfigError("one \x1b\ntwo")) == "one \\x1b\ntwo"
