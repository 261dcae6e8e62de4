"""A simulated Globus whose clock stands still, our backend before it, and a hub that a test leads by the hand."""

from __future__ import annotations

import pytest

from chiltepin.backends.globus import GlobusBackend
from chiltepin.hub import Hub
from chiltepin.testing.simulator import ManualClock, Simulator


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


@pytest.fixture
def globus(tmp_path, monkeypatch):
    """A simulated Globus of two collections, to which the environment leads."""
    folders = {name: tmp_path / name for name in ("my-laptop", "hpc-scratch")}
    with Simulator(folders, clock=ManualClock()) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture
def backend(globus):
    """Our backend, with both collections declared under short names."""
    named = {"a": "my-laptop", "b": "hpc-scratch"}
    places = {short: {"collection": globus.collection(name).id} for short, name in named.items()}
    backend = GlobusBackend.from_config(places, {})
    yield backend
    backend.close()


@pytest.fixture
def guided(backend, globus):
    """A hub that a test leads."""
    return Guided(backend, globus)


@pytest.fixture
def laptop(tmp_path):
    """The folder behind endpoint a, with a file and a tree in it."""
    folder = tmp_path / "my-laptop"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    (folder / "tree" / "x.nc").write_bytes(b"x")
    (folder / "tree" / "deep" / "y.txt").write_bytes(b"y")
    return folder


@pytest.fixture
def scratch(tmp_path):
    """The folder behind endpoint b."""
    return tmp_path / "hpc-scratch"
