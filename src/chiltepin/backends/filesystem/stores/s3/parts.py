"""The sizes of the parts of an object, and how many there may be."""

from __future__ import annotations

__all__ = ["MOST_PARTS", "PART"]

#: Bytes of a part, and of the largest object that is sent or got in one request. S3 takes 5 MiB to 5 GiB; 8 MiB is
#: what the aws command takes, and sixteen of them are not too much memory.
PART = 8 << 20


#: Most parts of one upload (S3 API, "Amazon S3 multipart upload limits").
MOST_PARTS = 10_000
