"""Keep Parsl from loading boto3 and the SDK of Globus Compute in the processes that tests start.

Parsl imports both wherever they are installed, and runs tasks without them; they are half of what it takes to load.
Every other module gets them as ever.
"""

from __future__ import annotations

import sys

OPTIONAL = {("parsl.providers.aws.aws", "boto3"), ("parsl.executors.globus_compute", "globus_compute_sdk")}
IMPORT_SYSTEM = ("importlib.", "_frozen_importlib")


class WithoutOptional:
    """Tells a module of Parsl that an optional package is not installed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Find nothing, so that the next finder is asked, unless it is Parsl that asks."""
        frame = sys._getframe(1)
        while frame and frame.f_globals["__name__"].startswith(IMPORT_SYSTEM):
            frame = frame.f_back
        if frame and (frame.f_globals["__name__"], name) in OPTIONAL:
            raise ModuleNotFoundError(f"Parsl is to do without {name}", name=name)


sys.meta_path.insert(0, WithoutOptional)
