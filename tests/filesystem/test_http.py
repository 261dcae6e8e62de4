"""A web server is a read-only source: files are read in parts of one version or in order; redirects stay on HTTP."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone

import pytest
import xxhash
from webservers import web_server
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.local.writer import PART
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.stores.http.store import HttpStore
from chiltepin.backends.filesystem.stores.proxies import proxy_for
from chiltepin.errors import ConfigError, UnsupportedOptionError
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

CONTENT = os.urandom(3 << 20)
SECRET = "Bearer hush"  # noqa: S105 - not a real secret


class Quiet(WSGIRequestHandler):
    """A handler that logs nothing and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log(self, kind, message, *args):
        """Log nothing."""


class Web:
    """A web server whose responses a test can set."""

    def __init__(self) -> None:
        self.files = {"/data/f.dat": CONTENT, "/data/small": b"small", "/data/empty": b"", "/outside": b"secret"}
        self.answers = {}
        self.asked = []

    def __call__(self, environ, start_response):
        """Answer one request."""
        request = Request(environ)
        self.asked.append((request.method, request.path, dict(request.headers)))
        try:
            response = self.answers.get(request.path, self.file)(request)
        except HTTPException as err:
            response = err
        return response(environ, start_response)

    def file(self, request):
        """Serve a file with ranges and an ETag."""
        content = self.files.get(request.path)
        if content is None:
            return Response("no such page", 404)
        response = Response(content, mimetype="application/octet-stream")
        response.set_etag(hashlib.sha256(content).hexdigest())
        return response.make_conditional(request, accept_ranges=True, complete_length=len(content))


class Old(Quiet):
    """A handler of HTTP/1.0, where the end of the connection is the end of a body without a length."""

    protocol_version = "HTTP/1.0"


