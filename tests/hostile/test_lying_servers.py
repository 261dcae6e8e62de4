"""SFTP, web and S3 servers that lie: their listings, messages and data do no harm on this machine."""

from __future__ import annotations

import itertools
import os
import re
import threading

import pytest
from liars import Liar, document
from peers import install

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.temp_names import temporary
from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers


@pytest.fixture
def here(tmp_path):
    """A folder of this machine, whose neighbors must not be touched."""
    folder = tmp_path / "beside" / "here"
    folder.mkdir(parents=True)
    return folder


def transfers_of(here, url, options=()):
    """Return transfers between the endpoints ``there``, of the server, and ``here``."""
    settings = {"there": {"url": url, "options": dict(options)}, "here": {"url": str(here)}}
    places = {name: place_of(name, said) for name, said in settings.items()}
    # Retry without a pause.
    return Transfers(FilesystemBackend(places, pause=lambda *_: None))


def moved(transfers, path="/", *, recursive=True, timeout=60.0):
    """Transfer a tree or a file from the server."""
    request = transfer_request(
        src_ep="there", dst_ep="here", src_path=path, dst_path="/got" if recursive else "/f", recursive=recursive
    )
    return transfers.run(request, timeout=timeout, polling_interval=1)


def unharmed(here):
    """Check that there are only the expected files, in the folder and around it."""
    assert os.listdir(here.parent) == ["here"]
    for _, _, files in os.walk(here):
        assert set(files) <= {"f", "g"}, files


def asked(transfers, path="/"):
    """List a folder; return the names, or the text of a Chiltepin error after checking that it is printable."""
    try:
        return [entry.name for entry in transfers.ls("there", path)]
    except ChiltepinError as err:
        said = str(err)
    assert said.isprintable(), said
    return said


SFTP_LIES = ("up", "slash", "absolute", "nul", "empty", "folder-up", "long", "count", "short", "nothing", "gigantic")
SFTP_LIES += ("unasked", "banner", "no-root", "attributes", "words", "links", "huge", "more")


@pytest.fixture
def sftp(here, tmp_path, monkeypatch):
    """Return a function that opens the endpoints with a peer that lies in one way."""
    made = []

    def open_with(lie):
        (tmp_path / "bin").mkdir()
        install(tmp_path / "bin", monkeypatch, lie)
        made.append(transfers_of(here, "sftp://nobody@nowhere/root", {"silence": 5}))
        return made[0]

    yield open_with
    made[0].backend.close()
    made[0].backend._place("there").store().close()


def test_an_honest_peer_is_understood(sftp, here):
    """The data that the other tests spoil is valid before."""
    transfers = sftp("fine")
    assert asked(transfers) == ["f"]
    assert moved(transfers).state is TaskState.SUCCEEDED
    assert (here / "got" / "f").read_bytes() == b"inside"


@pytest.mark.parametrize("lie", SFTP_LIES)
def test_a_lying_sftp_server_harms_nothing(sftp, here, lie):
    """Names that are paths, endless lists and invalid responses each end as a failure, in time."""
    transfers = sftp(lie)
    said = asked(transfers)
    assert isinstance(said, str) or lie in ("words", "huge", "more", "links"), said
    for path, recursive in (("/", True), ("/f", False)):
        status = moved(transfers, path, recursive=recursive)
        if path == "/" or lie in ("huge", "more", "words", "banner", "no-root", "attributes", "links"):
            assert status.state is TaskState.FAILED, status
        assert status.reason.isprintable()
    unharmed(here)


def test_escapes_in_names_of_an_sftp_server_reach_no_message(sftp, here):
    """A name with escape sequences is listed unchanged and is escaped in messages."""
    transfers = sftp("escapes")
    assert asked(transfers) == ["f\x1b]0;owned\x07\x1b[2J\r\n"]
    status = moved(transfers)
    assert status.reason.isprintable()
    assert "\\x1b" in status.reason


@pytest.mark.parametrize("lie", ["endless", "same"])
def test_a_listing_of_an_sftp_server_without_an_end_ends(sftp, here, lie, monkeypatch):
    """An endless chain of folders ends with the task, and ``ls`` stops after a limit."""
    monkeypatch.setattr("chiltepin.backends.filesystem.store.MOST_KEPT", 5000)
    transfers = sftp(lie)
    assert "more than" in asked(transfers)
    with pytest.raises(ChiltepinError):
        moved(transfers, timeout=1)


