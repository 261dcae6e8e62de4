"""Log in to Globus, log out, and show the identity: the functions behind the commands."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import globus_sdk
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.login_flows import LocalServerEnvironmentalLoginError
from globus_sdk.scopes import AuthScopes
from globus_sdk.transport import RetryConfig

from chiltepin.backends.globus import auth
from chiltepin.backends.globus.auth_errors import call_auth
from chiltepin.backends.globus.collections import Collections
from chiltepin.backends.globus.credentials import Credentials, choose_credentials, variables
from chiltepin.backends.globus.errors import call_globus
from chiltepin.backends.globus.transport import bounded
from chiltepin.errors import BackendError, ChiltepinError, ConsentRequiredError, LoginRequiredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Identity", "Session", "login", "logout", "whoami"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity that is logged in.

    Parameters
    ----------
    username : str
        Such as ``user@example.org``.
    identity_id : str
        Its UUID at Globus Auth.
    client_id : str
        The client that acts for it.
    is_service : bool
        Whether the client acts for itself, with credentials from the environment.
    """

    username: str
    identity_id: str
    client_id: str
    is_service: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A site's requirements for a login: one of the domains, all identities and policies, and a second factor."""

    domains: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    mfa: bool = False

    @property
    def is_required(self) -> bool:
        """Whether there is any requirement."""
        return bool(self.domains or self.identities or self.policies or self.mfa)


