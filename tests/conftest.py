"""Settings for all tests, which keep them away from the login of the user who runs them."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The time of an example or a strategy depends on the load of this machine.
settings.register_profile("tests", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist is optional
def pytest_xdist_auto_num_workers(config):
    """Return three processes per processor: tests mostly wait for a server, a process or a disk."""
    return 3 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items):
    """Start with the tests that wait for Slurm, so that other tests run meanwhile."""
    items.sort(key=lambda item: {"slurm", "hosts"}.isdisjoint(item.path.parts))


def pytest_collection_finish():
    """Hide what was collected from the garbage collector, which would visit it thousands of times."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def lean_processes():
    """Make each Python process that a test starts load less of Parsl; see `lean/sitecustomize.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).with_name("lean")), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def users(tmp_path_factory):
    """New folders for the files of a user: `mktemp` lists all earlier ones, which takes seconds for thousands."""
    top = tmp_path_factory.mktemp("users")
    return (top / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def without_login(users, monkeypatch):
    """Keep tokens and the journal in folders that do not exist yet, and remove service credentials."""
    user = next(users)
    monkeypatch.setenv("CHILTEPIN_TOKENS", str(user / "login" / "tokens.json"))
    monkeypatch.setenv("CHILTEPIN_JOURNAL", str(user / "journal"))
    monkeypatch.setenv("XDG_STATE_HOME", str(user / "state"))
    for name in (
        "CHILTEPIN_CLIENT_ID",
        "CHILTEPIN_CLIENT_SECRET",
        "GLOBUS_COMPUTE_CLIENT_ID",
        "GLOBUS_COMPUTE_CLIENT_SECRET",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def set_switch_interval():
    """Set the seconds after which Python switches threads; afterwards they are as before."""
    interval = sys.getswitchinterval()
    yield sys.setswitchinterval
    sys.setswitchinterval(interval)


@pytest.fixture
def no_collection():
    """Collect no garbage meanwhile: a finalizer that happens to run at the recursion limit fails, whatever it does."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def quick_retries(monkeypatch):
    """Make the Globus SDK retry at once: its pauses take up to 3 real seconds for each request."""
    from globus_sdk.transport import RetryConfig

    monkeypatch.setattr("chiltepin.backends.globus.auth._retries", lambda: RetryConfig(max_retries=2, max_sleep=0))


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server on the loopback, started once and only if a test needs it."""
    from buckets import Moto

    server = Moto()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server, no_aws):
    """A new bucket, without the AWS settings of this machine."""
    return s3_server.bucket()


@pytest.fixture
def no_aws(monkeypatch):
    """Hide the AWS settings of this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
