"""Time the start of commands and the import of packages, each in a new process, in alternating rounds.

Upstream's package is also called chiltepin, so it needs a separate virtual environment; ``--upstream`` names its
interpreter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Stopwatch, compare, needs, scratch

if TYPE_CHECKING:
    from measure import Candidate

SETTINGS = "data: {backend: local, root: sandbox, endpoints: {here: }}\n"

SCRIPTS = Path(sys.executable).parent


def candidates(folder: Path, upstream: str | None) -> dict[str, Candidate]:
    """Return the candidates by name; the first is the reference for the ratios."""
    python = sys.executable
    found = {
        "python -c pass": [python, "-c", "pass"],
        "chiltepin --help": [str(SCRIPTS / "chiltepin"), "--help"],
        "chiltepin ls, local": [str(SCRIPTS / "chiltepin"), "ls", "here:/"],
        "import chiltepin": [python, "-c", "import chiltepin"],
        "import chiltepin.data": [python, "-c", "import chiltepin.data"],
        "import parsl": [python, "-c", "import parsl"],
        "import globus_sdk, its TransferClient": [python, "-c", "from globus_sdk import TransferClient"],
        "globus --help": [str(SCRIPTS / "globus"), "--help"],
    }
    if upstream:
        found["upstream: chiltepin --help"] = [str(Path(upstream).with_name("chiltepin")), "--help"]
        found["upstream: import chiltepin"] = [upstream, "-c", "import chiltepin"]
        found["upstream: import chiltepin.data"] = [upstream, "-c", "import chiltepin.data"]
    return {name: needs(words[0], partial(run, words, folder)) for name, words in found.items()}


def run(words: list[str], folder: Path) -> Stopwatch:
    """Run and time a command."""
    environment = {**os.environ, "CHILTEPIN_CONFIG": str(folder / "chiltepin.yaml"), "GLOBUS_CLI_INTERACTIVE": "0"}
    with Stopwatch() as watch:
        subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    return watch


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (10)")
    parser.add_argument("--folder", help="where to make the temporary folder")
    parser.add_argument("--upstream", help="the interpreter of an environment that has upstream's chiltepin")
    given = parser.parse_args()
    with scratch(given.folder) as folder:
        (Path(folder) / "chiltepin.yaml").write_text(SETTINGS, encoding="ascii")
        (Path(folder) / "sandbox" / "here").mkdir(parents=True)
        compare("startup", "Start of commands and imports", candidates(Path(folder), given.upstream), given.rounds)


if __name__ == "__main__":
    main()
