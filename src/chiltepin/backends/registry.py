"""The installed backends, by name.

A backend is registered by an entry point of the group ``chiltepin.backends``: its name is the value of ``data:
backend:``, and it refers to a class with the methods of `chiltepin.protocol.TransferBackend`. The built-in backends are
registered in the same way.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, cast

from chiltepin.backends.fake_files import HIDDEN, fake_os
from chiltepin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from chiltepin.protocol import TransferBackend

__all__ = ["GROUP", "load", "names"]

GROUP = "chiltepin.backends"


@cache
def _installed(fake: object | None) -> dict[str, EntryPoint]:
    # Reading the metadata of every installed package takes 10 to 50 ms: once per process is enough.
    _forget_paths()
    found = {point.name: point for point in entry_points(group=GROUP)}
    _forget_paths()
    if fake is not None and not found:
        raise ConfigError(HIDDEN, key="data.backend")
    return found


def _forget_paths() -> None:
    """Empty Python's cache of the paths of installed packages, if a fake filesystem may be in use.

    A path object of fake files cannot read real ones: after the test, reading a version would fail (Python 3.12).
    """
    if "pyfakefs" in sys.modules:
        metadata.FastPath.__new__.cache_clear()  # type: ignore[attr-defined]


def names() -> tuple[str, ...]:
    """Return the names of the installed backends, sorted."""
    return tuple(sorted(_installed(fake_os())))


def load(name: str) -> type[TransferBackend]:
    """Return the class of a backend; this imports the backend and its SDK. An unknown backend is a ConfigError."""
    # Called before each task, so `fake_os` is not called if this module has the real ``os``.
    return _load(name, None if isinstance(os, ModuleType) else fake_os())


@cache
def _load(name: str, fake: object | None) -> type[TransferBackend]:
    # Modules that a test loads with a fake filesystem hold that filesystem, so they are loaded again after it.
    point = _installed(fake).get(name)
    if point is None:
        raise ConfigError(f"No backend {name!r} is installed; {suggest(name, names())}", key="data.backend")
    try:
        return cast("type[TransferBackend]", point.load())
    except (ImportError, AttributeError) as err:
        problem = str(err)
    raise ConfigError(f"Backend {name!r} ({point.value}) cannot be imported: {problem}.", key="data.backend")
