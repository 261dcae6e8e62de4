"""The worker backends keep the laws, over every kind of store."""

from __future__ import annotations

import pytest
from buckets import OTHERS

from chiltepin.testing.conformance import BackendLaws
from chiltepin.testing.conformance.checksums import ChecksumLaws
from chiltepin.testing.conformance.deletions import DeletionLaws
from chiltepin.testing.conformance.destination_extra import DestinationExtraLaws
from chiltepin.testing.conformance.files import FileLaws
from chiltepin.testing.conformance.folders import FolderLaws
from chiltepin.testing.conformance.listing import ListingLaws
from chiltepin.testing.conformance.refusals import RefusalLaws
from chiltepin.testing.conformance.selection import SelectionLaws


class TestFolders(BackendLaws):
    """``filesystem`` over two folders of this machine."""

    @pytest.fixture
    def rig(self, folder_rig):
        """Two folders."""
        return folder_rig


class TestFoldersInMemory(ListingLaws):
    """``filesystem`` over folders of a disk in memory, which can keep more times than others."""

    @pytest.fixture
    def rig(self, shm_rig):
        """Two folders."""
        return shm_rig


class TestLocal(BackendLaws):
    """``local``: endpoints are folders below one root."""

    @pytest.fixture
    def rig(self, local_rig):
        """Two folders below one root, with homes."""
        return local_rig


class TestMemory(BackendLaws):
    """``filesystem`` over a store that fsspec opens."""

    @pytest.fixture
    def rig(self, memory_rig):
        """Two folders in memory."""
        return memory_rig


class TestTop(BackendLaws):
    """``filesystem`` over stores whose roots have nothing above them."""

    @pytest.fixture
    def rig(self, top_rig):
        """Two whole stores in memory."""
        return top_rig


class TestBucket(BackendLaws):
    """``filesystem`` over an S3 server."""

    @pytest.fixture
    def rig(self, bucket_rig):
        """Two folders of a bucket."""
        return bucket_rig


class TestOtherBuckets(FileLaws, FolderLaws, SelectionLaws, DestinationExtraLaws, DeletionLaws, ListingLaws):
    """The laws in which S3 servers differ, over servers other than moto."""

    @pytest.fixture(params=OTHERS)
    def rig(self, request, other_bucket_rig):
        """Two folders of a bucket on a server that stores its objects as files."""
        return other_bucket_rig(request.param)


class TestCloud(BackendLaws):
    """``filesystem`` over servers of Azure Blob Storage and Google Cloud Storage."""

    @pytest.fixture(params=["azure", "gcs"])
    def rig(self, request, cloud_rig):
        """Two folders of a container or a bucket."""
        return cloud_rig(request.param)


class TestHeldStore(BackendLaws):
    """``filesystem`` over a store whose reads can be held, for the laws about canceling."""

    @pytest.fixture
    def rig(self, gated_rig):
        """Two folders in memory, with a gate."""
        return gated_rig


class TestSftp(BackendLaws):
    """``filesystem`` over an SFTP server."""

    @pytest.fixture
    def rig(self, sftp_rig):
        """Two folders behind a server."""
        return sftp_rig


class TestOtherSftp(BackendLaws):
    """``filesystem`` over SFTP servers other than OpenSSH's."""

    @pytest.fixture(params=["rclone", "asyncssh"])
    def rig(self, request, other_sftp_rig):
        """Two folders behind a server that processes requests in any order, or has the extensions of OpenSSH."""
        return other_sftp_rig(request.param)


class TestFtp(BackendLaws):
    """``filesystem`` over FTP servers."""

    @pytest.fixture(params=["pyftpdlib-windows", "vsftpd"])
    def rig(self, request, served_rig):
        """Two folders behind a server, whose rename replaces files or does not."""
        return served_rig(request.param)


class TestWebdav(BackendLaws):
    """``filesystem`` over a WebDAV server."""

    @pytest.fixture
    def rig(self, served_rig):
        """Two folders behind a server."""
        return served_rig("apache-dav")


class TestOtherFileServers(FileLaws, FolderLaws, DestinationExtraLaws, DeletionLaws):
    """The laws in which FTP and WebDAV servers differ, over other servers."""

    @pytest.fixture(params=["pyftpdlib", "wsgidav"])
    def rig(self, request, served_rig):
        """Two folders behind a server."""
        return served_rig(request.param)


class TestWeb(FileLaws, FolderLaws, SelectionLaws, ChecksumLaws, DestinationExtraLaws, RefusalLaws):
    """``filesystem`` from a web server to a folder of this machine: the laws that involve a source."""

    @pytest.fixture
    def rig(self, web_rig):
        """A web server over a folder, and a folder."""
        return web_rig("nginx")


class TestOtherWebs(FileLaws, FolderLaws, DestinationExtraLaws):
    """The laws in which index pages differ, over other web servers."""

    @pytest.fixture(params=["apache", "lighttpd", "tomcat"])
    def rig(self, request, web_rig):
        """A web server over a folder, and a folder."""
        return web_rig(request.param)
