"""``chiltepin simulate``: run a simulated Globus on this machine, for one command or for a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.params import Number
from chiltepin.cli.simulate_options import FAULT, Fault, Place, collections, settings_collections
from chiltepin.errors import ChiltepinError
from chiltepin.settings.limits import BANDWIDTH, GRACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chiltepin.testing.simulator import Simulator

__all__ = ["simulate"]

#: The exit codes of a shell for a missing command, and for one that cannot be run (POSIX, "Exit Status").
NOT_FOUND, NOT_RUNNABLE = 127, 126

#: The port that globus_compute_sdk uses in its environment "local" (``sdk/_environments.py``).
COMPUTE_PORT = 5000

#: Makes the kernel end the command when this process ends (prctl(2), PR_SET_PDEATHSIG), because SIGKILL cannot be
#: handled. Python ignores SIGPIPE, which the command would inherit.
_BOUND = """
import ctypes, os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
try:
    if os.getppid() == int(sys.argv[1]):
        os.execvp(sys.argv[2], sys.argv[2:])
except OSError as err:
    print(f"chiltepin: Cannot run {sys.argv[2]!r}: {err.strerror}.", file=sys.stderr)
    sys.exit(126)
"""

_NO_LIMITS = {"request_rate": None, "pending_limit": sys.maxsize, "slots": sys.maxsize}


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--collection",
    "places",
    multiple=True,
    metavar="NAME=FOLDER",
    callback=collections,
    help="A collection and its folder, created if missing. Repeatable. Default: the "
    "endpoints of the settings, with their folders on backend local.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port to listen on (default: any free port).",
)
@click.option(
    "--bandwidth",
    type=Number(BANDWIDTH),
    metavar="BYTES",
    help="Bytes per second of one task (default: no limit).",
)
@click.option(
    "--latency",
    "--request-latency",
    "request_latency",
    type=Number(GRACE),
    default=0.0,
    metavar="SECONDS",
    help="Seconds to wait before each response.",
)
@click.option(
    "--file-latency",
    "latency",
    type=Number(GRACE),
    default=0.0,
    metavar="SECONDS",
    help="Seconds to wait before the first byte of each file.",
)
@click.option(
    "--fail",
    "faults",
    multiple=True,
    type=FAULT,
    metavar="'[METHOD ]PATH:STATUS[:TIMES]'",
    help="Fail the next request, or the next TIMES requests, whose path contains PATH; STATUS drop "
    "performs the request and loses the response. Repeatable.",
)
@click.option(
    "--compute",
    is_flag=True,
    help=f"Also serve logins to Globus Compute, whose SDK can only use port {COMPUTE_PORT} of this machine.",
)
@click.option("--no-limits", is_flag=True, help="Disable rate limits, queueing and the limit on the number of tasks.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARGS...]")
def simulate(
    *,
    places: list[Place],
    port: int,
    compute: bool,
    no_limits: bool,
    faults: tuple[Fault, ...],
    command: tuple[str, ...],
    **settings: Any,
) -> None:
    """Run a simulated Globus on this machine.

    COMMAND finds it through environment variables: globus-sdk, the `globus` command and Chiltepin then use it without
    a login. Its tasks are recorded in a temporary journal. The exit code is that of COMMAND. Without COMMAND, the
    simulator prints these variables, as lines that a shell can read with `.` or `eval`, and runs until it is
    interrupted.

    The UUID of a collection depends only on its name, and is the same on every machine.
    """
    if compute and port not in {0, COMPUTE_PORT}:
        raise click.UsageError(f"--compute listens on port {COMPUTE_PORT}; remove --port {port}.")
    port = COMPUTE_PORT if compute else port
    places = places or settings_collections()
    with (
        # The user's own journal must not show simulated tasks.
        tempfile.TemporaryDirectory(prefix="chiltepin-journal-", ignore_cleanup_errors=True) as journal,
        _start(places, port, {**settings, **(_NO_LIMITS if no_limits else {})}) as simulator,
    ):
        for fault in faults:
            fault.inject(simulator)
        environment = {**simulator.environment(), "CHILTEPIN_JOURNAL": journal}
        environment |= _compute_environment(simulator) if compute else {}
        status = _run(command, {**os.environ, **environment}) if command else _serve(simulator, places, environment)
    sys.exit(status)


def _start(places: Sequence[Place], port: int, settings: Mapping[str, Any]) -> Simulator:
    try:
        from chiltepin.testing.simulator import Simulator  # noqa: PLC0415 - an extra
    except ImportError as err:
        raise ChiltepinError(
            f"The simulator needs {err.name}, which is not installed; "
            "run: pip install cryptography flask pytest werkzeug"
        ) from None
    simulator = None
    try:
        simulator = Simulator({}, port=port, **settings)
        for place in places:
            simulator.add_collection(place.name, place.folder, id=place.id)
    except OSError as err:
        why = os.strerror(err.errno or 0)
        wrong = (
            f"Cannot use the folder {err.filename}: {why}; choose another folder."
            if err.filename
            else f"Cannot listen on port {port}: {why}; set another --port, or omit it to use a free one."
        )
    else:
        return simulator
    if simulator is not None:
        simulator.close()
    raise ChiltepinError(wrong)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command until it ends; return its exit code as a shell reports it."""
    # Before the command starts: a signal in between would end this process and leave the command running.
    with _signals(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD) as signals:
        try:
            process = subprocess.Popen(_bound(command), env=environment)  # noqa: S603 - what the user typed
        except OSError as err:
            missing = isinstance(err, FileNotFoundError)
            click.echo(
                f"chiltepin: Cannot run {command[0]!r}: {err.strerror}; check the name of the command.", err=True
            )
            return NOT_FOUND if missing else NOT_RUNNABLE
        while (status := process.poll()) is None:
            # A terminal sends Ctrl-C to the command too, which handles it; SIGTERM reaches only this process.
            if signal.SIGTERM in signals.recv(64):
                process.terminate()
    return status if status >= 0 else 128 - status


def _bound(command: Sequence[str]) -> Sequence[str]:
    """Return a command that ends with this process, on Linux; a command that cannot be run is unchanged."""
    if sys.platform != "linux" or not sys.executable or shutil.which(command[0]) is None:
        return command
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def _compute_environment(simulator: Simulator) -> dict[str, str]:
    """Return the variables that point the Globus Compute SDK here, with a login that needs no prompt."""
    known = simulator.authority
    return {
        "GLOBUS_SDK_ENVIRONMENT": "local",
        "GLOBUS_COMPUTE_CLIENT_ID": known.client_id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": known.client_secret,
    }


def _serve(simulator: Simulator, places: Sequence[Place], environment: Mapping[str, str]) -> int:
    """Print how to reach the simulator, and serve until a signal, which is not a failure."""
    # Before anything is printed: a reader may end this process at once.
    with _signals(signal.SIGINT, signal.SIGTERM) as signals:
        for name, value in environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        width = max(len(place.name) for place in places)
        for place in places:
            click.echo(f"# {place.name:<{width}}  {simulator.collection(place.name).id}  {place.folder}")
        signals.recv(1)
    return 0


@contextmanager
def _signals(*numbers: signal.Signals) -> Iterator[socket.socket]:
    """Yield a socket that receives the number of each of these signals as a byte.

    A handler alone can be too late: a signal between Python's check for signals and a blocking call is handled only
    when that call ends (docs.python.org, ``signal.set_wakeup_fd``).
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    with reader, writer:
        kept = signal.set_wakeup_fd(writer.fileno())
        # Not SIG_IGN: the command would inherit it.
        handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield reader
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(kept)
