"""Who talks to Globus: the stored login of a user, or service credentials; and the one door to a client that has it.

No SDK exception leaves: they hold tokens in their requests. What fails is raised as one of our own, after the
``except`` block has ended, so that no ``__context__`` leads back to it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import globus_sdk
import jwt
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.login_flows import CommandLineLoginFlowEOFError, LocalServerLoginError
from globus_sdk.scopes import AuthScopes, GCSCollectionScopes, TransferScopes
from globus_sdk.token_storage import TokenStorage, TokenValidationError
from globus_sdk.token_storage.validating_token_storage import IdentityMismatchError, UnmetScopeRequirementsError
from globus_sdk.transport import RetryConfig

from chiltepin.backends.globus.text import one_line, token
from chiltepin.backends.globus.token_storage import FILE_VARIABLE, FileTokenStorage, token_file
from chiltepin.backends.globus.transport import bounded
from chiltepin.errors import (
    BackendError,
    ChiltepinError,
    ConfigError,
    ConsentRequiredError,
    LoginRequiredError,
    ServiceUnavailableError,
)
from chiltepin.model import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from globus_sdk.globus_app import GlobusApp
    from globus_sdk.scopes import Scope

__all__ = [
    "ID_VARIABLE",
    "SECRET_VARIABLE",
    "Credentials",
    "authorizer",
    "call_auth",
    "credentials",
    "data_access",
    "environment_key",
    "login_error",
    "make_app",
    "require_data_access",
    "service_name",
    "transfer_client",
    "user_tokens",
    "without_consent",
]

#: The environment variables of service credentials; the first alone names a native app.
ID_VARIABLE, SECRET_VARIABLE = "CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"

#: The native app of Globus's own tutorials (SDK documentation, "Minimal script"), until Chiltepin has registered one.
TUTORIAL_CLIENT = "61338d24-54d5-408f-a10d-66c06b59f6d2"

_ENVIRONMENT_VARIABLES = (
    ID_VARIABLE,
    SECRET_VARIABLE,
    FILE_VARIABLE,
    "GLOBUS_SDK_ENVIRONMENT",
    "GLOBUS_SDK_SERVICE_URL_AUTH",
    "GLOBUS_SDK_SERVICE_URL_TRANSFER",
)

T = TypeVar("T")

_TRANSFER, _AUTH = TransferScopes.resource_server, AuthScopes.resource_server
_SCOPES: Mapping[str, list[Scope]] = {
    _TRANSFER: [TransferScopes.all],
    _AUTH: [AuthScopes.openid, AuthScopes.profile, AuthScopes.email],
}

#: What OAuth says of a token or a client that is good no more (RFC 6749, 5.2), and Globus Auth beside it.
_LOGIN_ENDED_CODES = {"invalid_grant", "invalid_client", "unauthorized_client", "unauthorized"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """As which client Chiltepin comes to Globus Auth.

    Parameters
    ----------
    client_id : str
        UUID of the client.
    secret : str
        Its secret; empty for a native app, where a user logs in.
    """

    client_id: str
    secret: str = field(default="", repr=False)

    @property
    def is_service(self) -> bool:
        """Whether the client acts for itself, with no user and no login."""
        return bool(self.secret)


def credentials(client_id: str | None = None) -> Credentials:
    """Return as which client to come: what the environment says, else the settings, else the tutorials' native app.

    Parameters
    ----------
    client_id : str or None
        ``data: globus: client_id:`` of the settings; None if it is not set.

    Raises
    ------
    ConfigError
        If a secret is set without its client, or the client is no UUID.
    """
    variable, secret = os.environ.get(ID_VARIABLE, ""), os.environ.get(SECRET_VARIABLE, "")
    if secret and not variable:
        raise ConfigError(
            f"{SECRET_VARIABLE} is set and {ID_VARIABLE} is not; set both for service credentials, or unset the first."
        )
    chosen = variable or client_id or TUTORIAL_CLIENT
    if not UUID.fullmatch(chosen):
        origin = ID_VARIABLE if variable else "data.globus.client_id"
        raise ConfigError(f"{origin} is {chosen!r}; write the UUID of a client that is registered at Globus.")
    return Credentials(client_id=chosen.lower(), secret=secret)


def environment_key() -> tuple[str | None, ...]:
    """Return all that the environment says about which Globus is meant, and which login; it holds a secret."""
    return tuple(os.environ.get(name) for name in _ENVIRONMENT_VARIABLES)


def service_name() -> str:
    """Return which Globus the environment names: an address, or the name of one of Globus's own environments."""
    address, environment = "GLOBUS_SDK_SERVICE_URL_TRANSFER", "GLOBUS_SDK_ENVIRONMENT"
    return os.environ.get(address) or os.environ.get(environment) or "production"


