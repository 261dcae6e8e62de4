"""A container of Azure Blob Storage, accessed with Microsoft's client.

Options and environment variables are those of fsspec's adlfs. docs/decisions/azure-and-google.md tells why its
filesystem is not used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from azure.core import MatchConditions, exceptions
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobBlock, BlobPrefix, BlobServiceClient, ContentSettings

from chiltepin.backends.filesystem.errors import Fault
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
from chiltepin.backends.filesystem.stores.objects.part_size import PART, part_size
from chiltepin.backends.filesystem.stores.objects.store import ObjectStore
from chiltepin.backends.filesystem.stores.proxies import proxy_for
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.storage.blob import BlobClient, BlobProperties
    from typing_extensions import Buffer

__all__ = ["azure_store"]

_NAME = "Azure"

_KNOWN = (
    *("account_host", "account_key", "account_name", "anon", "client_id", "client_secret", "connection_string"),
    *("sas_token", "tenant_id"),
)
#: Options of adlfs that tune its own filesystem.
_UNUSED = frozenset(
    {
        *("assume_container_exists", "asynchronous", "blocksize", "connection_timeout", "default_cache_type"),
        *("default_fill_cache", "listings_expiry_time", "location_mode", "loop", "max_concurrency", "max_paths"),
        *("read_timeout", "skip_instance_cache", "timeout", "use_listings_cache"),
    }
)
#: The environment variables that adlfs reads.
_VARIABLE = "AZURE_STORAGE_{}"

#: Most parts of one blob (Azure, "Scalability and performance targets for Blob storage").
_MOST_PARTS = 50_000

#: Metadata that marks an empty blob as a folder: Hadoop's and azcopy's, and adlfs's.
_FOLDER_MARKS = ("hdi_isfolder", "is_directory")

#: The code for a blob that may be changed only with the id of its lease (Azure, "Blob service error codes").
_LEASED = "LeaseIdMissing"

#: Statuses of success, even if the SDK cannot use the response.
_SUCCESS = range(200, 300)

T = TypeVar("T")


def azure_store(url: str, options: Mapping[str, Any]) -> ObjectStore:
    """Open ``az://container/folder`` or ``abfs://container@account.dfs.core.windows.net/folder``.

    An unknown option, or a missing account, raises ConfigError.
    """
    known_options(_NAME, options, _KNOWN, _UNUSED)
    authority, root = place_in(url)
    container, _, host = authority.partition("@")
    given = {**options, **({"account_name": host.partition(".")[0]} if host else {})}
    return ObjectStore(AzureClient(_service(given), container), root)


def _service(given: Mapping[str, Any]) -> BlobServiceClient:
    def told(name: str) -> str:
        return str(given.get(name) or os.environ.get(_VARIABLE.format(name.upper()), ""))

    if text := told("connection_string"):
        # The first client only parses the text: the second needs the host to choose its proxy.
        first = BlobServiceClient.from_connection_string(text)
        return _client(first.url, first.credential)
    account = told("account_name")
    if not account:
        raise ConfigError(
            "No Azure storage account is configured; write account_name: or connection_string: in options:, or set "
            "AZURE_STORAGE_ACCOUNT_NAME where the transfer runs."
        )
    url = f"https://{given.get('account_host') or f'{account}.blob.core.windows.net'}"
    if key := told("account_key"):
        return _client(url, {"account_name": account, "account_key": key})
    if token := told("sas_token"):
        return _client(f"{url}?{token.removeprefix('?')}", None)
    anonymous = given.get("anon", os.environ.get("AZURE_STORAGE_ANON", "false").lower() not in ("false", "0", "f", ""))
    return _client(url, None if anonymous else _identity(told))


def _identity(told: Callable[[str], str]) -> Any:
    # Imported here: an account key does not need this package.
    from azure.identity import ClientSecretCredential, DefaultAzureCredential  # noqa: PLC0415

    if told("client_id") and told("client_secret"):
        return ClientSecretCredential(told("tenant_id"), told("client_id"), told("client_secret"))
    return DefaultAzureCredential()


def _client(url: str, credential: Any) -> BlobServiceClient:
    proxy = proxy_for(url.partition("?")[0])
    transport = RequestsTransport(
        use_env_settings=False,
        connection_verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
        connection_timeout=20,
        read_timeout=60,
    )
    transport.open()
    for adapter in transport.session.adapters.values():
        # One connection for each request in flight: requests keeps 10, and warns when it drops another.
        adapter.init_poolmanager(1, WIDTH)
    # Chiltepin chooses the proxy (`proxies`), and retries itself: the mover's backoff is shorter.
    return BlobServiceClient(
        url,
        credential=credential,
        retry_total=0,
        transport=transport,
        proxies={urlsplit(url).scheme: proxy} if proxy else None,
        max_single_put_size=PART,
    )


def _incomplete(what: str) -> CloudFault:
    reason = f"The response to a request for {what} is not a complete response of Azure; check the host of the account."
    return CloudFault("ENDPOINT_ERROR", reason)


def _cut(what: str) -> CloudFault:
    return CloudFault("CONNECTION_RESET", f"Azure's response ended early: {what}.", transient=True)


def _refused(err: exceptions.HttpResponseError, what: str) -> Exception:
    # The SDK sets a code only for an error that Azure itself sent.
    code, status = getattr(err, "error_code", ""), err.status_code or 0
    word = str(getattr(code, "value", code or ""))
    if status == 404 and word != "ContainerNotFound":  # noqa: PLR2004 - HTTP's
        return FileNotFoundError(2, f"Azure has no such blob: {what}")
    if status in _SUCCESS:
        return _incomplete(what)
    if word in ("Md5Mismatch", "Crc64Mismatch"):
        return CloudFault("VERIFY_CHECKSUM", f"{what} was sent, but Azure received something else.")
    if word == _LEASED:
        return CloudFault("PERMISSION_DENIED", f"Another program leases {what}; break the lease, or wait for its end.")
    if word == "InvalidBlockList":
        # Another writer of this blob has committed its own parts, which drops ours.
        return CloudFault("ENDPOINT_ERROR", f"Another writer replaced {what} during the transfer.", transient=True)
    return refusal(_NAME, status, word, what)


def _asked(request: Callable[[], T], what: str) -> T:
    """Send a request; raise `CloudFault` or FileNotFoundError with no error of the SDK in reach."""
    failure: Exception
    try:
        return request()
    except exceptions.IncompleteReadError:
        failure = _cut(what)
    except exceptions.HttpResponseError as err:
        failure = _refused(err, what)
    except (exceptions.ServiceRequestTimeoutError, exceptions.ServiceResponseTimeoutError):
        failure = CloudFault("TIMEOUT", f"Azure timed out on a request for {what}.", transient=True)
    except exceptions.ServiceRequestError:
        failure = CloudFault("CONNECT_FAILED", f"Could not connect to Azure for {what}.", transient=True)
    except exceptions.AzureError as err:
        failure = _cut(what)
        if "MD5" in str(err):
            reason = f"The data received of {what} does not match its MD5 at Azure."
            failure = CloudFault("VERIFY_CHECKSUM", reason, transient=True)
    except (ValueError, AttributeError, LookupError, TypeError):
        # The SDK does not check whether a response has all that it reads.
        failure = _incomplete(what)
    raise failure


class AzureClient(RangeClient):
    """A client for one container; see `Client`."""

    store = _NAME

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self.bucket = container
        self.server = service.url.partition("?")[0]
        self._container = service.get_container_client(container)

    def _blob(self, key: str) -> BlobClient:
        return self._container.get_blob_client(key)

    def page(self, prefix: str, token: str = "", *, count: int, deep: bool = False) -> Listing:
        """Return one page of the objects below a prefix."""
        listed = self._container.list_blobs if deep else self._container.walk_blobs
        given = {"name_starts_with": prefix or None, "include": ["metadata"], "results_per_page": count}
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []

        def one_page() -> str:
            pages = listed(**given).by_page(token or None)
            for item in next(pages, ()):
                if isinstance(item, BlobPrefix):
                    prefixes.append(item.name)
                else:
                    objects.append(_found(item))
            return pages.continuation_token or ""

        following = _asked(one_page, f"the blobs of {self.bucket}")
        return Listing(objects, prefixes, following)

    def head(self, key: str) -> ObjectInfo:
        """Return the description of a blob."""
        return _found(_asked(self._blob(key).get_blob_properties, key))

    def get(self, found: ObjectInfo, offset: int, count: int) -> bytes:
        """Return a range of exactly that content, as it is stored."""
        # For encoded content, the SDK would compare the MD5 with that of the decoded bytes. Without decoding, it
        # returns no data if it compares (12.31).
        options: dict[str, Any] = {"decompress": False} if found.encoding else {"validate_content": True}
        options |= {"etag": found.version, "match_condition": MatchConditions.IfNotModified}
        blob = self._blob(found.key)
        return bytes(_asked(lambda: blob.download_blob(offset, count, **options).readall(), found.key))

    def put(self, key: str, content: Buffer) -> None:
        """Send a blob in one request; Azure compares its MD5."""
        data, blob = bytes(content), self._blob(key)
        settings = ContentSettings(content_type="application/octet-stream", content_md5=_md5(data))
        _asked(lambda: blob.upload_blob(data, overwrite=True, validate_content=True, content_settings=settings), key)

    def upload(self, key: str, size: int | None) -> AzureUpload:
        """Begin a blob of several blocks."""
        return AzureUpload(self._blob(key), key, size)

    def delete(self, key: str) -> None:
        """Delete a blob and its snapshots."""
        _asked(lambda: self._blob(key).delete_blob(delete_snapshots="include"), key)

    def folder_key(self, prefix: str) -> str:
        """Return the name of the blob that keeps a folder: the name of the folder, as in Hadoop and azcopy."""
        return prefix[:-1]

    def keep_folder(self, prefix: str) -> None:
        """Make an empty blob that is marked as a folder; in an account with real folders, this makes one."""
        key = self.folder_key(prefix)
        if not key:
            return
        try:
            _asked(lambda: self._blob(key).upload_blob(b"", metadata={_FOLDER_MARKS[0]: "true"}), key)
        except CloudFault:
            # The folder exists already, or a blob has its name.
            if not self.head(key).is_folder:
                self.put(prefix, b"")

    def refuse_name(self, name: str) -> None:
        """Refuse names that Azure would change: it converts backslashes to slashes, and drops dots at the end."""
        if "\\" in name or name.endswith("."):
            reason = f"Azure would store {name} under another name; use a name without '\\' and without a final '.'."
            raise Fault("INVALID_PATH_NAME", reason)


class AzureUpload(Upload):
    """A blob that is sent in blocks, several at once; see `Upload`."""

    def __init__(self, blob: BlobClient, key: str, size: int | None) -> None:
        self._blob, self._key = blob, key
        self.part: int | None = part_size(size, _MOST_PARTS)
        # Two writers of one blob must not use the same block ids.
        self._token = secrets.token_hex(8)
        self._blocks: dict[int, str] = {}

    def send(self, offset: int, block: memoryview, *, last: bool) -> None:
        """Send one block; Azure compares its MD5."""
        del last
        name = f"{self._token}-{offset:020}"
        _asked(lambda: self._blob.stage_block(name, bytes(block), validate_content=True), self._key)
        self._blocks[offset] = name

    def finish(self) -> None:
        """Put the blocks together, in their order."""
        blocks = [BlobBlock(block_id=name) for _, name in sorted(self._blocks.items())]
        settings = ContentSettings(content_type="application/octet-stream")
        _asked(lambda: self._blob.commit_block_list(blocks, content_settings=settings), self._key)

    def abort(self, error: BaseException | None) -> None:
        """Do nothing: Azure drops blocks that are not committed within a week, and when the blob is written again."""
        del error


def _md5(content: bytes) -> bytearray:
    # Not for security: Azure stores it as the checksum.
    return bytearray(hashlib.md5(content, usedforsecurity=False).digest())


def _found(blob: BlobProperties) -> ObjectInfo:
    marks = {name.lower(): value for name, value in (blob.metadata or {}).items()}
    return ObjectInfo(
        key=blob.name,
        size=blob.size,
        mtime=blob.last_modified.timestamp(),
        version=blob.etag,
        md5=bytes(blob.content_settings.content_md5 or b""),
        encoding=blob.content_settings.content_encoding or "",
        is_folder=not blob.size and any(marks.get(content_id) == "true" for content_id in _FOLDER_MARKS),
    )
