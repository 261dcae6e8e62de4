"""Escaping of external text for a terminal."""

from __future__ import annotations

import pytest

from chiltepin.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï and 日本", "plain, ünï and 日本"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("not utf-8: \udcff", r"not utf-8: \udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text, shown):
    """Printable text is unchanged and every other character is escaped, so the result is one printable line."""
    assert printable(text) == shown
    assert printable(text).isprintable()
