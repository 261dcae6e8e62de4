"""Choose the client with which Chiltepin logs in to Globus, from the environment and the settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from chiltepin.backends.globus.token_storage import FILE_VARIABLE
from chiltepin.errors import ConfigError
from chiltepin.model import UUID

__all__ = [
    "COMPUTE_VARIABLES",
    "ENVIRONMENT_VARIABLES",
    "ID_VARIABLE",
    "LOGIN_VARIABLES",
    "SECRET_VARIABLE",
    "Credentials",
    "choose_credentials",
    "variables",
]

#: Environment variables of service credentials; the first alone names a native app.
ID_VARIABLE, SECRET_VARIABLE = "CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET"

#: Variables of Globus Compute and of upstream's Chiltepin, used if their secret is set and neither of ours is.
COMPUTE_VARIABLES = "GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"

#: The native app of Globus's own tutorials (SDK documentation, "Minimal script"), until Chiltepin registers one.
TUTORIAL_CLIENT = "61338d24-54d5-408f-a10d-66c06b59f6d2"

#: Environment variables that distinguish logins and contain no secret.
LOGIN_VARIABLES = ID_VARIABLE, COMPUTE_VARIABLES[0], FILE_VARIABLE

#: Environment variables that select the Globus deployment and the login.
ENVIRONMENT_VARIABLES = (
    ID_VARIABLE,
    SECRET_VARIABLE,
    *COMPUTE_VARIABLES,
    FILE_VARIABLE,
    "GLOBUS_SDK_ENVIRONMENT",
    "GLOBUS_SDK_SERVICE_URL_AUTH",
    "GLOBUS_SDK_SERVICE_URL_TRANSFER",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A client at Globus Auth and its secret, which is empty for a native app, with which a user logs in."""

    client_id: str
    secret: str = field(default="", repr=False)

    @property
    def is_service(self) -> bool:
        """Whether the client acts for itself, without a user or a login."""
        return bool(self.secret)


def variables() -> tuple[str, str]:
    """Return the names of the environment variables that name the client and its secret."""
    ours = ID_VARIABLE, SECRET_VARIABLE
    # An id alone is for user logins to Globus Compute.
    if any(map(os.environ.get, ours)) or not os.environ.get(COMPUTE_VARIABLES[1]):
        return ours
    return COMPUTE_VARIABLES


def choose_credentials(client_id: str | None = None) -> Credentials:
    """Return the client of the environment, else of the settings (``client_id``), else the tutorials' native app.

    A secret without its client, or a client id that is not a UUID, is a ConfigError.
    """
    names = variables()
    named, secret = (os.environ.get(name, "") for name in names)
    if secret and not named:
        raise ConfigError(
            f"{names[1]} is set and {names[0]} is not; set both for service credentials, or unset the first."
        )
    chosen = named or client_id or TUTORIAL_CLIENT
    if not UUID.fullmatch(chosen):
        origin = names[0] if named else "data.globus.client_id"
        raise ConfigError(f"{origin} is {chosen!r}; write the UUID of a client that is registered at Globus.")
    return Credentials(client_id=chosen.lower(), secret=secret)
