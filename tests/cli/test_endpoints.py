"""``chiltepin endpoints``."""

from __future__ import annotations

import pytest


def test_it_shows_where_each_endpoint_is(world):
    """Each endpoint is one line, with its location on the backend in use."""
    ended = world.run("endpoints")
    head, first, _ = ended.out.splitlines()
    assert head.split()[:3] == ["Endpoint", "On", world.backend]
    place = {
        "local": "a",
        "filesystem": str(world.a),
        "globus": world.simulator and world.simulator.collection("a").id,
    }[world.backend]
    assert first.split()[:2] == ["a", place]


def test_json_has_every_backend_and_the_mount(world):
    """-F json lists all backends of an endpoint, and its mount on the backend in use."""
    shown = world.json("endpoints")
    assert shown["backend"] == world.backend
    [a, _] = shown["endpoints"]
    assert a["backends"]["filesystem"] == str(world.a)
    assert a["mount"] == (None if world.backend == "globus" else str(world.a))


def test_the_backend_is_swapped_by_an_option_and_by_the_environment(local, monkeypatch):
    """--backend takes precedence over $CHILTEPIN_BACKEND, and both over the settings."""
    assert local.json("endpoints")["backend"] == "local"
    monkeypatch.setenv("CHILTEPIN_BACKEND", "filesystem")
    assert local.json("endpoints")["backend"] == "filesystem"
    assert local.json("endpoints", "--backend", "globus")["backend"] == "globus"


def test_an_endpoint_without_a_place_is_said_to_be_elsewhere(local):
    """An endpoint that the backend does not serve is listed as such."""
    shown = local.run("endpoints", "--backend", "globus")
    assert shown.out.count("not on this backend") == 2
    assert [one["served"] for one in local.json("endpoints", "--backend", "globus")["endpoints"]] == [False, False]


def test_the_settings_are_found_in_four_places(local, monkeypatch, user):
    """The settings come from --config, $CHILTEPIN_CONFIG, ./chiltepin.yaml or the user's folder, in this order."""
    for name in ("named", "exported"):
        (user / f"{name}.yaml").write_text(f"data: {{backend: local, endpoints: {{{name}: }}}}\n")
    (user / "config" / "chiltepin").mkdir(parents=True)
    (user / "config" / "chiltepin" / "chiltepin.yaml").write_text("data: {backend: local, endpoints: {mine: }}\n")

    def names(*words):
        return [one["name"] for one in local.json("endpoints", *words)["endpoints"]]

    assert names() == ["a", "b"]
    monkeypatch.setenv("CHILTEPIN_CONFIG", str(user / "exported.yaml"))
    assert names() == ["exported"]
    assert names("--config", "named.yaml") == ["named"]
    monkeypatch.delenv("CHILTEPIN_CONFIG")
    (user / "chiltepin.yaml").unlink()
    assert names() == ["mine"]
    (user / "config" / "chiltepin" / "chiltepin.yaml").unlink()
    ended = local.run("endpoints")
    assert ended.code == 2
    assert "--config FILE" in ended.err


@pytest.mark.parametrize("words", [("--config", "none.yaml"), ("--backend", "nope")])
def test_what_is_not_there_is_an_error_of_usage(local, words):
    """A settings file or backend that does not exist exits with 2, and the message names it."""
    ended = local.run("endpoints", *words)
    assert (ended.code, words[1] in ended.err) == (2, True)
