"""The laws that every backend must keep, as a class of tests.

Subclass `BackendLaws` in a test module and give it a rig: the backend, two empty endpoints, and access to their files
without the backend. If the endpoints are folders of this machine, use `FolderRig`::

    class TestMine(BackendLaws):
        @pytest.fixture
        def rig(self, tmp_path):
            folders = {name: tmp_path / name for name in ("here", "there")}
            for folder in folders.values():
                folder.mkdir()
            return FolderRig(MyBackend(folders), folders)

Otherwise, subclass `Rig` and implement its four methods. A law that needs something that the rig or the backend does
not support is skipped with a reason.
"""

from chiltepin.testing.conformance.helpers import Outcome
from chiltepin.testing.conformance.laws import BackendLaws
from chiltepin.testing.conformance.rig import FolderRig, Rig

__all__ = ["BackendLaws", "FolderRig", "Outcome", "Rig"]
