"""Parse the pages of a listing in place of botocore.

botocore consults its description of S3 for each value of each name. That was most of the cost of a listing: 40 ms for
1,000 names, and 7 ms here (docs/decisions/s3-client.md). Its handlers use a hook before the parsing of each response
(``before-parse``), and so does this module. Errors are left to botocore, which reports them.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from botocore.utils import parse_timestamp

from chiltepin.backends.filesystem.stores.s3.errors import NotS3Error
from chiltepin.backends.filesystem.stores.s3.responses import name_of, root_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree import ElementTree as ET

__all__ = ["read_page"]


def read_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Put a parsed page into the response, as botocore would, and remove the body that botocore would parse.

    A response that is not a listing, or lacks a value, raises `NotS3Error`.
    """
    root = root_of("ListObjectsV2", response_dict)
    if root is None:
        return
    with suppress(ValueError, LookupError):
        customized_response_dict.update(_page(root))
        response_dict["body"] = b""
        return
    raise NotS3Error


def _page(root: ET.Element) -> dict[str, Any]:
    page: dict[str, Any] = {}
    for part in root:
        name = _name(part.tag)
        if name in _NEEDED:
            page.setdefault(name, []).append(_values(part, _NEEDED[name]))
        else:
            page |= _value(name, part)
    return page


def _values(part: ET.Element, needed: frozenset[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for element in part:
        values |= _value(_name(element.tag), element)
    if not needed <= values.keys():
        raise LookupError
    return values


def _value(name: str, element: ET.Element) -> dict[str, Any]:
    read = _WANTED.get(name)
    return {} if read is None else {name: read(element.text or "")}


_name = lru_cache(maxsize=64)(name_of)


def _time(value: str) -> datetime:
    with suppress(ValueError):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    found: datetime = parse_timestamp(value)
    return found


def _flag(value: str) -> bool:
    """Return a boolean of XML Schema, in any case; ValueError for another word.

    A page that is taken for the last one ends the listing, and a mirror deletes what the source seems to lack.
    """
    word = value.strip().lower()
    if word not in _FLAGS:
        raise ValueError(word)
    return _FLAGS[word]


#: The fields of a page that are used here or in handlers of botocore (S3 API, ListObjectsV2), and how they are parsed.
_WANTED: dict[str, Callable[[str], Any]] = {
    "Delimiter": str,
    "ETag": str,
    "EncodingType": str,
    "IsTruncated": _flag,
    "Key": str,
    "LastModified": _time,
    "NextContinuationToken": str,
    "NextMarker": str,
    "Prefix": str,
    "Size": int,
}

_FLAGS = {"true": True, "1": True, "false": False, "0": False}

#: What each object and each folder of a page must have.
_NEEDED = {"Contents": frozenset({"Key", "LastModified", "Size"}), "CommonPrefixes": frozenset({"Prefix"})}
