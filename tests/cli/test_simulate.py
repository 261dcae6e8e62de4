"""``chiltepin simulate``: a simulated Globus for one command or for a shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from warm import warm_command

COMMAND = str(Path(sys.executable).with_name("chiltepin"))

COLLECTIONS = ("--collection", "my-laptop=laptop", "--collection", "hpc-scratch=scratch")

#: Creates an SDK client from the environment and finds the collections.
CLIENT = """
import globus_sdk, os
app = globus_sdk.ClientApp(
    client_id=os.environ["CHILTEPIN_CLIENT_ID"], client_secret=os.environ["CHILTEPIN_CLIENT_SECRET"],
    config=globus_sdk.GlobusAppConfig(token_storage="memory"),
)
client = globus_sdk.TransferClient(app=app, retry_config=globus_sdk.transport.RetryConfig(max_retries=0))
found = {one["display_name"]: one["id"] for one in client.endpoint_search(filter_scope="my-endpoints")}
"""

FIND = f"""{CLIENT}
for name, one in found.items():
    print(name, one)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, which is also the user's home."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GLOBUS_", "CHILTEPIN_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def simulate(*words, code=0):
    """Run ``chiltepin simulate`` and check its exit code."""
    ended = subprocess.run(
        [warm_command("chiltepin"), "simulate", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def begun(*words):
    """Start ``chiltepin simulate`` in a separate process group, as a terminal does."""
    return subprocess.Popen(
        [COMMAND, "simulate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def python(code):
    """Return the arguments that run Python code."""
    return ("--", sys.executable, "-c", code)


# With a command.


def test_a_program_with_the_sdk_finds_its_collections(folder):
    """A program that uses globus-sdk finds the collections, with the same ids in every run."""
    first = simulate(*COLLECTIONS, *python(FIND)).stdout
    assert re.fullmatch(r"my-laptop [0-9a-f-]{36}\nhpc-scratch [0-9a-f-]{36}\n", first)
    assert (folder / "laptop").is_dir()
    assert simulate(*COLLECTIONS, "--port", "0", *python(FIND)).stdout == first


def test_the_globus_command_needs_no_login(folder):
    """The real ``globus`` command works with the environment of the simulator."""
    (folder / "laptop").mkdir()
    (folder / "laptop" / "a.txt").write_text("a")
    globus = warm_command("globus")
    script = f'{globus} ls "$({globus} endpoint search my-laptop --jmespath "DATA[0].id" -F unix):/"'
    assert simulate(*COLLECTIONS, "sh", "-c", script).stdout == "a.txt\n"


def test_a_login_in_here_is_kept_apart(folder):
    """The ``globus`` command stores logins to the simulator in a separate profile, so that the real login is kept."""
    shown = simulate(*COLLECTIONS, "--", "sh", "-c", "echo $GLOBUS_PROFILE").stdout
    assert shown == "chiltepin-simulator\n"


def test_simulated_tasks_are_recorded_apart(folder):
    """The user's journal does not show simulated tasks; their own journal is removed with the simulator."""
    (folder / "chiltepin.yaml").write_text("data:\n  backend: globus\n")
    (folder / "laptop").mkdir()
    (folder / "laptop" / "a.txt").write_text("a")
    script = (
        f"{shlex.quote(sys.executable)} -c {shlex.quote(TRANSFER)} && {warm_command('chiltepin')} activity "
        "&& echo $CHILTEPIN_JOURNAL"
    )
    *shown, journal = simulate(*COLLECTIONS, "--", "sh", "-c", script).stdout.splitlines()
    assert any("/a.txt -> /in/b.txt" in line for line in shown)
    assert not os.path.exists(journal)
    assert not list(folder.rglob("journal"))


TRANSFER = """
import chiltepin
print(chiltepin.transfer("my-laptop", "hpc-scratch", "/a.txt", "/in/b.txt", polling_interval=1))
"""


@pytest.mark.parametrize("named", ["settings", "display name"])
def test_chiltepin_moves_a_file(named, folder):
    """Chiltepin's transfers use the simulator, both for endpoints of the settings and for display names."""
    settings = "data:\n  backend: globus\n"
    if named == "settings":
        found = dict(line.split() for line in simulate(*COLLECTIONS, *python(FIND)).stdout.splitlines())
        settings += "  endpoints:\n" + "".join(f"    {name}:\n      globus: {one}\n" for name, one in found.items())
    (folder / "chiltepin.yaml").write_text(settings)
    (folder / "laptop").mkdir(exist_ok=True)
    (folder / "laptop" / "a.txt").write_text("a")
    assert simulate(*COLLECTIONS, *python(TRANSFER)).stdout.splitlines()[-1] == "True"
    assert (folder / "scratch" / "in" / "b.txt").read_text() == "a"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9), ("kill -INT $$", 128 + 2)]
)
def test_the_exit_code_is_the_commands(script, code, folder):
    """The exit code is that of the command; for a signal it is 128 plus the signal's number, as in a shell."""
    simulate(*COLLECTIONS, "--", "sh", "-c", script, code=code)


def test_input_and_output_are_the_commands(folder):
    """The command inherits standard input, output and error, to which the simulator adds nothing."""
    words = [COMMAND, "simulate", *COLLECTIONS, "--", "sh", "-c", "cat; echo wrong >&2"]
    ended = subprocess.run(words, input="typed\n", capture_output=True, text=True, check=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("typed\n", "wrong\n")


COUNT = """
import signal
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print("ready", flush=True)
number = None
while number != signal.SIGTERM:
    number = signal.sigwait(both)
    print(number.name, flush=True)
raise SystemExit(3)
"""


def test_ctrl_c_reaches_the_command_once(folder):
    """Ctrl-C reaches the command once, which decides what to do; a SIGTERM to the simulator is passed on to it."""
    process = begun(*COLLECTIONS, *python(COUNT))
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.terminate()
    said, error = process.communicate(timeout=60)
    assert (said, error, process.returncode) == ("SIGTERM\n", "", 3)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux ends a process with its parent.")
def test_a_killed_simulator_leaves_no_command(folder):
    """SIGKILL of the simulator, which cannot handle it, ends the command as well."""
    process = begun(*COLLECTIONS, *python(COUNT))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    # At the end of the output, the command, which holds the pipe open, has ended.
    assert process.communicate(timeout=60)[0] == "SIGTERM\n"


TIMED = f"""{CLIENT}
data = globus_sdk.TransferData(found["my-laptop"], found["hpc-scratch"])
data.add_item("/a.txt", "/b.txt")
task_id = client.submit_transfer(data)["task_id"]
assert client.task_wait(task_id, timeout=60, polling_interval=1)
task = client.get_task(task_id)
print(task["request_time"], task["completion_time"])
"""


def test_the_service_can_be_made_slower(folder):
    """With a file latency of one second and a bandwidth of 20 bytes per second, 20 bytes take at least two seconds."""
    (folder / "laptop").mkdir()
    (folder / "laptop" / "a.txt").write_bytes(b"x" * 20)
    said = simulate(*COLLECTIONS, "--file-latency", "1", "--bandwidth", "20", *python(TIMED)).stdout
    began, ended = map(datetime.fromisoformat, said.split())
    assert ended - began >= timedelta(seconds=2)


MANY = f"""{CLIENT}
try:
    for _ in range(250):
        client.get_submission_id()
    for number in range(101):
        data = globus_sdk.TransferData(found["my-laptop"], found["hpc-scratch"])
        data.add_item("/a.txt", f"/b{{number}}.txt")
        client.submit_transfer(data)
    print(*{{task["nice_status"] for task in client.task_list(limit=1000)}} & {{"Queued"}})
except globus_sdk.TransferAPIError as err:
    print(err.http_status)
"""


@pytest.mark.parametrize(("words", "said"), [((), "429\n"), (("--no-limits",), "\n")], ids=["limits", "no limits"])
def test_the_limits_can_be_lifted(words, said, folder):
    """The simulator meters requests and limits tasks as Globus does, unless --no-limits is given."""
    (folder / "laptop").mkdir()
    (folder / "laptop" / "a.txt").write_text("a")
    assert simulate(*COLLECTIONS, "--file-latency", "60", *words, *python(MANY)).stdout == said
    assert list((folder / "scratch").iterdir()) == []


# Faults.

SETTINGS = """
data:
  backend: globus
  endpoints:
    my-laptop:
      globus: 12345678-1234-1234-1234-123456789abc
    hpc-scratch:
      globus: 87654321-4321-4321-4321-cba987654321
      local: scratch
"""

LOGGED = f"""{CLIENT}
import time
for _ in range(3):
    began = time.monotonic()
    try:
        client.get_submission_id()
        print("answered", time.monotonic() - began >= 0.2)
    except globus_sdk.TransferAPIError as err:
        print(err.http_status, err.code)
    except globus_sdk.NetworkError as err:
        print(type(err).__name__)
"""


def a_file_through(*words, code=0):
    """Transfer a file with ``chiltepin transfer`` under ``chiltepin simulate``."""
    (Path("sandbox") / "my-laptop").mkdir(parents=True)
    (Path("sandbox") / "my-laptop" / "a.txt").write_text("a")
    transfer = ("--", COMMAND, "transfer", "my-laptop:/a.txt", "hpc-scratch:/in/b.txt", "-F", "json")
    return simulate(*words, *transfer, code=code)


@pytest.mark.parametrize("words", [(), ("--fail", "POST /transfer:503:2"), ("--fail", "POST /transfer:drop")])
def test_a_pipeline_goes_through_the_faults_of_a_service(words, folder):
    """The endpoints of the settings become collections, and a transfer succeeds as one task despite injected faults."""
    (folder / "chiltepin.yaml").write_text(SETTINGS)
    ended = a_file_through(*words, "--latency", "0.2")
    assert (folder / "sandbox" / "scratch" / "in" / "b.txt").read_text() == "a"
    assert len(json.loads(ended.stdout)["task_ids"]) == 1


def test_a_fault_that_does_not_heal_is_told(folder):
    """A permanent refusal fails the transfer, and its code is reported."""
    (folder / "chiltepin.yaml").write_text(SETTINGS)
    ended = a_file_through("--fail", "POST /transfer:403:9", code=1)
    assert "Forbidden" in ended.stdout
    assert not (folder / "sandbox" / "scratch" / "in").exists()


def test_a_fault_hits_so_many_requests(folder):
    """Each --fail affects the given number of requests, in the order of the options; later requests succeed."""
    faults = ("--fail", "/submission_id:503", "--fail", "get /submission_id:drop:1")
    said = simulate(*COLLECTIONS, *faults, "--latency", "0.2", *python(LOGGED)).stdout
    assert said == "503 ServiceUnavailable\nGlobusConnectionError\nanswered True\n"


#: What the Globus Compute SDK reads and requests when it creates a client; importing the SDK takes seconds.
COMPUTE_CLIENT = """
import os, urllib.request
assert os.environ["GLOBUS_COMPUTE_CLIENT_ID"] and os.environ["GLOBUS_COMPUTE_CLIENT_SECRET"]
with urllib.request.urlopen("http://localhost:5000/v2/version?service=all") as answer:
    print(os.environ["GLOBUS_SDK_ENVIRONMENT"], answer.status)
"""


def test_a_program_finds_globus_compute(folder):
    """With --compute, the Globus Compute SDK finds credentials, and its service on port 5000, the only one it uses."""
    words = [warm_command("chiltepin"), "simulate", *COLLECTIONS, "--compute", *python(COMPUTE_CLIENT)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if "Cannot listen on port 5000" in ended.stderr:
        pytest.skip("Another program listens on port 5000.")
    assert (ended.stdout, ended.returncode) == ("local 200\n", 0)


# Without a command.


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_environment_for_a_shell(how, folder):
    """``sh`` can evaluate the output, which lists the collections; the simulator runs until a signal ends it."""
    names = ("--collection", "my laptop's=a folder", *COLLECTIONS)
    with begun(*names) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("# hpc-scratch"):
                break
        script = f"{''.join(lines)}\nexec {shlex.quote(sys.executable)} -c {shlex.quote(FIND)}"
        found = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True, timeout=60).stdout
        process.send_signal(how)
        rest, error = process.communicate(timeout=60)
    assert (rest, error, process.returncode) == ("", "", 0)
    assert all(line.startswith(("export ", "# ")) for line in lines)
    listed = [re.split("  +", line[2:].rstrip()) for line in lines if line.startswith("# ")]
    assert [f"{name} {one}" for name, one, _ in listed] == found.splitlines()
    assert [place for _, _, place in listed] == [str(folder / name) for name in ("a folder", "laptop", "scratch")]


# Mistakes.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing option '--collection'"),
        (("--collection", "my-laptop"), "'my-laptop' is not NAME=FOLDER"),
        (("--collection", "=folder"), "'=folder' is not NAME=FOLDER"),
        (("--collection", "my-laptop="), "'my-laptop=' is not NAME=FOLDER"),
        (("--collection", "a\nb=folder"), "'a\\nb=folder' is not NAME=FOLDER"),
        (("--collection", "a=b", "--collection", "a=c"), "'a' is given twice"),
        (("--collection", "a=file"), "/file is a file; choose a folder for 'a'"),
        ((*COLLECTIONS, "--port", "70000"), "70000 is not in the range"),
        ((*COLLECTIONS, "--latency", "-1"), "-1.0 is not in the range"),
        ((*COLLECTIONS, "--compute", "--port", "80"), "--compute listens on port 5000"),
        ((*COLLECTIONS, "--bandwidth", "fast"), "'fast' is not a valid number"),
        ((*COLLECTIONS, "--fail", "POST /transfer"), "'POST /transfer' is not a valid failure"),
        ((*COLLECTIONS, "--fail", "/transfer:200"), "'/transfer:200' is not a valid failure"),
        ((*COLLECTIONS, "--fail", "/transfer:503:0"), "'/transfer:503:0' is not a valid failure"),
        ((*COLLECTIONS, "--fail", "POST transfer:503"), "'POST transfer:503' is not a valid failure"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_what_is_typed_wrong(words, said, folder):
    """Each mistake exits with 2 and a message, and creates nothing."""
    (folder / "file").write_text("")
    assert said in simulate(*words, "--", "true", code=2).stderr
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_home_folder_can_be_named_with_a_tilde(folder):
    """Chiltepin expands a ~ after the =, because the shell does not."""
    simulate("--collection", "a=~/in/here", "--", "true")
    assert (folder / "in" / "here").is_dir()


def test_a_folder_that_cannot_be_made(folder):
    """A folder that cannot be created exits with 1 and a one-line message."""
    (folder / "file").write_text("")
    error = simulate("--collection", "a=file/below", "--", "true", code=1).stderr
    assert error.startswith("chiltepin: Cannot use the folder ")
    assert error.count("\n") == 1


def test_a_port_that_is_taken(folder):
    """A port in use exits with 1 and a one-line message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = simulate(*COLLECTIONS, "--port", str(port), "--", "true", code=1).stderr
    assert error == (
        f"chiltepin: Cannot listen on port {port}: Address already in use; "
        "set another --port, or omit it to use a free one.\n"
    )


def test_a_command_that_is_not_there(folder):
    """A missing command exits with 127, and a file that is not executable exits with 126, as in a shell."""
    (folder / "data.txt").write_text("")
    assert "Cannot run 'no-such-command'" in simulate(*COLLECTIONS, "no-such-command", "-x", code=127).stderr
    assert "Cannot run './data.txt'" in simulate(*COLLECTIONS, "./data.txt", code=126).stderr


def test_without_the_extra_it_says_what_to_install(folder):
    """Without Flask, the message names the extra to install."""
    code = (
        "import sys; sys.modules['flask'] = None; import chiltepin.cli.main as m; sys.argv[0] = 'chiltepin'; m.main()"
    )
    words = [sys.executable, "-c", code, "simulate", *COLLECTIONS]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (
        1,
        (
            "chiltepin: The simulator needs flask, which is not installed; "
            "run: pip install cryptography flask pytest werkzeug\n"
        ),
    )
