"""``chiltepin simulate``: a Globus on this machine, for one command or for a shell."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from chiltepin.cli.params import Number
from chiltepin.errors import ChiltepinError
from chiltepin.settings.limits import BANDWIDTH, GRACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chiltepin.testing.simulator import Simulator

__all__ = ["simulate"]

#: The exit codes of a shell for a missing command, and for one that cannot be run (POSIX, "Exit Status").
NOT_FOUND, NOT_RUNNABLE = 127, 126

_NO_LIMITS = {"request_rate": None, "pending_limit": sys.maxsize, "slots": sys.maxsize}


def _folders(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Return the folder of each collection, from ``NAME=FOLDER`` words."""
    found: dict[str, str] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        # No shell expands a ~ in the middle of a word.
        folder = os.path.abspath(os.path.expanduser(folder)) if folder else ""
        wrong = ""
        if not (name and equals and folder and word.isprintable()):
            wrong = f"{word!r} is not NAME=FOLDER; write it like my-laptop=/tmp/laptop."
        elif name in found:
            wrong = f"{name!r} is there twice, for {found[name]} and {folder}; give each collection a name of its own."
        elif os.path.exists(folder) and not os.path.isdir(folder):
            wrong = f"{folder} is a file; name a folder for {name!r}."
        if wrong:
            raise click.BadParameter(wrong, ctx=ctx, param=param)
        found[name] = folder
    return found


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--collection",
    "folders",
    multiple=True,
    required=True,
    metavar="NAME=FOLDER",
    callback=_folders,
    help="A collection, and the folder that it shows; made if it is missing. Repeatable.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Where to listen; any free port if not given.",
)
@click.option(
    "--bandwidth",
    type=Number(BANDWIDTH),
    metavar="BYTES",
    help="Bytes per second of one task; no limit if not given.",
)
@click.option(
    "--latency", type=Number(GRACE), default=0.0, metavar="SECONDS", help="Seconds before the first byte of each file."
)
@click.option("--no-limits", is_flag=True, help="Meter no requests, queue no tasks and refuse none for being too many.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARGS...]")
def simulate(
    *,
    folders: dict[str, str],
    port: int,
    bandwidth: float | None,
    latency: float,
    no_limits: bool,
    command: tuple[str, ...],
) -> None:
    """Run a Globus on this machine, for one command or for a shell.

    COMMAND finds it in its environment: globus-sdk, the `globus` command and Chiltepin then talk to it, and need no
    login. The exit code is that of COMMAND. Without COMMAND the environment is printed, as lines that a shell can read
    with `.` or `eval`, and the simulator serves until it is interrupted.

    The UUID of a collection comes from its name, and is the same on every machine.
    """
    settings: dict[str, Any] = {"bandwidth": bandwidth, "latency": latency, **(_NO_LIMITS if no_limits else {})}
    with _start(folders, port, settings) as simulator:
        environment = {**os.environ, **simulator.environment()}
        status = _run(command, environment) if command else _serve(simulator, folders)
    sys.exit(status)


def _start(folders: Mapping[str, str], port: int, settings: Mapping[str, Any]) -> Simulator:
    try:
        from chiltepin.testing.simulator import Simulator  # noqa: PLC0415 - an extra
    except ImportError as err:
        raise ChiltepinError(
            f"The simulator needs {err.name}, which is not installed; type: pip install 'chiltepin[testing]'"
        ) from None
    try:
        return Simulator(folders, port=port, **settings)
    except OSError as err:
        why = os.strerror(err.errno or 0)
        wrong = (
            f"Cannot use the folder {err.filename}: {why}; name another."
            if err.filename
            else f"Cannot listen on port {port}: {why}; give another --port, or none for a free one."
        )
    raise ChiltepinError(wrong)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command until it ends; return its exit code as a shell gives it."""
    # Before the command starts: a signal in between would end this process and leave the command behind.
    with _signals(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD) as signals:
        try:
            process = subprocess.Popen(command, env=environment)  # noqa: S603 - what the user typed
        except OSError as err:
            missing = isinstance(err, FileNotFoundError)
            click.echo(f"chiltepin: Cannot run {command[0]!r}: {err.strerror}; name a command that is there.", err=True)
            return NOT_FOUND if missing else NOT_RUNNABLE
        while (status := process.poll()) is None:
            # A terminal sends Ctrl-C to the command too, which decides what it means; SIGTERM comes to us alone.
            if signal.SIGTERM in signals.recv(64):
                process.terminate()
    return status if status >= 0 else 128 - status


def _serve(simulator: Simulator, folders: Mapping[str, str]) -> int:
    """Print how to reach it, and serve until a signal; that is not a failure."""
    # Before anything is printed: a reader may end this process at once.
    with _signals(signal.SIGINT, signal.SIGTERM) as signals:
        for name, value in simulator.environment().items():
            click.echo(f"export {name}={shlex.quote(value)}")
        width = max(map(len, folders))
        for name, folder in folders.items():
            click.echo(f"# {name:<{width}}  {simulator.collection(name).id}  {folder}")
        signals.recv(1)
    return 0


@contextmanager
def _signals(*numbers: signal.Signals) -> Iterator[socket.socket]:
    """Give a socket that receives the number of each of these signals as a byte.

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
