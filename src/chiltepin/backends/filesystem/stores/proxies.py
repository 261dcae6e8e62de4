"""Find the proxy for a URL in the environment, with the rules of curl.

Python's ``urllib.request.proxy_bypass`` accepts ``*`` only alone, and supports neither CIDR nor IPv6 in brackets. The
rules are those of curl 7.86 and later (curl(1), "ENVIRONMENT" and ``--noproxy``), with the port after a name that
Python and Go accept, too.
"""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["proxy_for"]

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the URL of the proxy for an ``http:`` or ``https:`` URL; None for a direct connection.

    The environment has ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in lower case or, if those are
    missing or empty, in upper case.
    """
    parts = urlsplit(url)

    def told(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    # In a CGI program, HTTP_PROXY is a header that a client has sent (httpoxy, CVE-2016-5385).
    own = environment.get("http_proxy", "") if "REQUEST_METHOD" in environment else told("http_proxy")
    proxy = (own if parts.scheme == "http" else told(f"{parts.scheme}_proxy")) or told("all_proxy")
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    if not proxy or any(_matches(entry, host, port) for entry in told("no_proxy").replace(",", " ").split()):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY matches a host and port; ``host`` is without brackets and in lower case."""
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and (":" not in name or name.endswith("]")):
        return int(number) == port and _matches(name, host, port)
    entry = entry.replace("[", "").replace("]", "")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        entry, host = entry.lower().removesuffix(".").lstrip("."), host.removesuffix(".")
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False
