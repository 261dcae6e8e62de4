"""Replace what a process made by ``fork`` must not share with its parent.

A child gets a copy of the parent's memory, but not its threads: a queue would wait for a missing thread, a missing
thread may hold a lock, a connection is shared with the parent, and a queued request would be made twice. So each part
of Chiltepin with such objects registers a function that replaces them in the child. Only this module calls
``os.register_at_fork``.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import weakref
from importlib import _bootstrap
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["leave", "register"]

logger = logging.getLogger(__name__)

#: Locks of the modules that are being loaded, by name; Python has no public name for them.
_module_locks: dict[str, Any] = vars(_bootstrap).get("_module_locks", {})
_forgets: dict[int, Callable[[], Callable[[], object] | None]] = {}
_numbers = itertools.count()
_left: list[object] = []


def register(forget: Callable[[], object]) -> None:
    """Call ``forget`` in each child, before any other code runs in it.

    ``forget`` must replace what the child must not share, above all locks. It must not wait for a lock: a thread that
    no longer exists may hold it. A bound method is held weakly.
    """
    number, forgets = next(_numbers), _forgets
    if not isinstance(forget, MethodType):
        forgets[number] = lambda: forget
        return
    # Not a WeakMethod: its own callback fails at interpreter shutdown, when its globals are already gone.
    owner, function = weakref.ref(forget.__self__, lambda _: forgets.pop(number, None)), forget.__func__

    def method() -> Callable[[], object] | None:
        kept = owner()
        return None if kept is None else MethodType(function, kept)

    forgets[number] = method


def leave(*things: object) -> None:
    """Keep objects of the parent, unused, until the child ends.

    Collecting them would run their finalizers, which flush buffers, log out, or stop processes of the parent.
    """
    _left.extend(things)


def _forget_half_loaded() -> None:
    """Unload the modules that a thread of the parent was loading, so that they are loaded again.

    Python keeps their locks, and nothing in the child releases them: an import of one of them would hang. Even ``open``
    imports a module, when it first needs a codec.
    """
    for name, reference in list(_module_locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            del _module_locks[name]
            sys.modules.pop(name, None)


def _forget_all() -> None:
    _forget_half_loaded()
    for reference in list(_forgets.values()):
        forget = reference()
        if forget is not None:
            try:
                forget()
            except Exception:
                # The other functions must still run.
                logger.exception("%r failed in a new process.", forget)


os.register_at_fork(after_in_child=_forget_all)
