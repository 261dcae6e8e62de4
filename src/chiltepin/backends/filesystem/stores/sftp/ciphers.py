"""Which ciphers of ssh the processor has instructions for."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["QUICK", "in_hardware"]

#: Ciphers that processors have in hardware. OpenSSH prefers one that they have not, for twice the processor time
#: (docs/decisions/sftp-client.md).
QUICK = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@cache
def in_hardware() -> bool:
    """Whether this processor has AES; true if unknown, because all processors with macOS have it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return re.search(r"^(flags|Features)\b.*\baes\b", file.read(), re.MULTILINE) is not None
    except OSError:
        return True
