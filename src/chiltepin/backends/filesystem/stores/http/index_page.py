"""Parse the index page of a web folder.

Web servers write the links of an index page in many ways: relative, absolute or as complete URLs, more or less escaped,
and in any encoding. So a link is resolved as in a browser, against the final URL of the page, and paths are compared as
decoded bytes. A link that looks like an entry of the folder but cannot be one is reported, never skipped.
"""

from __future__ import annotations

import codecs
import json
import re
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urljoin, urlsplit

from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.store import is_valid_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Listed", "absolute", "listed"]

_TITLE = re.compile(rb"<title[^>]*>\s*(index of|directory listing (for|of)|directory:)", re.IGNORECASE)

#: Bytes at the start of a page to search for its title, and at its end to search for the end tag.
_HEAD, _TAIL = 4096, 1024

#: Query keys of links to the next page of a list; links that sort it have other keys (Apache: C, O).
_NEXT = re.compile(
    r"(^|[?&;])(page|offset|start|marker|after|next|cursor|skip|continuation|token)[^=&;]*=", re.IGNORECASE
)

#: How Apache and nginx end a name that they truncate to fit its column.
_CUT = re.compile(r"(\.\.>|\.\.\.|\.\.|\N{HORIZONTAL ELLIPSIS})$")

#: The index of an empty folder by nginx (``ngx_http_autoindex_json``). Any other empty list may come from an API.
_EMPTY = b"[\r\n]"

#: The kinds of entries by their types in an index of nginx.
_KINDS = {"directory": "dir", "file": "file", "other": "other"}

_PORTS = {"http": 80, "https": 443}


class Listed(NamedTuple):
    """One entry of an index page."""

    name: str
    #: "file" may turn out to be a folder; "other" is a link that cannot be followed.
    kind: str
    #: Bytes and time of last modification, if the page has exact values.
    size: int | None = None
    mtime: float | None = None
    #: Whether size and time need no request.
    known: bool = False
    #: Whether it is also listed as a folder.
    both: bool = False
    #: Why an "other" entry cannot be followed; empty for a device or a pipe.
    why: str = ""


#: The target of a link as written in its tag.
_TARGET = re.compile(r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)


