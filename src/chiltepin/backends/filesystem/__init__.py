"""The worker backend: files of this machine, and of every store that fsspec can open."""
