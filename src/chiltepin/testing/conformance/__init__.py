"""The laws that every backend keeps, as a class of tests.

Subclass `BackendLaws` in a test module and give it a rig: the backend, two empty endpoints, and hands that reach behind
the backend's back. Where the endpoints are folders that the tests can see, `FolderRig` is that rig::

    class TestMine(BackendLaws):
        @pytest.fixture
        def rig(self, tmp_path):
            folders = {name: tmp_path / name for name in ("here", "there")}
            for folder in folders.values():
                folder.mkdir()
            return FolderRig(MyBackend(folders), folders)

Anything else is a `Rig` with four methods of its own. A law that needs more than the rig or the backend has is skipped,
and says what is missing.
"""

from chiltepin.testing.conformance.helpers import Outcome
from chiltepin.testing.conformance.laws import BackendLaws
from chiltepin.testing.conformance.rig import FolderRig, Rig

__all__ = ["BackendLaws", "FolderRig", "Outcome", "Rig"]
