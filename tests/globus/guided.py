"""A task manager that a test steps, and a simulated Globus: one clock for both."""

from __future__ import annotations

from chiltepin.transfers.service.manager import TaskManager


class SimulatorClock:
    """The simulator's time, as the task manager reads a clock."""

    def __init__(self, clock):
        self._clock = clock

    def monotonic(self):
        """Tell the seconds."""
        return self._clock.time()

    def now(self):
        """Tell the time of day."""
        return self._clock.now()


class Guided:
    """A task manager before a simulator, one clock for both, and nothing that moves by itself."""

    def __init__(self, backend, globus, **options):
        self.backend, self.globus = backend, globus
        self.manager = TaskManager(backend, clock=SimulatorClock(globus.clock), threaded=False, **options)
        self._count = 0

    def start(self, request, **options):
        """Take a request on."""
        self._count += 1
        options = {"timeout": 3600, "polling_interval": 30, "grace": 60, **options}
        return self.manager.start(f"pending request {self._count}", request, **options)

    def live(self, *, seconds=float("inf")):
        """Let happen what is due, and the time go by, for some seconds or until nothing is under way."""
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
