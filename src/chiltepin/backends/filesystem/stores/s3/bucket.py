"""One bucket, with two libraries: obstore for the requests on each small object, boto3 for all others.

A request with obstore takes a fifth of boto3's CPU time. But obstore cannot upload single parts, set conditions on a
copy or return its response, and fails on listings with names such as ``a/../b`` (docs/decisions/s3-client.md). boto3
finds the keys, the region and the server for both.
"""

from __future__ import annotations

import weakref
from base64 import b64encode
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import botocore.session
import obstore
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import get_environ_proxies
from obstore.store import S3Store as ObjectStore

from chiltepin.backends import forks
from chiltepin.backends.filesystem.store import BLOCK
from chiltepin.backends.filesystem.stores.objects.client import WIDTH
from chiltepin.backends.filesystem.stores.proxies import proxy_for
from chiltepin.backends.filesystem.stores.s3.credentials import Credentials
from chiltepin.backends.filesystem.stores.s3.descriptions import descriptions
from chiltepin.backends.filesystem.stores.s3.errors import NO_CHECKSUM, NOT_PARTIAL, NOT_S3, S3Fault, asked, not_s3
from chiltepin.backends.filesystem.stores.s3.etags import digest_of, is_s3_tag
from chiltepin.backends.filesystem.stores.s3.listing import read_page
from chiltepin.backends.filesystem.stores.s3.logs import silence_botocore
from chiltepin.backends.filesystem.stores.s3.responses import check_response, complete
from chiltepin.backends.filesystem.stores.same_server import AWS
from chiltepin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import ClientConfig
    from obstore.store import S3Config as ObjectConfig
    from typing_extensions import Buffer

    from chiltepin.backends.filesystem.stores.s3.config import S3Settings

__all__ = ["Bucket", "GetResult"]

#: Attempts for each request: a short failure in one part must not cost the whole object; after a longer one the whole
#: file is retried (`retry`). Defaults of the libraries: 11 within 3 minutes, and 5 or 3.
TRIES = 3

#: Seconds to connect, and to wait for data. A server that accepts no connection fails after `TRIES` of the first: 15
#: seconds.
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0

_KEY_PARTS = ("access_key_id", "secret_access_key", "session_token")
_NO_STYLE: Mapping[str, str] = {}

#: Every host and address, in the NO_PROXY syntax of reqwest, where ``*`` does not match addresses.
_ALL_HOSTS = "*,0.0.0.0/0,::/0"


class _Process:
    """Which library this process may use: obstore's threads do not survive ``fork``, so it would hang in a child."""

    used = forked = False

    @classmethod
    def leave(cls) -> None:
        """Use only boto3 from now on if the parent has used obstore."""
        cls.forked = cls.used


forks.register(_Process.leave)


class GetResult(NamedTuple):
    """The start of an object, or all of it, and the object's metadata."""

    data: memoryview
    etag: str
    size: int
    mtime: float


