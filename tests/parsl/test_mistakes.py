"""The most common mistakes: each raises a clear error, and nothing hangs."""

from __future__ import annotations

import errno
import os
import re

import pytest

import chiltepin
from chiltepin import configure, delete_task, local_path, python_task, transfer_task
from chiltepin.errors import (
    ChiltepinError,
    ConfigError,
    EndpointMismatchError,
    EndpointNotFoundError,
    LoginRequiredError,
    PermissionDeniedError,
    TaskFailedError,
    TaskTimeoutError,
)

LIMIT = 60

SETTINGS = """\
data:
  backend: local
  endpoints:
    my-laptop:
    hpc-scratch:
    archive:
      filesystem: s3://bucket/archive
"""


@python_task
def count(path):
    """Count the bytes of a file."""
    return os.path.getsize(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with settings, and a file and a folder on the laptop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHILTEPIN_CONFIG", raising=False)
    monkeypatch.delenv("CHILTEPIN_BACKEND", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "chiltepin.yaml").write_text(SETTINGS)
    (tmp_path / "sandbox" / "my-laptop" / "folder").mkdir(parents=True)
    (tmp_path / "sandbox" / "my-laptop" / "file").write_bytes(b"content")
    return tmp_path


def move(src_path="/file", dst_path="/file", **options):
    """Run a transfer and wait for it."""
    call = {"src_ep": "my-laptop", "dst_ep": "hpc-scratch", "executor": "local", **options}
    return transfer_task(src_path=src_path, dst_path=dst_path, **call).result(LIMIT)


def remove(src_path, **options):
    """Run a deletion and wait for it."""
    return delete_task(src_ep="my-laptop", src_path=src_path, executor="local", **options).result(LIMIT)


IN_A_WORKFLOW = {
    "an endpoint misspelled": (
        lambda: move(dst_ep="hpc-scrach"),
        EndpointNotFoundError,
        "/chiltepin.yaml; did you mean 'hpc-scratch'? Known: archive, hpc-scratch, my-laptop.",
    ),
    "an endpoint in capitals": (
        lambda: move(dst_ep="HPC-Scratch"),
        EndpointNotFoundError,
        "No endpoint named 'HPC-Scratch' in ",
    ),
    "a file that is not there": (
        lambda: move("/flie"),
        TaskFailedError,
        "failed (FILE_NOT_FOUND): There is no /flie on endpoint 'my-laptop'.",
    ),
    "a folder without recursive": (
        lambda: move("/folder"),
        TaskFailedError,
        "/folder on endpoint 'my-laptop' is a folder; set recursive=True to transfer it.",
    ),
    "a file with recursive": (
        lambda: move(recursive=True),
        TaskFailedError,
        "/file on endpoint 'my-laptop' is a file; set recursive=False to transfer it.",
    ),
    "a folder as the destination of a file": (
        lambda: move(dst_path="/results/"),
        ValueError,
        "dst_path='/results/' is a folder, but a file needs its full new path; write '/results/file'",
    ),
    "a path out of the endpoint": (
        lambda: move("/../../etc/passwd"),
        PermissionDeniedError,
        "The path '/../../etc/passwd' leads out of the root of endpoint 'my-laptop'",
    ),
    "an executor misspelled": (
        lambda: move(executor="locl"),
        ConfigError,
        "No executor is named 'locl'; did you mean 'local'? Known: local.",
    ),
    "no executor": (
        lambda: transfer_task("my-laptop", "hpc-scratch", "/file", "/file"),
        TypeError,
        "missing 1 required keyword-only argument: 'executor'",
    ),
    "a keyword misspelled": (
        lambda: move(tiemout=5),
        TypeError,
        "Unknown argument 'tiemout'; did you mean 'timeout'?",
    ),
    "a timeout in words": (
        lambda: move(timeout="1h"),
        TypeError,
        "timeout='1h' is of type str; give a number of seconds, such as 3600.",
    ),
    "a future where its list is wanted": (
        lambda: move(inputs=count("sandbox/my-laptop/file")),
        TypeError,
        "give a list of futures",
    ),
    "an argument that a task does not have": (
        lambda: count("x", pth="y"),
        TypeError,
        "count() has no parameter 'pth'; did you mean 'path'?",
    ),
    "too short a timeout": (
        lambda: move("/endless", timeout=0.1),
        TaskTimeoutError,
        "was not done within 0.1 seconds and was stopped; give a longer timeout=.",
    ),
    "a root to be deleted": (
        lambda: remove("/", recursive=True),
        PermissionDeniedError,
        "/ on endpoint 'my-laptop' is the root of an endpoint and is never deleted; name a path below it.",
    ),
    "a folder to be deleted without recursive": (
        lambda: remove("/folder"),
        TaskFailedError,
        "/folder on endpoint 'my-laptop' is a folder; set recursive=True to delete it and everything in it.",
    ),
    "something to be deleted twice": (
        lambda: remove("/gone"),
        TaskFailedError,
        "There is no /gone on endpoint 'my-laptop'.",
    ),
    "an endpoint misspelled in local_path": (
        lambda: local_path("hpc_scratch", "/x"),
        EndpointNotFoundError,
        "did you mean 'hpc-scratch'?",
    ),
}


@pytest.mark.parametrize("mistake", IN_A_WORKFLOW)
def test_a_mistake_in_a_workflow_gets_one_good_sentence(folder, mistake):
    """An error states the problem, the value and the remedy in one line; the next transfer works."""
    make, error, sentence = IN_A_WORKFLOW[mistake]
    with open(folder / "sandbox" / "my-laptop" / "endless", "wb") as file:
        file.truncate(1 << 40)
    with chiltepin.Workflow(run_dir=folder / "runinfo"):
        with pytest.raises(error) as caught:
            make()
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)
        assert move() is True


