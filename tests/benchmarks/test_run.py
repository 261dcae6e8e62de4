"""The benchmark runner: its results, its page and the comparison of two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Copies a file with cp, with Python, and with a program that is never installed.
SCRIPT = f"""
import shutil, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from measure import Stopwatch, command, compare, needs

def ours():
    with Stopwatch(**{{"peak MB": 12}}) as watch:
        shutil.copyfile(__file__, __file__ + ".copy")
    return watch

sides = {{
    "cp": lambda: command("cp", __file__, __file__ + ".other"),
    "transfer": ours,
    "warp -9": needs("warp", ours),
}}
compare("file", "1 file & more", sides, 2)
if sys.argv[1:]:
    sys.exit("Something <odd> happened")
"""


@pytest.fixture
def runner(monkeypatch):
    """Import the modules of the runner as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import changes
    import declared
    import page
    import run

    return type("Runner", (), {"changes": changes, "declared": declared, "page": page, "run": run})


def benchmark(runner, folder, targets, *more):
    """Return a benchmark whose script is in a folder; a whole run of it has more words."""
    script = folder / "tiny.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return runner.declared.Benchmark(
        name="tiny", about="A file.", words=(str(script), *more), quick=(str(script),), targets=targets
    )


def test_a_run_becomes_a_page_and_two_runs_a_comparison(runner, tmp_path):
    """The page shows results, met and missed targets, missing tools and a failure; a comparison lists the changes."""
    target = runner.declared.Target
    targets = (
        target("file", "transfer", 13, what="peak MB"),
        target("file", "transfer", 11, what="peak MB"),
        target("file", "warp -9", 1),
    )
    tiny = benchmark(runner, tmp_path, targets, "fail")
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    runner.run.measure_all([tiny], results, quick=True)
    before = json.loads(results.read_text())
    runner.run.measure_all([tiny], results, quick=False)
    after = json.loads(results.read_text())
    runner.page.write(after, [tiny], page)
    said, shown = page.read_text(), (tmp_path / "page" / "tiny.html").read_text()
    assert "1 met, 1 missed, 1 not measured" in said
    assert "<td>not measured: warp is not installed</td>" in shown
    assert "Something <odd> happened" in said
    assert "<strong>1 file &amp; more</strong>" in shown
    assert [row[:3] for row in runner.changes.rows(before, after)] == [
        ("tiny", "1 file & more", "cp"),
        ("tiny", "1 file & more", "transfer"),
    ]


def test_the_page_keeps_the_medians_of_earlier_whole_runs(runner, tmp_path):
    """The page shows results of earlier full runs with their dates; it omits quick runs, whose sizes differ."""
    tiny = benchmark(runner, tmp_path, (runner.declared.Target("file", "transfer", 13, what="peak MB"),))
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    for quick in (False, True, False):
        runner.run.measure_all([tiny], results, quick=quick)
    found = json.loads(results.read_text())
    date = found["tiny"]["earlier"][0]["date"]
    runner.page.write(found, [tiny], page)
    assert f"| met 12.00 (12.00-12.00) | 12.00 ({date[5:10]} at {int(date[-5:-3])} h) |" in page.read_text()
