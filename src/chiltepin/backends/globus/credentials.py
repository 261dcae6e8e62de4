"""As which client Chiltepin logs in to Globus, and which Globus that is, by environment and settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from chiltepin.backends.globus.token_storage import FILE_VARIABLE
from chiltepin.errors import ConfigError
from chiltepin.model import UUID

__all__ = [
    "ID_VARIABLE",
    "SECRET_VARIABLE",
    "Credentials",
    "choose_credentials",
    "environment_key",
    "service_name",
]

#: The environment variables of service credentials; the first alone names a native app.
ID_VARIABLE, SECRET_VARIABLE = "CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"

#: The native app of Globus's own tutorials (SDK documentation, "Minimal script"), until Chiltepin has registered one.
TUTORIAL_CLIENT = "61338d24-54d5-408f-a10d-66c06b59f6d2"

_ENVIRONMENT_VARIABLES = (
    ID_VARIABLE,
    SECRET_VARIABLE,
    FILE_VARIABLE,
    "GLOBUS_SDK_ENVIRONMENT",
    "GLOBUS_SDK_SERVICE_URL_AUTH",
    "GLOBUS_SDK_SERVICE_URL_TRANSFER",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """As which client Chiltepin comes to Globus Auth.

    Parameters
    ----------
    client_id : str
        UUID of the client.
    secret : str
        Its secret; empty for a native app, where a user logs in.
    """

    client_id: str
    secret: str = field(default="", repr=False)

    @property
    def is_service(self) -> bool:
        """Whether the client acts for itself, with no user and no login."""
        return bool(self.secret)


def choose_credentials(client_id: str | None = None) -> Credentials:
    """Return as which client to come: what the environment says, else the settings, else the tutorials' native app.

    Parameters
    ----------
    client_id : str or None
        ``data: globus: client_id:`` of the settings; None if it is not set.

    Raises
    ------
    ConfigError
        If a secret is set without its client, or the client is no UUID.
    """
    variable, secret = os.environ.get(ID_VARIABLE, ""), os.environ.get(SECRET_VARIABLE, "")
    if secret and not variable:
        raise ConfigError(
            f"{SECRET_VARIABLE} is set and {ID_VARIABLE} is not; set both for service credentials, or unset the first."
        )
    chosen = variable or client_id or TUTORIAL_CLIENT
    if not UUID.fullmatch(chosen):
        origin = ID_VARIABLE if variable else "data.globus.client_id"
        raise ConfigError(f"{origin} is {chosen!r}; write the UUID of a client that is registered at Globus.")
    return Credentials(client_id=chosen.lower(), secret=secret)


def environment_key() -> tuple[str | None, ...]:
    """Return all that the environment says about which Globus is meant, and which login; it holds a secret."""
    return tuple(os.environ.get(name) for name in _ENVIRONMENT_VARIABLES)


def service_name() -> str:
    """Return which Globus the environment names: an address, or the name of one of Globus's own environments."""
    address, environment = "GLOBUS_SDK_SERVICE_URL_TRANSFER", "GLOBUS_SDK_ENVIRONMENT"
    return os.environ.get(address) or os.environ.get(environment) or "production"
