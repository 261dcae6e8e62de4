"""Compare transfers over SFTP with rclone, scp and rsync: one large file and many small files, up and down.

It starts a server on the loopback interface. ``python benchmarks/sftp.py --help`` lists the options;
docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from measure import Stopwatch, command, compare, needs, scratch

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from sshserver import SshServer  # the tests' own server

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: Copies a source to a destination, up or down, and returns the stopwatch that timed it.
    Copy: TypeAlias = Callable[[str, str, bool], Stopwatch]

MIB = 1 << 20
TURN = count()


def main() -> None:
    """Measure, and print one table."""
    options = _options()
    with scratch(options.folder) as folder:
        top = Path(folder)
        (top / "ssh").mkdir()
        with SshServer(top / "ssh") as server:
            if options.mib:
                (top / "large").mkdir()
                _fill(top / "large" / "f", options.mib * MIB)
                _measure("large", f"1 file of {options.mib} MiB", server, top / "large", options)
            if options.files:
                (top / "small").mkdir()
                for number in range(options.files):
                    _fill(top / "small" / str(number), options.size)
                _measure("small", f"{options.files} files of {options.size} bytes", server, top / "small", options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file in MiB; 0 leaves it out (1024)")
    parser.add_argument("--files", type=int, default=2000, help="number of small files; 0 leaves them out (2000)")
    parser.add_argument("--size", type=int, default=16384, help="bytes per small file (16384)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--tools", nargs="+", default=["chiltepin", "scp", "rsync", "rclone"], help="tools to use")
    parser.add_argument("--folder", help="where to make the temporary folder: this chooses the disk")
    return parser.parse_args()


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, MIB)))


def _measure(key: str, what: str, server: SshServer, source: Path, options: argparse.Namespace) -> None:
    """Measure both directions."""
    for direction in ("up", "down"):
        candidates = {
            name: needs(program, partial(_served, server, partial(_timed, copy, source, up=direction == "up")))
            for name, (program, copy) in _ways(server, source).items()
            if name.partition(",")[0] in options.tools
        }
        compare(f"{key}-{direction}", f"{what}, {direction}", candidates, options.rounds)


def _served(server: SshServer, deed: Callable[[], Stopwatch]) -> Stopwatch:
    """Run a function, and add the server's processor seconds when its processes have ended."""
    daemon = psutil.Process(server.process.pid)
    before = daemon.cpu_times()
    watch = deed()
    for _ in range(200):
        if not server.sessions():
            break
        time.sleep(0.01)
    after = daemon.cpu_times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    watch.more["server's cpu s"] = used
    return watch


def _timed(copy: Copy, source: Path, *, up: bool) -> Stopwatch:
    """Copy once into a new folder, check every file, and remove the folder."""
    goal = source.parent / f"copy-{next(TURN)}"
    watch = copy(str(source), str(goal), up)
    names = os.listdir(source)
    _, unlike, missing = filecmp.cmpfiles(source, goal, names, shallow=False)
    if unlike or missing:
        raise SystemExit(f"{len(unlike) + len(missing)} files are not as they should be.")
    shutil.rmtree(goal)
    return watch


def _ways(server: SshServer, source: Path) -> dict[str, tuple[str, Copy]]:
    """Return the ways to copy a folder, by name, with the program that each needs."""
    ours = partial(_transfer, server, source.parent)
    others = {"scp": _scp, "rsync": _rsync, "rclone": partial(_rclone, hashes=False)}
    ways = {
        "chiltepin, verified": ("chiltepin", partial(ours, verify=True)),
        "chiltepin, unverified": ("chiltepin", partial(ours, verify=False)),
        **{name: (name, partial(copy, server)) for name, copy in others.items()},
    }
    if source.name == "large":
        # The server starts a shell for each file, which would take minutes for the small ones.
        ways["rclone, hashes"] = ("rclone", partial(_rclone, server, hashes=True))
    return ways


def _transfer(server: SshServer, top: Path, source: str, goal: str, up: bool, *, verify: bool) -> Stopwatch:  # noqa: FBT001
    """Transfer with a new backend: it opens its own connections, as the other tools do."""
    backend = FilesystemBackend.from_config({"server": server.endpoint(top), "disk": {"url": str(top)}}, {})
    ends = {"src_ep": "disk", "dst_ep": "server"} if up else {"src_ep": "server", "dst_ep": "disk"}
    paths = {"src_path": source.removeprefix(str(top)), "dst_path": goal.removeprefix(str(top))}
    request = transfer_request(**ends, **paths, recursive=True, verify_checksum=verify)
    with Stopwatch() as watch:
        status = Transfers(backend).run(request, timeout=3600, polling_interval=1)
    if status.state.name != "SUCCEEDED":
        raise SystemExit(status.reason)
    for place in backend._places.values():  # noqa: SLF001 - the connections end in their own round
        getattr(place.store(), "close", int)()
    return watch


def _ssh_words(server: SshServer) -> list[str]:
    known = f"UserKnownHostsFile={server.folder}/known_hosts"
    return ["-F", "none", "-i", f"{server.folder}/user", "-o", known, "-o", "BatchMode=yes"]


def _scp(server: SshServer, source: str, goal: str, up: bool) -> Stopwatch:  # noqa: FBT001 - one of two directions
    there = f"{server.user}@127.0.0.1:"
    ends = (source, there + goal) if up else (there + source, goal)
    return command("scp", "-q", "-r", "-P", str(server.port), *_ssh_words(server), *ends, version=["ssh", "-V"])


def _rsync(server: SshServer, source: str, goal: str, up: bool) -> Stopwatch:  # noqa: FBT001 - one of two directions
    there = f"{server.user}@127.0.0.1:"
    ends = (f"{source}/", f"{there}{goal}/") if up else (f"{there}{source}/", f"{goal}/")
    return command("rsync", "-a", "-e", " ".join(["ssh", "-p", str(server.port), *_ssh_words(server)]), *ends)


def _rclone(server: SshServer, source: str, goal: str, up: bool, *, hashes: bool) -> Stopwatch:  # noqa: FBT001
    """Copy; with ``hashes``, rclone has the server run md5sum or sha1sum in a shell, and compares."""
    there = (
        f":sftp,host=127.0.0.1,port={server.port},user={server.user},key_file={server.folder}/user,"
        f"known_hosts_file={server.folder}/known_hosts,disable_hashcheck={str(not hashes).lower()}:"
    )
    ends = (source, there + goal) if up else (there + source, goal)
    return command("rclone", "copy", "-q", "--config", os.devnull, *ends)


if __name__ == "__main__":
    main()
