"""The exit codes of the command line; the same numbers as globus-cli's."""

from __future__ import annotations

from chiltepin.errors import ChiltepinError, ConfigError, LoginRequiredError

__all__ = ["FAILURE", "INTERRUPTED", "LOGIN_REQUIRED", "exit_code"]

FAILURE, WRONG_SETTING, LOGIN_REQUIRED = 1, 2, 4

#: 128 and the number of SIGINT, as a shell has it for a command that Ctrl-C ended.
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[BaseException], int], ...] = (
    (LoginRequiredError, LOGIN_REQUIRED),
    (ConfigError, WRONG_SETTING),
    (ChiltepinError, FAILURE),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILURE)
