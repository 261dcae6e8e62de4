"""The simulated Globus, for tests."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import globus_sdk
from globus_sdk.transport import RetryConfig

from chiltepin.testing.simulator.application import application
from chiltepin.testing.simulator.authority import Authority
from chiltepin.testing.simulator.clock import ManualClock, RunningClock
from chiltepin.testing.simulator.collection import Collection
from chiltepin.testing.simulator.controls import TaskControl
from chiltepin.testing.simulator.engine import Engine
from chiltepin.testing.simulator.faults import Faults, Mishap, Served
from chiltepin.testing.simulator.request_guard import SCOPE
from chiltepin.testing.simulator.server import Server
from chiltepin.testing.simulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

__all__ = ["Simulator"]

#: Real seconds between two checks for due work, because a test may change a collection at any time.
TICK = 0.05


class Simulator:
    """A simulated Globus on this machine, for the real SDK and the real ``globus`` command.

    Parameters
    ----------
    collections : mapping of str to path
        Names of collections and their folders; missing folders are created.
    clock : ManualClock, RunningClock or None
        The clock of the service; None: real time. With a `ManualClock` nothing happens until a test advances it.
    port : int
        The port on 127.0.0.1; 0 selects a free port.
    **settings
        As in `Settings`; they can be changed later, as attributes of `settings`.

    Attributes
    ----------
    url : str
        Its URL, with a slash at the end.
    authority : Authority
        The simulated Globus Auth.
    """

    def __init__(
        self,
        collections: Mapping[str, str | os.PathLike[str]],
        *,
        clock: ManualClock | RunningClock | None = None,
        port: int = 0,
        **settings: Any,
    ) -> None:
        self.clock = RunningClock() if clock is None else clock
        self.settings = Settings(**settings)
        self._collections: dict[str, Collection] = {}
        for name, folder in collections.items():
            self.add_collection(name, folder)
        self.authority = Authority(self.clock)
        self.authority.scope_exists = self._scope_exists
        self._faults = Faults(self.settings)
        self._engine = Engine(self.clock, self.settings, self.authority.has_session)
        self._clients: list[globus_sdk.TransferClient] = []
        self._stopped = threading.Event()
        self._server = Server(application(self._engine, self.authority, self._faults, self._collections), port)
        self.url = f"http://127.0.0.1:{self._server.port}/"
        self._token = ""
        self._ticker: threading.Thread | None = None
        if isinstance(self.clock, ManualClock):
            self.clock.attach(self._engine.work)
        else:
            self._ticker = threading.Thread(target=self._tick, args=(self.clock,), name="simulator-clock", daemon=True)
            self._ticker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; stop threads, close sockets, and remove partial files."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._engine.changed.set()
        if self._ticker is not None:
            self._ticker.join()
        if isinstance(self.clock, ManualClock):
            self.clock.detach(self._engine.work)
        for client in self._clients:
            client.close()
        self._server.close()
        self._engine.close()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the SDK, the ``globus`` command and Chiltepin here.

        They contain credentials that are valid only here.
        """
        reached = "127.0.0.1,localhost"
        proxies = {name: ",".join(filter(None, (os.environ.get(name), reached))) for name in ("NO_PROXY", "no_proxy")}
        credentials = {
            f"{tool}_CLIENT_{part}": value
            for tool in ("GLOBUS_CLI", "CHILTEPIN")
            for part, value in (("ID", self.authority.client_id), ("SECRET", self.authority.client_secret))
        }
        services = {f"GLOBUS_SDK_SERVICE_URL_{service}": self.url for service in ("TRANSFER", "AUTH")}
        # A login at the simulator must not replace the user's login of the globus command.
        return {**services, **proxies, **credentials, "GLOBUS_PROFILE": "chiltepin-simulator"}

    def client(self, **options: Any) -> globus_sdk.TransferClient:
        """Return a client for this process; it is closed with the simulator.

        Parameters
        ----------
        **options
            For `globus_sdk.TransferClient`; by default, it uses `token` and never retries.
        """
        options.setdefault("authorizer", globus_sdk.AccessTokenAuthorizer(self.token))
        options.setdefault("retry_config", RetryConfig(max_retries=0))
        client = globus_sdk.TransferClient(base_url=self.url, **options)
        # The SDK uses proxies even for 127.0.0.1, unless the environment excludes it.
        client.transport.session.trust_env = False
        self._clients.append(client)
        return client

    @property
    def token(self) -> str:
        """A valid access token of the client whose credentials are in `environment`."""
        if self.authority.check(self._token) is None:
            self._token = str(self.authority.client_tokens(self.authority.client_id, SCOPE)["access_token"])
        return self._token

    def revoke_tokens(self) -> None:
        """Revoke every token; a request with a revoked token gets status 401."""
        self.authority.revoke_all()

    # Collections.

    def collection(self, name: str) -> Collection:
        """Return a collection by its name in the simulator.

        Raises
        ------
        KeyError
            If the name is unknown.
        """
        for collection in self._collections.values():
            if collection.name == name:
                return collection
        known = ", ".join(repr(collection.name) for collection in self._collections.values())
        raise KeyError(f"No collection {name!r} in the simulator; known: {known}.")

    def add_collection(self, name: str, folder: str | os.PathLike[str], **attributes: Any) -> Collection:
        """Add a collection; its id is derived from its name, and a name in use is a ValueError. See `Collection`."""
        collection = Collection(name, os.fspath(folder), **attributes)
        if collection.id in self._collections:
            raise ValueError(f"The simulator has a collection {name!r} already; take another name.")
        self._collections[collection.id] = collection
        return collection

    def _scope_exists(self, scope: str) -> bool:
        """Whether a scope exists; only collections that need consent have a scope for their data."""
        if not scope.endswith("/data_access"):
            return True
        return any(scope == one.consent_scope and one.needs_consent for one in self._collections.values())

    # Tasks.

    @property
    def tasks(self) -> dict[str, TaskControl]:
        """All tasks by id, oldest first."""
        with self._engine.lock:
            return {task.id: TaskControl(self._engine, task) for task in self._engine.tasks.values()}

    def task(self, task_id: str) -> TaskControl:
        """Return one task.

        Raises
        ------
        KeyError
            If the id is unknown.
        """
        return TaskControl(self._engine, self._engine.tasks[task_id])

    def forget_task(self, task_id: str) -> None:
        """Forget a task; requests for it get status 404."""
        self._engine.forget(task_id)

    # Failures.

    def fail_next(
        self,
        times: int = 1,
        status: int = 503,
        code: str = "ServiceUnavailable",
        *,
        method: str | None = None,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        drop: bool = False,
        after: bool = False,
        body: bytes | None = None,
    ) -> None:
        """Fail the next requests.

        Parameters
        ----------
        times : int
            Number of matching requests to fail.
        status, code : int, str
            The response.
        method, path : str or None
            Which requests match: their method, and a part of their path; None: any.
        headers : mapping or None
            Additional headers of the response, such as ``Retry-After``.
        drop : bool
            Close the connection instead of responding.
        after : bool
            Perform the request, and replace only its response.
        body : bytes or None
            The body of the response, with any content, instead of an error document.
        """
        mishap = Mishap(times, status, code, method, path, headers or {}, drop=drop, after=after, body=body)
        self._faults.add(mishap)

    def rewrite_answers(self, rewrite: Callable[[str, str, Any], Any] | None) -> None:
        """Change all following responses.

        Parameters
        ----------
        rewrite : callable or None
            Called with the method, path and document of each JSON response; returns the document to send. The state of
            the service does not change. None: responses are correct again.
        """
        self._faults.rewrite = rewrite

    def slow_next(self, seconds: float, times: int = 1, *, method: str | None = None, path: str | None = None) -> None:
        """Delay the responses of the next requests, which are performed at once.

        Parameters
        ----------
        seconds : float
            The delay by the simulator's clock. A `ManualClock` advances by this delay while the request waits.
        times, method, path
            As for `fail_next`.
        """
        self._faults.add(Mishap(times, 200, "", method, path, slow=seconds))

    def unplug(self) -> None:
        """Close all connections and refuse new ones; tasks continue."""
        self._server.unplug()

    def plug_in(self) -> None:
        """Undo `unplug`, at the same address."""
        self._server.plug_in()

    @property
    def requests(self) -> list[Served]:
        """All requests so far, in order; they contain no headers and so no tokens."""
        return list(self._faults.requests)

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._faults.requests.clear()

    def _tick(self, clock: RunningClock) -> None:
        while not self._stopped.is_set():
            self._engine.changed.clear()
            self._engine.work(self._stopped.is_set)
            moment = self._engine.next_moment()
            wait = TICK if moment is None else max(0.0, (moment - clock.time()) / clock.speed)
            self._engine.changed.wait(min(TICK, wait))
