"""The part size of uploads to object stores."""

from __future__ import annotations

__all__ = ["PART", "part_size"]

#: Bytes of a part, and of the largest object sent or read in one request. S3 accepts 5 MiB to 5 GiB; 8 MiB is the
#: default of the aws command, and sixteen of them fit in memory.
PART = 8 << 20


def part_size(size: int | None, most_parts: int) -> int:
    """Return the part size of an object in bytes, at least `PART`, for at most ``most_parts`` parts.

    The result is in whole MiB, and the same for the same size: a second run splits the content at the same offsets.
    """
    least = -(-(size or 0) // most_parts)
    return max(PART, -(-least // (1 << 20)) << 20)