@contextmanager
def serving(application, host="127.0.0.1", handler=Quiet):
    """Serve on a loopback port; yield the URL."""
    server = make_server(host, 0, application, threaded=True, request_handler=handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.fixture
def web(monkeypatch):
    """A running web server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    application = Web()
    with serving(application) as application.url:
        yield application


@pytest.fixture
def transfers(web, tmp_path):
    """Transfers between the endpoints ``web`` and ``disk``."""
    endpoints = {
        "web": {"url": f"{web.url}/data", "options": {"headers": {"Authorization": SECRET, "X-Key": SECRET}}},
        "disk": {"url": str(tmp_path)},
    }
    places = {name: place_of(name, settings) for name, settings in endpoints.items()}
    # Retries do not wait.
    return Transfers(FilesystemBackend(places, pause=lambda *_: None))


def fetch(transfers, path, **options):
    """Transfer one file to the disk."""
    request = transfer_request(src_ep="web", dst_ep="disk", src_path=path, dst_path=path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def store(web, **options):
    """Open the server's store."""
    return HttpStore(f"{web.url}/data", options)


@pytest.mark.parametrize("name", ["f.dat", "small", "empty"])
def test_a_file_is_got(transfers, web, tmp_path, name):
    """Files of any size arrive unchanged."""
    assert fetch(transfers, f"/{name}").state.name == "SUCCEEDED"
    assert (tmp_path / name).read_bytes() == web.files[f"/data/{name}"]


def test_parts_are_got_apart(web):
    """A file with an ETag is read in parts, each requested with If-Range."""
    with store(web).folder(()).read("f.dat") as reader:
        assert (reader.parts, reader.size) == (True, len(CONTENT))
        block = memoryview(bytearray(1000))
        assert reader.read_at(2_000_000, block) == 1000
        assert bytes(block) == CONTENT[2_000_000:2_001_000]
        assert reader.read_at(len(CONTENT) - 10, block) == 10
    assert all("If-Range" in headers for _, _, headers in web.asked[1:])


def test_parts_of_two_contents_are_never_put_together(web):
    """Replacing a file while its parts are read is a fault."""
    with store(web).folder(()).read("f.dat") as reader:
        web.files["/data/f.dat"] = os.urandom(len(CONTENT))
        with pytest.raises(Exception, match="changed during the copy"):
            reader.read_at(2_000_000, memoryview(bytearray(1000)))


def plain(request):
    """Serve a file without ranges and without its size."""
    return Response((CONTENT[at : at + 65536] for at in range(0, len(CONTENT), 65536)), direct_passthrough=True)


def test_without_ranges_it_is_got_in_order(transfers, web, tmp_path):
    """A file that the server sends in chunks, without its size, arrives."""
    web.answers["/data/f.dat"] = plain
    assert fetch(transfers, "/f.dat").state.name == "SUCCEEDED"
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


def short(request):
    """Announce more bytes than are sent."""
    return Response(iter([CONTENT[:1000]]), headers={"Content-Length": str(len(CONTENT))}, direct_passthrough=True)


def test_a_truncated_answer_is_a_fault(transfers, web, tmp_path):
    """A truncated response leaves no file and is a transient error."""
    web.answers["/data/f.dat"] = lambda request: short(request) if request.method == "GET" else web.file(request)
    assert fetch(transfers, "/f.dat").state.name == "FAILED"
    assert os.listdir(tmp_path) == []
    opened = store(web)
    whole = memoryview(bytearray(len(CONTENT)))
    with opened.folder(()).read("f.dat") as reader, pytest.raises(ConnectionResetError) as caught:
        reader.readinto(whole)
    assert opened.transient(caught.value)


@pytest.fixture
def old(web, tmp_path):
    """A web server of HTTP/1.0, with transfers from it."""
    application = Web()
    with serving(application, handler=Old) as url:
        places = {"web": place_of("web", {"url": f"{url}/data"}), "disk": place_of("disk", {"url": str(tmp_path)})}
        application.transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
        yield application


def endless(content, told=None, head=(), **headers):
    """Return an answer whose body has no length; HEAD reports ``told`` bytes."""

    def answer(request):
        if request.method == "HEAD":
            length = {} if told is None else {"Content-Length": str(told)}
            return Response(iter([]), headers={**headers, **dict(head), **length})
        return Response(iter([content]), headers=headers, direct_passthrough=True)

    return answer


@pytest.mark.parametrize("content", [CONTENT[:-1000], b""])
def test_a_body_without_a_length_that_ends_early_is_a_lost_connection(old, tmp_path, content):
    """A body that ends with the connection must have the length that HEAD reports; a retry may get all of it."""
    old.answers["/data/f.dat"] = cut = endless(content, len(CONTENT))
    status = fetch(old.transfers, "/f.dat")
    assert (status.state.name, status.code) == ("FAILED", "CONNECTION_RESET")
    assert os.listdir(tmp_path) == []
    times = iter([cut] * 2)
    whole = endless(CONTENT, len(CONTENT))
    old.answers["/data/f.dat"] = lambda request: (next(times, whole) if request.method == "GET" else whole)(request)
    status = fetch(old.transfers, "/f.dat")
    assert (status.state.name, status.faults) == ("SUCCEEDED", 2)
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    "answer",
    [
        endless(CONTENT, len(CONTENT)),
        endless(CONTENT),
        # A program that answers HEAD without making the page.
        endless(CONTENT, 0),
        # The length of the page before, or after, its compression.
        endless(CONTENT, len(CONTENT) + 1, **GZIP),
        endless(CONTENT, len(CONTENT) + 1, GZIP.items()),
    ],
    ids=["right", "none", "zero", "compressed", "compressed for HEAD"],
)
def test_a_body_without_a_length_arrives(old, tmp_path, answer):
    """A body that ends with the connection arrives if HEAD reports no length of the same bytes, or a smaller one."""
    old.answers["/data/f.dat"] = answer
    status = fetch(old.transfers, "/f.dat")
    assert status.state.name == "SUCCEEDED", status.reason
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_response_that_follows_early_hints_is_the_response(transfers, web, tmp_path, ranges, times):
    """Any number of interim responses before the final one is ignored."""

    def hinted(request):
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        request.environ["werkzeug.socket"].sendall(hints * times)
        return web.file(request) if ranges else plain(request)

    web.answers["/data/f.dat"] = hinted
    status = fetch(transfers, "/f.dat")
    assert (status.state.name, status.faults) == ("SUCCEEDED", 0), status.reason
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


