"""Errors of transfers and deletions have the documented messages.

Messages that need an explanation are in the table of docs/reference/data.md; messages that say what to do are in
data_messages.txt, one per line.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from blocks import difference
from parsl.data_provider.files import File
from parsl.dataflow.errors import DependencyError
from tables import messages
from waiting import until

import chiltepin
from chiltepin import delete, local_path, python_task, transfer, transfer_task
from chiltepin.errors import ChiltepinError

MESSAGES = [
    *messages("reference/data.md", "Error messages"),
    *Path(__file__).with_name("data_messages.txt").read_text(encoding="utf-8").splitlines(),
]

SETTINGS = """\
data:
  backend: local
  endpoints:
    my-laptop:
      filesystem: laptop
    hpc-scratch:
    bucket:
      filesystem: memory://bucket
    cloud:
      filesystem: oss://bucket
    vault:
      filesystem: {url: "memory://vault", options: {secret: {env: MY_SECRET}}}
    unmounted:
      filesystem: /not-mounted
compute:
  provider: threads
  working_dir: hpc-scratch:/work
"""


def move(src_path="/data/input.dat", dst_path="/project/input.dat", **options):
    """Transfer from the laptop to scratch, or as the options say."""
    transfer(**{"src_ep": "my-laptop", "dst_ep": "hpc-scratch", "src_path": src_path, "dst_path": dst_path, **options})


def start(src_path="/data/input.dat", dst_path="/project/input.dat", **options):
    """Start the same transfer as a task of a workflow; return its future."""
    places = {"src_ep": "my-laptop", "dst_ep": "hpc-scratch", "src_path": src_path, "dst_path": dst_path}
    with chiltepin.Workflow("chiltepin.yaml"):
        return transfer_task(**{**places, "executor": "local", **options})


def choose(settings):
    """Write other settings."""
    Path("chiltepin.yaml").write_text(settings, encoding="utf-8")


def on_disks(function, *args, **options):
    """Call a function with the backend ``filesystem``."""
    os.environ["CHILTEPIN_BACKEND"] = "filesystem"
    Path("laptop/data").mkdir(parents=True)
    Path("laptop/data/input.dat").write_text("data")
    function(*args, **options)


def no_file():
    """Transfer without a settings file."""
    Path("chiltepin.yaml").unlink()
    move()


def no_such_backend():
    """Use an unknown backend."""
    choose("data:\n  backend: globs\n")
    start()


def link_out():
    """Transfer through a link that leads out of the root."""
    os.symlink("/etc", local_path("my-laptop", "/out"))
    move("/out/hostname")


def forbidden():
    """Read a file without permission; root can read everything and therefore becomes another user."""
    os.chmod(local_path("my-laptop", "/data/input.dat"), 0)
    user = os.geteuid()
    with chiltepin.Workflow("chiltepin.yaml"):
        os.seteuid(user or 65534)
        try:
            move()
        finally:
            os.seteuid(user)


def growing():
    """Write to a file while it is being copied."""
    path, over = Path(local_path("my-laptop", "/growing.dat")), threading.Event()
    path.write_bytes(bytes(1 << 24))

    def write():
        with path.open("ab", buffering=0) as file:
            while not over.is_set():
                file.write(b"more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        # On a busy machine the copy may end before the writing thread runs.
        until(lambda: move("/growing.dat", "/growing.dat"))
    finally:
        over.set()
        writer.join()


def large():
    """Create a sparse file of 50 GiB, which is slow to copy but takes no space; return its path."""
    with open(local_path("my-laptop", "/big"), "wb") as file:
        file.truncate(50 << 30)
    return "/big"


def left():
    """Exit the workflow by an error during a transfer."""
    end = time.monotonic() + 60
    with contextlib.suppress(KeyError), chiltepin.Workflow("chiltepin.yaml"):
        future = transfer_task("my-laptop", "hpc-scratch", large(), "/big", executor="local")
        # Until the task begins, its status is that of Parsl and has a reason.
        while future.status().reason and time.monotonic() < end:
            threading.Event().wait(0.005)
        raise KeyError
    future.result()


def dependency():
    """Depend on a task that fails."""

    @python_task
    def fail():
        raise KeyError

    with chiltepin.Workflow("chiltepin.yaml"):
        future = transfer_task(
            "my-laptop", "hpc-scratch", "/data/input.dat", "/b", executor="local", inputs=[fail(executor="local")]
        )
    future.result()


def read(executor, url):
    """Pass a file of Parsl to a task."""

    @python_task
    def task(file):
        return file

    with chiltepin.Workflow("chiltepin.yaml"):
        task(File(url), executor=executor)


#: In the order of the table, and then of the file.
TROUBLES = [
    link_out,
    lambda: move("/data/none.dat"),
    growing,
    left,
    # The errors of the file.
    forbidden,
    lambda: on_disks(move, dst_ep="unmounted"),
    lambda: move(large(), "/big", timeout=0.2),
    lambda: move(checksum=f"md5:{'0' * 32}"),
    lambda: on_disks(move, dst_ep="cloud"),
    lambda: on_disks(move, dst_ep="vault"),
    dependency,
    lambda: transfer_task("my-laptop", "hpc-scratch", "/data/input.dat", "/b", executor="local"),
    no_file,
    no_such_backend,
    lambda: start(dst_ep="hpc-scrach"),
    lambda: on_disks(start),
    lambda: on_disks(local_path, "bucket", "/data"),
    lambda: read("local", "chiltepin://my-laptop/data/input.dat"),
    lambda: read("compute", "chiltepin://my-laptop/data/"),
    lambda: start(executor="locl"),
    lambda: start(tiemout=5),
    lambda: move(dst_path="/project/"),
    lambda: move("/../secret"),
    lambda: move("/data"),
    lambda: move(recursive=True),
    lambda: [move("/data", "/copy", recursive=True), move(dst_path="/copy")],
    lambda: move(checksum="md5:0"),
    lambda: move("/data", "/copy", recursive=True, checksum=f"md5:{'0' * 32}"),
    lambda: move(sync_level="size", checksum=f"md5:{'0' * 32}"),
    lambda: move(delete_destination_extra=True),
    lambda: move("/data", "/", dst_ep="my-laptop", recursive=True, delete_destination_extra=True),
    lambda: delete("hpc-scratch", "/", recursive=True),
    lambda: [move(), delete("hpc-scratch", "/project")],
    lambda: delete("hpc-scratch", "/none"),
    lambda: on_disks(move, dst_ep="bucket", preserve_timestamp=True),
]


@pytest.fixture
def _place(folder):
    """Write the settings and one file."""
    choose(SETTINGS)
    data = Path(local_path("my-laptop", "/data"))
    data.mkdir(parents=True)
    (data / "input.dat").write_text("data")


def test_every_message_has_its_trouble():
    """Each line of the table and of the file is tested."""
    assert len(MESSAGES) == len(TROUBLES)


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize(("message", "trouble"), list(zip(MESSAGES, TROUBLES, strict=False)))
def test_a_trouble_says_what_the_page_says(message, trouble):
    """The error has the message that the table or the file shows."""
    with pytest.raises((ChiltepinError, DependencyError, TypeError, ValueError)) as caught:
        trouble()
    assert not (problem := difference(message, str(caught.value))), problem
