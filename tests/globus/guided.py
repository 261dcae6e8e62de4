"""A task manager that a test runs step by step on the clock of a simulated Globus."""

from __future__ import annotations

from datetime import timedelta

from chiltepin.transfers.service.manager import TaskManager


class SimulatorClock:
    """The simulator's clock, with the task manager's interface."""

    def __init__(self, clock):
        self._clock = clock
        #: Seconds by which its time of day is late.
        self.behind = 0.0

    def monotonic(self):
        """Return the time in seconds."""
        return self._clock.time()

    def now(self):
        """Return the current date and time."""
        return self._clock.now() - timedelta(seconds=self.behind)


class Guided:
    """A task manager that uses the simulator's clock and acts only when a test runs it."""

    def __init__(self, backend, globus, **options):
        self.backend, self.globus = backend, globus
        self.clock = SimulatorClock(globus.clock)
        self.manager = TaskManager(backend, clock=self.clock, threaded=False, **options)
        self._count = 0

    def start(self, request, **options):
        """Submit a request to the task manager."""
        self._count += 1
        options = {"timeout": 3600, "polling_interval": 30, "grace": 60, **options}
        return self.manager.start(f"pending request {self._count}", request, **options)

    def live(self, *, seconds=float("inf")):
        """Run steps and advance the clock, for some seconds or until no work is left."""
        end = self.globus.clock.time() + seconds
        for _ in range(2000):
            pause = self.manager.step()
            if pause is None or self.globus.clock.time() + pause > end:
                return
            self.globus.clock.advance(pause)
        raise AssertionError("The task manager does not come to rest.")

    def run(self, request, **options):
        """Run a request to its end; return its final status, or raise its error."""
        pending = self.start(request, **options)
        self.live()
        return pending.future.result(0)
