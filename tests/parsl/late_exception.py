"""An exception of a module that tasks import while they run, so that Parsl does not know it beforehand."""

from __future__ import annotations


class LateError(Exception):
    """Pickles and does not unpickle: it takes two arguments, and gives one to Exception."""

    def __init__(self, file, line):
        super().__init__(f"{file}:{line}")
        self.file = file
