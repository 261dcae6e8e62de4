"""A service that lies: any response becomes a result or a Chiltepin error, and no credential goes elsewhere."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re

import pytest
from liars import Liar, document

from chiltepin.backends.globus import GlobusBackend
from chiltepin.errors import BackendError, ChiltepinError, EndpointError, ServiceUnavailableError
from chiltepin.model import TaskHandle, TaskStatus
from chiltepin.testing.simulator import Simulator
from chiltepin.transfers.arguments import delete_request, transfer_request

ONE, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
TASK = "33333333-3333-4333-8333-333333333333"
HANDLE = TaskHandle(backend="globus", task_id=TASK, submission_id=TASK)
MOVE = transfer_request(src_ep="a", dst_ep="b", src_path="/x", dst_path="/y")

pytestmark = pytest.mark.usefixtures("quick_retries")

#: Responses of an honest service, by the end of the path.
HONEST = {
    "submission_id": {"value": TASK},
    "/transfer": {"code": "Accepted", "message": "ok", "task_id": TASK, "submission_id": TASK},
    "/delete": {"code": "Accepted", "message": "ok", "task_id": TASK, "submission_id": TASK},
    "/ls": {"DATA": [{"name": "f", "type": "file", "size": 3, "last_modified": "2023-12-18 16:52:50+00:00"}]},
    "task_list": {
        "DATA": [
            {"task_id": TASK, "status": "ACTIVE", "nice_status": "OK", "type": "TRANSFER", "subtasks_skipped_errors": 0}
        ]
    },
    "event_list": {"DATA": [{"code": "X", "description": "d", "details": "e", "is_error": True}]},
    "successful_transfers": {"DATA": [{"source_path": "/x", "destination_path": "/y"}], "next_marker": None},
    "skipped_errors": {"DATA": [{"source_path": "/x", "error_code": "E", "error_details": "d"}], "next_marker": None},
    "cancel": {"code": "Canceled", "message": "ok"},
    f"/task/{TASK}": {
        "task_id": TASK,
        "status": "FAILED",
        "type": "TRANSFER",
        "nice_status": "BAD",
        "subtasks_skipped_errors": 1,
        "fatal_error": {"code": "E", "description": "d"},
    },
    "endpoint_search": {
        "DATA": [{"id": ONE, "display_name": "n", "owner_string": "o"}],
        "has_next_page": False,
        "offset": 0,
        "limit": 100,
    },
    f"/endpoint/{ONE}": {"id": ONE, "entity_type": "GCP_mapped_collection", "high_assurance": False},
    f"/endpoint/{OTHER}": {"id": OTHER, "entity_type": "GCP_mapped_collection", "high_assurance": False},
}


def honest(path):
    """Return the document for a path, or that of a refusal."""
    plain = path.partition("?")[0]
    return next((said for end, said in HONEST.items() if plain.endswith(end)), {"code": "NotFound", "message": "no"})


@pytest.fixture
def liar(tmp_path, monkeypatch):
    """A Globus Transfer service that responds correctly until it is told to lie, beside an honest Auth service."""
    with Simulator({"one": tmp_path}) as simulator, Liar(lambda _method, path: document(honest(path))) as liar:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        liar.simulator = simulator
        monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", liar.url())
        # The SDK waits before it retries, which these tests do not examine.
        monkeypatch.setattr("time.sleep", lambda _seconds: None)
        yield liar


@pytest.fixture
def backend(liar):
    """The Globus backend with this service."""
    backend = GlobusBackend.from_config({"a": {"collection": ONE}, "b": {"collection": OTHER}}, {})
    yield backend
    backend.close()


#: Every request of the backend.
QUESTIONS = {
    "ls": lambda backend: backend.ls("a", "/"),
    "search": lambda backend: backend.ls("n", "/"),
    "id": lambda backend: backend.new_submission_id(),
    "submit": lambda backend: backend.submit(MOVE, TASK),
    "delete": lambda backend: backend.submit(delete_request(src_ep="a", src_path="/x"), TASK),
    "poll": lambda backend: backend.poll([HANDLE]),
    "outcomes": lambda backend: backend.outcomes(HANDLE, MOVE),
    "cancel": lambda backend: backend.cancel(HANDLE),
}


def told(question):
    """Return the Chiltepin error or the result of a request, and None for the other."""
    try:
        return None, question()
    except ChiltepinError as err:
        return err, None


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_honest_service_is_understood(backend, question):
    """The responses that the other tests spoil are valid before."""
    QUESTIONS[question](backend)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("question", ["ls", "submit", "id"])
def test_a_redirect_to_another_host_is_not_followed(liar, backend, question, status):
    """Neither the token nor the request follows a redirect to another host."""
    with Liar(lambda _method, path: document(honest(path))) as elsewhere:
        liar.answer = lambda _method, path: (
            status,
            {"Location": elsewhere.url("localhost") + path, "Content-Length": "0"},
            [],
        )
        with pytest.raises(ServiceUnavailableError, match="redirect"):
            QUESTIONS[question](backend)
        assert elsewhere.asked == []


def test_a_redirect_of_auth_takes_no_secret_along(liar, backend, monkeypatch):
    """A token request, which holds the secret, does not follow a redirect."""
    with Liar(lambda *_: document({})) as elsewhere:
        away = elsewhere.url("localhost")
        with Liar(lambda _method, path: (307, {"Location": away + path, "Content-Length": "0"}, [])) as lying_auth:
            monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", lying_auth.url())
            monkeypatch.setenv("CHILTEPIN_CLIENT_ID", ONE)
            monkeypatch.setenv("CHILTEPIN_CLIENT_SECRET", "for-auth-alone")
            with pytest.raises(ServiceUnavailableError, match="redirect"):
                backend.ls("a", "/")
            assert lying_auth.asked
        assert elsewhere.asked == []


def _endless():
    return itertools.chain([b'{"DATA": ["'], itertools.repeat(b"x" * (1 << 20)))


def _bomb():
    # Consecutive gzip members are one content (RFC 1952, 2.2).
    return gzip.compress(b'{"DATA": ["') + gzip.compress(b" " * (1 << 20)) * 300 + gzip.compress(b'"]}')


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [({}, _endless), ({"Content-Encoding": "gzip"}, lambda: [_bomb()])],
    ids=["endless", "inflated"],
)
def test_a_gigantic_answer_is_put_down(liar, backend, headers, pieces):
    """A response without an end, or one that inflates, is an error and does not fill the memory."""
    liar.answer = lambda *_: (200, {"Content-Type": "application/json", **headers}, pieces())
    with pytest.raises(ServiceUnavailableError, match="more than 256 MiB"):
        backend.new_submission_id()


def test_an_answer_that_is_packed_is_read(liar, backend):
    """A compressed response is read."""
    packed = gzip.compress(json.dumps(HONEST["submission_id"]).encode())
    liar.answer = lambda *_: (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, [packed])
    assert backend.new_submission_id() == TASK


def test_an_answer_that_breaks_off_is_no_answer(liar, backend):
    """A truncated response is a connection error and is retried."""
    cut = {"Content-Type": "application/json", "Content-Length": "100", "Connection": "close"}
    liar.answer = lambda *_: (200, cut, [b'{"value":'])
    with pytest.raises(ServiceUnavailableError, match="could not be reached"):
        backend.new_submission_id()
    assert len(liar.asked) == 3, "and it is asked for again"


def _pages(path):
    """Return another page for any offset."""
    offset = int((re.search(r"offset=(\d+)", path) or [0, 0])[1])
    entry = {**HONEST["successful_transfers"]["DATA"][0], **HONEST["skipped_errors"]["DATA"][0]}
    entry |= {"id": ONE, "display_name": f"n{offset}", "owner_string": "o"}
    more = {"has_next_page": True, "next_marker": f"m{random.random()}", "offset": offset, "limit": 100}  # noqa: S311
    return {"DATA": [entry] * 1000, **more}


@pytest.mark.parametrize("question", ["search", "outcomes"])
def test_pages_without_an_end_end(liar, backend, question, monkeypatch):
    """Endless pages stop after a limit."""
    monkeypatch.setattr("chiltepin.backends.globus.task_reader.MAX_LISTED", 20_000)
    paged = ("endpoint_search", "successful_transfers", "skipped_errors")
    liar.answer = lambda _method, path: document(_pages(path) if any(end in path for end in paged) else honest(path))
    with pytest.raises((ServiceUnavailableError, EndpointError)):
        QUESTIONS[question](backend)
    assert len(liar.asked) < 50


def test_empty_pages_that_promise_more_end(liar, backend):
    """A search whose pages are empty but promise more is ended after a limit."""
    nothing = {"DATA": [], "has_next_page": True, "offset": 0, "limit": 100}
    liar.answer = lambda _method, path: document(nothing if "endpoint_search" in path else honest(path))
    with pytest.raises(ServiceUnavailableError, match="could not parse"):
        QUESTIONS["search"](backend)
    assert len(liar.asked) < 100


@pytest.mark.parametrize("name", ["../../x", "a/b", "/etc/passwd", "..", ".", "", "a\0b"])
def test_a_name_that_is_none_is_refused(liar, backend, name):
    """A name that leads out of the listed folder is refused."""
    entry = {"name": name, "type": "file", "size": 3}
    liar.answer = lambda _method, path: document({"DATA": [entry]} if "/ls" in path else honest(path))
    with pytest.raises(BackendError, match="could not parse"):
        backend.ls("a", "/")


@pytest.mark.parametrize("task_id", ["../../endpoint", "a/b", "", "x" * 5000, "\x1b[2J", 7, None, ["x"]])
def test_an_id_that_is_none_is_refused(liar, backend, task_id):
    """An invalid id is refused, because ids are used in URLs, the journal and the terminal."""
    said = {"task_id": task_id, "value": task_id, "code": "Accepted", "message": "ok"}
    liar.answer = lambda method, path: document(said if method == "POST" or "submission" in path else honest(path))
    for question in ("submit", "id"):
        with pytest.raises(BackendError, match="could not parse"):
            QUESTIONS[question](backend)


ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\n\u202egnp.exe\x9b31m"


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("status", [200, 400, 403, 404, 409, 502])
def test_escapes_reach_no_message(liar, backend, question, status):
    """Escape sequences in any text of the service are escaped in errors and statuses."""

    def spoiled(value):
        if isinstance(value, dict):
            return {key: spoiled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoiled(inner) for inner in value]
        keep = isinstance(value, str) and value in (TASK, ONE, OTHER, "FAILED", "TRANSFER", "ACTIVE")
        return value if keep or not isinstance(value, str) else value + ESCAPES

    refusal = {"code": "Odd" + ESCAPES, "message": "No." + ESCAPES, "request_id": "r" + ESCAPES}
    liar.answer = lambda _method, path: document(spoiled(honest(path)) if status == 200 else refusal, status)
    failure, found = told(lambda: QUESTIONS[question](backend))
    if failure:
        assert str(failure).isprintable(), str(failure)
        assert all(str(value).isprintable() for value in vars(failure).values())
    for one in found if isinstance(found, list) else ():
        if isinstance(one, TaskStatus):
            assert one.reason.isprintable()
            assert one.code.isprintable()


#: Values that can be put anywhere in a document.
NONSENSE = (
    *(None, True, -1, 1e308, "", "x", [], {}, [[]], [None], {"DATA": None}, "9" * 5000, "\ud800", {"": {}}, 10**30),
)


def _distorted(chance, value):
    """Return the same document with an invalid value somewhere in it."""
    if chance.random() < 0.25:
        return chance.choice(NONSENSE)
    if isinstance(value, dict):
        return {key: _distorted(chance, inner) for key, inner in value.items() if chance.random() > 0.1}
    if isinstance(value, list):
        return [_distorted(chance, inner) for inner in value] * chance.choice((0, 1, 1, 2))
    return value


#: Texts that no JSON library writes.
RAW = (
    *(
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b"<html>",
        b'{"DATA": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ),
    *(b'{"value": Infinity, "DATA": [{"name": "f", "type": "file", "size": 1e999}], "task_id": -Infinity}',),
    *(
        b'{"DATA": [{"name": "f", "type": "file", "size": 1, "last_modified": "9999-99-99"}]}',
        b'{"value": ' + b"9" * 9999 + b"}",
    ),
)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_nonsense_is_an_error_of_ours(liar, backend, question, status):
    """Any document becomes a result or a Chiltepin error, never an error of another library."""
    chance = random.Random(f"{question} {status}")  # noqa: S311 - reproducible, not secret
    lies = [lambda _path, raw=raw: document(raw, status) for raw in RAW]
    lies += [
        lambda path: document(_distorted(chance, honest(path)), status) for _ in range(60 if status == 200 else 10)
    ]
    for lie in lies:
        liar.answer = lambda _method, path, lie=lie: lie(path)
        failure, _ = told(lambda: QUESTIONS[question](backend))
        assert failure is None or failure.__context__ is None
