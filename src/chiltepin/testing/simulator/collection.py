"""A collection: a folder of this machine with a name and a UUID."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.errors import PermissionDeniedError
from chiltepin.model import UUID
from chiltepin.protocol import paths
from chiltepin.testing.simulator.task_faults import TaskFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.protocol.paths import Parts

__all__ = ["NAMESPACE", "Collection"]

#: The namespace of all ids of the simulator, which are therefore the same on every machine.
NAMESPACE = uuid.UUID("c0ffee00-c417-4e91-8000-6368696c7465")


@dataclass(eq=False)
class Collection:
    """One collection; tests can change its attributes while it is in use.

    Parameters
    ----------
    name : str
        Its name in the simulator, from which its id is derived.
    folder : str
        Its folder; created if it is missing. Nothing outside it is ever read, written or removed.
    display_name : str
        Its name for users; several collections may have the same.
    entity_type : str
        Its type at Globus.
    connected : bool
        False: its Globus Connect Personal is switched off.
    high_assurance : bool
        Only shown, never enforced.
    needs_consent : bool
        Whether a token must carry the ``data_access`` scope of this collection.
    session_policy : str, mapping or None
        A domain in which the user must have logged in, or authorization parameters, such as
        ``{"session_required_policies": ["..."], "session_required_mfa": True}``. None: no policy.
    paused : bool
        Whether a rule of the administrator pauses all tasks here.
    pause_message : str
        The message of the rule for users; empty for a default.
    quota : int or None
        Bytes that may still be written; None: no limit.
    denied : set of str
        Absolute paths that cannot be read or written, and neither can anything below them.
    faulty : dict of str to str
        Absolute paths that have a fault, including everything below them, and its code, such as ``NO_PHYSICALS``.
    hides_paths : bool
        Whether its paths are null in a task's lists of moved and skipped files, as for a user without a role.
    owner : str or None
        Username of the owner; None: every user owns it.
    default_directory : str
        The meaning of ``~``, and the folder where relative paths start.
    id : str
        Its UUID; empty: the name, if that is a UUID, else derived from the name, the same on every machine.
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
    pause_message: str = ""
    quota: int | None = None
    denied: set[str] = field(default_factory=set)
    faulty: dict[str, str] = field(default_factory=dict)
    hides_paths: bool = False
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
        """Whether Globus Connect Personal serves it."""
        return self.entity_type.startswith("GCP_")

    @property
    def session_parameters(self) -> dict[str, Any]:
        """The policy as ``authorization_parameters`` of the service; empty for no policy."""
        if isinstance(self.session_policy, str):
            return {
                "session_message": f"Log in again with your identity of {self.session_policy}",
                "session_required_single_domain": [self.session_policy],
            }
        return dict(self.session_policy or {})

    @property
    def consent_scope(self) -> str:
        """The scope that a collection with ``needs_consent`` requires."""
        return f"https://auth.globus.org/scopes/{self.id}/data_access"

    def parts(self, path: str) -> Parts:
        """Return the names that lead from the folder to ``path``, without resolving links.

        The fault is ``PERMISSION_DENIED`` if ``..`` leads outside the collection, and ``INVALID_PATH_NAME`` for an
        invalid path.
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
        """Raise the fault of a path: ``PERMISSION_DENIED`` if it is denied."""
        for path, code in {**dict.fromkeys(self.denied, "PERMISSION_DENIED"), **self.faulty}.items():
            refused = tuple(name for name in path.split("/") if name)
            if parts[: len(refused)] == refused:
                said = code.replace("_", " ").capitalize()
                raise TaskFault(code, f"{self.where(paths.joined(parts))}: {said}")

    def where(self, path: str) -> str:
        """Return the first lines of the details of an event about a path."""
        return f"Endpoint: {self.display_name} ({self.id})\nFile: {path}\nMessage"
