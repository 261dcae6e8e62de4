"""Options of the Globus backend from the settings: defaults for what a request does not set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from chiltepin.errors import ConfigError, suggest
from chiltepin.model import CHECKSUMS, notify_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DEFAULTS", "GlobusOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobusOptions:
    """The settings under ``data: globus:``.

    Parameters
    ----------
    client_id : str or None
        The native app that logs in; None for the default of `chiltepin.backends.globus.credentials`.
    notify : tuple of str
        The task events for which Globus sends an e-mail. None by default: a workflow submits hundreds of tasks.
    encrypt_data, fail_on_quota_errors, checksum_algorithm
        As in `chiltepin.model.TransferRequest`, for requests that do not set them.
    """

    client_id: str | None = None
    notify: tuple[str, ...] = ()
    encrypt_data: bool = False
    fail_on_quota_errors: bool = False
    checksum_algorithm: str = ""

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> GlobusOptions:
        """Return the options of a mapping; a ConfigError names an unknown or invalid option."""
        for name, value in given.items():
            if name not in _CHECKS:
                raise ConfigError(
                    f"Backend 'globus' has no option {name!r}; {suggest(name, _CHECKS)}", key=f"data.globus.{name}"
                )
            is_valid, wanted = _CHECKS[name]
            if not is_valid(value):
                raise ConfigError(f"data.globus.{name} is {value!r}; write {wanted}.", key=f"data.globus.{name}")
        return cls(**{**given, "notify": notify_events(given.get("notify", False)) or ()})

    def plain(self) -> dict[str, Any]:
        """Return the options that are set, as JSON data from which `checked` makes the same options."""
        given = {**asdict(self), "notify": list(self.notify)}
        return {name: value for name, value in given.items() if value}


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


#: A check of the value of each option, and what to write instead.
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "client_id": (lambda value: isinstance(value, str), "the UUID of a native app that is registered at Globus"),
    "notify": (
        lambda value: notify_events(value) is not None,
        "true or false, or a list of succeeded, failed and inactive",
    ),
    "encrypt_data": (_is_flag, "true or false"),
    "fail_on_quota_errors": (_is_flag, "true or false"),
    "checksum_algorithm": (lambda value: value in CHECKSUMS, f"one of {', '.join(CHECKSUMS)}"),
}

#: The options if the settings set none.
DEFAULTS = GlobusOptions()
