"""Paths on an endpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiltepin.errors import PermissionDeniedError
from chiltepin.protocol.paths import joined, parts


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ()),
        ("/a/b.txt", ("a", "b.txt")),
        ("//a///b/", ("a", "b")),
        ("/a/./b/../c", ("a", "c")),
        ("/a/b/../..", ()),
        ("x/y", ("users", "me", "x", "y")),
        (".", ("users", "me")),
        ("~", ("users", "me")),
        ("~/x", ("users", "me", "x")),
        ("../you/x", ("users", "you", "x")),
        ("~draft", ("users", "me", "~draft")),
        ("/~", ("~",)),
        (" /a", ("users", "me", " ", "a")),
    ],
)
def test_a_path_counts_from_the_root_or_from_home(path, names):
    """Absolute paths start at the root and relative paths at home; `.` and `..` are resolved lexically."""
    assert parts(path, home="/users/me", endpoint="hpc") == names


@pytest.mark.parametrize("path", ["/..", "/a/../../b", "../../..", "~/../../../x"])
def test_a_path_that_leaves_the_root_is_refused(path):
    """A path out of the root, however spelled, raises an error that names the path and the endpoint."""
    with pytest.raises(PermissionDeniedError, match="leads out of the root of endpoint 'hpc'") as caught:
        parts(path, home="/users/me", endpoint="hpc")
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "'' names nothing"),
        ("a\0b", r"'a\\x00b' has a NUL byte, which no name can have; remove it"),
        *((f"/d/{odd}/x", r" has '\\u\w{4}', which no name can have; remove it") for odd in "\ud800\udbff\udc00\udc7f"),
        *((f"/d/{odd}/x", r" has '\\u\w{4}', which no name can have; remove it") for odd in "\udd00\udfff"),
    ],
)
def test_a_path_that_names_nothing_is_refused(path, said):
    """An empty path, and a path with a character that no file name has, is an error that shows the character."""
    with pytest.raises(ValueError, match=said):
        parts(path, endpoint="hpc")


def test_a_path_may_have_bytes_that_are_not_utf_8():
    """A path may have the characters with which Python writes bytes that are not UTF-8."""
    assert parts("/\udc80/\udcff/\U0010ffff", endpoint="hpc") == ("\udc80", "\udcff", "\U0010ffff")


@given(st.text(st.sampled_from("ab./~ "), min_size=1))
def test_names_are_single_and_come_back(path):
    """Parsed names contain no slash and are never `.` or `..`, and joining them gives an equivalent path."""
    try:
        names = parts(path, home="/h", endpoint="hpc")
    except PermissionDeniedError:
        assert ".." in path
        return
    assert all(name and "/" not in name and name not in {".", ".."} for name in names)
    assert parts(joined(names), endpoint="hpc") == names
