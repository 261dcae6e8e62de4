"""The state of the simulated Globus Auth: clients, logins, tokens and consents, behind the routes of `auth`."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chiltepin.model import UUID
from chiltepin.testing.simulator.consents import Consents, parse
from chiltepin.testing.simulator.oauth import (
    ACCESS_LIFE,
    NAMESPACE,
    Code,
    Grant,
    OAuthError,
    Signing,
    User,
    new_secret,
    service_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chiltepin.testing.simulator.clock import Clock

__all__ = ["Authority", "Grant", "OAuthError", "User"]

#: A refresh token expires after six months without use (docs.globus.org, Auth, "refresh tokens").
REFRESH_LIFE = timedelta(days=180)

#: Longest time between the login page and the exchange of its code.
CODE_LIFE = timedelta(minutes=10)

_PROVIDER = str(uuid.uuid5(NAMESPACE, "provider"))

_PROVIDER_ENTRY = {
    "identity_provider": _PROVIDER,
    "identity_provider_display_name": "Example Organization",
    "organization": "Example",
}


class Authority:
    """The state of a simulated Globus Auth; safe to use from many threads.

    Parameters
    ----------
    clock : ManualClock or RunningClock
        The clock by which tokens expire.

    Attributes
    ----------
    user : User
        The user of the next login.
    client_id, client_secret : str
        Credentials of a service account that always exists.
    approves : bool
        Whether the user grants what the login page requests.
    logins : list of dict
        The query of each login page, oldest first.
    """

    issuer = "https://auth.globus.org"
    client_id = str(uuid.uuid5(NAMESPACE, "service"))
    client_secret = "simulated-secret"  # noqa: S105 - opens nothing but the simulator

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.user = User()
        self.approves = True
        self.logins: list[dict[str, str]] = []
        self.signing = Signing()
        self._lock = threading.RLock()
        self._secrets = {self.client_id: self.client_secret}
        self._deleted: set[str] = set()
        self._codes: dict[str, Code] = {}
        self._grants: dict[str, Grant] = {}
        self._consents = Consents()

    @property
    def scope_exists(self) -> Callable[[str], bool]:
        """Whether a service has a scope; a collection without data access, for example, has no such scope."""
        return self._consents.exists

    @scope_exists.setter
    def scope_exists(self, exists: Callable[[str], bool]) -> None:
        self._consents.exists = exists

    # For tests and the other services.

    def issue(self, scopes: str, resource_server: str = "transfer.api.globus.org") -> str:
        """Return an access token of the user, without a login and with separate consents."""
        client_id = str(uuid.uuid4())
        with self._lock:
            parsed = self._consents.note(client_id, self.user.identity_id, scopes, self.clock.now())
            scope = " ".join(one.scope_string for one in parsed)
            return self._keep(self._new_grant(client_id, self.user, resource_server, scope))

    def check(self, token: str) -> Grant | None:
        """Return the grant of an access token, with the consents of its client; None if it is not valid."""
        with self._lock:
            grant = self.known(token)
            if grant is None or grant.is_refresh:
                return None
            scope = self._consents.complete(grant.client_id, grant.identity_id, grant.scope)
            return replace(grant, scope=scope)

    def revoke_all(self) -> None:
        """Revoke every token, including refresh tokens."""
        with self._lock:
            self._grants.clear()

    def expire_all(self) -> None:
        """Expire every access token, but no refresh token."""
        with self._lock:
            self._grants = {token: grant for token, grant in self._grants.items() if grant.is_refresh}

    def forget_consents(self) -> None:
        """Withdraw every consent."""
        with self._lock:
            self._consents.clear()

    def has_session(self, wanted: Mapping[str, Any]) -> bool:
        """Whether earlier logins fulfill authorization parameters: any of the domains, and everything else."""

        def had(name: str, value: str) -> bool:
            return any(value in login.get(name, "").split(",") for login in self.logins)

        domains = wanted.get("session_required_single_domain") or ()
        others = [
            (name, value)
            for name in ("session_required_identities", "session_required_policies")
            for value in wanted.get(name) or ()
        ]
        mfa = not wanted.get("session_required_mfa") or any("session_required_mfa" in login for login in self.logins)
        one = not domains or any(had("session_required_single_domain", domain) for domain in domains)
        return mfa and one and all(had(name, value) for name, value in others)

    # For the routes.

    def known(self, token: str) -> Grant | None:
        """Return the grant of a valid token of any kind."""
        grant = self._grants.get(token)
        return grant if grant and grant.expires_at > self.clock.now() else None

    def knows_client(self, client_id: str, secret: str | None) -> bool:
        """Whether a client is known: by its secret, or, without one, by an id that is a UUID."""
        if client_id in self._deleted:
            return False
        if secret is None:
            return client_id not in self._secrets and UUID.fullmatch(client_id) is not None
        # The globus command keeps its client from one run to the next.
        return secrets.compare_digest(secret, self._secrets.get(client_id, _secret_of(client_id)))

    def authorize(self, asked: dict[str, str]) -> dict[str, str]:
        """Answer a login page as the user does; return the query of the redirect."""
        with self._lock:
            self.logins.append(asked)
            if not self.approves:
                return {"error": "access_denied"}
            self._consents.note(asked["client_id"], self.user.identity_id, asked["scope"], self.clock.now())
            code = new_secret()
            self._codes[code] = Code(asked=asked, user=self.user, expires_at=self.clock.now() + CODE_LIFE)
            return {"code": code}

    def redeem_code(self, client_id: str, form: Mapping[str, str]) -> dict[str, Any]:
        """Return the tokens of a login; a code can be used once."""
        with self._lock:
            code = self._codes.pop(form.get("code", ""), None)
            if code is None or not code.fits(client_id, form, self.clock.now()):
                raise OAuthError(401, "invalid_grant")
            offline = code.asked.get("access_type") == "offline"
            document = self._token_document(client_id, code.user, code.asked["scope"], offline=offline)
            return {**document, "state": code.asked.get("state", "_default")}

    def refresh(self, client_id: str, refresh_token: str) -> dict[str, Any]:
        """Return a new access token; the refresh token stays valid, and its lifetime starts again."""
        with self._lock:
            grant = self.known(refresh_token)
            if grant is None or not grant.is_refresh or grant.client_id != client_id:
                raise OAuthError(401, "invalid_grant")
            self._grants[refresh_token] = replace(grant, expires_at=self.clock.now() + REFRESH_LIFE)
            expires_at = self.clock.now() + ACCESS_LIFE
            access = replace(grant, is_refresh=False, refresh_token=refresh_token, expires_at=expires_at)
            return {**access.entry(self._keep(access)), "other_tokens": []}

    def client_tokens(self, client_id: str, scopes: str) -> dict[str, Any]:
        """Return the tokens of a client that acts as itself."""
        user = User(username=f"{client_id}@clients.auth.globus.org", identity_id=client_id, name="Service", email="")
        with self._lock:
            self._consents.note(client_id, client_id, scopes, self.clock.now())
            document = self._token_document(client_id, user, scopes, offline=False)
            document.pop("id_token", None)
            return document

    def revoke(self, token: str) -> None:
        """Revoke a token, and with a refresh token its access tokens."""
        with self._lock:
            ended = self._grants.pop(token, None)
            if ended and ended.is_refresh:
                self._grants = {name: grant for name, grant in self._grants.items() if grant.refresh_token != token}

    def introspect(self, token: str, include: Iterable[str]) -> dict[str, Any]:
        """Return the claims of a token (RFC 7662)."""
        grant = self.known(token)
        if grant is None:
            return {"active": False}
        issued = int((grant.expires_at - ACCESS_LIFE).timestamp())
        document = {
            "active": True,
            "token_type": "Bearer",
            "scope": grant.scope,
            "client_id": grant.client_id,
            "username": grant.username,
            "sub": grant.identity_id,
            "exp": int(grant.expires_at.timestamp()),
            "iat": issued,
            "nbf": issued,
            "aud": [grant.resource_server, grant.client_id],
            "iss": self.issuer,
            "name": self.user.name,
            "email": self.user.email,
        }
        if "session_info" in include:
            login: dict[str, Any] = {
                "acr": None,
                "amr": None,
                "auth_time": issued,
                "custom_claims": {},
                "idp": _PROVIDER,
            }
            session = {"session_id": str(uuid.uuid5(NAMESPACE, token)), "authentications": {grant.identity_id: login}}
            document["session_info"] = session
        return document

    def userinfo(self, grant: Grant) -> dict[str, Any]:
        """Return the claims of the bearer of a token (OpenID Connect)."""
        who: dict[str, Any] = {"sub": grant.identity_id, "preferred_username": grant.username, **_PROVIDER_ENTRY}
        if grant.identity_id == self.user.identity_id:
            who |= {"name": self.user.name, "email": self.user.email}
        who["last_authentication"] = int(self.clock.now().timestamp())
        return {**who, "identity_set": [{**who, "username": grant.username}]}

    def identities(self, names: Iterable[str], ids: Iterable[str]) -> list[dict[str, Any]]:
        """Return the identities with these names or ids; only one can match."""
        user = self.user
        client = f"{self.client_id}@clients.auth.globus.org"
        if self.client_id in ids or client in names:
            known = {"id": self.client_id, "username": client, "name": "Chiltepin", "email": None}
        elif user.username in names or user.identity_id in ids:
            known = {"id": user.identity_id, "username": user.username, "name": user.name, "email": user.email}
        else:
            return []
        more = {"status": "used", "identity_type": "login", "identity_provider": _PROVIDER, "organization": "Example"}
        return [known | more]

    def consents(self, client_id: str, identity_id: str) -> list[dict[str, Any]]:
        """Return the consents that a user gave to a client."""
        with self._lock:
            return self._consents.documents(client_id, identity_id)

    def create_client(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Create a confidential client, and return it with its secret."""
        client_id = str(uuid.uuid4())
        secret = _secret_of(client_id)
        with self._lock:
            self._secrets[client_id] = secret
        now = self.clock.now().isoformat()
        credential = {"client": client_id, "secret": secret, "id": str(uuid.uuid4()), "name": "", "created": now}
        client = {"id": client_id, "name": wanted.get("name", ""), "public_client": False, "scopes": []}
        return {"client": client, "included": {"client_credential": credential}}

    def delete_client(self, client_id: str) -> dict[str, Any]:
        """Delete a client."""
        with self._lock:
            if self._secrets.pop(client_id, None) is None:
                raise OAuthError(404, "not_found", "NOT_FOUND")
            self._deleted.add(client_id)
        return {"client": {"id": client_id}}

    def _token_document(self, client_id: str, user: User, scopes: str, *, offline: bool) -> dict[str, Any]:
        by_service: dict[str, list[str]] = {}
        for scope in parse(scopes):
            by_service.setdefault(service_of(scope.scope_string), []).append(scope.scope_string)
        entries = []
        for service, names in by_service.items():
            grant = self._new_grant(client_id, user, service, " ".join(names))
            if offline:
                lasting = replace(grant, is_refresh=True, expires_at=self.clock.now() + REFRESH_LIFE)
                grant = replace(grant, refresh_token=self._keep(lasting))
            entries.append(grant.entry(self._keep(grant)))
        document = {**entries[0], "other_tokens": entries[1:]}
        if "openid" in by_service.get("auth.globus.org", ()):
            document["id_token"] = self._id_token(client_id, user)
        return document

    def _id_token(self, client_id: str, user: User) -> str:
        # Real time, not the time of the simulator's clock: the client compares it with its own clock.
        now = int(time.time())
        who = {"sub": user.identity_id, "preferred_username": user.username, "name": user.name, "email": user.email}
        return self.signing.sign({**who, "iss": self.issuer, "aud": client_id, "iat": now, "exp": now + 172800})

    def _new_grant(self, client_id: str, user: User, service: str, scope: str) -> Grant:
        return Grant(
            scope=scope,
            username=user.username,
            identity_id=user.identity_id,
            client_id=client_id,
            resource_server=service,
            expires_at=self.clock.now() + ACCESS_LIFE,
        )

    def _keep(self, grant: Grant) -> str:
        token = new_secret()
        self._grants[token] = grant
        return token


def _secret_of(client_id: str) -> str:
    """Return the secret of a client; the same in every simulator, because the globus command keeps its client."""
    return str(uuid.uuid5(NAMESPACE, f"secret of {client_id}"))
