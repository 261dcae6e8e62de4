"""The commands ``chiltepin`` and ``globus``, forked from a process that has loaded both.

A test starts a small program. The program passes its arguments, environment, folder, input and outputs to that process,
forwards signals to its fork, and exits as the fork exits. Loading a command takes 0.4 s of CPU time, a fork 0.04 s.
A few tests start the installed commands themselves: tests of imports, of terminals and of process groups.
"""

from __future__ import annotations

import ast
import atexit
import io
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

#: Python without its site packages, which starts in 0.01 s.
PROGRAM = """\
#!{python} -IS
import os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({address!r})
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
told = repr((os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)))
socket.send_fds(connection, [told.encode()], [0, 1, 2])
process = int(connection.recv(100))
for number in numbers:
    signal.signal(number, lambda number, _: os.kill(process, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
code = int(connection.recv(100))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""

#: The ``globus`` command of another environment: tox -e newest uses the newest version.
GLOBUS = os.environ.get("CHILTEPIN_GLOBUS", "")

COMMANDS = {"chiltepin": "chiltepin.cli.main", "globus": "globus_cli"}
#: Modules that the commands import on demand.
LOADED = ("chiltepin.backends.filesystem", "chiltepin.backends.globus", "chiltepin.testing.simulator", "requests")


@cache
def warm_command(name: str) -> str:
    """Return the path of the program to start in place of a command."""
    return GLOBUS if GLOBUS and name == "globus" else str(_programs() / name)


@cache
def _programs() -> Path:
    """Start the process that forks, and create the programs that connect to it."""
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    address = str(folder / "socket")
    process = subprocess.Popen(
        [sys.executable, __file__, address],
        cwd="/",
        # Variables that one test has set must not affect the next.
        env={name: value for name, value in os.environ.items() if not name.startswith(("CHILTEPIN_", "GLOBUS_"))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    atexit.register(_end, process, folder)
    assert process.stdout.readline() == b"ready\n"
    for name in COMMANDS:
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
    return folder


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.communicate()
    shutil.rmtree(folder)


def serve(address: str) -> None:
    """Fork for each program that connects, until the tests end."""
    mains = {name: import_module(module).main for name, module in COMMANDS.items() if find_spec(module)}
    listed = import_module(COMMANDS["chiltepin"]).COMMANDS
    for name in (*LOADED, *(f"chiltepin.cli.commands.{command}" for command in listed)):
        import_module(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        os.write(1, b"ready\n")
        # No process waits for the forks, so the kernel must reap them.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while listening in select.select([listening, 0], [], [])[0]:
            connection, _ = listening.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                attend(connection, mains)
            connection.close()


def attend(connection: socket.socket, mains: dict) -> None:
    """Run one command in a further fork, send its process id and exit code, and kill it if its program dies."""
    told, outputs, *_ = socket.recv_fds(connection, 1 << 20, 3)
    child = os.fork()
    if not child:
        connection.close()
        name, words, folder, environment = ast.literal_eval(told.decode())
        take_over(outputs, folder, environment)
        sys.argv = [name, *words]
        sys.exit(mains[name]())
    for output in outputs:
        os.close(output)
    connection.send(b"%d" % child)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.send(b"%d" % code)
    finally:
        os._exit(0)


def take_over(outputs: list[int], folder: str, environment: dict[str, str]) -> None:
    """Take over the input, outputs, folder and environment of another process, as if Python started there."""
    for number, output in enumerate(outputs):
        os.dup2(output, number)
        os.close(output)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    for name, number, errors in (("stdout", 1, "surrogateescape"), ("stderr", 2, "backslashreplace")):
        direct = number == 2 or os.isatty(number) or "PYTHONUNBUFFERED" in environment
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
        setattr(
            sys,
            name,
            io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=direct, write_through=direct),
        )


if __name__ == "__main__":
    serve(sys.argv[1])
