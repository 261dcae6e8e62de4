"""An SFTP server with fewer features than OpenSSH's, at the other end of ``ssh -s``; it serves real files.

Run as a program, this file is that server. Its arguments name what it lacks:

``setstat``
    SETSTAT and FSETSTAT are refused.
``fsetstat``
    Only FSETSTAT is refused.
``deaf``
    SETSTAT and FSETSTAT do nothing, but report success.
``replace``
    There is no extension for a rename that replaces, and a plain rename does not replace.
``links``
    READLINK is refused.
``long``
    A read returns at most 1,000 bytes, and a write of more than 32 KiB is refused.
``cut``
    Only the first 32 KiB of a write are written, but the server reports success.
``both``
    A file cannot be open for both reading and writing.
``order``
    A file can be written only from its start to its end.
``listing``
    READDIR returns one entry at a time, without attributes, and neither ``.`` nor ``..``.
``size``, ``mode``, ``times``
    Attributes do not include this value.
``short``
    Attributes report three quarters of each size, as a gateway that decompresses files may.
``stale``
    Truncating an open file changes only its reported size, until it is written to.
``handles``
    At most three files and listings may be open at once.
``words``
    Every error has the status "failure".
``trim``
    Responses end as in the draft; without this argument each response has extra bytes.
"""

from __future__ import annotations

import os
import struct
import sys

__all__ = ["LACKS", "install"]

LACKS = ("setstat", "fsetstat", "deaf", "replace", "links", "long", "cut", "both", "order", "listing", "size", "mode")
LACKS += ("times", "handles", "words", "trim", "short", "stale")

_MOST_HANDLES = 3
_ALLOWED = 32768


