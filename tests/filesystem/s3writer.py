"""A process that uploads parts of an object, prints a line, and waits for a line of input or to be killed."""

from __future__ import annotations

import json
import sys

from chiltepin.backends.filesystem.stores.s3.store import S3Store


def main() -> None:
    """Upload the given parts, and complete the upload after a line of input."""
    url, options, name, size, parts = json.loads(sys.argv[1])
    store = S3Store(url, options)
    with store.folder((), create=True) as folder, folder.temp_file(name, size=size) as temp_file:
        for number in parts:
            start = number * temp_file.part
            block = bytes([number % 251]) * min(temp_file.part, size - start)
            temp_file.write_at(start, memoryview(block))
        sys.stdout.write("sent\n")
        sys.stdout.flush()
        sys.stdin.readline()
        temp_file.commit(None)


if __name__ == "__main__":
    main()
