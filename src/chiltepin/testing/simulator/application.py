"""The simulated services as one web application."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from chiltepin.testing.simulator.api_errors import ApiError
from chiltepin.testing.simulator.auth import auth_routes
from chiltepin.testing.simulator.compute import compute_routes
from chiltepin.testing.simulator.endpoint_api import endpoint_routes
from chiltepin.testing.simulator.faults import Served
from chiltepin.testing.simulator.file_api import file_routes
from chiltepin.testing.simulator.oauth import OAuthError
from chiltepin.testing.simulator.request_guard import RequestGuard
from chiltepin.testing.simulator.routes import add_routes
from chiltepin.testing.simulator.task_api import task_routes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.testing.simulator.authority import Authority
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.engine import Engine
    from chiltepin.testing.simulator.faults import Faults, Mishap

__all__ = ["application"]

log = logging.getLogger(__name__)


def application(engine: Engine, authority: Authority, faults: Faults, collections: Mapping[str, Collection]) -> Flask:
    """Return the application that serves Globus Transfer and Globus Auth."""
    app = Flask(__name__, static_folder=None)
    guard = RequestGuard(authority, collections)
    transfer = Blueprint("transfer", __name__, url_prefix="/v0.10")
    add_routes(transfer, task_routes(guard, engine))
    add_routes(transfer, file_routes(guard, engine.settings))
    add_routes(transfer, endpoint_routes(guard, engine, collections))
    add_routes(app, auth_routes(authority))
    add_routes(app, compute_routes())
    door = _Door(guard, engine, faults)
    # Mishaps come first: a service that is down checks no tokens.
    app.before_request(door.suffer)
    transfer.before_request(door.admit)
    app.after_request(door.leave)
    app.register_error_handler(ApiError, _refused)
    app.register_error_handler(OAuthError, lambda refusal: (jsonify(refusal.document), refusal.status))
    app.register_error_handler(HTTPException, _not_served)
    app.register_error_handler(Exception, _broken)
    app.register_blueprint(transfer)
    return app


class _Door:
    def __init__(self, guard: RequestGuard, engine: Engine, faults: Faults) -> None:
        self._guard, self._engine, self._faults = guard, engine, faults

    def suffer(self) -> Response | None:
        """Let a mishap happen before the request is handled."""
        # Always read: the rest of a body would be parsed as the next request of the connection.
        request.get_data()
        g.mishap = self._faults.take(request.method, request.path)
        if g.mishap is None or g.mishap.after or g.mishap.slow:
            return None
        return _spoiled(g.mishap)

    def admit(self) -> Response | None:
        """Check the token and the request rate."""
        header = request.headers.get("Authorization")
        g.grant = self._guard.bearer(header)
        wait = self._faults.wait_for(str(header), self._engine.clock.time())
        if not wait:
            return None
        refusal = ApiError(429, "ClientError.TooManyRequests", "The rate limit has been reached; slow down")
        answer = jsonify(refusal.document(request.path))
        answer.status_code = refusal.status
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer

    def leave(self, answer: Response) -> Response:
        """Replace or delay the response if there is a mishap, and record the request."""
        mishap: Mishap | None = g.get("mishap")
        if mishap is not None and mishap.after:
            answer = _spoiled(mishap)
        if self._faults.rewrite is not None and answer.is_json:
            document = self._faults.rewrite(request.method, request.path, answer.get_json())
            answer.set_data(json.dumps(document))
        if delay := self._engine.settings.request_latency + (mishap.slow if mishap is not None else 0.0):
            self._engine.clock.linger(delay)
        dropped = mishap is not None and mishap.drop
        status = 0 if dropped else answer.status_code
        query = request.query_string.decode()
        self._faults.note(Served(request.method, request.path, query, status, self._engine.clock.time()))
        if dropped:
            # After the request is recorded: the client may read the record as soon as the connection is closed.
            _hang_up()
        return answer


def _spoiled(mishap: Mishap) -> Response:
    document = ApiError(mishap.status, mishap.code, f"Injected: {mishap.code}").document(request.path)
    answer = jsonify(document)
    if mishap.body is not None:
        answer.set_data(mishap.body)
    answer.status_code = mishap.status
    answer.headers.update(dict(mishap.headers))
    return answer


def _hang_up() -> None:
    """Close the connection, so that the server cannot send its response."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def _refused(refusal: ApiError) -> tuple[Response, int]:
    return jsonify(refusal.document(request.path)), refusal.status


def _not_served(error: HTTPException) -> tuple[Response, int]:
    status = error.code or 500
    codes = {404: "ClientError.NotFound", 405: "ClientError.MethodNotAllowed"}
    message = f"The simulator has no {request.method} {request.path}"
    return _refused(ApiError(status, codes.get(status, "ClientError.BadRequest"), message))


def _broken(error: Exception) -> tuple[Response, int]:
    log.error("%s %s", request.method, request.path, exc_info=error)
    return _refused(ApiError(500, "InternalError", f"The simulator has a bug: {type(error).__name__}"))
