"""The Globus transfer service: it moves the bytes, we submit, look and cancel."""

from chiltepin.backends.globus.backend import GlobusBackend

__all__ = ["GlobusBackend"]
