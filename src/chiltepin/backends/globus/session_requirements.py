"""Translate a site's login requirements, from documents and messages, into options of ``chiltepin login``."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from chiltepin.backends.globus.credentials import choose_credentials, variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["login_command", "options_in", "options_of"]

#: The option for each authorization parameter (SDK, ``GlobusAuthorizationParameters``). If a login requires one of
#: several domains, the user chooses.
_LISTS = {
    "session_required_identities": "--session-identity",
    "session_required_single_domain": "--session-domain",
    "session_required_policies": "--session-policy",
}

#: Key in the message of a GridFTP server whose policy rejects every linked identity.
_DOMAINS = "allowed_domains"

#: The collection that requires a consent, in the scope of the consent.
_DATA_ACCESS = re.compile(r"/scopes/([0-9a-fA-F-]{36})/data_access")

#: A domain, a username or a UUID; no text that a shell or click would interpret.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,250}")

_WORDS = re.compile(r"\bsession with (?:an identity (?:of|from) )?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")

#: Characters of an event that are searched for parameters, and documents that are parsed, at most.
_LONGEST, _MOST = 50_000, 100


def options_of(parameters: Mapping[str, Any]) -> str:
    """Return the options that fulfill authorization parameters, each after a space; empty if there are none."""
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
    """Return the options that the text of an event or error asks for; empty if it names none.

    A site's GridFTP server sends its policy as JSON inside the text, often escaped once more (seen in public reports:
    ``530-GridFTP-JSON-Result: {...}``).
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
    """Return the login command, with a note to unset service credentials first if they prevent the login."""
    first = f" (unset {' and '.join(variables())} first: service credentials have no session)"
    in_the_way = "--session" in options and choose_credentials().is_service
    return f"chiltepin login{options or ' --force'}{first if in_the_way else ''}"


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text, including nested ones."""
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
    """Return the values of a parameter; a string may be a list separated by commas."""
    listed = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str) and _PLAIN.fullmatch(one)]


def _scopes(value: Any) -> list[str]:
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str)]
