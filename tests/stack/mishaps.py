"""The faults of one request, as arguments of the simulator's `fail_next` and `slow_next`."""

from __future__ import annotations

import json

#: Parts of the paths of all requests; None matches any request.
PLACES = (
    None,
    "/submission_id",
    "/v0.10/transfer",
    "/v0.10/delete",
    "/task_list",
    "/v0.10/task/",
    "/cancel",
    "/event_list",
    "/successful_transfers",
    "/skipped_errors",
    "/endpoint/",
    "/ls",
    "/token",
)

CUT = {"Content-Length": "100000", "Connection": "close"}

#: Bodies that are not a valid response.
NONSENSE = (
    b"",
    b"<html>Bad gateway</html>",
    b'{"DATA": [',
    b'{"task_id": "',
    b"[]",
    b"null",
    b'"text"',
    b"7",
    b"{}",
    b'{"DATA": null}',
    b'{"DATA": {}}',
    b'{"DATA": [null]}',
    b'{"DATA": [{}]}',
    b'{"DATA": [[]]}',
    b'{"DATA": [{"task_id": null, "status": null}]}',
    b'{"value": null, "task_id": null, "status": null}',
    b'{"value": 7, "task_id": 7, "status": 7}',
    b'{"value": [], "task_id": {}, "status": []}',
    b'{"value": "", "task_id": "", "status": ""}',
    b"\xff\xfe{}",
    b"[" * 100_000,
)


def consent():
    """Return the body of a refusal because of a missing consent."""
    scope = "urn:globus:auth:scope:transfer.api.globus.org:all"
    return {"code": "ConsentRequired", "message": "Missing", "required_scopes": [scope], "request_id": "x"}


#: The faults by name; permanent refusals come last.
MISHAPS = {
    "dropped": {"drop": True},
    "dropped after": {"drop": True, "after": True},
    "500": {"status": 500, "code": "InternalError"},
    "500 after": {"status": 500, "code": "InternalError", "after": True},
    "502": {"status": 502, "code": "Bad"},
    "503": {"status": 503},
    "504 after": {"status": 504, "code": "Late", "after": True},
    "429": {"status": 429, "code": "ClientError.TooManyRequests", "headers": {"Retry-After": "7"}},
    "cut": {"status": 200, "body": b'{"DATA": [', "headers": CUT},
    "cut after": {"status": 200, "body": b'{"DATA": [', "headers": CUT, "after": True},
    "html": {"status": 502, "body": b"<html>Bad gateway</html>"},
    **{f"nonsense {number}": {"status": 200, "body": body} for number, body in enumerate(NONSENSE)},
    **{
        f"nonsense {number} after": {"status": 200, "body": body, "after": True} for number, body in enumerate(NONSENSE)
    },
    "busy": {"status": 409, "code": "ClientError.Conflict.TooManyPendingJobs"},
    "external": {"status": 502, "code": "ExternalError.DirListingFailed.ConnectFailed"},
    "paused": {"status": 409, "code": "OperationPaused"},
    "400": {"status": 400, "code": "ClientError.BadRequest"},
    "401": {"status": 401, "code": "AuthenticationFailed"},
    "403": {"status": 403, "code": "PermissionDenied"},
    "403 consent": {"status": 403, "body": json.dumps(consent()).encode()},
    "404": {"status": 404, "code": "ClientError.NotFound"},
    "409": {"status": 409, "code": "Conflict"},
}
