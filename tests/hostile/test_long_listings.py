"""Listings of several pages, of a folder that changes or a service that miscounts, are complete or an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liars import Liar, document

from chiltepin.backends.globus import GlobusBackend
from chiltepin.errors import BackendError, ServiceUnavailableError
from chiltepin.testing.simulator import Simulator

HERE = "11111111-1111-4111-8111-111111111111"


class Folder:
    """A Transfer service with one folder, which is paged by offset and limit and can change between pages.

    Parameters
    ----------
    names : iterable of str
        The contents of the folder.
    page : int
        Maximum number of entries in one response.
    """

    def __init__(self, names, page):
        self.names, self.page = set(names), page
        #: The changes before each listing: the names to add, and the names to remove.
        self.changes = []
        #: Modifies a document before it is sent.
        self.spoil = lambda listing: listing
        self.listed = 0

    def answer(self, _method, path):
        """Respond to a request."""
        if "/ls" not in path:
            return document({"id": HERE, "entity_type": "GCP_mapped_collection", "high_assurance": False})
        if self.listed < len(self.changes):
            come, go = self.changes[self.listed]
            self.names = (self.names | set(come)) - set(go)
        self.listed += 1
        offset, limit = (int(re.search(rf"[?&]{word}=(\d+)", path)[1]) for word in ("offset", "limit"))
        shown = sorted(self.names)[offset : offset + min(limit, self.page)]
        entries = [{"name": name, "type": "file", "size": 1, "last_modified": None} for name in shown]
        return document(self.spoil({"DATA": entries, "length": len(entries), "total": len(self.names)}))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The Globus backend with a service that a test defines."""
    with Simulator({"one": tmp_path / "one"}) as simulator, Liar(None) as liar:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", liar.url())
        monkeypatch.setattr("time.sleep", lambda _seconds: None)
        backend = GlobusBackend.from_config({"a": {"collection": HERE}}, {})
        yield liar, backend
        backend.close()


NAMES = st.sets(st.sampled_from([f"{letter}{number}" for letter in "abcz" for number in range(10)]), max_size=5)


@settings(max_examples=60)
@given(
    kept=st.sets(st.sampled_from([f"{letter}x{number}" for letter in "acz" for number in range(6)])),
    other=NAMES,
    page=st.integers(2, 7),
    changes=st.lists(st.tuples(NAMES, NAMES), max_size=12),
)
def test_what_was_there_all_the_time_is_listed(world, kept, other, page, changes):
    """If files come and go between pages, a listing has every file that stayed, once, or it is an error."""
    liar, backend = world
    folder = Folder(kept | other, page)
    folder.changes = changes
    liar.answer = folder.answer
    try:
        listed = [entry.name for entry in backend.ls("a", "/")]
    except ServiceUnavailableError as err:
        refused = str(err)
    else:
        assert len(listed) == len(set(listed))
        assert kept <= set(listed)
        return
    assert "changed during each of" in refused
    assert folder.listed > 1, "a listing of one page cannot have changed"


def test_a_folder_of_many_pages_is_listed_whole(world):
    """Each entry is listed once, with no more requests than pages."""
    liar, backend = world
    folder = Folder([f"f{number:03}" for number in range(100)], 26)
    liar.answer = folder.answer
    assert [entry.name for entry in backend.ls("a", "/")] == sorted(folder.names)
    assert folder.listed == 4


@pytest.mark.parametrize("size", [0, 1, 5, 6, 11])
def test_a_service_without_a_total_is_asked_until_there_is_no_more(world, size):
    """If the response has no total, pages are read until one contains nothing new."""
    liar, backend = world
    folder = Folder([f"f{number}" for number in range(size)], 5)
    folder.spoil = lambda listing: {"DATA": listing["DATA"]}
    liar.answer = folder.answer
    assert len(backend.ls("a", "/")) == size


#: Impossible statements of a service about its pages.
LIES = {
    "more in all": lambda listing: {**listing, "total": listing["total"] + 1},
    "fewer in all": lambda listing: {**listing, "total": 4},
    "none at all": lambda listing: {**listing, "total": 0},
    "no number": lambda listing: {**listing, "total": "12"},
    "true": lambda listing: {**listing, "total": True},
    "a part": lambda listing: {**listing, "total": 12.5},
    "huge": lambda listing: {**listing, "total": 10**30},
    "below zero": lambda listing: {**listing, "total": -1},
    "another length": lambda listing: {**listing, "length": 3},
    "empty pages": lambda listing: {**listing, "DATA": [], "length": 0},
    "cut pages": lambda listing: {**listing, "DATA": listing["DATA"][:1], "length": 1},
    "entries twice": lambda listing: {**listing, "DATA": listing["DATA"] * 2, "length": 2 * listing["length"]},
    "one page again": lambda listing: {
        **listing,
        "DATA": [{"name": f"f{number:02}", "type": "file"} for number in range(5)],
        "length": 5,
    },
    "no entries": lambda listing: {**listing, "DATA": None},
    "names of another kind": lambda listing: {**listing, "DATA": [{**one, "name": []} for one in listing["DATA"]]},
}


@pytest.mark.parametrize("lie", LIES)
def test_pages_that_do_not_fit_together_are_an_error(world, lie):
    """Inconsistent pages are refused after a few attempts and are never returned as the whole folder."""
    liar, backend = world
    folder = Folder([f"f{number:02}" for number in range(12)], 5)
    folder.spoil = LIES[lie]
    liar.answer = folder.answer
    with pytest.raises(BackendError):
        backend.ls("a", "/")
    assert folder.listed < 20


def test_a_listing_without_an_end_ends(world, monkeypatch):
    """A listing stops after a limit if every page contains new names."""
    liar, backend = world
    monkeypatch.setattr("chiltepin.backends.globus.listing.MOST_ENTRIES", 500)
    told = []

    def answer(method, path):
        if "/ls" not in path:
            return Folder((), 1).answer(method, path)
        told.append(path)
        offset = int(re.search(r"offset=(\d+)", path)[1])
        return document({"DATA": [{"name": f"f{offset + number}", "type": "file"} for number in range(100)]})

    liar.answer = answer
    with pytest.raises(BackendError):
        backend.ls("a", "/")
    assert len(told) < 50
