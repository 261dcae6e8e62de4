"""What the workers of the killed workflows are asked."""

from __future__ import annotations

from chiltepin import python_task


@python_task
def process_id():
    """Return the id of the process that runs this."""
    import os

    return os.getpid()
