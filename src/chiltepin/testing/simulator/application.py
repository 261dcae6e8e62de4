"""The simulated services as one web application."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from chiltepin.testing.simulator.api_errors import ApiError
from chiltepin.testing.simulator.auth import auth_blueprint
from chiltepin.testing.simulator.endpoint_api import add_endpoint_routes
from chiltepin.testing.simulator.faults import Served
from chiltepin.testing.simulator.file_api import add_file_routes
from chiltepin.testing.simulator.request_guard import RequestGuard
from chiltepin.testing.simulator.task_api import add_task_routes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.testing.simulator.authority import Authority
    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.engine import Engine
    from chiltepin.testing.simulator.faults import Faults, Mishap

__all__ = ["application"]

log = logging.getLogger(__name__)


def application(engine: Engine, authority: Authority, faults: Faults, collections: Mapping[str, Collection]) -> Flask:
    """Return the application that speaks for all the parts."""
    app = Flask(__name__, static_folder=None)
    gate = RequestGuard(authority, collections)
    transfer = Blueprint("transfer", __name__, url_prefix="/v0.10")
    add_task_routes(transfer, gate, engine)
    add_file_routes(transfer, gate, engine.settings)
    add_endpoint_routes(transfer, gate, engine, collections)
    door = _Door(gate, engine, faults)
    # Mishaps come first: a service that is down does not look at tokens.
    app.before_request(door.suffer)
    transfer.before_request(door.admit)
    app.after_request(door.leave)
    app.register_error_handler(ApiError, _refused)
    app.register_error_handler(HTTPException, _not_served)
    app.register_error_handler(Exception, _broken)
    app.register_blueprint(transfer)
    app.register_blueprint(auth_blueprint(authority))
    return app


class _Door:
    """What every request passes on its way in and out."""

    def __init__(self, gate: RequestGuard, engine: Engine, faults: Faults) -> None:
        self._gate, self._engine, self._faults = gate, engine, faults

    def suffer(self) -> Response | None:
        """Let a mishap happen before anything is done."""
        # Read in any case: what is left of a body would be taken for the next request of the connection.
        request.get_data()
        g.mishap = self._faults.take(request.method, request.path)
        if g.mishap is None or g.mishap.after or g.mishap.slow:
            return None
        return _spoiled(g.mishap)

    def admit(self) -> Response | None:
        """Let in who has a token and does not ask too often."""
        header = request.headers.get("Authorization")
        g.grant = self._gate.bearer(header)
        wait = self._faults.wait_for(str(header), self._engine.clock.time())
        if not wait:
            return None
        refusal = ApiError(429, "ClientError.TooManyRequests", "The rate limit has been reached; slow down")
        answer = jsonify(refusal.document(request.path))
        answer.status_code = refusal.status
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer

    def leave(self, answer: Response) -> Response:
        """Lose the answer if that is wanted, and note the request."""
        mishap: Mishap | None = g.get("mishap")
        if mishap is not None and mishap.after:
            answer = _spoiled(mishap)
        if self._faults.rewrite is not None and answer.is_json:
            told = self._faults.rewrite(request.method, request.path, answer.get_json())
            answer.set_data(json.dumps(told))
        if mishap is not None and mishap.slow:
            self._engine.clock.linger(mishap.slow)
        dropped = mishap is not None and mishap.drop
        status = 0 if dropped else answer.status_code
        query = request.query_string.decode()
        self._faults.note(Served(request.method, request.path, query, status, self._engine.clock.time()))
        if dropped:
            # Not before it is noted: whoever is hung up on may look at once.
            _hang_up()
        return answer


def _spoiled(mishap: Mishap) -> Response:
    """Return the answer that a mishap gives."""
    document = ApiError(mishap.status, mishap.code, f"Injected: {mishap.code}").document(request.path)
    answer = jsonify(document)
    if mishap.body is not None:
        answer.set_data(mishap.body)
    answer.status_code = mishap.status
    answer.headers.update(dict(mishap.headers))
    return answer


def _hang_up() -> None:
    """Close the connection under the server, which then cannot send its answer."""
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
