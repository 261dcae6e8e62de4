"""A hub that a test leads by the hand, before a simulated Globus: one clock for both."""

from __future__ import annotations

from chiltepin.transfers.service.manager import Hub


class SimulatorClock:
    """The simulator's time, as the hub reads a clock."""

    def __init__(self, clock):
        self._clock = clock

    def monotonic(self):
        """Tell the seconds."""
        return self._clock.time()

    def now(self):
        """Tell the time of day."""
        return self._clock.now()


class Guided:
    """A hub before a simulator, one clock for both, and nothing that moves by itself."""

    def __init__(self, backend, globus, **options):
        self.backend, self.globus = backend, globus
        self.hub = Hub(backend, clock=SimulatorClock(globus.clock), threaded=False, **options)
        self._count = 0

    def start(self, request, **options):
        """Take a request on."""
        self._count += 1
        options = {"timeout": 3600, "polling_interval": 30, "grace": 60, **options}
        return self.hub.start(f"errand {self._count}", request, **options)

    def live(self, *, seconds=float("inf")):
        """Let happen what is due, and the time go by, for some seconds or until nothing is under way."""
        end = self.globus.clock.time() + seconds
        for _ in range(2000):
            pause = self.hub.step()
            if pause is None or self.globus.clock.time() + pause > end:
                return
            self.globus.clock.advance(pause)
        raise AssertionError("The hub does not come to rest.")

    def run(self, request, **options):
        """Run a request to its end; return its final status, or raise its error."""
        errand = self.start(request, **options)
        self.live()
        return errand.future.result(0)
