"""A simulated Globus on this machine, for tests and demonstrations; it needs the packages of the extra ``testing``."""

from chiltepin.testing.simulator.clock import ManualClock, RunningClock
from chiltepin.testing.simulator.simulator import Simulator

__all__ = ["ManualClock", "RunningClock", "Simulator"]
