"""The routes other than tasks: searching collections and accessing their files."""

from __future__ import annotations

import json
import os
import uuid

import pytest
from simulated import refused


def names(listing):
    """Return the names of a listing's entries."""
    return [entry["name"] for entry in listing]


def test_a_listing_tells_files_and_folders(world):
    """A listing has the name, type, size, permissions and time of each entry, and the folder's path."""
    place = world.put("/d/f", b"12345")
    os.chmod(place, 0o640)
    os.utime(place, (0, 1_700_000_000))
    world.at("/d/sub", world.laptop).mkdir()
    listing = world.client.operation_ls(world.laptop.id, "/d")
    assert (listing["path"], listing["absolute_path"], listing["total"], listing["length"]) == ("/d/", "/d/", 2, 2)
    file, folder = listing["DATA"]
    assert (file["name"], file["type"], file["size"], file["permissions"]) == ("f", "file", 5, "0640")
    assert file["last_modified"] == "2023-11-14 22:13:20+00:00"
    assert (folder["name"], folder["type"]) == ("sub", "dir")


def test_a_listing_is_hidden_ordered_and_paged(world):
    """A listing can hide dot files, sort by several fields, and be paged."""
    for name, size in (("b", 1), ("a", 2), (".dot", 3), ("c", 1)):
        world.put(f"/{name}", b"x" * size)
    world.at("/z", world.laptop).mkdir()
    ls = world.client.operation_ls
    assert set(names(ls(world.laptop.id, "/"))) == {"a", "b", "c", "z", ".dot"}
    assert names(ls(world.laptop.id, "/", show_hidden=False, orderby="name DESC")) == ["z", "c", "b", "a"]
    ordered = ls(world.laptop.id, "/", show_hidden=False, orderby=["type", "size DESC", "name"])
    assert names(ordered) == ["z", "a", "b", "c"]
    page = ls(world.laptop.id, "/", orderby="name", limit=2, offset=1)
    assert (names(page), page["length"], page["total"]) == (["a", "b"], 2, 5)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("name:~*.nc", {"a.nc", "B.nc"}),
        ("name:a.nc,c.txt", {"a.nc", "c.txt"}),
        ("name:!a.nc/type:file", {"B.nc", "c.txt"}),
        ("name:!~*.nc", {"c.txt", "dir"}),
        ({"type": "dir"}, {"dir"}),
        (["type:dir", "name:=c.txt"], {"dir", "c.txt"}),
        ("type:file/size:>3", {"c.txt"}),
        ({"last_modified": ["", "2001-01-01"]}, {"B.nc"}),
    ],
)
def test_a_listing_is_filtered(world, wanted, found):
    """All clauses of one filter must match, but only one of several filters; patterns, negation and ranges work."""
    for name, size in (("a.nc", 1), ("B.nc", 1), ("c.txt", 9)):
        world.put(f"/{name}", b"x" * size)
    world.at("/dir", world.laptop).mkdir()
    os.utime(world.at("/B.nc", world.laptop), (0, 0))
    assert set(names(world.client.operation_ls(world.laptop.id, "/", filter=wanted))) == found


def test_links_are_told(world):
    """A listing shows a link with its target and the target's type; a broken link is an invalid_symlink."""
    world.put("/real", b"12345")
    os.symlink("real", f"{world.laptop.folder}/good")
    os.symlink("nowhere", f"{world.laptop.folder}/bad")
    files = {file["name"]: file for file in world.client.operation_ls(world.laptop.id, "/")}
    assert (files["good"]["type"], files["good"]["size"], files["good"]["link_target"]) == ("file", 5, "real")
    assert files["bad"]["type"] == "invalid_symlink"
    assert files["real"]["link_target"] is None


def test_listing_and_stat_have_their_own_codes(world):
    """For a missing path, ls returns ClientError.NotFound and stat NotFound; ls of a file is an error."""
    world.put("/f", b"12345")
    error = refused(world.client.operation_ls, world.laptop.id, "/nothing")
    assert (error.http_status, error.code) == (404, "ClientError.NotFound")
    error = refused(world.client.operation_stat, world.laptop.id, "/nothing")
    assert (error.http_status, error.code) == (404, "NotFound")
    error = refused(world.client.operation_ls, world.laptop.id, "/f")
    assert (error.http_status, error.code) == (502, "ExternalError.DirListingFailed.NotDirectory")
    assert world.client.operation_stat(world.laptop.id, "/f")["size"] == 5
    assert world.client.operation_stat(world.laptop.id, "/")["type"] == "dir"


