"""The one route of Globus Compute that its SDK calls when a program logs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import jsonify

if TYPE_CHECKING:
    from flask import Response

    from chiltepin.testing.simulator.routes import Route

__all__ = ["compute_routes"]


def compute_routes() -> tuple[Route, ...]:
    """Return the route; it needs no login, as at the service."""
    return (("GET", "/v2/version", version),)


def version() -> Response:
    """Return the lowest versions that the service accepts: any (globus_compute_sdk, ``Client.version_check``)."""
    return jsonify(api="1.0.0", min_sdk_version="0.0.0", min_ep_version="0.0.0")
