"""Translate errors of the SDK into our errors.

Errors of the SDK contain the request with the bearer token, and cannot be unpickled, which ends the result thread of a
Parsl ``HighThroughputExecutor``.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import globus_sdk
from globus_sdk.gare import to_gare

from chiltepin.backends.globus.auth_errors import login_error
from chiltepin.backends.globus.session_requirements import login_command, options_in, options_of
from chiltepin.backends.globus.text import one_line, token, web_app
from chiltepin.errors import (
    BackendError,
    ChiltepinError,
    ConsentRequiredError,
    EndpointNotFoundError,
    EndpointUnavailableError,
    LoginRequiredError,
    PathNotFoundError,
    PermissionDeniedError,
    ServiceBusyError,
    ServiceUnavailableError,
)
from chiltepin.model import CLIENT_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BACKEND", "TOO_MANY_PENDING", "call_globus", "translate"]

BACKEND = "globus"

#: A user may have 100 unfinished tasks; the next is refused with this code (seen in the code of other clients; HTTP
#: status 409 is assumed).
TOO_MANY_PENDING = "ClientError.Conflict.TooManyPendingJobs"

#: Codes of permanent external errors (from reports, and from types of the JavaScript SDK for a listing and a new
#: folder).
_FINAL = re.compile(r"NotFound|PermissionDenied|NotDirectory|Exists|SizeLimit|LoginFailed|NotSupported|ConsentRequired")

#: Words of a permanent error in an endpoint's message, for an external error with a general code.
_FINAL_WORDS = re.compile(r"permission denied|no such file|not found|does not exist|consent|credential", re.IGNORECASE)

#: Words of the refusal of a deadline that has passed by the service's clock.
_PASSED = re.compile(r"deadline.*\b(passed|past|future)\b", re.IGNORECASE)

T = TypeVar("T")

_BY_CODE: dict[str, type[BackendError]] = {
    "PermissionDenied": PermissionDeniedError,
    "EndpointPermissionDenied": PermissionDeniedError,
    "ClientError.NotFound": PathNotFoundError,
    "NotFound": PathNotFoundError,
    "ExternalError.DirListingFailed.PermissionDenied": PermissionDeniedError,
    "ExternalError.MkdirFailed.PermissionDenied": PermissionDeniedError,
}


def call_globus(call: Callable[[], T], what: str, client: globus_sdk.TransferClient | None = None) -> T:
    """Run one call of the SDK; raise our errors instead of the SDK's.

    ``what`` names the purpose, and begins the error message; for ``client`` see `translate`.
    """
    try:
        return call()
    except Exception as err:  # noqa: BLE001 - a malformed response can make the SDK, or us, raise anything
        failure = translate(err, what, client)
    # Raised here, not above: tblib pickles __context__ too.
    raise failure


def translate(err: Exception, what: str, client: globus_sdk.TransferClient | None = None) -> ChiltepinError:
    """Return our error for an error of an SDK call, even for a malformed one.

    ``client`` is the caller's: an error of the caller's code, not of the SDK, would be raised again by a retry.
    """
    if isinstance(err, ChiltepinError):
        return err
    if isinstance(err, globus_sdk.GlobusError):
        with contextlib.suppress(Exception):
            failure = _translate_globus_error(err, what)
            callers = client is not None and isinstance(failure, LoginRequiredError)
            return _callers_login_error(failure, what) if callers else failure  # type: ignore[arg-type]
    elif client is not None and _is_callers(err, client):
        return BackendError(
            f"{what}: the client that was given as client= raised {type(err).__name__}: {one_line(str(err))}.",
            backend=BACKEND,
            code=CLIENT_FAILED,
        )
    return malformed_response(err, what)


def _callers_login_error(failure: LoginRequiredError, what: str) -> LoginRequiredError:
    """Return the error if the caller's client must log in again, which `chiltepin login` does not do for it."""
    consent = isinstance(failure, ConsentRequiredError)
    wrong = "lacks a consent" if consent else "must log in again"
    cure = "give it a token with that consent" if consent else "renew its token"
    return type(failure)(
        f"{what}: the client that was given as client= {wrong}; {cure}, and give it as client= again.",
        backend=BACKEND,
        code=failure.code,
        request_id=failure.request_id,
    )


def _is_callers(err: Exception, client: globus_sdk.TransferClient) -> bool:
    """Whether an error comes from the caller's code: from a subclass of the client, or from code that the SDK calls."""
    if type(client) is not globus_sdk.TransferClient:
        return True
    *_, (innermost, _) = traceback.walk_tb(err.__traceback__)
    return str(innermost.f_globals.get("__name__")).partition(".")[0] not in {"chiltepin", "globus_sdk"}