def install(folder, monkeypatch, lacks, extensions=()):
    """Put the server before the real ``ssh`` on PATH."""
    folder.mkdir(exist_ok=True)
    words = [*lacks, *(f"+{name}" for name in extensions)]
    script = folder / "ssh"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -S {__file__} {' '.join(words)}\n")
    script.chmod(0o755)
    if str(folder) not in os.environ["PATH"].split(os.pathsep):
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def _text(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


class _Refused(Exception):  # noqa: N818 - a status, not an error
    """The status to reply with."""


class _Server:
    def __init__(self, words: list[str]) -> None:
        self.lacks = {word for word in words if word[0] != "+"}
        self.extensions = [word[1:] for word in words if word[0] == "+"]
        if "replace" not in self.lacks:
            self.extensions.append("posix-rename@openssh.com")
        self.open: dict[bytes, dict] = {}
        self.made = 0
        #: The reported sizes of truncated files, by inode.
        self.cut: dict[int, int] = {}

    def facts(self, told: os.stat_result) -> bytes:
        """Return the attributes of a file as SFTP encodes them."""
        flags, body = 0, b""
        if "size" not in self.lacks:
            size = self.cut.get(told.st_ino, told.st_size)
            size = size * 3 // 4 if "short" in self.lacks else size
            flags, body = flags | 1, body + struct.pack(">Q", size)
        if "mode" not in self.lacks:
            flags, body = flags | 4, body + struct.pack(">I", told.st_mode)
        if "times" not in self.lacks:
            flags, body = flags | 8, body + struct.pack(">II", int(told.st_atime), int(told.st_mtime))
        return struct.pack(">I", flags) + body

    def handle(self, **what) -> tuple[int, bytes]:
        """Return a new handle."""
        if "handles" in self.lacks and len(self.open) >= _MOST_HANDLES:
            raise _Refused(4)
        self.made += 1
        name = b"%d" % self.made
        self.open[name] = what
        return 102, _text(name)

    def set(self, body: bytes, at: int, target) -> None:
        """Set attributes."""
        if "deaf" in self.lacks:
            return
        (flags,) = struct.unpack_from(">I", body, at)
        at += 4
        if flags & 1:
            (size,) = struct.unpack_from(">Q", body, at)
            if "stale" in self.lacks:
                self.cut[os.stat(target).st_ino] = size
            else:
                os.truncate(target, size)
            at += 8
        at += 8 * bool(flags & 2) + 4 * bool(flags & 4)
        if flags & 8:
            os.utime(target, struct.unpack_from(">II", body, at))

    def answer(self, kind: int, body: bytes) -> tuple[int, bytes]:  # noqa: C901, PLR0911, PLR0912, PLR0915 - a table
        """Handle one request."""
        count = struct.unpack_from(">I", body)[0]
        first, at = body[4 : 4 + count], 4 + count
        here = self.open.get(first, {}) if kind in (4, 5, 6, 8, 10, 12) else {}
        if kind == 3:
            (flags,) = struct.unpack_from(">I", body, at)
            if flags & 3 == 3 and "both" in self.lacks:
                raise _Refused(4)
            if "handles" in self.lacks and len(self.open) >= _MOST_HANDLES:
                raise _Refused(4)
            how = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}[flags & 3]
            how |= os.O_CREAT * bool(flags & 8) | os.O_TRUNC * bool(flags & 0x10) | os.O_EXCL * bool(flags & 0x20)
            return self.handle(file=os.open(first, how, 0o644), path=first)
        if kind == 4:
            if "file" in here:
                os.close(here["file"])
            del self.open[first]
        elif kind == 5:
            offset, wanted = struct.unpack_from(">QI", body, at)
            data = os.pread(here["file"], min(wanted, 1000) if "long" in self.lacks else wanted, offset)
            if not data:
                raise _Refused(1)
            return 103, _text(data)
        elif kind == 6:
            offset, wanted = struct.unpack_from(">QI", body, at)
            data = body[at + 12 :]
            if wanted > _ALLOWED and "long" in self.lacks:
                raise _Refused(4)
            if "order" in self.lacks and offset != os.fstat(here["file"]).st_size:
                raise _Refused(4)
            self.cut.pop(os.fstat(here["file"]).st_ino, None)
            os.pwrite(here["file"], data[:_ALLOWED] if "cut" in self.lacks else data, offset)
        elif kind in (7, 17):
            return 105, self.facts((os.lstat if kind == 7 else os.stat)(first))
        elif kind == 8:
            return 105, self.facts(os.fstat(here["file"]))
        elif kind in (9, 10):
            if "setstat" in self.lacks or (kind == 10 and "fsetstat" in self.lacks):
                raise _Refused(8)
            self.set(body, at, first if kind == 9 else here["file"])
        elif kind == 11:
            found = sorted(os.listdir(first)) if "listing" in self.lacks else [b".", b"..", *os.listdir(first)]
            return self.handle(left=found, path=first)
        elif kind == 12:
            count = 1 if "listing" in self.lacks else 3
            given, here["left"] = here["left"][:count], here["left"][count:]
            if not given:
                raise _Refused(1)
            told = struct.pack(">I", len(given))
            for name in given:
                bare = struct.pack(">I", 0)
                facts = bare if "listing" in self.lacks else self.facts(os.lstat(os.path.join(here["path"], name)))
                told += _text(name) + _text(b"") + facts
            return 104, told
        elif kind == 13:
            os.remove(first)
        elif kind == 14:
            os.mkdir(first)
        elif kind == 15:
            os.rmdir(first)
        elif kind == 16:
            return 104, struct.pack(">I", 1) + _text(os.path.realpath(first)) + _text(b"") + struct.pack(">I", 0)
        elif kind == 18:
            second = body[at + 4 :]
            if os.path.lexists(second):
                raise _Refused(4)
            os.rename(first, second)
        elif kind == 19:
            if "links" in self.lacks:
                raise _Refused(8)
            return 104, struct.pack(">I", 1) + _text(os.readlink(first)) + _text(b"") + struct.pack(">I", 0)
        elif kind == 200 and first == b"posix-rename@openssh.com" and "replace" not in self.lacks:
            count = struct.unpack_from(">I", body, at)[0]
            os.rename(body[at + 4 : at + 4 + count], body[at + 8 + count :])
        else:
            raise _Refused(8)
        raise _Refused(0)

    def reply(self, kind: int, body: bytes) -> bytes:
        """Return the reply to one request, even after an error."""
        try:
            code, answer = self.answer(kind, body)
        except _Refused as err:
            (status,) = err.args
        except FileNotFoundError:
            status = 2
        except PermissionError:
            status = 3
        except (OSError, KeyError):
            status = 4
        else:
            return bytes([code]) + b"%b" + answer + (b"" if "trim" in self.lacks else b"more")
        if "words" in self.lacks and status > 1:
            status = 4
        return b"\x65%b" + struct.pack(">I", status) + (b"" if "trim" in self.lacks else _text(b"no") + _text(b"more"))


def _main() -> None:
    def read(count: int) -> bytes:
        data = sys.stdin.buffer.read(count)
        if len(data) < count:
            sys.exit()
        return data

    def send(packet: bytes) -> None:
        sys.stdout.buffer.write(struct.pack(">I", len(packet)) + packet)
        sys.stdout.buffer.flush()

    server = _Server(sys.argv[1:])
    read(struct.unpack(">I", read(4))[0])
    send(struct.pack(">BI", 2, 3) + b"".join(_text(name.encode()) + _text(b"1") for name in server.extensions))
    while True:
        packet = read(struct.unpack(">I", read(4))[0])
        reply = server.reply(packet[0], packet[5:])
        send(reply.replace(b"%b", packet[1:5], 1))


if __name__ == "__main__":
    _main()
