"""Parse the body of POST /transfer or /delete into a submission."""

from __future__ import annotations

import posixpath
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.api_errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.testing.simulator.collection import Collection

__all__ = [
    "Item",
    "Submission",
    "checked_deadline",
    "checked_label",
    "read_submission",
    "read_submission_id",
    "required_text",
]

#: docs.globus.org, "Task Submission", 2.2.
LABEL_LIMIT = 128

Body = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One path to delete, or a pair of paths to transfer; with ``recursive`` None, the source type decides."""

    source_path: str
    destination_path: str = ""
    recursive: bool | None = None
    external_checksum: str | None = None
    checksum_algorithm: str | None = None


@dataclass
class Submission:
    """A transfer or a delete; the names of its options are those of the documents."""

    kind: str
    source: Collection
    destination: Collection | None
    items: tuple[Item, ...]
    label: str | None = None
    #: Whether the user set the deadline, which is then never extended.
    fixed_deadline: bool = False
    sync_level: int | None = None
    filter_rules: tuple[Body, ...] = ()
    flags: Body = field(default_factory=dict)
    #: The document as received.
    body: Body = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Whether an option is on."""
        return bool(self.flags.get(name))

    def same_paths(self, other: Submission) -> bool:
        """Whether another submission moves the same paths between the same collections."""
        return self._paths() == other._paths()

    def _paths(self) -> object:
        pairs = {(item.source_path, item.destination_path) for item in self.items}
        return self.kind, self.source, self.destination, pairs

    def document(self) -> Body:
        """Return the part of the task document that describes the submission."""
        transfer = self.kind == "TRANSFER"
        return {
            "command": "API 0.10",
            "type": self.kind,
            "label": self.label,
            "sync_level": self.sync_level,
            "filter_rules": [dict(rule) for rule in self.filter_rules] or None,
            "recursive_symlinks": "ignore" if transfer else None,
            **{name: self.flag(name) if transfer else None for name in TRANSFER_FLAGS},
            **self._base_paths(),
            **_collection_keys("source", self.source),
            **_collection_keys("destination", self.destination),
        }

    def _base_paths(self) -> Body:
        """Return the folder on each side that contains all items, if the user requested it.

        The keys are optional, and may be null (globus-sdk-javascript, ``TaskDocument``); their values are undocumented.
        """
        if not self.body.get("store_base_path_info"):
            return {}
        keys = ("source_base_path", "destination_base_path")
        sides = zip(*((item.source_path, item.destination_path) for item in self.items), strict=True)
        return {
            key: posixpath.commonpath([posixpath.dirname(path.rstrip("/")) for path in paths]) if all(paths) else None
            for key, paths in zip(keys, sides, strict=True)
        }


#: Boolean options that the task document repeats.
TRANSFER_FLAGS = (
    "delete_destination_extra",
    "encrypt_data",
    "fail_on_quota_errors",
    "preserve_timestamp",
    "skip_source_errors",
    "verify_checksum",
)
DELETE_FLAGS = ("recursive", "ignore_missing", "interpret_globs")


def _collection_keys(side: str, collection: Collection | None) -> Body:
    return {
        f"{side}_endpoint": None if collection is None else f"u_simulated#{collection.id}",
        f"{side}_endpoint_display_name": None if collection is None else collection.display_name,
        f"{side}_endpoint_id": None if collection is None else collection.id,
    }


def read_submission_id(body: Body) -> str:
    """Return the submission id, which must be a UUID."""
    given = body.get("submission_id")
    try:
        return str(uuid.UUID(str(given)))
    except ValueError:
        raise bad_request(f"submission_id {given!r} is not a UUID; get one from /submission_id") from None


def read_submission(body: Body, find: Callable[[str], Collection], now: float) -> tuple[Submission, float | None]:
    """Return the submission of a body, and its deadline in seconds since 1970, if any."""
    kinds = {"transfer": _read_transfer, "delete": _read_delete}
    data_type = body.get("DATA_TYPE")
    if data_type not in kinds:
        raise bad_request(f"DATA_TYPE is {data_type!r}; expected 'transfer' or 'delete'")
    submission = kinds[data_type](body, find)
    submission.body = body
    submission.label = checked_label(body.get("label"))
    deadline = checked_deadline(body.get("deadline"), now)
    submission.fixed_deadline = deadline is not None
    return submission, deadline


