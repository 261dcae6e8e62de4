"""Find the collection of an endpoint by its name."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import globus_sdk

from chiltepin.backends.globus.responses import entries
from chiltepin.backends.globus.text import one_line, uuid, web_app
from chiltepin.errors import EndpointError, EndpointMismatchError, EndpointNotFoundError, suggest
from chiltepin.model import THIS_MACHINE, UUID, endpoint_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Collection", "Collections"]

#: A search by name returns at most this many collections (SDK, ``endpoint_search``); the best matches come first.
_SEARCH_LIMIT = 1000

#: Limit of pages; each has 100 collections (SDK, ``paginated.endpoint_search``), or fewer if some are hidden.
_SEARCH_PAGES = 50


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: the name of its endpoint, its UUID, and the folder where relative paths start.

    If ``home`` is None, that is the collection's default directory. ``local_user`` is the local account to which Globus
    maps the user; empty: the default.
    """

    name: str
    id: str
    home: str | None = None
    local_user: str = ""


class Collections:
    """Finds collections by name, and caches them.

    ``places`` maps each declared endpoint to its ``collection`` and optionally ``home`` and ``local_user``. ``ask``
    runs a call of a ``TransferClient``, after its purpose; it is called only if a request to Globus is necessary.
    """

    def __init__(
        self, places: Mapping[str, Mapping[str, Any]], ask: Callable[[str, Callable[[Any], Any]], Any]
    ) -> None:
        self.places, self._ask = places, ask
        self._found: dict[str, str] = {}
        self._kinds: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Collection:
        """Return the collection of an endpoint.

        A declared name stands for the collection in the settings, a UUID for itself, and ``this-machine`` for the local
        Globus Connect Personal; any other name is searched for once, and must be exactly a display name. A name of
        several collections is an EndpointError, an unknown name an EndpointNotFoundError.
        """
        place = self.places.get(name, {})
        known = str(place.get("collection", name))
        with self._lock:
            if known not in self._found:
                self._found[known] = self._identify(known)
            return Collection(name, self._found[known], place.get("home"), place.get("local_user", ""))

    def known(self, name: str) -> dict[str, str]:
        """Return the place of an endpoint as JSON data, without a request to Globus."""
        place = self.places.get(name, {})
        collection = str(place.get("collection", name))
        if collection == THIS_MACHINE:
            with suppress(EndpointNotFoundError):
                # Another machine has another collection.
                collection = _this_machine()
        rest = {key: place[key] for key in ("home", "local_user") if place.get(key) is not None}
        return {"collection": endpoint_name(collection), **rest}

    def forget(self) -> None:
        """Clear the cache."""
        self._found.clear()
        self._kinds.clear()

    def needs_consent(self, collection: Collection) -> bool:
        """Whether the data of a collection requires a separate consent.

        Only mapped collections of Globus Connect Server 5 that are not high assurance require it; for other
        collections, Globus Auth does not know the scope (SDK documentation, "Detecting data_access").

        Raises
        ------
        EndpointNotFoundError
            If the collection is unknown.
        EndpointMismatchError
            If the UUID belongs to an endpoint of Globus Connect Server, which has collections but no data.
        """
        document = self._document(collection)
        if document["entity_type"] == "GCSv5_endpoint":
            raise EndpointMismatchError(
                f"{collection.name!r} is an endpoint of Globus Connect Server and holds no data itself; "
                "name one of its collections.",
                endpoint=collection.name,
            )
        return document["entity_type"] == "GCSv5_mapped_collection" and not document["high_assurance"]

    def _document(self, collection: Collection) -> Mapping[str, Any]:
        with self._lock:
            if collection.id not in self._kinds:
                self._kinds[collection.id] = self._fetch(collection)
            return self._kinds[collection.id]

    def _fetch(self, collection: Collection) -> Mapping[str, Any]:
        try:
            return self._ask(  # type: ignore[no-any-return] # what the call returns
                f"Looking up endpoint {collection.name!r}",
                lambda client: _fields(client.get_endpoint(collection.id), "entity_type", "high_assurance"),
            )
        except EndpointNotFoundError:
            unknown = EndpointNotFoundError(
                f"No collection has the UUID {collection.id!r}, or you may not see it; look it up"
                f"{web_app(' at', 'collections')}.",
                endpoint=collection.name,
            )
        raise unknown

    def _identify(self, name: str) -> str:
        if UUID.fullmatch(name):
            return name.lower()
        if name == THIS_MACHINE:
            return _this_machine()
        return self._search(name)

    def _search(self, name: str) -> str:
        found = self._ask(
            f"Searching for endpoint {name!r}",
            lambda client: [
                {**_fields(one, "display_name", "owner_string"), "id": uuid(one["id"])}
                for page in _limited_pages(client.paginated.endpoint_search(name))
                for one in entries(page)
            ][:_SEARCH_LIMIT],
        )
        exact = [one for one in found if one["display_name"] == name]
        if len(exact) == 1:
            return str(exact[0]["id"])
        if exact:
            listed = "; ".join(f"{one['id']} of {one_line(str(one['owner_string']))}" for one in exact)
            raise EndpointError(
                f"{len(exact)} collections are called {name!r}: {listed}. Use the UUID of the collection that you "
                "need.",
                endpoint=name,
            )
        near = {one_line(str(one["display_name"])) for one in found[:10]}
        raise EndpointNotFoundError(
            f"No endpoint named {name!r}, in the settings or at Globus; {suggest(name, {*self.places, *near})}",
            endpoint=name,
        )


def _limited_pages(pages: Iterable[Any]) -> Iterator[Any]:
    """Yield pages; ValueError if there are more than a search can have."""
    for number, page in enumerate(pages):
        if number >= _SEARCH_PAGES:
            raise ValueError("no end")
        yield page


def _fields(answer: Any, *keys: str) -> dict[str, Any]:
    """Return a copy of some fields of a response: the response itself holds the request with the token."""
    return {key: answer[key] for key in keys}


def _this_machine() -> str:
    found = globus_sdk.LocalGlobusConnectPersonal().endpoint_id
    if not found:
        raise EndpointNotFoundError(
            f"Globus Connect Personal is not set up on this machine, so there is no {THIS_MACHINE!r}; "
            "install it from globus.org/globus-connect-personal, or name another endpoint.",
            endpoint=THIS_MACHINE,
        )
    return str(found)
