"""Whether a test has put a fake filesystem in the place of that of the machine, with ``pyfakefs``.

It replaces ``os`` in every module, for one test: what is kept beyond that, or has open files, must not outlive it.
"""

from __future__ import annotations

import os
from types import ModuleType

__all__ = ["HIDDEN", "fake_os"]

#: What to say where the installed packages cannot be seen.
HIDDEN = (
    "The fake filesystem of pyfakefs hides the installed packages; before the first call, add them in the test: "
    "fs.add_real_paths([sysconfig.get_path('purelib')])"
)


def fake_os() -> object | None:
    """Return what stands in the place of the module ``os``, another object for each test; None outside of them."""
    return None if isinstance(os, ModuleType) else os
