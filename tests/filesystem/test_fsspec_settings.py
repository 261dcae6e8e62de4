"""Settings of endpoints on FTP, WebDAV and other fsspec stores that cannot work: one sentence tells what to change."""

from __future__ import annotations

import json

import pytest

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.errors import BackendError, ConfigError, UnsupportedOptionError
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers


def moved(url, here, options=None, *, source="there"):
    """Copy a file from or to a store."""
    settings = {"there": {"url": url, "options": options or {}}, "here": {"url": str(here)}}
    (target,) = {"there", "here"} - {source}
    request = transfer_request(src_ep=source, dst_ep=target, src_path="/f", dst_path="/g")
    return Transfers(FilesystemBackend.from_config(settings, {})).run(request, timeout=60, polling_interval=1)


WRAPPED = ["simplecache::file://{}", "filecache::file://{}", "blockcache::file://{}", "zip::simplecache::file://{}/z"]


@pytest.mark.parametrize("url", [*WRAPPED, "dir::file://{}", "dir://{}"])
def test_a_cache_or_a_wrapper_of_fsspec_is_refused(tmp_path, url):
    """A URL with a cache, which keeps old files, or with a wrapper, which hides the real folder, is refused."""
    (tmp_path / "f").write_text("data")
    with pytest.raises(ConfigError, match=r"^\w+:: (keeps old files|hides where files are); write the URL"):
        moved(url.format(tmp_path), tmp_path)


def test_references_are_only_read(tmp_path):
    """Files of fsspec's references are read, and never written: what fsspec writes there exists only in memory."""
    (tmp_path / "f").write_text("data")
    (tmp_path / "refs.json").write_text(json.dumps({"f": [str(tmp_path / "f")]}))
    options = {"fo": str(tmp_path / "refs.json")}
    assert moved("reference://", tmp_path, options).files_done == 1
    assert (tmp_path / "g").read_text() == "data"
    with pytest.raises(UnsupportedOptionError, match="read-only"):
        moved("reference://", tmp_path, options, source="here")


def test_a_store_that_cannot_be_opened_tells_the_error_of_the_system(tmp_path):
    """If a file that a store needs is missing, the error says so, and no value is called a kind of store."""
    with pytest.raises(BackendError, match=r"cannot be opened: No such file or directory\."):
        moved("reference://", tmp_path, {"fo": str(tmp_path / "none.json")})
    with pytest.raises(UnsupportedOptionError, match="'gopher', a kind of store that fsspec does not know"):
        moved("gopher://host/x", tmp_path)


FTP = [
    ("ftp://host/", {"tsl": True}, "FTP has no option 'tsl'; did you mean 'tls'?"),
    ("ftp://host/", {"usename": "me"}, "FTP has no option 'usename'; did you mean 'username'?"),
    ("ftp://host/", {"tls": "yes"}, "FTP's option tls is 'yes'; write true, or"),
    ("ftp://host/", {"tls": "tlsv1"}, "FTP's option tls is 'tlsv1'; write true, or"),
    ("ftp://host/", {"timeout": "5s"}, "FTP's option timeout is '5s'; write a number of seconds"),
    ("ftp://host/", {"timeout": 0}, "FTP's option timeout is 0; write a number of seconds"),
    ("ftp://host/", {"port": "abc"}, "FTP's option port is 'abc'; write a number"),
    ("ftp://host/", {"encoding": "utf-88"}, "FTP's option encoding is 'utf-88'; write one such as"),
    ("ftp://host/", {"tls": True, "verify": "/none.pem"}, "FTP's option verify is '/none.pem', which is not"),
    ("ftp://host/", {"tls": True, "verify": 1}, "FTP's option verify is 1; write the path"),
    ("ftp://host/", {"username": "a\nb"}, "FTP's option username has a line break"),
    ("ftp://host:abc/", {}, "'host:abc' is not a host and port; write a URL"),
    ("ftp:///data", {}, "The URL of an FTP endpoint must name a host; write one such as 'ftp://host/folder'."),
]


@pytest.mark.parametrize(("url", "options", "words"), FTP)
def test_a_mistake_in_the_options_of_ftp_is_named(tmp_path, url, options, words):
    """An unknown option of an FTP endpoint, or a wrong value, is refused before anything is sent."""
    with pytest.raises(ConfigError) as caught:
        moved(url, tmp_path, options)
    assert str(caught.value).startswith(words)


DAV = [
    ({}, "WebDAV needs the option base_url, the server's URL; write one such as"),
    ({"base_url": "cloud.example.org"}, "WebDAV needs the option base_url, the server's URL; write one such as"),
    ({"baseurl": "http://host"}, "WebDAV has no option 'baseurl'; did you mean 'base_url'?"),
    ({"base_url": "http://host", "auht": "x"}, "WebDAV has no option 'auht'; did you mean 'auth'?"),
    ({"base_url": "http://host", "timeout": "5s"}, "WebDAV's option timeout is '5s'; write a number of seconds"),
    ({"base_url": "http://host", "verify": "/none"}, "WebDAV's option verify is '/none', which is not a readable file"),
    ({"base_url": "http://host", "auth": ["me"]}, "WebDAV's option auth must be a list of a user name and a password"),
]


@pytest.mark.parametrize(("options", "words"), DAV)
def test_a_mistake_in_the_options_of_webdav_is_named(tmp_path, options, words):
    """An unknown, wrong or missing option of a WebDAV endpoint is refused before anything is sent."""
    with pytest.raises(ConfigError) as caught:
        moved("webdav:///", tmp_path, options)
    assert str(caught.value).startswith(words)
