"""Connections to an FTP server: login, TLS on both of its connections, and the errors for its replies.

Messages contain no reply of the server, which may repeat what was sent.
"""

from __future__ import annotations

import errno
import ftplib
import os
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING

from chiltepin.backends.filesystem.errors import ConnectionLostError, Fault

if TYPE_CHECKING:
    from chiltepin.backends.filesystem.stores.fsspec.ftp_options import FtpOptions

__all__ = ["UNKNOWN", "connected", "plain"]

#: Replies to a command that the server does not support (RFC 959, 4.2).
UNKNOWN = ("500", "502", "504")

#: Replies about logins and protection (RFC 959, 4.2; RFC 2228, 6; 521 and 522 as vsftpd and ProFTPD use them).
_SENTENCES = {
    "521": ("ENDPOINT_ERROR", "The FTP server accepts only encrypted data (reply 521); write tls: true as an option."),
    "522": ("ENDPOINT_ERROR", "The FTP server refuses our data connections (reply 522); ask its operators."),
    "530": ("PERMISSION_DENIED", "The FTP server requires a login (reply 530); check username and password."),
    "533": ("ENDPOINT_ERROR", "The FTP server accepts only encrypted commands (reply 533); write tls: true."),
    "534": ("ENDPOINT_ERROR", "The FTP server does not allow this protection (reply 534); change the option tls."),
    "535": ("ENDPOINT_ERROR", "The FTP server's security check failed (reply 535); ask its operators."),
}


class _Connection(ftplib.FTP):
    """A connection whose replies must each end within its timeout, also if their lines arrive one by one."""

    implicit: ssl.SSLContext | None = None
    _until = float("inf")

    def start(self, host: str, port: int) -> None:
        """Connect, and read the greeting; ``connect`` of ftplib cannot begin with TLS."""
        self.host, self.port = host, port
        self.sock = socket.create_connection((host, port), self.timeout)
        if self.implicit is not None:
            self.sock = self.implicit.wrap_socket(self.sock, server_hostname=host)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()

    def getmultiline(self) -> str:
        """Read a reply."""
        self._until = time.monotonic() + (self.timeout or 0)
        return super().getmultiline()

    def getline(self) -> str:
        """Read a line of a reply."""
        if time.monotonic() > self._until:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return super().getline()


class _TlsConnection(_Connection, ftplib.FTP_TLS):
    """A connection with TLS, whose data connections resume its session, as most servers require."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """Open a data connection; see `ftplib.FTP.ntransfercmd`."""
        # Not the method of FTP_TLS, which begins another session.
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321 - users may have only FTP
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        try:
            return self.context.wrap_socket(connection, server_hostname=self.host, session=session), size
        except BaseException:
            connection.close()
            raise


def connected(options: FtpOptions) -> ftplib.FTP:
    """Return a new connection, logged in.

    A server that cannot be reached now is an OSError that may pass; anything else is a ``Fault``.
    """
    ftp: _Connection
    if options.context is None:
        ftp = _Connection(timeout=options.timeout, encoding=options.encoding)
    else:
        ftp = _TlsConnection(context=options.context, timeout=options.timeout, encoding=options.encoding)
        ftp.implicit = options.context if options.implicit else None
    try:
        ftp.start(options.host, options.port)
        _log_in(ftp, options)
    except (OSError, EOFError, ftplib.Error) as err:
        ftp.close()
        failure = _unreached(err, options)
    except BaseException:
        ftp.close()
        raise
    else:
        return ftp
    raise failure


def _log_in(ftp: _Connection, options: FtpOptions) -> None:
    if isinstance(ftp, ftplib.FTP_TLS) and not options.implicit:
        try:
            ftp.auth()
        except ftplib.error_perm as err:
            raise Fault(
                "CONNECT_FAILED",
                f"The FTP server {options.host} does not offer TLS (reply {str(err)[:3]}); remove the option tls.",
            ) from None
    try:
        ftp.login(options.username, options.password, options.acct)
    except ftplib.error_perm as err:
        raise _rejected(str(err), options) from None
    if isinstance(ftp, ftplib.FTP_TLS):
        ftp.prot_p()


def _rejected(said: str, options: FtpOptions) -> Fault:
    """Return the fault for a login that the server rejects."""
    if options.context is None and re.search(r"\b(TLS|SSL|encrypt\w*|secure)\b", said, re.IGNORECASE):
        cure = "write tls: true as an option, because it requires encryption"
    elif options.username:
        cure = "check the options username and password"
    else:
        cure = "it was anonymous; write the options username and password"
    reason = f"The FTP server {options.host} rejected the login (reply {said[:3]}); {cure}."
    return Fault("PERMISSION_DENIED", reason)


def _unreached(error: Exception, options: FtpOptions) -> Exception:
    """Return the error for a connection that could not be opened."""
    host = options.host
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        cure = "if the server expects explicit TLS, write tls: true" if options.implicit else "check host and port"
        return Fault("CONNECT_FAILED", f"No TLS connection to the FTP server {host} is possible; {cure}.")
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
        return Fault("CONNECT_FAILED", f"No host is named {host}; correct the URL of the endpoint.")
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        code = "TIMEOUT" if isinstance(error, TimeoutError) else "CONNECT_FAILED"
        return ConnectionLostError(
            code, f"the FTP server {host} could not be reached ({error.strerror}); run the transfer again."
        )
    if isinstance(error, ftplib.error_proto):
        return Fault("CONNECT_FAILED", f"{host} does not answer as an FTP server does; check host and port of the URL.")
    return plain(error)


def _untrusted(error: ssl.SSLCertVerificationError) -> Fault:
    reason = (
        f"The certificate of the FTP server is not trusted ({error.verify_message.rstrip('.')}); use the host name in "
        "the certificate, and write verify: with the path of a file of certificates that you trust."
    )
    return Fault("CONNECT_FAILED", reason)


def plain(error: Exception) -> Exception:
    """Return our error, or that of the operating system, for a reply of the server or a lost connection."""
    said, code = str(error), str(error)[:3]
    number = errno.ECONNRESET
    if isinstance(error, ftplib.error_perm):
        number = {"552": errno.EDQUOT}.get(code, errno.EACCES)
        if code == "550" and re.search(r"no such|not found|not exist", said, re.IGNORECASE):
            number = errno.ENOENT
        if code in UNKNOWN:
            return Fault("ENDPOINT_ERROR", f"The FTP server refuses a required command (reply {code}).")
        if code in _SENTENCES:
            return Fault(*_SENTENCES[code])
    elif isinstance(error, ftplib.error_temp):
        number = {"450": errno.EAGAIN, "451": errno.EAGAIN, "452": errno.ENOSPC}.get(code, errno.ECONNRESET)
    elif isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error)
    elif isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return error
    return OSError(number, os.strerror(number))
