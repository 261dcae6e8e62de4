"""A bucket of Google Cloud Storage, accessed with its JSON API.

Options are those of fsspec's gcsfs. docs/decisions/azure-and-google.md tells why its filesystem is not used.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import google.auth
import google_crc32c
import urllib3
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.urllib3 import Request
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from chiltepin.backends.filesystem.stores.cloud.reader import RangeClient
from chiltepin.backends.filesystem.stores.objects.client import (
    WIDTH,
    CloudFault,
    Listing,
    ObjectInfo,
    Upload,
    known_options,
    place_in,
    refusal,
)
from chiltepin.backends.filesystem.stores.objects.store import ObjectStore
from chiltepin.backends.filesystem.stores.proxies import proxy_for
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

__all__ = ["gcs_store"]

_NAME = "Google Cloud Storage"
_SERVER = "https://storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"

_NOTHING: Mapping[str, str] = MappingProxyType({})

_KNOWN = ("endpoint_url", "project", "requester_pays", "token")
#: Options of gcsfs that tune its own filesystem.
_UNUSED = frozenset(
    {
        *("access", "asynchronous", "block_size", "cache_timeout", "check_connection", "consistency"),
        *("default_location", "listings_expiry_time", "loop", "max_paths", "requests_timeout", "secure_serialize"),
        *("skip_instance_cache", "timeout", "use_listings_cache", "version_aware"),
    }
)


def gcs_store(url: str, options: Mapping[str, Any]) -> ObjectStore:
    """Open ``gs://bucket/folder``; raise ConfigError for an unknown option or missing credentials."""
    known_options(_NAME, options, _KNOWN, _UNUSED)
    bucket, root = place_in(url)
    server = str(options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST") or _SERVER).rstrip("/")
    if "://" not in server:
        server = f"http://{server}"
    credentials, project = _credentials(options.get("token"), server)
    payer = options.get("requester_pays")
    user = (options.get("project") or project) if payer is True else payer
    return ObjectStore(GcsClient(server, bucket, credentials, str(user or "")), root)


def _credentials(token: Any, server: str) -> tuple[Any, str | None]:
    # An emulator needs no credentials; this avoids a search for a cloud's metadata server.
    if token == "anon" or (token is None and server != _SERVER):  # noqa: S105 - the name of a way
        return None, None
    failure = "those of the option token are not valid"
    try:
        if token in (None, "google_default", "cloud"):
            credentials, project = google.auth.default(scopes=[_SCOPE])
            return credentials, project
        if isinstance(token, str) and (os.path.isabs(token) or token.endswith(".json")):
            with open(token, encoding="utf-8") as file:
                token = json.load(file)
        elif isinstance(token, str) and token.lstrip().startswith("{"):
            token = json.loads(token)
        if not isinstance(token, dict):
            return oauth2.Credentials(token), None
        if token.get("type") == "authorized_user":
            return oauth2.Credentials.from_authorized_user_info(token, [_SCOPE]), token.get("quota_project_id")
        key = service_account.Credentials.from_service_account_info(token, scopes=[_SCOPE])
        return key, token.get("project_id")
    except DefaultCredentialsError:
        failure = "none were found; set GOOGLE_APPLICATION_CREDENTIALS, or write token: anon for a public bucket"
    except (GoogleAuthError, ValueError, OSError):
        pass
    raise ConfigError(f"Google Cloud Storage needs credentials: {failure}.")


class GcsClient(RangeClient):
    """A client for one bucket; see `Client`."""

    store = _NAME

    def __init__(self, server: str, bucket: str, credentials: Any, payer: str) -> None:
        self.server, self.bucket = server, bucket
        self._credentials, self._payer = credentials, payer
        self._signing = threading.Lock()
        self._pool = _pool(server)
        self._objects = f"{server}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{server}/upload/storage/v1/b/{quote(bucket, safe='')}/o"

    def ask(
        self,
        method: str,
        url: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        query: Mapping[str, str] = _NOTHING,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; raise `CloudFault` or FileNotFoundError with no error of a library in reach."""
        if self._payer:
            query = {**query, "userProject": self._payer}
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        failure: Exception
        try:
            # Responses are JSON, which needs no compression, or content, which is read as stored.
            signed = self._signed(method, url, {"Accept-Encoding": "identity", **(headers or {})})
            answer = self._pool.request(
                method, url, headers=signed, body=body, decode_content=False, redirect=False, retries=False
            )
        except GoogleAuthError as err:
            failure = CloudFault("PERMISSION_DENIED", f"No access token for {_NAME} ({type(err).__name__}).")
        except UrllibTimeoutError:
            failure = CloudFault("TIMEOUT", f"{_NAME} timed out on a request for {what}.", transient=True)
        except HTTPError as err:
            code = "CONNECT_FAILED" if isinstance(err, NewConnectionError) else "CONNECTION_RESET"
            reason = f"{_NAME} sent no response, or an incomplete one, to a request for {what}."
            failure = CloudFault(code, reason, transient=True)
        else:
            if answer.status in _GOOD:
                return answer
            failure = _refused(answer, what)
        raise failure

    def _signed(self, method: str, url: str, headers: dict[str, str]) -> dict[str, str]:
        if self._credentials is not None:
            with self._signing:
                self._credentials.before_request(Request(self._pool), method, url, headers)
        return headers

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of the objects below a prefix."""
        query = {"prefix": prefix, "maxResults": str(count), "fields": f"kind,nextPageToken,prefixes,items({_FIELDS})"}
        if not deep:
            # Empty folders of a bucket with real folders are not objects.
            query |= {"delimiter": "/", "includeFoldersAsPrefixes": "true"}
        if token:
            query["pageToken"] = token
        try:
            answer = self.ask("GET", self._objects, f"the objects of {self.bucket}", query=query)
        except FileNotFoundError:
            answer = None
        if answer is None:
            raise CloudFault("FILE_NOT_FOUND", f"{_NAME} has no bucket {self.bucket!r}.")
        page = _json(answer, self.bucket)
        # Other JSON, such as that of another service, would be a listing without objects.
        if page.get("kind") != "storage#objects":
            raise _incomplete(self.bucket)
        objects = [_found(item, self.bucket) for item in page.get("items", ())]
        return Listing(objects, page.get("prefixes", ()), str(page.get("nextPageToken") or ""))

    def head(self, key: str) -> ObjectInfo:
        """Return the description of an object."""
        return _found(_json(self.ask("GET", self._object(key), key, query={"fields": _FIELDS}), key), key)

    def get(self, found: ObjectInfo, offset: int, count: int) -> bytes:
        """Return a range of exactly that content."""
        headers = {"Range": f"bytes={offset}-{offset + count - 1}"}
        if found.encoding == "gzip":
            # Otherwise Google would decompress it (cloud.google.com, Storage, "Transcoding").
            headers["Accept-Encoding"] = "gzip"
        url, key, query = self._object(found.key), found.key, {"alt": "media", "generation": found.version}
        try:
            return self.ask("GET", url, key, headers=headers, query=query).data
        except FileNotFoundError:
            pass
        raise CloudFault("FILE_SIZE_CHANGED", f"{key} was replaced or deleted while it was read; transfer it again.")

    def put(self, key: str, content: Buffer) -> None:
        """Send an object in one request with its CRC32C, which Google compares."""
        data = bytes(content)
        told = json.dumps({"name": key, "crc32c": _text(google_crc32c.Checksum(data))})
        content_id = secrets.token_hex(16)
        head = f"--{content_id}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{told}\r\n"
        body = f"{head}--{content_id}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + data
        headers = {"Content-Type": f"multipart/related; boundary={content_id}"}
        self.ask(
            "POST",
            self._uploads,
            key,
            headers=headers,
            body=body + f"\r\n--{content_id}--".encode(),
            query={"uploadType": "multipart"},
        )

    def upload(self, key: str, size: int | None) -> GcsUpload:
        """Begin an object that is sent in parts."""
        del size
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": "application/octet-stream",
        }
        told = json.dumps({"name": key}).encode()
        answer = self.ask(
            "POST", self._uploads, key, headers=headers, body=told, query={"uploadType": "resumable", "name": key}
        )
        url = answer.headers.get("Location", "")
        if not url:
            raise CloudFault("ENDPOINT_ERROR", f"{_NAME} did not start an upload of {key}.", transient=True)
        return GcsUpload(self, key, url)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.ask("DELETE", self._object(key), key)


class GcsUpload(Upload):
    """An object that is sent in parts, one after the other; see `Upload`."""

    part: int | None = None

    def __init__(self, client: GcsClient, key: str, url: str) -> None:
        self._client, self._key, self._url = client, key, url
        self._crc = google_crc32c.Checksum()
        self._done = False

    def send(self, offset: int, block: memoryview, *, last: bool) -> None:
        """Send one part; the last one carries the CRC32C of all, which Google compares before it shows the object."""
        data = bytes(block)
        self._crc.update(data)
        end = offset + len(data)
        headers = {"Content-Range": f"bytes {offset}-{end - 1}/{end if last else '*'}"}
        if last:
            headers["X-Goog-Hash"] = f"crc32c={_text(self._crc)}"
        answer = self._client.ask("PUT", self._url, self._key, headers=headers, body=data)
        if not last:
            # Google may store less of a part than it received (cloud.google.com, Storage, "Perform resumable uploads").
            if answer.headers.get("Range") != f"bytes=0-{end - 1}":
                raise CloudFault("CONNECTION_RESET", f"{_NAME} stored only a part of {self._key}.", transient=True)
            return
        if answer.status == HTTPStatus.PERMANENT_REDIRECT:
            raise CloudFault("CONNECTION_RESET", f"{_NAME} did not receive all of {self._key}.", transient=True)
        self._done = True
        found = _found(_json(answer, self._key), self._key)
        if found.size != end or found.crc32c != self._crc.digest():
            self._client.delete(self._key)
            raise CloudFault("VERIFY_CHECKSUM", f"{self._key} was sent, but {_NAME} received something else.")

    def finish(self) -> None:
        """Do nothing: the last part ended the upload."""

    def abort(self, error: BaseException | None) -> None:
        """End the upload; Google forgets it after a week otherwise."""
        del error
        if not self._done:
            self._client.ask("DELETE", self._url, self._key)


#: The fields to request in listings and other responses.
_FIELDS = "name,size,updated,generation,md5Hash,crc32c,contentEncoding"

#: Statuses that are not errors: 308 asks for the next part, and 499 says that an upload has ended.
_GOOD = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT, 308, 499})