class Bucket:
    """A bucket and its clients; missing keys or an invalid option raise ConfigError."""

    def __init__(self, settings: S3Settings) -> None:
        silence_botocore()
        self.settings, self.name = settings, settings.bucket
        session, self.client = _opened(settings)
        # Tasks may share the bucket: its last reference closes the connections.
        weakref.finalize(self, self.client.close)
        #: The URL of the server.
        self.endpoint: str = self.client.meta.endpoint_url
        #: Server and identity: buckets that have both in common can copy on the server.
        self.who = (self.endpoint, settings.who)
        #: How `unfinished_uploads` identifies this bucket.
        self.place = f"{self.endpoint}\n{self.name}"
        self._objects = _objects(session, settings, self.client)
        self._partial = not _Process.forked
        #: Whether the bucket has an Object Lock with a default retention: then it demands a checksum in a header.
        self._locked = False
        _Process.used = True
        self._is_s3 = (urlsplit(self.endpoint).hostname or "").endswith(AWS)
        self._always = {"RequestPayer": "requester"} if settings.payer else {}

    def call(self, method: str, key: str = "", **given: Any) -> dict[str, Any]:
        """Call a method of boto3's client with this bucket; see `asked` for the exceptions."""
        if key:
            given["Key"] = key
        if method not in ("head_bucket", "list_parts", "create_bucket"):
            given |= self._always
        send = partial(getattr(self.client, method), Bucket=self.name, **given)
        return asked(lambda: complete(method, send()), self._what(method, key))

    def _what(self, method: str, key: str) -> str:
        return f"{method} of {key!r} in bucket {self.name!r}" if key else f"{method} of bucket {self.name!r}"

    @staticmethod
    def _is_for_boto(key: str) -> bool:
        """Whether an object needs boto3: obstore drops the slash at the end of a name."""
        return _Process.forked or key.endswith("/")

    def put(self, key: str, content: Buffer) -> str:
        """Send an object in one request; return its entity tag.

        S3 compares the content with the SHA-256 in the signature, or with its MD5.
        """
        # obstore has no ACL, and sets the other options only for a whole store.
        if self.settings.object_options or self._locked or self._is_for_boto(key):
            return self._put_slowly(key, content)
        what = self._what("put", key)
        try:
            sent = asked(partial(obstore.put, self._objects, key, content, use_multipart=False), what)
        except S3Fault as err:
            if err.word not in NO_CHECKSUM:
                raise
        else:
            return self._tag(sent["e_tag"], what)
        tag = self._put_slowly(key, content)
        self._locked = True
        return tag

    def _put_slowly(self, key: str, content: Buffer) -> str:
        digest = b64encode(digest_of(content).digest()).decode()
        answer = self.call("put_object", key, Body=content, ContentMD5=digest, **self.settings.object_options)
        return str(answer["ETag"]).strip('"')

    def first(self, key: str, most: int) -> GetResult:
        """Return an object of at most ``most`` bytes, or the start of a larger one."""

        def get() -> GetResult:
            found = obstore.get(self._objects, key)
            meta = found.meta
            # The rest of a larger object is not read: dropping the stream closes the connection.
            data = found.bytes() if meta["size"] <= most else next(iter(found.stream(min_chunk_size=most)))
            tag, mtime = meta["e_tag"] or "", meta["last_modified"].timestamp()
            return GetResult(memoryview(data)[:most], tag, meta["size"], mtime)

        def get_slowly() -> GetResult:
            answer = complete("get_object", self.client.get_object(Bucket=self.name, Key=key, **self._always))
            with answer["Body"] as body:
                data = body.read(most)
            mtime = answer["LastModified"].timestamp()
            return GetResult(memoryview(data), answer["ETag"], answer["ContentLength"], mtime)

        what = self._what("get_object", key)
        got = asked(get_slowly if self._is_for_boto(key) else get, what)
        return got._replace(etag=self._tag(got.etag, what))

    def fill(self, key: str, start: int, block: memoryview, etag: str) -> tuple[int, str]:
        """Read a range of an object whose entity tag is ``etag``.

        Return the number of bytes and the tag received, because some servers ignore this condition.
        """
        end = start + len(block)

        def get() -> tuple[int, str]:
            found = obstore.get(self._objects, key, options={"range": (start, end), "if_match": f'"{etag}"'})
            data = memoryview(found.bytes())[: len(block)]
            block[: len(data)] = data
            return len(data), (found.meta["e_tag"] or "").strip('"')

        def get_slowly() -> tuple[int, str]:
            answer = self.client.get_object(
                Bucket=self.name, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=f'"{etag}"', **self._always
            )
            with answer["Body"] as body:
                if "ContentRange" not in answer:
                    raise S3Fault("ENDPOINT_ERROR", f"S3 did not send the requested range of {key}.")
                return _filled(body, block), answer["ETag"].strip('"')

        if self._partial and not self._is_for_boto(key):
            try:
                return asked(get, self._what("get", key))
            except S3Fault as err:
                if err.word != NOT_PARTIAL:
                    raise
            # Some servers, such as rclone's, answer a range with the wrong status, which obstore reports as an error.
            self._partial = False
        return asked(get_slowly, self._what("get_object", key))

    def head(self, key: str) -> tuple[int, float, str]:
        """Return the size, modification time and entity tag of an object."""
        if self._is_for_boto(key):
            told = self.call("head_object", key)
            return told["ContentLength"], told["LastModified"].timestamp(), told["ETag"].strip('"')
        what = self._what("head", key)
        meta = asked(partial(obstore.head, self._objects, key), what)
        return meta["size"], meta["last_modified"].timestamp(), self._tag(meta["e_tag"], what)

    def _tag(self, told: str | None, what: str) -> str:
        """Return an entity tag without quotes; `S3Fault` if the response does not come from S3.

        A web server may send a page for every name, with any tag or without one. A listing then shows whether it is
        S3, where a tag that is not made of MD5s is rare.
        """
        tag = (told or "").strip('"')
        if not tag:
            raise not_s3(what)
        if not self._is_s3 and not is_s3_tag(tag):
            try:
                self.call("list_objects_v2", MaxKeys=1)
            except (FileNotFoundError, S3Fault) as err:
                # A refusal, for example of listings, is one of S3.
                if isinstance(err, S3Fault) and err.word == NOT_S3:
                    raise
            self._is_s3 = True
        return tag