def test_interim_responses_without_an_end_are_an_error(web):
    """A server that sends interim responses on and on is refused."""

    def hinted(request):
        request.environ["werkzeug.socket"].sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
        return web.file(request)

    web.answers["/data/f.dat"] = hinted
    with pytest.raises(Exception, match="answered with status 103"):
        store(web).folder(()).read("f.dat")


@pytest.mark.parametrize("second", [len(CONTENT), len(CONTENT) - 5])
def test_a_length_that_is_sent_twice_must_be_the_same(transfers, web, tmp_path, second):
    """Two equal lengths are one, and two different ones are an error that says so."""

    def twice(request):
        lengths = [("Content-Length", str(length)) for length in (len(CONTENT), second)]
        return Response(iter([CONTENT]), headers=lengths, direct_passthrough=True)

    web.answers["/data/f.dat"] = twice
    status = fetch(transfers, "/f.dat")
    if second == len(CONTENT):
        assert status.state.name == "SUCCEEDED", status.reason
        assert (tmp_path / "f.dat").read_bytes() == CONTENT
        assert store(web).folder(()).entry("f.dat").size == len(CONTENT)
    else:
        assert (status.state.name, status.code, status.faults) == ("FAILED", "ENDPOINT_ERROR", 1)
        assert "sends contradictory lengths for /f.dat" in status.reason


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [(404, "FILE_NOT_FOUND", False), (403, "PERMISSION_DENIED", False), (503, "ENDPOINT_ERROR", True)],
)
def test_an_answer_has_its_code(web, status, code, transient):
    """The HTTP status determines the code of the fault and whether the error is transient."""
    from chiltepin.backends.filesystem.errors import fault_of

    web.answers["/data/f.dat"] = lambda _: Response("no", status)
    opened = store(web)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its code is checked
        opened.folder(()).read("f.dat")
    assert fault_of(caught.value, "Copying").code == code
    assert opened.transient(caught.value) is transient


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1:9", "Connection refused"), ("nowhere.invalid", ".*[Nn]ame.*")]
)
def test_a_server_that_is_not_reached_is_transient(web, host, reason):
    """An unreachable server is a transient error that includes the system's reason."""
    opened = HttpStore(f"http://{host}", {})
    with pytest.raises(ConnectionError, match=rf"could not be reached \({reason}\)") as caught:
        opened.folder(()).entry("f")
    assert opened.transient(caught.value)


def test_a_redirect_leads_to_a_web_server_only(web):
    """A server can redirect to an HTTP URL, but not to a local file."""
    web.answers["/data/here"] = lambda _: Response("", 302, headers={"Location": "/data/small"})
    web.answers["/data/file"] = lambda _: Response("", 302, headers={"Location": "file:///etc/passwd"})
    folder = store(web).folder(())
    with folder.read("here") as reader:
        assert reader.size == 5
    with pytest.raises(Exception, match="to a URL that is not HTTP"):
        folder.read("file")


def test_headers_stay_with_their_server(transfers, web):
    """Headers from the options are not sent to another server after a redirect."""
    other = Web()
    with serving(other) as url:
        web.answers["/data/f.dat"] = lambda _: Response("", 302, headers={"Location": f"{url}/data/small"})
        fetch(transfers, "/f.dat")
    assert {headers.get("X-Key") for _, _, headers in web.asked} == {SECRET}
    assert other.asked
    assert not any({"X-Key", "Authorization"} & set(headers) for _, _, headers in other.asked)


def test_no_name_leads_out_of_the_root(transfers, web):
    """No characters in a file name act as URL syntax."""
    for path in ("/..%2Foutside", "/%2e%2e/outside", "/x?/../outside"):
        assert fetch(transfers, path).code == "FILE_NOT_FOUND"
    assert not any(path == "/outside" for _, path, _ in web.asked)


def test_writing_and_deleting_are_refused_at_once(transfers, web):
    """Writing to a web server and deleting there are refused without a request to it."""
    goal = transfer_request(src_ep="disk", dst_ep="web", src_path="/f", dst_path="/f")
    for request in (goal, delete_request(src_ep="web", src_path="/small")):
        with pytest.raises(UnsupportedOptionError, match="is read-only"):
            transfers.run(request, timeout=10, polling_interval=1)
    assert web.asked == []


