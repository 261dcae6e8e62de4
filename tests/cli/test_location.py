"""``EP:PATH`` arguments, including unusual ones."""

from __future__ import annotations

import pytest

from chiltepin.cli.location import parse_location

UUID = "12345678-1234-1234-1234-123456789abc"

#: Endpoint names that the settings declare.
DECLARED = ("my-laptop", "with: colon", "with:", "NERSC")


@pytest.mark.parametrize(
    ("text", "endpoint", "path"),
    [
        ("my-laptop:/data/x", "my-laptop", "/data/x"),
        ("my-laptop:data/x", "my-laptop", "data/x"),
        ("my-laptop:~/x", "my-laptop", "~/x"),
        ("my-laptop:", "my-laptop", ""),
        ("my-laptop", "my-laptop", None),
        ("my-laptop:/a:/b", "my-laptop", "/a:/b"),
        ("my-laptop:a:b", "my-laptop", "a:b"),
        ("my-laptop:/with space and: colon", "my-laptop", "/with space and: colon"),
        ("with: colon:/x", "with: colon", "/x"),
        ("with:x", "with", "x"),
        ("with::x", "with:", "x"),
        ("NERSC: DTN:/x", "NERSC", " DTN:/x"),
        (f"{UUID}:/x", UUID, "/x"),
        (f"{UUID.upper()}:x:/y", UUID.upper(), "x:/y"),
        (UUID, UUID, None),
        (f"{UUID}0:/x", f"{UUID}0", "/x"),
        ("Globus Tutorial Collection 1:/home", "Globus Tutorial Collection 1", "/home"),
        ("OLCF: DTN (Globus 5):/x", "OLCF: DTN (Globus 5)", "/x"),
        ("OLCF: DTN:~/x:/y", "OLCF: DTN", "~/x:/y"),
        ("unknown:rel/path", "unknown", "rel/path"),
        (":/x", "", "/x"),
        ("", "", None),
        ("/just/a/path", "/just/a/path", None),
        ("über-speicher:/ä", "über-speicher", "/ä"),
    ],
)
def test_an_endpoint_ends_where_it_should(text, endpoint, path):
    """Declared names precede UUIDs; others end at the colon before the first absolute path, or at the first colon."""
    assert parse_location(text, DECLARED) == (endpoint, path)


def test_a_display_name_with_colons_and_spaces_is_found(service):
    """A collection that is not in the settings is found by its display name, even with colons and spaces."""
    folder = service.folder / "odd"
    service.simulator.add_collection("odd", folder, display_name="OLCF: DTN (Globus 5)")
    (folder / "x").write_bytes(b"1")
    assert service.run("ls", "OLCF: DTN (Globus 5):/").out == "x\n"
    assert service.run("ls", f"{service.simulator.collection('odd').id}:/").out == "x\n"
    assert service.run("transfer", "OLCF: DTN (Globus 5):/x", "a:/y").code == 0
    assert (service.a / "y").read_bytes() == b"1"


def test_an_endpoint_whose_name_has_a_colon(local):
    """A declared name with a colon works on a backend that cannot look up names."""
    local.write(endpoints={"lab: store": {"local": "a"}})
    (local.a / "x").touch()
    assert local.run("ls", "lab: store:/").out == "x\n"
