"""Find out whether two names lead to the same server, and thus to the same bucket or folder."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["AWS", "same_host", "same_server"]

_PORTS = {"http": 80, "https": 443}

#: An IPv4 address in any form that the C library accepts, such as ``127.1`` (inet_aton(3)).
_SHORT = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}")

#: The domains of AWS partitions: within each, all hosts share one set of bucket names
#: (docs.aws.amazon.com, S3, "General purpose bucket naming rules").
AWS = (".amazonaws.com", ".amazonaws.com.cn")


def same_server(one: str, other: str) -> bool:
    """Whether two URLs of S3 servers, without buckets, name one server: the same host and port, or AWS."""
    (host, port), (other_host, other_port) = _place(one), _place(other)
    if any(host.endswith(end) and other_host.endswith(end) for end in AWS):
        return True
    return port == other_port and same_host(host, other_host)


def same_host(one: str, other: str) -> bool:
    """Whether two hosts have the same name, or one is an address of the other.

    Two names with the same address may be two servers behind one proxy, and are not the same.
    """
    host, other_host = (name.lower().removesuffix(".") for name in (one, other))
    if host == other_host:
        return True
    return (_is_address(host) or _is_address(other_host)) and not _addresses(host).isdisjoint(_addresses(other_host))


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").removesuffix("."), parts.port or _PORTS.get(parts.scheme, 0)


def _is_address(host: str) -> bool:
    return host == "localhost" or bool(_SHORT.fullmatch(host)) or ":" in host


def _addresses(host: str) -> set[str]:
    """Return the addresses of a host, IPv4-mapped IPv6 addresses as IPv4; empty if the host is unknown."""
    try:
        found = {str(answer[4][0]).partition("%")[0] for answer in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return {host}
    addresses = {ip_address(address) for address in found}
    # All loopback addresses mean this machine (RFC 1122, 3.2.1.3, and RFC 4291, 2.5.3).
    return {
        "loopback" if plain.is_loopback or plain.is_unspecified else str(plain)
        for plain in (getattr(address, "ipv4_mapped", None) or address for address in addresses)
    }
