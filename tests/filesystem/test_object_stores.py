"""Object stores: on every server, each key arrives or is reported."""

from __future__ import annotations

import os

import pytest
from badwires import BadWire
from buckets import OTHERS, s3_server
from cloudservers import CLOUDS, cloud_bucket

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.locations import place_of
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

#: Servers where one name can be an object and a folder, and folders can be empty; rclone stores objects as files.
KEEPING = ("moto", "s3rver", *CLOUDS)

#: Keys that are files and folders at once, at several depths.
SHARED = ("a", "a/x", "a/b", "a/b/c/d", "b")

#: Objects with content whose keys name folders.
SLASHED = ("s/", "s/x", "s/t/", "s/t/u/y")

#: Keys in folders that contain only folders.
DEEP = ("p/q/r/x", "p/q/s/x", "u/v/w/z", "f")


@pytest.fixture
def opened(request, tmp_path, no_aws, monkeypatch):
    """A function that makes a bucket on a server."""
    monkeypatch.setenv("NO_PROXY", "*")

    def of(kind):
        if kind == "moto":
            return request.getfixturevalue("bucket")
        if kind in CLOUDS:
            return cloud_bucket(kind)
        (tmp_path / kind).mkdir()
        server = s3_server(kind, tmp_path / kind)
        request.addfinalizer(lambda: server.__exit__(None, None, None))
        return server.__enter__().bucket()

    return of


@pytest.fixture(params=["moto", *OTHERS, *CLOUDS])
def bucket_of_each(request, opened):
    """A bucket on each server in turn."""
    return opened(request.param)


def between(bucket, other, tmp_path):
    """Return transfers between a folder of each bucket, ``cloud`` and ``other``, and a folder on disk."""
    (tmp_path / "disk").mkdir(exist_ok=True)
    places = {
        "disk": {"url": f"file://{tmp_path}/disk"},
        "cloud": bucket.settings("cloud"),
        "other": other.settings("other"),
    }
    backend = FilesystemBackend({name: place_of(name, told) for name, told in places.items()}, pause=lambda *_: None)
    return Transfers(backend)


def mirror(transfers, source, target, **options):
    """Mirror the folder /t."""
    told = {"src_path": "/t", "dst_path": "/t", "recursive": True, "delete_destination_extra": True, **options}
    return transfers.run(transfer_request(src_ep=source, dst_ep=target, **told), timeout=60, polling_interval=1)


def put_all(bucket, keys, top="cloud"):
    """Make objects, each with its key as content."""
    for key in keys:
        bucket.put(f"{top}/t/{key}", key.encode())


def held(bucket, top="other"):
    """Return all objects below a folder, except empty ones."""
    content = {key.removeprefix(f"{top}/t/"): bucket.get(key) for key in sorted(bucket.keys(f"{top}/t/"))}
    return {key: data.decode() for key, data in content.items() if data}


def on_disk(tmp_path):
    """Return all files on the disk."""
    top = tmp_path / "disk" / "t"
    return {file.relative_to(top).as_posix(): file.read_text() for file in top.rglob("*") if file.is_file()}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
@pytest.mark.parametrize("keys", [SHARED, SLASHED, DEEP])
@pytest.mark.parametrize("level", [None, "checksum"])
def test_what_an_object_store_can_hold_arrives_in_another(bucket_of_each, tmp_path, keys, level):
    """Keys that are files and folders, and folder keys with content, arrive; a second mirror copies nothing."""
    bucket = bucket_of_each
    put_all(bucket, keys)
    # Extra keys, some in folders whose names are files at the source.
    put_all(bucket, ("more", "b/more", "x/more", "f/more"), "other")
    transfers = between(bucket, bucket, tmp_path)
    for _ in range(2):
        status = mirror(transfers, "cloud", "other", sync_level=level)
        assert (status.state, status.files_skipped > 0) == (TaskState.SUCCEEDED, status.files_done == 0), status.reason
        assert held(bucket) == {key: key for key in keys}


