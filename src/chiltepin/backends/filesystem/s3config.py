"""What a user says of an S3 endpoint: where the bucket is, and who asks.

The options are those of fsspec's s3fs, which configs had before; keys that are not given come the way that every AWS
tool finds them, by botocore: environment, profile, single sign-on, the role of the machine.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import botocore.session

__all__ = ["Keys", "S3Settings", "settings_of"]

#: Options of s3fs that tune its own machinery, of which there is none here.
_TUNING = frozenset(
    {
        *("asynchronous", "cache_regions", "default_block_size", "default_cache_type", "default_fill_cache", "loop"),
        *("fixed_upload_size", "listings_expiry_time", "max_concurrency", "max_paths", "skip_instance_cache"),
        *("use_listings_cache",),
    }
)
_KNOWN = (
    *("anon", "client_kwargs", "config_kwargs", "endpoint_url", "key", "profile", "region", "requester_pays"),
    *("s3_additional_kwargs", "secret", "token", "use_ssl"),
)
_CLIENT = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "endpoint_url": "endpoint_url",
    "region_name": "region",
}
#: What may be wished of an object that is written, as boto3 names it, and its header.
_WISHES = {
    "ACL": "x-amz-acl",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "StorageClass": "x-amz-storage-class",
}


class Keys(NamedTuple):
    """What requests are signed with."""

    access: str
    secret: str
    token: str | None


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """Where a bucket is, and who asks.

    Parameters
    ----------
    bucket, endpoint, region : str
        The endpoint is a URL without the bucket.
    virtual : bool
        Whether the bucket is part of the host's name, as AWS wants it, or of the path, as most other servers do.
    verify : bool or str
        Whether certificates are checked; a file of those to trust.
    wishes : mapping of str to str
        Headers that go with every object that is made.
    payer : bool
        Whether the one who asks pays.
    """

    bucket: str
    endpoint: str
    region: str
    virtual: bool
    verify: bool | str = True
    wishes: Mapping[str, str] = field(default_factory=dict)
    payer: bool = False
    # Keys, or botocore's credentials, which renew themselves; never shown.
    source: Any = field(default=None, repr=False)

    def keys(self) -> Keys | None:
        """Return what to sign with now; None to ask as nobody."""
        if self.source is None or isinstance(self.source, Keys):
            return self.source
        frozen = self.source.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def headers(self) -> dict[str, str]:
        """Return the headers that go with every request."""
        return {"x-amz-request-payer": "requester"} if self.payer else {}

    def tls(self) -> ssl.SSLContext:
        """Return how certificates are checked."""
        if self.verify is False:
            return ssl._create_unverified_context()  # noqa: S323, SLF001 - asked for by the user
        trusted = self.verify if isinstance(self.verify, str) else os.environ.get("AWS_CA_BUNDLE")
        return ssl.create_default_context(cafile=trusted)

    @property
    def identity(self) -> tuple[str, str]:
        """Who asks which server: within one identity the server can copy by itself."""
        keys = self.keys()
        return self.endpoint, keys.access if keys else ""


def settings_of(url: str, options: Mapping[str, Any]) -> tuple[S3Settings, str]:
    """Return the settings of a URL, and the folder in the bucket that it names.

    Raises
    ------
    ConfigError
        If an option is not known, or there are no keys and nothing says to do without.
    """
    given = _flat(options)
    place = urlsplit(url, allow_fragments=False)
    if not place.netloc:
        raise ConfigError(f"{url!r} names no bucket; write one such as 's3://bucket/folder'.")
    whole = bool(given.get("endpoint_url") and ((given.get("key") and given.get("secret")) or given.get("anon")))
    session = None if whole else _session(given.get("profile"))
    region = given.get("region") or _region(session)
    named = given.get("endpoint_url") or _named_endpoint(session)
    style = (given.get("config_kwargs", {}).get("s3") or {}).get("addressing_style", "auto")
    settings = S3Settings(
        bucket=place.netloc,
        endpoint=(named or _aws(region)).rstrip("/"),
        region=region,
        virtual=style == "virtual" or (style == "auto" and not named and "." not in place.netloc),
        verify=given.get("verify", True),
        wishes={_WISHES[name]: str(value) for name, value in given.get("s3_additional_kwargs", {}).items()},
        payer=bool(given.get("requester_pays")),
        source=None if given.get("anon") else _credentials(session, given),
    )
    return settings, "/".join(name for name in place.path.split("/") if name)


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with those for s3fs's client among them, all known."""
    given = {name: value for name, value in options.items() if name not in _TUNING}
    for name, value in given.pop("client_kwargs", {}).items():
        if name not in (*_CLIENT, "use_ssl", "verify"):
            raise _unknown(f"client_kwargs.{name}", name, (*_CLIENT, "verify"))
        given[_CLIENT.get(name, name)] = value
    for name in given:
        if name not in (*_KNOWN, "verify"):
            raise _unknown(name, name, _KNOWN)
    for name in given.get("s3_additional_kwargs", {}):
        if name not in _WISHES:
            raise _unknown(f"s3_additional_kwargs.{name}", name, tuple(_WISHES))
    return given


def _unknown(shown: str, name: str, known: tuple[str, ...]) -> ConfigError:
    return ConfigError(f"There is no option {shown!r} for S3; {suggest(name, known)}")


def _session(profile: str | None) -> botocore.session.Session:
    """Return what botocore knows of this machine; not made where the options say everything, as it takes a while."""
    import botocore.session  # noqa: PLC0415

    return botocore.session.Session(profile=profile)


def _region(session: botocore.session.Session | None) -> str:
    """Return the region that the environment or the profile names; most servers but AWS's do not mind which."""
    found = session.get_config_variable("region") if session else os.environ.get("AWS_DEFAULT_REGION")
    return str(found or "us-east-1")


def _named_endpoint(session: botocore.session.Session | None) -> str:
    """Return the server that the environment or the profile names; empty for AWS's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name]
    if session is None:
        return ""
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services", ""), {})
    return str(services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url") or "")


def _aws(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _credentials(session: botocore.session.Session | None, given: Mapping[str, Any]) -> Any:
    if given.get("key") and given.get("secret"):
        return Keys(given["key"], given["secret"], given.get("token"))
    found = session.get_credentials() if session else None
    if found is None:
        raise ConfigError(
            "No keys for S3 were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where the transfer runs, name "
            "a profile: in the options, or write anon: true for a public bucket."
        )
    return found
