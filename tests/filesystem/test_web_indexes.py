"""The files in a web index are the files that are copied, on real servers and for links of any spelling."""

from __future__ import annotations

import html
import json
import os
import random
import re
import shutil
from urllib.parse import quote

import pytest
from liars import Liar
from webservers import KINDS, files_of, odd_name, odd_tree, web_server

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.errors import ChiltepinError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

SERVERS = [kind for kind in KINDS if kind not in ("apache-dav", "apache-untagged")]


def seeds(few):
    """Return the seeds: a few, as many as CHILTEPIN_TREES says, or a range such as 100:200."""
    first, _, last = os.environ.get("CHILTEPIN_TREES", str(few)).rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def opened(url, folder):
    """Return transfers between the endpoints ``web`` and ``disk``, with retries without a pause."""
    settings = {"web": {"url": url}, "disk": {"url": str(folder)}}
    places = {name: place_of(name, told) for name, told in settings.items()}
    return Transfers(FilesystemBackend(places, pause=lambda *_: None))


def fetch(transfers, **options):
    """Copy the whole web folder to the disk."""
    told = {"src_path": "/", "dst_path": "/got", "recursive": True, **options}
    request = transfer_request(src_ep="web", dst_ep="disk", **told)
    return transfers.run(request, timeout=60, polling_interval=1)


#: Names that a server lists but cannot serve: Tomcat 10 refuses backslashes and invalid UTF-8, and the static files of
#: lighttpd refuse control characters.
NOT_SERVED = {
    "tomcat": lambda name: b"\\" in name or name.decode(errors="replace").encode() != name,
    "lighttpd": re.compile(rb"[\x00-\x1f\x7f]").search,
}


def keep_what_is_served(kind, root):
    """Remove the files that a server cannot serve."""
    refused = NOT_SERVED.get(kind, lambda _: False)
    for folder, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in [*folders, *files]:
            if refused(name):
                path = os.path.join(folder, name)
                shutil.rmtree(path) if name in folders else os.remove(path)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_tree_on_a_real_server_arrives_whole(kind, tmp_path):
    """A tree with any names on a real server arrives complete, byte for byte."""
    with web_server(kind) as (url, root):
        for seed in seeds(4):
            chance = random.Random(f"{kind} {seed}")  # noqa: S311 - reproducible, not secret
            (root / f"t{seed}").mkdir()
            odd_tree(chance, root / f"t{seed}")
        keep_what_is_served(kind, root)
        wanted = files_of(root)
        status = fetch(opened(url, tmp_path))
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_of(tmp_path / "got") == wanted


