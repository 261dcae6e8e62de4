"""Show what changed between two runs of run.py, of two commits or two machines."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from measure import Times
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rows", "show"]


def rows(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each side that both runs measured under the same title.

    The change is in the ratio to the first side, which depends less on the load of the machine than seconds do; for
    the first side itself, it is in seconds. A change is in brackets if the ranges of both runs overlap.
    """
    for name in before.keys() & after.keys():
        old_works = {work["title"]: work for work in before[name].get("works", ()) if "sides" in work}
        for work in after[name].get("works", ()):
            if (old := old_works.get(work["title"])) is None or "sides" not in work:
                continue
            for side in work["sides"]:
                if side in old["sides"]:
                    yield (name, work["title"], side, *_change(old, work, side))


def _change(before: dict[str, Any], after: dict[str, Any], side: str) -> tuple[str, str, str]:
    olds, news = _values(before, side), _values(after, side)
    old, new = statistics.median(olds), statistics.median(news)
    change = f"{new / old - 1:+.0%}"
    if max(min(olds), min(news)) <= min(max(olds), max(news)):
        change = f"({change})"
    unit = " s" if _is_first(after, side) else ""
    return f"{old:.3g}{unit}", f"{new:.3g}{unit}", change


def _values(work: dict[str, Any], side: str) -> list[float]:
    sides = {name: Times(**times) for name, times in work["sides"].items()}
    first = next(iter(sides.values()))
    return sides[side].walls if _is_first(work, side) else sides[side].ratios(first)


def _is_first(work: dict[str, Any], side: str) -> bool:
    return side == next(iter(work["sides"]))


def show(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print the changes, and the benchmarks that only one run measured."""
    commits = [", ".join(sorted({run["commit"] for run in results.values()})) for results in (before, after)]
    table = Table(
        title=f"From {commits[0]} to {commits[1]}",
        caption="ratios to the first side of a work, and its seconds; in brackets: the ranges of both runs overlap",
    )
    for column in ("benchmark", "work", "by", "before", "after", "change"):
        table.add_column(column, justify="right" if column in ("before", "after", "change") else "left")
    for row in rows(before, after):
        table.add_row(*row)
    console = Console(width=120)
    console.print(table)
    for name in sorted(before.keys() ^ after.keys()):
        console.print(f"{name} was measured {'before' if name in before else 'after'} only.")
