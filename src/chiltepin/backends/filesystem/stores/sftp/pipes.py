"""Read and write the pipes to the ssh process with a timeout."""

from __future__ import annotations

import io
import os
import select
import subprocess
from contextlib import suppress
from typing import IO, Any

__all__ = ["ReplyPipe", "end_process", "last_words", "open_pipes", "wait_ready"]

#: Seconds for ssh to exit after it has closed its pipe, and to write the reason.
_ENDING = 0.5

#: Bytes shown of ssh's error output.
_SHOWN = 400


class ReplyPipe(io.RawIOBase):
    """The output of ssh; a read that takes too long raises an error."""

    def __init__(self, pipe: IO[bytes], response_timeout: float) -> None:
        self._pipe, self._silence = pipe, response_timeout

    def readable(self) -> bool:
        """Return True; see `io.IOBase`."""
        return True

    def readinto(self, block: Any) -> int:
        """Wait for data, and read what is available."""
        wait_ready(self._pipe.fileno(), select.POLLIN, self._silence)
        return os.readv(self._pipe.fileno(), [block])

    def close(self) -> None:
        """Also close the pipe."""
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


def last_words(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """Return the end of ssh's error output, or else its exit status; ``process`` has closed its pipe."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING)
    if errors.closed:
        return "it was closed"
    # Without a seek: ssh shares the position of this file.
    size = os.fstat(errors.fileno()).st_size
    said = " ".join(os.pread(errors.fileno(), _SHOWN, max(0, size - _SHOWN)).decode(errors="replace").split())
    return said or f"ssh ended with status {process.poll()}"


def end_process(process: subprocess.Popen[bytes], output: io.BufferedReader, errors: IO[bytes]) -> None:
    """Kill ssh, close the pipes, and wait for it to exit."""
    with suppress(OSError):
        process.kill()
    for pipe in (process.stdin, output, errors):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()
