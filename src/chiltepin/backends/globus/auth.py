"""Globus clients that are authorized with a user's stored tokens or with service credentials."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.scopes import AuthScopes, GCSCollectionScopes, TransferScopes
from globus_sdk.transport import RetryConfig

from chiltepin.backends.globus.auth_errors import auth_error
from chiltepin.backends.globus.credentials import Credentials, choose_credentials
from chiltepin.backends.globus.token_storage import FileTokenStorage, token_file
from chiltepin.backends.globus.transport import bounded
from chiltepin.errors import (
    ConsentRequiredError,
    LoginRequiredError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from globus_sdk.globus_app import GlobusApp
    from globus_sdk.scopes import Scope
    from globus_sdk.token_storage import TokenStorage

__all__ = [
    "authorizer",
    "data_access",
    "make_app",
    "require_data_access",
    "transfer_client",
    "user_tokens",
    "without_consent",
]

T = TypeVar("T")

_TRANSFER, _AUTH = TransferScopes.resource_server, AuthScopes.resource_server
_SCOPES: Mapping[str, list[Scope]] = {
    _TRANSFER: [TransferScopes.all],
    _AUTH: [AuthScopes.openid, AuthScopes.profile, AuthScopes.email],
}


def transfer_client(client_id: str | None = None) -> globus_sdk.TransferClient:
    """Return a logged-in client of the Transfer service; never prompt. See `choose_credentials`.

    Raises
    ------
    LoginRequiredError
        If there is no login, it has expired, or service credentials are refused.
    ServiceUnavailableError
        If a token had to be fetched, and Globus Auth did not respond.

    Notes
    -----
    The client may be called from any thread: a ``GlobusApp`` is not thread-safe (its docstring), so a lock protects
    each access to it, and threads with an expired token fetch one together. Pickling the client is a TypeError.
    """
    client = globus_sdk.TransferClient(
        authorizer=authorizer(_TRANSFER, client_id), app_name="Chiltepin", retry_config=_retries()
    )
    return bounded(client)


def authorizer(resource_server: str, client_id: str | None = None) -> _LoginAuthorizer:
    """Return an authorizer for requests to a service, with the stored login or service credentials.

    It already has a token; errors are those of `transfer_client`.
    """
    login = _LoginAuthorizer(choose_credentials(client_id), resource_server)
    login.get_authorization_header()
    return login


def require_data_access(client: globus_sdk.TransferClient, collections: Iterable[str] | Mapping[str, str]) -> None:
    """Raise an error unless the login has the consents that collections require for their data.

    Parameters
    ----------
    client : globus_sdk.TransferClient
        A client from `transfer_client`; any other client is not checked: its owner is responsible for its login.
    collections : iterable of str, or mapping of str to str
        UUIDs of mapped collections that are not high assurance: only these have such a scope at Globus Auth. A mapping
        gives each the name that the user knows.

    Raises
    ------
    ConsentRequiredError
        If a consent is missing; the message names the command. Service credentials consent by themselves.
    """
    names = collections if isinstance(collections, Mapping) else {one: one for one in collections}
    missing = without_consent(client, names)
    if missing:
        typed = " ".join(f"--consent {shlex.quote(names[one])}" for one in missing)
        raise ConsentRequiredError(
            f"Globus needs your consent for Chiltepin to access the data of "
            f"{' and '.join(repr(names[one]) for one in missing)}; run: chiltepin login {typed}",
            backend="globus",
            code="ConsentRequired",
        )


def without_consent(client: globus_sdk.TransferClient, collection_ids: Iterable[str]) -> list[str]:
    """Return the collections that `require_data_access` would refuse."""
    asked = list(collection_ids)
    return client.authorizer.without_consent(asked) if asked and isinstance(client.authorizer, _LoginAuthorizer) else []


def data_access(collection_ids: Iterable[str]) -> Scope:
    """Return the scope of the Transfer service that gives access to the data of collections."""
    # Optional, so that one consent can be revoked without the others (Globus Auth, "atomically revocable").
    return TransferScopes.all.with_dependencies(
        [GCSCollectionScopes(one).data_access.with_optional(True) for one in collection_ids]
    )


class _LoginAuthorizer(GlobusAuthorizer):
    """The login of this process for one service; each use of it holds a lock."""

    def __init__(self, who: Credentials, resource_server: str) -> None:
        self._who, self._server = who, resource_server
        self._lock = threading.RLock()
        self._kept: GlobusApp | None = None
        self._consented: set[str] = set()

    def __reduce__(self) -> Any:
        raise TypeError(
            "A Globus client cannot be sent to another process, because its tokens stay in the process that logged in."
        )

    def get_authorization_header(self) -> str | None:
        """Return the header of a request; an expired token is renewed."""
        return self._ask(lambda app: app.get_authorizer(self._server).get_authorization_header())

    def handle_missing_authorization(self) -> bool:
        """Renew the token for the next header, because the service rejected the last one."""
        return self._ask(lambda app: app.get_authorizer(self._server).handle_missing_authorization())

    def without_consent(self, collection_ids: list[str]) -> list[str]:
        """Return the collections that still lack a consent; service credentials consent at once."""
        with self._lock:
            unknown = [one for one in collection_ids if one not in self._consented]
            if unknown and self._who.is_service:
                self._ask(lambda app: _fetch_with(app, data_access(unknown)))
            elif unknown:
                forest = self._ask(_consents)
                missing = [one for one in unknown if not forest.meets_scope_requirements(data_access([one]))]
                unknown = [one for one in unknown if one not in missing]
            self._consented.update(unknown)
            return [one for one in collection_ids if one not in self._consented]

    def _ask(self, call: Callable[[GlobusApp], T]) -> T:
        with self._lock:
            try:
                return call(self._app())
            except Exception as err:  # noqa: BLE001 - as in `call_auth`
                failure = auth_error(err)
            if isinstance(failure, LoginRequiredError):
                # The cached app is invalid now; a login made in the meantime must be found.
                self._kept = None
        raise failure

    def _app(self) -> GlobusApp:
        if self._kept is None:
            self._kept = make_app(self._who)
        return self._kept


def make_app(who: Credentials, **config: Any) -> GlobusApp:
    """Return an SDK app that never prompts by itself; ``config`` is for ``globus_sdk.GlobusAppConfig``.

    The login of a user is stored in the token file; service credentials and their tokens stay in memory.
    """
    # Without a handler, a missing token raises; the SDK's own handler waits in input() on a hidden terminal.
    rest: dict[str, Any] = {"token_validation_error_handler": None, **config}
    if who.is_service:
        service = bounded(
            globus_sdk.ConfidentialAppAuthClient(
                who.client_id, who.secret, app_name="Chiltepin", retry_config=_retries()
            )
        )
        memory = globus_sdk.GlobusAppConfig(token_storage="memory", **rest)  # noqa: S106 - the name of a kind
        return globus_sdk.ClientApp("Chiltepin", login_client=service, scope_requirements=_SCOPES, config=memory)
    native = bounded(globus_sdk.NativeAppAuthClient(who.client_id, app_name="Chiltepin", retry_config=_retries()))
    stored = globus_sdk.GlobusAppConfig(token_storage=_tokens(native), request_refresh_tokens=True, **rest)
    return globus_sdk.UserApp("Chiltepin", login_client=native, scope_requirements=_SCOPES, config=stored)


def user_tokens(who: Credentials) -> TokenStorage:
    """Return the storage of a user's tokens."""
    with globus_sdk.NativeAppAuthClient(who.client_id) as native:
        return _tokens(native)


def _tokens(native: globus_sdk.NativeAppAuthClient) -> FileTokenStorage:
    # Includes the address, so that a simulator's tokens are never sent to Globus, nor Globus's to a simulator.
    return FileTokenStorage(token_file(), namespace=f"{native.base_url} {native.client_id}")


def _retries() -> RetryConfig:
    # Not tune(), which does not restore the settings if the call inside fails.
    return RetryConfig(max_retries=2)


def _consents(app: GlobusApp) -> Any:
    # Not the app's own check: the app keeps requiring a scope once it is added, and one collection without consent
    # would fail the transfers of all collections.
    with bounded(globus_sdk.AuthClient(authorizer=app.get_authorizer(_AUTH), retry_config=_retries())) as client:
        return client.get_consents(str(app.token_storage.identity_id)).to_forest()


def _fetch_with(app: GlobusApp, scope: Scope) -> None:
    """Fetch a token for service credentials with one more scope, which also gives the consent."""
    app.login(auth_params=GlobusAuthorizationParameters(required_scopes=[str(scope)]))
    app.add_scope_requirements({_TRANSFER: scope})