def index(request):
    """Serve the index page of a folder."""
    links = '<a href="../">up</a><a href="small">small</a><a href="/data/sub/">sub</a><a href="http://x/y">y</a>'
    return Response(f"<html><head><title>Index of /data</title></head>{links}</html>", mimetype="text/html")


def test_an_index_page_is_a_listing(web):
    """A standard index page lists the entries directly below it; sizes are requested."""
    web.answers["/data/"] = index
    found = {(entry.name, entry.kind, entry.size) for entry in store(web).folder(()).entries() if not entry.fault}
    assert found == {("small", "file", 5), ("sub", "dir", 0)}


def test_a_page_is_no_listing(web):
    """Any other page is refused, so that its links do not count as files."""
    web.answers["/data/"] = lambda _: Response('<title>Home</title><a href="small">s</a>', mimetype="text/html")
    with pytest.raises(Exception, match="name the files one by one"):
        list(store(web).folder(()).entries())


def test_no_secret_is_in_an_error(transfers, web):
    """An error contains neither headers nor URLs, nor do its attributes and causes."""
    web.answers["/data/f.dat"] = lambda _: Response("no", 500)
    with pytest.raises(Exception, match="status 500") as caught:
        store(web, headers={"Authorization": SECRET}).folder(()).read("f.dat")
    seen, error = fetch(transfers, "/f.dat").reason, caught.value
    while error is not None:
        seen, error = seen + repr(error) + repr(vars(error)), error.__cause__ or error.__context__
    assert "hush" not in seen
    assert web.url not in seen


@pytest.mark.parametrize("settings", [{"options": {"client_kwargs": {}}}, {"url": "https://me:pw@host/"}])
def test_what_it_does_not_know_is_refused(settings):
    """An unknown option, or a password in a URL, is a configuration error."""
    with pytest.raises(ConfigError):
        HttpStore(settings.get("url", "https://host/"), settings.get("options", {}))


TEXT = b"station,temperature\n" * 200_000
STORED = gzip.compress(TEXT, mtime=0)


def encoded(request, **headers):
    """Serve a file that is stored compressed, with ranges of the stored bytes, as object stores do."""
    response = Response(STORED, headers={"Content-Encoding": "gzip", **headers})
    return response.make_conditional(request, accept_ranges=True, complete_length=len(STORED))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_is_kept_compressed_arrives_as_it_is_kept(transfers, web, tmp_path, ranges):
    """A content encoding is not decoded: sizes, ranges and checksums are those of the stored bytes."""
    length = {"Content-Encoding": "gzip"}
    whole = lambda _: Response(iter([STORED]), headers=length)  # noqa: E731 - used below
    web.answers["/data/t.csv"] = (lambda request: encoded(request, ETag='"1"')) if ranges else whole
    assert fetch(transfers, "/t.csv").state.name == "SUCCEEDED"
    assert (tmp_path / "t.csv").read_bytes() == STORED


def test_an_encoding_that_changes_between_two_parts_is_a_fault(web):
    """A part whose encoding differs from the first part's is a fault, even if all else is the same."""
    with store(web).folder(()).read("f.dat") as reader:
        known = web.file
        web.answers["/data/f.dat"] = lambda request: encoding(known(request))
        with pytest.raises(Exception, match="changed during the copy"):
            reader.read_at(2_000_000, memoryview(bytearray(1000)))


def encoding(response):
    """Mark a response as encoded."""
    response.headers["Content-Encoding"] = "gzip"
    return response


def without_ranges(request):
    """Refuse every range, as some servers do for generated files."""
    return Response("no", 416) if "Range" in request.headers else Response(CONTENT)


def wrong_range(request):
    """Answer with an impossible range, whose end exceeds the size."""
    if "Range" not in request.headers:
        return Response(CONTENT)
    return Response(CONTENT[:1000], 206, headers={"Content-Range": "bytes 0-999/5", "ETag": '"1"'})


def several_ranges(request):
    """Answer a single range as multipart/byteranges."""
    if "Range" not in request.headers:
        return Response(CONTENT)
    body = b"--x\r\nContent-Range: bytes 0-3/4\r\n\r\nabcd\r\n--x--"
    return Response(body, 206, mimetype="multipart/byteranges; boundary=x", headers={"ETag": '"1"'})