def login(
    client_id: str | None = None,
    *,
    places: Mapping[str, Mapping[str, Any]] | None = None,
    consent: Iterable[str] = (),
    session: Session | None = None,
    force: bool = False,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> Identity:
    """Log a user in and store the login, unless a sufficient login exists.

    Parameters
    ----------
    client_id : str or None
        ``data: globus: client_id:`` of the settings; None if it is not set.
    places : mapping, optional
        The declared endpoints, for the names in ``consent``.
    consent : iterable of str
        Endpoints whose data Chiltepin needs access to: names, UUIDs or display names.
    session : Session, optional
        The requirements of a site.
    force : bool
        Log in again even if a login exists.
    browser : bool
        Whether to open a browser on this machine. If not, the user opens a link on any machine, and enters a code.
    say : callable
        Prints a message.

    Raises
    ------
    LoginRequiredError
        If the login was not completed.
    EndpointError
        If an endpoint in ``consent`` is unknown, or has no data.
    ServiceUnavailableError
        If Globus did not respond.
    """
    who = choose_credentials(client_id)
    session = session or Session()
    if who.is_service and session.is_required:
        raise LoginRequiredError(
            f"Service credentials are set, which have no session; unset {' and '.join(variables())}, "
            "and repeat the command."
        )
    if who.is_service:
        identity = whoami(client_id)
        say(f"Service credentials of {identity.username} are set in the environment; no login is needed.")
    else:
        present = None if force or session.is_required else _current_identity(client_id)
        if present is None:
            _run(who, _parameters(session, force=force), browser=browser)
        identity = present or whoami(client_id)
        say(f"{'Already logged' if present else 'Logged'} in as {identity.username}.")
    # After the login: only the Transfer service knows which collections require a consent, and it requires a login.
    wanted = _missing_consents(client_id, places or {}, consent, say, force=force)
    if wanted:
        if not who.is_service:
            scope = str(auth.data_access(wanted.values()))
            _run(who, GlobusAuthorizationParameters(required_scopes=[scope]), browser=browser)
        with auth.transfer_client(client_id) as client:
            # The page lets the user deny each consent.
            auth.require_data_access(client, {place: name for name, place in wanted.items()})
        say(f"Chiltepin can now access the data of {' and '.join(wanted)}.")
    return identity


def logout(client_id: str | None = None) -> bool:
    """Revoke the stored login at Globus and delete it; return whether there was one.

    If Globus does not respond, raise a ServiceUnavailableError, and keep the login.
    """
    who = choose_credentials(client_id)
    if who.is_service or not auth.user_tokens(who).get_token_data_by_resource_server():
        return False
    with auth.make_app(who) as app:
        call_auth(lambda: app.logout(sweep=True))
    return True


def whoami(client_id: str | None = None) -> Identity:
    """Return the user's identity from Globus Auth; raise a LoginRequiredError if the user is not logged in."""
    who = choose_credentials(client_id)
    with bounded(
        globus_sdk.AuthClient(
            authorizer=auth.authorizer(AuthScopes.resource_server, client_id), retry_config=RetryConfig(max_retries=2)
        )
    ) as client:
        # Strings, not the response, which holds the request with the token.
        username, identity_id = call_auth(lambda: _names(client.userinfo(), "preferred_username", "sub"))
    return Identity(
        username=username,
        identity_id=identity_id,
        client_id=who.client_id,
        is_service=who.is_service,
    )


def _names(answer: Any, *keys: str) -> list[str]:
    names = [answer[key] for key in keys]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("no name")
    return names


def _current_identity(client_id: str | None) -> Identity | None:
    """Return the user, if both services accept the login: their tokens are separate and expire separately."""
    try:
        identity = whoami(client_id)
        with auth.transfer_client(client_id) as client:
            call_globus(lambda: client.get_submission_id().http_status, "Trying the login")
    except LoginRequiredError:
        return None
    except BackendError:
        # For example, Transfer is down; a new login would not change that.
        return whoami(client_id)
    return identity


def _parameters(session: Session, *, force: bool) -> GlobusAuthorizationParameters:
    return GlobusAuthorizationParameters(
        session_required_single_domain=list(session.domains) or None,
        session_required_identities=list(session.identities) or None,
        session_required_policies=list(session.policies) or None,
        session_required_mfa=session.mfa or None,
        # The browser's cookie does not renew an expired session (SDK documentation, "Handling transfer authorization
        # parameters").
        prompt="login" if force or session.is_required else None,
    )


def _missing_consents(
    client_id: str | None,
    places: Mapping[str, Mapping[str, Any]],
    names: Iterable[str],
    say: Callable[[str], None],
    *,
    force: bool,
) -> dict[str, str]:
    """Return the collections that lack a consent, by endpoint name; report the rest with ``say``."""
    names = list(names)
    if not names:
        return {}
    with auth.transfer_client(client_id) as client:
        collections = Collections(places, lambda what, call: call_globus(partial(call, client), what))
        found = {name: collections.find(name) for name in names}
        wanting = {
            name: place.id
            for name, place in found.items()
            if collections.needs_consent(place) or _requires_consent(client, place.id)
        }
        lacking = list(wanting.values()) if force else auth.without_consent(client, wanting.values())
    for name in found:
        if name not in wanting:
            say(f"{name} needs no consent.")
        elif wanting[name] not in lacking:
            say(f"{name} has your consent already.")
    return {name: place for name, place in wanting.items() if place in lacking}


def _requires_consent(client: globus_sdk.TransferClient, collection_id: str) -> bool:
    """Whether the service itself asks for a consent to a collection, whatever its type."""
    try:
        call_globus(lambda: client.operation_ls(collection_id, limit=1).http_status, "Checking for missing consents")
    except ConsentRequiredError:
        return True
    except ChiltepinError:
        pass
    return False


def _run(who: Credentials, parameters: GlobusAuthorizationParameters, *, browser: bool) -> None:
    if browser and _has_browser():
        try:
            return _flow(who, parameters, "local-server")
        except _NoBrowserError:
            pass
    if sys.stdin is None:
        raise LoginRequiredError("No terminal to type a code in; in a terminal, run: chiltepin login")
    return _flow(who, parameters, "command-line")


class _NoBrowserError(Exception):
    """No browser could be opened."""


def _flow(who: Credentials, parameters: GlobusAuthorizationParameters, manager: str) -> None:
    def run() -> str:
        with auth.make_app(who, login_flow_manager=manager) as app:
            try:
                # The SDK's local server logs each request, and with it the login code, to stderr.
                with contextlib.redirect_stderr(io.StringIO() if manager == "local-server" else sys.stderr):
                    app.login(auth_params=parameters, force=True)
            except LocalServerEnvironmentalLoginError:
                return "no browser"
            except globus_sdk.AuthAPIError as err:
                if err.http_status not in {400, 401}:
                    raise
                return "refused"
        return ""

    failure = call_auth(run)
    if failure == "no browser":
        raise _NoBrowserError
    if failure == "refused":
        raise LoginRequiredError(
            "Globus rejected this code, which is valid once and for a few minutes; run again: chiltepin login",
            backend="globus",
            code="invalid_grant",
        )


def _has_browser() -> bool:
    """Whether a window can be opened; the SDK itself checks for a remote session and for a text browser."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
