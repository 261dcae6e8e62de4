"""Four hosts on this machine for the tests of this folder, and a Slurm cluster over them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hostset import Hosts, missing
from waiting import until

# The folder of the settings that both Slurm clusters of the tests share.
sys.path.append(str(Path(__file__).parents[1] / "slurm"))

#: The number of hosts.
COUNT = 4

SERVER = """
import logging
# Its lines would fill the pipe.
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import ThreadedMotoServer
MotoRequestHandler.protocol_version = "HTTP/1.1"
server = ThreadedMotoServer(ip_address="0.0.0.0", port=9000)
server.start()
import boto3
boto3.client("s3", endpoint_url="http://h4:9000", region_name="us-east-1", aws_access_key_id="key",
             aws_secret_access_key="secret").create_bucket(Bucket="bucket")
print("up", flush=True)
server._thread.join()
"""


@pytest.fixture(scope="session")
def all_hosts(tmp_path_factory):
    """Four hosts for each process that runs tests; the sets do not see each other."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(tmp_path_factory.mktemp("hosts") / "state", COUNT) as running:
        yield running


@pytest.fixture
def hosts(all_hosts):
    """Four hosts that are up and connected, and are repaired after the test."""
    yield all_hosts
    all_hosts.boot()


@pytest.fixture(scope="session")
def all_slurm(all_hosts):
    """A Slurm cluster: the first host controls it, and the rest are nodes."""
    from hostslurm import HostSlurm
    from slurmcluster import missing_programs

    if reason := missing_programs():
        pytest.skip(reason)
    running = HostSlurm(all_hosts)
    try:
        running.start()
    except AssertionError as err:
        # Slurm requires more of the system than the hosts do, such as a usable cgroup.
        pytest.skip(f"Slurm does not start on these hosts: {err}")
    return running


@pytest.fixture
def slurm(all_slurm, hosts):
    """A Slurm cluster whose nodes are idle."""
    # Another test may have killed a host, and with it the daemon of its node.
    all_slurm.start()
    return all_slurm


@pytest.fixture
def bucket(hosts):
    """A bucket of an S3 server on h4."""
    with hosts["h4"].start(sys.executable, "-c", SERVER) as server:
        until(lambda: "up" in server.stdout.readline())
        yield
        server.kill()


@pytest.fixture
def stage(hosts):
    """An empty folder that all hosts see."""
    folder = hosts.shared / "stage"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
