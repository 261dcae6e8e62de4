"""Errors of the Globus backend have the documented messages.

Messages that need an explanation are in the table of docs/howto/globus.md; messages that say what to do are in
globus_messages.txt, one per line.
"""

# ruff: noqa: ARG005 - every entry takes the simulator, even if it does not use it

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import globus_sdk
import pytest
from blocks import difference
from tables import messages
from warm import warm_command

from chiltepin import delete, local_path, transfer
from chiltepin.errors import ChiltepinError
from chiltepin.testing.simulator import RunningClock, Simulator

pytestmark = pytest.mark.usefixtures("quick_retries")

MESSAGES = [
    *messages("howto/globus.md", "Globus error messages"),
    *Path(__file__).with_name("globus_messages.txt").read_text(encoding="utf-8").splitlines(),
]

#: Timeout in seconds of a step that has to end.
LIMIT = 60

#: A port without a listener (that of the discard protocol, RFC 863, which is not in use today).
NOWHERE = "http://127.0.0.1:9/"

SETTINGS = """\
data:
  fault_grace: 0.2
  globus: {options}
  endpoints:
    my-laptop: {{globus: {laptop}}}
    hpc-scratch: {{globus: {scratch}}}
    archive:
"""


def move(src_path="/data/input.dat", dst_path="/project/input.dat", **options):
    """Transfer from the laptop to scratch, or as the options say, with frequent polls."""
    ends = {"src_ep": "my-laptop", "dst_ep": "hpc-scratch", "src_path": src_path, "dst_path": dst_path}
    transfer(**{**ends, "polling_interval": 0.1, **options})


def remove(path, **options):
    """Delete a path on scratch."""
    delete("hpc-scratch", path, polling_interval=0.1, **options)


def choose(globus, options="{}"):
    """Write the settings, with some options of the backend."""
    laptop, scratch = (globus.collection(name).id for name in ("my-laptop", "hpc-scratch"))
    settings = SETTINGS.format(options=options, laptop=laptop, scratch=scratch)
    Path("chiltepin.yaml").write_text(settings, encoding="utf-8")


def unset(*names):
    """Delete environment variables."""
    for name in names:
        os.environ.pop(name, None)


def with_variable(name, value, **options):
    """Set an environment variable, and transfer."""
    os.environ[name] = value
    move(**options)


def as_user(do=None):
    """Remove the service credentials, call a function, and transfer."""
    unset("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET")
    if do is not None:
        do()
    move()


