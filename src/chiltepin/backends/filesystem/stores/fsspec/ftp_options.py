"""The options of an FTP endpoint: their names, their values, and what each mistake is called."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from chiltepin.backends.filesystem.stores.fsspec.option_values import is_number, seconds, tls_context
from chiltepin.backends.filesystem.stores.objects.client import known_options
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["FtpOptions", "ftp_options", "place_in_url"]

#: The options; `host` and `port` are usually in the URL.
_KNOWN = ("host", "port", "username", "password", "acct", "timeout", "encoding", "tls", "verify")

#: Options that only tune fsspec's own filesystem.
_UNUSED = ("block_size", "tempdir", "use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache")

#: Names that fsspec has for implicit TLS; its older versions are obsolete (RFC 8996).
_IMPLICIT = ("tls", "sslv23", "tlsv1_2")

_HIGHEST_PORT = 65535


@dataclass(frozen=True, kw_only=True, repr=False)
class FtpOptions:
    """Where an FTP server is, and how to log in there.

    ``timeout`` is in seconds. ``context`` is for TLS; None for FTP without encryption. With ``implicit``, TLS begins
    before the first reply.
    """

    host: str
    port: int
    username: str
    password: str
    acct: str
    timeout: float
    encoding: str
    context: ssl.SSLContext | None
    implicit: bool


def place_in_url(url: str) -> tuple[dict[str, Any], str]:
    """Return the options that an FTP URL contains, and its path, which is not unquoted."""
    # Not by urlsplit, as a folder may have '#' and '?' in its name.
    authority, _, path = url.partition("://")[2].partition("/")
    login, at, server = authority.rpartition("@")
    told: dict[str, Any] = {}
    try:
        parts = urlsplit(f"//{server}")
        told = {"host": parts.hostname, "port": parts.port}
    except ValueError:
        raise ConfigError(f"{server!r} is not a host and port; write a URL such as 'ftp://host:21/folder'.") from None
    if at:
        name, colon, password = login.partition(":")
        told["username"] = unquote(name)
        if colon:
            told["password"] = unquote(password)
    return {name: value for name, value in told.items() if value}, path


def ftp_options(given: Mapping[str, Any]) -> FtpOptions:
    """Return the options, checked; a mistake is a ConfigError."""
    known_options("FTP", given, _KNOWN, _UNUSED)
    if not given.get("host"):
        raise ConfigError("The URL of an FTP endpoint must name a host; write one such as 'ftp://host/folder'.")
    port, encoding = given.get("port", 21), given.get("encoding", "latin-1")
    if not is_number(port) or port not in range(1, _HIGHEST_PORT + 1):
        raise ConfigError(f"FTP's option port is {port!r}; write a number such as 21.")
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        raise ConfigError(f"FTP's option encoding is {encoding!r}; write one such as 'utf-8'.") from None
    tls = given.get("tls", False)
    if not isinstance(tls, bool) and tls not in _IMPLICIT:
        raise ConfigError(f"FTP's option tls is {tls!r}; write true, or 'tls' for implicit TLS, or false.")
    login = {name: str(given.get(name) or "") for name in ("username", "password", "acct")}
    for name, value in login.items():
        if "\r" in value or "\n" in value:
            raise ConfigError(f"FTP's option {name} has a line break; remove it.")
        if "encoding" not in given:
            # As names are: with this encoding, each character stands for a byte.
            login[name] = value.encode("utf-8", "surrogateescape").decode(encoding)
    return FtpOptions(
        host=str(given["host"]),
        port=port,
        timeout=seconds("FTP", given.get("timeout", 30)),
        encoding=encoding,
        context=tls_context("FTP", given.get("verify", True)) if tls else None,
        implicit=isinstance(tls, str),
        **login,
    )
