"""Helpers that the routes of all services share: registration, and the document of a plain result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, jsonify, request

from chiltepin.testing.simulator.api_errors import request_id

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Route", "add_routes", "result"]

#: An HTTP method, a path, and the view function.
Route = tuple[str, str, Callable[..., Any]]


def add_routes(service: Flask | Blueprint, routes: Iterable[Route]) -> None:
    """Add routes to an application, or to a part of one."""
    for method, path, view in routes:
        service.add_url_rule(path, view.__name__, view, methods=[method])


def result(code: str, message: str, data_type: str = "result") -> Response:
    """Return the document of a request that was performed at once."""
    return jsonify(DATA_TYPE=data_type, code=code, message=message, request_id=request_id(), resource=request.path)
