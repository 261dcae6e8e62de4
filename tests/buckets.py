"""A real S3 server on the loopback, and what lies in it.

It is moto's (docs/decisions/s3-client.md tells why, and what it does not check: signatures, Content-MD5 and checksums,
and the condition of a copy). It keeps listings, parts, conditions of reading and entity tags as S3 does.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import ThreadedMotoServer

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.stores.s3.store import S3Store
from chiltepin.transfers.runner import Transfers

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"key": "AKIDWORLD", "secret": "a-secret-of-the-world", "region": "us-east-1"}


class Server:
    """moto's server in a thread."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        # Connections are kept, as S3 does.
        MotoRequestHandler.protocol_version = "HTTP/1.1"
        # It sends head and body apart; the kernel holds the latter back for 40 ms otherwise.
        MotoRequestHandler.disable_nagle_algorithm = True
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=KEYS["region"],
            aws_access_key_id=KEYS["key"],
            aws_secret_access_key=KEYS["secret"],
        )

    def bucket(self) -> Bucket:
        """Make a bucket of a new name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self._client.create_bucket(Bucket=name)
        return Bucket(self.url, name, self._client)

    def stop(self) -> None:
        """Stop it."""
        self._client.close()
        self._server.stop()


@dataclass
class Bucket:
    """One bucket, looked at behind the backend's back."""

    url: str
    name: str
    client: Any

    def settings(self, folder: str = "", **options: Any) -> dict[str, Any]:
        """Return what a config says of an endpoint in it."""
        given = {**KEYS, "endpoint_url": self.url, **options}
        return {"url": f"s3://{self.name}/{folder}".rstrip("/"), "options": given}

    def store(self, folder: str = "", **options: Any) -> S3Store:
        """Return a store of its own."""
        settings = self.settings(folder, **options)
        return S3Store(settings["url"], settings["options"])

    def put(self, key: str, content: bytes = b"data") -> None:
        """Make an object."""
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

    def uploads(self) -> list[str]:
        """Return the names of the objects to which multipart uploads are under way."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        return [upload["Key"] for upload in found]

    def backend(self, tmp_path: Path, **options: Any) -> Transfers:
        """Return transfers between a folder, ``disk``, and this bucket, ``cloud`` and ``other``."""
        os.makedirs(tmp_path / "disk", exist_ok=True)
        places = {
            "disk": {"url": f"file://{tmp_path}/disk"},
            "cloud": self.settings("cloud", **options),
            "other": self.settings("other", **options),
        }
        return Transfers(FilesystemBackend.from_config(places, {}))
