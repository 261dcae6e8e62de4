"""Tokens and keys stay where they are used: they are not in files, output, requests or memory of a run."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from chiltepin import Workflow, delete_task, python_task, transfer_task
from chiltepin.backends.globus.credentials import COMPUTE_VARIABLES, ID_VARIABLE, SECRET_VARIABLE
from chiltepin.backends.globus.token_storage import FILE_VARIABLE
from chiltepin.errors import ChiltepinError
from chiltepin.parsl.executors import KEPT_BACK

LIMIT = 90

FOLDERS = Path(__file__).parent.parent


@pytest.fixture
def everything_logged(tmp_path):
    """A file with the log of all loggers of all libraries, at level DEBUG."""
    handler = logging.FileHandler(tmp_path / "everything.log")
    root = logging.getLogger()
    level = root.level
    # Some libraries set the level of their loggers.
    known = [logging.getLogger(name) for name in list(root.manager.loggerDict)]
    levels = [(logger, logger.level) for logger in known]
    for logger in known:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield tmp_path / "everything.log"
    root.removeHandler(handler)
    root.setLevel(level)
    for logger, before in levels:
        logger.setLevel(before)
    handler.close()


@pytest.fixture
def log_in(monkeypatch):
    """The login helper of the Globus tests."""
    monkeypatch.syspath_prepend(str(FOLDERS / "globus"))
    from logins import log_in

    return log_in


def forms(secret):
    """Return the encodings of a secret."""
    plain = secret.encode()
    return {plain, base64.b64encode(plain).rstrip(b"="), quote(secret, safe="").encode(), plain.hex().encode()}


def found_in(content, secrets, forms=forms):
    """Return the secrets that some bytes contain."""
    return [secret for secret in secrets if any(form in content for form in forms(secret))]


def found_below(folder, secrets, *, leave=()):
    """Return the files below a folder that contain a secret."""
    return [
        (str(path), found)
        for path in Path(folder).rglob("*")
        if path.is_file() and path not in leave and (found := found_in(path.read_bytes(), secrets))
    ]


def found_in_memory(pid, secrets):
    """Return the secrets in the memory of a process, as in its core dump."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if not re.search(r" r\S+p ", line) or "[v" in line:
                continue
            with contextlib.suppress(OSError, ValueError):
                memory.seek(start)
                found.update(found_in(memory.read(end - start), secrets, lambda secret: {secret.encode()}))
    return found


@python_task
def who():
    """Return the process id."""
    import os

    return os.getpid()


def workers(pid):
    """Return the process of a task and its ancestors up to the manager of the workers."""
    return [
        pid,
        *(one.pid for one in psutil.Process(pid).parents() if "process_worker_pool" in " ".join(one.cmdline())),
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Another system shows no memory of a process.")
def test_what_is_in_memory_is_found():
    """The search in a process's memory finds words in its environment and its heap, and no other word."""
    word = os.urandom(16).hex()
    code = (
        "import sys; kept = bytes.fromhex(sys.stdin.readline().strip()); print('there', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "W": f"{word}-e"},
    ) as process:
        process.stdin.write((word + "-h").encode().hex().encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        assert found_in_memory(process.pid, [f"{word}-h", f"{word}-e", f"{word}-n"]) == {f"{word}-h", f"{word}-e"}
        process.stdin.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", [False, True], ids=["login", "service"])
def test_no_token_of_globus_is_anywhere(
    chiltepin_globus, log_in, everything_logged, tmp_path, monkeypatch, capfd, service
):
    """A run with worker processes, failures and all logs has no Globus token or secret outside the token file."""
    globus = chiltepin_globus
    tokens = tmp_path / "state" / "tokens.json"
    monkeypatch.setenv(FILE_VARIABLE, str(tokens))
    secrets = [globus.authority.client_secret]
    # It belongs to another program, which the test does not run.
    monkeypatch.delenv("GLOBUS_CLI_CLIENT_SECRET")
    assert {SECRET_VARIABLE, COMPUTE_VARIABLES[1]} == set(KEPT_BACK)
    if not service:
        for name in (ID_VARIABLE, SECRET_VARIABLE):
            monkeypatch.delenv(name)
        log_in()
        secrets += [word for word in tokens.read_text().split('"') if word.startswith("Ag")]
        assert len(secrets) == 5
    # A worker imports this module.
    monkeypatch.setenv("PYTHONPATH", f"{FOLDERS}/hostile:{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "my-laptop").mkdir(exist_ok=True)
    (tmp_path / "my-laptop" / "f").write_text("content")
    journal, page = tmp_path / "journal", tmp_path / "page.html"
    settings = {
        "data": {"backend": "globus", "fault_grace": 0.5, "journal": str(journal)},
        "compute": {"provider": "localhost", "max_workers_per_node": 1},
    }
    told = []
    with Workflow(settings, run_dir=str(tmp_path / "runinfo")) as workflow:
        good = transfer_task("my-laptop", "hpc-scratch", "/f", "/g", executor="compute")
        bad = [
            transfer_task("my-laptop", "hpc-scratch", "/missing", "/g2", executor="compute"),
            delete_task("nowhere", "/x", executor="compute"),
        ]
        worker = who(executor="compute").result(LIMIT)
        good.result(LIMIT)
        for future in bad:
            with pytest.raises(ChiltepinError) as caught:
                future.result(LIMIT)
            told += [repr(caught.value), *traceback.format_exception(caught.value), repr(vars(caught.value))]
            told.append(pickle.dumps(caught.value).decode("latin-1"))
        globus.authority.revoke_all()
        globus.fail_next(2, path="/v2/oauth2/token", status=400)
        with contextlib.suppress(ChiltepinError):
            transfer_task("my-laptop", "hpc-scratch", "/f", "/h", executor="compute", timeout=5).result(LIMIT)
        told += [repr(workflow), repr(vars(workflow)), repr(good), repr(vars(good))]
        secrets += re.findall(r"Ag[\w-]{10,}", tokens.read_text() if tokens.exists() else "")
        if sys.platform.startswith("linux"):
            for pid in workers(worker):
                assert found_in_memory(pid, secrets) == set(), " ".join(psutil.Process(pid).cmdline())
    code = "from chiltepin.cli.main import main; main()"
    command = [sys.executable, "-c", code, "activity", "--html", str(page)]
    environment = {**os.environ, "CHILTEPIN_JOURNAL": str(journal)}
    subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True)
    assert page.stat().st_size
    assert everything_logged.stat().st_size
    assert list(journal.iterdir())
    kept = {tokens, *tmp_path.glob("state/*")}
    assert found_below(tmp_path, secrets, leave=kept) == []
    assert found_in("\n".join(told).encode(errors="replace"), secrets) == []
    assert found_in("".join(capfd.readouterr()).encode(), secrets) == []


KEYS = {
    "CHILTEPIN_TEST_KEY": "AKIAQ7NOTINANYLOG00",
    "CHILTEPIN_TEST_SECRET": "s3cr3t-that-is-in-no-log-0123456789abcdef",
    "CHILTEPIN_TEST_SESSION": "session-token-that-is-in-no-log-0123456789",
}


@pytest.mark.timeout(300)
def test_no_key_of_a_bucket_is_anywhere(everything_logged, tmp_path, monkeypatch, capfd):
    """A run of bucket transfers, with failures and all logs, has the secret and the session token nowhere."""
    pytest.importorskip("boto3")
    monkeypatch.syspath_prepend(str(FOLDERS))
    from buckets import Moto

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = Moto()
    # Include the loggers that were created meanwhile.
    for name in list(logging.getLogger().manager.loggerDict):
        if name.split(".")[0] in (
            "botocore",
            "boto3",
            "urllib3",
            "s3transfer",
            "chiltepin",
            "parsl",
            "fsspec",
            "obstore",
        ):
            logging.getLogger(name).setLevel(logging.DEBUG)
    bucket = server.bucket()
    names = zip(("key", "secret", "token"), KEYS, strict=True)
    options = {short: {"env": name} for short, name in names} | {"endpoint_url": server.url, "region": "us-east-1"}
    journal = tmp_path / "journal"
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "small").write_bytes(b"x" * 1000)
    (tmp_path / "disk" / "large").write_bytes(b"x" * (9 << 20))
    endpoints = {"cloud": {"filesystem": {"url": f"s3://{bucket.name}/f", "options": options}}}
    endpoints |= {"gone": {"filesystem": {"url": "s3://no-such-bucket-here", "options": options}}}
    endpoints |= {"disk": {"filesystem": f"{tmp_path}/disk"}}
    settings = {
        "data": {"backend": "filesystem", "endpoints": endpoints, "journal": str(journal)},
        "local": {"provider": "threads", "max_threads": 2},
    }
    told = []
    with Workflow(settings, run_dir=str(tmp_path / "runinfo")) as workflow:
        transfer_task("disk", "cloud", "/", "/tree", recursive=True, executor="local").result(LIMIT)
        transfer_task("cloud", "disk", "/tree", "/back", recursive=True, executor="local").result(LIMIT)
        delete_task("cloud", "/tree", recursive=True, executor="local").result(LIMIT)
        for future in (
            transfer_task("cloud", "disk", "/missing", "/x", executor="local"),
            transfer_task("gone", "disk", "/missing", "/x", executor="local"),
        ):
            with pytest.raises(ChiltepinError) as caught:
                future.result(LIMIT)
            told += [repr(caught.value), *traceback.format_exception(caught.value), repr(vars(caught.value))]
            told.append(pickle.dumps(caught.value).decode("latin-1"))
        told += [repr(workflow), repr(vars(workflow))]
    server.stop()
    secrets = [KEYS["CHILTEPIN_TEST_SECRET"], KEYS["CHILTEPIN_TEST_SESSION"]]
    assert "botocore" in everything_logged.read_text()
    assert found_below(tmp_path, secrets) == []
    assert found_in("\n".join(told).encode(errors="replace"), secrets) == []
    assert found_in("".join(capfd.readouterr()).encode(), secrets) == []
