"""The terms of OAuth and Globus Auth: users, grants, codes, tokens and errors."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ACCESS_LIFE", "NAMESPACE", "Code", "Grant", "OAuthError", "Signing", "User", "new_secret", "service_of"]

#: ``expires_in`` of the tokens that globus_sdk.testing ships.
ACCESS_LIFE = timedelta(seconds=172800)

#: The namespace of ids that are the same in every run.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "simulator.chiltepin")

_OPENID = {"openid", "profile", "email"}


class OAuthError(Exception):
    """An error of Globus Auth: the HTTP status, and the code of OAuth (RFC 6749, 5.2).

    With ``detail``, the response also has the ``errors`` of the Globus Auth API, as in ``globus_sdk.testing``.
    """

    def __init__(self, status: int, error: str, detail: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.document: dict[str, Any] = {"error": error}
        if detail:
            title = error.replace("_", " ").capitalize()
            entry = {"status": str(status), "id": str(uuid.uuid4()), "code": error.upper(), "detail": detail}
            self.document |= {"error_description": title, "errors": [{**entry, "title": title}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user who can log in."""

    username: str = "scientist@example.org"
    identity_id: str = str(uuid.uuid5(NAMESPACE, "scientist@example.org"))
    name: str = "Ada Scientist"
    email: str = "ada@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The rights of a token: its scopes, user, client, service and expiry, and its refresh token, if any.

    `Authority.check` adds the scope dependencies that the user consented to, such as
    ``urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/.../data_access]``.
    """

    scope: str
    username: str
    identity_id: str
    client_id: str
    resource_server: str
    expires_at: datetime
    refresh_token: str = field(default="", repr=False)
    is_refresh: bool = False

    def entry(self, token: str) -> dict[str, Any]:
        """Return the entry of a token of this grant in a response."""
        entry = {
            "access_token": token,
            "scope": self.scope,
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "token_type": "Bearer",
            "resource_server": self.resource_server,
        }
        # Sent at every refresh: globus_sdk overwrites its refresh token, even if the response has none.
        return {**entry, "refresh_token": self.refresh_token} if self.refresh_token else entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A login that waits for its client to fetch the tokens."""

    asked: Mapping[str, str]
    user: User
    expires_at: datetime

    def fits(self, client_id: str, form: Mapping[str, str], now: datetime) -> bool:
        """Whether a client may redeem it: its client id, redirect and PKCE verifier match (RFC 7636, 4.6)."""
        asked = self.asked
        if (
            asked["client_id"] != client_id
            or asked["redirect_uri"] != form.get("redirect_uri")
            or now > self.expires_at
        ):
            return False
        challenge = asked.get("code_challenge")
        if challenge is None:
            return True
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        return secrets.compare_digest(challenge, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


class Signing:
    """The key of the id tokens, generated when it is first needed, because that is slow."""

    #: The algorithm of Globus Auth (auth.globus.org/.well-known/openid-configuration).
    algorithm = "RS512"

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        """The private key."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def public(self) -> dict[str, Any]:
        """The public key, as a JSON Web Key."""
        key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {**key, "alg": self.algorithm, "use": "sig", "kid": "simulator"}

    def sign(self, claims: dict[str, Any]) -> str:
        """Return claims as a signed token."""
        return jwt.encode(claims, self.key, algorithm=self.algorithm)


def new_secret() -> str:
    """Return a random token."""
    return "Ag" + secrets.token_urlsafe(40)


#: Services that have a UUID in scopes and a name in tokens (SDK, ``globus_sdk.scopes``).
_SERVICES = {
    "eec9b274-0c81-4334-bdc2-54e90e689b9a": "flows.globus.org",
    "facd7ccc-c5f4-42aa-916b-a0e270e2c2a9": "funcx_service",
}


def service_of(scope: str) -> str:
    """Return the service of a scope; empty if the scope is invalid."""
    if scope in _OPENID or scope.startswith("urn:globus:auth:scope:auth.globus.org:"):
        return "auth.globus.org"
    if scope.startswith("urn:globus:auth:scope:"):
        return scope.split(":")[4]
    if scope.startswith("https://auth.globus.org/scopes/"):
        owner = scope.split("/")[4]
        return _SERVICES.get(owner, owner)
    return ""
