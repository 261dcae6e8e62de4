"""Load Parsl faster in the processes that tests start: in 0.3 s of CPU time instead of 1 s.

Parsl imports boto3 and the Globus Compute SDK if they are installed, but runs tasks without them. Every other module
can still import them. In Parsl's own programs, whose arguments have been checked before, typeguard does not instrument
functions to check argument types.
"""

from __future__ import annotations

import sys

OPTIONAL = {("parsl.providers.aws.aws", "boto3"), ("parsl.executors.globus_compute", "globus_compute_sdk")}
PROGRAMS = ("interchange.py", "process_worker_pool.py", "chiltepin-workers", "multiprocessing.spawn")
IMPORT_SYSTEM = ("importlib.", "_frozen_importlib")


class WithoutOptional:
    """Import finder that hides optional packages from Parsl."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Raise ModuleNotFoundError for Parsl's optional imports; otherwise defer to the next finder."""
        frame = sys._getframe(1)
        while frame and frame.f_globals["__name__"].startswith(IMPORT_SYSTEM):
            frame = frame.f_back
        if frame and (frame.f_globals["__name__"], name) in OPTIONAL:
            raise ModuleNotFoundError(f"Parsl is to do without {name}", name=name)


sys.meta_path.insert(0, WithoutOptional)
if any(program in word for program in PROGRAMS for word in sys.orig_argv):
    import typeguard

    typeguard.typechecked = lambda checked: checked
