"""Find the default settings file and the working directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import platformdirs

from chiltepin.errors import ConfigError

__all__ = ["FILE_NAME", "FILE_VARIABLE", "default_file", "user_folder", "working_folder"]

#: The environment variable that names the settings file.
FILE_VARIABLE = "CHILTEPIN_CONFIG"

#: The name of the settings file.
FILE_NAME = "chiltepin.yaml"


def default_file() -> Path | None:
    """Return the absolute path of the default settings file, or None if there is none.

    It is the file that the environment variable ``CHILTEPIN_CONFIG`` names, else ``chiltepin.yaml`` in the working
    directory, else in the user's config folder. A variable that names a missing file is a ConfigError.
    """
    if named := os.environ.get(FILE_VARIABLE):
        path = Path(os.path.expanduser(named))
        path = path if path.is_absolute() else Path(working_folder(), path)
        if not _is_file(path):
            raise ConfigError(
                f"The environment variable {FILE_VARIABLE} names {named!r}, and there is no such file; "
                f"correct it, or type 'unset {FILE_VARIABLE}'.",
                file=named,
            )
        return path
    folders = [user_folder()]
    with contextlib.suppress(ConfigError):
        # A deleted working directory contains no file.
        folders.insert(0, Path(working_folder()))
    return next((folder / FILE_NAME for folder in folders if _is_file(folder / FILE_NAME)), None)


def working_folder() -> str:
    """Return the path of the working directory; if it was deleted, a ConfigError."""
    with contextlib.suppress(FileNotFoundError):
        return os.getcwd()
    raise ConfigError("The working directory was deleted; change to another folder, then run it again.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        problem = error.strerror
    raise ConfigError(f"The settings file {str(path)!r} could not be searched for: {problem}.", file=str(path))


def user_folder() -> Path:
    """Return the user's config folder, which may not exist."""
    return platformdirs.user_config_path("chiltepin", appauthor=False)
