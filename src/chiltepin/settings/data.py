"""The ``data`` section: which backend moves the bytes, and where each endpoint is on it."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chiltepin.model import FAULT_GRACE, UUID

__all__ = ["DataSettings", "Endpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint: its home folder, if set, and for each backend that serves it, its location, as JSON data."""

    home: str | None = None
    places: dict[str, dict[str, Any]] = field(default_factory=dict)


# Without slots, because a cached property needs a ``__dict__``.
@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The ``data`` section of the settings; plain data, the same in every process.

    Parameters
    ----------
    file : str
        The settings file, as the user named it; empty if the settings came from a dict.
    backend : str
        The backend that moves the bytes; Globus by default.
    check : bool
        Whether a transfer that did not succeed raises its error; False gives False instead.
    executor : str or tuple of str or None
        The executor of a transfer whose call names none.
    fault_grace : float
        Seconds that a service may report a permanent fault (no such file, no permission, a full disk) before its task
        is stopped. The default leaves time for a file that is still being created, and for a laptop that changes
        networks.
    workers : int
        Maximum number of workers of an executor that move one folder together; a call may override it.
    batch : bool
        Whether similar transfers share a task of a service.
    journal : str
        Absolute path of the journal folder, which records submissions to services and the transfers on every backend;
        empty for none.
    root : str
        The folder of the backend ``local``, absolute.
    endpoints : dict
        The endpoints, by name.
    backends : dict
        For each backend, its options: plain data that JSON can hold.
    """

    file: str = ""
    backend: str = "globus"
    check: bool = True
    executor: str | tuple[str, ...] | None = None
    fault_grace: float = FAULT_GRACE
    workers: int = 1
    batch: bool = True
    journal: str = ""
    root: str
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)

    def places(self, backend: str) -> dict[str, dict[str, Any]]:
        """Return the location of each endpoint that a backend serves, by name; ``local`` serves every endpoint.

        A location is a copy of the plain data under the backend's name, with ``home`` if that is set. On other
        backends, an endpoint with a Globus collection is also found under the UUID of the collection, so that a
        workflow that names collections by UUID runs without Globus.
        """
        found = {}
        for name, endpoint in self.endpoints.items():
            place = endpoint.places.get(backend)
            if place is None and backend != "local":
                continue
            found[name] = copy.deepcopy(place) if place else {"folder": name}
            if endpoint.home is not None:
                found[name]["home"] = endpoint.home
        if backend != "globus":
            for name in list(found):
                collection = _collection(self.endpoints[name])
                if collection:
                    # If two endpoints have one collection, the first in the file gets its UUID.
                    found.setdefault(collection, copy.deepcopy(found[name]))
        return found

    def name_of(self, endpoint: str) -> str:
        """Return the name of an endpoint that may be given by the UUID of its collection: the first in the file."""
        if endpoint in self.endpoints or not UUID.fullmatch(endpoint):
            return endpoint
        found = (name for name, one in self.endpoints.items() if _collection(one) == endpoint.lower())
        return next(found, endpoint)

    def options(self, backend: str) -> dict[str, Any]:
        """Return the options of a backend, as a copy; those of ``local`` include ``root``."""
        options = copy.deepcopy(self.backends.get(backend, {}))
        return {**options, "root": self.root} if backend == "local" else options

    @cached_property
    def active_places(self) -> dict[str, dict[str, Any]]:
        """The location of each endpoint on the chosen backend, with its ``mount`` if it has one; read only.

        Folders of this machine are their own mount: those of ``local``, and paths of ``filesystem``.
        """
        places = self.places(self.backend)
        for place in places.values():
            if self.backend == "local":
                place["mount"] = os.path.join(self.root, place["folder"])
            elif self.backend == "filesystem" and os.path.isabs(place["url"]):
                place.setdefault("mount", place["url"])
        return places

    @cached_property
    def setup(self) -> str:
        """What a process needs to create the chosen backend, as JSON; equal settings give equal text."""
        plain = {
            "backend": self.backend,
            "endpoints": self.places(self.backend),
            "options": self.options(self.backend),
            "batch": self.batch,
            "journal": self.journal,
        }
        return json.dumps(plain, sort_keys=True)


def _collection(endpoint: Endpoint) -> str | None:
    collection: str | None = endpoint.places.get("globus", {}).get("collection")
    return collection
