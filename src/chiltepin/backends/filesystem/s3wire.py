"""Requests to an S3 server: signed, sent over connections that are kept, and refused in words of ours.

The client libraries spend most of a small object on themselves: botocore's takes some 2.5 ms of processor time for each
request and s3fs 3 to 5, this one 0.4, as much as obstore's, which has no parts to resume (docs/decisions/s3-client.md).
What botocore knows best, where keys come from, is left to it.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
import weakref
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.etree import ElementTree as ET

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from chiltepin.backends.filesystem.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chiltepin.backends.filesystem.s3config import S3Settings

__all__ = ["Answer", "S3Fault", "Wire", "digest_of", "escaped"]

#: Seconds that the server may be silent.
TIMEOUT = 60.0

#: Times that one request is sent, and the longest wait in seconds before another try: a hiccup in one part must not
#: cost the whole object. What lasts longer is left to whoever tries the whole file again.
TRIES, LONGEST_WAIT = 4, 1.0

# Words of S3 that stand for troubles that pass (docs.aws.amazon.com, S3 API, "Error responses").
_PASSING = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "OperationAborted"})
_PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
_CODES = {
    "NoSuchBucket": "FILE_NOT_FOUND",
    "PreconditionFailed": "FILE_SIZE_CHANGED",
    "BadDigest": "VERIFY_CHECKSUM",
    "InvalidDigest": "VERIFY_CHECKSUM",
    "QuotaExceeded": "QUOTA_EXCEEDED",
    "EntityTooLarge": "LIMIT_EXCEEDED",
    "KeyTooLongError": "INVALID_PATH_NAME",
    "ExpiredToken": "PERMISSION_DENIED",
    "InvalidToken": "PERMISSION_DENIED",
    "RequestTimeout": "TIMEOUT",
}


class S3Fault(Fault):
    """What an S3 server refused, or why it could not be asked.

    Parameters
    ----------
    code, reason : str
        See `Fault`; no key, signature or URL is in them.
    transient : bool
        Whether the same request may go better the next time.
    word : str
        S3's own code, such as ``NoSuchKey``.
    """

    def __init__(self, code: str, reason: str, *, transient: bool = False, word: str = "") -> None:
        super().__init__(code, reason)
        self.transient, self.word = transient, word


class Answer(NamedTuple):
    """What the server said: its headers, and the body, or how many bytes of it were put where they were wanted."""

    headers: http.client.HTTPMessage
    data: bytes
    placed: int

    def xml(self) -> ET.Element:
        """Return the document in the body, names without their namespace."""
        root = ET.fromstring(self.data)  # noqa: S314 - expat bounds what entities grow to (libexpat 2.4.1)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    @property
    def etag(self) -> str:
        """The entity tag, without its quotes."""
        return (self.headers["ETag"] or "").strip('"')

    @property
    def tag_is_md5(self) -> bool:
        """Whether the entity tag of an object that was put in one request is the MD5 of its content.

        It is not with keys of a customer or of KMS (docs.aws.amazon.com, S3 API, "Object", ETag).
        """
        secret = str(self.headers.get("x-amz-server-side-encryption", "")).startswith("aws:kms")
        return not secret and "x-amz-server-side-encryption-customer-algorithm" not in self.headers


def digest_of(block: bytes | bytearray | memoryview) -> hashlib._Hash:
    """Return the MD5 of a block: no secret hangs on it, and it is what S3 names contents by."""
    return hashlib.md5(block, usedforsecurity=False)


def escaped(text: str, *, safe: str = "") -> str:
    """Return text as it stands in a URL that is signed (docs.aws.amazon.com, "Create a signed request")."""
    return quote(text, safe=safe + "-_.~", errors="surrogateescape")


class Wire:
    """The connections to one bucket.

    Parameters
    ----------
    settings : S3Settings
        Where the bucket is and who asks.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings, self._region = settings, settings.region
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        # The connections go with the last who can use them.
        weakref.finalize(self, _close, self._idle)
        self._signing_key = (("", "", ""), b"")
        place = urlsplit(settings.endpoint)
        self._secure, self._host = place.scheme == "https", place.netloc
        self._top = place.path.rstrip("/")
        if settings.virtual:
            self._host = f"{settings.bucket}.{self._host}"
        else:
            self._top += f"/{settings.bucket}"
        self._proxy = _proxy(place.scheme, self._host)

    def ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | bytearray | memoryview = b"",
        into: memoryview | None = None,
    ) -> Answer:
        """Send one request and return the answer; what may pass is tried again.

        Parameters
        ----------
        method, key : str
            HTTP's method and the object's name; no name for the bucket itself.
        query, headers : mapping of str to str
            Header names in lower case.
        body : bytes-like
            What is sent; its MD5 is not added by itself.
        into : memoryview
            Where the content is to go, if not into `Answer.data`.

        Raises
        ------
        FileNotFoundError
            If there is no such object or upload.
        S3Fault
            For everything else that is not success.
        """

        def once() -> Answer:
            return self._once(method, key, query or {}, headers or {}, body, into)

        try:
            return once()
        except S3Fault as err:
            if not err.transient:
                raise
        return Retrying(
            stop=stop_after_attempt(TRIES - 1),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT),
            retry=retry_if_exception(lambda err: isinstance(err, S3Fault) and err.transient),
            reraise=True,
        )(once)

    def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | bytearray | memoryview,
        into: memoryview | None,
    ) -> Answer:
        path = f"{self._top}/{escaped(key, safe='/')}"
        asked = "&".join(sorted(f"{escaped(name)}={escaped(value)}" for name, value in query.items()))
        signed = self._signed(method, path, asked, headers)
        connection = self._connection()
        try:
            answer, status, reusable = _exchange(connection, method, self._target(path, asked), signed, body, into)
        except (OSError, http.client.HTTPException) as err:
            connection.close()
            trouble = err
        else:
            self._give_back(connection, reusable=reusable)
            return self._judged(answer, status, method, key)
        # After the except: nothing of the connection, and so of the signature, goes along with what is raised.
        raise _unreachable(trouble, self._settings.bucket)

    def _target(self, path: str, asked: str) -> str:
        target = f"{path}?{asked}" if asked else path
        return f"http://{self._host}{target}" if self._proxy and not self._secure else target

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                # A server closes what was idle for too long; then there is something to read: its end.
                if connection.sock is not None and not _ended(connection.sock):
                    return connection
                connection.close()
        host, _, port = (self._proxy or self._host).rpartition("@")[2].partition(":")
        where, number = host, int(port) if port else None
        if not self._secure:
            return http.client.HTTPConnection(where, number, timeout=TIMEOUT)
        made = http.client.HTTPSConnection(where, number, timeout=TIMEOUT, context=self._settings.tls())
        if self._proxy:
            made.set_tunnel(self._host, headers=_proxy_login(self._proxy))
        return made

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        if not reusable:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def _signed(self, method: str, path: str, asked: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers with a signature, version 4 (docs.aws.amazon.com, "Create a signed request")."""
        sent = {"host": self._host, **self._settings.headers(), **headers}
        if self._proxy and not self._secure:
            sent |= _proxy_login(self._proxy)
        keys = self._settings.keys()
        if keys is None:
            return sent
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        # The content is not signed: of what is sent, its MD5 is, which costs nothing more.
        sent |= {"x-amz-date": now, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        if keys.token:
            sent["x-amz-security-token"] = keys.token
        names = sorted(name for name in sent if name != "proxy-authorization")
        lines = "\n".join(f"{name}:{' '.join(sent[name].split())}" for name in names)
        signing = ";".join(names)
        asked_for = f"{method}\n{path}\n{asked}\n{lines}\n\n{signing}\nUNSIGNED-PAYLOAD"
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        said = hashlib.sha256(asked_for.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{said}"
        signature = hmac.digest(self._key_for(keys.secret, now[:8]), text.encode(), "sha256").hex()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={signing}, Signature={signature}"
        )
        return sent

    def _key_for(self, secret: str, day: str) -> bytes:
        wanted = (secret, day, self._region)
        made, key = self._signing_key
        if made != wanted:
            key = f"AWS4{secret}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._signing_key = (wanted, key)
        return key

    def _judged(self, answer: Answer, status: int, method: str, key: str) -> Answer:
        """Return a good answer; raise what another one means."""
        # A copy, or the end of an upload, may fail after it has begun to answer 200 (S3 API, CopyObject).
        late = status == http.client.OK and method in ("PUT", "POST") and b"<Error" in answer.data[:200]
        if status < http.client.MULTIPLE_CHOICES and not late:
            return answer
        region = answer.headers["x-amz-bucket-region"]
        if region and region != self._region:
            self._region = region
            raise S3Fault("ENDPOINT_ERROR", f"The bucket {self._settings.bucket!r} is in {region}.", transient=True)
        raise _refusal(status, _word(answer), f"{method} of {key!r} in bucket {self._settings.bucket!r}")


def _close(connections: list[http.client.HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes | bytearray | memoryview,
    into: memoryview | None,
) -> tuple[Answer, int, bool]:
    """Send one request; return the answer, its status, and whether the connection serves for another one."""
    connection.request(method, target, body if body or method in ("PUT", "POST") else None, headers)
    response = connection.getresponse()
    data, count = b"", 0
    if into is None or response.status >= http.client.MULTIPLE_CHOICES:
        data = response.read()
    else:
        while count < len(into) and (got := response.readinto(into[count:])):
            count += got
        data = response.read()
    if into is not None and response.length:
        raise http.client.IncompleteRead(b"")
    return Answer(response.headers, data, count), response.status, not response.will_close


def _ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        # TLS has no peek; there a close shows when the connection is used, and the request is sent again.
        return not isinstance(connection, ssl.SSLSocket) and connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(TIMEOUT)


def _word(answer: Answer) -> str:
    try:
        return answer.xml().findtext("Code") or ""
    except ET.ParseError:
        return ""


def _refusal(status: int, word: str, what: str) -> Exception:
    """Return what an answer that is no success means."""
    if status == http.client.NOT_FOUND and word != "NoSuchBucket":
        return FileNotFoundError(2, f"S3 has no such object: {what}")
    transient = word in _PASSING or status in _PASSING_STATUS
    code = _CODES.get(word, "")
    if not code and status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        code = "PERMISSION_DENIED"
    elif not code and status == http.client.PRECONDITION_FAILED:
        code = "FILE_SIZE_CHANGED"
    said = f"{word} ({status})" if word else f"status {status}"
    return S3Fault(code or "ENDPOINT_ERROR", f"S3 answered {said} to {what}.", transient=transient, word=word)


def _unreachable(error: Exception, bucket: str) -> S3Fault:
    """Return what a connection that failed means; a certificate that is not trusted does not get better."""
    code = "CONNECTION_RESET"
    if isinstance(error, TimeoutError):
        code = "TIMEOUT"
    elif isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLError):
        code = "CONNECT_FAILED"
    reason = f"The S3 server of bucket {bucket!r} gave no answer: {type(error).__name__}."
    return S3Fault(code, reason, transient=not isinstance(error, ssl.SSLCertVerificationError))


def _proxy(scheme: str, host: str) -> str:
    """Return ``user:password@host:port`` of the proxy that the environment asks for; empty for none."""
    name = host.partition(":")[0]
    return "" if proxy_bypass(name) else urlsplit(getproxies().get(scheme, "")).netloc


def _proxy_login(proxy: str) -> dict[str, str]:
    login = unquote(proxy.rpartition("@")[0])
    return {"proxy-authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
