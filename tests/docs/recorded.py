"""A session at a terminal, as a page shows it: commands on a pseudo-terminal, and the final screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

#: The width of the terminal on the page, and the working folder of its user.
COLUMNS, FOLDER = 80, "/home/me/first-hour"

#: Text that differs between runs: times, the time left, durations and speeds, and the length of a bar.
_PASSING = re.compile(
    r"\b(?:\d{4}-)?\d\d-\d\d \d\d:\d\d(?::\d\d)?\b|\b\d+:\d\d(?::\d\d)?\b"
    r"|\d[\d.,]* (?:ms|s|min|(?:[kMGT]?B|bytes?)/s)\b|[\N{BOX DRAWINGS HEAVY HORIZONTAL}╸╺]+"
)
_ESCAPE = r"\x1b\[([\d;?]*)([A-Za-z])"


def run(command: str, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a shell on a terminal; return its exit code and the final screen."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = {**environment, "TERM": "xterm-256color", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    shell = subprocess.Popen(
        ["sh", "-c", command], env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    said = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    return shell.wait(), screen(said.decode())


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # the last process on the terminal has ended
        return b""


def screen(said: str) -> str:
    """Return the final screen of a terminal after this output, which can move back, erase and overwrite."""
    lines, row, column = [""], 0, 0
    for token in re.finditer(rf"{_ESCAPE}|(.)", said, re.DOTALL):
        number, letter, sign = token.groups()
        if letter == "A":
            row = max(row - int(number or 1), 0)
        elif letter == "K":
            lines[row] = "" if number == "2" else lines[row][:column]
        elif sign == "\r":
            column = 0
        elif sign == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif sign:
            lines[row] = f"{lines[row][:column]:<{column}}{sign}{lines[row][column + 1 :]}"
            column += 1
    return "\n".join(line.rstrip() for line in lines)


def steady(text: str) -> str:
    """Return a text without durations and times, line breaks and folders."""
    text = text.replace(os.getcwd(), FOLDER)
    return "".join(_PASSING.sub("", text).split())
