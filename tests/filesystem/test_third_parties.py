"""Stores of third parties: which of their errors are worth another try."""

from __future__ import annotations

import errno

import pytest

from chiltepin.backends.filesystem.stores.fsspec.store import FsspecStore


class AnswerError(Exception):
    """What a client of an object store raises, with the status of the answer."""

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
    """Lost lines and busy servers are worth another try; a missing file and a full disk are not."""
    assert FsspecStore("memory://transient", {}).transient(error) is transient
