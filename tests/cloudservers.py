"""Servers of Azure Blob Storage and Google Cloud Storage on the loopback, and their buckets.

The first is Microsoft's Azurite (npm), the second gcp-storage-emulator (PyPI). Each runs until the end of the tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import uuid
from base64 import b64encode
from contextlib import ExitStack, suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from fileservers import close_at_exit, running
from webservers import free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.transfers.runner import Transfers

#: gcp-storage-emulator does not paginate, ignores the requested generation, and drops slashes from the names under
#: which it stores contents. This script corrects that, and keeps the emulator from writing a list of all objects.
EMULATOR = """
import json, sys
from http import HTTPStatus
from gcp_storage_emulator import storage
from gcp_storage_emulator.handlers import objects

storage._FileStore._norm = staticmethod(str)
storage.Storage._write_config_to_file = lambda self: None
known_ls, known_get = objects.ls, objects.get

def ls(request, response, store):
    known_ls(request, response, store)
    if response.status != HTTPStatus.OK:
        return
    told = json.loads(response._content)
    after = request.query.get("pageToken", [""])[0]
    names = sorted({item["name"] for item in told["items"]} | set(told["prefixes"]))
    names = [name for name in names if name > after]
    most = int(request.query.get("maxResults", ["1000"])[0])
    shown, rest = set(names[:most]), names[most:]
    page = {"kind": told["kind"], "items": [item for item in told["items"] if item["name"] in shown],
            "prefixes": [prefix for prefix in told["prefixes"] if prefix in shown]}
    response.json({**page, "nextPageToken": names[most - 1]} if rest else page)

def get(request, response, store):
    asked = request.query.get("generation", [None])[0]
    kept = store.objects.get(request.params["bucket_name"], {}).get(request.params["object_id"], {})
    if asked and kept.get("generation") != asked:
        response.status = HTTPStatus.NOT_FOUND
        return
    known_get(request, response, store)

objects.ls, objects.get = ls, get
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True).run()
"""

_KEY = b64encode(b"a key of the tests".ljust(64)).decode()


class CloudBucket:
    """One bucket or container, accessed without the backend."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"bucket-{uuid.uuid4().hex[:12]}"
        self.make()

    def make(self) -> None:
        """Create the bucket."""
        raise NotImplementedError

    def settings(self, folder: str = "") -> dict[str, Any]:
        """Return the settings of an endpoint in the bucket."""
        raise NotImplementedError

    def backend(self, here: object) -> Transfers:
        """Return transfers with a folder as ``disk``, and this bucket as ``cloud``, ``other`` and ``whole``."""
        places = {
            "disk": {"url": f"file://{here}"},
            "cloud": self.settings("cloud"),
            "other": self.settings("other"),
            "whole": self.settings(),
        }
        opened = {name: place_of(name, told) for name, told in places.items()}
        # Retry without a pause.
        return Transfers(FilesystemBackend(opened, pause=lambda *_: None))


class Container(CloudBucket):
    """A container of Azurite."""

    def make(self) -> None:
        """Create the container."""
        from azure.storage.blob import BlobServiceClient

        self.text = f"DefaultEndpointsProtocol=http;AccountName=tests;AccountKey={_KEY};BlobEndpoint={self.url}/tests"
        self.client = BlobServiceClient.from_connection_string(self.text).create_container(self.name)

    def settings(self, folder: str = "") -> dict[str, Any]:
        """Return the settings of an endpoint in the container."""
        return {"url": f"az://{self.name}/{folder}".rstrip("/"), "options": {"connection_string": self.text}}

    def put(self, key: str, content: bytes = b"data", **more: Any) -> None:
        """Create a blob."""
        self.client.upload_blob(key, content, overwrite=True, **more)

    def put_encoded(self, key: str, content: bytes) -> None:
        """Create a blob that is marked as compressed."""
        from azure.storage.blob import ContentSettings

        self.put(key, content, content_settings=ContentSettings(content_encoding="gzip"))

    def spoil_checksum(self, key: str) -> None:
        """Make the store report a wrong checksum for a blob."""
        from azure.storage.blob import ContentSettings

        self.client.get_blob_client(key).set_http_headers(ContentSettings(content_md5=bytearray(16)))

    def get(self, key: str) -> bytes | None:
        """Return the content of a blob."""
        from azure.core.exceptions import ResourceNotFoundError

        with suppress(ResourceNotFoundError):
            content: bytes = self.client.download_blob(key).readall()
            return content
        return None

    def keys(self, prefix: str = "") -> set[str]:
        """Return the names of all blobs; names of folder markers end with a slash."""
        found = self.client.list_blobs(name_starts_with=prefix, include=["metadata"])
        return {blob.name + ("/" if (blob.metadata or {}).get("hdi_isfolder") else "") for blob in found}


