"""Write the documentation page from the figures of run.py, with charts and tables for each benchmark."""

from __future__ import annotations

import re
import statistics
from html import escape
from typing import TYPE_CHECKING, Any

from declared import FASTEST
from measure import Times, cells, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from declared import Benchmark, Target

__all__ = ["figures", "judge", "write"]

#: Matches the names of Chiltepin's sides.
OURS = re.compile(r"chiltepin|transfer|delete|process|worker|batched|future")

INTRODUCTION = """\
% Written by benchmarks/run.py from benchmarks/results.json; change those instead.

# Benchmarks

`python benchmarks/run.py` measured these figures and wrote this page.

- All tools take turns in each round. Figures are medians of the rounds; a first round is not counted.
- **ratio** is wall time relative to the first line *in the same round*, with the smallest and the largest. On a busy
  machine, trust only this column, and only if its range is narrow.
- No side pays for its start: what a command takes for `--version` is subtracted, and Python's functions are timed after
  their import. Opening a connection or a bucket counts.
- **cpu s** is the processor time of the process and its children.
- Copies are compared with their source after the measurement.
- **load** is the load average of the machine before and after a work.
- **earlier** is the median of each earlier run of the same sizes, with its day and hour.
"""


def write(results: dict[str, Any], benchmarks: Sequence[Benchmark], page: Path) -> None:
    """Write the page, and beside it a folder of the same name with the charts and tables of each benchmark.

    Parameters
    ----------
    results : dict
        The last run of each benchmark, by name, as run.py keeps it.
    benchmarks : sequence of Benchmark
        The benchmarks, in the order of the page.
    page : pathlib.Path
        A file whose name ends with ``.md``.
    """
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    text = [INTRODUCTION, _targets(results, benchmarks)]
    for benchmark in benchmarks:
        run = results.get(benchmark.name, {"works": [], "failure": "this benchmark was left out"})
        text += _section(benchmark, run)
        if works := run.get("works", ()):
            file = folder / f"{benchmark.name}.html"
            file.write_text("".join(_shown(work) for work in works), encoding="utf-8")
            text.append(f"```{{raw}} html\n:file: {folder.name}/{file.name}\n```\n")
    page.write_text("\n".join([*text, _machines(results)]), encoding="utf-8")


def judge(target: Target, works: Iterable[dict[str, Any]]) -> tuple[str, str]:
    """Return the figure measured for a target, and ``met``, ``missed`` or ``not measured``."""
    for work in works:
        if work["key"] == target.work and target.side in work.get("sides", ()):
            sides = {name: Times(**times) for name, times in work["sides"].items()}
            if values := _values(target, sides):
                return spread(values), "met" if statistics.median(values) <= target.limit else "missed"
    return "", "not measured"


def figures(benchmark: Benchmark, run: dict[str, Any]) -> dict[str, str]:
    """Return what a run measured for each target, for the column of earlier runs."""
    measured = ((_name(target), judge(target, run.get("works", ()))[0]) for target in benchmark.targets)
    return {name: value.partition(" ")[0] for name, value in measured if value}


def _name(target: Target) -> str:
    """Return a name that is unique among the targets of a benchmark."""
    return f"{target.work}: {target.side}, {target.to or target.what}"


def _values(target: Target, sides: dict[str, Times]) -> list[float]:
    """Return the figures of a target, one for each round; none if the other side was not measured."""
    side = sides[target.side]
    if target.to == FASTEST:
        others = [times for name, times in sides.items() if not OURS.search(name)]
        return side.ratios(min(others, key=lambda times: times.wall)) if others else []
    if target.to:
        return side.ratios(sides[target.to]) if target.to in sides else []
    return {"s": side.walls, "cpu s": side.cpus, **side.more}.get(target.what, [])


