"""All laws in one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chiltepin.testing.conformance.cancellation import CancellationLaws
from chiltepin.testing.conformance.checksums import ChecksumLaws
from chiltepin.testing.conformance.contract import ContractLaws
from chiltepin.testing.conformance.deletions import DeletionLaws
from chiltepin.testing.conformance.destination_extra import DestinationExtraLaws
from chiltepin.testing.conformance.file_operations import FileOperationLaws
from chiltepin.testing.conformance.files import FileLaws
from chiltepin.testing.conformance.folders import FolderLaws
from chiltepin.testing.conformance.listing import ListingLaws
from chiltepin.testing.conformance.refusals import RefusalLaws
from chiltepin.testing.conformance.selection import SelectionLaws
from chiltepin.testing.conformance.tasks import TaskLaws

if TYPE_CHECKING:
    from chiltepin.testing.conformance.rig import Rig

__all__ = ["BackendLaws"]


class BackendLaws(
    ContractLaws,
    FileLaws,
    FolderLaws,
    SelectionLaws,
    ChecksumLaws,
    DestinationExtraLaws,
    DeletionLaws,
    ListingLaws,
    FileOperationLaws,
    CancellationLaws,
    TaskLaws,
    RefusalLaws,
):
    """The laws of a backend; subclass it under a name that pytest collects, and override `rig`.

    Each test is one law, stated in its docstring. The laws follow from `chiltepin.protocol` and `chiltepin.model`.
    """

    @pytest.fixture
    def rig(self) -> Rig:
        """Return a rig: the backend and two empty endpoints, new for every law."""
        raise NotImplementedError(f"{type(self).__name__} has no rig; define a fixture named rig that returns a Rig.")
