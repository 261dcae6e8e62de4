"""Real executors, instrumented to show how Parsl uses them."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from parsl import ThreadPoolExecutor
from parsl.executors.base import ParslExecutor


class RecordingExecutor(ThreadPoolExecutor):
    """Threads that accept a resource specification and record their calls."""

    def __init__(self, label="recording"):
        super().__init__(label, max_threads=1)
        self.calls = []

    def submit(self, func, resource_specification, *args, **kwargs):
        """Record the call and run it."""
        self.calls.append((func, resource_specification))
        return super().submit(func, {}, *args, **kwargs)


class FarExecutor(ParslExecutor):
    """Remote workers, simulated: they return results only at shutdown."""

    def __init__(self, label="far"):
        super().__init__()
        self.label = label
        self.futures = []
        #: Released once for each accepted task.
        self.taken = threading.Semaphore(0)

    def submit(self, func, resource_specification, *args, **kwargs):
        """Accept the task but never run it."""
        self.futures.append(Future())
        self.taken.release()
        return self.futures[-1]

    def shutdown(self):
        """Set the results late; as in any executor, a result that cannot be set is an error."""
        for future in self.futures:
            future.set_result("too late")
        super().shutdown()


class BrokenExecutor(ThreadPoolExecutor):
    """Threads whose shutdown raises an error."""

    def shutdown(self, block=True):  # noqa: FBT002
        """Shut down, then raise an error."""
        super().shutdown(block)
        raise OSError("no way down")
