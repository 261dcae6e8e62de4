"""Globus Compute endpoints of this machine: configure, list, start, stop and delete them.

This is a thin wrapper around the program ``globus-compute-endpoint``, with the function names of the upstream package.
The first program of that name on PATH is used, else the one that the extra ``endpoint`` installs in this environment.
The template of an endpoint that is configured here accepts every resource key of the settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chiltepin.errors import ChiltepinError, EndpointNotFoundError, LoginRequiredError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ComputeEndpointError",
    "configure",
    "delete",
    "exists",
    "is_running",
    "login",
    "login_required",
    "logout",
    "show",
    "start",
    "stop",
]

_PROGRAM = "globus-compute-endpoint"

_TEMPLATE = Path(__file__).parent / "parsl" / "endpoint_template.yaml.j2"

#: Seconds without a change of its pid file after which an endpoint has ended (globus-compute-endpoint 4.19,
#: ``Endpoint.check_pidfile``).
_PID_FILE_AGE = 30

#: Default time limit for an endpoint to start or stop, in seconds.
_PATIENCE = 120.0

#: The program prints this when it needs a login but cannot prompt for one.
_LOGIN_PROMPT = "Authorization Code"

_Directory = str | os.PathLike[str] | None


class ComputeEndpointError(ChiltepinError, RuntimeError):
    """A compute endpoint could not be configured, started, stopped or deleted."""


def configure(name: str, config_dir: _Directory = None, timeout: float | None = None) -> bool:
    """Create the files of an endpoint, without contacting a service.

    Its template accepts the resource keys of the settings, and its processes find the programs of this Python
    environment.

    Parameters
    ----------
    name : str
        The name of the new endpoint.
    config_dir : path, optional
        Folder of the endpoints; by default ``~/.globus_compute``.
    timeout : float, optional
        Seconds after which to give up.

    Raises
    ------
    ComputeEndpointError
        If ``globus-compute-endpoint`` fails or is not installed.
    """
    if exists(name, config_dir):
        raise ComputeEndpointError(
            f"The compute endpoint {name!r} exists in {_folder(config_dir)}; choose another name."
        )
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "user_environment.yaml")
        environment.write_text(f"PATH: {json.dumps(_path())}\n", encoding="utf-8")
        given = ("--template-config", str(_TEMPLATE), "--user-env-config", str(environment), "--display-name", name)
        _run("configure", name, "--multi-user", "false", *given, config_dir=config_dir, timeout=timeout)
    with open(_folder(config_dir) / name / "config.yaml", "a", encoding="utf-8") as file:
        file.write("debug: true\n")
    return True


def show(config_dir: _Directory = None) -> dict[str, dict[str, str | None]]:
    """Return the endpoints of this machine by name, each with ``id`` and ``status``.

    ``id`` is None before the first start. ``status`` is ``Initialized``, ``Running``, ``Disconnected`` or ``Stopped``,
    as in ``globus-compute-endpoint list``. Both are read from files; no service is contacted.
    """
    folders = sorted(file.parent for file in _folder(config_dir).glob("*/config.*"))
    return {folder.name: {"id": _id(folder), "status": _status(folder)} for folder in folders}


def exists(name: str, config_dir: _Directory = None) -> bool:
    """Whether an endpoint is configured."""
    return name in show(config_dir)


def is_running(name: str, config_dir: _Directory = None) -> bool:
    """Whether an endpoint is running."""
    return show(config_dir).get(name, {}).get("status") == "Running"


def start(name: str, config_dir: _Directory = None, timeout: float | None = None) -> None:
    """Start an endpoint in the background, and wait until it is running.

    Raises
    ------
    EndpointNotFoundError
        If it is not configured.
    LoginRequiredError
        If Globus Compute has no login on this machine.
    ComputeEndpointError
        If it does not start; after ``timeout`` seconds, by default 120, this is also a TimeoutError.
    """
    _require(name, config_dir)
    until = _deadline(timeout)
    _link_tokens(config_dir)
    _run("start", name, "--detach", config_dir=config_dir, timeout=timeout)
    _wait(lambda: is_running(name, config_dir), until, f"The compute endpoint {name!r} did not start", name, config_dir)


def stop(name: str, config_dir: _Directory = None, timeout: float | None = None) -> None:
    """Stop an endpoint, and wait until it has ended; the errors are those of `start`."""
    _require(name, config_dir)
    until = _deadline(timeout)

    def stopped() -> bool:
        # The program gives up after 10 seconds and has to be called again while workers end.
        with contextlib.suppress(ComputeEndpointError):
            _run("stop", name, config_dir=config_dir, timeout=timeout)
        return not is_running(name, config_dir)

    _wait(stopped, until, f"The compute endpoint {name!r} did not stop", name, config_dir)


def delete(name: str, config_dir: _Directory = None, timeout: float | None = None) -> None:
    """Delete an endpoint that is not running, here and at Globus Compute; the errors are those of `start`."""
    _require(name, config_dir)
    if is_running(name, config_dir):
        raise ComputeEndpointError(f"The compute endpoint {name!r} is running; stop it first.")
    _run("delete", name, "--yes", config_dir=config_dir, timeout=timeout)
    if exists(name, config_dir):
        raise ComputeEndpointError(
            f"The compute endpoint {name!r} could not be deleted; see {_folder(config_dir) / name}."
        )


def login() -> dict[str, Any]:
    """Log in to Globus for transfers and for Globus Compute, if needed.

    Returns
    -------
    dict
        ``transfer``, a ``globus_sdk.TransferClient``, and ``compute``, a ``globus_compute_sdk.Client``.
    """
    from chiltepin.backends.globus import auth  # noqa: PLC0415 - no SDK before it is needed
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415
    from chiltepin.parsl import globus_compute  # noqa: PLC0415

    client_id = _client_id()
    globus.login(client_id)
    return {"compute": globus_compute.login(), "transfer": auth.transfer_client(client_id)}


def login_required() -> bool:
    """Whether a login is missing, for transfers or for Globus Compute."""
    from chiltepin.backends.globus import auth  # noqa: PLC0415
    from chiltepin.parsl import globus_compute  # noqa: PLC0415

    try:
        auth.transfer_client(_client_id()).close()
    except LoginRequiredError:
        return True
    return globus_compute.login_required()


def logout() -> None:
    """Revoke both logins and remove them from this machine."""
    from chiltepin.backends.globus import login as globus  # noqa: PLC0415
    from chiltepin.parsl import globus_compute  # noqa: PLC0415

    globus.logout(_client_id())
    globus_compute.logout()


def _client_id() -> str | None:
    from chiltepin.settings import default_file  # noqa: PLC0415
    from chiltepin.transfers.resolve import file_data  # noqa: PLC0415

    file = default_file()
    return file_data(file).options("globus").get("client_id") if file else None


def _folder(config_dir: _Directory) -> Path:
    return Path(os.path.abspath(config_dir)) if config_dir else Path.home() / ".globus_compute"


def _id(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "endpoint.json").read_bytes())["endpoint_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _status(folder: Path) -> str:
    if _id(folder) is None:
        return "Initialized"
    try:
        age = time.time() - (folder / "daemon.pid").stat().st_mtime
    except OSError:
        return "Stopped"
    return "Running" if abs(age) < _PID_FILE_AGE else "Disconnected"


def _require(name: str, config_dir: _Directory) -> None:
    known = show(config_dir)
    if name not in known:
        raise EndpointNotFoundError(
            f"No compute endpoint {name!r} is configured in {_folder(config_dir)}; {suggest(name, known)}",
            endpoint=name,
        )
    # If the program is missing, stop() would retry until its timeout.
    _program()


def _program() -> str:
    found = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=sysconfig.get_path("scripts"))
    if found is None:
        raise ComputeEndpointError(
            f"{_PROGRAM}, which needs Linux, is not installed; run: pip install globus-compute-endpoint"
        )
    return found


def _run(action: str, name: str, *options: str, config_dir: _Directory, timeout: float | None) -> None:
    """Run one command of the program; raise an error if it fails or times out."""
    where = ["-c", str(_folder(config_dir))] if config_dir else []
    # Not a pipe: an endpoint that stays in the background would hold it open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            code = subprocess.run(  # noqa: S603 - no shell
                [_program(), *where, action, *options, name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        output.seek(0)
        said = output.read().strip()
    if code is None:
        raise _TooSlowError(f"'{_PROGRAM} {action}' of {name!r} was not done within {timeout:g} seconds.")
    if code and _LOGIN_PROMPT in said:
        typed = shlex.join([_PROGRAM, *where, "login"])
        raise LoginRequiredError(f"Not logged in to Globus Compute on this machine; run: {typed}")
    if code:
        reason = said.rpartition("\n")[2] or f"exit code {code}"
        raise ComputeEndpointError(f"'{_PROGRAM} {action}' of {name!r} failed: {reason}")


class _TooSlowError(ComputeEndpointError, TimeoutError):
    """A command of the program timed out."""


def _deadline(timeout: float | None) -> float:
    return time.monotonic() + (_PATIENCE if timeout is None else timeout)


def _wait(done: Callable[[], bool], until: float, what: str, name: str, config_dir: _Directory) -> None:
    while not done():
        if time.monotonic() > until:
            raise _TooSlowError(f"{what} in time; see {_folder(config_dir) / name / 'endpoint.log'}.")
        time.sleep(0.2)


def _link_tokens(config_dir: _Directory) -> None:
    """Let an endpoint in another folder use the Globus Compute login: an endpoint looks it up in its own folder."""
    login_file = _folder(None) / "storage.db"
    there = _folder(config_dir) / login_file.name
    if login_file.exists() and not os.path.lexists(there):
        there.symlink_to(login_file)


def _path() -> str:
    """Return PATH for the processes of an endpoint: this Python environment, then the default PATH of a login shell."""
    with tempfile.TemporaryDirectory() as home:
        shell = subprocess.run(  # noqa: S603 - no user input
            ["/usr/bin/env", "-i", f"HOME={home}", "bash", "-l", "-c", 'echo "$PATH"'],
            capture_output=True,
            text=True,
            check=False,
        )
    return os.pathsep.join([os.path.dirname(os.path.abspath(sys.executable)), shell.stdout.strip() or os.defpath])
