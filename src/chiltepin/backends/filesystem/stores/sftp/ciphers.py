"""SSH ciphers for which the processor has instructions."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["QUICK", "in_hardware"]

#: Ciphers with hardware support. OpenSSH prefers one without, which takes twice the CPU time
#: (docs/decisions/sftp-client.md).
QUICK = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@cache
def in_hardware() -> bool:
    """Whether this processor has AES instructions; true if unknown, because all processors with macOS have them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return re.search(r"^(flags|Features)\b.*\baes\b", file.read(), re.MULTILINE) is not None
    except OSError:
        return True
