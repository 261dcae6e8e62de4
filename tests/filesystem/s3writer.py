"""A process that sends the parts of an object one by one, says so, and waits to be killed or told to go on."""

from __future__ import annotations

import json
import sys

from chiltepin.backends.filesystem.stores.s3.store import S3Store


def main() -> None:
    """Send the parts that are named; end the upload if told so by a line."""
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
