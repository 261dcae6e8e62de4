"""Settings: from a YAML file to checked plain data, in which a wrong key is named by file, line and path.

`read` turns a file into a `Document`; `check` turns that (or a dict) into `Settings`. They contact no service, and load
no backend, Parsl or SDK. The names below are loaded when they are first used, so that a worker, which needs only the
limits of numbers, loads neither pydantic nor a YAML parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiltepin.settings.data import DataSettings, Endpoint
    from chiltepin.settings.document import Document, read
    from chiltepin.settings.file import FILE_NAME, FILE_VARIABLE, default_file, user_folder, working_folder
    from chiltepin.settings.resources import LOCAL, Resource
    from chiltepin.settings.validation import ConfigWarning, Settings, check

__all__ = [
    "FILE_NAME",
    "FILE_VARIABLE",
    "LOCAL",
    "ConfigWarning",
    "DataSettings",
    "Document",
    "Endpoint",
    "Resource",
    "Settings",
    "check",
    "default_file",
    "read",
    "user_folder",
    "working_folder",
]

_HOMES = {
    "data": ("DataSettings", "Endpoint"),
    "document": ("Document", "read"),
    "file": ("FILE_NAME", "FILE_VARIABLE", "default_file", "user_folder", "working_folder"),
    "resources": ("LOCAL", "Resource"),
    "validation": ("ConfigWarning", "Settings", "check"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"chiltepin.settings.{home}"), name)
    raise AttributeError(f"module 'chiltepin.settings' has no attribute {name!r}")
