"""The routes that describe and find collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, jsonify, request

from chiltepin.testing.simulator import filters
from chiltepin.testing.simulator.api_errors import bad_request
from chiltepin.testing.simulator.documents import endpoint_document, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Response

    from chiltepin.testing.simulator.collection import Collection
    from chiltepin.testing.simulator.engine import Engine
    from chiltepin.testing.simulator.request_guard import RequestGuard
    from chiltepin.testing.simulator.routes import Route

__all__ = ["endpoint_routes"]

#: Default size of one page, and limit of all pages of one search (globus_sdk, TransferClient.endpoint_search).
PAGE, SEARCH_LIMIT = 25, 1000


def endpoint_routes(guard: RequestGuard, engine: Engine, collections: Mapping[str, Collection]) -> tuple[Route, ...]:
    """Return the routes of collections."""
    views = _Views(guard, engine, collections)
    return ("GET", "/endpoint/<endpoint_id>", views.get_endpoint), ("GET", "/endpoint_search", views.search)


class _Views:
    def __init__(self, guard: RequestGuard, engine: Engine, collections: Mapping[str, Collection]) -> None:
        self._guard, self._engine, self._collections = guard, engine, collections
        self._scopes: dict[str, Callable[[Collection], bool]] = {
            "all": lambda _: True,
            "my-endpoints": self._mine,
            "administered-by-me": self._mine,
            "my-gcp-endpoints": lambda one: self._mine(one) and one.is_personal,
            "shared-by-me": lambda one: self._mine(one) and _is_guest(one),
            "shared-with-me": lambda one: not self._mine(one) and _is_guest(one),
            "recently-used": lambda one: self._used(one, unfinished=False),
            "in-use": lambda one: self._used(one, unfinished=True),
        }

    def get_endpoint(self, endpoint_id: str) -> Response:
        collection = self._guard.collection(endpoint_id)
        return jsonify(endpoint_document(collection, g.grant, in_use=self._used(collection, unfinished=True)))

    def search(self) -> Response:
        scope, text = request.args.get("filter_scope", "all"), request.args.get("filter_fulltext", "")
        if scope not in self._scopes:
            raise bad_request(f"filter_scope {scope!r} is not known")
        if scope == "all" and not text and not request.args.get("filter_owner_id"):
            raise bad_request("filter_fulltext is required with filter_scope 'all'")
        found = [one for one in self._collections.values() if self._scopes[scope](one) and self._filtered(one, text)]
        found = found[:SEARCH_LIMIT]
        limit, offset = request.args.get("limit", PAGE, int), request.args.get("offset", 0, int)
        shown = filters.page(found, min(limit, 100), offset)
        return jsonify(
            DATA_TYPE="endpoint_list",
            DATA=[endpoint_document(one, g.grant) for one in shown],
            has_next_page=offset + len(shown) < len(found),
            limit=limit,
            offset=offset,
        )

    def _filtered(self, collection: Collection, text: str) -> bool:
        """Whether a collection matches all words of ``text`` and the other filters."""
        owner_id, owner = owner_of(collection, g.grant)
        text_of = f"{collection.display_name} {collection.id} {owner}".lower()
        args = request.args
        return (
            all(word in text_of for word in text.lower().split())
            and args.get("filter_owner_id", owner_id) == owner_id
            and args.get("filter_entity_type", collection.entity_type) == collection.entity_type
            and args.get("filter_non_functional", "0") in ("0", "false")
            and "filter_host_endpoint" not in args
        )

    def _mine(self, collection: Collection) -> bool:
        return bool(owner_of(collection, g.grant)[0] == g.grant.identity_id)

    def _used(self, collection: Collection, *, unfinished: bool) -> bool:
        with self._engine.lock:
            return any(
                collection in task.collections and not (unfinished and task.over)
                for task in self._engine.tasks.values()
                if task.owner_id == g.grant.identity_id
            )


def _is_guest(collection: Collection) -> bool:
    return collection.entity_type.endswith("guest_collection")
