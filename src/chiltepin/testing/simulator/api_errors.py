"""Errors of the service: a status, a code and a message."""

from __future__ import annotations

import secrets
from typing import Any

__all__ = ["ApiError", "bad_request", "request_id"]


class ApiError(Exception):
    """A request that gets an error document; ``more`` has additional keys of the document."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more

    def document(self, resource: str) -> dict[str, Any]:
        """Return the error document for a path."""
        return {
            "code": self.code,
            "message": self.message,
            "request_id": request_id(),
            "resource": resource,
            **self.more,
        }


def request_id() -> str:
    """Return an id like those of the service: nine letters and digits."""
    return secrets.token_hex(8)[:9]


def bad_request(message: str, code: str = "ClientError.BadRequest") -> ApiError:
    """Return the error for an invalid request."""
    return ApiError(400, code, message)
