"""However a script ends, each file arrives, or is named with a nonzero exit code, and no process is left.

CHILTEPIN_KILLS=100 runs a hundred times as many scripts.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import scripts
from killing import seeds

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        (3, 12) <= sys.version_info[:3] < (3, 12, 3),
        reason="Python 3.12.0 to 3.12.2 start no thread once the script has ended (CPython gh-113964).",
    ),
]

every_seed = pytest.mark.parametrize("seed", seeds(1), ids=lambda seed: f"seed {seed}")


def run_all(kinds, folder):
    """Run scripts, four at a time; fail with all their errors."""
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(scripts.run, kind, folder / str(number)) for number, kind in enumerate(kinds)]
    wrong = [str(error) for run in runs if (error := run.exception()) is not None]
    assert not wrong, "\n\n".join(wrong)


@every_seed
def test_with_threads(seed, folder):
    """A script whose tasks run in threads transfers its files or names them."""
    run_all(scripts.kinds(seed, 6, "local"), folder)


@every_seed
def test_with_workers(seed, folder):
    """A script whose tasks run in worker processes transfers its files or names them."""
    run_all(scripts.kinds(seed, 2, "pool"), folder)


@pytest.mark.parametrize("end", ["exit 3", "error"])
def test_a_thread_with_the_first_transfer(end, folder):
    """A file whose transfer starts in a thread after the end of the script arrives or is named."""
    kinds = [scripts.Kind(executor, "local", "hand-made", "pool", end) for executor in ("local", "pool")]
    run_all(kinds, folder)
