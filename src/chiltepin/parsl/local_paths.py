"""`local_path`: the path with which a program opens a file of an endpoint."""

from __future__ import annotations

import os

from chiltepin.errors import EndpointMismatchError
from chiltepin.parsl.calls import data_settings
from chiltepin.protocol import paths
from chiltepin.transfers import arguments
from chiltepin.transfers.resolve import resolve_endpoint

__all__ = ["local_path"]


def local_path(endpoint: str, path: str | os.PathLike[str]) -> str:
    """Return the path with which a program that has access to an endpoint opens a file.

    Parameters
    ----------
    endpoint : str
        Name of the endpoint.
    path : str or path-like
        A path, as for `transfer_task`.

    Returns
    -------
    str
        An absolute path on the machine where the files of the endpoint are mounted. For the backend ``local`` and for
        ``file:`` URLs, it is in the folder itself, otherwise below the ``mount:`` of the settings.

    Raises
    ------
    EndpointMismatchError
        If the endpoint has no ``mount:`` on the active backend.

    Notes
    -----
    Call this function in the workflow, whose settings it uses, and pass the result to the task that needs the path.
    """
    settings = data_settings()
    place = resolve_endpoint(settings, arguments.check("src_ep", endpoint))
    names = paths.parts(arguments.check("src_path", path), home=place.get("home", "/"), endpoint=endpoint)
    if not place.get("mount"):
        raise EndpointMismatchError(
            f"Endpoint {endpoint!r} has no mount on backend {settings.backend!r}; "
            f"add mount: with the folder where programs see its files.",
            endpoint=endpoint,
        )
    return os.path.join(place["mount"], *names)
