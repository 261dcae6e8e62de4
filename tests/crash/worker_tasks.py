"""The tasks of the workers of killed workflows."""

from __future__ import annotations

from chiltepin import python_task


@python_task
def process_id():
    """Return the id of the process that runs this task."""
    import os

    return os.getpid()
