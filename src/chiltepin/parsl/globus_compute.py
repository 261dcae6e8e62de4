"""A Parsl executor for a Globus Compute endpoint that logs in when it is first used, not when it is made."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from parsl.executors import GlobusComputeExecutor
from parsl.executors.base import ParslExecutor

from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

__all__ = ["ComputeExecutor", "login", "login_required", "logout"]


class ComputeExecutor(GlobusComputeExecutor):  # type: ignore[misc]
    """Sends apps to a Globus Compute endpoint.

    ``globus_compute_sdk.Executor`` logs in when it is created. A workflow that sends no app to the endpoint should not
    have to log in, so the SDK's executor, and a client if none is given, are created with the first app.
    """

    def __init__(self, *, label: str, endpoint: str, user_endpoint_config: dict[str, Any], client: Any = None) -> None:
        # Not the parent's __init__, which requires the SDK's executor, which logs in.
        ParslExecutor.__init__(self)
        self.label = label
        self.endpoint = endpoint
        self.user_endpoint_config = user_endpoint_config
        self.client = client
        self.resource_specification = None
        self.storage_access = None
        self.working_dir = None
        self.executor: Any = None
        self._making = threading.Lock()

    def submit(
        self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Send an app; the first app logs in if no ``client`` was given."""
        with self._making:
            if self.executor is None:
                self.executor = self._made()
        future: Future[Any] = super().submit(func, resource_specification, *args, **kwargs)
        return future

    def shutdown(self) -> None:
        """Shut down the SDK's executor, if one was created."""
        if self.executor is None:
            ParslExecutor.shutdown(self)
        else:
            super().shutdown()

    def _made(self) -> Any:
        from globus_compute_sdk import Executor  # noqa: PLC0415  An optional extra, and only here.

        return Executor(
            endpoint_id=self.endpoint,
            client=self.client,
            user_endpoint_config=self.user_endpoint_config,
            label=self.label,
        )


def login() -> Any:
    """Return a Globus Compute client; prompt for a login if there is none."""
    app = _app()
    if app.login_required():
        app.login()
    return _sdk().Client(app=app, do_version_check=False)


def login_required() -> bool:
    """Whether Globus Compute has no login on this machine."""
    with _opened_app() as app:
        return bool(app.login_required())


def logout() -> None:
    """End the login of Globus Compute."""
    with _opened_app() as app:
        app.logout()


@contextmanager
def _opened_app() -> Iterator[Any]:
    app = _app()
    try:
        yield app
    finally:
        app.close()
        # A SQLite file, which close() leaves open because the app did not open it (globus_sdk.GlobusApp.close).
        app.token_storage.close()


def _app() -> Any:
    _sdk()
    from globus_compute_sdk.sdk.auth.auth_client import ComputeAuthClient  # noqa: PLC0415
    from globus_compute_sdk.sdk.auth.globus_app import get_globus_app  # noqa: PLC0415

    app = get_globus_app()
    # As the SDK's Client does.
    app.add_scope_requirements({ComputeAuthClient.scopes.resource_server: ComputeAuthClient.default_scope_requirements})
    return app


def _sdk() -> Any:
    try:
        import globus_compute_sdk  # noqa: PLC0415  An optional extra, and only here.
    except ImportError:
        pass
    else:
        return globus_compute_sdk
    raise ConfigError("Globus Compute needs a package that is missing; run: pip install globus-compute-sdk")
