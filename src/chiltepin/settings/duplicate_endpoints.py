"""Find endpoints that coincide by accident: by name, or by folder on the backend ``local``."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from chiltepin.model import endpoint_name
from chiltepin.settings.messages import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chiltepin.settings.data import Endpoint

__all__ = ["folder_problems", "name_problems"]

_WHERE = "data", "endpoints"


def name_problems(written: Iterable[Any]) -> Iterator[Problem]:
    """Yield a problem for each name that equals an earlier name.

    UUIDs ignore case. An accented letter may be one character or two (Unicode normalization); a disk or a web service
    may confuse the two forms.
    """
    first: dict[str, Any] = {}
    for name in written:
        same = first.setdefault(unicodedata.normalize("NFC", endpoint_name(str(name))), name)
        if same is not name:
            yield Problem(
                path=(*_WHERE, name), sentence=f"is the same name as {same!r} above; give one of the two another name"
            )


def folder_problems(endpoints: Mapping[str, Endpoint]) -> Iterator[Problem]:
    """Yield a problem for each endpoint whose folder on the backend ``local`` is or contains another endpoint's folder.

    This is intended if both have ``local:``, but not if one has the default folder, named after the endpoint.
    """
    inside: dict[str, tuple[str, str]] = {}
    for name, endpoint in endpoints.items():
        if folder := endpoint.places.get("local", {}).get("folder"):
            inside.setdefault(folder.split("/")[0], (name, folder))
    for name, endpoint in endpoints.items():
        if not endpoint.places.get("local") and name in inside:
            other, folder = inside[name]
            yield Problem(
                path=(*_WHERE, name),
                sentence=f"has the folder {name!r} on the backend 'local', and endpoint {other!r} has {folder!r}; "
                f"add 'local: some-folder' below it, or 'local: {name}' if that is intended",
            )