class _Link(NamedTuple):
    """One link of a page."""

    target: str
    #: The target before its character references are replaced.
    raw: str
    #: The text of the link.
    shown: str


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.more = "", False
        self.links: list[_Link] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        told = {name: value or "" for name, value in reversed(attrs)}
        if tag == "base":
            self.base = self.base or told.get("href", "")
        if tag in ("a", "link") and "next" in told.get("rel", "").lower().split():
            self.more = True
        if tag == "a":
            self._inside = bool(told.get("href"))
            if self._inside:
                found = _TARGET.search(self.get_starttag_text() or "")
                raw = found[found.lastindex or 0] if found else told["href"]
                self.links.append(_Link(told["href"].strip(), raw.strip(), ""))

    def handle_endtag(self, tag: str) -> None:
        """End the text of a link."""
        if tag == "a":
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Keep the text of a link."""
        if self._inside:
            self.links[-1] = self.links[-1]._replace(shown=self.links[-1].shown + data)


def listed(page: bytes, headers: Mapping[str, str], url: str, where: str, *, told: bool) -> Iterator[Listed]:
    """Yield the entries of an index page, each name once.

    ``url`` is its address after all redirects, and ``where`` the name of the folder in messages. ``told`` tells whether
    the length of the response was known, so that it cannot be truncated. A page that is not a complete index raises
    ``Fault``.
    """
    kind = headers.get("Content-Type", "").lower()
    attached = headers.get("Content-Disposition", "").lower().startswith("attachment")
    if "json" in kind and not attached:
        return _of_json(page, where)
    if "html" not in kind or attached or not _TITLE.search(page[:_HEAD]):
        raise _no_index(where)
    if not told and b"</html>" not in page[-_TAIL:].lower():
        raise Fault("CONNECTION_RESET", f"The index page of {where} is incomplete; run the transfer again.")
    return _of_html(_text(page, kind), url, where)


def _no_index(where: str) -> Fault:
    return Fault("ENDPOINT_ERROR", f"The web server sends no index for {where}; name the files one by one.")


def _text(page: bytes, kind: str) -> str:
    """Decode a page; bytes that are invalid in its encoding are kept, because a name may contain them."""
    found = re.search(r"charset\s*=\s*[\"']?([\w-]+)", kind)
    try:
        encoding = codecs.lookup(found[1]).name if found else "utf-8"
        return page.decode(encoding, "surrogateescape")
    except (LookupError, UnicodeDecodeError):
        return page.decode("utf-8", "surrogateescape")


def _of_json(page: bytes, where: str) -> Iterator[Listed]:
    """Yield the entries of nginx's ``autoindex_format json``; any other JSON is not an index."""
    try:
        entries = json.loads(page.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not (entries or page == _EMPTY) or not all(map(_is_line, entries)):
        raise _no_index(where)
    found = {entry["name"]: _of_line(entry) for entry in entries}
    if len(found) < len(entries):
        raise _no_index(where)
    return iter(found.values())


def _is_line(entry: object) -> bool:
    """Whether a JSON value is an entry of an index of nginx."""
    # A list, since the type may be a value that cannot be hashed.
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry.get("type") in list(_KINDS)


def _of_line(entry: Mapping[str, Any]) -> Listed:
    name, kind = entry["name"], _KINDS[entry["type"]]
    if not is_valid_name(name):
        return Listed(ascii(name).replace("/", "%2F"), "other", why="is not a name")
    size = entry.get("size")
    try:
        mtime = parsedate_to_datetime(entry["mtime"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        mtime = None
    return Listed(name, kind, size if type(size) is int and size >= 0 else None, mtime, known=type(size) is int)


def _of_html(text: str, url: str, where: str) -> Iterator[Listed]:
    parser = _Links()
    parser.feed(text)
    parser.close()
    # The folder may have been redirected, say to its index.html.
    here, base = urlsplit(urljoin(url, ".")), url
    if parser.base:
        base = absolute(url, parser.base) or url
    found: dict[str, Listed] = {}
    more = parser.more
    for link in parser.links:
        target, shown = _meant(link, base, here), link.shown.strip()
        entry = _entry(target, shown, base, here)
        if entry is None:
            more = more or _is_next(target, base, here)
            continue
        known = found.get(entry.name)
        if known is None or (known.kind == "other" and entry.kind == "file"):
            found[entry.name] = entry
        elif {known.kind, entry.kind} == {"file", "dir"}:
            # Only a request for the entry tells its kind: some servers omit the slash in one of two links to a folder.
            found[entry.name] = known._replace(kind="file", both=True)
    if more:
        raise Fault("LIMIT_EXCEEDED", f"The index of {where} has several pages; name the files one by one.")
    return iter(sorted(found.values()))


def _meant(link: _Link, base: str, here: SplitResult) -> str:
    """Return the target of a link, interpreted so that it matches the link's text.

    Tomcat escapes only the texts of its links for HTML: its link to ``a&amp;b`` would elsewhere mean ``a&b``. Other
    servers do not escape ``#`` and ``?``, which then seem to end the path.
    """
    top = _names(here.path)
    readings = [link.target, link.raw]
    readings += [target.replace("#", "%23").replace("?", "%3F") for target in readings]
    for target in readings if set(readings) != {link.target} else ():
        names = _names(urlsplit(absolute(base, target)).path)
        if names[: len(top)] == top and names[len(top) :] and _shows(link.shown.strip(), names[len(top)]):
            return target
    return link.target


def _entry(target: str, shown: str, base: str, here: SplitResult) -> Listed | None:
    """Return the entry that a link lists; None for a link that leads up, sorts the page, or is decoration."""
    whole = absolute(base, target)
    link = urlsplit(whole) if whole else None
    if link is None or link.scheme not in _PORTS:
        # An unescaped name with a colon, such as 12:00.nc or run:1.nc.
        raw = target.partition("#")[0].partition("?")[0]
        return _named(_raw(raw), raw) if _shows(shown, _raw(raw)) else None
    top, names = _names(here.path), _names(link.path)
    if not names or names == top[: len(names)]:
        return None
    shows = _shows(shown, names[-1])
    ours = _same_site(link, here)
    if names[: len(top)] == top and (ours or shows):
        # Whatever host the link names, the entry is requested from the server of the index.
        deeper = len(names) > len(top) + 1 or link.path.endswith("/")
        raw = [part for part in link.path.split("/") if part][-1]
        return _named(names[len(top)], raw, folder=deeper)
    if not shows:
        return None
    why = "leads out of the folder" if ours else "leads to another server"
    return Listed(_named(names[-1], link.path.rstrip("/").rpartition("/")[2]).name, "other", why=why)


def _named(name: bytes, raw: str, *, folder: bool = False) -> Listed:
    told = name.decode("utf-8", "surrogateescape")
    if not is_valid_name(told):
        return Listed(raw.replace("/", "%2F") or "%2F", "other", why="is not a name")
    return Listed(told, "dir" if folder else "file")


def absolute(base: str, target: str) -> str:
    """Return the absolute URL of a link on a page; empty if it is invalid."""
    # For urljoin, a semicolon begins the parameters of RFC 1808, which it drops if they are empty.
    path, content_id, rest = target.partition("?")
    try:
        return urljoin(base, path.replace(";", "%3B") + content_id + rest)
    except ValueError:
        return ""


def _raw(text: str) -> bytes:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape"))


def _names(path: str) -> list[bytes]:
    """Return the names in a path, decoded one by one, so that an escaped slash is not a separator."""
    names: list[bytes] = []
    for part in map(_raw, path.split("/")):
        if part == b"..":
            del names[-1:]
        elif part not in (b"", b"."):
            names.append(part)
    return names


def _shows(shown: str, name: bytes) -> bool:
    """Whether the text of a link is a name, perhaps truncated, as for an entry."""
    text, told = shown.rstrip("/"), name.decode("utf-8", "surrogateescape")
    if text == told:
        return bool(text)
    start = _CUT.sub("", text)
    return start not in ("", text) and told.startswith(start)


def _same_site(one: SplitResult, other: SplitResult) -> bool:
    """Whether two URLs have the same server; one behind a proxy that ends TLS may use ``http`` for ``https``."""
    try:
        ends = {(end.scheme, end.port or _PORTS.get(end.scheme)) for end in (one, other)}
    except ValueError:
        return False
    return one.hostname == other.hostname and (len(ends) == 1 or ends == set(_PORTS.items()))


def _is_next(target: str, base: str, here: SplitResult) -> bool:
    """Whether a link leads to another page of the same list."""
    link = urlsplit(absolute(base, target))
    return _names(link.path) == _names(here.path) and bool(_NEXT.search(link.query))