def transfer_client(client_id: str | None = None) -> globus_sdk.TransferClient:
    """Return a client of the Transfer service that is logged in; this never prompts.

    Parameters
    ----------
    client_id : str or None
        As in `credentials`.

    Raises
    ------
    LoginRequiredError
        If nobody is logged in, the login has ended, or service credentials are refused.
    ServiceUnavailableError
        If a token had to be fetched, and Globus Auth could not be asked.

    Notes
    -----
    Its calls may come from any thread: a ``GlobusApp`` is not safe in threads (its docstring), so every look at one is
    under a lock here, and threads that meet an expired token fetch one together. Pickling the client is a TypeError.
    """
    client = globus_sdk.TransferClient(
        authorizer=authorizer(_TRANSFER, client_id), app_name="Chiltepin", retry_config=_retries()
    )
    return bounded(client)


def authorizer(resource_server: str, client_id: str | None = None) -> _LoginAuthorizer:
    """Return what authorizes requests to a service with the stored login, or with service credentials.

    It has a token when this returns, unless it raises as `transfer_client` does.
    """
    login = _LoginAuthorizer(credentials(client_id), resource_server)
    login.get_authorization_header()
    return login


def require_data_access(client: globus_sdk.TransferClient, collections: Iterable[str] | Mapping[str, str]) -> None:
    """Make sure that the login reaches the data of collections that want a consent of their own.

    Parameters
    ----------
    client : globus_sdk.TransferClient
        A client that `transfer_client` made; for any other one nothing is done, since its owner sees to its login.
    collections : iterable of str, or mapping of str to str
        UUIDs of collections, each of them mapped and not for high assurance: Globus Auth knows no such scope of others.
        A mapping gives for each the name by which the user knows it.

    Raises
    ------
    ConsentRequiredError
        If the user has not consented; the message names the command. Service credentials consent for themselves.
    """
    names = collections if isinstance(collections, Mapping) else {one: one for one in collections}
    missing = without_consent(client, names)
    if missing:
        typed = " ".join(f"--consent {shlex.quote(names[one])}" for one in missing)
        raise ConsentRequiredError(
            f"Globus wants your consent before Chiltepin may reach the data of "
            f"{' and '.join(repr(names[one]) for one in missing)}; type: chiltepin login {typed}",
            backend="globus",
            code="ConsentRequired",
        )


def without_consent(client: globus_sdk.TransferClient, collection_ids: Iterable[str]) -> list[str]:
    """Return those of some collections that `require_data_access` would refuse."""
    asked = list(collection_ids)
    return client.authorizer.without_consent(asked) if asked and isinstance(client.authorizer, _LoginAuthorizer) else []


def data_access(collection_ids: Iterable[str]) -> Scope:
    """Return the scope of the Transfer service that reaches the data of collections."""
    # Optional, so that one consent can be taken back without the others (Globus Auth, "atomically revocable").
    return TransferScopes.all.with_dependencies(
        [GCSCollectionScopes(one).data_access.with_optional(True) for one in collection_ids]
    )


class _LoginAuthorizer(GlobusAuthorizer):
    """The login of this process for one service; every use of it is under one lock."""

    def __init__(self, who: Credentials, resource_server: str) -> None:
        self._who, self._server = who, resource_server
        self._lock = threading.RLock()
        self._kept: GlobusApp | None = None
        self._consented: set[str] = set()

    def __reduce__(self) -> Any:
        raise TypeError("A Globus client stays in the process that logged in; its tokens may not leave it.")

    def get_authorization_header(self) -> str | None:
        """Return the header of a request, with a token that is fetched anew when the last one has expired."""
        return self._ask(lambda app: app.get_authorizer(self._server).get_authorization_header())

    def handle_missing_authorization(self) -> bool:
        """Have the next header bring a new token; the service has refused the last one."""
        return self._ask(lambda app: app.get_authorizer(self._server).handle_missing_authorization())

    def without_consent(self, collection_ids: list[str]) -> list[str]:
        """Return those of some collections whose data this login does not reach, and cannot be made to reach here."""
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
                return call_auth(lambda: call(self._app()))
            except LoginRequiredError:
                # What the app remembers is good no more; a login that is made meanwhile is to be seen.
                self._kept = None
                raise

    def _app(self) -> GlobusApp:
        if self._kept is None:
            self._kept = make_app(self._who)
        return self._kept


def make_app(who: Credentials, **config: Any) -> GlobusApp:
    """Return an app of the SDK that never prompts by itself.

    Parameters
    ----------
    who : Credentials
        A user's login is kept in the token file; service credentials and their tokens stay in memory.
    **config
        More fields of ``globus_sdk.GlobusAppConfig``.
    """
    # Without the handler, a missing token raises; with the SDK's own, input() waits on a terminal that nobody sees.
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
    """Return where the tokens of a user's login are kept."""
    with globus_sdk.NativeAppAuthClient(who.client_id) as native:
        return _tokens(native)


