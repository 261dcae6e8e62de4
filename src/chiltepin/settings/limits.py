"""The numbers and labels that Chiltepin accepts: one rule for Python, the command line and settings."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from chiltepin.model import LABEL_LIMIT

__all__ = ["BANDWIDTH", "COUNT", "GRACE", "LABEL_LIMIT", "SECONDS", "SHARE", "SHORTEST_POLL", "Range", "label_problem"]

#: Ten years. Python waits at most `threading.TIMEOUT_MAX` (292 years on Linux; 49 days where it has 32 bits, but no
#: single wait of Chiltepin is that long), and a deadline must be a date before the year 10000.
TEN_YEARS = 3650 * 86400

#: Shortest time between two polls, in seconds: Globus allows 20 requests a second (FAQ "Transfer and Sharing", limits).
SHORTEST_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a parameter accepts.

    Parameters
    ----------
    unit : str
        What is counted, as in "a number of seconds".
    least, most : int or float
        The smallest and the largest number.
    above : bool
        Whether ``least`` itself is excluded.
    """

    unit: str
    least: float
    most: float
    above: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is a number in this range; a boolean or a text is not a number."""
        # Not converted: an int may be too large for a float.
        return is_number(value) and bool(self.least <= value <= self.most) and not (self.above and value == self.least)

    def remedy(self, value: Any) -> str:
        """Return what to give instead of a value."""
        if is_number(value) and value <= self.least:
            return f"{self.unit} {'above' if self.above else 'of at least'} {self.least:g}"
        return f"{self.unit} {'above' if self.above else 'from'} {self.least:g} to {self.most}"


#: A timeout.
SECONDS = Range("a number of seconds", 0, TEN_YEARS, above=True)

#: How long to tolerate a fault, or to delay.
GRACE = Range("a number of seconds", 0, TEN_YEARS)

#: Blocks, nodes, workers, threads: more than any machine has.
COUNT = Range("a whole number", 1, 100_000)

#: Cores for one worker. Below a hundredth, the processes would overload a node.
SHARE = Range("a number", 0.01, 100_000)

#: Bytes per second.
BANDWIDTH = Range("a number of bytes", 0, 10**15, above=True)


def is_number(value: Any) -> bool:
    """Whether a value is a real number; True and False are not, although they are ints in Python."""
    # For almost all values, the first test avoids the slow lookup of abstract base classes.
    return type(value) in (int, float) or (isinstance(value, Real) and not isinstance(value, bool))


def plain_number(value: Any) -> int | float:
    """Return a number as an int or float."""
    return int(value) if isinstance(value, Integral) else float(value)


def label_problem(label: str) -> str:
    """Return what to give instead of a label that the Globus service refuses; empty if it is valid.

    The rule of docs.globus.org, "Task Submission", 2.2, applies to every backend, so that a test without Globus finds
    what Globus would refuse. Other control characters are refused too: terminals and logs show labels.
    """
    if len(label) > LABEL_LIMIT:
        return f"give one line of at most {LABEL_LIMIT} characters"
    if label != label.strip():
        return "remove the white space around it"
    # Control characters, line and paragraph separators, and surrogates, which UTF-8 cannot encode.
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") for letter in label):
        return f"give one line of at most {LABEL_LIMIT} characters, without control characters"
    return ""
