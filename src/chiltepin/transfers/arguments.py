"""Build a request from the arguments of a user's call, all of which are checked here.

`check` checks each argument by itself, so that a call can be refused at once even if another argument is still a
future; `transfer_request` and `delete_request` build the frozen request when all arguments are known.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypedDict, cast

from chiltepin.errors import shown, suggest
from chiltepin.model import (
    CHECKSUMS,
    NOTIFY_EVENTS,
    SYNC_LEVELS,
    UUID,
    UUID_LENGTH,
    DeleteRequest,
    FilterRule,
    TransferItem,
    TransferRequest,
    contradiction,
    endpoint_name,
    is_checksum,
    notify_events,
)
from chiltepin.protocol.paths import named
from chiltepin.settings import limits

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["TIMES", "DeleteOptions", "TransferOptions", "check", "checked", "delete_request", "transfer_request"]

#: Arguments of a call that are checked elsewhere, for suggestions.
_NOT_OF_REQUESTS = ("check", "client", "executor", "inputs")

#: The arguments of a call that are not part of its request.
TIMES = ("timeout", "polling_interval")


def _name(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give the name of an endpoint as a string.")
    if not value.strip():
        raise ValueError(f"{argument}={shown(value)} is not an endpoint; give a name from data: endpoints:.")
    # Only a UUID has several spellings.
    return endpoint_name(value) if len(value) == UUID_LENGTH else value


def _path(argument: str, value: Any) -> str:
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a path as a string.")
    if "\r\n" in text:
        # docs.globus.org, "File Operations", 2.1; checked on every backend, so that a test without Globus finds it.
        raise ValueError(f"{argument}={shown(value)} contains a Windows line break; rename that file or folder.")
    return named(text)


def _seconds(argument: str, value: Any) -> float:
    if limits.SECONDS.holds(value):
        return float(value)
    if not limits.is_number(value):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a number of seconds, such as 3600.")
    raise ValueError(f"{argument}={shown(value)} is out of range; give {limits.SECONDS.remedy(value)}, such as 3600.")


def _interval(argument: str, value: Any) -> float:
    # A shorter interval would poll as fast as the machine allows.
    return max(_seconds(argument, value), limits.SHORTEST_POLL)


def _flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give True or False.")
    return value


def _label(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a string.")
    if value and (remedy := limits.label_problem(value)):
        raise ValueError(f"{argument}={shown(value)} is not a valid label; {remedy}.")
    return value


def _sync_level(argument: str, value: Any) -> str | None:
    if value is not None and value not in SYNC_LEVELS:
        raise ValueError(f"{argument}={shown(value)} is not a valid sync level; {suggest(value, SYNC_LEVELS)}")
    return value  # type: ignore[no-any-return]


def _patterns(argument: str, value: Any) -> tuple[str, ...]:
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, Iterable):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a list of patterns, such as ['*.nc'].")
    patterns = tuple(patterns)
    for pattern in patterns:
        if not _is_pattern(pattern):
            raise ValueError(
                f"{argument}={shown(value)} holds {shown(pattern)}; a pattern must match file names, such as '*.nc'."
            )
    return patterns


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not any(text in value for text in ("/", "\0", "\r\n"))


def _filters(argument: str, value: Any) -> tuple[FilterRule, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(
            f"{argument}={shown(value)} is {_kind(value)}; give a list of rules, such as [('exclude', '1.nc'), "
            "('include', '*.nc')]."
        )
    return tuple(_filter(argument, rule) for rule in value)


def _filter(argument: str, rule: Any) -> FilterRule:
    texts = [*rule, "file"][:3] if isinstance(rule, list | tuple) and len(rule) in (2, 3) else ["", "", ""]
    method, name, kind = texts
    if method not in ("include", "exclude") or kind not in ("file", "dir") or not _is_pattern(name):
        raise ValueError(
            f"{argument} holds {shown(rule)}; a rule is ('include' or 'exclude', pattern) for the names of files, such "
            "as ('exclude', '*.tmp'), with 'dir' as a third value for the names of folders."
        )
    return FilterRule(method=cast("Any", method), name=name, kind=cast("Any", kind))


def _checksum(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a string such as 'sha256:' and the digits.")
    if not value:
        return value
    algorithm, colon, digits = value.lower().partition(":")
    if not colon or not algorithm:
        raise ValueError(
            f"{argument}={shown(value)} has no algorithm before a colon; give 'sha256:' and the digits, for example; "
            f"{suggest(algorithm, CHECKSUMS)}"
        )
    if algorithm not in CHECKSUMS:
        raise ValueError(
            f"{argument}={shown(value)} has the unknown algorithm {shown(algorithm)}; {suggest(algorithm, CHECKSUMS)}"
        )
    if not is_checksum(f"{algorithm}:{digits}"):
        raise ValueError(
            f"{argument}={shown(value)} is not a valid checksum; {algorithm} has {CHECKSUMS[algorithm]} hexadecimal "
            "digits, "
            f"and there are {len(digits)} characters."
        )
    return f"{algorithm}:{digits}"


def _workers(argument: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a whole number, such as 4.")
    if not limits.COUNT.holds(value):
        raise ValueError(f"{argument}={shown(value)} is out of range; give {limits.COUNT.remedy(value)}, such as 4.")
    return int(value)


def _choice(argument: str, value: Any) -> bool | None:
    return None if value is None else _flag(argument, value)


def _text(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a string.")
    return value


def _algorithm(argument: str, value: Any) -> str:
    name = _text(argument, value).lower()
    if name and name not in CHECKSUMS:
        raise ValueError(f"{argument}={shown(value)} is not a known algorithm; {suggest(name, CHECKSUMS)}")
    return name


def _events(argument: str, value: Any) -> tuple[str, ...] | None:
    events = None if value is None else notify_events(value)
    if value is not None and events is None:
        raise ValueError(
            f"{argument}={shown(value)} is not valid; give True, False, or a list of {', '.join(NOTIFY_EVENTS)}."
        )
    return events


def _deadline(argument: str, value: Any) -> datetime | None:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(
                f"{argument}={shown(value)} is not a time; give one such as '2030-01-31T12:00:00', in UTC."
            ) from None
    if moment is not None and not isinstance(moment, datetime):
        raise TypeError(f"{argument}={shown(value)} is {_kind(value)}; give a datetime, or its text in UTC.")
    # The service treats a time without a zone as UTC (SDK documentation, ``TransferData``).
    return moment.replace(tzinfo=timezone.utc) if moment is not None and moment.tzinfo is None else moment


def _submission_id(argument: str, value: Any) -> str:
    if value and not UUID.fullmatch(str(value)):
        raise ValueError(
            f"{argument}={shown(value)} is not a UUID; give one that 'globus task generate-submission-id' prints."
        )
    return str(value or "").lower()


CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "src_ep": _name,
    "dst_ep": _name,
    "src_path": _path,
    "dst_path": _path,
    "timeout": _seconds,
    "polling_interval": _interval,
    "walltime": _seconds,
    "recursive": _flag,
    "sync_level": _sync_level,
    "verify_checksum": _flag,
    "preserve_timestamp": _flag,
    "include": _patterns,
    "exclude": _patterns,
    "filters": _filters,
    "checksum": _checksum,
    "delete_destination_extra": _flag,
    "ignore_missing": _flag,
    "label": _label,
    "workers": _workers,
    "skip_source_errors": _flag,
    "encrypt_data": _choice,
    "fail_on_quota_errors": _choice,
    "checksum_algorithm": _algorithm,
    "source_local_user": _text,
    "destination_local_user": _text,
    "globs": _flag,
    "local_user": _text,
    "notify": _events,
    "deadline": _deadline,
    "submission_id": _submission_id,
}


class TransferOptions(TypedDict, total=False):
    """Options of a transfer that only some backends support; see `chiltepin.model.TransferRequest`."""

    skip_source_errors: Any
    encrypt_data: Any
    fail_on_quota_errors: Any
    checksum_algorithm: Any
    source_local_user: Any
    destination_local_user: Any
    notify: Any
    deadline: Any
    submission_id: Any


class DeleteOptions(TypedDict, total=False):
    """Options of a deletion that only some backends support; see `chiltepin.model.DeleteRequest`."""

    globs: Any
    local_user: Any
    notify: Any
    deadline: Any
    submission_id: Any


def _inside(folder: str, source: str) -> str:
    """Return the path of a file in a folder, under its current name."""
    return posixpath.join(posixpath.normpath(folder), posixpath.basename(posixpath.normpath(source)))


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def check(argument: str, value: Any) -> Any:
    """Return the value of an argument in the form of the requests.

    The argument is a parameter of `chiltepin.data.transfer_task` or `chiltepin.data.delete_task`. An invalid value
    raises a TypeError or ValueError whose message says what to give instead.
    """
    if argument not in CHECKS:
        raise TypeError(f"Unknown argument {argument!r}; {suggest(argument, CHECKS)}")
    return CHECKS[argument](argument, value)


def checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return each named argument as `check` returns it, or raise its errors."""
    return {name: check(name, value) for name, value in asked.items()}


