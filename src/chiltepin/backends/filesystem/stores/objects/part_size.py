"""How large the parts of an upload to an object store are."""

from __future__ import annotations

__all__ = ["PART", "part_size"]

#: Bytes of a part, and of the largest object that is sent or got in one request. S3 takes 5 MiB to 5 GiB; 8 MiB is
#: what the aws command takes, and sixteen of them are not too much memory.
PART = 8 << 20


def part_size(size: int | None, most_parts: int) -> int:
    """Return the bytes of each part of an object, `PART` or more, so that it has at most so many parts.

    The result is in whole MiB, and the same for the same size: a second run cuts the content at the same places.
    """
    least = -(-(size or 0) // most_parts)
    return max(PART, -(-least // (1 << 20)) << 20)
