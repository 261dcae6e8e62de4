"""Check an endpoint: settings, login, consent, reachability, listing, and writing and deleting a file."""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import shlex
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chiltepin.errors import (
    BackendError,
    ChiltepinError,
    ConfigError,
    ConsentRequiredError,
    EndpointError,
    LoginRequiredError,
    PathNotFoundError,
    PermissionDeniedError,
)
from chiltepin.model import DeleteRequest, TransferItem, TransferRequest
from chiltepin.settings import Endpoint
from chiltepin.transfers import arguments, policy
from chiltepin.transfers.outcomes import error_from_status
from chiltepin.transfers.resolve import resolve_endpoint
from chiltepin.transfers.runner import open_transfers, runs_at_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from chiltepin.model import Request
    from chiltepin.settings import DataSettings
    from chiltepin.transfers.runner import Transfers

__all__ = ["STAGES", "EndpointCheck", "Finding"]

#: The stages of a check; each runs only if those before it passed.
STAGES = ("settings", "login", "consent", "reach", "list", "write")

_SEED = "chiltepin check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of the check of one endpoint.

    Parameters
    ----------
    endpoint : str
        Its name.
    passed : tuple of str
        The stages that passed.
    failed : str
        The stage that failed, which ends the check; empty if none did.
    problem, hint : str
        What is wrong, and what to do or to expect, as sentences.
    served : bool
        False for an endpoint without a location on the active backend, which is not a failure.
    """

    endpoint: str
    passed: tuple[str, ...] = ()
    failed: str = ""
    problem: str = ""
    hint: str = ""
    served: bool = True


class EndpointCheck:
    """Checks endpoints; any number of threads may call at once.

    ``write``: whether to move a small file to each endpoint, list it and delete it.
    """

    def __init__(self, settings: DataSettings, *, write: bool = False) -> None:
        self._write = write
        self._folder = tempfile.TemporaryDirectory(prefix="chiltepin-check-") if write else None
        if self._folder and settings.backend == "filesystem":
            # The temporary folder is the source of the test file.
            own = Endpoint(places={"filesystem": {"url": self._folder.name}})
            settings = replace(settings, endpoints={_SEED: own, **settings.endpoints})
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder:
            self._folder.cleanup()

    def examine(self, endpoint: str) -> Finding:
        """Return the result of checking an endpoint; errors are part of the result."""
        passed: list[str] = []
        try:
            self._pass(endpoint, passed)
        except (ChiltepinError, OSError) as err:
            failed = _stage_of(err, passed)
            before = tuple(stage for stage in STAGES[: STAGES.index(failed)] if self._is_tried(stage))
            return Finding(
                endpoint=endpoint,
                passed=before,
                failed=failed,
                problem=str(err),
                hint=self._hint(endpoint, err) if failed == "list" else "",
            )
        served = "list" in passed
        home = self._home(endpoint) if served else ""
        new = f"Its folder {home} does not exist yet; the first transfer creates it." if _is_missing(home) else ""
        return Finding(endpoint=endpoint, passed=tuple(passed), hint=new, served=served)

    def _home(self, endpoint: str) -> str:
        """Return the home folder of an endpoint on this machine; empty if its files are elsewhere."""
        place = self._settings.active_places.get(endpoint, {})
        root = place.get("mount", "") if self._settings.backend in ("local", "filesystem") else ""
        return os.path.normpath(os.path.join(root, place.get("home", "").strip("/"))) if root else ""

    def _hint(self, endpoint: str, error: Exception) -> str:
        """Return what to do about a folder that cannot be listed, in addition to the error's own text."""
        home = self._home(endpoint)
        if _is_missing(home):
            # The first transfer creates a folder below a root; the root itself may be an unmounted disk.
            made = os.path.exists(self._settings.active_places[endpoint]["mount"])
            first = "The first transfer creates it; or type" if made else "If no disk belongs there, type"
            return f"{first}: mkdir -p {shlex.quote(home)}"
        if isinstance(error, PermissionDeniedError):
            return "Name a folder that you may read with 'home:' below it."
        # An error with a semicolon already says what to do. A home folder is below the root, and cannot replace it.
        if isinstance(error, PathNotFoundError) and ";" not in str(error):
            of_root = self._settings.backend == "filesystem" and "home" not in self._settings.active_places[endpoint]
            other = (
                "correct its location in the settings" if of_root else "name an existing folder with 'home:' below it"
            )
            return f"Create it, or {other}."
        return ""

    def _is_tried(self, stage: str) -> bool:
        return stage not in ("login", "consent") or self._logs_in

    @property
    def _transfers(self) -> Transfers:
        return open_transfers(self._settings.setup)

    @property
    def _logs_in(self) -> bool:
        return runs_at_service(self._transfers.backend)

    def _pass(self, endpoint: str, passed: list[str]) -> None:
        """Run the stages, and record each that passes."""
        if endpoint in self._settings.endpoints and endpoint not in self._settings.active_places:
            return
        resolve_endpoint(self._settings, arguments.check("src_ep", endpoint))
        passed.append("settings")
        # The first transfer creates the folder in the sandbox; so does the check of another endpoint, meanwhile.
        new = self._settings.backend == "local" and _is_missing(self._home(endpoint))
        # One request checks four stages: the error shows which of them passed.
        try:
            self._transfers.ls(endpoint, "~")
        except PathNotFoundError:
            if not new:
                raise
        if self._logs_in:
            passed += ("login", "consent")
        passed += ("reach", "list")
        if self._write:
            self._round_trip(endpoint)
            passed.append("write")

    def _round_trip(self, endpoint: str) -> None:
        name = f"chiltepin-check-{secrets.token_hex(8)}"
        with self._seed(endpoint, name) as (source, path, size):
            goal = f"~/{name}.copy"
            try:
                item = TransferItem(source=path, destination=goal)
                self._run(TransferRequest(source=source, destination=endpoint, items=(item,)))
                there = {entry.name: entry.size for entry in self._transfers.ls(endpoint, "~")}
                if there.get(f"{name}.copy") != size:
                    raise BackendError(f"A file of {size} bytes was moved to {endpoint!r}, and is not listed there.")
            finally:
                self._run(DeleteRequest(endpoint=endpoint, paths=(goal,), ignore_missing=True))

    @contextlib.contextmanager
    def _seed(self, endpoint: str, name: str) -> Iterator[tuple[str, str, int]]:
        """Yield a small file, created here or found on an endpoint: its endpoint, path and size in bytes."""
        for other, place in self._settings.active_places.items():
            home = os.path.join(place.get("mount", ""), place.get("home", "").strip("/"))
            if self._settings.backend == "local":
                os.makedirs(home, exist_ok=True)
            if place.get("mount") and os.access(home, os.W_OK | os.X_OK):
                file = os.path.join(home, name)
                content = f"Made by chiltepin check; may be deleted. {name}\n"
                try:
                    with open(file, "x", encoding="ascii") as made:
                        made.write(content)
                    # Relative to the root, like mount:; only the service knows the location of ~.
                    yield other, posixpath.join("/", place.get("home", ""), name), len(content)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(file)
                return
        yield self._borrowed(endpoint)

    def _borrowed(self, endpoint: str) -> tuple[str, str, int]:
        """Return an existing small file: on the endpoint itself, or else on another endpoint that can be listed."""
        for other in dict.fromkeys([endpoint, *self._settings.active_places]):
            with contextlib.suppress(ChiltepinError):
                listed = self._transfers.ls(other, "~")
                sizes = [
                    (entry.size, entry.name) for entry in listed if entry.kind == "file" and entry.size is not None
                ]
                if sizes and min(sizes)[0] <= policy.limits.CHECK_SIZE:
                    size, name = min(sizes)
                    return other, posixpath.join("~", name), size
        raise BackendError(
            "The write check needs a small file to copy, and no home folder of an endpoint holds one; put a file of "
            "less than a megabyte into one, or add 'mount:' to an endpoint whose files are on this machine."
        )

    def _run(self, request: Request) -> None:
        status = self._transfers.run(
            request,
            timeout=policy.wait_times.CHECK_TIMEOUT,
            polling_interval=5,
            fault_grace=min(self._settings.fault_grace, policy.wait_times.CHECK_TIMEOUT),
        )
        if error := error_from_status(status, request):
            raise error


def _is_missing(folder: str) -> bool:
    return bool(folder) and not os.path.exists(folder)


def _stage_of(error: Exception, passed: list[str]) -> str:
    if isinstance(error, ConsentRequiredError):
        return "consent"
    if isinstance(error, LoginRequiredError):
        return "login"
    if "list" in passed:
        return "write"
    if isinstance(error, EndpointError | ConfigError) or not passed:
        return "settings"
    of_folder = isinstance(error, BackendError) and error.code.endswith(policy.fault_codes.FOLDER_CODES)
    return "list" if of_folder or isinstance(error, PermissionDeniedError | PathNotFoundError) else "reach"