def just_changed(request):
    """Send the current time as Last-Modified, which may stay the same if the file changes again."""
    response = Response(CONTENT)
    response.date = response.last_modified = datetime.now(timezone.utc)
    return response.make_conditional(request, accept_ranges=True, complete_length=len(CONTENT))


def weak(request):
    """Send a weak ETag, which does not identify the bytes."""
    response = Response(CONTENT)
    response.set_etag("1", weak=True)
    return response.make_conditional(request, accept_ranges=True, complete_length=len(CONTENT))


@pytest.mark.parametrize("answer", [without_ranges, wrong_range, several_ranges, just_changed, weak])
def test_a_range_that_cannot_be_trusted_is_not_used(transfers, web, tmp_path, answer):
    """A file without valid ranges or without a strong validator is read whole and in order."""
    web.answers["/data/f.dat"] = answer
    assert fetch(transfers, "/f.dat").state.name == "SUCCEEDED"
    assert (tmp_path / "f.dat").read_bytes() == CONTENT
    with store(web).folder(()).read("f.dat") as reader:
        assert (reader.parts, reader.content_id) == (False, "")


def dated(request, content):
    """Serve a file with ranges and an old Last-Modified, without an ETag."""
    response = Response(content)
    response.date, response.last_modified = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2020, 2010))
    return response.make_conditional(request, accept_ranges=True, complete_length=len(content))


