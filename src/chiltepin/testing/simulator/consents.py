"""The consents that users have given to clients, and their documents."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from globus_sdk.scopes import Scope, ScopeParseError, ScopeParser

from chiltepin.testing.simulator.oauth import NAMESPACE, OAuthError, service_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["Consents", "parse"]

#: The consents of one user to one client, by the path of scopes that leads to each.
_Given = dict[tuple[str, ...], dict[str, Any]]


def parse(scopes: str) -> list[Scope]:
    """Return scopes with their dependencies; 400 if they cannot be parsed."""
    try:
        parsed = ScopeParser.parse(scopes)
    except ScopeParseError:
        parsed = []
    if not parsed:
        raise OAuthError(400, "invalid_scope")
    return parsed


class Consents:
    """The consents of all users; the caller holds a lock.

    ``exists`` tells whether a service has a scope.
    """

    def __init__(self) -> None:
        self.exists: Callable[[str], bool] = lambda scope: True  # noqa: ARG005 - documents the argument
        self._given: dict[tuple[str, str], _Given] = {}

    def clear(self) -> None:
        """Withdraw all consents."""
        self._given.clear()

    def note(self, client_id: str, identity_id: str, scopes: str, now: datetime) -> list[Scope]:
        """Record the consent to scopes and their dependencies; return the scopes.

        If no service has one of the scopes, the response is 400 and nothing is recorded.
        """
        parsed = parse(scopes)
        waiting: list[tuple[tuple[str, ...], Scope]] = [((scope.scope_string,), scope) for scope in parsed]
        found = []
        while waiting:
            path, scope = waiting.pop(0)
            if not service_of(path[-1]) or not self.exists(path[-1]):
                raise OAuthError(400, "unknown_scope", f"Unknown Scope: {path[-1]}")
            found.append((path, scope))
            waiting += [((*path, below.scope_string), below) for below in scope.dependencies]
        given = self._given.setdefault((client_id, identity_id), {})
        for path, scope in found:
            if path not in given:
                given[path] = _document(client_id, identity_id, path, scope, given, now)
        return parsed

    def documents(self, client_id: str, identity_id: str) -> list[dict[str, Any]]:
        """Return the consents of a user to a client."""
        return list(self._given.get((client_id, identity_id), {}).values())

    def complete(self, client_id: str, identity_id: str, scope: str) -> str:
        """Return scopes with the dependencies that the user consented to, in brackets."""
        given = self._given.get((client_id, identity_id), {})
        return " ".join(_with_dependencies((name,), given) for name in scope.split())


def _document(
    client_id: str, identity_id: str, path: tuple[str, ...], scope: Scope, given: _Given, now: datetime
) -> dict[str, Any]:
    number = len(given) + 1
    above = given[path[:-1]]["dependency_path"] if len(path) > 1 else []
    moment = now.isoformat()
    return {
        "id": number,
        "client": client_id if not above else str(uuid.uuid5(NAMESPACE, service_of(path[-2]))),
        "scope": str(uuid.uuid5(NAMESPACE, path[-1])),
        "scope_name": path[-1],
        "dependency_path": [*above, number],
        "effective_identity": identity_id,
        "created": moment,
        "updated": moment,
        "last_used": moment,
        "status": "approved",
        "allows_refresh": True,
        "auto_approved": False,
        "atomically_revocable": scope.optional,
    }


def _with_dependencies(path: tuple[str, ...], given: _Given) -> str:
    below = [other for other in given if len(other) == len(path) + 1 and other[:-1] == path]
    inner = " ".join(
        ("*" if given[other]["atomically_revocable"] else "") + _with_dependencies(other, given) for other in below
    )
    return f"{path[-1]}[{inner}]" if inner else path[-1]
