"""Helpers for the commands that act on one path at once, without a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chiltepin.errors import UnsupportedOptionError
from chiltepin.protocol import FilesBackend

if TYPE_CHECKING:
    from chiltepin.cli.context import Context

__all__ = ["files_backend", "required_path"]


def files_backend(context: Context) -> FilesBackend:
    """Return the backend; raise UnsupportedOptionError if all of its operations need a task."""
    backend = context.transfers.backend
    if not isinstance(backend, FilesBackend):
        raise UnsupportedOptionError(
            f"Backend {backend.name!r} cannot inspect a path, create a folder or rename; use ls, transfer and delete.",
            backend=backend.name,
        )
    return backend


def required_path(context: Context, text: str) -> tuple[str, str]:
    """Return the endpoint and the path of ``EP:PATH``; a word without a path is a usage error."""
    endpoint, path = context.locate(text)
    if not path:
        raise click.UsageError(f"{text!r} has no path; write EP:PATH, such as {endpoint}:/data.")
    return endpoint, path
