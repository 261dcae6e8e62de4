"""Remove credentials from the log of botocore.

At DEBUG botocore logs signed requests. With temporary keys, from a role or single sign-on, they contain the session
token; the secret key is never logged.
"""

from __future__ import annotations

import logging
import re

__all__ = ["silence_botocore"]

#: The loggers of botocore that write requests (botocore 1.40, from the log of a run).
_LOGGERS = ("botocore.auth", "botocore.awsrequest", "botocore.client", "botocore.endpoint", "botocore.hooks")

_TOKEN = re.compile(r"(x-amz-security-token['\"]?\s*[:=]\s*b?['\"]?)[^'\"\s&,]+", re.IGNORECASE)


class _Hush(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Replace a session token in the record by dots; never drop the record."""
        said = record.getMessage()
        record.msg, record.args = _TOKEN.sub(r"\1...", said), ()
        return True


_HUSH = _Hush()


def silence_botocore() -> None:
    """Remove all session tokens from botocore's log of this process."""
    for name in _LOGGERS:
        # addFilter ignores a filter that is already present.
        logging.getLogger(name).addFilter(_HUSH)
