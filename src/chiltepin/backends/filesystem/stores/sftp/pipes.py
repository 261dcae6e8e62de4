"""The pipes to the ssh process: read and written with a limit of time."""

from __future__ import annotations

import io
import os
import select
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess


__all__ = ["ReplyPipe", "end_process", "open_pipes", "wait_ready"]


class ReplyPipe(io.RawIOBase):
    """What ssh says, or an error if it says nothing for too long."""

    def __init__(self, pipe: IO[bytes], response_timeout: float) -> None:
        self._pipe, self._silence = pipe, response_timeout

    def readable(self) -> bool:
        """Be readable."""
        return True

    def readinto(self, block: Any) -> int:
        """Read what there is, when there is something."""
        wait_ready(self._pipe.fileno(), select.POLLIN, self._silence)
        return os.readv(self._pipe.fileno(), [block])

    def close(self) -> None:
        """Close the pipe, too."""
        self._pipe.close()
        super().close()


def wait_ready(descriptor: int, event: int, response_timeout: float) -> None:
    """Wait until a pipe can be read or written; a TimeoutError if the other end does nothing for too long."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(response_timeout * 1000):
        raise TimeoutError


def open_pipes(process: subprocess.Popen[bytes], response_timeout: float) -> tuple[int, io.BufferedReader]:
    """Return the descriptor to write requests to, and the file to read replies from."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("The process has no pipes.")
    os.set_blocking(process.stdin.fileno(), False)
    return process.stdin.fileno(), io.BufferedReader(ReplyPipe(process.stdout, response_timeout))


def end_process(process: subprocess.Popen[bytes], output: io.BufferedReader) -> None:
    """Close the pipes, at which ssh ends, and wait for that."""
    with suppress(OSError):
        process.kill()
    for pipe in (process.stdin, output):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()
