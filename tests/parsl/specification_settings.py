"""The settings and endpoints of the specification's workflows, for any backend and provider."""

from __future__ import annotations

import uuid

import fsspec

FILES = {
    "/Users/me/data/dataset.csv": b"a,b\n1,2\n3,4\n",
    "/Users/me/data/more/sim1.dat": b"1",
    "/Users/me/data/more/sim2.dat": b"22",
    "/Users/me/data/more/sim3.dat": b"333",
    "/Users/me/raw.csv": b"a,b\n1,\n5,6\n",
}

SETTINGS = """\
compute:
  provider: {provider}
  init_blocks: 1
  max_workers_per_node: 2

data:
  backend: {backend}
  root: {top}/sandbox
  endpoints:
    my-laptop:
      globus: 12345678-1234-1234-1234-123456789abc
      filesystem: {base}/my-laptop
    hpc-scratch:
      globus: {{collection: 87654321-4321-4321-4321-cba987654321, mount: {top}/endpoints/hpc-scratch}}
      filesystem: {base}/hpc-scratch
    HPC Scratch Space:
      globus: 11111111-2222-3333-4444-555555555555
      filesystem: {base}/HPC Scratch Space
"""

#: The collections of the simulated Globus, as named in the settings and the workflows.
COLLECTIONS = {
    "my-laptop": "12345678-1234-1234-1234-123456789abc",
    "hpc-scratch": "87654321-4321-4321-4321-cba987654321",
    "HPC Scratch Space": "11111111-2222-3333-4444-555555555555",
}


class Place:
    """The storage behind the endpoints of a settings file."""

    def __init__(self, filesystem, base):
        self.filesystem, self.base = filesystem, base

    def fill(self):
        """Recreate the endpoints, with the laptop's files."""
        if self.filesystem.exists(self.base):
            self.filesystem.rm(self.base, recursive=True)
        for name in ("my-laptop", "hpc-scratch", "HPC Scratch Space"):
            self.filesystem.makedirs(f"{self.base}/{name}")
        for path, content in FILES.items():
            place = f"{self.base}/my-laptop{path}"
            self.filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
            self.filesystem.pipe_file(place, content)

    def scratch(self):
        """Return the paths of the files on hpc-scratch."""
        root = f"{self.base}/hpc-scratch"
        return sorted(name[len(root) :] for name in self.filesystem.find(root))


def write_settings(tmp_path, *, backend, provider="threads"):
    """Write a settings file; return it with the storage of its endpoints.

    In `provider`, further keys of ``compute`` can follow, one per line.
    """
    if provider == "threads":
        provider = "threads  # and nothing more"
    base = f"{tmp_path}/sandbox" if backend == "local" else f"{tmp_path}/endpoints"
    filesystem = fsspec.filesystem("file")
    url = base
    if backend == "memory":
        base, backend, filesystem = f"/{uuid.uuid4().hex}", "filesystem", fsspec.filesystem("memory")
        url = f"memory:/{base}"
    elif backend == "file":
        backend, url = "filesystem", f"file://{base}"
    text = SETTINGS.format(provider=provider, backend=backend, top=tmp_path, base=url)
    if provider.startswith("threads"):
        text = text.replace("  init_blocks: 1\n  max_workers_per_node: 2\n", "")
    file = tmp_path / "chiltepin.yaml"
    file.write_text(text)
    return file, Place(filesystem, base)
