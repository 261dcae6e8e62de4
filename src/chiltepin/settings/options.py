"""The options of backends and stores: plain data without secrets.

A secret is named, not written: ``{env: NAME}`` is the environment variable ``NAME`` of the process that opens the
store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from chiltepin.errors import shown
from chiltepin.protocol.paths import machine_path
from chiltepin.settings.limits import GRACE, Range
from chiltepin.settings.messages import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chiltepin.settings.document import KeyPath

__all__ = ["option_problems", "plain"]

_SECRET_KEY = re.compile(
    r"(key|auth|authorization|cookie|credentials?|connection_string|pass(word|wd|phrase)?|pwd|pw|pin|sig|signature"
    r"|.*(secret|password|passwd|passphrase|token|access_key|account_key|api_?key|private_key|signing_key).*"
    r"|.*_(key|credentials?|connection_string|pwd))"
)

#: Names of options that look like secrets but are paths or switches.
_HARMLESS_KEY = re.compile(r".*_(file|filename|path|dir|url|uri|expiry|ttl|type|name)|token_endpoint|public_key")

#: Values of ``token`` that tell gcsfs where to find a token.
_TOKEN_PLACES = {"anon", "browser", "cache", "cloud", "google_default"}

_USER_AND_PASSWORD = re.compile(r"://[^/?#@\s]*:[^/?#@\s]+@")

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Numbers that other programs can represent, both as a JSON number (RFC 8259, 6) and as a 64-bit integer.
_NUMBER = Range("a number", -(2**53), 2**53)

_URL_REMEDY = (
    "is a URL with a secret in it, and secrets are not allowed in a settings file; remove the secret from the URL, "
    "and name an environment variable under options, such as 'password: {env: MY_PASSWORD}'"
)


def option_problems(value: Any, path: KeyPath, *, secret: bool = False) -> Iterator[Problem]:
    """Yield a problem for each literal secret, and for each value that JSON cannot represent.

    ``secret`` tells whether the key of ``value``, or a key above it, is the name of a secret.
    """
    if isinstance(value, Mapping):
        yield from _mapping_problems(value, path, secret=secret)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from option_problems(item, (*path, index), secret=secret)
    elif value is None or isinstance(value, bool):
        return
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        yield Problem(path=path, sentence=f"is {shown(value)}; write text, a number, true, false, a list or a mapping")
    elif not isinstance(value, str) and not (wanted := _numbers(path)).holds(value):
        yield Problem(path=path, sentence=f"is {shown(value)}; write {wanted.remedy(value)}")
    elif secret and not (path[-1] == "token" and value in _TOKEN_PLACES):
        yield _literal(path)
    elif isinstance(value, str) and _has_secret(value):
        yield Problem(path=path, sentence=_URL_REMEDY)


def _numbers(path: KeyPath) -> Range:
    return GRACE if str(path[-1]).endswith("timeout") else _NUMBER


def plain(value: Any) -> Any:
    """Return a copy of dicts, lists, text, numbers, booleans and None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _has_secret(url: str) -> bool:
    if "://" not in url or machine_path(url) is not None:
        return False
    query = url.partition("?")[2]
    return bool(_USER_AND_PASSWORD.search(url)) or any(_is_secret(key) for key, _ in parse_qsl(query))


def _is_secret(key: object) -> bool:
    name = re.sub(r"[-. ]", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key))).lower()
    return bool(_SECRET_KEY.fullmatch(name)) and not _HARMLESS_KEY.fullmatch(name)


def _mapping_problems(value: Mapping[Any, Any], path: KeyPath, *, secret: bool) -> Iterator[Problem]:
    if set(value) == {"env"}:
        name = value["env"]
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            # The value is not shown: it may be the secret itself.
            yield Problem(
                path=(*path, "env"),
                sentence=(
                    "is not the name of an environment variable; write letters, digits and '_', such as "
                    "{env: MY_SECRET}"
                ),
            )
        return
    for key, item in value.items():
        yield from option_problems(item, (*path, str(key)), secret=secret or _is_secret(key))


def _literal(path: KeyPath) -> Problem:
    name = re.sub(r"\W", "_", str(next(part for part in reversed(path) if isinstance(part, str)))).upper()
    # The value is not shown: messages are logged.
    return Problem(
        path=path,
        sentence="is a secret, and secrets are not allowed in a settings file; store it in an environment variable, "
        f"and write its name here: {{env: MY_{name}}}",
    )