def test_what_is_denied_is_refused(world):
    """For a denied path, ls, stat and mkdir each return their own code."""
    world.put("/d/f")
    world.laptop.denied.add("/d")
    assert refused(world.client.operation_ls, world.laptop.id, "/d").code.endswith("DirListingFailed.PermissionDenied")
    assert refused(world.client.operation_stat, world.laptop.id, "/d/f").code == "EndpointPermissionDenied"
    error = refused(world.client.operation_mkdir, world.laptop.id, "/d/new")
    assert error.code == "ExternalError.MkdirFailed.PermissionDenied"


def test_mkdir_makes_one_folder(world):
    """Mkdir creates a folder, and fails if the folder exists or has no parent."""
    made = world.client.operation_mkdir(world.scratch.id, "/new")
    assert made["code"] == "DirectoryCreated"
    assert world.at("/new").is_dir()
    error = refused(world.client.operation_mkdir, world.scratch.id, "/new")
    assert (error.http_status, error.code) == (502, "ExternalError.MkdirFailed.Exists")
    assert refused(world.client.operation_mkdir, world.scratch.id, "/no/parent").http_status == 502
    assert refused(world.client.operation_mkdir, world.scratch.id, "/").http_status == 502


def test_rename_moves_without_overwriting(world):
    """Rename gives a file another path and never overwrites an existing file."""
    for name in ("a", "b"):
        world.put(f"/{name}", name.encode(), world.scratch)
    assert world.client.operation_rename(world.scratch.id, "/a", "/c")["code"] == "FileRenamed"
    assert refused(world.client.operation_rename, world.scratch.id, "/b", "/c").http_status == 502
    assert refused(world.client.operation_rename, world.scratch.id, "/a", "/d").http_status == 404
    assert world.at("/c").read_bytes() == b"a"
    assert world.at("/b").read_bytes() == b"b"


def test_a_laptop_that_is_off_cannot_be_looked_at(world):
    """While Globus Connect Personal is off, operations get 502 GCDisconnected, and the collection document shows it."""
    world.laptop.connected = False
    for call in (world.client.operation_ls, world.client.operation_stat):
        error = refused(call, world.laptop.id, "/")
        assert (error.http_status, error.code) == (502, "ExternalError.DirListingFailed.GCDisconnected")
    assert refused(world.client.operation_mkdir, world.laptop.id, "/x").http_status == 502
    assert world.client.get_endpoint(world.laptop.id)["gcp_connected"] is False


def test_consent_is_asked_for(world):
    """A collection that requires consent returns 403 with the scope; a token with that scope is accepted."""
    world.laptop.entity_type, world.laptop.needs_consent = "GCSv5_mapped_collection", True
    world.put("/in")
    for call in (lambda: world.client.operation_ls(world.laptop.id, "/"), lambda: world.transfer(("/in", "/out"))):
        error = refused(call)
        assert (error.http_status, error.code) == (403, "ConsentRequired")
    (scope,) = error.info.consent_required.required_scopes
    assert scope.endswith(f"[*https://auth.globus.org/scopes/{world.laptop.id}/data_access]")
    world.globus.authority.client_tokens(world.globus.authority.client_id, scope)
    assert names(world.client.operation_ls(world.laptop.id, "/")) == ["in"]
    assert world.moved(("/in", "/out"))["status"] == "SUCCEEDED"


def test_a_session_is_asked_for(world):
    """A session policy causes a 502 with authorization_parameters, and a fault in tasks."""
    world.put("/in")
    world.laptop.session_policy = "example.org"
    error = refused(world.client.operation_ls, world.laptop.id, "/")
    assert (error.http_status, error.code) == (502, "ExternalError.DirListingFailed.LoginFailed")
    assert error.info.authorization_parameters.session_required_single_domain == ["example.org"]
    task_id = world.transfer(("/in", "/out"))
    assert world.ended(task_id)["is_ok"] is False
    world.laptop.session_policy = None
    assert world.ended(task_id)["status"] == "SUCCEEDED"


