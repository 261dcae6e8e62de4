"""Translate login errors of the SDK into our errors.

Exceptions of the SDK contain tokens in their requests. Ours are raised after the ``except`` block has ended, so that no
``__context__`` refers to them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar

import globus_sdk
import jwt
from globus_sdk.login_flows import CommandLineLoginFlowEOFError, LocalServerLoginError
from globus_sdk.token_storage import TokenValidationError
from globus_sdk.token_storage.validating_token_storage import IdentityMismatchError, UnmetScopeRequirementsError

from chiltepin.backends.globus.credentials import variables
from chiltepin.backends.globus.text import one_line, token
from chiltepin.errors import BackendError, ChiltepinError, LoginRequiredError, ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["auth_error", "call_auth", "login_error"]

T = TypeVar("T")

#: Codes of OAuth (RFC 6749, 5.2) and Globus Auth for a token or client that is no longer valid.
_LOGIN_ENDED_CODES = {"invalid_grant", "invalid_client", "unauthorized_client", "unauthorized"}


def call_auth(call: Callable[[], T]) -> T:
    """Run one call that may contact Globus Auth; raise only our errors."""
    try:
        return call()
    except Exception as err:  # noqa: BLE001 - a malformed response can make the SDK raise anything
        failure = auth_error(err)
    # Raised here, not above: tblib pickles __context__ too.
    raise failure


def auth_error(err: Exception) -> ChiltepinError | OSError:
    """Return the error to raise for an error of such a call, even for a malformed one."""
    if isinstance(err, ChiltepinError | OSError):
        return err
    if isinstance(err, globus_sdk.NetworkError):
        return ServiceUnavailableError(
            f"Globus Auth could not be reached ({type(err).__name__}); check that this machine can reach "
            "auth.globus.org, and check HTTPS_PROXY.",
            backend="globus",
            code=type(err).__name__,
            transient=True,
        )
    if isinstance(err, globus_sdk.GlobusError | LocalServerLoginError | jwt.PyJWTError):
        with contextlib.suppress(Exception):
            return login_error(err) or BackendError(f"Globus Auth: {one_line(str(err))}.", backend="globus")
    return ServiceUnavailableError(
        f"Could not parse the response of Globus Auth ({type(err).__name__}); check for a proxy between this machine "
        "and Globus Auth.",
        backend="globus",
        transient=True,
    )


def login_error(err: BaseException) -> ChiltepinError | None:
    """Return our error for a login error of the SDK; None for any other error.

    The original is not stored, because it may contain tokens.
    """
    if isinstance(err, globus_sdk.AuthAPIError):
        return _from_auth_api(err)
    sentence = next((said for kind, said in _LOGIN_MESSAGES if isinstance(err, kind)), None)
    return LoginRequiredError(sentence, backend="globus", code=type(err).__name__) if sentence else None


#: What to do about each error; the first match counts.
_LOGIN_MESSAGES: tuple[tuple[type[BaseException], str], ...] = (
    (
        IdentityMismatchError,
        "This identity differs from the one that is logged in; run: chiltepin logout, then: chiltepin login",
    ),
    (
        UnmetScopeRequirementsError,
        "The login lacks consents that Chiltepin needs; run: chiltepin login --force",
    ),
    (TokenValidationError, "Not logged in to Globus; run: chiltepin login"),
    (
        CommandLineLoginFlowEOFError,
        "The input ended before a code was typed; in a terminal, run: chiltepin login",
    ),
    (LocalServerLoginError, "The login in the browser was not completed; run: chiltepin login --no-local-server"),
    (jwt.PyJWTError, "The login could not be verified; set the clock of this machine, and run: chiltepin login"),
)


def _from_auth_api(err: globus_sdk.AuthAPIError) -> ChiltepinError:
    code = token((err.raw_json or {}).get("error") or err.code or err.http_status)
    facts: dict[str, Any] = {"backend": "globus", "code": code, "request_id": token(err.request_id)}
    if err.http_status == 429 or err.http_status >= 500:  # noqa: PLR2004 - HTTP
        return ServiceUnavailableError(
            f"Globus Auth is unavailable (HTTP {err.http_status}); try again later.", transient=True, **facts
        )
    if code in _LOGIN_ENDED_CODES and os.environ.get(variables()[1]):
        return LoginRequiredError(
            f"Globus rejected the service credentials in {' and '.join(variables())}; correct them, or "
            "unset both and run: chiltepin login",
            **facts,
        )
    if code in _LOGIN_ENDED_CODES:
        return LoginRequiredError(
            "The Globus login has expired: it was revoked, or not used for six months; run: chiltepin login", **facts
        )
    return BackendError(f"Globus Auth refused the request: {one_line(err.message or code)} ({code}).", **facts)
