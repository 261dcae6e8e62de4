"""Check the prose of pages with proselint, and for forbidden words.

Arguments are files and folders. Each problem is one line; the exit code is 1 if there are any.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from proselint import checks
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.tools import LintFile

FORBIDDEN = (
    "nobody",
    "somebody",
    "whoever",
    "anybody",
    "shall",
    r"for\s+ever",
    r"as\s+far\s+as",
    r"of\s+its\s+own",
    # British spelling; the pages use American spelling.
    r"behaviours?",
    r"colours?",
    r"centres?",
    r"neighbours?",
    r"analysed?",
    r"cancelled",
    r"cancelling",
)
WORDS = Check(
    types.Existence(FORBIDDEN),
    path="words",
    flags=CheckFlags(allow_quotes=True),
    message="Rewrite the sentence without '{}'; FORBIDDEN in docs/check_prose.py says why.",
)

#: Rules of proselint that do not apply here.
EXCEPTIONS = {
    "typography.symbols": False,  # Sphinx makes curly quotes and ellipses from plain ones
    "typography.diacritical_marks": False,  # wants "résumé" where "resume" is a verb
    "misc.composition": False,  # wants "failed" for "did not succeed", which includes canceled transfers
}

#: Text that is not prose: fenced blocks, comments, code and the targets of links.
NOT_PROSE = re.compile(
    r"^ *(```+|~~~+).*?^ *\1$|<!--.*?-->|^%.*?$|(`+)[^`]+\2|\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)


def prose(page: str) -> str:
    """Return a page with the same lines, and with dots in place of text that is not prose."""
    text = NOT_PROSE.sub(lambda match: re.sub(r"[^\n]", "·", match[0]), page)
    # Otherwise, a word at the end of a heading and the start of its paragraph would count as repeated.
    return re.sub(r"(?<=\n)\n", ".\n", text)


def problems(page: Path) -> list[str]:
    """Return one line for each problem of a page."""
    config = Config(
        max_errors=1000, checks=EXCEPTIONS | DEFAULT["checks"] | {"words": True}
    )
    found = LintFile(page, prose(page.read_text(encoding="utf-8"))).lint(config)
    return [
        f"{page}:{problem.pos[0]}: {' '.join(problem.check_result.message.split())}"
        for problem in found
    ]


def main(names: list[str]) -> int:
    """Check the pages in some files and folders."""
    CheckRegistry().register_many((*checks.__register__, WORDS))
    pages = [
        page
        for name in names
        for page in sorted(Path(name).rglob("*.md")) or [Path(name)]
    ]
    lines = [line for page in pages for line in problems(page)]
    print(*lines, f"{len(pages)} pages, {len(lines)} problems", sep="\n")  # noqa: T201 - its purpose
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