def _tokens(native: globus_sdk.NativeAppAuthClient) -> FileTokenStorage:
    # The address too, so that a simulator's tokens are never sent to Globus, nor Globus's to a simulator.
    return FileTokenStorage(token_file(), namespace=f"{native.base_url} {native.client_id}")


def _retries() -> RetryConfig:
    # Set here and not with tune(), which leaves its numbers for good when the call inside fails.
    return RetryConfig(max_retries=2)


def _consents(app: GlobusApp) -> Any:
    """Return what the user has consented to for this app."""
    # Asked for, and not left to the app's own check: a scope that it is told to require, it requires ever after, and
    # one collection without consent would end the transfers of all others.
    with bounded(globus_sdk.AuthClient(authorizer=app.get_authorizer(_AUTH), retry_config=_retries())) as client:
        return client.get_consents(str(app.token_storage.identity_id)).to_forest()


def _fetch_with(app: GlobusApp, scope: Scope) -> None:
    """Fetch a token of a service with one more scope, which consents to it."""
    app.login(auth_params=GlobusAuthorizationParameters(required_scopes=[str(scope)]))
    app.add_scope_requirements({_TRANSFER: scope})


def call_auth(call: Callable[[], T]) -> T:
    """Run one call that may ask Globus Auth; raise only our errors."""
    try:
        return call()
    except (ChiltepinError, OSError):
        raise
    except Exception as err:  # noqa: BLE001 - a document that makes no sense has the SDK raise anything
        failure = _translate(err)
    # Raised here, not above: tblib pickles __context__ too.
    raise failure


def _translate(err: Exception) -> ChiltepinError:
    """Return our error for what was raised, also where the refusal itself makes no sense."""
    if isinstance(err, globus_sdk.NetworkError):
        return ServiceUnavailableError(
            f"Globus Auth could not be reached ({type(err).__name__}); see that this machine reaches auth.globus.org, "
            "and that HTTPS_PROXY is right.",
            backend="globus",
            code=type(err).__name__,
            transient=True,
        )
    if isinstance(err, globus_sdk.GlobusError | LocalServerLoginError | jwt.PyJWTError):
        with contextlib.suppress(Exception):
            return login_error(err) or BackendError(f"Globus Auth: {one_line(str(err))}.", backend="globus")
    return ServiceUnavailableError(
        f"The answer of Globus Auth makes no sense ({type(err).__name__}); is there a proxy before it?",
        backend="globus",
        transient=True,
    )


def login_error(err: BaseException) -> ChiltepinError | None:
    """Return our error for what the SDK raises about a login; None if it is about something else.

    Parameters
    ----------
    err : BaseException
        What was caught. It is not kept: it may hold tokens.
    """
    if isinstance(err, globus_sdk.AuthAPIError):
        return _from_auth_api(err)
    sentence = next((said for kind, said in _LOGIN_MESSAGES if isinstance(err, kind)), None)
    return LoginRequiredError(sentence, backend="globus", code=type(err).__name__) if sentence else None


#: What to do about each; the first that fits counts.
_LOGIN_MESSAGES: tuple[tuple[type[BaseException], str], ...] = (
    (
        IdentityMismatchError,
        "This is another identity than the one that is logged in; type: chiltepin logout, then: chiltepin login",
    ),
    (
        UnmetScopeRequirementsError,
        "The login does not cover all that Chiltepin does; type: chiltepin login --force",
    ),
    (TokenValidationError, "Nobody is logged in to Globus; type: chiltepin login"),
    (
        CommandLineLoginFlowEOFError,
        "The input ended before a code was typed; in a terminal, type: chiltepin login",
    ),
    (LocalServerLoginError, "The login in the browser was not completed; type: chiltepin login --no-local-server"),
    (jwt.PyJWTError, "The login could not be verified; set the clock of this machine, and type: chiltepin login"),
)


def _from_auth_api(err: globus_sdk.AuthAPIError) -> ChiltepinError:
    """Return our error for an answer of Globus Auth."""
    code = token((err.raw_json or {}).get("error") or err.code or err.http_status)
    facts: dict[str, Any] = {"backend": "globus", "code": code, "request_id": token(err.request_id)}
    if err.http_status == 429 or err.http_status >= 500:  # noqa: PLR2004 - HTTP
        return ServiceUnavailableError(
            f"Globus Auth is not available now (HTTP {err.http_status}); try again later.", transient=True, **facts
        )
    if code in _LOGIN_ENDED_CODES and os.environ.get(SECRET_VARIABLE):
        return LoginRequiredError(
            f"Globus does not accept the service credentials in {ID_VARIABLE} and {SECRET_VARIABLE}; correct them, or "
            "unset both and type: chiltepin login",
            **facts,
        )
    if code in _LOGIN_ENDED_CODES:
        return LoginRequiredError(
            "The Globus login has ended: it was revoked, or not used for six months; type: chiltepin login", **facts
        )
    return BackendError(f"Globus Auth refuses: {one_line(err.message or code)} ({code}).", **facts)