@pytest.mark.parametrize(
    ("source", "target"), [("moto", "azure"), ("azure", "gcs"), ("gcs", "moto"), ("s3rver", "gcs")]
)
def test_what_one_object_store_can_hold_arrives_on_another_server(opened, tmp_path, source, target):
    """Between two services, all keys that a path can name arrive."""
    bucket, other = opened(source), opened(target)
    keys = {*SHARED, *SLASHED, *DEEP}
    put_all(bucket, keys)
    status = mirror(between(bucket, other, tmp_path), "cloud", "other")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert held(other) == {key: key for key in keys}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
@pytest.mark.parametrize("keys", [SHARED, SLASHED])
def test_what_a_disk_cannot_hold_is_told_and_nothing_is_lost(bucket_of_each, tmp_path, keys):
    """A mirror to a disk of keys that a disk cannot store fails with the reason and removes nothing."""
    bucket = bucket_of_each
    put_all(bucket, keys)
    kept = {"more": "old", "a/old": "old", "s/old": "old"}
    for name, content in kept.items():
        file = tmp_path / "disk" / "t" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    transfers = between(bucket, bucket, tmp_path)
    for _ in range(2):
        status = mirror(transfers, "cloud", "disk")
        assert status.state is TaskState.FAILED
        assert ("both a file and a folder" if "a" in keys else "a name that ends with '/'") in status.reason
        found = on_disk(tmp_path)
        assert kept.items() <= found.items()
        assert all(found[name] == name for name in found.keys() - kept.keys())
    assert held(bucket, "cloud") == {key: key for key in keys}


