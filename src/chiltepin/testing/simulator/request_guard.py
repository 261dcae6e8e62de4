"""What every request to the Transfer API passes: token, consent, session, collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chiltepin.testing.simulator.api_errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.testing.simulator.authority import Authority, Grant
    from chiltepin.testing.simulator.collection import Collection

__all__ = ["RequestGuard"]

SCOPE = "urn:globus:auth:scope:transfer.api.globus.org:all"


class RequestGuard:
    """Who may come in.

    Parameters
    ----------
    authority : Authority
        Knows the tokens.
    collections : mapping
        Collections by id.
    """

    def __init__(self, authority: Authority, collections: Mapping[str, Collection]) -> None:
        self._authority, self._collections = authority, collections

    def bearer(self, header: str | None) -> Grant:
        """Return who asks.

        Raises
        ------
        ApiError
            401 if there is no token, or none that is good for the Transfer API.
        """
        kind, _, token = (header or "").partition(" ")
        grant = self._authority.check(token) if kind == "Bearer" else None
        if grant is None or SCOPE not in grant.scope:
            raise ApiError(401, "AuthenticationFailed", "Token is not active")
        return grant

    def collection(self, collection_id: str) -> Collection:
        """Return a collection.

        Raises
        ------
        ApiError
            404 if there is none of that id.
        """
        found = self._collections.get(collection_id.lower())
        if found is None:
            raise ApiError(404, "EndpointNotFound", f"No such endpoint '{collection_id}'")
        return found

    def consented(self, grant: Grant, collection: Collection) -> None:
        """Let through whom the token gives access to the data of a collection.

        Raises
        ------
        ApiError
            403 with the scope that is missing.
        """
        if collection.needs_consent and collection.consent_scope not in grant.scope:
            required = f"{SCOPE}[*{collection.consent_scope}]"
            message = "Missing required data_access consent"
            raise ApiError(403, "ConsentRequired", message, required_scopes=[required])

    def reachable(self, grant: Grant, collection: Collection) -> None:
        """Let through what can be asked of the files of a collection now.

        Raises
        ------
        ApiError
            As `consented`; 409 if it is paused; 502 if it is off, or wants a newer login.
        """
        self.consented(grant, collection)
        if collection.paused:
            raise ApiError(409, "OperationPaused", f"Operations on '{collection.display_name}' are paused")
        if not collection.connected:
            message = f"The Globus Connect Personal endpoint '{collection.display_name}' is not connected to Globus"
            raise ApiError(502, "ExternalError.DirListingFailed.GCDisconnected", message)
        wanted = collection.session_parameters
        if not self._authority.has_session(wanted):
            raise ApiError(
                502,
                "ExternalError.DirListingFailed.LoginFailed",
                f"Login to '{collection.display_name}' failed: a session of another kind is required",
                authorization_parameters=wanted,
            )
