"""A collection: a folder of this machine under a name and a UUID."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chiltepin import paths
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.errors import PermissionDeniedError
from chiltepin.model import UUID
from chiltepin.testing.simulator.task_faults import TaskFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.paths import Parts

__all__ = ["NAMESPACE", "Collection"]

#: All ids of the simulated world are made from names in here, so that they are the same on every machine.
NAMESPACE = uuid.UUID("c0ffee00-c417-4e91-8000-6368696c7465")


@dataclass(eq=False)
class Collection:
    """One collection; tests change its attributes while it is in use.

    Parameters
    ----------
    name : str
        What the simulator calls it; its id comes from this.
    folder : str
        The folder that it shows; made if it is missing. Nothing outside it is ever read, written or removed.
    display_name : str
        What users call it; several collections may share one.
    entity_type : str
        Globus's word for its kind.
    connected : bool
        False: the Globus Connect Personal behind it is switched off.
    high_assurance : bool
        Only told, never enforced.
    needs_consent : bool
        Whether a token must carry the ``data_access`` scope of this collection.
    session_policy : str, mapping or None
        A domain in which the user would have to have logged in lately; or authorization parameters, such as
        ``{"session_required_policies": ["..."], "session_required_mfa": True}``. None: no such policy.
    paused : bool
        Whether an administrator's rule pauses all tasks here.
    quota : int or None
        Bytes that may still be written; None: any number.
    denied : set of str
        Absolute paths that can be neither read nor written, with all below them.
    owner : str or None
        Username of the owner; None: whoever asks owns it.
    default_directory : str
        What ``~`` means, and where relative paths count from.
    id : str
        Its UUID; empty: the name, if that is one, else made of the name, the same on every machine.
    """

    name: str
    folder: str
    display_name: str = ""
    entity_type: str = "GCP_mapped_collection"
    connected: bool = True
    high_assurance: bool = False
    needs_consent: bool = False
    session_policy: str | Mapping[str, Any] | None = None
    paused: bool = False
    quota: int | None = None
    denied: set[str] = field(default_factory=set)
    owner: str | None = None
    default_directory: str = "/"
    id: str = ""
    store: LocalStore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.display_name = self.display_name or self.name
        self.folder = os.path.abspath(self.folder)
        if UUID.fullmatch(self.name):
            self.id = self.id or self.name.lower()
        self.id = self.id or str(uuid.uuid5(NAMESPACE, f"collection {self.name}"))
        os.makedirs(self.folder, exist_ok=True)
        self.store = LocalStore(self.folder, create=True)

    @property
    def is_personal(self) -> bool:
        """Whether a Globus Connect Personal serves it."""
        return self.entity_type.startswith("GCP_")

    @property
    def session_parameters(self) -> dict[str, Any]:
        """What a login has to be, as the service's ``authorization_parameters``; empty for no policy."""
        if isinstance(self.session_policy, str):
            return {
                "session_message": f"Log in again with your identity of {self.session_policy}",
                "session_required_single_domain": [self.session_policy],
            }
        return dict(self.session_policy or {})

    @property
    def consent_scope(self) -> str:
        """The scope without which a collection that needs consent refuses."""
        return f"https://auth.globus.org/scopes/{self.id}/data_access"

    def parts(self, path: str) -> Parts:
        """Return the names that lead from the folder to ``path``; no link is looked at.

        Raises
        ------
        TaskFault
            ``PERMISSION_DENIED`` if ``..`` leads out of the collection, ``INVALID_PATH_NAME`` if it names nothing.
        """
        if path == "/~" or path.startswith("/~/"):
            path = path[1:]
        try:
            return paths.parts(path or "~", home=self.default_directory, endpoint=self.display_name)
        except PermissionDeniedError:
            raise TaskFault("PERMISSION_DENIED", f"{self.where(path)}: Path not allowed.", outside=True) from None
        except ValueError as err:
            raise TaskFault("INVALID_PATH_NAME", str(err)) from None

    def admit(self, parts: Parts) -> None:
        """Refuse a path that is denied.

        Raises
        ------
        TaskFault
            ``PERMISSION_DENIED``.
        """
        for denied in self.denied:
            refused = tuple(name for name in denied.split("/") if name)
            if parts[: len(refused)] == refused:
                raise TaskFault("PERMISSION_DENIED", f"{self.where(paths.joined(parts))}: Permission denied")

    def where(self, path: str) -> str:
        """Return the first lines that the service writes into the details of an event about a path."""
        return f"Endpoint: {self.display_name} ({self.id})\nFile: {path}\nMessage"
