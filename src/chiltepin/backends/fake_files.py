"""Detect a fake filesystem that a test has installed with ``pyfakefs``.

It replaces ``os`` in every module for one test: cached values and open files must not outlive that test.
"""

from __future__ import annotations

import os
from types import ModuleType

__all__ = ["HIDDEN", "fake_os"]

#: Error message if the fake filesystem hides the installed packages.
HIDDEN = (
    "The fake filesystem of pyfakefs hides the installed packages; before the first call, add them in the test: "
    "fs.add_real_paths([sysconfig.get_path('purelib')])"
)


def fake_os() -> object | None:
    """Return the object that replaces the module ``os``, a different one in each test; None outside of such tests."""
    return None if isinstance(os, ModuleType) else os
