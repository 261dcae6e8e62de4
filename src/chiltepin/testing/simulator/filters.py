"""Filter, sort and page the service's lists (docs.globus.org, "Transfer API", common query parameters)."""

from __future__ import annotations

import fnmatch
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.api_errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["clauses", "matches", "ordered", "page", "trimmed"]

Document = dict[str, Any]

#: Fields that are instants; a filter has a first and a last instant, either of which may be empty.
_INSTANTS = frozenset({"request_time", "completion_time", "last_modified"})
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda left, right: left >= right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    "<": lambda left, right: left < right,
    "!": lambda left, right: left != right,
    "=": lambda left, right: left == right,
}


def clauses(text: str, known: Iterable[str]) -> dict[str, str]:
    """Return the clauses of a filter, ``field:value/field:value``, by field.

    A clause without a colon, or with an unknown field, is an error.
    """
    found: dict[str, str] = {}
    for clause in filter(None, text.split("/")):
        field, colon, value = clause.partition(":")
        if not colon or field not in set(known):
            raise bad_request(f"The filter clause {clause!r} is not known")
        found[field] = value
    return found


def matches(document: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a document matches all clauses of a filter."""
    return all(_fits(field, document.get(field), value) for field, value in wanted.items())


def _fits(field: str, actual: object, wanted: str) -> bool:
    if field in _INSTANTS:
        return _between(actual, wanted)
    if isinstance(actual, bool):
        return actual == (wanted.lower() in ("1", "true"))
    if isinstance(actual, (int, float)):
        return _compares(actual, wanted)
    values = wanted.split(",")
    # "not this, not that" means neither; "this, that" means one of them.
    refusing = [value for value in values if value.startswith("!")]
    accepting = [value for value in values if not value.startswith("!")]
    text = "" if actual is None else str(actual)
    return all(not _is(text, value[1:]) for value in refusing) and (
        not accepting or any(_is(text, value) for value in accepting)
    )


def _is(text: str, pattern: str) -> bool:
    if pattern.startswith("~"):
        return fnmatch.fnmatchcase(text.lower(), pattern[1:].lower())
    return text == pattern.removeprefix("=")


def _compares(actual: float, wanted: str) -> bool:
    sign = next((sign for sign in _COMPARISONS if wanted.startswith(sign)), "")
    try:
        return _COMPARISONS[sign or "="](actual, float(wanted.removeprefix(sign)))
    except ValueError:
        raise bad_request(f"The filter value {wanted!r} is not a number") from None


def _between(actual: object, wanted: str) -> bool:
    if actual is None:
        return False
    first, _, last = wanted.partition(",")
    moment = _instant(str(actual))
    return (not first or _instant(first) <= moment) and (not last or moment <= _instant(last))


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise bad_request(f"The filter value {text!r} is not an instant") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def ordered(documents: Iterable[Document], orderby: str) -> list[Document]:
    """Return documents sorted by ``field [ASC|DESC], ...``; the first field is the most important."""
    result = list(documents)
    for part in reversed([part for part in orderby.split(",") if part.strip()]):
        field, _, direction = part.strip().partition(" ")
        if direction.strip().upper() not in ("", "ASC", "DESC") or any(field not in document for document in result):
            raise bad_request(f"The order {part.strip()!r} is not known")
        down = direction.strip().upper() == "DESC"
        result.sort(key=lambda document, field=field: _sortable(document[field]), reverse=down)  # type: ignore[misc]
    return result


def _sortable(value: object) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else "")


def page(entries: Sequence[Any], limit: int, offset: int) -> list[Any]:
    """Return the entries of one page."""
    if limit < 0 or offset < 0:
        raise bad_request("limit and offset must not be negative")
    return list(entries[offset : offset + limit])


def trimmed(document: Document, fields: str | None) -> Document:
    """Return a document with the given fields only; with all of them if ``fields`` is None or empty."""
    if not fields:
        return document
    wanted = {field.strip() for field in fields.split(",")} | {"DATA_TYPE"}
    return {name: value for name, value in document.items() if name in wanted}