def _read_transfer(body: Body, find: Callable[[str], Collection]) -> Submission:
    items = _items(body, "transfer_item", "A transfer requires at least one item")
    return Submission(
        kind="TRANSFER",
        source=find(_text(body, "source_endpoint")),
        destination=find(_text(body, "destination_endpoint")),
        items=tuple(_read_item(item) for item in items),
        sync_level=_sync_level(body.get("sync_level")),
        filter_rules=_filter_rules(body.get("filter_rules")),
        flags={name: body.get(name, False) for name in TRANSFER_FLAGS},
    )


def _read_delete(body: Body, find: Callable[[str], Collection]) -> Submission:
    items = _items(body, "delete_item", "A delete requires at least one item")
    return Submission(
        kind="DELETE",
        source=find(_text(body, "endpoint")),
        destination=None,
        items=tuple(Item(_text(item, "path")) for item in items),
        flags={name: body.get(name, False) for name in DELETE_FLAGS},
    )


def _items(body: Body, data_type: str, missing: str) -> list[Body]:
    items = body.get("DATA")
    if not items:
        noun = "Transfer" if data_type == "transfer_item" else "Delete"
        raise bad_request(missing, f"ClientError.BadRequest.No{noun}Items")
    if not isinstance(items, list) or any(not isinstance(item, dict) for item in items):
        raise bad_request("DATA is not a list of objects")
    for item in items:
        if item.get("DATA_TYPE") != data_type:
            raise bad_request(f"The DATA_TYPE of an item is {item.get('DATA_TYPE')!r}; expected {data_type!r}")
    return items


def _read_item(item: Body) -> Item:
    source, destination = _text(item, "source_path"), _text(item, "destination_path")
    recursive = item.get("recursive")
    if recursive is not None and not isinstance(recursive, bool):
        raise bad_request(f"recursive is {recursive!r}; expected true or false")
    if recursive is False and (source.endswith("/") or destination.endswith("/")):
        raise bad_request("The recursive option should be used when transfering directories")
    checksum = item.get("external_checksum")
    if recursive and checksum:
        raise bad_request("external_checksum cannot be used with a directory")
    return Item(source, destination, recursive, checksum, item.get("checksum_algorithm"))


def required_text(body: Body, key: str) -> str:
    """Return the value of a key, which must be a string and not empty."""
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{key} is {value!r}; expected a string that is not empty")
    return value


def _text(body: Body, key: str) -> str:
    value = required_text(body, key)
    if "\r\n" in value:
        raise bad_request(f"{key} contains a line break", "ClientError.BadRequest.InvalidPath")
    return value


def _sync_level(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1, 2, 3):
        raise bad_request(f"sync_level is {value!r}; expected 0, 1, 2, 3 or null")
    return int(str(value))


def _filter_rules(value: object) -> tuple[Body, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise bad_request("filter_rules is not a list")
    for rule in value:
        known = isinstance(rule, dict) and rule.get("method") in ("include", "exclude") and rule.get("name")
        if not known or rule.get("type") not in (None, "file", "dir"):
            raise bad_request(f"The filter rule {rule!r} is wrong; it needs a method, a name and at most a type")
    return tuple(value)


def checked_label(label: object) -> str | None:
    """Return a label, which must be short and without line breaks or surrounding spaces."""
    if label is None or label == "":
        return None
    if not isinstance(label, str) or label != label.strip() or "\n" in label or "\r" in label:
        raise bad_request(f"The label {label!r} has line breaks, or spaces around it")
    if len(label) > LABEL_LIMIT:
        raise bad_request(f"The label has {len(label)} characters; at most {LABEL_LIMIT} are allowed")
    return label


def checked_deadline(text: object, now: float) -> float | None:
    """Return a deadline in seconds since 1970; it must be in the future, and is UTC if it has no time zone."""
    if text is None:
        return None
    try:
        deadline = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise bad_request(f"The deadline {text!r} is not in ISO 8601") from None
    if deadline.tzinfo is None:
        deadline = deadline.replace(tzinfo=timezone.utc)
    if deadline.timestamp() <= now:
        raise bad_request(f"The deadline {text!r} has passed")
    return deadline.timestamp()