def test_folders_that_hold_only_folders_are_not_left_out(bucket_of_each, tmp_path):
    """Folders that contain only folders are listed, mirrored and deleted, however the server lists them."""
    bucket = bucket_of_each
    put_all(bucket, DEEP)
    transfers = between(bucket, bucket, tmp_path)
    assert {entry.name for entry in transfers.ls("cloud", "/t")} == {"f", "p", "u"}
    put_all(bucket, (*DEEP, "extra/of/it"), "other")
    status = mirror(transfers, "cloud", "disk")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert on_disk(tmp_path) == {key: key for key in DEEP}
    status = mirror(transfers, "cloud", "other", sync_level="exists")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert held(bucket) == {key: key for key in DEEP}
    request = delete_request(src_ep="cloud", src_path="/t/p", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    assert set(held(bucket, "cloud")) == {"u/v/w/z", "f"}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
def test_what_other_programs_keep_folders_by(bucket_of_each, tmp_path):
    """An empty ``folder/`` arrives as an empty folder, and Hadoop's ``folder_$folder$`` as an empty file."""
    bucket = bucket_of_each
    for key in ("empty/", "old_$folder$", "full/", "full/x", "deep/er/", "", "full_$folder$"):
        bucket.put(f"cloud/t/{key}", b"x" if key.endswith("x") else b"")
    transfers = between(bucket, bucket, tmp_path)
    for target in ("disk", "other"):
        status = mirror(transfers, "cloud", target)
        assert (status.state, status.files_skipped, status.files_done) == (TaskState.SUCCEEDED, 0, 3), status.reason
    top = tmp_path / "disk" / "t"
    assert on_disk(tmp_path) == {"old_$folder$": "", "full_$folder$": "", "full/x": "x"}
    assert (top / "empty").is_dir()
    assert (top / "deep" / "er").is_dir()
    names = {(entry.name, entry.kind) for entry in transfers.ls("other", "/t")}
    files = {("old_$folder$", "file"), ("full_$folder$", "file")}
    assert names == {("empty", "dir"), ("full", "dir"), ("deep", "dir"), *files}
    assert [entry.name for entry in transfers.ls("other", "/t/deep")] == ["er"]


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
def test_both_of_one_name_are_deleted_and_copied_by_it(bucket_of_each, tmp_path):
    """For a path of a file and a folder, recursive copies the folder or deletes both; otherwise it is the file."""
    bucket = bucket_of_each
    put_all(bucket, ("a", "a/x", "b", "b/x", "ab"))
    transfers = between(bucket, bucket, tmp_path)
    assert mirror(transfers, "cloud", "disk", src_path="/t/a", dst_path="/t/a").state is TaskState.SUCCEEDED
    assert on_disk(tmp_path) == {"a/x": "a/x"}
    for path, recursive in (("/t/a", True), ("/t/b", False)):
        request = delete_request(src_ep="cloud", src_path=path, recursive=recursive)
        assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    assert set(held(bucket, "cloud")) == {"ab", "b/x"}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
def test_a_mirror_of_a_disk_takes_the_place_of_either(bucket_of_each, tmp_path):
    """A mirror replaces an object, a folder, or both of one name, and leaves only the disk's files."""
    bucket = bucket_of_each
    put_all(bucket, ("a", "a/x", "b/x", "c", "d", "d/x"), "other")
    top = tmp_path / "disk" / "t"
    for name in ("a", "b", "c/y", "d/y"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    transfers = between(bucket, bucket, tmp_path)
    for _ in range(2):
        status = mirror(transfers, "disk", "other")
        assert status.state is TaskState.SUCCEEDED, status.reason
        assert held(bucket) == {name: name for name in ("a", "b", "c/y", "d/y")}


def test_names_that_are_alike_are_kept_apart(bucket_of_each, tmp_path):
    """Keys that differ only in case or Unicode normalization stay separate objects, also in a mirror."""
    bucket = bucket_of_each
    keys = ("A", "a", "D/x", "d/x", "\u00e9", "e\u0301", "\u212b", "\u00c5", "stra\u00dfe", "STRASSE", "a ", "a\u00a0")
    put_all(bucket, keys)
    put_all(bucket, ("E\u0301", "Strasse"), "other")
    transfers = between(bucket, bucket, tmp_path)
    status = mirror(transfers, "cloud", "other")
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert held(bucket) == {key: key for key in keys}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
def test_a_key_of_1024_bytes_is_the_longest(bucket_of_each, tmp_path):
    """A file whose key has 1,024 bytes arrives; one with a longer key fails and leaves nothing."""
    bucket, transfers = bucket_of_each, between(bucket_of_each, bucket_of_each, tmp_path)
    steps = ["\u00e9" * 100] * 5
    longest = "/".join([*steps, "x" * (1024 - len(b"other/t/") - 5 * 201)])
    for name, state in ((longest, TaskState.SUCCEEDED), (f"{longest}x", TaskState.FAILED)):
        file = tmp_path / "disk" / "t" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        status = mirror(transfers, "disk", "other")
        assert status.state is state, status.reason
        assert held(bucket) == {longest: longest}
    assert status.code == "INVALID_PATH_NAME"


def test_a_name_that_is_not_utf8_is_refused_and_keeps_what_is_there(bucket_of_each, tmp_path):
    """Files with names that are not UTF-8 fail, other files arrive, and a mirror removes nothing."""
    bucket = bucket_of_each
    put_all(bucket, ("more",), "other")
    top = tmp_path / "disk" / "t"
    for name in (b"caf\xe9", b"dir\xff/x", b"sub/\xfe", b"good"):
        file = top / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("good")
    status = mirror(between(bucket, bucket, tmp_path), "disk", "other")
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert held(bucket) == {"more": "more", "good": "good"}


@pytest.mark.parametrize("bucket_of_each", KEEPING, indirect=True)
def test_what_only_begins_like_the_root_is_never_touched(bucket_of_each, tmp_path):
    """An object named like the root, and keys that only share its prefix, are not listed, copied or removed."""
    bucket = bucket_of_each
    beside = ("other", "otherwise/t/x", "other2", "cloud", "clouds/t/x")
    for key in beside:
        bucket.put(key, b"beside")
    put_all(bucket, ("x", "tt"))
    put_all(bucket, ("more/x",), "other")
    bucket.put("cloud/t2/x")
    bucket.put("other/t2/x")
    transfers = between(bucket, bucket, tmp_path)
    assert mirror(transfers, "cloud", "other").state is TaskState.SUCCEEDED
    assert {entry.name for entry in transfers.ls("other", "/")} == {"t", "t2"}
    assert held(bucket) == {"x": "x", "tt": "tt"}
    request = delete_request(src_ep="other", src_path="/t", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    kept = {"cloud/t/x", "cloud/t/tt", "cloud/t2/x", "other/t2/x"}
    assert bucket.keys() == {*beside, *kept}


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_listing_that_changes_between_its_pages(bucket, tmp_path, page):
    """Objects that exist throughout arrive, whatever is added and removed between the pages."""
    kept = [f"{number:02}/k" if number % 3 else f"{number:02}" for number in range(0, 20, 2)]
    put_all(bucket, kept)
    numbers = iter(range(1, 20, 2))

    def change(handler, body):
        number = next(numbers, None) if "list-type" in handler.path else None
        if number is not None:
            put_all(bucket, (f"{19 - number:02}b", f"{number:02}"))
            bucket.client.delete_object(Bucket=bucket.name, Key=f"cloud/t/{number - 2:02}")
        return body

    with BadWire(bucket.url, change) as line:
        bucket.url, url = line.url, bucket.url
        transfers = between(bucket, bucket, tmp_path)
        bucket.url = url
        transfers.backend._place("cloud").store().page = page
        told = {"src_path": "/t", "dst_path": "/t", "recursive": True}
        request = transfer_request(src_ep="cloud", dst_ep="disk", **told)
        transfers.run(request, timeout=60, polling_interval=1)
    assert {key: key for key in kept}.items() <= on_disk(tmp_path).items()


# s3rver stores objects as files and rejects such a key.
@pytest.mark.parametrize("bucket_of_each", ["moto", *CLOUDS], indirect=True)
def test_a_key_that_no_path_can_hold_stops_a_mirror_of_any_server(bucket_of_each, tmp_path):
    """An object ``sub//x`` is counted as skipped, and the mirror removes nothing."""
    bucket = bucket_of_each
    put_all(bucket, ("x", "sub/x", "sub//x"))
    put_all(bucket, ("more",), "other")
    status = mirror(between(bucket, bucket, tmp_path), "cloud", "other")
    assert (status.state, status.code, status.files_skipped) == (TaskState.FAILED, "INVALID_PATH_NAME", 1)
    assert held(bucket) == {"x": "x", "sub/x": "sub/x", "more": "more"}


@pytest.mark.parametrize("key", ["bad\x01", "bad\x01/x", "tab\t/x"])
def test_a_name_that_a_listing_cannot_hold_stops_a_mirror(bucket, tmp_path, key):
    """An object or folder with a control character in its name is counted as skipped, and nothing is removed."""
    put_all(bucket, ("x", key))
    put_all(bucket, ("more",), "other")
    (tmp_path / "disk" / "t").mkdir(parents=True)
    (tmp_path / "disk" / "t" / "more").write_text("more")
    transfers = between(bucket, bucket, tmp_path)
    for target in ("other", "disk"):
        status = mirror(transfers, "cloud", target)
        assert (status.state, status.code, status.files_skipped) == (TaskState.FAILED, "INVALID_PATH_NAME", 1)
    assert held(bucket) == on_disk(tmp_path) == {"x": "x", "more": "more"}


def test_a_source_that_cannot_be_looked_at_removes_nothing(bucket, tmp_path):
    """If the source cannot tell whether a file is also a folder, a mirror keeps the destination's folder."""
    put_all(bucket, ("a", "a/x"))
    (tmp_path / "disk" / "t" / "a").mkdir(parents=True)
    (tmp_path / "disk" / "t" / "a" / "old").write_text("old")

    def refuse(handler, body):
        if "prefix=cloud%2Ft%2Fa%2F" in handler.path:
            handler.refuse(403, "AccessDenied")
            return None
        return body

    with BadWire(bucket.url, refuse) as line:
        bucket.url, url = line.url, bucket.url
        transfers = between(bucket, bucket, tmp_path)
        bucket.url = url
        assert mirror(transfers, "cloud", "disk").state is TaskState.FAILED
    assert on_disk(tmp_path) == {"a/old": "old"}
