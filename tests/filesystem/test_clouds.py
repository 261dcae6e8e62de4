"""Azure Blob Storage and Google Cloud Storage, on loopback servers."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys

import pytest
from cloudservers import cloud_bucket
from webservers import free_port

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.backends.filesystem.stores.objects.part_size import PART
from chiltepin.errors import ConfigError, PermissionDeniedError, UnsupportedOptionError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

KINDS = ("azure", "gcs")

#: Names that a URL, a shell or a client could misinterpret.
NAMES = [
    *("a b", " lead", "trail ", "p%41", "%2e%2e", "h#h", "q?q", "é", "e\u0301", "a+b", "star*[x]", "col:on", "x;y=1&z"),
    *("\U0001f600", 'quo"te', "<x>&y", "~t", "..x", "http:", "versionid=1", "#1#"),
]


@pytest.fixture(params=KINDS)
def cloud(request, monkeypatch):
    """A bucket or container, with access to its objects without the backend."""
    monkeypatch.setenv("NO_PROXY", "*")
    return cloud_bucket(request.param)


def only(kind):
    """Run a test with this service only."""
    return pytest.mark.parametrize("cloud", [kind], indirect=True)


def move(transfers, source, target, path, **options):
    """Copy from one endpoint to another, by default to the same path."""
    told = {"src_path": path, "dst_path": path, **options}
    request = transfer_request(src_ep=source, dst_ep=target, **told)
    return transfers.run(request, timeout=60, polling_interval=1)


def remove(transfers, endpoint, path, **options):
    """Delete a path."""
    request = delete_request(src_ep=endpoint, src_path=path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def files_below(top):
    """The contents of all files below a folder, by path."""
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def small_pages(transfers, count):
    """Limit the pages of listings to this number of entries."""
    for name in ("cloud", "other", "whole"):
        transfers.backend._place(name).store().page = count


def test_a_tree_of_odd_names_goes_there_and_back(cloud, tmp_path):
    """Files and folders with odd names keep them on a round trip, even with short pages of listings."""
    here, back = tmp_path / "t", tmp_path / "back"
    for name in NAMES:
        (here / name).mkdir(parents=True)
        (here / name / name).write_text(name)
    (here / "top").write_text("beside the folders")
    transfers = cloud.backend(tmp_path)
    small_pages(transfers, 4)
    status = move(transfers, "disk", "cloud", "/t", recursive=True)
    assert (status.state, status.files_skipped) == (TaskState.SUCCEEDED, 0), status.reason
    assert {key: cloud.get(key) for key in sorted(cloud.keys())} == {
        f"cloud/t/{path}": content for path, content in files_below(here).items()
    }
    status = move(transfers, "cloud", "disk", "/t", dst_path="/back", recursive=True)
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert files_below(back) == files_below(here)
    # A mirror deletes a file that only the destination has.
    extra = {"recursive": True, "delete_destination_extra": True, "sync_level": "checksum"}
    status = move(transfers, "cloud", "other", "/t", **extra)
    assert status.state is TaskState.SUCCEEDED, status.reason
    (here / "extra").write_text("x")
    assert move(transfers, "cloud", "disk", "/t", **extra).state is TaskState.SUCCEEDED
    assert files_below(here) == files_below(back)


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART + 5])
def test_a_file_of_any_size_arrives_and_is_replaced(cloud, tmp_path, size):
    """Files around the part size replace a longer or shorter object, and arrive whole in both directions."""
    transfers = cloud.backend(tmp_path)
    content = random.Random(size).randbytes(size)  # noqa: S311 - reproducible
    cloud.put("cloud/f", b"an older and longer content" if size < 9 else b"")
    (tmp_path / "f").write_bytes(content)
    status = move(transfers, "disk", "cloud", "/f")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert cloud.get("cloud/f") == content
    status = move(transfers, "cloud", "disk", "/f", dst_path="/back")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert (tmp_path / "back").read_bytes() == content


def test_an_object_with_the_name_of_a_folder_is_not_left_out_silently(cloud, tmp_path):
    """An object with content whose name ends in a slash is an error: the rest arrives, and a mirror deletes nothing."""
    transfers = cloud.backend(tmp_path)
    for key in ("cloud/d/one", "cloud/d/s/", "cloud/d/s/two"):
        cloud.put(key, b"content")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "extra").write_text("x")
    status = move(transfers, "cloud", "disk", "/d", recursive=True, delete_destination_extra=True)
    assert status.state is not TaskState.SUCCEEDED
    assert "a name that ends with '/'" in status.reason
    assert set(files_below(tmp_path / "d")) == {"one", "s/two", "extra"}


def test_an_object_beside_a_folder_of_its_name(cloud, tmp_path):
    """If an object and a folder have the same name, the transfer reports it, and a mirror deletes nothing."""
    transfers = cloud.backend(tmp_path)
    for key in ("cloud/d/a", "cloud/d/a/x", "cloud/d/b"):
        cloud.put(key, key.encode())
    assert move(transfers, "cloud", "disk", "/d/a", dst_path="/only").state is TaskState.SUCCEEDED
    assert (tmp_path / "only").read_bytes() == b"cloud/d/a"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "extra").write_text("x")
    status = move(transfers, "cloud", "disk", "/d", recursive=True, delete_destination_extra=True)
    assert status.state is not TaskState.SUCCEEDED or status.files_skipped
    assert {"b", "extra"} <= set(files_below(tmp_path / "d"))
    assert remove(transfers, "cloud", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert cloud.keys() == set()


def test_names_that_no_path_can_hold_are_counted(cloud, tmp_path):
    """Objects such as ``a//b`` count as skipped, the rest arrives, and a mirror deletes nothing."""
    transfers = cloud.backend(tmp_path)
    for key in ("cloud/d/good", "cloud/d//bad", "cloud/d/x//bad"):
        cloud.put(key, b"content")
    status = move(transfers, "cloud", "disk", "/d", recursive=True)
    assert (status.state, status.files_skipped) == (TaskState.SUCCEEDED, 2)
    assert set(files_below(tmp_path / "d")) == {"good"}
    (tmp_path / "d" / "extra").write_text("x")
    status = move(transfers, "cloud", "disk", "/d", recursive=True, delete_destination_extra=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert set(files_below(tmp_path / "d")) == {"good", "extra"}


def test_an_empty_folder_is_kept_and_deleted(cloud, tmp_path):
    """An empty folder is copied both ways and listed, can be filled, and is deleted with its marker objects."""
    transfers = cloud.backend(tmp_path)
    (tmp_path / "t" / "empty").mkdir(parents=True)
    assert move(transfers, "disk", "cloud", "/t", recursive=True).state is TaskState.SUCCEEDED
    assert [(entry.name, entry.kind) for entry in transfers.backend.ls("cloud", "/t")] == [("empty", "dir")]
    assert transfers.backend.ls("cloud", "/t/empty") == []
    assert move(transfers, "cloud", "disk", "/t", dst_path="/back", recursive=True).state is TaskState.SUCCEEDED
    assert (tmp_path / "back" / "empty").is_dir()
    (tmp_path / "f").write_text("x")
    status = move(transfers, "disk", "cloud", "/f", dst_path="/t/empty")
    assert (status.state, status.code) == (TaskState.FAILED, "IS_A_DIRECTORY")
    assert move(transfers, "disk", "cloud", "/f", dst_path="/t/empty/f").state is TaskState.SUCCEEDED
    assert [(entry.name, entry.kind) for entry in transfers.backend.ls("cloud", "/t")] == [("empty", "dir")]
    # Another program's marker object for the folder.
    cloud.put("cloud/t/empty/", b"")
    assert remove(transfers, "cloud", "/t", recursive=True).state is TaskState.SUCCEEDED
    assert cloud.keys() == set()


def test_many_small_files_move_without_a_warning(cloud, tmp_path, caplog):
    """The connection pools are large enough for all concurrent requests: no library warns of a dropped connection."""
    transfers = cloud.backend(tmp_path)
    (tmp_path / "t").mkdir()
    for number in range(100):
        (tmp_path / "t" / str(number)).write_text("x")
    assert move(transfers, "disk", "cloud", "/t", recursive=True).state is TaskState.SUCCEEDED
    assert move(transfers, "cloud", "disk", "/t", dst_path="/back", recursive=True).state is TaskState.SUCCEEDED
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_deletion_stays_below_its_path(cloud, tmp_path):
    """Deleting a folder keeps objects that only share a prefix or are outside the root; a root is never deleted."""
    transfers = cloud.backend(tmp_path)
    beside = {"cloud/d-x", "cloud/d2/f", "cloud/e", "cloudy/d/f", "d/f", "other/d/f"}
    for key in (*beside, "cloud/d/f", "cloud/d/g/h", "cloud/d/%2F"):
        cloud.put(key, b"content")
    assert remove(transfers, "cloud", "/d", recursive=True).state is TaskState.SUCCEEDED
    assert cloud.keys() == beside
    for endpoint, path in (("cloud", "/"), ("cloud", "/."), ("whole", "/")):
        with pytest.raises(PermissionDeniedError, match="root"):
            remove(transfers, endpoint, path, recursive=True)
    status = remove(transfers, "whole", "/cloud", recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert cloud.keys() == beside


def test_a_wrong_checksum_of_the_store_is_noticed(cloud, tmp_path):
    """A download that does not match the checksum kept by the store fails and leaves no file."""
    transfers = cloud.backend(tmp_path)
    for key, content in (("cloud/f", b"content"), ("cloud/long", bytes(PART + 1))):
        cloud.put(key, content)
        cloud.spoil_checksum(key)
        status = move(transfers, "cloud", "disk", f"/{key[6:]}")
        assert "CHECKSUM" in (status.code or ""), status
        assert files_below(tmp_path) == {}


def test_what_is_kept_compressed_arrives_as_it_is_kept(cloud, tmp_path):
    """An object that the store marks as encoded is copied without decoding."""
    transfers = cloud.backend(tmp_path)
    stored = gzip.compress(b"text" * 100_000)
    cloud.put_encoded("cloud/t.gz", stored)
    assert move(transfers, "cloud", "disk", "/t.gz").state is TaskState.SUCCEEDED
    assert (tmp_path / "t.gz").read_bytes() == stored


def test_nothing_is_seen_of_an_upload_that_ends_early(cloud, tmp_path):
    """An upload in parts that is not committed is not visible and leaves the old object unchanged."""
    store = cloud.backend(tmp_path).backend._place("cloud").store()
    cloud.put("cloud/f", b"old")
    for size in (None, 3 * PART):
        with store.folder(()) as folder, folder.temp_file("f", size=size) as temp_file:
            if temp_file.part:
                temp_file.write_at(0, memoryview(bytes(temp_file.part)))
            temp_file.write(memoryview(bytes(2 * PART)))
            assert cloud.get("cloud/f") == b"old"
        assert cloud.keys() == {"cloud/f"}
        assert cloud.get("cloud/f") == b"old"


def test_two_contents_are_never_put_together(cloud, tmp_path):
    """Replacing an object while it is read causes a fault, whether or not the size changes."""
    store = cloud.backend(tmp_path).backend._place("cloud").store()
    for content in (b"n" * (PART + 5), b"short"):
        cloud.put("cloud/f", b"o" * (PART + 5))
        with store.folder(()) as folder, folder.read("f") as reader:
            block = memoryview(bytearray(PART))
            assert reader.readinto(block) == PART
            cloud.put("cloud/f", content)
            with pytest.raises(Exception, match=r"412|replaced") as caught:
                reader.readinto(block)
            assert caught.value.code == "FILE_SIZE_CHANGED"


@only("azure")
def test_a_name_that_azure_would_change_is_refused(cloud, tmp_path):
    """A name with a backslash, which Azure reads as a slash, or a final dot, which it drops, is refused."""
    transfers = cloud.backend(tmp_path)
    for name in ("a\\b", "dot.", "..."):
        (tmp_path / name).write_text(name)
        status = move(transfers, "disk", "cloud", f"/{name}")
        assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME"), name
        (tmp_path / f"t{len(name)}" / name).mkdir(parents=True)
        (tmp_path / f"t{len(name)}" / name / "f").write_text("x")
        assert move(transfers, "disk", "cloud", f"/t{len(name)}", recursive=True).state is not TaskState.SUCCEEDED
    # At most the parent folders were created.
    assert cloud.keys() <= {"cloud/t3/", "cloud/t4/"}


@only("azure")
def test_a_leased_blob_is_read_and_not_changed(cloud, tmp_path):
    """A blob that another program has leased can be read; a transfer to it and a deletion fail and name the lease."""
    transfers = cloud.backend(tmp_path)
    cloud.put("cloud/f", b"old")
    cloud.client.get_blob_client("cloud/f").acquire_lease(-1)
    for size in (5, PART + 5):
        (tmp_path / "f").write_bytes(bytes(size))
        status = move(transfers, "disk", "cloud", "/f")
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
        assert "break the lease, or wait" in status.reason
    status = remove(transfers, "cloud", "/f")
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert "break the lease, or wait" in status.reason
    assert move(transfers, "cloud", "disk", "/f").state is TaskState.SUCCEEDED
    assert (tmp_path / "f").read_bytes() == cloud.get("cloud/f") == b"old"


def test_a_name_with_control_characters_is_refused(cloud, tmp_path):
    """A name with a control character, or one that is not UTF-8, is refused and leaves no object."""
    transfers = cloud.backend(tmp_path)
    for name in ("line\nend", "tab\t", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).write_text("x")
        status = move(transfers, "disk", "cloud", f"/{name}")
        assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME"), name
    assert cloud.keys() == set()


def test_an_endpoint_inside_another_is_known(cloud, tmp_path):
    """A transfer into its source folder or onto its source file by another endpoint of the bucket is refused."""
    transfers = cloud.backend(tmp_path)
    cloud.put("cloud/f", b"content")
    assert move(transfers, "whole", "cloud", "/", dst_path="/copy", recursive=True).state is not TaskState.SUCCEEDED
    status = move(transfers, "whole", "cloud", "/cloud/f", dst_path="/f")
    assert (status.state, status.code) == (TaskState.FAILED, "SAME_FILE")
    assert cloud.keys() == {"cloud/f"}


def test_a_missing_bucket_is_told(cloud, tmp_path):
    """Reading from or writing to a bucket that does not exist fails with FILE_NOT_FOUND."""
    settings = cloud.settings("cloud")
    settings["url"] = settings["url"].replace(cloud.name, "no-such-bucket")
    here = {"url": str(tmp_path)}
    backend = FilesystemBackend({name: place_of(name, told) for name, told in {"x": settings, "disk": here}.items()})
    (tmp_path / "f").write_text("x")
    for source, target in (("disk", "x"), ("x", "disk")):
        status = move(Transfers(backend), source, target, "/f")
        assert status.state is TaskState.FAILED
        assert status.code == "FILE_NOT_FOUND", status


def test_a_server_that_is_not_there_is_a_fault_that_passes(cloud):
    """A refused connection is a transient fault without the client library's exception as its context."""
    settings = cloud.settings("cloud")
    text = json.dumps(settings).replace(cloud.url, f"http://127.0.0.1:{free_port()}")
    store = place_of("x", json.loads(text)).store()
    with pytest.raises(Exception, match=r"connect|timed out") as caught:
        store.folder(()).entry("f")
    assert store.transient(caught.value)
    assert caught.value.__context__ is None


@only("azure")
def test_a_wrong_key_is_told_and_not_shown(cloud, monkeypatch, tmp_path):
    """A rejected key from an environment variable fails with PERMISSION_DENIED and is not shown."""
    key = "d3Jvbmcga2V5" * 7 + "d3Jv"
    text = cloud.settings()["options"]["connection_string"]
    wrong = ";".join(f"AccountKey={key}" if part.startswith("AccountKey") else part for part in text.split(";"))
    monkeypatch.setenv("MY_AZURE", wrong)
    places = {"x": {"url": f"az://{cloud.name}", "options": {"connection_string": {"env": "MY_AZURE"}}}}
    backend = FilesystemBackend.from_config({**places, "disk": {"url": str(tmp_path)}}, {})
    status = move(Transfers(backend), "x", "disk", "/f")
    assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert key not in str(status)


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("az://box", {"acount_name": "x"}, "acount_name"),
        ("az://box", {}, "account_name"),
        ("az:///f", {"account_name": "x"}, "bucket"),
        ("gs://box/../x", {"token": "anon"}, "'..'"),
        ("gs://box", {"tokn": "anon"}, "tokn"),
        ("gs://box", {"token": "/no/such/key.json"}, "credentials"),
    ],
)
def test_a_mistake_in_the_settings_is_told(url, options, match, monkeypatch):
    """An invalid option or URL, or a missing account or key file, raises a ConfigError that names the mistake."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=match):
        place_of("x", {"url": url, "options": options}).store()


@pytest.mark.parametrize(
    ("url", "package", "packages"),
    [
        ("az://box", "azure.core", "azure-identity azure-storage-blob"),
        ("abfs://box", "azure.storage.blob", "azure-identity azure-storage-blob"),
        ("gs://box", "google.auth", "'google-auth[urllib3]' google-crc32c"),
    ],
)
def test_a_missing_package_is_named(url, package, packages, monkeypatch):
    """Without the package for a store, the message says what to install."""
    for name in [name for name in sys.modules if name.startswith("chiltepin.backends.filesystem.stores.cloud.")]:
        if name.endswith((".azure", ".gcs")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedOptionError, match=re.escape(f"pip install {packages}")):
        place_of("x", {"url": url, "options": {}}).store()


OFFLINE = """
import json, sys
asked = set()
def look(event, given):
    if event == "socket.connect" and isinstance(given[1], tuple):
        asked.add(given[1][0])
    elif event == "socket.getaddrinfo":
        asked.add(given[0])
