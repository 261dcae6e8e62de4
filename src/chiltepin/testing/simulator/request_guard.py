"""The checks of each request to the Transfer API: token, consent, session, collection."""

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
    """Checks requests; each method raises `ApiError` with the status that it names."""

    def __init__(self, authority: Authority, collections: Mapping[str, Collection]) -> None:
        self._authority, self._collections = authority, collections

    def bearer(self, header: str | None) -> Grant:
        """Return the grant of the token; 401 if it is missing or not valid for the Transfer API."""
        kind, _, token = (header or "").partition(" ")
        grant = self._authority.check(token) if kind == "Bearer" else None
        if grant is None or SCOPE not in grant.scope:
            raise ApiError(401, "AuthenticationFailed", "Token is not active")
        return grant

    def collection(self, collection_id: str) -> Collection:
        """Return a collection; 404 if the id is unknown."""
        found = self._collections.get(collection_id.lower())
        if found is None:
            raise ApiError(404, "EndpointNotFound", f"No such endpoint '{collection_id}'")
        return found

    def consented(self, grant: Grant, collection: Collection) -> None:
        """Check that the token gives access to the data of a collection; 403 with the missing scope."""
        if collection.needs_consent and collection.consent_scope not in grant.scope:
            required = f"{SCOPE}[*{collection.consent_scope}]"
            message = "Missing required data_access consent"
            raise ApiError(403, "ConsentRequired", message, required_scopes=[required])

    def reachable(self, grant: Grant, collection: Collection) -> None:
        """Check that the files of a collection can be used now.

        As `consented`; 409 if it is paused; 502 if it is not connected, or requires another login.
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
