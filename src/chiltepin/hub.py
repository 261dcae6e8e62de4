"""One thread for all that a service does for us: it submits, looks and cancels, and every errand ends.

A task at a service needs nobody to wait for it. So the hub has one thread that speaks with the service, whatever the
number of tasks, and looks at all of them with one question; another thread ends the futures, so that what a user hangs
on to a future never delays a look.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from concurrent import futures
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from chiltepin.errand import Errand
from chiltepin.errors import BackendError, LoginRequiredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chiltepin.model import Request
    from chiltepin.protocol import TransferBackend

__all__ = ["Hub", "SystemClock"]

logger = logging.getLogger(__name__)

#: First and longest wait, in seconds, before a question that could not be asked is asked again; it doubles.
FIRST_RETRY, LAST_RETRY = 1.0, 30.0

#: Seconds that the end of the process waits for the service to hear of the cancellations.
LAST_WORDS = 10.0

_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


@atexit.register
def _say_last_words() -> None:
    """Cancel at the services what nobody will wait for any more."""
    for hub in list(_hubs):
        hub.close()


class SystemClock:
    """The time of this machine."""

    def monotonic(self) -> float:
        """Return seconds that only go forward."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(timezone.utc)


class Patience:
    """When to ask again what could not be asked."""

    def __init__(self) -> None:
        self._wait, self.until = FIRST_RETRY, float("-inf")

    def failed(self, now: float) -> None:
        """Wait from now on, twice as long as the last time."""
        self.until, self._wait = now + self._wait, min(2 * self._wait, LAST_RETRY)

    def succeeded(self) -> None:
        """Wait no more."""
        self._wait, self.until = FIRST_RETRY, float("-inf")


class Chore:
    """A thread that is there as long as it has something to do.

    Parameters
    ----------
    name : str
        Its name.
    work : callable
        Does what there is, and returns the seconds until there will be more; None if there is nothing to wait for.
    """

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self._name, self._work = name, work
        self._changed = threading.Condition()
        self._running = self._again = False

    def wake(self) -> None:
        """Have the work done, now or right after what is being done."""
        with self._changed:
            self._again = True
            self._changed.notify()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._again = False
            try:
                pause = self._work()
            except Exception:
                # Whatever it was, futures wait for what comes after it.
                logger.exception("%s stumbled and goes on.", self._name)
                pause = FIRST_RETRY
            with self._changed:
                if not self._again and pause is None:
                    self._running = False
                    return
                self._changed.wait_for(lambda: self._again, pause)