def transfer_request(
    *,
    src_ep: Any,
    dst_ep: Any,
    src_path: Any,
    dst_path: Any,
    recursive: Any = False,
    sync_level: Any = None,
    verify_checksum: Any = True,
    preserve_timestamp: Any = False,
    include: Any = (),
    exclude: Any = (),
    filters: Any = (),
    checksum: Any = "",
    delete_destination_extra: Any = False,
    label: Any = "",
    **options: Unpack[TransferOptions],
) -> TransferRequest:
    """Return the request of a ``transfer`` call; raise the errors of `check`.

    ``include`` and ``exclude`` become filter rules in that order, so that ``include=["*.nc"], exclude=["*"]`` moves
    only the ``.nc`` files; ``filters`` are rules in any order.
    """
    folder, origin, target = check("recursive", recursive), check("src_path", src_path), check("dst_path", dst_path)
    patterns = (
        *(FilterRule(method="include", name=name) for name in check("include", include)),
        *(FilterRule(method="exclude", name=name) for name in check("exclude", exclude)),
    )
    rules = check("filters", filters)
    if patterns and rules:
        raise ValueError(
            "filters cannot be combined with include and exclude, because filters are ordered; write all rules in "
            "filters."
        )
    if not folder and target.endswith(("/", "/.", "/..")):
        raise ValueError(
            f"dst_path={target!r} is a folder, but a file needs its full new path; "
            f"write {_inside(target, origin)!r}, or set recursive=True to move a folder."
        )
    known = _known(options, TransferOptions)
    request = TransferRequest(
        source=check("src_ep", src_ep),
        destination=check("dst_ep", dst_ep),
        items=(TransferItem(source=origin, destination=target, checksum=check("checksum", checksum)),),
        recursive=folder,
        sync_level=check("sync_level", sync_level),
        verify_checksum=check("verify_checksum", verify_checksum),
        preserve_timestamp=check("preserve_timestamp", preserve_timestamp),
        filters=patterns or rules,
        delete_destination_extra=check("delete_destination_extra", delete_destination_extra),
        label=check("label", label),
        accept_skipped=known.get("skip_source_errors", False),
        **known,
    )
    if why := contradiction(request):
        raise ValueError(why)
    return request


def delete_request(
    *,
    src_ep: Any,
    src_path: Any,
    recursive: Any = False,
    ignore_missing: Any = False,
    label: Any = "",
    **options: Unpack[DeleteOptions],
) -> DeleteRequest:
    """Return the request of a ``delete`` call; raise the errors of `check`."""
    return DeleteRequest(
        endpoint=check("src_ep", src_ep),
        paths=(check("src_path", src_path),),
        recursive=check("recursive", recursive),
        ignore_missing=check("ignore_missing", ignore_missing),
        label=check("label", label),
        **_known(options, DeleteOptions),
    )


def _known(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return the checked options; a name that ``kind`` does not have is a TypeError, as for any function."""
    for name in options:
        if name not in kind.__annotations__:
            others = {*TransferOptions.__annotations__, *DeleteOptions.__annotations__} - {*kind.__annotations__}
            known = [*CHECKS.keys() - others, *_NOT_OF_REQUESTS]
            raise TypeError(f"Unknown argument {name!r}; {suggest(name, known)}")
    return checked(options)
