"""The routes of the simulated Globus Auth; `chiltepin.testing.simulator.authority` holds its state."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import Response, jsonify, redirect, request

from chiltepin.testing.simulator.authority import Authority, Grant, OAuthError, User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.testing.simulator.routes import Route

__all__ = ["Authority", "Grant", "User", "auth_routes"]

#: The page with a code that a user copies by hand (globus_sdk, CommandLineLoginFlowManager).
CODE_PAGE = "/v2/web/auth-code"


def auth_routes(authority: Authority) -> tuple[Route, ...]:
    """Return the routes of Globus Auth."""
    views = _Views(authority)
    return (
        ("GET", "/v2/oauth2/authorize", views.authorize),
        ("GET", CODE_PAGE, views.code_page),
        ("POST", "/v2/oauth2/token", views.token),
        ("POST", "/v2/oauth2/token/revoke", views.revoke),
        ("POST", "/v2/oauth2/token/validate", views.validate),
        ("POST", "/v2/oauth2/token/introspect", views.introspect),
        ("GET", "/v2/oauth2/userinfo", views.userinfo),
        ("GET", "/v2/api/identities", views.identities),
        ("GET", "/v2/api/identities/<identity_id>/consents", views.consents),
        ("POST", "/v2/api/clients", views.create_client),
        ("DELETE", "/v2/api/clients/<client_id>", views.delete_client),
        ("GET", "/.well-known/openid-configuration", views.openid_configuration),
        ("GET", "/jwk.json", views.jwk),
    )


class _Views:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def authorize(self) -> Response:
        """Log the user in and redirect the browser with a code; the user approves at once."""
        asked = request.args.to_dict()
        for name in ("client_id", "redirect_uri", "scope"):
            if not asked.get(name):
                raise OAuthError(400, "invalid_request", f"{name} is missing")
        answer = self._authority.authorize(asked)
        if "state" in asked:
            answer["state"] = asked["state"]
        sign = "&" if "?" in asked["redirect_uri"] else "?"
        return redirect(f"{asked['redirect_uri']}{sign}{urlencode(answer)}")  # type: ignore[return-value]

    def code_page(self) -> str:
        """Show the code that a user copies into a terminal."""
        if error := request.args.get("error"):
            return f"<!doctype html><title>Globus simulator</title><p>Not authorized: <em>{_text(error)}</em>\n"
        code = _text(request.args.get("code", ""))
        return f"<!doctype html><title>Globus simulator</title><p>Authorization Code: <code>{code}</code>\n"

    def token(self) -> Response:
        form = request.form.to_dict()
        client_id = self._client(form)
        kind = form.get("grant_type", "")
        if kind == "authorization_code":
            document = self._authority.redeem_code(client_id, form)
        elif kind == "refresh_token":
            document = self._authority.refresh(client_id, form.get("refresh_token", ""))
        elif kind == "client_credentials":
            if "Authorization" not in request.headers:
                raise OAuthError(401, "invalid_client")
            document = self._authority.client_tokens(client_id, form.get("scope", ""))
        else:
            raise OAuthError(400, "unsupported_grant_type")
        return jsonify(document)

    def revoke(self) -> Response:
        """Revoke a token; an unknown token counts as revoked (RFC 7009, 2.2)."""
        self._authority.revoke(request.form.get("token", ""))
        return jsonify({"active": False})

    def validate(self) -> Response:
        self._client(request.form.to_dict())
        return jsonify({"active": self._authority.known(request.form.get("token", "")) is not None})

    def introspect(self) -> Response:
        self._client(request.form.to_dict())
        include = request.form.get("include", "").split(",")
        return jsonify(self._authority.introspect(request.form.get("token", ""), include))

    def userinfo(self) -> Response:
        grant = self._bearer("openid")
        return jsonify(self._authority.userinfo(grant))

    def identities(self) -> Response:
        self._bearer()
        names = request.args.get("usernames", "").split(",")
        ids = request.args.get("ids", "").split(",")
        return jsonify({"identities": self._authority.identities(names, ids)})

    def consents(self, identity_id: str) -> Response:
        grant = self._bearer()
        if grant.identity_id != identity_id:
            raise OAuthError(403, "forbidden", "FORBIDDEN")
        return jsonify({"consents": self._authority.consents(grant.client_id, identity_id)})

    def create_client(self) -> tuple[Response, int]:
        """Create a confidential client for a native client, as ``globus login`` does."""
        body = request.get_json(silent=True) or {}
        return jsonify(self._authority.create_client(body.get("client", {}))), 201

    def delete_client(self, client_id: str) -> Response:
        self._client({})
        return jsonify(self._authority.delete_client(client_id))

    def openid_configuration(self) -> Response:
        """Describe the routes; clients need the keys and the algorithm to read an id token."""
        host = request.host_url
        return jsonify(
            {
                "issuer": self._authority.issuer,
                "authorization_endpoint": f"{host}v2/oauth2/authorize",
                "token_endpoint": f"{host}v2/oauth2/token",
                "revocation_endpoint": f"{host}v2/oauth2/token/revoke",
                "userinfo_endpoint": f"{host}v2/oauth2/userinfo",
                "jwks_uri": f"{host}jwk.json",
                "response_types_supported": ["code", "token", "token id_token", "id_token"],
                "id_token_signing_alg_values_supported": [self._authority.signing.algorithm],
                "scopes_supported": ["openid", "email", "profile"],
                "subject_types_supported": ["public"],
            }
        )

    def jwk(self) -> Response:
        return jsonify({"keys": [self._authority.signing.public]})

    def _client(self, form: Mapping[str, str]) -> str:
        """Return the client of the request: confidential with its secret, or native with its id only."""
        secret = None
        client_id = form.get("client_id", "")
        if request.headers.get("Authorization", "").startswith("Basic "):
            client_id, secret = _basic(request.headers["Authorization"])
        if not self._authority.knows_client(client_id, secret):
            raise OAuthError(401, "invalid_client")
        return client_id

    def _bearer(self, scope: str = "") -> Grant:
        """Return the grant of the caller's token, which must be valid for Globus Auth."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._authority.check(token) if scheme == "Bearer" else None
        if grant is None:
            raise OAuthError(401, "unauthorized", "Call must be authenticated")
        if grant.resource_server != "auth.globus.org" or (scope and scope not in grant.scope.split()):
            raise OAuthError(403, "forbidden", "FORBIDDEN")
        return grant


def _basic(header: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(header.removeprefix("Basic "), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthError(401, "invalid_client") from None
    return name, secret


def _text(value: str) -> str:
    """Return a text that is safe in HTML; codes and error names have no other characters."""
    return "".join(letter for letter in value if letter.isalnum() or letter in "-_")
