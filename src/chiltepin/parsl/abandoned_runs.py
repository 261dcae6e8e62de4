"""What becomes of the runs that a script has left when Python ends: the same as of a `Workflow` that is left."""

from __future__ import annotations

import contextlib

import parsl
from parsl.errors import NoDataFlowKernelError

from chiltepin.parsl.drain import drain
from chiltepin.parsl.shutdown import ending_of, runs
from chiltepin.transfers import interpreter_exit as exits
from chiltepin.transfers.service import manager as hub


@exits.while_threads_work
def _end_runs() -> None:
    """Wait for what the runs have to do, or cancel it if an error or a signal ends the script; then end them."""
    with contextlib.suppress(NoDataFlowKernelError):
        # With settings of ours, but no task of ours.
        if hasattr(parsl.dfk().config, "data"):
            ending_of(parsl.dfk())
    left = [run for run in list(runs) if not run.over]
    if left and not exits.cause():
        try:
            drain(left, last=True)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            exits.interrupted(interrupt)
    for run in left:
        run.finish()
        hub.settle(str(run.dfk.run_id), in_order=not exits.cause())
