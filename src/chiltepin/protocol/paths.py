"""Paths on an endpoint.

Paths are POSIX paths. An absolute path starts at the root of the endpoint; a relative path, or a path under ``~``,
starts at the endpoint's home folder, never at the working directory of a process. ``.`` and ``..`` are resolved without
access to a store, so that a path means the same on a disk with links and in a store without folders.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import unquote

from chiltepin.errors import PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VARIABLE", "Parts", "folded", "glob", "joined", "machine_path", "named", "parts", "root_refusal"]

#: The names from the root of an endpoint down to a file or folder; empty for the root itself.
Parts = tuple[str, ...]

#: A shell variable in a path, such as ``$HOME``; Chiltepin does not expand it.
VARIABLE = re.compile(r"\$\{?\w+\}?")

#: A NUL byte, or a surrogate that stands for no byte; the others stand for bytes that are not UTF-8 (PEP 383).
_IMPOSSIBLE = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
_URL = re.compile(rf"({_SCHEME})://([^/]*)(.*)", re.DOTALL)
_CHAIN = re.compile(rf"{_SCHEME}::.*://", re.DOTALL)


def parts(path: str, *, home: str = "/", endpoint: str) -> Parts:
    """Return the names that lead from the root of an endpoint to ``path``.

    Parameters
    ----------
    path : str
        What the user wrote; not empty.
    home : str
        The endpoint's home folder, as a path from the root.
    endpoint : str
        The endpoint's name, for error messages.

    Raises
    ------
    PermissionDeniedError
        If ``..`` leads outside the root.
    ValueError
        If the path is invalid; see `named`.
    """
    named(path)
    if path == "~" or path.startswith("~/"):
        names = [*home.split("/"), *path[2:].split("/")]
    elif path.startswith("/"):
        names = path.split("/")
    else:
        names = [*home.split("/"), *path.split("/")]
    kept: list[str] = []
    for name in names:
        if name == "..":
            if not kept:
                raise PermissionDeniedError(
                    f"The path {path!r} leads out of the root of endpoint {endpoint!r}; write it without so many '..'.",
                    code="PERMISSION_DENIED",
                )
            kept.pop()
        elif name not in ("", "."):
            kept.append(name)
    return tuple(kept)


def root_refusal(path: str, *, endpoint: str, backend: str = "") -> PermissionDeniedError:
    """Return the error for deleting ``path``, which is the root of an endpoint."""
    return PermissionDeniedError(
        f"{path} on endpoint {endpoint!r} is the root of an endpoint and is never deleted; name a path below it.",
        backend=backend,
        code="PERMISSION_DENIED",
    )


def named(path: str) -> str:
    """Return ``path`` if it is valid.

    Raises
    ------
    ValueError
        If it is empty, or contains a NUL byte or a lone surrogate, which no filesystem can store.
    """
    if not path:
        raise ValueError(f"The path {path!r} names nothing; write one such as '/project/input.dat'.")
    if found := _IMPOSSIBLE.search(path):
        what = "a NUL byte" if found[0] == "\0" else repr(found[0])
        raise ValueError(f"The path {path!r} has {what}, which no name can have; remove it.")
    return path


#: The parts of a pattern that `fnmatch` writes differently: an escaped character, and a set.
_ESCAPED_OR_SET = re.compile(r"\\(.)|\[(!?)(\]?(?:\\.|[^\]\\])*)\]", re.DOTALL)


def glob(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether the name of a file or folder matches a pattern.

    Parameters
    ----------
    pattern : str
        ``*``, ``?`` and ``[...]`` as in a shell; a backslash escapes one of them (SDK documentation, ``DeleteData``).
        Only a pattern that begins with a dot matches hidden names.

    Raises
    ------
    PermissionDeniedError
        If the pattern matches ``..``, which a service may interpret as the parent folder.
    """
    compiled = re.compile(fnmatch.translate(_ESCAPED_OR_SET.sub(_for_fnmatch, pattern)))
    if compiled.match("..") and pattern.startswith((".", "\\.")):
        raise PermissionDeniedError(
            f"The pattern {pattern!r} also matches '..', the folder above; write '.[!.]*' for hidden names.",
            code="PERMISSION_DENIED",
        )
    hidden = pattern.startswith((".", "\\."))
    return lambda name: (hidden or not name.startswith(".")) and compiled.match(name) is not None


def _for_fnmatch(part: re.Match[str]) -> str:
    """Return an escaped character or a set in the syntax of `fnmatch`, which has no backslash."""
    character, negated, inside = part.groups()
    if character is not None:
        return f"[{character}]" if character in "*?[" else character
    characters = re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)
    first = "]" if "]" in characters else ""
    return f"[{negated}{first}{characters.replace(']', '')}]"


def folded(name: str) -> str:
    """Return a form of a name that is equal for names that some disk does not distinguish.

    Disks may ignore case and Unicode normalization (macOS, Windows), and trailing spaces and dots (Windows).
    """
    # The same as `casefold` for ASCII, in a third of the time.
    key = (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    )
    return key.rstrip(" .") or name


def joined(names: Parts) -> str:
    """Return names as an absolute path on the endpoint."""
    return "/" + "/".join(names)


def machine_path(url: str) -> str | None:
    """Return the path on this machine that a setting names; None for the URL of another store.

    A URL begins with a scheme: ``s3://...``, or an fsspec chain such as ``zip::s3://...``. Everything else is a
    path, whatever characters it contains.
    """
    whole = _URL.fullmatch(url)
    if whole is None:
        return None if _CHAIN.match(url) else url.removeprefix("file:")
    scheme, host, path = whole.groups()
    if scheme.lower() not in ("file", "local"):
        return None
    # Only a complete URL has percent-encoded characters and may have a host.
    return unquote(path if host.lower() == "localhost" else host + path, errors="surrogateescape")