def _targets(results: dict[str, Any], benchmarks: Sequence[Benchmark]) -> str:
    rows, counts = [], {"met": 0, "missed": 0, "not measured": 0}
    for benchmark in benchmarks:
        works = results.get(benchmark.name, {}).get("works", ())
        titles = {work["key"]: work["title"] for work in works}
        for target in benchmark.targets:
            measured, verdict = judge(target, works)
            counts[verdict] += 1
            limit = f"{target.limit:g} of {target.to}" if target.to else f"{target.limit:g} {target.what}"
            work = f"{benchmark.name}, {titles.get(target.work, target.work)}: {target.side}"
            shown = f"**{verdict}**" if verdict == "missed" else verdict
            rows.append([work, limit, f"{shown} {measured}".rstrip(), _earlier(benchmark, results, target)])
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return "\n".join([f"## Targets\n\n{counted}.\n", *_table(["work", "at most", "measured", "earlier"], rows)])


def _section(benchmark: Benchmark, run: dict[str, Any]) -> Iterator[str]:
    yield f"## {benchmark.name}\n\n{benchmark.about}\n"
    if run["failure"]:
        yield f"**Not measured, or not whole:** {run['failure']}.\n"
    if "date" in run:
        quick = ", a quick run" if run["quick"] else ""
        dropped = ", caches dropped before" if run.get("caches_dropped") else ""
        how = f"{run['date']}{quick}{dropped}, {run['seconds']} s"
        yield f"`{' '.join(run['words'])}`: {how}, commit {run['commit']}.\n"


def _earlier(benchmark: Benchmark, results: dict[str, Any], target: Target) -> str:
    """Return the medians of earlier runs, the newest first, each with its day and hour."""
    name, runs = _name(target), reversed(results.get(benchmark.name, {}).get("earlier", ()))
    return ", ".join(f"{run['figures'][name]} ({_hour(run['date'])})" for run in runs if name in run["figures"])


def _hour(date: str) -> str:
    return f"{date[5:10]} at {int(date[-5:-3])} h"


def _shown(work: dict[str, Any]) -> str:
    """Return a measurement in HTML: its title, a bar chart, and a table of all figures."""
    columns, rows = (work["columns"], work["rows"]) if "rows" in work else cells(work)
    load = " to ".join(f"{load:.1f}" for load in work["load"])
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f"<p><strong>{escape(work['title'])}</strong> (load {load})</p>\n"
        + (_drawing(work) if "sides" in work else "")
        + '<div class="table-wrapper docutils container"><table class="docutils align-default">\n'
        + f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _machines(results: dict[str, Any]) -> str:
    """Return the machines and versions of all benchmarks; equal ones share a table."""
    found: dict[str, list[str]] = {}
    for name, run in results.items():
        facts = {**run["machine"], **run["versions"]}
        rows = "\n".join(_table(["", ""], facts.items()))
        found.setdefault(rows, []).append(name)
    text = "## Machine and versions\n"
    for rows, names in found.items():
        text += f"\n{', '.join(names)}:\n\n{rows}"
    return text


def _drawing(work: dict[str, Any]) -> str:
    """Return a bar chart of each side's median seconds, with a line from the fastest to the slowest round."""
    parts, y = [], 0
    sides = {side: Times(**times) for side, times in work["sides"].items()}
    longest = max(max(times.walls) for times in sides.values())
    for side, times in sides.items():
        ours = " ours" if OURS.search(side) else ""
        width, low, high = (165 * value / longest for value in (times.wall, min(times.walls), max(times.walls)))
        parts += [
            f'<text class="small left" x="0" y="{y + 13}">{escape(side)}</text>',
            f'<rect class="bar{ours}" x="150" y="{y + 2}" width="{width:.1f}" height="13"/>',
            f'<path class="range" d="M{150 + low:.1f} {y + 8.5}H{150 + high:.1f}"/>',
            f'<text class="small left" x="{156 + high:.1f}" y="{y + 13}">{times.wall:.3g} s</text>',
        ]
        y += 19
    label = f"{work['title']}: seconds of each side; less is better"
    drawn = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 380 {y}" role="img" '
        f'aria-label="{escape(label)}">\n{drawn}\n</svg>\n'
    )
