"""Load Parsl faster in the processes that tests start: in 0.3 s of CPU time instead of 1 s.

Parsl imports boto3 and the Globus Compute SDK if they are installed, but runs tasks without them. Every other module
can still import them. Parsl's functions do not check the types of their arguments, for which typeguard compiles them
again at each start.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any, TypeVar

OPTIONAL = {("parsl.providers.aws.aws", "boto3"), ("parsl.executors.globus_compute", "globus_compute_sdk")}
IMPORT_SYSTEM = ("importlib.", "_frozen_importlib")

T = TypeVar("T")


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


class WithoutChecks(ModuleType):
    """The module ``typeguard`` for Parsl, which uses only its decorator; any other name loads the real module."""

    @staticmethod
    def typechecked(function: T) -> T:
        """Return a function or class unchanged."""
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("typeguard") is self:
            del sys.modules["typeguard"]
        return getattr(importlib.import_module("typeguard"), name)


sys.meta_path.insert(0, WithoutOptional)
# pytest loads the real one as its plugin.
if "pytest" not in {os.path.basename(word) for word in sys.orig_argv[:3]}:
    sys.modules["typeguard"] = WithoutChecks("typeguard")