class Hub:
    """Runs any number of errands on one service backend, with one thread for all of them.

    Parameters
    ----------
    backend : TransferBackend
        The service.
    clock : object
        Has ``monotonic()`` and ``now()``; tests give one that is moved by hand.
    threaded : bool
        Whether threads do the work as it is due; False leaves that to calls of `step`.
    """

    def __init__(self, backend: TransferBackend, *, clock: Any = None, threaded: bool = True) -> None:
        self._backend, self._clock, self._threaded = backend, clock or SystemClock(), threaded
        self._known: dict[str, Errand] = {}
        self._live: dict[str, Errand] = {}
        #: Keys that were stopped before they started.
        self._unwanted: set[str] = set()
        self._lock = threading.Lock()
        self._looked = self._clock.monotonic()
        self._submitting, self._looking = Patience(), Patience()
        self._speaker, self._finisher = Chore("chiltepin-hub", self.step), Chore("chiltepin-futures", self._finish)
        self._ended: list[Callable[[], None]] = []
        _hubs.add(self)

    def start(self, key: str, request: Request, *, timeout: float, polling_interval: float, grace: float) -> Errand:
        """Take a request on; this returns at once.

        Parameters
        ----------
        key : str
            The caller's name for the errand; one that is known is joined, not made twice.
        request, timeout, polling_interval, grace
            See `Errand`.
        """
        if self._backend.capabilities.deadline:
            limit = self._clock.now() + timedelta(seconds=timeout)
            request = replace(request, deadline=min(limit, request.deadline or limit))
        begun = self._clock.monotonic()
        with self._lock:
            if key not in self._known:
                errand = Errand(request, timeout=timeout, polling_interval=polling_interval, grace=grace, begun=begun)
                if key in self._unwanted:
                    self._unwanted.discard(key)
                    errand.stop()
                self._known[key] = self._live[key] = errand
            errand = self._known[key]
        self._wake()
        return errand

    def stop(self, key: str) -> None:
        """Have an errand stopped, now or as soon as it starts; this returns at once."""
        with self._lock:
            errand = self._known.get(key)
            if errand is None:
                self._unwanted.add(key)
                return
        errand.stop()
        self._wake()

    def find(self, key: str) -> Errand | None:
        """Return the errand of a key, if it has started and is not forgotten."""
        return self._known.get(key)

    def forget(self, key: str) -> None:
        """Drop what is known of a key; what is under way goes on."""
        with self._lock:
            self._unwanted.discard(key)
            self._known.pop(key, None)

    def close(self, seconds: float = LAST_WORDS) -> None:
        """Stop every errand, and wait so many seconds at most until all have ended."""
        with self._lock:
            live = list(self._live.values())
        for errand in live:
            errand.stop()
        if live:
            self._wake()
            futures.wait([errand.future for errand in live], timeout=seconds)

    def _wake(self) -> None:
        if self._threaded:
            self._speaker.wake()

    def step(self) -> float | None:
        """Do all that is due.

        Returns
        -------
        float or None
            Seconds until something will be due; None if nothing is under way.
        """
        for key, errand in self._errands():
            if self._tend(key, errand):
                # In between too, for a hundred submissions take longer than the time between two looks.
                self._look_if_due()
        self._look_if_due()
        moments = [self._next(errand) for _, errand in self._errands()]
        return max(0.0, min(moments) - self._clock.monotonic()) if moments else None

    def _errands(self) -> list[tuple[str, Errand]]:
        with self._lock:
            return list(self._live.items())

    def _next(self, errand: Errand) -> float:
        """Return the moment when an errand next needs us."""
        if errand.handle is None:
            return min(self._submitting.until, errand.limit) if not errand.stopping else 0.0
        if errand.wants_cancel(self._clock.monotonic()):
            return 0.0
        return max(errand.next_look(self._looked), self._looking.until)

    def _tend(self, key: str, errand: Errand) -> bool:
        """Submit an errand, or cancel its task, or give it up, whichever is due; return whether the service was asked."""
        now = self._clock.monotonic()
        errand.watch(now)
        if errand.handle is None:
            # If the reply to the last try was lost, its task is not to be left behind.
            due = errand.refused if errand.stopping else now >= self._submitting.until
            if due:
                self._submit(key, errand)
            if errand.stopping and errand.handle is None:
                self._end(key, errand)
            return bool(due)
        if errand.wants_cancel(now):
            self._cancel(errand, now)
            return True
        if errand.given_up(now):
            self._end(key, errand)
        return False

    def _submit(self, key: str, errand: Errand) -> None:
        try:
            # Kept over every try: that is what makes a repetition harmless.
            errand.submission_id = errand.submission_id or self._backend.new_submission_id()
            errand.handle = self._backend.submit(errand.request, errand.submission_id)
        except Exception as err:  # noqa: BLE001 - whatever it is, the future has to end
            refusal = err
        else:
            # Its first look comes in its own time, not at once because others were looked at long ago.
            errand.submitted = self._clock.monotonic()
            self._submitting.succeeded()
            return
        if isinstance(refusal, BackendError) and refusal.transient:
            errand.refused = str(refusal)
            self._submitting.failed(self._clock.monotonic())
        else:
            self._end(key, errand, refusal)

    def _cancel(self, errand: Errand, now: float) -> None:
        errand.cancel_tried = now
        try:
            self._backend.cancel(errand.handle)  # type: ignore[arg-type] # it has one
        except Exception as err:  # noqa: BLE001 - tried again, until its time is up
            logger.warning("Could not cancel task %s: %s", errand.handle, err)
        else:
            errand.cancel_heard = True

    def _look_if_due(self) -> None:
        """Look at every task with one question, if one of them is due."""
        now = self._clock.monotonic()
        asked = [(key, errand) for key, errand in self._errands() if errand.handle is not None]
        if not asked or now < self._looking.until or now < min(errand.next_look(self._looked) for _, errand in asked):
            return
        try:
            statuses = self._backend.poll([errand.handle for _, errand in asked if errand.handle])
        except LoginRequiredError as err:
            lost = err
        except Exception as err:  # noqa: BLE001 - asked again; each errand has its timeout
            logger.warning("Could not ask how %d tasks are: %s", len(asked), err)
            self._looking.failed(self._clock.monotonic())
            return
        else:
            self._heard(asked, statuses)
            return
        for key, errand in asked:
            self._end(key, errand, lost)

    def _heard(self, asked: list[tuple[str, Errand]], statuses: list[Any]) -> None:
        self._looked = now = self._clock.monotonic()
        self._looking.succeeded()
        for (key, errand), status in zip(asked, statuses, strict=True):
            errand.hear(status, now)
            if status.state.final:
                self._end(key, errand)

    def _end(self, key: str, errand: Errand, error: BaseException | None = None) -> None:
        """End an errand, with its status or the error that it stands for."""
        with self._lock:
            if self._live.pop(key, None) is None:
                return
        # A place at the service has become free, perhaps.
        self._submitting.succeeded()
        now = self._clock.monotonic()
        self._ended.append(lambda: errand.end(now, error))
        if self._threaded:
            self._finisher.wake()
        else:
            self._finish()

    def _finish(self) -> None:
        """End the futures of what has ended; their callbacks are other people's code, and run here."""
        while self._ended:
            self._ended.pop(0)()
