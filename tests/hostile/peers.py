"""A peer at the other end of ``ssh -s`` that speaks SFTP and sends invalid data."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["install"]

#: A program in place of ssh: it responds as if each folder contained what the lie says.
PEER = r"""#!{python}
import itertools, os, struct, sys

LIE = "{lie}"
FILE, FOLDER, LINK = 0o100644, 0o040755, 0o120777

def text(raw):
    return struct.pack(">I", len(raw)) + raw

def facts(mode, size=6):
    return struct.pack(">IQIII", 0x1 | 0x4 | 0x8, size, mode, 1000, 1000)

def names(*entries):
    body = struct.pack(">I", len(entries))
    for name, mode in entries:
        body += text(name) + text(b"") + facts(mode)
    return 104, body

def status(code, words=b""):
    return 101, struct.pack(">I", code) + text(words) + text(b"")

ESCAPES = b"\x1b]0;owned\x07\x1b[2J\r\n"
LISTS = {{
    "up": [(b"../../x", FILE)], "slash": [(b"a/b", FILE)], "absolute": [(b"/etc/x", FILE)], "nul": [(b"a\0b", FILE)],
    "empty": [(b"", FILE)], "folder-up": [(b"..", FOLDER), (b"../y", FOLDER)], "long": [(b"x" * 100000, FILE)],
    "escapes": [(b"f" + ESCAPES, FILE)], "fine": [(b"f", FILE)],
}}
seen = {{}}
handles = itertools.count()

def answer(kind, body):
    if kind == 11:
        handle = b"%d" % next(handles)
        return 102, text(handle)
    if kind == 12:
        handle = bytes(body[4:])
        seen[handle] = seen.get(handle, 0) + 1
        if LIE == "endless":
            at = seen[handle]
            return names(*((b"n%d-%d" % (at, one), FOLDER) for one in range(1000)))
        if LIE == "same":
            return names((b"f", FILE))
        if LIE == "nothing":
            return names()
        if LIE == "count":
            return 104, struct.pack(">I", 0xFFFFFFFF) + b"xx"
        if LIE == "short":
            return 104, b""
        return names(*LISTS.get(LIE, LISTS["fine"])) if seen[handle] == 1 else status(1)
    if kind == 16:
        return (104, struct.pack(">I", 0)) if LIE == "no-root" else names((b"/root", FOLDER))
    if kind in (7, 17):
        path = bytes(body[4:4 + struct.unpack(">I", body[:4])[0]])
        if LIE == "attributes":
            return 105, b"\x80\x00\x00\x00\xff\xff\xff\xff"
        if LIE == "words" and path.endswith(b"f"):
            return status(4, b"no" + ESCAPES)
        if LIE == "links" and path != b"/root":
            return 105, facts(LINK)
        return 105, (facts(FILE, 1 << 62 if LIE == "huge" else 6) if path.endswith(b"f") else facts(FOLDER))
    if kind == 19:
        return 104, struct.pack(">I", 0)
    if kind == 8:
        return 105, facts(FILE, 1 << 62 if LIE == "huge" else 6)
    if kind == 3:
        return 102, text(b"h")
    if kind == 5:
        if LIE == "more":
            return 103, text(b"x" * 200000)
        offset, = struct.unpack_from(">Q", body, len(body) - 12)
        return (103, text(b"inside"[offset:])) if offset < 6 else status(1)
    if kind == 200:
        return status(8)
    return status(0)

def read(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit()
    return data

def send(packet):
    sys.stdout.buffer.write(struct.pack(">I", len(packet)) + packet)
    sys.stdout.buffer.flush()

read(struct.unpack(">I", read(4))[0])
if LIE == "banner":
    sys.stdout.buffer.write(b"\x1b]0;owned\x07" * 10000)
    sys.stdout.buffer.flush()
    sys.exit()
send(struct.pack(">BI", 2, 3))
while True:
    packet = read(struct.unpack(">I", read(4))[0])
    kind, number = packet[0], packet[1:5]
    if LIE == "gigantic" and kind == 12:
        sys.stdout.buffer.write(struct.pack(">I", 0xFFFFFFFF) + b"h" + number)
        sys.stdout.buffer.flush()
        continue
    if LIE == "unasked" and kind == 12:
        number = b"\xff\xff\xff\xff"
    code, body = answer(kind, packet[5:])
    send(bytes([code]) + number + body)
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """Put the peer before the real ``ssh`` on PATH."""
    script = folder / "ssh"
    script.write_text(PEER.format(python=sys.executable, lie=lie))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
