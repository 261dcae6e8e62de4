"""The backend satisfies the laws of Chiltepin."""

import pytest
from chiltepin_sqlite import SqliteBackend
from chiltepin_sqlite.database import Database

from chiltepin.testing.conformance import BackendLaws, Rig


class SqliteRig(Rig):
    """Two databases, with direct access to them."""

    def __init__(self, folder):
        places = {
            name: {"location": str(folder / f"{name}.db")}
            for name in ("here", "there")
        }
        backend = SqliteBackend.from_config(places, {})
        super().__init__(backend, tuple(places), config=(places, {}))
        self.databases = {
            name: Database(place["location"]) for name, place in places.items()
        }

    def put(self, endpoint, path, content, *, modified=None):
        """Write a file; the databases store no times."""
        if modified is not None:
            self.lacks("modification times", "put")
        self.databases[endpoint].write(path, content)

    def get(self, endpoint, path):
        """Read a file."""
        return self.databases[endpoint].read(path)

    def mkdir(self, endpoint, path):
        """Do nothing: a folder exists if it contains a file."""

    def tree(self, endpoint):
        """Return all paths; those of folders end with a slash."""
        found = set(self.databases[endpoint].below("/"))
        for path in list(found):
            names = path.split("/")[1:-1]
            for count in range(len(names)):
                found.add("/" + "/".join(names[: count + 1]) + "/")
        return found


class TestSqlite(BackendLaws):
    """All laws."""

    @pytest.fixture
    def rig(self, tmp_path):
        """Two new databases for each law."""
        rig = SqliteRig(tmp_path)
        yield rig
        rig.backend.close()
