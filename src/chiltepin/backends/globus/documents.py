"""Build the documents of the Transfer API from our requests."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import globus_sdk

from chiltepin.backends.globus.options import DEFAULTS
from chiltepin.model import LABEL_LIMIT, NOTIFY_EVENTS
from chiltepin.protocol.paths import glob, joined, parts, root_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.backends.globus.collections import Collection
    from chiltepin.backends.globus.options import GlobusOptions
    from chiltepin.model import DeleteRequest, Request, TransferRequest

__all__ = ["delete_document", "fingerprint", "global_path", "plain_label", "transfer_document", "unsupported_reason"]


def global_path(path: str, place: Collection) -> str:
    """Return a path in the form that the Transfer API expects.

    An absolute path starts at the root of the collection. A relative path, or one below ``~``, starts at the endpoint's
    ``home:``, or else at the collection's default directory, which Globus calls ``/~/``.

    Raises
    ------
    PermissionDeniedError
        If ``..`` leads out of the root, or out of a home folder that only Globus knows.
    """
    if place.home is not None or path.startswith("/"):
        return joined(parts(path, home=place.home or "/", endpoint=place.name))
    return joined(("~", *parts(path, endpoint=place.name)))


def deletable_path(path: str, place: Collection) -> str:
    """Return a path to delete, like `global_path`, but refuse a root and the home folder itself."""
    found = global_path(path, place)
    if found in ("/", "/~"):
        raise root_refusal(path, endpoint=place.name, backend="globus")
    return found


def unsupported_reason(request: TransferRequest, source: Collection, destination: Collection) -> str:
    """Return why Globus must not delete extra files, as a sentence; empty if it may.

    Globus removes files, folders and links that the source lacks or has as another kind (docs.globus.org, "Task
    Submission", 2.3). Its documentation does not say whether it also removes files that the filters exclude, or what
    happens to a source inside the destination.
    """
    if not request.delete_destination_extra:
        return ""
    if request.filters:
        return (
            "Globus may remove files that the filters exclude when it removes extra files; use either filters or "
            "delete_destination_extra."
        )
    (item,) = request.items
    origin, goal = global_path(item.source, source), global_path(item.destination, destination)
    if source.id == destination.id and f"{origin}/".startswith(f"{goal.rstrip('/')}/"):
        return f"{item.source} lies in {item.destination}, and would be deleted with the extra files there."
    return ""


def transfer_document(
    request: TransferRequest,
    source: Collection,
    destination: Collection,
    *,
    submission_id: str,
    options: GlobusOptions = DEFAULTS,
) -> globus_sdk.TransferData:
    """Return the document of a transfer; ``options`` are defaults for what the request does not set."""
    pairs = [(global_path(item.source, source), global_path(item.destination, destination)) for item in request.items]
    # Globus refuses a task with the same paths as a running task, whatever its options.
    signature = ["transfer", source.id, destination.id, sorted(pairs)]
    quota_fails = _chosen(request.fail_on_quota_errors, options.fail_on_quota_errors)
    document = globus_sdk.TransferData(
        source.id,
        destination.id,
        sync_level=request.sync_level or globus_sdk.MISSING,
        verify_checksum=request.verify_checksum,
        preserve_timestamp=request.preserve_timestamp,
        encrypt_data=_chosen(request.encrypt_data, options.encrypt_data),
        skip_source_errors=request.skip_source_errors,
        fail_on_quota_errors=quota_fails,
        delete_destination_extra=request.delete_destination_extra,
        source_local_user=request.source_local_user or source.local_user or globus_sdk.MISSING,
        destination_local_user=request.destination_local_user or destination.local_user or globus_sdk.MISSING,
        **_common(request, signature, submission_id, options),
    )
    for item, (origin, goal) in zip(request.items, pairs, strict=True):
        algorithm, _, digits = item.checksum.partition(":")
        algorithm = algorithm or request.checksum_algorithm or options.checksum_algorithm
        document.add_item(
            origin,
            goal,
            recursive=request.recursive,
            external_checksum=digits or globus_sdk.MISSING,
            checksum_algorithm=algorithm.upper() or globus_sdk.MISSING,
        )
    for rule in request.filters:
        document.add_filter_rule(rule.name, method=rule.method, type=rule.kind)
    return document


def delete_document(
    request: DeleteRequest, place: Collection, *, submission_id: str, options: GlobusOptions = DEFAULTS
) -> globus_sdk.DeleteData:
    """Return the document of a deletion; ``options`` as for `transfer_document`."""
    doomed = [deletable_path(path, place) for path in request.paths]
    if request.globs:
        for path in doomed:
            glob(path.rpartition("/")[2])
    document = globus_sdk.DeleteData(
        place.id,
        recursive=request.recursive,
        ignore_missing=request.ignore_missing,
        interpret_globs=request.globs,
        local_user=request.local_user or place.local_user or globus_sdk.MISSING,
        **_common(request, ["delete", place.id, sorted(doomed)], submission_id, options),
    )
    for path in doomed:
        document.add_item(path)
    return document


def _chosen(value: bool | None, default: bool) -> bool:  # noqa: FBT001 - the value of an option, and its default
    return default if value is None else value


def _common(request: Request, signature: Any, submission_id: str, options: GlobusOptions) -> dict[str, Any]:
    events = options.notify if request.notify is None else request.notify
    return {
        "submission_id": submission_id,
        "label": _label(request.label, signature),
        "deadline": _whole_second(request.deadline) if request.deadline else globus_sdk.MISSING,
        **{f"notify_on_{event}": event in events for event in NOTIFY_EVENTS},
    }


def _whole_second(moment: datetime) -> str:
    """Return a time in the service's format, rounded up to a whole second."""
    return (moment.astimezone(timezone.utc) + timedelta(microseconds=999_999)).isoformat(timespec="seconds")


def _label(label: str, signature: Any) -> str:
    """Return a label that identifies the paths: the service does not list the items of a running task."""
    digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()[:12]
    marked = f"{label} chiltepin-{digest}".strip()
    return marked if len(marked) <= LABEL_LIMIT else label


def fingerprint(document: Mapping[str, Any]) -> str:
    """Return the fingerprint in the label of a document or task; empty if it has none."""
    last = str(document.get("label") or "").rpartition(" ")[2]
    return last if last.startswith("chiltepin-") else ""


def plain_label(document: Mapping[str, Any]) -> str:
    """Return the label of a document or task without its fingerprint."""
    return str(document.get("label") or "").removesuffix(fingerprint(document)).strip()
