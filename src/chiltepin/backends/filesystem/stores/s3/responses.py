"""Recognize a response that does not come from an S3 server, or lacks a part.

If `endpoint_url` is the address of a web console or a login page, each request gets a page and the status 200. To
botocore, a page in XHTML, or an empty response, is a listing without objects: a mirror of it would delete every file.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from chiltepin.backends.filesystem.stores.s3.errors import NotS3Error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_response", "complete", "name_of", "root_of"]

#: The root elements of responses that would otherwise mean something if they are empty (S3 API).
_ROOTS = {"DeleteObjects": "DeleteResult", "ListObjectsV2": "ListBucketResult"}

#: The values without which a response of another method has no use.
_NEEDED = {
    "complete_multipart_upload": ("ETag",),
    "copy_object": ("CopyObjectResult",),
    "create_multipart_upload": ("UploadId",),
    "get_object": ("ETag", "LastModified", "ContentLength"),
    "head_object": ("ETag", "LastModified", "ContentLength"),
    "put_object": ("ETag",),
    "upload_part": ("ETag",),
}


def name_of(tag: str) -> str:
    """Return the name of an element without its namespace, which not every server declares."""
    return tag.rpartition("}")[2]


def root_of(operation: str, response: Mapping[str, Any]) -> ET.Element | None:
    """Return the document of a response; None for an error or an empty response, which botocore parses.

    A web page, or another document than this operation returns, raises `NotS3Error`.
    """
    body, wanted = response["body"], _ROOTS.get(operation)
    # botocore parses all that is below as a success.
    if response["status_code"] >= HTTPStatus.MOVED_PERMANENTLY or not (body or wanted):
        return None
    try:
        root = ET.fromstring(body)  # noqa: S314 - botocore has the same parser
    except (ET.ParseError, ValueError, LookupError):
        root = None
    if root is None:
        if response["status_code"] == HTTPStatus.OK and _is_cut(body):
            # botocore repeats the request.
            return None
        raise NotS3Error
    if name_of(root.tag) == "Error":
        return None
    if wanted and name_of(root.tag) != wanted:
        raise NotS3Error
    return root


def _is_cut(body: bytes) -> bool:
    """Whether a document that could not be parsed may be the start of one of S3, and not of a web page."""
    start = body.lstrip()[:9].lower()
    return start.startswith(b"<") and not start.startswith((b"<!doctype", b"<html"))


def check_response(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raise `NotS3Error` for a web page; called before botocore parses a response."""
    if not operation_model.has_streaming_output and operation_model.name != "ListObjectsV2":
        root_of(operation_model.name, response_dict)


def complete(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return a response of boto3; raise `NotS3Error` if it lacks a value that this method always returns."""
    if any(answer.get(name) in (None, "", {}) for name in _NEEDED.get(method, ())):
        raise NotS3Error
    return answer
