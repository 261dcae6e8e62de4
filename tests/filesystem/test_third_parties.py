"""Third-party stores: which of their errors are transient."""

from __future__ import annotations

import errno

import pytest

from chiltepin.backends.filesystem.stores.fsspec.store import FsspecStore


class AnswerError(Exception):
    """The error of an object store's client, with the status of the response."""

    def __init__(self, status: object) -> None:
        super().__init__("no")
        self.status = status


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.EIO, "no"), True),
        (AnswerError(503), True),
        (AnswerError("429"), True),
        (AnswerError(404), False),
        (AnswerError("5"), False),
        (OSError(errno.ENOSPC, "no"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
    ],
)
def test_what_may_pass_is_told_from_what_stays(error, transient):
    """Lost connections and busy servers are transient; a missing file and a full disk are not."""
    assert FsspecStore("memory://transient", {}).transient(error) is transient