def test_a_tag_that_becomes_strong_is_no_change(transfers, web, tmp_path):
    """A file whose ETag is weak at first, as Apache's is for a second after a change, arrives."""

    def serve(request):
        response = Response(CONTENT)
        response.date, response.last_modified = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2020, 2010))
        response.set_etag("1", weak="If-Range" not in request.headers)
        return response.make_conditional(request, accept_ranges=True, complete_length=len(CONTENT))

    web.answers["/data/f.dat"] = serve
    assert fetch(transfers, "/f.dat").state.name == "SUCCEEDED"
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["apache", "apache-untagged", "nginx", "lighttpd"])
def test_a_file_of_a_real_server_arrives_however_new_it_is(monkeypatch, tmp_path, kind):
    """A large file that was changed some seconds ago arrives, although its ETag may be weak and its time too new."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with web_server(kind) as (url, root):
        places = {"web": place_of("web", {"url": url}), "disk": place_of("disk", {"url": str(tmp_path)})}
        transfers = Transfers(FilesystemBackend(places, pause=lambda *_: None))
        for age in (0, 2, 30, 90):
            (root / f"f{age}").write_bytes(CONTENT)
            # Almost a second more: the time in seconds seems older than it is.
            changed = time.time() - age - 0.9
            os.utime(root / f"f{age}", (changed, changed))
            status = fetch(transfers, f"/f{age}")
            assert (status.state.name, status.faults) == ("SUCCEEDED", 0), (age, status.reason)
            assert (tmp_path / f"f{age}").read_bytes() == CONTENT


@pytest.mark.parametrize("names", ["time", "tag"])
def test_a_server_that_serves_no_range_under_a_condition_is_read_in_order(transfers, web, tmp_path, names):
    """A file arrives from a server that answers every If-Range with the whole file."""

    def serve(request):
        if "If-Range" in request.headers:
            request.environ.pop("HTTP_RANGE")
            request = Request(request.environ)
        return dated(request, CONTENT) if names == "time" else web.file(request)

    web.answers["/data/f.dat"] = serve
    status = fetch(transfers, "/f.dat")
    assert status.state.name == "SUCCEEDED", status.reason
    assert (tmp_path / "f.dat").read_bytes() == CONTENT
    # The next file is not tried in parts.
    web.answers["/data/g.dat"], web.files["/data/g.dat"] = serve, CONTENT
    web.asked.clear()
    assert fetch(transfers, "/g.dat").faults == 0
    assert not [headers for _, _, headers in web.asked if "If-Range" in headers]


def tagged(tag, content=CONTENT, *, conditions=True):
    """Return an answer with ranges and an ETag; without ``conditions``, If-Range gets the whole file."""

    def answer(request):
        if "If-Range" in request.headers and not conditions:
            request.environ.pop("HTTP_RANGE")
            request = Request(request.environ)
        response = Response(content, headers={"ETag": tag})
        return response.make_conditional(request, accept_ranges=True, complete_length=len(content))

    return answer


def moved(url):
    """Return a redirect."""
    return Response("", 302, headers={"Location": url})


@contextmanager
def mirrors(web, path, *tags):
    """Redirect each request of a path to the next mirror; yield the mirrors, each with its ETag."""
    with ExitStack() as stack:
        found = []
        for tag in tags:
            mirror = Web()
            mirror.url = stack.enter_context(serving(mirror))
            mirror.answers[path] = tagged(tag)
            found.append(mirror)
        turns = itertools.cycle(found)
        web.answers[path] = lambda _: moved(next(turns).url + path)
        yield found


def test_all_ranges_of_a_file_come_from_one_mirror(transfers, web, tmp_path):
    """If each request is redirected to another mirror, all ranges are requested from the first one."""
    with mirrors(web, "/data/f.dat", '"a"', '"b"') as (one, other):
        status = fetch(transfers, "/f.dat")
        assert (status.state.name, status.faults) == ("SUCCEEDED", 0), status.reason
        ranges = [["If-Range" in headers for _, _, headers in mirror.asked] for mirror in (one, other)]
    assert (tmp_path / "f.dat").read_bytes() == CONTENT
    assert sorted(any(asked) for asked in ranges) == [False, True]


@pytest.mark.parametrize("status", [403, 404, 410, 503])
@pytest.mark.parametrize("tag", ['"a"', '"b"'])
def test_a_redirect_that_has_expired_is_followed_anew(transfers, web, tmp_path, status, tag):
    """If the target of a redirect serves no more ranges, the first URL is requested again, and its target has them."""
    with mirrors(web, "/data/f.dat", '"a"', '"a"', tag) as (_, one, other):
        one.answers["/data/f.dat"] = lambda request: (
            Response("no", status) if "If-Range" in request.headers else tagged('"a"')(request)
        )
        found = fetch(transfers, "/f.dat")
        assert (found.state.name, found.faults) == ("SUCCEEDED", 0), found.reason
        assert other.asked
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("dates", [("2010", "2010"), ("2010", "2011")], ids=["one time", "two times"])
def test_a_file_of_servers_that_disagree_is_read_in_order(transfers, web, tmp_path, before, dates):
    """A file of which two servers behind one name have different ETags or times arrives in one response."""
    tags = itertools.chain(['"a"'] * before, itertools.cycle(['"b"', '"a"']))

    def serve(request):
        tag = next(tags)
        response = tagged(tag)(request)
        response.headers["Last-Modified"] = f"Fri, 01 Jan {dates['a' in tag]} 00:00:00 GMT"
        return response

    web.answers["/data/f.dat"] = serve
    status = fetch(transfers, "/f.dat")
    assert status.state.name == "SUCCEEDED", status.reason
    assert (tmp_path / "f.dat").read_bytes() == CONTENT
    web.asked.clear()
    assert fetch(transfers, "/f.dat").faults == 0


@pytest.mark.parametrize("first", ["static", "app"])
def test_what_one_folder_serves_is_not_expected_of_another(transfers, web, tmp_path, first):
    """Each folder of a server may serve ranges under a condition or not, in whatever order the files are read."""
    web.answers["/data/static/f"], web.answers["/data/app/f"] = tagged('"1"'), tagged('"1"', conditions=False)
    for name in (first, "static", "app"):
        status = fetch(transfers, f"/{name}/f")
        assert (status.state.name, status.faults) == ("SUCCEEDED", 0), status.reason
        assert (tmp_path / name / "f").read_bytes() == CONTENT
    with store(web).folder(("static",)).read("f") as reader:
        assert reader.parts


def test_two_files_of_one_folder_may_differ(transfers, web, tmp_path):
    """A file without ranges under a condition arrives after one with them from the same folder."""
    web.answers["/data/f"], web.answers["/data/g"] = tagged('"1"'), tagged('"1"', conditions=False)
    for name in ("f", "g"):
        assert fetch(transfers, f"/{name}").state.name == "SUCCEEDED"
        assert (tmp_path / name).read_bytes() == CONTENT


def test_a_file_that_changes_while_it_is_read_is_read_again(transfers, web, tmp_path):
    """If a file changes between two of its ranges, all of the new content arrives."""
    new, times = os.urandom(len(CONTENT) + 1), itertools.count()

    def serve(request):
        # The first request is HEAD, the second is the first range, and the third tries a condition.
        return tagged('"1"')(request) if next(times) < 3 else tagged('"2"', new)(request)

    web.answers["/data/f.dat"] = serve
    status = fetch(transfers, "/f.dat")
    assert (status.state.name, status.faults) == ("SUCCEEDED", 1), status.reason
    assert (tmp_path / "f.dat").read_bytes() == new


@pytest.mark.parametrize("names", ["time", "tag"])
@pytest.mark.parametrize("replaced", [True, False])
def test_what_a_killed_run_left_is_not_mixed_with_another_content(transfers, web, tmp_path, names, replaced):
    """A resumed copy has only current parts; without an ETag, kept parts are read again to compare."""
    old, new = (os.urandom(3 * PART + 5) for _ in range(2))

    def serve(content):
        web.files["/data/f"] = content
        if names == "time":
            web.answers["/data/f"] = lambda request: dated(request, content)

    serve(old)
    with (
        store(web).folder(()).read("f") as reader,
        LocalStore(str(tmp_path)).folder(()) as there,
        there.temp_file("f", size=len(old), content_id=reader.content_id) as left,
    ):
        left.write_at(PART, memoryview(old)[PART : 2 * PART])
        left.mark_verified(PART, xxhash.xxh3_128_digest(old[PART : 2 * PART]))
        # As if the process had been killed here.
        left._committed = True
    serve(new if replaced else old)
    web.asked.clear()
    assert fetch(transfers, "/f").state.name == "SUCCEEDED"
    assert (tmp_path / "f").read_bytes() == (new if replaced else old)
    assert os.listdir(tmp_path) == ["f"]
    ranges = {headers.get("Range", "") for _, _, headers in web.asked}
    saved = names == "tag" and not replaced
    assert any(f"bytes={PART}-" in asked for asked in ranges) != saved


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501, 204])
def test_a_file_whose_server_refuses_head_is_got(transfers, web, tmp_path, status):
    """Where the server refuses HEAD, GET is used instead, as for a URL that is signed only for GET."""
    known = web.file
    web.file = lambda request: Response("", status) if request.method == "HEAD" else known(request)
    for name in ("f.dat", "small", "empty"):
        assert fetch(transfers, f"/{name}").state.name == "SUCCEEDED"
        assert (tmp_path / name).read_bytes() == web.files[f"/data/{name}"]
    # HEAD is not repeated after a permanent failure.
    assert sum(method == "HEAD" for method, _, _ in web.asked) == (3 if status == 500 else 1)
    assert fetch(transfers, "/gone").code == "FILE_NOT_FOUND"


@pytest.mark.parametrize(("head", "level"), [({}, "size"), ({}, "mtime"), ({}, "checksum"), ({"ETag": '"1"'}, "size")])
def test_a_size_that_is_not_told_leaves_nothing_alone(transfers, web, tmp_path, head, level):
    """A file of unknown size is copied again at sync levels size and mtime, also over an empty destination."""
    stream = lambda _: Response(iter([CONTENT]), headers=head, direct_passthrough=True)  # noqa: E731 - used twice
    web.answers["/data/f.dat"] = stream
    (tmp_path / "f.dat").write_bytes(b"")
    assert fetch(transfers, "/f.dat", sync_level=level).files_done == 1
    assert (tmp_path / "f.dat").read_bytes() == CONTENT
    assert fetch(transfers, "/f.dat", sync_level=level).files_skipped == (level == "checksum")


def test_a_length_that_head_gets_wrong_is_not_believed(transfers, web, tmp_path):
    """The complete file arrives even if HEAD reports a wrong length."""
    known = web.file
    lying = lambda _: Response("", headers={"Content-Length": "4"})  # noqa: E731 - used below
    web.file = lambda request: lying(request) if request.method == "HEAD" else known(request)
    assert fetch(transfers, "/f.dat").state.name == "SUCCEEDED"
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [202, 204, 205, 206, 300, 304])
def test_an_answer_that_is_not_a_file_is_not_saved_as_one(transfers, web, tmp_path, status):
    """A response such as "Accepted" or "No Content" is not saved as a file."""
    web.answers["/data/f.dat"] = lambda _: Response(b"" if status in (204, 304) else b"wait", status)
    assert fetch(transfers, "/f.dat").state.name == "FAILED"
    assert os.listdir(tmp_path) == []


def test_an_address_of_ipv6_is_a_host(tmp_path, monkeypatch):
    """A URL may contain an IPv6 address in brackets."""
    monkeypatch.setenv("no_proxy", "[::1]")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    application = Web()
    try:
        serve = serving(application, "::1")
        url = serve.__enter__()
    except OSError:
        pytest.skip("There is no IPv6 on the loopback here.")
    try:
        places = {"web": place_of("web", {"url": f"{url}/data"}), "disk": place_of("disk", {"url": str(tmp_path)})}
        assert fetch(Transfers(FilesystemBackend(places)), "/f.dat").state.name == "SUCCEEDED"
    finally:
        serve.__exit__(None, None, None)
    assert (tmp_path / "f.dat").read_bytes() == CONTENT


NO_PROXY = [
    ("http://example.org/", "*", True),
    ("http://example.org/", "a.org, *", True),
    ("http://example.org/", "example.org", True),
    ("http://www.example.org/", ".example.org", True),
    ("http://www.example.org/", "example.org", True),
    ("http://example.org/", ".example.org", True),
    ("http://badexample.org/", "example.org", False),
    ("http://EXAMPLE.org./", "example.ORG", True),
    ("http://example.org/", "example.org:80", True),
    ("http://example.org:8080/", "example.org:80 other.org", False),
    ("http://example.org:8080/", "other.org example.org:8080", True),
    ("http://10.1.2.3/", "10.0.0.0/8", True),
    ("http://11.1.2.3/", "10.0.0.0/8", False),
    ("http://10.1.2.3:81/", "10.1.2.3", True),
    ("http://1.10.1.2.3.example/", "10.1.2.3", False),
    ("http://[::1]:80/", "[::1]", True),
    ("http://[::1]:81/", "::1", True),
    ("http://[::1]:81/", "[::1]:81", True),
    ("http://[::1]:81/", "[::1]:82", False),
    ("http://[fd00::7]/", "fd00::/8", True),
    ("http://[fd00::7]/", "10.0.0.0/8", False),
    ("http://example.org/", "", False),
    ("http://example.org/", ".", False),
]


@pytest.mark.parametrize(("url", "told", "direct"), NO_PROXY)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_means_what_it_means_to_curl(url, told, direct, name):
    """The variable, in lower or upper case, exempts the same hosts from the proxy as in curl 7.86 and later."""
    found = proxy_for(url, {"http_proxy": "http://proxy:3128", name: told})
    assert found == (None if direct else "http://proxy:3128")


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "https_proxy": ""}, "http://proxy:3128"),
        ({"https_proxy": "http://one", "HTTPS_PROXY": "http://two"}, "http://one"),
        ({"http_proxy": "http://one"}, None),
        ({"ALL_PROXY": "http://all"}, "http://all"),
        ({"all_proxy": "http://all", "https_proxy": "http://one"}, "http://one"),
        ({}, None),
    ],
)
def test_the_proxy_is_that_of_the_scheme(environment, proxy):
    """The variable of the scheme precedes that for all schemes, and lower case precedes upper case."""
    assert proxy_for("https://example.org/", environment) == proxy


def test_a_client_of_a_cgi_program_does_not_name_the_proxy():
    """A CGI program ignores HTTP_PROXY, which a client can set with a header."""
    environment = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil"}
    assert proxy_for("http://example.org/", environment) is None


def test_a_proxy_is_asked_with_its_password(transfers, web, tmp_path, monkeypatch):
    """Requests use the proxy from the environment, with the user and password in its URL."""
    proxy = Web()
    with serving(proxy) as url:
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("http_proxy", url.replace("http://", "http://me:p%40ss@"))
        fetch(transfers, "/small")
    assert web.asked == []
    assert {headers["Proxy-Authorization"] for _, _, headers in proxy.asked} == {"Basic bWU6cEBzcw=="}
