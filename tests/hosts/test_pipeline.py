"""A workflow over the nodes of a Slurm, whose data goes three ways."""

from __future__ import annotations

import sys

import pytest
from hostset import python
from waiting import until

SERVER = """
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


@pytest.fixture
def bucket(hosts):
    """An S3 server with a bucket on h4."""
    with hosts["h4"].start(sys.executable, "-c", SERVER) as server:
        until(lambda: "up" in server.stdout.readline())
        yield
        server.kill()


def test_a_pipeline_goes_by_each_route(hosts, slurm, bucket):
    """By a shared folder, by SFTP and by S3 the data comes to a node, and the result back; nothing else is left."""
    (hosts.shared / "stage").mkdir()
    environment = {"SLURM_CONF": slurm.config, "S3_KEY": "key", "S3_SECRET": "secret"}
    said = hosts["h1"].run(*python("pipeline.py", "/shared/runinfo"), timeout=100, **environment)
    routes = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    assert list(routes) == ["shared", "sftp", "s3"]
    assert all(total == "6" and node in ("h2", "h3", "h4") for total, node in routes.values())
    assert list((hosts.shared / "stage").iterdir()) == []
    assert not slurm.ask("squeue", "-h")
