"""The Globus transfer service: Globus moves the bytes; Chiltepin submits, polls and cancels."""

from chiltepin.backends.globus.backend import GlobusBackend

__all__ = ["GlobusBackend"]