def _filled(body: Any, block: memoryview) -> int:
    """Read a response into a block, in pieces that fit in the processor's cache."""
    count = 0
    while count < len(block) and (got := body.readinto(block[count : count + BLOCK])):
        count += got
    return count


def _session(settings: S3Settings) -> botocore.session.Session:
    session = botocore.session.Session(profile=settings.profile)
    session.register_component("data_loader", descriptions(session.get_config_variable("data_path")))
    # The asterisk has it called before botocore's search for an error in the body, which would parse the body too.
    session.register("before-parse.*.ListObjectsV2", read_page)
    session.register("before-parse.*.*", check_response)
    if settings.keys:
        session.set_credentials(*(settings.keys.get(f"aws_{name}") for name in _KEY_PARTS))
    return session


def _opened(settings: S3Settings) -> tuple[botocore.session.Session, Any]:
    try:
        session = _session(settings)
        keys = None if settings.anonymous else session.get_credentials()
        if keys:
            keys.get_frozen_credentials()
        if keys or settings.anonymous:
            return session, _placed(session, settings)
        failure = (
            "No S3 credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where the transfer runs, "
            "name "
            "a profile: in the options, or write anon: true for a public bucket."
        )
    except ConfigError:
        raise
    except (BotoCoreError, ValueError, TypeError) as err:
        failure = f"S3 rejects these options or credentials ({type(err).__name__}); check them, or log in again."
    raise ConfigError(failure)


def _placed(session: botocore.session.Session, settings: S3Settings) -> Any:
    client = _made(session, settings, settings.region)
    region = settings.region or _region(client, settings.bucket) or client.meta.region_name
    plain = (settings.config.get("s3") or {}).get("addressing_style", "auto") == "auto" and "." not in settings.bucket
    # Otherwise signed URLs, from which obstore gets its address, name the host that serves all regions.
    virtual = plain and (urlsplit(client.meta.endpoint_url).hostname or "").endswith(AWS)
    if virtual or region != client.meta.region_name:
        client.close()
        return _made(session, settings, region, style={"addressing_style": "virtual"} if virtual else {})
    return client