class GoogleBucket(CloudBucket):
    """A bucket of the Google Cloud Storage emulator."""

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        request = Request(self.url + path, body, {"Content-Type": kind}, method=method)  # noqa: S310 - http
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - http
            content: bytes = answer.read()
            return content

    def make(self) -> None:
        """Create the bucket."""
        told = {"name": self.name, "softDeletePolicy": {"retentionDurationSeconds": "0"}}
        self._ask("POST", "/storage/v1/b", json.dumps(told).encode())

    def settings(self, folder: str = "") -> dict[str, Any]:
        """Return the settings of an endpoint in the bucket."""
        return {"url": f"gs://{self.name}/{folder}".rstrip("/"), "options": {"endpoint_url": self.url, "token": "anon"}}

    def put(self, key: str, content: bytes = b"data") -> None:
        """Create an object."""
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=resumable&name={quote(key, safe='')}"
        request = Request(self.url + path, b"{}", {"Content-Type": "application/json"}, method="POST")  # noqa: S310
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - http
            place = answer.headers["Location"]
        self._ask("PUT", place.removeprefix(self.url), content, "application/octet-stream")

    def patch(self, key: str, **told: str) -> None:
        """Change the metadata of an object."""
        self._ask("PATCH", f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}", json.dumps(told).encode())

    def put_encoded(self, key: str, content: bytes) -> None:
        """Create an object that is marked as compressed."""
        self.put(key, content)
        self.patch(key, contentEncoding="gzip")

    def spoil_checksum(self, key: str) -> None:
        """Make the store report a wrong checksum for an object."""
        self.patch(key, md5Hash=b64encode(bytes(16)).decode())

    def get(self, key: str) -> bytes | None:
        """Return the content of an object."""
        try:
            return self._ask("GET", f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}?alt=media")
        except HTTPError as err:
            err.close()
            return None

    def keys(self, prefix: str = "") -> set[str]:
        """Return the names of all objects."""
        told = json.loads(
            self._ask("GET", f"/storage/v1/b/{self.name}/o?maxResults=9999&prefix={quote(prefix, safe='')}")
        )
        return {item["name"] for item in told["items"]}


def _azurite() -> str:
    if importlib.util.find_spec("azure") is None:
        pytest.skip("There is no azure-storage-blob here; it is in the dependency group test.")
    program, port = shutil.which("azurite-blob"), free_port()
    if program is None:
        pytest.skip("There is no azurite-blob here; type: npm install --global azurite.")
    words = [program, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--disableTelemetry"]
    words += ["--skipApiVersionCheck", "--disableProductStyleUrl"]
    _ends.enter_context(running(words, port, env={**os.environ, "AZURITE_ACCOUNTS": f"tests:{_KEY}"}))
    return f"http://127.0.0.1:{port}"


def _emulator() -> str:
    for module in ("gcp_storage_emulator", "google_crc32c"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"There is no {module} here; it is in the dependency group test.")
    port = free_port()
    _ends.enter_context(running([sys.executable, "-c", EMULATOR, str(port)], port))
    return f"http://127.0.0.1:{port}"


#: The start function and the bucket class of each kind of server.
CLOUDS = {"azure": (_azurite, Container), "gcs": (_emulator, GoogleBucket)}

_started: dict[str, str] = {}
_ends = ExitStack()
close_at_exit(_ends)


def cloud_bucket(kind: str) -> Any:
    """Return a new bucket; start the server once, and skip the test if it is not installed."""
    start, bucket = CLOUDS[kind]
    if kind not in _started:
        _started[kind] = start()
    return bucket(_started[kind])
