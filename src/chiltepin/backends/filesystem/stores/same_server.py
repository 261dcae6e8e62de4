"""Whether two names lead to one server, so that a bucket or a folder is the same by either."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["AWS", "same_host", "same_server"]

_PORTS = {"http": 80, "https": 443}

#: An address of IPv4 in any of the forms that the C library reads, such as ``127.1`` (inet_aton(3)).
_SHORT = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}")

#: What the hosts of AWS end with: within each part of it, all hosts share one set of bucket names
#: (docs.aws.amazon.com, S3, "General purpose bucket naming rules").
AWS = (".amazonaws.com", ".amazonaws.com.cn")


def same_server(one: str, other: str) -> bool:
    """Whether two URLs of S3 servers, without buckets, name one server: the same host and port, or AWS."""
    (host, port), (other_host, other_port) = _place(one), _place(other)
    if any(host.endswith(end) and other_host.endswith(end) for end in AWS):
        return True
    return port == other_port and same_host(host, other_host)


def same_host(one: str, other: str) -> bool:
    """Whether two hosts are the same by their names, or one names by address what the other does by name.

    Two names with one address may be two servers behind one proxy, and are not the same.
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
    """Return the addresses of a host, those of IPv4 in IPv6 as the former; none if it is not known."""
    try:
        found = {str(answer[4][0]).partition("%")[0] for answer in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return {host}
    addresses = {ip_address(address) for address in found}
    # This machine is one place by each of its loopback addresses (RFC 1122, 3.2.1.3, and RFC 4291, 2.5.3).
    return {
        "loopback" if plain.is_loopback or plain.is_unspecified else str(plain)
        for plain in (getattr(address, "ipv4_mapped", None) or address for address in addresses)
    }
