"""Parse the pages of a listing in place of botocore.

botocore consults its description of S3 for each value of each name. That was most of the cost of a listing: 40 ms for
1,000 names, and 7 ms here (docs/decisions/s3-client.md). Its handlers use a hook before the parsing of each response
(``before-parse``), and so does this module. Anything but a page of a listing is left to botocore, which reports it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from botocore.utils import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_page"]


def read_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Put a parsed page into the response, as botocore would, and remove the body that botocore would parse."""
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    with suppress(ET.ParseError, ValueError):
        page = _page(ET.fromstring(response_dict["body"]))  # noqa: S314 - botocore has the same parser
        if page is not None:
            customized_response_dict.update(page)
            response_dict["body"] = b""


def _page(root: ET.Element) -> dict[str, Any] | None:
    if _name(root.tag) != "ListBucketResult":
        return None
    page: dict[str, Any] = {}
    for part in root:
        name = _name(part.tag)
        if name in ("Contents", "CommonPrefixes"):
            page.setdefault(name, []).append(_values(part))
        else:
            page |= _value(name, part)
    return page


def _values(part: ET.Element) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for element in part:
        values |= _value(_name(element.tag), element)
    return values


def _value(name: str, element: ET.Element) -> dict[str, Any]:
    read = _WANTED.get(name)
    return {} if read is None else {name: read(element.text or "")}


@lru_cache(maxsize=64)
def _name(tag: str) -> str:
    # Not every server declares S3's namespace.
    return tag.rpartition("}")[2]


def _time(value: str) -> datetime:
    with suppress(ValueError):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    found: datetime = parse_timestamp(value)
    return found


#: The fields of a page that are used here or in handlers of botocore (S3 API, ListObjectsV2), and how they are parsed.
_WANTED: dict[str, Callable[[str], Any]] = {
    "Delimiter": str,
    "ETag": str,
    "EncodingType": str,
    "IsTruncated": lambda value: value == "true",
    "Key": str,
    "LastModified": _time,
    "NextContinuationToken": str,
    "Prefix": str,
    "Size": int,
}
