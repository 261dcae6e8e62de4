"""The exit codes of the command line; the same numbers as globus-cli's."""

from __future__ import annotations

from chiltepin.errors import ConfigError, LoginRequiredError

__all__ = ["FAILURE", "INTERRUPTED", "LOGIN_REQUIRED", "exit_code"]

FAILURE, WRONG_SETTING, LOGIN_REQUIRED = 1, 2, 4

#: 128 plus the number of SIGINT, as in a shell.
INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(error, LoginRequiredError):
        return LOGIN_REQUIRED
    return WRONG_SETTING if isinstance(error, ConfigError) else FAILURE
