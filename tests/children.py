"""Run part of a test in a forked process."""

from __future__ import annotations

import os
import traceback
import warnings
from typing import TYPE_CHECKING

from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 60


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child, and fail if it fails or hangs."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork in a process with threads, which these tests need.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if not process:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - reported to the parent
            os.write(theirs, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(theirs)
    ends = []

    def over():
        ends.append(os.waitpid(process, os.WNOHANG))
        return ends[-1][0]

    try:
        until(over, LIMIT)
    except AssertionError:
        os.kill(process, 9)
        os.waitpid(process, 0)
        raise
    with os.fdopen(ours, "rb") as told:
        assert ends[-1][1] == 0, told.read().decode()
