"""What S3's entity tags prove about the content of an object."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Buffer


__all__ = ["digest_of", "is_md5", "is_s3_tag", "tag_is_plain", "tag_of_parts"]

_MD5 = re.compile("[0-9a-f]{32}")


def is_md5(tag: str) -> bool:
    """Whether an entity tag looks like the MD5 of the content, and not like the tag of a multipart upload."""
    return _MD5.fullmatch(tag) is not None


def is_s3_tag(tag: str) -> bool:
    """Whether an entity tag looks like one of S3, of an object sent in one request or in parts."""
    return _MD5.fullmatch(tag.partition("-")[0]) is not None


def digest_of(block: Buffer) -> hashlib._Hash:
    """Return the MD5 of a block, which S3 uses as its entity tag; not used for security."""
    return hashlib.md5(block, usedforsecurity=False)


def tag_of_parts(digests: Iterable[bytes]) -> str:
    """Return the entity tag of a multipart upload from the MD5s of its parts, as S3 and most servers compute it."""
    digests = list(digests)
    return f"{digest_of(b''.join(digests)).hexdigest()}-{len(digests)}"


def tag_is_plain(answer: Mapping[str, Any]) -> bool:
    """Whether an object's entity tag is made of MD5s.

    It is not if customer or KMS keys encrypt the object (docs.aws.amazon.com, S3 API, "Object", ETag).
    """
    return "SSECustomerAlgorithm" not in answer and not answer.get("ServerSideEncryption", "").startswith("aws:kms")