def _pool(server: str) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=30, read=60)
    proxy = proxy_for(server)
    if proxy is None:
        return urllib3.PoolManager(maxsize=WIDTH, timeout=timeout)
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if at else None
    return urllib3.ProxyManager(proxy, maxsize=WIDTH, timeout=timeout, proxy_headers=headers)


def _json(answer: urllib3.BaseHTTPResponse, what: str) -> dict[str, Any]:
    try:
        told = json.loads(answer.data)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise CloudFault("ENDPOINT_ERROR", f"{_NAME} sent a response that is not JSON to a request for {what}.")
    return told


def _refused(answer: urllib3.BaseHTTPResponse, what: str) -> Exception:
    word = ""
    try:
        told = json.loads(answer.data)["error"]["errors"][0]
        word = str(told.get("reason", ""))
        text = str(told.get("message", "")).lower()
    except (ValueError, LookupError, TypeError, AttributeError):
        text = ""
    if answer.status == HTTPStatus.NOT_FOUND and "specified bucket" not in text:
        return FileNotFoundError(2, f"{_NAME} has no such object: {what}")
    if answer.status == HTTPStatus.BAD_REQUEST and "crc32c" in text:
        return CloudFault("VERIFY_CHECKSUM", f"{what} was sent, but {_NAME} received something else.")
    return refusal(_NAME, answer.status, word, what)


def _text(checksum: google_crc32c.Checksum) -> str:
    return b64encode(checksum.digest()).decode()


def _incomplete(what: str) -> CloudFault:
    reason = f"The response to a request for {what} is not a complete response of {_NAME}; check endpoint_url."
    return CloudFault("ENDPOINT_ERROR", reason)


def _found(item: Mapping[str, Any], what: str) -> ObjectInfo:
    with suppress(LookupError, ValueError, TypeError, AttributeError):
        updated = datetime.fromisoformat(item["updated"].replace("Z", "+00:00"))
        return ObjectInfo(
            key=item["name"],
            size=int(item["size"]),
            mtime=updated.timestamp(),
            version=item.get("generation", ""),
            md5=b64decode(item.get("md5Hash") or ""),
            crc32c=b64decode(item.get("crc32c") or ""),
            encoding=item.get("contentEncoding", ""),
        )
    raise _incomplete(what)
