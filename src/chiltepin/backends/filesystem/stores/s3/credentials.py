"""The keys that obstore signs requests with, as botocore finds and renews them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.credentials import Credentials as Found
    from obstore.store import S3Credential

__all__ = ["Credentials"]

#: How long obstore may use keys before it requests them again, which it does in the last 5 minutes of that time.
#: botocore renews keys with less than 10 minutes left (botocore.credentials, mandatory refresh), so none is used after
#: it has expired.
KEYS_LAST = timedelta(minutes=10)


class Credentials:
    """A credential provider for obstore; obstore's own imports boto3, a tenth of the time to open a bucket."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def __call__(self) -> S3Credential:
        """Return the current keys and when they expire."""
        keys = self._found.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(timezone.utc) + KEYS_LAST,
        }