IN_SETTINGS = {
    "a key misspelled": (
        SETTINGS.replace("endpoints", "endpionts"),
        r"chiltepin\.yaml:3: .*endpionts.*did you mean 'endpoints'",
    ),
    "a provider misspelled": ("compute: {provider: slrum}", r"chiltepin\.yaml:1: .*slrum.*slurm"),
    "a backend misspelled": (SETTINGS.replace("local", "locla"), r"chiltepin\.yaml:2: .*locla.*did you mean 'local'"),
    "a tab, or another slip of YAML": ("data:\n\tbackend: local", r"chiltepin\.yaml:2: "),
    "a key twice": ("data: {backend: local}\ndata: {}", r"chiltepin\.yaml:2: .*line 1"),
    "a walltime without quotes": ("c: {provider: slurm, walltime: 90}", r"chiltepin\.yaml:1: .*walltime.*00:01:30"),
}


@pytest.mark.parametrize("mistake", IN_SETTINGS)
def test_a_mistake_in_the_settings_names_file_line_and_key(folder, mistake):
    """An error in the settings starts with file and line, names the key, and says what to write."""
    text, sentence = IN_SETTINGS[mistake]
    (folder / "chiltepin.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        configure.parse_file("chiltepin.yaml")
    assert re.search(sentence, str(caught.value)), str(caught.value)


def test_no_settings_at_all(folder):
    """Without settings, the backend is globus and requires a login; a call outside a workflow requires a file."""
    (folder / "chiltepin.yaml").unlink()
    with chiltepin.Workflow({}, run_dir=folder / "runinfo"), pytest.raises(LoginRequiredError) as caught:
        move().result(60)
    assert str(caught.value) == "Not logged in to Globus; run: chiltepin login"
    with pytest.raises(ConfigError, match=r"there is no chiltepin\.yaml"):
        chiltepin.transfer("my-laptop", "hpc-scratch", "/file", "/file")


def test_no_workflow(folder):
    """A task outside a workflow raises an error that says how to start one."""
    assert folder
    with pytest.raises(ConfigError, match=r"No workflow is running; make the call inside `with chiltepin\.Workflow"):
        move()


def test_an_endpoint_of_another_backend(folder):
    """An endpoint without a location on the backend raises EndpointMismatchError."""
    with (
        chiltepin.Workflow(run_dir=folder / "runinfo", backend="filesystem"),
        pytest.raises(
            EndpointMismatchError, match=r"add 'filesystem:' with its location below it in .*chiltepin\.yaml"
        ),
    ):
        move()


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "NO_SPACE_LEFT", "No space left on device"),
        (errno.EACCES, "PERMISSION_DENIED", "Permission denied"),
    ],
    ids=["a disk that is full", "a place that is not writable"],
)
def test_a_disk_that_refuses(folder, monkeypatch, number, code, words):
    """A full or read-only disk fails the transfer with the system's message, and its dependents fail too."""
    replace = os.replace

    def refuse(source, target, **options):
        if "src_dir_fd" in options:
            raise OSError(number, os.strerror(number))
        return replace(source, target, **options)

    monkeypatch.setattr(os, "replace", refuse)
    with chiltepin.Workflow(run_dir=folder / "runinfo"):
        future = transfer_task("my-laptop", "hpc-scratch", "/file", "/file", executor="local")
        dependent = count(local_path("hpc-scratch", "/file"), inputs=[future])
        with pytest.raises(TaskFailedError, match=words) as caught:
            future.result(LIMIT)
        assert caught.value.status.code == code
        assert isinstance(dependent.exception(LIMIT).__cause__, ChiltepinError)
    assert os.listdir(folder / "sandbox" / "hpc-scratch") == []
