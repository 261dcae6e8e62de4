"""The settings of an S3 endpoint: the bucket, and how to access it.

The options are those of fsspec's s3fs, translated for boto3. Missing keys, regions and servers are found as in every
AWS tool: in the environment, a profile, single sign-on, or the role of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.stores.objects.client import known_options, place_in
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["S3Settings", "settings_of"]

#: Options of s3fs for its internals, which do not exist here.
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
#: Options of botocore that both libraries support; `bucket` sets the number of attempts and connections.
_CONFIG = ("connect_timeout", "proxies", "read_timeout", "s3", "use_dualstack_endpoint", "use_fips_endpoint")
_CONFIG_TUNING = frozenset({"max_pool_connections", "retries", "tcp_keepalive", "user_agent_extra"})

#: Options for new objects, as boto3 names them.
_OBJECT_OPTIONS = ("ACL", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass")


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """A bucket, and how to access it.

    None, or empty ``keys``, means to use the environment and the AWS configuration files. ``keys`` are never shown.
    ``verify`` tells whether certificates are checked, or is a file of trusted ones. ``config`` is for botocore, and
    ``object_options`` are options of boto3 for every new object.
    """

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    anonymous: bool = False
    payer: bool = False
    verify: bool | str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    object_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """The user's identity, which stays the same when keys are renewed."""
        return "" if self.anonymous else self.keys.get("aws_access_key_id", f"profile {self.profile or ''}")


def settings_of(url: str, options: Mapping[str, Any]) -> tuple[S3Settings, str]:
    """Return the settings of a URL, and the folder in the bucket that it names.

    An unknown option, or only half of a pair of keys, is a ConfigError.
    """
    given = _flat(options)
    bucket, root = place_in(url)
    if bool(given.get("key")) != bool(given.get("secret")):
        raise ConfigError("Only one of the S3 options key and secret is set; set both or neither.")
    config = {name: value for name, value in given.get("config_kwargs", {}).items() if name not in _CONFIG_TUNING}
    settings = S3Settings(
        bucket=bucket,
        endpoint=given.get("endpoint_url"),
        region=given.get("region"),
        profile=given.get("profile"),
        keys=_keys(given),
        anonymous=bool(given.get("anon")),
        payer=bool(given.get("requester_pays")),
        verify=given.get("verify"),
        config=config,
        object_options={name: str(value) for name, value in given.get("s3_additional_kwargs", {}).items()},
    )
    return settings, root


def _keys(given: Mapping[str, Any]) -> dict[str, str]:
    names = {short: name for name, short in _CLIENT.items() if name.startswith("aws_")}
    return {name: given[short] for short, name in names.items() if given.get(short)}


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if name not in _TUNING}
    inner = given.pop("client_kwargs", {})
    known_options("S3", inner, (*_CLIENT, "verify"), ("use_ssl",), within="client_kwargs.")
    given |= {_CLIENT.get(name, name): value for name, value in inner.items()}
    known_options("S3", given, _KNOWN, ("verify",))
    known_options("S3", given.get("s3_additional_kwargs", {}), _OBJECT_OPTIONS, within="s3_additional_kwargs.")
    config = dict(given.get("config_kwargs", {}))
    # The only signature version that both libraries use; s3fs needs the option for some servers.
    if config.get("signature_version") == "s3v4":
        del config["signature_version"]
    known_options("S3", config, _CONFIG, _CONFIG_TUNING, within="config_kwargs.")
    return given
