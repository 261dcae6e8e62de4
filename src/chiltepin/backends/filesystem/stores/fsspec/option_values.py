"""Values of options that servers of several kinds have: seconds, and which certificates to trust."""

from __future__ import annotations

import ssl

from chiltepin.errors import ConfigError

__all__ = ["is_number", "seconds", "tls_context"]


def is_number(value: object) -> bool:
    """Whether a value is a number; YAML's true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def seconds(store: str, value: object) -> float:
    """Return the option ``timeout`` of a kind of store; any value but a positive number raises ConfigError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ConfigError(f"{store}'s option timeout is {value!r}; write a number of seconds, such as 30.")
    return value


def tls_context(store: str, verify: object) -> ssl.SSLContext:
    """Return the settings of TLS for the option ``verify`` of a kind of store.

    True stands for the trusted certificates of this machine, a path for those in a file, and False for any certificate.
    Another value raises ConfigError.
    """
    if not isinstance(verify, bool | str):
        raise ConfigError(f"{store}'s option verify is {verify!r}; write the path of a file of trusted certificates.")
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError:
        raise ConfigError(
            f"{store}'s option verify is {verify!r}, which is not a readable file of certificates (PEM); "
            f"correct the path."
        ) from None
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
