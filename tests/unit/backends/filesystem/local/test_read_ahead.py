"""Read-ahead of small files before they are copied."""

from __future__ import annotations

import os

import pytest
from waiting import until

from chiltepin.backends.filesystem.local.read_ahead import read_ahead


def is_cold(path) -> bool:
    """Return whether a file is outside the page cache; skip the test if the kernel cannot tell."""
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pytest.skip("this disk does not tell what is in memory")
    return False


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux tells what is in memory")
def test_cold_files_are_read_together(tmp_path):
    """If the first file is not in the page cache, all files are read ahead, and a missing file is skipped."""
    names = [f"{number}.dat" for number in range(20)]
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.write(os.urandom(5000))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if not is_cold(tmp_path / names[0]):
        pytest.skip("this disk keeps its files in memory")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        read_ahead(folder, [names[0], "missing.dat", *names[1:]])
    finally:
        os.close(folder)
    until(lambda: not any(is_cold(tmp_path / name) for name in names))