INDEX = "<html><head><title>Index of /</title></head><body>{}</body></html>"


@pytest.fixture
def web(here):
    """A web server that lies on demand, and the endpoints."""
    with Liar(lambda *_: document(b"")) as liar:
        yield (
            liar,
            transfers_of(here, liar.url() + "/root", {"headers": {"Authorization": "Bearer for-the-first-alone"}}),
        )


def page(*links):
    """Return an index page with these links."""
    body = INDEX.format("".join(f'<a href="{link}">x</a>' for link in links)).encode()
    return 200, {"Content-Type": "text/html", "Content-Length": str(len(body))}, [body]


def whole(body=b"inside"):
    """Return the response for a file."""
    return 200, {"Content-Type": "text/plain", "Content-Length": str(len(body))}, [body]


def test_names_of_an_index_page_stay_below_it(web, here):
    """Links that lead up, elsewhere or nowhere are not entries; a link that looks like an entry fails alone."""
    liar, transfers = web
    links = ("../x", "%2e%2e/x", "..%2fx", "a%2fb", "/etc/x", "//h/x", "http://h/x", ".", "..", "%2e%2e", "", "a%00b")
    links += (temporary("0"), "./../x", "g/../../x", "f")
    liar.answer = lambda _method, path: page(*links) if path == "/root/" else whole()
    assert asked(transfers) == ["..%2fx", "a%00b", "a%2fb", "f", "x"]
    status = moved(transfers)
    assert (status.state, status.files_done) == (TaskState.FAILED, 1)
    assert "lists ..%2fx, which is not a name" in status.reason
    assert (here / "got" / "f").read_bytes() == b"inside"
    unharmed(here)


def test_escapes_in_an_index_page_reach_no_message(web, here):
    """A name with escape sequences is listed unchanged and is escaped in messages."""
    liar, transfers = web
    liar.answer = lambda _method, path: page("f%1b%5b2J") if path == "/root/" else (404, {"Content-Length": "0"}, [])
    assert asked(transfers) == ["f\x1b[2J"]
    assert moved(transfers).reason.isprintable()
    liar.answer = lambda method, path: (
        page("f%1b%5b2J") if path == "/root/" else whole() if method == "HEAD" else (418, {"Content-Length": "0"}, [])
    )
    status = moved(transfers)
    assert status.state is TaskState.FAILED
    assert "\\x1b" in status.reason
    assert status.reason.isprintable()


@pytest.mark.parametrize("padded", [b" ", b"<a href='g'></a>"])
def test_an_index_page_that_is_too_long_is_no_index(web, here, padded):
    """A truncated index page is not treated as complete, because the missing files could be removed."""
    liar, transfers = web
    long = INDEX.format("<a href='f'>f</a>").encode() + padded * ((65 << 20) // len(padded))
    liar.answer = lambda _method, path: (200, {"Content-Type": "text/html"}, [long]) if path == "/root/" else whole()
    assert "longer than" in asked(transfers)
    assert moved(transfers).state is TaskState.FAILED
    unharmed(here)


def test_a_file_without_an_end_ends_with_its_task(web, here):
    """A file without an end does not appear at the destination, and leaves nothing."""
    liar, transfers = web
    liar.answer = lambda *_: (200, {}, itertools.repeat(b"x" * 65536))
    with pytest.raises(ChiltepinError):
        moved(transfers, "/f", recursive=False, timeout=1)
    transfers.backend.close()
    gone = threading.Event()
    for _ in range(100):
        if not os.listdir(here):
            break
        gone.wait(0.05)
    assert os.listdir(here) == []


@pytest.mark.parametrize("told", ["99999999999999999999", "-1", "6, 6", "x"])
def test_a_size_that_is_none_is_no_size(web, here, told):
    """An impossible length is a failure, or is ignored."""
    liar, transfers = web
    liar.answer = lambda *_: (200, {"Content-Length": told, "Connection": "close"}, [b"inside"])
    status = moved(transfers, "/f", recursive=False)
    assert status.state is TaskState.FAILED or (here / "f").read_bytes() == b"inside"
    unharmed(here)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_our_headers_do_not_follow_a_redirect_to_another_host(web, here, status):
    """A file is read from the redirected host without the headers that are meant for the first server."""
    liar, transfers = web
    with Liar(lambda *_: whole()) as elsewhere:
        liar.answer = lambda _method, path: (
            status,
            {"Location": elsewhere.url("localhost") + path, "Content-Length": "0"},
            [],
        )
        assert moved(transfers, "/f", recursive=False).state is TaskState.SUCCEEDED
        assert elsewhere.asked
        for _, _, headers, _ in elsewhere.asked:
            assert "for-the-first-alone" not in str(headers)


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/root/f", "gopher://x/", "http://\x1b[2J/"]
)
def test_a_redirect_to_what_is_no_web_server_is_refused(web, here, place):
    """A redirect to a local file, or in a circle, is refused."""
    liar, transfers = web
    liar.answer = lambda *_: (302, {"Location": place, "Content-Length": "0"}, [])
    status = moved(transfers, "/f", recursive=False)
    assert status.state is TaskState.FAILED
    assert status.reason.isprintable()
    unharmed(here)


LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>root/</Prefix><KeyCount>1</KeyCount>
<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>{more}</IsTruncated>{token}{entries}</ListBucketResult>"""
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
    "<Size>6</Size></Contents>"
)


def xml(text, status=200):
    """Return a response of S3."""
    body = text.encode()
    return status, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, [body]


@pytest.fixture
def bucket(here):
    """An S3 server that lies on demand, and the endpoints."""
    with Liar(lambda *_: document(b"")) as liar:
        options = {"key": "AKIA", "secret": "s3cr3t", "endpoint_url": liar.url(), "region": "us-east-1"}
        yield liar, transfers_of(here, "s3://b/root", options)


def listing(*keys, more="false", token=""):
    """Return a page of names."""
    return xml(LISTING.format(more=more, token=token, entries="".join(map(ENTRY.format, keys))))


@pytest.mark.parametrize(
    "key",
    ["root/../../x", "root/a/f", "root/../y", "root//etc/x", "other/../../etc/x", "", "r", "root/..", "root/&#27;[2J"],
)
def test_names_of_a_bucket_stay_below_it(bucket, here, key):
    """Keys with extra slashes, or of another folder, do not become files here."""
    liar, transfers = bucket
    liar.answer = lambda _method, path: listing(key) if "list-type=2" in path else whole()
    said = asked(transfers)
    assert isinstance(said, str) or all("/" not in name for name in said)
    assert moved(transfers).reason.isprintable()
    unharmed(here)


@pytest.mark.parametrize("again", [True, False])
def test_pages_of_a_bucket_without_an_end_end(bucket, here, again):
    """A repeated page is detected, and endless new pages stop after a limit."""
    liar, transfers = bucket
    numbers = itertools.count()
    given = "<NextContinuationToken>{}</NextContinuationToken>".format("again" if again else "{}")

    def answer(_method, path):
        if "list-type=2" not in path:
            return whole()
        if "max-keys=1000" not in path:
            return listing()
        keys = [f"root/d{next(numbers)}" for _ in range(1 if again else 1000)]
        return listing(*keys, more="true", token=given.format(next(numbers)))

    liar.answer = answer
    if not again:
        with pytest.raises(ChiltepinError):
            moved(transfers, timeout=2)
        return
    assert "sent the same page" in asked(transfers)
    assert moved(transfers).state is TaskState.FAILED


def mirrored(transfers, here):
    """Mirror the source into a folder with a copy of one of its files and another file; return the status and names."""
    (here / "got").mkdir()
    for name in ("f", "g"):
        (here / "got" / name).write_bytes(b"inside")
    request = transfer_request(
        src_ep="there", dst_ep="here", src_path="/", dst_path="/got", recursive=True, delete_destination_extra=True
    )
    status = transfers.run(request, timeout=60.0, polling_interval=1)
    return status, set(os.listdir(here / "got"))


@pytest.mark.parametrize("told", ["true", "True", "TRUE", "1", " true ", "false", "0", None])
def test_all_pages_of_a_bucket_are_read_before_a_mirror_deletes(bucket, here, told):
    """A page with a continuation token is followed by another, in whatever words its flag says so."""
    liar, transfers = bucket

    def answer(_method, path):
        if "list-type=2" not in path:
            # The MD5 of the content.
            return 200, {"Content-Length": "6", "ETag": '"335cf4508dd597be4bfc9caa3e08b901"'}, [b"inside"]
        if "continuation-token" in path:
            return listing("root/f")
        status, headers, (page,) = listing(more=told, token="<NextContinuationToken>2</NextContinuationToken>")  # noqa: S106
        return (status, headers, [page]) if told else xml(page.decode().replace("<IsTruncated>None</IsTruncated>", ""))

    liar.answer = answer
    status, names = mirrored(transfers, here)
    assert (status.state, names) == (TaskState.SUCCEEDED, {"f"})


@pytest.mark.parametrize(("told", "token"), [("1", ""), ("True", "<NextMarker>g</NextMarker>"), ("yes", ""), ("", "")])
def test_a_cut_page_of_a_bucket_deletes_nothing(bucket, here, told, token):
    """A page that is not the last one and names no next one, or has an unknown flag, fails a mirror."""
    liar, transfers = bucket
    liar.answer = lambda *_: listing("root/f", more=told, token=token)
    status, names = mirrored(transfers, here)
    assert (status.state, status.code, names) == (TaskState.FAILED, "ENDPOINT_ERROR", {"f", "g"})


#: Responses with which a server other than the store's may answer a request for a listing.
OTHERS = ["", "<a/>", "{}", "[]", "ok", '{"items": [{}]}', "<html xmlns='http://www.w3.org/1999/xhtml'><body/></html>"]
OTHERS += ["<!doctype html><html><title>Console</title></html>", "<EnumerationResults/>"]


@pytest.mark.parametrize("raw", OTHERS)
@pytest.mark.parametrize("status", [200, 204, 206])
@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_what_is_no_listing_is_no_empty_folder(here, kind, raw, status):
    """A mirror from a server that is not that of the store fails with a hint, and deletes nothing."""
    with Liar(lambda *_: xml(raw, status)) as liar:
        text = f"DefaultEndpointsProtocol=http;AccountName=t;AccountKey=a2V5;BlobEndpoint={liar.url()}/t"
        options = {
            "s3": {"key": "AKIA", "secret": "s3cr3t", "endpoint_url": liar.url(), "region": "us-east-1"},
            "gs": {"endpoint_url": liar.url(), "token": "anon"},
            "az": {"connection_string": text},
        }
        found, names = mirrored(transfers_of(here, f"{kind}://b/root", options[kind]), here)
    assert (found.state, found.code, names) == (TaskState.FAILED, "ENDPOINT_ERROR", {"f", "g"})
    assert "not a complete response" in found.reason or "not JSON" in found.reason
    assert "500" not in found.reason


@pytest.mark.parametrize("name", ["LastModified", "Size", "Key"])
@pytest.mark.parametrize("value", [None, "", "yesterday"])
def test_a_listing_of_a_bucket_that_lacks_a_value_is_named(bucket, here, name, value):
    """A missing, empty or odd value in a listing fails a mirror with one message, and deletes nothing."""
    liar, transfers = bucket
    told = "" if value is None else f"<{name}>{value}</{name}>"
    entry = re.sub(f"<{name}>.*</{name}>", told, ENTRY.format("root/f"))
    liar.answer = lambda *_: xml(LISTING.format(more="false", token="", entries=entry))
    status, names = mirrored(transfers, here)
    assert (status.state, names) == (TaskState.FAILED, {"f", "g"})
    if name != "Key" or value is None:
        assert (status.code, "check endpoint_url" in status.reason) == ("ENDPOINT_ERROR", True), status.reason


@pytest.mark.parametrize("header", [{"Last-Modified": "yesterday"}, {"Last-Modified": ""}, {}])
def test_headers_of_a_bucket_that_make_no_sense_are_named(bucket, here, header):
    """An odd time of an object, or a response without a tag, fails with the same message."""
    liar, transfers = bucket
    liar.answer = lambda *_: (
        200,
        {"Content-Length": "6", **({"ETag": '"x"'} if header else {}), **header},
        [b"inside"],
    )
    status = moved(transfers, "/f", recursive=False)
    assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR")
    assert "check endpoint_url" in status.reason
    unharmed(here)


#: Web pages, one of which is well-formed XML.
PAGES = ["<!doctype html><html><title>Console</title></html>", "<html><body>Log in</body></html>", "ok", ""]


@pytest.mark.parametrize("raw", PAGES)
@pytest.mark.parametrize("tag", ["", '"abc"', '"66f2b3c4-264"', 'W/"abc"'])
def test_a_web_page_is_no_object_and_takes_none(bucket, here, raw, tag):
    """A server that sends the same page for every request gives no file, and no request counts as done."""
    liar, transfers = bucket
    headers = {"Content-Type": "text/html", "Content-Length": str(len(raw))}
    headers |= {"ETag": tag, "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"} if tag else {}
    liar.answer = lambda *_: (200, headers, [raw.encode()])
    (here / "f").write_bytes(b"inside")
    (here / "g").write_bytes(bytes(9 << 20))
    requests = [
        transfer_request(src_ep="there", dst_ep="here", src_path="/f", dst_path="/h"),
        transfer_request(src_ep="here", dst_ep="there", src_path="/f", dst_path="/f"),
        transfer_request(src_ep="here", dst_ep="there", src_path="/g", dst_path="/g"),
        delete_request(src_ep="there", src_path="/f"),
        delete_request(src_ep="there", src_path="/d", recursive=True),
    ]
    for request in requests:
        status = transfers.run(request, timeout=60.0, polling_interval=1)
        assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR"), request
        assert "check endpoint_url" in status.reason
    unharmed(here)


@pytest.mark.parametrize("listed", [listing("root/f"), xml("<Error><Code>AccessDenied</Code></Error>", 403)])
def test_an_unusual_tag_of_a_bucket_is_accepted(bucket, here, listed):
    """An object whose tag is not made of MD5s arrives if a listing, or its refusal, shows that the server is S3."""
    liar, transfers = bucket
    file = 200, {"Content-Length": "6", "ETag": '"abc"'}, [b"inside"]
    liar.answer = lambda _method, path: listed if "list-type=2" in path else file
    assert moved(transfers, "/f", recursive=False).state is TaskState.SUCCEEDED
    assert (here / "f").read_bytes() == b"inside"


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_of_a_bucket_takes_no_signature_along(bucket, here, status):
    """A request that is signed for one server is not sent to another."""
    liar, transfers = bucket
    with Liar(lambda *_: listing("root/f")) as elsewhere:
        liar.answer = lambda _method, path: (
            status,
            {"Location": elsewhere.url("localhost") + path, "Content-Length": "0"},
            [],
        )
        asked(transfers)
        moved(transfers, "/f", recursive=False)
        for _, path, headers, _ in elsewhere.asked:
            assert "AKIA" not in path + str(headers)


@pytest.mark.parametrize("raw", ["", "<", "<a/>", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "\x1b[2J", "&#27;[2J"])
@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_nonsense_of_a_bucket_is_a_failure(bucket, here, raw, status):
    """Any document is a response or a failure with a message of Chiltepin."""
    liar, transfers = bucket
    liar.answer = lambda *_: xml(raw, status)
    asked(transfers)
    found = moved(transfers, "/f", recursive=False)
    # The content of a file can be anything.
    assert found.state is TaskState.FAILED or status == 200
    assert found.reason.isprintable()
    unharmed(here)


def test_a_swelling_document_of_a_bucket_is_put_down(bucket, here):
    """Entities that expand to a billion characters are not expanded."""
    liar, transfers = bucket
    bomb = '<!DOCTYPE a [<!ENTITY a "' + "x" * 1000 + '">'
    for one, next_one in itertools.pairwise("abcdefghij"):
        bomb += f'<!ENTITY {next_one} "' + f"&{one};" * 10 + '">'
    liar.answer = lambda *_: xml(f"<?xml version='1.0'?>{bomb}]><ListBucketResult><Name>&j;</Name></ListBucketResult>")
    said = asked(transfers)
    assert isinstance(said, str) or len(str(said)) < 10_000
