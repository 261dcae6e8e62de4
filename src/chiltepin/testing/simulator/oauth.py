"""The words of OAuth and of Globus Auth: users, grants, codes, tokens, and what is answered to a bad request."""

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

#: Of ids that are the same in every run.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "simulator.chiltepin")

_OPENID = {"openid", "profile", "email"}


class OAuthError(Exception):
    """What Globus Auth answers to a request that it does not grant.

    Parameters
    ----------
    status : int
        HTTP status.
    error : str
        OAuth's word (RFC 6749, 5.2).
    detail : str
        With it, the answer has the ``errors`` of Globus Auth's own API as well, as in ``globus_sdk.testing``.
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
    """Somebody who can log in."""

    username: str = "scientist@example.org"
    identity_id: str = str(uuid.uuid5(NAMESPACE, "scientist@example.org"))
    name: str = "Ada Scientist"
    email: str = "ada@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token stands for.

    Parameters
    ----------
    scope : str
        Its scopes; `Authority.check` gives the scopes that depend on them as well, as consented to until now, such as
        ``urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/.../data_access]``.
    username, identity_id : str
        Who acts.
    client_id : str
        The client that was trusted with the token.
    resource_server : str
        The service that the token is for.
    expires_at : datetime
        When it ends.
    refresh_token : str
        The refresh token that it came from, or with; empty if there is none.
    is_refresh : bool
        Whether this is the refresh token.
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
        """Return how a token of this grant stands in an answer."""
        entry = {
            "access_token": token,
            "scope": self.scope,
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "token_type": "Bearer",
            "resource_server": self.resource_server,
        }
        # Said again at every refresh: globus_sdk overwrites its own with what it is told, also with nothing.
        return {**entry, "refresh_token": self.refresh_token} if self.refresh_token else entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A login that waits for its client to fetch the tokens."""

    asked: Mapping[str, str]
    user: User
    expires_at: datetime

    def fits(self, client_id: str, form: Mapping[str, str], now: datetime) -> bool:
        """Whether tokens may be given for it: its client, its redirect and its PKCE verifier (RFC 7636, 4.6)."""
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
    """The key of the id tokens, made when it is first needed, for that takes a while."""

    #: Globus Auth's own algorithm (auth.globus.org/.well-known/openid-configuration).
    algorithm = "RS512"

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        """The secret half."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def public(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key."""
        key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {**key, "alg": self.algorithm, "use": "sig", "kid": "simulator"}

    def sign(self, claims: dict[str, Any]) -> str:
        """Return claims as a signed token."""
        return jwt.encode(claims, self.key, algorithm=self.algorithm)


def new_secret() -> str:
    """Return a token that nobody can guess."""
    return "Ag" + secrets.token_urlsafe(40)


#: Services whose scopes name them by UUID, while their tokens do by name (SDK, ``globus_sdk.scopes``).
_SERVICES = {
    "eec9b274-0c81-4334-bdc2-54e90e689b9a": "flows.globus.org",
    "facd7ccc-c5f4-42aa-916b-a0e270e2c2a9": "funcx_service",
}


def service_of(scope: str) -> str:
    """Return the service that a scope belongs to; empty if it is no scope."""
    if scope in _OPENID or scope.startswith("urn:globus:auth:scope:auth.globus.org:"):
        return "auth.globus.org"
    if scope.startswith("urn:globus:auth:scope:"):
        return scope.split(":")[4]
    if scope.startswith("https://auth.globus.org/scopes/"):
        owner = scope.split("/")[4]
        return _SERVICES.get(owner, owner)
    return ""