def log_in():
    """Log in with the command: open the link that it prints, and enter the code."""
    process = subprocess.Popen(
        [warm_command("chiltepin"), "login", "--no-local-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with process:
        link = next(line for line in process.stdout if "/authorize?" in line)
        with browser.open(link.strip(), timeout=LIMIT) as page:
            process.stdin.write(re.search("<code>(.+?)</code>", page.read().decode()).group(1) + "\n")
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


def with_token_file(text):
    """Write an invalid token file."""
    file = Path(os.environ["CHILTEPIN_TOKENS"])
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")


def wants_consent(globus, kind):
    """Require a consent for a collection of some kind."""
    scratch = globus.collection("hpc-scratch")
    scratch.entity_type, scratch.needs_consent = kind, True
    as_user(log_in)


def ask_for_session(globus):
    """List a folder of a site with a session policy."""
    globus.collection("hpc-scratch").session_policy = "example.org"
    look_at_scratch(globus)


def ask_as_user(globus, do):
    """Log in as a user, and call a function."""
    unset("CHILTEPIN_CLIENT_ID", "CHILTEPIN_CLIENT_SECRET")
    log_in()
    do(globus)


def look_at_scratch(globus):
    """List the root folder of scratch."""
    places = {"hpc-scratch": {"collection": globus.collection("hpc-scratch").id}}
    from chiltepin.backends.globus import GlobusBackend

    backend = GlobusBackend.from_config(places, {})
    try:
        backend.ls("hpc-scratch", "/")
    finally:
        backend.close()


def twins(globus):
    """Add two collections with the same display name."""
    for name in ("one", "two"):
        globus.add_collection(name, name, display_name="Scratch", owner=f"{name}@example.org")
    move(dst_ep="Scratch")


def server(globus):
    """Transfer from an endpoint of Globus Connect Server."""
    move(src_ep=globus.add_collection("server", "server", entity_type="GCSv5_endpoint").id)


def having(globus, name, do=move, **attributes):
    """Change attributes of a collection, and call a function."""
    for attribute, value in attributes.items():
        setattr(globus.collection(name), attribute, value)
    do()


def meanwhile(globus, do):
    """Call a function during a transfer."""
    globus.settings.task_latency = 1e6
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        end = time.monotonic() + LIMIT
        while not globus.tasks and time.monotonic() < end:
            threading.Event().wait(0.005)
        [task] = globus.tasks.values()
        do(task)
        moving.result(LIMIT)


def bring_forward(globus, task):
    """Set the deadline of a task to a time in the near future."""
    soon = (globus.clock.now() + timedelta(seconds=0.5)).isoformat()
    globus.client().update_task(task.id, {"DATA_TYPE": "task", "deadline": soon})


def of_another_user(globus):
    """Transfer while another program's task has the same paths."""
    globus.settings.task_latency = 1e6
    theirs = globus_sdk.TransferData(globus.collection("my-laptop").id, globus.collection("hpc-scratch").id)
    theirs.add_item("/data/input.dat", "/project/input.dat")
    globus.client().submit_transfer(theirs)
    move()


def in_vain(globus, *, settings=(), environment=(), **fault):
    """Transfer with a Globus that is full, down or unreachable."""
    for name, value in dict(settings).items():
        setattr(globus.settings, name, value)
    os.environ.update(environment)
    if fault:
        globus.fail_next(99, **fault)
    move(timeout=2)


def through_a_proxy(globus):
    """Transfer through a proxy that does not exist."""
    unset("NO_PROXY", "no_proxy")
    in_vain(globus, environment={"http_proxy": NOWHERE})


def scratch_with_folder(do, *args, **options):
    """Create the folder /project on scratch, and call a function."""
    Path("scratch/project").mkdir()
    do(*args, **options)


def with_options(globus, options):
    """Transfer with options of the backend in the settings."""
    choose(globus, options)
    move()


#: In the order of the table, and then of the file.
TROUBLES = [
    lambda globus: move("/data/none.dat"),
    lambda globus: having(globus, "hpc-scratch", denied={"/project"}),
    lambda globus: meanwhile(globus, lambda task: task.fail("ENDPOINT_ERROR", "an endpoint error occurred")),
    lambda globus: meanwhile(globus, lambda task: globus.forget_task(task.id)),
    lambda globus: in_vain(globus, settings={"task_latency": 1e6}),
    through_a_proxy,
    lambda globus: in_vain(globus, path="submission_id", status=200, body=b"<html>Please log in.</html>"),
    lambda globus: scratch_with_folder(move, dst_path="/project"),
    lambda globus: move(checksum=f"md5:{'0' * 32}"),
    lambda globus: move("/data", "/copy", recursive=True, delete_destination_extra=True, exclude="*.log"),
    # The errors of the file.
    lambda globus: move(dst_ep="99999999-1234-1234-1234-123456789abc"),
    server,
    lambda globus: in_vain(globus, status=403, code="PermissionDenied", path="/v0.10/transfer"),
    lambda globus: having(globus, "my-laptop", connected=False),
    lambda globus: having(globus, "hpc-scratch", paused=True),
    lambda globus: in_vain(globus, path="/v0.10"),
    lambda globus: in_vain(globus, environment={"GLOBUS_SDK_SERVICE_URL_TRANSFER": NOWHERE}),
    lambda globus: as_user(),
    lambda globus: as_user(lambda: [log_in(), globus.authority.revoke_all()]),
    lambda globus: with_variable("CHILTEPIN_CLIENT_SECRET", "wrong"),
    lambda globus: [unset("CHILTEPIN_CLIENT_ID"), move()],
    lambda globus: with_options(globus, "{client_id: mine}"),
    lambda globus: as_user(lambda: with_token_file("{")),
    lambda globus: as_user(lambda: os.environ.update(CHILTEPIN_TOKENS="laptop")),
    lambda globus: wants_consent(globus, "GCSv5_mapped_collection"),
    lambda globus: wants_consent(globus, "GCSv5_guest_collection"),
    lambda globus: ask_as_user(globus, ask_for_session),
    ask_for_session,
    lambda globus: ask_as_user(globus, lambda globus: having(globus, "hpc-scratch", session_policy="example.org")),
    lambda globus: meanwhile(globus, lambda task: task.set_inactive()),
    lambda globus: move(dst_ep="hpc-scrach"),
    twins,
    lambda globus: with_variable("HOME", os.getcwd(), src_ep="this-machine"),
    lambda globus: move(src_ep="archive"),
    lambda globus: local_path("my-laptop", "/data"),
    lambda globus: with_options(globus, "{notfy: true}"),
    lambda globus: with_options(globus, "{notify: maybe}"),
    lambda globus: move(client="me"),
    lambda globus: having(globus, "hpc-scratch", quota=3),
    lambda globus: meanwhile(globus, lambda task: globus.client().cancel_task(task.id)),
    lambda globus: meanwhile(globus, lambda task: bring_forward(globus, task)),
    of_another_user,
    lambda globus: in_vain(globus, settings={"pending_limit": 0}),
    lambda globus: in_vain(globus, path="/v2"),
    lambda globus: move(recursive=True),
    lambda globus: move("/data"),
    lambda globus: move("/data", "/", dst_ep="my-laptop", recursive=True, delete_destination_extra=True),
    lambda globus: remove("/", recursive=True),
    lambda globus: scratch_with_folder(remove, "/project"),
    lambda globus: remove("/none"),
]


@pytest.fixture
def globus(folder):
    """A simulated Globus with a running clock, its settings, and one file, without requests of other tests."""
    with Simulator({"my-laptop": "laptop", "hpc-scratch": "scratch"}, clock=RunningClock()) as simulator:
        os.environ.update(simulator.environment())
        choose(simulator)
        Path("laptop/data").mkdir()
        Path("laptop/data/input.dat").write_text("data", encoding="utf-8")
        yield simulator


def test_every_message_has_its_trouble():
    """Each line of the table and of the file is tested."""
    assert len(MESSAGES) == len(TROUBLES)


@pytest.mark.parametrize(("message", "trouble"), list(zip(MESSAGES, TROUBLES, strict=False)))
def test_a_trouble_says_what_the_page_says(globus, message, trouble):
    """The error has the message of the table or the file."""
    with pytest.raises((ChiltepinError, TypeError)) as caught:
        trouble(globus)
    # The simulator has no web app.
    message = re.sub(r" (See|at) https://app\.globus\.org/[\w/]+(\.\.\.)?", "", message)
    message = re.sub(r" See \.\.\.$", "...", message)
    assert not (problem := difference(message, str(caught.value))), problem
