"""A malicious settings file is refused with one error, quickly, and runs nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chiltepin.errors import ConfigError
from chiltepin.settings import check, read

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12))

FILES = {
    "runs python": "local: !!python/object/apply:os.system ['touch {marker}']\n",
    "makes python": "local: !!python/object/new:subprocess.Popen [['touch', '{marker}']]\n",
    "imports python": "local: !!python/module:antigravity\n",
    "names python": "local: !!python/name:os.system\n",
    "tag of its own": "%TAG ! tag:yaml.org,2002:python/\n---\nlocal: !object/apply:os.system ['touch {marker}']\n",
    "tag of a key": "!!python/name:os.system : 1\n",
    "binary": "local: !!binary aGVsbG8=\n",
    "set": "local: !!set {{a, b}}\n",
    "billion laughs": LAUGHS,
    "billion merges": MERGES,
    "holds itself": "local: &a [*a]\n",
    "merges itself": "local: &a {{<<: *a}}\n",
    "deep lists": "local: " + "[" * 5_000,
    "deep mappings": "local: " + "{{a: " * 5_000,
    "deep lines": "".join(" " * n + "a:\n" for n in range(1000)),
    "closed and deep": "local: " + "[" * 3000 + "]" * 3000,
    "huge": "# x\n" * (1 << 20),
    "huge value": "local: " + "x" * (3 << 20),
    "huge number": "local: {{max_blocks: " + "9" * 20_000 + "}}",
    "many keys": "".join(f"k{n}: 1\n" for n in range(11_000)),
    "a key twice": "local: {{}}\nlocal: {{}}\n",
    "two documents": "local: {{}}\n---\nlocal: {{}}\n",
    "escapes": '"\\e]0;owned\\a\\e[2J": 1\n',
    "escapes as they are": "a: \x1b[2J\n",
    "NUL": "a: \0\n",
    "not text": "\udcff\udcfe",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_file_is_refused(tmp_path, kind):
    """A hostile file raises one settings error that is safe to print, and no code of the file runs."""
    marker = tmp_path / "marker"
    file = tmp_path / "c.yaml"
    text = FILES[kind].replace("{{", "{").replace("}}", "}").replace("{marker}", str(marker))
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        check(read(str(file)), backends=["local", "globus", "filesystem"])
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert len(str(caught.value)) < 20_000
    assert not marker.exists()


@pytest.mark.timeout(60)
@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="There is no such device here.")
def test_a_file_without_an_end_is_refused():
    """A file without an end is not read to the end."""
    with pytest.raises(ConfigError, match="more than 256 KiB"):
        read("/dev/zero")


@pytest.mark.parametrize("umask", ["000", "022", "077", "777"])
def test_the_command_refuses_it_in_one_line(tmp_path, umask):
    """On the command line the error is one line and exits with 2, under any umask."""
    file = tmp_path / "c.yaml"
    file.write_text(FILES["runs python"].replace("{marker}", str(tmp_path / "marker")))
    code = f"import os; os.umask(0o{umask}); from chiltepin.cli.main import main; main()"
    command = [sys.executable, "-c", code, "endpoints", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "marker").exists()