def test_collections_are_found_by_their_words(world):
    """A search finds collections by parts of their names in any case; two collections may share a name."""
    world.globus.add_collection("twin", f"{world.scratch.folder}-twin", display_name="hpc-scratch", owner="bob@x.org")
    search = world.client.endpoint_search
    assert {one["id"] for one in search("HPC-scratch")} == {world.scratch.id, world.globus.collection("twin").id}
    assert {one["owner_string"] for one in search("hpc-scratch")} > {"bob@x.org"}
    assert names_of(search("laptop")) == ["my-laptop"]
    assert names_of(search("nothing")) == []
    assert names_of(search(world.laptop.id)) == ["my-laptop"]
    assert refused(search).http_status == 400


def names_of(found):
    """Return the display names of a search's results."""
    return [one["display_name"] for one in found]


def test_collections_are_found_by_scope(world):
    """The scopes of a search select own, shared, recently used and busy collections."""
    folder = world.scratch.folder
    guest = world.globus.add_collection("guest", folder, entity_type="GCSv5_guest_collection", owner="bob@x.org")
    search = world.client.endpoint_search
    assert names_of(search(filter_scope="my-endpoints")) == ["my-laptop", "hpc-scratch"]
    assert names_of(search(filter_scope="shared-with-me")) == ["guest"]
    assert names_of(search("g", filter_entity_type="GCSv5_guest_collection")) == ["guest"]
    assert names_of(search(filter_scope="recently-used")) == []
    world.put("/in")
    task_id = world.transfer(("/in", "/out"))
    assert names_of(search(filter_scope="in-use")) == ["my-laptop", "hpc-scratch"]
    assert world.client.get_endpoint(world.laptop.id)["in_use"] is True
    assert world.ended(task_id)["status"] == "SUCCEEDED"
    assert names_of(search(filter_scope="in-use")) == []
    assert names_of(search(filter_scope="recently-used")) == ["my-laptop", "hpc-scratch"]
    assert refused(search, filter_scope="nonsense").http_status == 400
    assert names_of(search(filter_owner_id=world.client.get_endpoint(guest.id)["owner_id"])) == ["guest"]


def test_a_search_is_paged(world, tmp_path):
    """Search results are paged, and each page says whether more follow."""
    for number in range(120):
        world.globus.add_collection(f"many{number}", tmp_path / "many")
    first = world.client.endpoint_search("many", limit=100)
    assert (len(first["DATA"]), first["has_next_page"]) == (100, True)
    assert len(list(world.client.paginated.endpoint_search("many").items())) == 120


def test_a_collection_is_told(world):
    """get_endpoint returns type, owner and state; an unknown id gets EndpointNotFound."""
    told = world.client.get_endpoint(world.laptop.id)
    assert (told["display_name"], told["entity_type"], told["gcp_connected"]) == (
        "my-laptop",
        "GCP_mapped_collection",
        True,
    )
    assert told["non_functional"] is False
    error = refused(world.client.get_endpoint, uuid.uuid4())
    assert (error.http_status, error.code) == (404, "EndpointNotFound")


def test_ids_come_from_names(world, tmp_path):
    """A collection's id depends only on its name, which must be unique."""
    assert world.laptop.id == "d66270fe-78c4-5cd3-9538-f6adc2e8160f"
    with pytest.raises(ValueError, match="take another name"):
        world.globus.add_collection("my-laptop", tmp_path)
    with pytest.raises(KeyError, match="known: 'my-laptop', 'hpc-scratch'"):
        world.globus.collection("laptop")


def test_every_error_is_json(world):
    """Every error response is a JSON document with code, message and request id."""
    for path in ("/v0.10/nonsense", "/v0.10/task/nonsense", "/nonsense"):
        error = refused(world.client.get, path)
        assert error.http_status == 404
        assert json.loads(error.text).keys() >= {"code", "message", "request_id", "resource"}
        assert error.request_id
    assert refused(world.client.put, "/v0.10/task_list").http_status == 405
    error = refused(world.client.post, "/v0.10/transfer", data="no json", encoding="text")
    assert error.http_status == 400