sys.addaudithook(look)
from chiltepin.backends.filesystem.locations import place_of
store = place_of("x", json.loads(sys.argv[1])).store()
with store.folder(("d",), create=True) as folder, folder.temp_file("f", size=1) as draft:
    draft.write(memoryview(b"x"))
    draft.commit(None)
print([entry.name for entry in store.folder(("d",)).entries()], sorted(asked))
"""


def test_only_the_server_that_is_named_is_asked(cloud):
    """If the settings name a server, no cloud metadata server or other host is contacted."""
    settings = cloud.settings("cloud")
    settings["options"].pop("token", None)
    words = [sys.executable, "-W", "error", "-c", OFFLINE, json.dumps(settings)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("['f'] ['127.0.0.1']\n", "", 0)


def test_a_forked_process_has_a_client_of_its_own(cloud, tmp_path):
    """A forked process accesses the store as its parent does, and exits."""
    transfers = cloud.backend(tmp_path)
    (tmp_path / "f").write_text("x")
    assert move(transfers, "disk", "cloud", "/f").state is TaskState.SUCCEEDED
    child = os.fork()
    if not child:
        store = transfers.backend._place("cloud").store()
        os._exit(0 if store.folder(()).entry("f").size == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@only("gcs")
def test_an_object_composed_of_others_is_compared_with_its_crc(cloud, tmp_path):
    """An object without an MD5 is verified by its CRC32C, and does not arrive if the CRC32C differs."""
    transfers = cloud.backend(tmp_path)
    content = random.Random(1).randbytes(PART + 3)  # noqa: S311 - reproducible
    cloud.put("cloud/f", content)
    cloud.patch("cloud/f", md5Hash="")
    assert move(transfers, "cloud", "disk", "/f").state is TaskState.SUCCEEDED
    assert files_below(tmp_path) == {"f": content}
    cloud.patch("cloud/f", crc32c="AAAAAA==")
    status = move(transfers, "cloud", "disk", "/f", dst_path="/g")
    assert (status.state, status.code) == (TaskState.FAILED, "VERIFY_CHECKSUM")
    assert files_below(tmp_path) == {"f": content}
