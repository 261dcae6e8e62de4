"""The documents about collections and files. Their keys were compared with those of ``globus_sdk.testing``."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chiltepin.testing.simulator.clock import utc
from chiltepin.testing.simulator.collection import NAMESPACE

if TYPE_CHECKING:
    from chiltepin.testing.simulator.authority import Grant
    from chiltepin.testing.simulator.collection import Collection

__all__ = ["NEWER", "endpoint_document", "file_document", "owner_of"]

#: The values that are the same for every collection here.
_PLAIN: dict[str, Any] = {
    "acl_available": False,
    "acl_editable": False,
    "activated": False,
    "description": "A folder that the Chiltepin simulator shows as a collection.",
    "disable_anonymous_writes": False,
    "disable_verify": False,
    "expire_time": None,
    "expires_in": None,
    "force_encryption": False,
    "force_verify": False,
    "french_english_bilingual": False,
    "globus_connect_setup_key": None,
    "host_path": None,
    "mfa_required": False,
    "myproxy_dn": None,
    "myproxy_server": None,
    "non_functional": False,
    "non_functional_endpoint_display_name": None,
    "non_functional_endpoint_id": None,
    "oauth_server": None,
    "organization": "Chiltepin simulator",
    "public": False,
    "s3_owner_activated": False,
    "s3_url": None,
}

#: The same for keys that are newer than the examples in ``globus_sdk.testing``.
NEWER: dict[str, Any] = {
    "acl_max_expiration_period_mins": None,
    "authentication_assurance_timeout": None,
    "authentication_timeout_mins": None,
    "contact_email": None,
    "contact_info": None,
    "department": None,
    "gcs_manager_url": None,
    "host_endpoint": None,
    "https_server": None,
    "info_link": None,
    "keywords": None,
    "last_accessed_time": None,
    "local_user_info_available": False,
    "location": None,
    "mapped_collection_display_name": None,
    "mapped_collection_id": None,
    "max_concurrency": 4,
    "max_parallelism": 8,
    "network_use": "normal",
    "preferred_concurrency": 2,
    "preferred_parallelism": 4,
    "requester_pays": False,
    "subscription_id": None,
    "tlsftp_server": None,
    "user_message": None,
    "user_message_link": None,
}

_TYPES = (
    (stat.S_ISDIR, "dir"),
    (stat.S_ISREG, "file"),
    (stat.S_ISCHR, "chr"),
    (stat.S_ISBLK, "blk"),
    (stat.S_ISFIFO, "pipe"),
)


def owner_of(collection: Collection, grant: Grant) -> tuple[str, str]:
    """Return the identity and the username of the owner, as the bearer of a token sees them."""
    if collection.owner is None or collection.owner == grant.username:
        return grant.identity_id, grant.username
    return str(uuid.uuid5(NAMESPACE, f"identity {collection.owner}")), collection.owner


def endpoint_document(collection: Collection, grant: Grant, *, in_use: bool = False) -> dict[str, Any]:
    """Return the document of a collection, as the bearer of a token sees it."""
    owner_id, owner = owner_of(collection, grant)
    personal = collection.is_personal
    host = None if personal else str(uuid.uuid5(NAMESPACE, f"host of {collection.name}"))
    return {
        "DATA_TYPE": "endpoint",
        **_PLAIN,
        **NEWER,
        "DATA": [_server_document(collection)],
        "canonical_name": f"{owner}#{collection.id}",
        "default_directory": collection.default_directory,
        "display_name": collection.display_name,
        "entity_type": collection.entity_type,
        "gcp_connected": collection.connected if personal else None,
        "gcp_paused": False if personal else None,
        "gcs_version": None if personal else "5.4.80",
        "high_assurance": collection.high_assurance,
        "host_endpoint_display_name": None if personal else f"Host of {collection.display_name}",
        "host_endpoint_id": host,
        "id": collection.id,
        "in_use": in_use,
        "is_globus_connect": personal,
        "my_effective_roles": ["administrator"] if owner_id == grant.identity_id else [],
        "name": collection.id,
        "owner_id": owner_id,
        "owner_string": owner,
        "shareable": personal,
        "username": owner,
    }


def _server_document(collection: Collection) -> dict[str, Any]:
    return {
        "DATA_TYPE": "server",
        "hostname": "127.0.0.1",
        "id": 1,
        "incoming_data_port_end": None,
        "incoming_data_port_start": None,
        "is_connected": collection.connected,
        "is_paused": collection.paused,
        "outgoing_data_port_end": None,
        "outgoing_data_port_start": None,
        "port": 443,
        "scheme": "gsiftp",
        "subject": None,
        "uri": "gsiftp://127.0.0.1:443",
    }


def file_document(folder: int, name: str, *, called: str | None = None) -> dict[str, Any]:
    """Return the document of an entry of an open folder, ``"."`` for the folder itself; ``called`` replaces the name.

    A link is described by its target text, and is never followed. A missing entry is a FileNotFoundError.
    """
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    link = stat.S_ISLNK(facts.st_mode)
    kind = next((word for test, word in _TYPES if test(facts.st_mode)), "other")
    document = {
        "DATA_TYPE": "file",
        "name": name if called is None else called,
        "type": "invalid_symlink" if link else kind,
        "size": facts.st_size,
        "permissions": f"{stat.S_IMODE(facts.st_mode):04o}",
        "user": _user(facts.st_uid),
        "group": _group(facts.st_gid),
        "last_modified": _modified(facts),
        **dict.fromkeys(("link_target", "link_size", "link_user", "link_group", "link_last_modified")),
    }
    if link:
        document |= {
            "link_target": os.readlink(name, dir_fd=folder),
            "link_size": facts.st_size,
            "link_user": document["user"],
            "link_group": document["group"],
            "link_last_modified": document["last_modified"],
        }
    return document


def _modified(facts: os.stat_result) -> str | None:
    # A disk may keep a time after the year 9999, which no datetime can hold.
    with suppress(ValueError, OverflowError, OSError):
        return utc(facts.st_mtime).isoformat(sep=" ", timespec="seconds")
    return None


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
