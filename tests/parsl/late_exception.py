"""An exception of a module that tasks import at run time, so that Parsl does not know it beforehand."""

from __future__ import annotations


class LateError(Exception):
    """Pickles but does not unpickle: it takes two arguments and passes one to Exception."""

    def __init__(self, file, line):
        super().__init__(f"{file}:{line}")
        self.file = file
