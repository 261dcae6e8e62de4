"""Load botocore's descriptions of AWS in half the time.

botocore parses JSON into ordered dictionaries, and first searches the folders of all 400 services for those that it
supports. Both take most of the time to open a bucket (docs/decisions/s3-client.md).
"""

from __future__ import annotations

import gzip
import json
import os
from contextlib import suppress
from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader

__all__ = ["descriptions"]


class _PlainLoader(JSONFileLoader):  # type: ignore[misc] # botocore has no types
    def load_file(self, file_path: str) -> Any:
        """Return a description as plain dictionaries, which also keep their order; None if it does not exist."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                return json.loads(file.read())
        return None


class _Descriptions(Loader):  # type: ignore[misc] # botocore has no types
    FILE_LOADER_CLASS = _PlainLoader

    def list_available_services(self, type_name: str) -> list[str]:
        """Return the names of all services, whether or not they have a file of this type.

        Loading the missing file of a service then raises another error.
        """
        del type_name
        return sorted({name for path in self.search_paths if os.path.isdir(path) for name in os.listdir(path)})


@cache
def descriptions(path: str | None) -> Any:
    """Return botocore's descriptions of AWS, read once in a process; ``path`` is the AWS_DATA_PATH."""
    folders = [os.path.expanduser(os.path.expandvars(folder)) for folder in path.split(os.pathsep)] if path else []
    return _Descriptions(folders)
