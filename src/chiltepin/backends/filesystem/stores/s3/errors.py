"""Translate errors of S3 and of the two libraries into faults of a task.

Their messages contain URLs, keys and responses of the server, so only the S3 error code and the HTTP status are used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import obstore.exceptions
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from chiltepin.backends.filesystem.stores.objects.client import CloudFault

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOT_PARTIAL", "NOT_S3", "NO_CHECKSUM", "NotS3Error", "S3Fault", "asked", "not_s3"]

#: Our own code: the server answered a range request, but not as HTTP requires.
NOT_PARTIAL = "NotPartial"

#: Our own code: the response does not come from an S3 server, or lacks a part.
NOT_S3 = "NotS3"

#: Codes of S3 for a request without the checksum that a bucket with Object Lock demands (S3 API, "PutObject"): AWS's,
#: which has other causes too, and MinIO's.
NO_CHECKSUM = frozenset({"InvalidRequest", "MissingContentMD5"})

T = TypeVar("T")

# Codes of S3 for transient errors (docs.aws.amazon.com, S3 API, "Error responses").
_PASSING = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "OperationAborted"})
_PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
_CODES = {
    "PreconditionFailed": "FILE_SIZE_CHANGED",
    "BadDigest": "VERIFY_CHECKSUM",
    "InvalidDigest": "VERIFY_CHECKSUM",
    "XAmzContentSHA256Mismatch": "VERIFY_CHECKSUM",
    "QuotaExceeded": "QUOTA_EXCEEDED",
    "EntityTooLarge": "LIMIT_EXCEEDED",
    "KeyTooLongError": "INVALID_PATH_NAME",
    "ExpiredToken": "PERMISSION_DENIED",
    "InvalidToken": "PERMISSION_DENIED",
    "RequestTimeout": "TIMEOUT",
}
_BY_STATUS = {401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 412: "FILE_SIZE_CHANGED"}

# How obstore 0.11 and 0.12 report a response of the server; any other message has the code ENDPOINT_ERROR.
_ANSWER = re.compile(r"status code: (\d{3})(?:.*?<Code>(\w+)</Code>)?", re.DOTALL)


class S3Fault(CloudFault):
    """A request that an S3 server refused, or that failed; code and reason contain no key, signature or URL.

    ``word`` is the code of S3, such as ``NoSuchKey``; see `CloudFault` for ``transient``.
    """

    def __init__(self, code: str, reason: str, *, transient: bool = False, word: str = "") -> None:
        super().__init__(code, reason, transient=transient)
        self.word = word


class NotS3Error(Exception):
    """A response that does not come from an S3 server, or lacks a part; `asked` makes it an `S3Fault`."""


def not_s3(what: str) -> S3Fault:
    """Return the fault for such a response."""
    cure = "check endpoint_url, which must be the address of the S3 API and not of a web page"
    return S3Fault("ENDPOINT_ERROR", f"The response to {what} is not a complete response of S3; {cure}.", word=NOT_S3)


def asked(request: Callable[[], T], what: str) -> T:
    """Send a request with one of the libraries; ``what`` names it in messages.

    A missing object or upload raises FileNotFoundError, any other error of the libraries `S3Fault`.
    """
    try:
        return request()
    except (FileNotFoundError, obstore.exceptions.BaseError) as err:
        failure = _answered(str(err), what)
    except botocore.ClientError as err:
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        failure = _refusal(status, err.response.get("Error", {}).get("Code", ""), what)
    except botocore.BotoCoreError as err:
        failure = _unanswered(err, what)
    except (NotS3Error, ResponseParserError):
        failure = not_s3(what)
    except ValueError as err:
        # botocore raises this for a time or a number in a response too.
        failure = not_s3(what)
        # Both libraries raise this for a name that is not UTF-8, and obstore for control characters.
        if isinstance(err, UnicodeError) or "parse path" in str(err):
            failure = S3Fault("INVALID_PATH_NAME", f"S3 accepts only names of printable characters in UTF-8: {what}.")
    # Raised here, after the except: the errors of the libraries contain the request.
    raise failure


def _answered(text: str, what: str) -> Exception:
    found = _ANSWER.search(text)
    if found:
        return _refusal(int(found[1]), found[2] or "", what)
    if "redirect" in text:
        return S3Fault("ENDPOINT_ERROR", f"The bucket is in another region, write region: in its options ({what}).")
    if "non-partial" in text:
        return S3Fault("ENDPOINT_ERROR", f"S3 did not send the requested range: {what}.", word=NOT_PARTIAL)
    # A header is missing, or has another form.
    if "source: Header" in text:
        return not_s3(what)
    code = "CONNECT_FAILED" if "kind: Connect" in text else "TIMEOUT" if "kind: Timeout" in text else "CONNECTION_RESET"
    reason = f"The S3 server sent no response, or an incomplete one, to {what}."
    return S3Fault(code, reason, transient="certificate" not in text)


def _refusal(status: int, word: str, what: str) -> Exception:
    """Return the error for a failed response; a response to HEAD has no code, so botocore gives the status instead."""
    word = "" if word.isdigit() else word
    if status == 404 and word != "NoSuchBucket":  # noqa: PLR2004 - HTTP's
        return FileNotFoundError(2, f"S3 has no such object: {what}")
    if word == "NoSuchBucket":
        cure = "create it, or correct the URL of the endpoint"
        return S3Fault("FILE_NOT_FOUND", f"The bucket does not exist; {cure} ({what}).", word=word)
    transient = word in _PASSING or status in _PASSING_STATUS
    code = _CODES.get(word) or _BY_STATUS.get(status) or "ENDPOINT_ERROR"
    said = f"{word} ({status})" if word else f"status {status}"
    return S3Fault(code, f"S3 answered {said} to {what}.", transient=transient, word=word)


def _unanswered(error: Exception, what: str) -> S3Fault:
    """Return the fault for an error of botocore itself: of the connection, a certificate or the keys."""
    kind = type(error).__name__
    if isinstance(error, botocore.SSLError):
        return S3Fault("CONNECT_FAILED", f"No secure connection to the S3 server ({kind}): {what}.")
    if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError | botocore.IncompleteReadError):
        code = "CONNECTION_RESET"
        if isinstance(error, botocore.ReadTimeoutError | botocore.ConnectTimeoutError):
            code = "TIMEOUT"
        elif isinstance(error, botocore.EndpointConnectionError | botocore.ProxyConnectionError):
            code = "CONNECT_FAILED"
        return S3Fault(code, f"The S3 server did not respond ({kind}) to {what}.", transient=True)
    return S3Fault("PERMISSION_DENIED", f"The S3 credentials are missing or have expired ({kind}): {what}.")