@pytest.mark.parametrize("kind", SERVERS)
def test_names_that_read_as_characters_of_html_are_no_other_names(kind, tmp_path):
    """Files whose names look like escaped names of other files arrive with their own content."""
    with web_server(kind) as (url, root):
        for name in ("a&b", "a&amp;b", "a&amp;amp;b", "k<", "k&lt", "k&lt;", "d&/f", "d&amp;/f", "n&#65;", "nA"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(f"in {name}")
        wanted = files_of(root)
        status = fetch(opened(url, tmp_path))
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_of(tmp_path / "got") == wanted


def document(body, **headers):
    """Return a response with its length."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return 200, {"Content-Length": str(len(body)), **told}, [body]


def page(*links, title="Index of /"):
    """Return an index page with links: each is a target, or a target and its text."""
    pairs = [(link, link) if isinstance(link, str) else link for link in links]
    body = "".join(f'<a href="{target}">{text}</a>\n' for target, text in pairs)
    whole = f"<html><head><title>{title}</title></head><body>{body}</body></html>"
    return document(whole.encode("utf-8", "surrogateescape"), Content_Type="text/html")


NOTHING = (404, {"Content-Length": "0"}, [])


class Site(Liar):
    """A web server with a few pages, by their request paths; the root of the endpoint is ``/d``."""

    def __init__(self, **pages):
        super().__init__(lambda _method, path: self.pages.get(path, NOTHING))
        self.pages = {"/d/a.nc": document(b"data")}


@pytest.fixture
def site(tmp_path):
    """A site, and its endpoints."""
    with Site() as made:
        made.transfers = opened(f"{made.url()}/d", tmp_path)
        yield made


def spelled(chance, name, *, folder, here, host):
    """Return a link to an entry in one of the spellings of web servers, and its text."""
    kept = chance.choice(["", "/=+()@,", "!$&'()*+,;=@", "~-._:"]) if b":" not in name else "=+()@"
    # A name cannot contain a slash, and a period is never escaped.
    target = quote(name, safe=kept.replace("/", ""))
    if chance.random() < 0.3:
        target = re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), target)
    target = chance.choice(["", "./", here, f"http://{host}{here}", f"//{host}{here}", f"{here}../d/"]) + target
    if folder:
        target += "/"
    shown = name.decode("utf-8", "surrogateescape")
    text = shown if chance.random() < 0.7 or len(shown) < 9 else f"{shown[:6]}..>"
    escape = chance.choice([html.escape, lambda raw: "".join(f"&#{ord(char)};" for char in raw)])
    # A byte that is not valid UTF-8 cannot be written as a character reference.
    return escape(target), html.escape(text)


DECORATION = ["?C=N;O=D", "?C=M&amp;O=A", "../", "/", "#top", "mailto:me@example.org", "javascript:void(0)", ""]


@pytest.mark.timeout(3600)
def test_every_spelling_of_a_link_is_the_same_entry(site):
    """All names are listed, and nothing else, whichever way a server escapes, resolves and writes its links."""
    for seed in seeds(60):
        chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        names = {odd_name(chance): chance.random() < 0.3 for _ in range(8)}
        host = site.url().removeprefix("http://")
        links = [spelled(chance, name, folder=folder, here="/d/", host=host) for name, folder in names.items()]
        links += [(target, "x") for target in chance.sample(DECORATION, 3)]
        site.pages = {"/d/": page(*links)}
        site.pages |= {f"/d/{quote(name, safe='')}": document(b"data") for name, folder in names.items() if not folder}
        listed = {os.fsencode(entry.name): entry.kind == "dir" for entry in site.transfers.ls("web", "/")}
        assert listed == names, (seed, links)


@pytest.mark.parametrize("base", ["/d/", "./", "{url}/d/"])
def test_the_base_of_a_page_is_what_its_links_count_from(site, base):
    """Links are relative to the base that a page names."""
    told = page("a.nc")[2][0].replace(b"<head>", f'<head><base href="{base.format(url=site.url())}">'.encode())
    site.pages["/d/"] = document(told, Content_Type="text/html")
    assert [entry.name for entry in site.transfers.ls("web", "/")] == ["a.nc"]


def test_links_count_from_where_a_folder_was_redirected_to(site, tmp_path):
    """In a redirected folder, relative and absolute links count from the new location."""
    site.pages = {
        "/d/": (302, {"Location": "/2026/x/", "Content-Length": "0"}, []),
        "/2026/x/": page("a.nc", "/2026/x/b.nc"),
        "/2026/x/a.nc": document(b"a"),
        "/2026/x/b.nc": document(b"b"),
    }
    assert fetch(site.transfers).state is TaskState.SUCCEEDED
    assert files_of(tmp_path / "got") == {b"a.nc": b"a", b"b.nc": b"b"}


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (("http://elsewhere.example/x/b.nc", "b.nc"), "lists b.nc, which leads to another server"),
        (("//elsewhere.example/b.nc", "b.nc"), "lists b.nc, which leads to another server"),
        (("/files/d/b.nc", "b.nc"), "lists b.nc, which leads out of the folder"),
        (("/files/d/a-long-name.nc", "a-long-n..>"), "lists a-long-name.nc, which leads out of the folder"),
        (("a%2Fb.nc", "b.nc"), "lists a%2Fb.nc, which is not a name"),
        (("gone.nc", "gone.nc"), "/gone.nc on endpoint 'web' was removed"),
    ],
)
def test_an_entry_that_cannot_be_followed_is_told_and_the_others_come(site, tmp_path, link, why):
    """An entry whose link leads out of the folder fails alone, and then nothing is deleted."""
    site.pages["/d/"] = page(link, "a.nc", ("http://elsewhere.example/", "Powered by"), ("/about", "About us"))
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("stays")
    status = fetch(site.transfers, delete_destination_extra=True)
    assert status.state is TaskState.FAILED
    assert why in status.reason
    assert files_of(tmp_path / "got") == {b"a.nc": b"data", b"extra": b"stays"}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_connection_that_the_server_has_closed_is_replaced(site, tmp_path, most):
    """A tree arrives from a server that closes each kept connection after a few responses, without notice."""
    site.most = most
    names = [f"f{number}" for number in range(40)]
    site.pages["/d/"] = page(*names)
    site.pages |= {f"/d/{name}": document(name.encode()) for name in names}
    status = fetch(site.transfers)
    assert (status.state, status.faults) == (TaskState.SUCCEEDED, 0), status.reason
    assert files_of(tmp_path / "got") == {name.encode(): name.encode() for name in names}


def test_a_request_without_a_response_is_repeated_once(site):
    """A server that closes every connection without a response gets each request twice."""
    site.most = 0
    with pytest.raises(ChiltepinError, match="Connection reset"):
        site.transfers.ls("web", "/")
    assert len(site.asked) == 2


def test_a_number_sign_or_question_mark_that_is_not_escaped_is_part_of_a_name(site, tmp_path):
    """A link with an unescaped ``#`` or ``?`` is the file that its text names, not another file."""
    names = ["a", "a#b", "a?b", "a?C=N", "#x", "d?1/"]
    site.pages["/d/"] = page(*names, ("?C=N;O=D", "Name"), ("#top", "Top"))
    site.pages |= {f"/d/{quote(name)}": document(name.encode()) for name in names}
    site.pages["/d/d%3F1/"] = page("f")
    site.pages["/d/d%3F1/f"] = document(b"f")
    status = fetch(site.transfers)
    assert status.state is TaskState.SUCCEEDED, status.reason
    wanted = {name.encode(): name.encode() for name in names[:-1]}
    assert files_of(tmp_path / "got") == {**wanted, b"d?1/f": b"f"}


@pytest.mark.parametrize("links", [("a", "a/"), ("a/", "a"), ("a/", "a", "a/")], ids=len)
def test_a_file_beside_a_folder_of_its_name_is_an_error(site, tmp_path, links):
    """A file and a folder with the same name in one index, as of an object store, are an error."""
    site.pages["/d/"] = page(*links, "z")
    site.pages |= {"/d/a": document(b"a"), "/d/a/": page("x"), "/d/a/x": document(b"x"), "/d/z": document(b"z")}
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("stays")
    status = fetch(site.transfers, delete_destination_extra=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert files_of(tmp_path / "got") == {b"z": b"z", b"extra": b"stays"}


@pytest.mark.parametrize("status", [403, 404, 410, 500, 501, 503, 302, 202, 204])
def test_an_entry_that_the_server_does_not_give_fails_alone(site, tmp_path, status):
    """An entry without content does not stop the rest, and makes the transfer fail."""
    site.pages["/d/"] = page("a.nc", "private", "z.nc")
    site.pages["/d/z.nc"] = document(b"last")
    site.pages["/d/private"] = (status, {"Content-Length": "0"}, [])
    assert fetch(site.transfers).state is TaskState.FAILED
    assert files_of(tmp_path / "got") == {b"a.nc": b"data", b"z.nc": b"last"}


def test_a_folder_that_is_listed_like_a_file_is_not_taken_for_one(site, tmp_path):
    """The index page of a folder whose link has no slash is not copied as a file, even if HEAD is refused."""
    site.pages["/d/"] = page("sub")
    site.pages["/d/sub"] = (302, {"Location": "/d/sub/", "Content-Length": "0"}, [])
    site.pages["/d/sub/"] = page("b.nc")
    site.pages["/d/sub/b.nc"] = document(b"below")
    known, site.answer = site.answer, lambda method, path: (405, {}, []) if method == "HEAD" else known(method, path)
    assert fetch(site.transfers).state is TaskState.SUCCEEDED
    assert files_of(tmp_path / "got") == {b"sub/b.nc": b"below"}


def cut(body, **headers):
    """Return an index page that ends too early."""
    return 200, {"Content-Type": "text/html", **headers}, [body]


INDEX = page("a.nc", "b.nc")[2][0]
TORN = INDEX[: INDEX.index(b'<a href="b')]
FILE = '{"name": "a.nc", "type": "file", "size": 4}'
NO_INDEX_OF_NGINX = [
    *('{"error": "no"}', "{}", '""', "null", "0", "[]", " [ ] ", "[{}]", "[[]]", "[null]", f"[{FILE}", FILE),
    *(f"[{FILE}, {more}]" for more in ("{}", "null", '"b.nc"', FILE)),
    *('[{"name": "a.nc"}]', '[{"name": "a.nc", "type": "blob"}]', '[{"name": null, "type": "file"}]'),
    '[{"name": "a.nc", "type": ["file"]}]',
]
NOT_AN_INDEX = {
    "short of its length": cut(TORN, **{"Content-Length": str(len(INDEX)), "Connection": "close"}),
    "torn off": cut(TORN),
    "chunked without an end": cut(b"%x\r\n%s\r\n" % (len(TORN), TORN), **{"Transfer-Encoding": "chunked"}),
    "in pages": page("a.nc", ("?page=2", "Next")),
    "in pages by a marker": page("a.nc", ("/d/?C=N&amp;marker=b", "more")),
    "an attachment": document(INDEX, Content_Type="text/html", Content_Disposition="attachment; filename=index.html"),
    "an error page": page("a.nc", title="Not found"),
    "a text": document(INDEX, Content_Type="text/plain"),
    **{f"JSON {body}": document(body.encode(), Content_Type="application/json") for body in NO_INDEX_OF_NGINX},
    "accepted": (202, page("a.nc")[1], page("a.nc")[2]),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_an_empty_folder_of_a_real_server_empties_its_copy(kind, tmp_path):
    """The index page of an empty folder is a complete listing, so that a mirror removes all files."""
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("goes")
    with web_server(kind) as (url, _):
        status = fetch(opened(url, tmp_path), delete_destination_extra=True)
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_of(tmp_path / "got") == {}


@pytest.mark.parametrize("answer", NOT_AN_INDEX.values(), ids=NOT_AN_INDEX)
def test_what_is_not_all_of_an_index_is_an_error(site, tmp_path, answer):
    """A page that is truncated, partial or not an index lists nothing and deletes nothing."""
    site.pages["/d/"] = answer
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("stays")
    assert fetch(site.transfers, delete_destination_extra=True).state is TaskState.FAILED
    assert files_of(tmp_path / "got") == {b"extra": b"stays"}


@pytest.mark.parametrize("year", ["10000", "9" * 30])
def test_a_time_that_no_calendar_has_is_unknown(site, year):
    """In an index in JSON, a time that cannot be converted is unknown, and the file is listed."""
    index = json.dumps([{"name": "a.nc", "type": "file", "size": 1, "mtime": f"Mon, 01 Jan {year} 00:00:00 -0000"}])
    site.pages["/d/"] = document(index.encode(), Content_Type="application/json")
    assert [(entry.name, entry.modified) for entry in site.transfers.ls("web", "/")] == [("a.nc", None)]


def test_names_are_kept_as_bytes_in_any_encoding_of_the_page(site):
    """A name that is not UTF-8 keeps its bytes, escaped or not; a declared encoding applies only to the page."""
    site.pages["/d/"] = page("caf%e9.txt", "caf\udce9-raw.txt")
    site.pages |= {"/d/caf%E9.txt": document(b"1"), "/d/caf%E9-raw.txt": document(b"2")}
    listed = {os.fsencode(entry.name): entry.size for entry in site.transfers.ls("web", "/")}
    assert listed == {b"caf\xe9.txt": 1, b"caf\xe9-raw.txt": 1}
