"""What a site asks of a login, from the service's documents and words, as options of ``chiltepin login``."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.credentials import choose_credentials, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["login_command", "options_in", "options_of"]

#: For each authorization parameter the option (SDK, ``GlobusAuthorizationParameters``). A login that asks for several
#: domains lets the user choose one of them.
_LISTS = {
    "session_required_identities": "--session-identity",
    "session_required_single_domain": "--session-domain",
    "session_required_policies": "--session-policy",
}

#: The message of a GridFTP server whose policy refuses every linked identity.
_DOMAINS = "allowed_domains"

#: In the scope of a consent, the collection that wants it.
_DATA_ACCESS = re.compile(r"/scopes/([0-9a-fA-F-]{36})/data_access")

#: A domain, a username, a UUID; nothing that a shell or click would take for something else.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,250}")

_WORDS = re.compile(r"\bsession with (?:an identity (?:of|from) )?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")

#: Characters of an event in which parameters are looked for, and documents that are read.
_LONGEST, _MOST = 50_000, 100


def options_of(parameters: Mapping[str, Any]) -> str:
    """Return the options that fulfil authorization parameters, each with a blank before it; empty if none does."""
    asked = {
        f"{option} {shlex.quote(value)}": None
        for name, option in _LISTS.items()
        for value in _texts(parameters.get(name))
    }
    if parameters.get("session_required_mfa") is True:
        asked["--session-mfa"] = None
    for scope in _scopes(parameters.get("required_scopes")):
        asked.update((f"--consent {collection}", None) for collection in _DATA_ACCESS.findall(scope))
    return "".join(f" {one}" for one in asked)


def options_in(text: str) -> str:
    """Return the options that the words of an event or of an error ask for; empty if they name none.

    The GridFTP server of a site tells its policy as JSON inside of the text, often escaped once more (seen in public
    reports: ``530-GridFTP-JSON-Result: {...}``).
    """
    text = text[:_LONGEST]
    found: dict[str, list[str]] = {}
    mfa = False
    for document in (*_documents(text), *_documents(text.replace('\\"', '"'))):
        for name in (*_LISTS, _DOMAINS, "required_scopes"):
            known = "session_required_single_domain" if name == _DOMAINS else name
            read = _scopes if name == "required_scopes" else _texts
            found.setdefault(known, []).extend(read(document.get(name)))
        mfa = mfa or document.get("session_required_mfa") is True
    options = options_of({**found, "session_required_mfa": mfa})
    return options or options_of({"session_required_single_domain": _WORDS.findall(text)})


def login_command(options: str) -> str:
    """Return what to type: the command, and what has to go first, where service credentials are in its way."""
    first = f" (unset {' and '.join(variables())} first: service credentials have no session)"
    in_the_way = "--session" in options and choose_credentials().is_service
    return f"chiltepin login{options or ' --force'}{first if in_the_way else ''}"


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON in a text, those inside of others too."""
    decoder, end = json.JSONDecoder(strict=False), 0
    for _ in range(_MOST):
        start = text.find("{", end)
        if start < 0:
            return
        end = start + 1
        try:
            document, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield from _objects(document)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _texts(value: Any) -> list[str]:
    """Return what a parameter asks for; one text may stand for a list, with commas between."""
    listed = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str) and _PLAIN.fullmatch(one)]


def _scopes(value: Any) -> list[str]:
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str)]