def _made(
    session: botocore.session.Session, settings: S3Settings, region: str | None, *, style: Mapping[str, str] = _NO_STYLE
) -> Any:
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "retries": {"mode": "standard", "total_max_attempts": TRIES},
        "max_pool_connections": WIDTH,
        "signature_version": UNSIGNED if settings.anonymous else "s3v4",
        # We send and compare MD5; not every server supports the newer checksums, and S3 stores one anyway.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        **settings.config,
        # The parts carry their MD5, and over https botocore omits the SHA-256 of a body anyway.
        "s3": {"payload_signing_enabled": False, **(settings.config.get("s3") or {}), **style},
    }

    def create(**more: Any) -> Any:
        return session.create_client(
            "s3",
            region_name=region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=settings.endpoint,
            verify=settings.verify,
            config=Config(**config, **more),
        )

    client = create()
    url = client.meta.endpoint_url
    proxies = _proxies(settings, url)
    scheme = urlsplit(url).scheme
    # botocore parses NO_PROXY as Python does. The URL is known only now; a second client is rarely necessary.
    if "proxies" in config or proxies.get(scheme) == get_environ_proxies(url).get(scheme):
        return client
    client.close()
    return create(proxies=proxies)


def _proxies(settings: S3Settings, url: str) -> Mapping[str, str]:
    """Return the proxy by URL scheme, from the options or else the environment; empty for none."""
    given: Mapping[str, str] | None = settings.config.get("proxies")
    if given is not None:
        return given
    proxy = proxy_for(url)
    if proxy and not proxy.startswith(("http://", "https://")):
        raise ConfigError("The environment sets a proxy that is not an HTTP proxy; set an HTTP proxy.")
    return {urlsplit(url).scheme: proxy} if proxy else {}


def _region(client: Any, bucket: str) -> str | None:
    """Look up the region of a bucket; None if unknown."""
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as err:
        # S3 names the region even if it denies access to the bucket.
        answer = err.response
    except BotoCoreError:
        return None
    region: str | None = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return region


def _objects(session: botocore.session.Session, settings: S3Settings, client: Any) -> ObjectStore:
    """Return an obstore client for the same bucket, with the same keys and proxy."""
    address, _, _ = client.generate_presigned_url(
        "head_object", Params={"Bucket": settings.bucket, "Key": "k"}
    ).partition("/k")
    url, region = client.meta.endpoint_url, client.meta.region_name
    # This also sets what obstore would otherwise read from the environment.
    config: ObjectConfig = {
        "aws_endpoint_url_s3": address,
        "endpoint": address,
        "region": region,
        # The address already contains the bucket, in the host or the path.
        "virtual_hosted_style_request": True,
        "skip_signature": settings.anonymous,
        "request_payer": settings.payer,
    }
    keys = None if settings.anonymous else Credentials(session.get_credentials())
    return ObjectStore(
        settings.bucket,
        config=config,
        client_options=_line(session, settings, address, _proxies(settings, url)),
        retry_config={
            "max_retries": TRIES - 1,
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
        credential_provider=keys,
    )


def _line(
    session: botocore.session.Session, settings: S3Settings, address: str, proxies: Mapping[str, str]
) -> ClientConfig:
    given = settings.config
    line: ClientConfig = {
        "allow_http": address.startswith("http:"),
        "connect_timeout": timedelta(seconds=given.get("connect_timeout", CONNECT_TIMEOUT)),
        "read_timeout": timedelta(seconds=given.get("read_timeout", READ_TIMEOUT)),
        # The default, 30 seconds for the whole request, is too short for a part on a slow link.
        "timeout": timedelta(hours=1),
    }
    proxy = proxies.get(urlsplit(address).scheme)
    # Setting a proxy keeps obstore from reading the environment; if there is none, every host bypasses it.
    line["proxy_url"] = proxy or "http://127.0.0.1:9"
    if not proxy:
        line["proxy_excludes"] = _ALL_HOSTS
    trusted = session.get_config_variable("ca_bundle") if settings.verify is None else settings.verify
    if trusted is False:
        line["allow_invalid_certificates"] = True
    elif isinstance(trusted, str) and address.startswith("https:"):
        with open(trusted, encoding="ascii", errors="replace") as file:
            line["root_certificate"] = file.read()
    return line