def malformed_response(err: Exception, what: str) -> ServiceUnavailableError:
    """Return the error for a response that could not be parsed, such as a proxy's."""
    return ServiceUnavailableError(
        f"{what}: could not parse the response ({type(err).__name__}); check for a proxy between this machine and "
        "Globus.",
        backend=BACKEND,
        transient=True,
    )


def _translate_globus_error(err: globus_sdk.GlobusError, what: str) -> ChiltepinError:
    if isinstance(err, globus_sdk.TransferAPIError):
        return _from_transfer_api(err, what)
    if (failure := login_error(err)) is not None:
        return failure
    if isinstance(err, globus_sdk.NetworkError):
        return ServiceUnavailableError(
            f"{what}: Globus could not be reached ({type(err).__name__}); check that this machine can reach "
            "transfer.api.globus.org, and check HTTPS_PROXY.",
            backend=BACKEND,
            code=type(err).__name__,
            transient=True,
        )
    if isinstance(err, globus_sdk.GlobusAPIError):
        # Not a response of the Transfer API itself, but for example of a proxy.
        return _from_http_status(err, what)
    return BackendError(f"{what}: {one_line(str(err))}.", backend=BACKEND, code=type(err).__name__)


def _from_transfer_api(err: globus_sdk.TransferAPIError, what: str) -> ChiltepinError:
    facts = _facts(err)
    said = one_line(str(err.message or "no reason given"))
    login = _login_error(err, what, said)
    if login is not None:
        return login
    if err.code == "EndpointNotFound":
        return EndpointNotFoundError(f"{what}: {said}.")
    if err.code == TOO_MANY_PENDING:
        return ServiceBusyError(
            f"{what}: you have too many active tasks at Globus; wait, or cancel some{web_app(' at', 'activity')}.",
            transient=True,
            **facts,
        )
    for code, kind in _BY_CODE.items():
        if err.code == code:
            return kind(f"{what}: {said}.", **facts)
    if err.code and "GCDisconnected" in err.code:
        return EndpointUnavailableError(
            f"{what}: Globus Connect Personal is not running on that machine; start it.", **facts
        )
    return _from_http_status(err, what)


def _from_http_status(err: globus_sdk.GlobusAPIError, what: str) -> BackendError:
    if err.raw_json is None:
        return malformed_response(err, f"{what}, HTTP {err.http_status}")
    said = one_line(str(err.message or "no reason given"))
    if err.http_status == HTTPStatus.TOO_MANY_REQUESTS:
        return ServiceBusyError(f"{what}: Globus is rate-limiting requests: {said}.", transient=True, **_facts(err))
    # The service works, but could not use an endpoint.
    external = "ExternalError" in (err.code or "") or "EndpointError" in (err.code or "")
    final = _FINAL.search(err.code or "") or _FINAL_WORDS.search(said)
    if external and err.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR and not final:
        return EndpointUnavailableError(f"{what}: {said} ({token(err.code)}).", **_facts(err))
    if err.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR and not external:
        return ServiceUnavailableError(
            f"{what}: Globus is unavailable (HTTP {err.http_status}): {said}.", transient=True, **_facts(err)
        )
    cure = "; check this machine's clock, or give a later deadline" if _PASSED.search(said) else ""
    return BackendError(f"{what}: {said} ({token(err.code or err.http_status)}){cure}.", **_facts(err))


def _facts(err: globus_sdk.GlobusAPIError) -> dict[str, Any]:
    return {
        "backend": BACKEND,
        "code": token(err.code or err.http_status),
        "request_id": token(getattr(err, "request_id", None)),
    }


def _login_error(err: globus_sdk.TransferAPIError, what: str, said: str) -> LoginRequiredError | None:
    """Return the error that names the login command, if a new login is needed; else None."""
    # Session policies come with HTTP 502 or 403, and only the parameters distinguish them from a broken endpoint (SDK
    # documentation, "Handling transfer authorization parameters"); some are only in the message.
    gare = to_gare(err)
    options = options_of(gare.authorization_parameters.to_dict()) if gare else options_in(str(err.message or ""))
    if err.info.consent_required or options.startswith(" --consent"):
        return ConsentRequiredError(
            f"{what}: an additional consent is required; run: {login_command(options)}", **_facts(err)
        )
    if gare is not None or options:
        return LoginRequiredError(
            f"{what}: the site requires a new login; run: {login_command(options)}", **_facts(err)
        )
    if err.http_status == HTTPStatus.UNAUTHORIZED:
        return LoginRequiredError(f"{what}: Globus rejected the login ({said}); run: chiltepin login", **_facts(err))
    return None
