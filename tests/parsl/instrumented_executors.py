"""Executors that show what Parsl does with one; each is a real one, with a window."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from parsl import ThreadPoolExecutor
from parsl.executors.base import ParslExecutor


class RecordingExecutor(ThreadPoolExecutor):
    """Threads that take resources, and remember what they were given."""

    def __init__(self, label="recording"):
        super().__init__(label, max_threads=1)
        self.calls = []

    def submit(self, func, resource_specification, *args, **kwargs):
        """Note the call and run it."""
        self.calls.append((func, resource_specification))
        return super().submit(func, {}, *args, **kwargs)


class FarExecutor(ParslExecutor):
    """Workers that are far away: they answer only when they are shut down, and then all of them do."""

    def __init__(self, label="far"):
        super().__init__()
        self.label = label
        self.futures = []
        #: Released once for each task that was taken.
        self.taken = threading.Semaphore(0)

    def submit(self, func, resource_specification, *args, **kwargs):
        """Take the task and never run it."""
        self.futures.append(Future())
        self.taken.release()
        return self.futures[-1]

    def shutdown(self):
        """Answer late; as in any executor, an answer that cannot be set is an error."""
        for future in self.futures:
            future.set_result("too late")
        super().shutdown()


class BrokenExecutor(ThreadPoolExecutor):
    """Threads that cannot be shut down without an error."""

    def shutdown(self, block=True):  # noqa: FBT002
        """Shut down, and fail."""
        super().shutdown(block)
        raise OSError("no way down")
