"""S3 objects: complete or absent on bad connections, after kills, and with keys that no path can express."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from badwires import BadWire
from children import in_child

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.errors import Fault
from chiltepin.backends.filesystem.local.store import LocalStore
from chiltepin.backends.filesystem.mover.listing import BATCH_FILES
from chiltepin.backends.filesystem.store import SMALL, CopyOptions
from chiltepin.backends.filesystem.stores.objects import client as clients
from chiltepin.backends.filesystem.stores.objects.part_size import PART
from chiltepin.backends.filesystem.stores.s3 import unfinished_uploads as s3uploads
from chiltepin.backends.filesystem.stores.s3.bucket import TRIES
from chiltepin.backends.filesystem.stores.s3.errors import S3Fault
from chiltepin.backends.filesystem.stores.same_server import same_server
from chiltepin.errors import ConfigError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import delete_request, transfer_request
from chiltepin.transfers.runner import Transfers

WRITER = Path(__file__).with_name("s3writer.py")


def content_of(size: int) -> bytes:
    """Return what `s3writer` sends."""
    whole = b"".join(bytes([number % 251]) * PART for number in range(-(-size // PART)))
    return whole[:size]


def move(transfers, src, dst, **options):
    """Transfer and wait."""
    (src_ep, src_path), (dst_ep, dst_path) = src, dst
    request = transfer_request(src_ep=src_ep, dst_ep=dst_ep, src_path=src_path, dst_path=dst_path, **options)
    return transfers.run(request, timeout=60, polling_interval=1)


def send(folder, name, content, *, order=1):
    """Write an object through the store, in parts if large."""
    view = memoryview(content)
    with folder.temp_file(name, size=len(content)) as temp_file:
        if temp_file.part:
            for start in list(range(0, len(content), temp_file.part))[::order]:
                temp_file.write_at(start, view[start : start + temp_file.part])
        else:
            temp_file.write(view)
        temp_file.commit(None)


def receive(folder, name):
    """Read an object through the store, in ranges that do not match its parts."""
    with folder.read(name) as reader:
        block = memoryview(bytearray(reader.size))
        got = sum(reader.read_at(start, block[start : start + 5_000_000]) for start in range(0, reader.size, 5_000_000))
        assert got == reader.size
        return bytes(block)


def everything(folder, name):
    """Read an object from start to end, as a copy does."""
    with folder.read(name) as reader:
        block, whole = memoryview(bytearray(1 << 20)), b""
        while count := reader.readinto(block):
            whole += block[:count]
        assert not reader.changed()
    return whole


def writer(bucket, size, parts):
    """Start a process that sends some parts of an object; return it after they are sent."""
    settings = bucket.settings("cloud")
    said = json.dumps([settings["url"], settings["options"], "big", size, parts])
    process = subprocess.Popen(
        [sys.executable, WRITER, said], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout.readline() == "sent\n"
    return process


def killed(process):
    """Kill a process before it can clean up."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_large_object_goes_both_ways_in_parts(bucket):
    """Parts sent in any order form one object, which any ranges can read."""
    content = content_of(2 * PART + 5)
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", content, order=-1)
        assert receive(folder, "big") == content
    assert bucket.keys() == {"cloud/big"}
    assert bucket.uploads() == []


def test_nothing_is_seen_before_the_end_nor_after_a_failure(bucket):
    """The object does not exist while its parts are sent, and a failure leaves neither object nor upload."""
    folder = bucket.store().folder(())
    with pytest.raises(ZeroDivisionError), folder.temp_file("big", size=PART + 1) as temp_file:  # noqa: PT012 - one failure
        temp_file.write_at(0, memoryview(bytes(PART)))
        assert bucket.keys() == set()
        assert bucket.uploads() == ["big"]
        1 / 0  # noqa: B018 - the failure
    assert bucket.uploads() == []


def test_after_a_kill_only_the_missing_parts_are_sent(bucket):
    """A killed writer's upload is resumed, and its complete parts are not sent again."""
    size = 2 * PART + 5
    killed(writer(bucket, size, [0, 1]))
    assert bucket.uploads() == ["cloud/big"]
    with bucket.store("cloud").folder((), create=True) as folder, folder.temp_file("big", size=size) as temp_file:
        content = content_of(size)
        for start in range(0, size, PART):
            temp_file.write_at(start, memoryview(content)[start : start + PART])
        assert temp_file.upload.sent == 1  # of three
        temp_file.commit(None)
    assert bucket.get("cloud/big") == content
    assert bucket.uploads() == []


def test_a_part_of_other_content_is_sent_again(bucket):
    """A killed writer's parts of other content are not used in the object."""
    size = PART + 5
    killed(writer(bucket, size, [0]))
    content = os.urandom(size)
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", content)
    assert bucket.get("cloud/big") == content


def test_only_one_of_several_dead_uploads_is_continued(bucket):
    """If two writers of one object were killed, the next writer resumes one upload and aborts the other."""
    size = PART + 5
    writers = [writer(bucket, size, [0]) for _ in range(2)]
    for one in writers:
        killed(one)
    assert len(bucket.uploads()) == 2
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", content_of(size))
        assert not list(s3uploads.dead(folder.store.bucket.place))
    assert bucket.uploads() == []


def test_a_writer_that_died_after_its_last_request_leaves_no_record(bucket, tmp_path):
    """The next transfer removes the record of a completed upload, even if it has nothing to send."""
    transfers = bucket.backend(tmp_path)
    (tmp_path / "disk" / "f").write_bytes(b"data")
    bucket.put("cloud/f")
    place = bucket.store("cloud").bucket.place
    s3uploads.begin(place, "cloud/f", "completed", PART).release()
    assert move(transfers, ("disk", "/f"), ("cloud", "/f"), sync_level="size").files_skipped == 1
    assert not list(s3uploads.dead(place))


def test_the_upload_of_a_living_writer_is_left_alone(bucket):
    """Two processes that write one object use separate uploads, and the object is always complete."""
    size = PART + 5
    process = writer(bucket, size, [0, 1])
    ours = os.urandom(size)
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", ours)
    assert bucket.get("cloud/big") == ours
    process.communicate("go on\n")
    assert process.returncode == 0
    assert bucket.get("cloud/big") == content_of(size)
    assert bucket.uploads() == []


def test_an_abandoned_upload_is_aborted_after_a_day(bucket, monkeypatch):
    """After a day, the first transfer to a bucket aborts dead writers' uploads and deletes their records."""
    killed(writer(bucket, PART + 5, [0]))
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "small", b"soon")
        assert bucket.uploads() == ["cloud/big"]
    for record in s3uploads.dead(folder.store.bucket.place):
        os.utime(record.path, (0, 0))
        record.release()
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "small", b"later")
    assert bucket.uploads() == []
    assert not list(s3uploads.dead(folder.store.bucket.place))


@pytest.mark.parametrize("host", ["000000000000", None])
def test_the_upload_of_another_host_is_left_alone_for_a_day(bucket, host):
    """Hosts that share the folder of records but not its locks leave each other's uploads alone for a day."""
    size = PART + 5
    killed(writer(bucket, size, [0]))
    (record,) = s3uploads.dead(bucket.store("cloud").bucket.place)
    record.release()
    told = json.loads(Path(record.path).read_text())
    # Earlier versions recorded no host.
    Path(record.path).write_text(json.dumps({key: value for key, value in {**told, "host": host}.items() if value}))
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", content_of(size))
    assert bucket.get("cloud/big") == content_of(size)
    assert bucket.uploads() == ["cloud/big"]
    os.utime(record.path, (0, 0))
    with bucket.store("cloud").folder((), create=True) as folder:
        send(folder, "big", content_of(size))
    assert bucket.uploads() == []


def test_the_record_of_an_upload_tells_when_a_part_was_sent(bucket):
    """Each sent part renews the record, so that a long upload is not abandoned."""
    size = 3 * PART
    with bucket.store("cloud").folder((), create=True) as folder, folder.temp_file("big", size=size) as temp_file:
        temp_file.write_at(0, memoryview(content_of(size))[:PART])
        (path,) = Path(s3uploads._folder(folder.store.bucket.place)).iterdir()
        os.utime(path, (0, 0))
        temp_file.write_at(PART, memoryview(content_of(size))[PART : 2 * PART])
        assert path.stat().st_mtime > 0


def test_a_download_that_is_killed_leaves_no_file(bucket, tmp_path):
    """A process killed during a download leaves nothing under the file's name."""
    bucket.put("cloud/big", bytes(PART + 5))
    reached = threading.Event()

    def stall(handler, body):
        if handler.headers["Range"] == f"bytes={PART}-{PART + 4}":
            reached.set()
            handler.rfile.read(1)
            return None
        return body

    with BadWire(bucket.url, stall) as line:
        os.mkdir(tmp_path / "disk")
        places = {"disk": {"url": f"file://{tmp_path}/disk"}, "cloud": bucket.settings("cloud", endpoint_url=line.url)}
        code = (
            "import json, sys; from chiltepin.backends.filesystem import FilesystemBackend as B;"
            "from chiltepin.transfers.runner import Transfers;"
            "from chiltepin.transfers.arguments import transfer_request as r;"
            "Transfers(B.from_config(json.loads(sys.argv[1]), {})).run("
            "r(src_ep='cloud', dst_ep='disk', src_path='/big', dst_path='/big'), timeout=60, polling_interval=1)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, json.dumps(places)], env=os.environ)
        assert reached.wait(60)
        process.kill()
        process.wait()
    assert not (tmp_path / "disk" / "big").exists()
    status = move(bucket.backend(tmp_path), ("cloud", "/big"), ("disk", "/big"))
    assert status.state is TaskState.SUCCEEDED
    assert [name for name in os.listdir(tmp_path / "disk") if name != "big"] == []


@pytest.mark.parametrize("size", [1000, PART + 5])
def test_a_byte_that_flips_on_the_way_up_is_found(bucket, tmp_path, size):
    """A byte that is corrupted during an upload fails the file, and no object is left."""

    def flip(handler, body):
        return b"\x01" + body[1:] if handler.command == "PUT" and len(body) > 100 else body

    with BadWire(bucket.url, flip) as line, bucket.store(endpoint_url=line.url).folder(()) as folder:
        with pytest.raises(Fault) as caught:
            send(folder, "data", bytes(size))
        assert caught.value.code == "VERIFY_CHECKSUM"
    assert bucket.keys() == set()
    assert bucket.uploads() == []


@pytest.mark.parametrize("word", ["InvalidRequest", "MissingContentMD5"])
def test_a_bucket_with_object_lock_takes_objects_of_every_size(bucket, tmp_path, word):
    """A bucket that demands a checksum in a header of each object gets one, and refuses only the first request."""
    refused = []

    def demand(handler, body):
        names = {name.lower() for name in handler.headers}
        if handler.command != "PUT" or any(name.startswith(("content-md5", "x-amz-checksum-")) for name in names):
            return body
        refused.append(handler.path)
        handler.refuse(400, word)
        return None

    for name, size in (("a", 0), ("b", 5), ("c", 1000), ("large", PART + 5)):
        (tmp_path / f"disk/t/{name}").mkdir(parents=True)
        (tmp_path / f"disk/t/{name}/f").write_bytes(content_of(size))
    (tmp_path / "disk/t/empty").mkdir()
    (tmp_path / "disk/one").write_bytes(b"one")
    with BadWire(bucket.url, demand) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)
        for _ in range(2):
            assert move(transfers, ("disk", "/one"), ("cloud", "/one")).state is TaskState.SUCCEEDED
        assert move(transfers, ("disk", "/t"), ("cloud", "/t"), recursive=True).state is TaskState.SUCCEEDED
    assert len(refused) == 1, refused
    names = {f"cloud/t/{name}/f" for name in ("a", "b", "c", "large")}
    assert bucket.keys("cloud/") == {"cloud/one", "cloud/t/empty/", *names}
    assert bucket.get("cloud/t/large/f") == content_of(PART + 5)


@pytest.mark.parametrize("size", [5, PART + 5])
def test_a_request_that_is_invalid_for_another_reason_is_told(bucket, tmp_path, size):
    """A refusal that a checksum does not prevent fails with the code of S3."""

    def refuse(handler, body):
        if handler.command != "PUT":
            return body
        handler.refuse(400, "InvalidRequest")
        return None

    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/f").write_bytes(bytes(size))
    with BadWire(bucket.url, refuse) as line:
        status = move(bucket.backend(tmp_path, endpoint_url=line.url), ("disk", "/f"), ("cloud", "/f"))
    assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR")
    assert "InvalidRequest (400)" in status.reason
    assert bucket.keys() == set()


@pytest.mark.parametrize("size", [1000, PART + 5])
def test_a_byte_that_flips_on_the_way_down_is_found(bucket, size):
    """A byte that is corrupted during a download fails the ETag check, also of a multipart ETag."""
    with bucket.store().folder(()) as folder:
        send(folder, "data", bytes(size))

    def flip(handler, body):
        return b"\x01" + body[1:] if handler.command == "GET" and len(body) > 500 else body

    with BadWire(bucket.url, answer=flip) as line, bucket.store(endpoint_url=line.url).folder(()) as folder:
        with pytest.raises(Fault) as caught:
            everything(folder, "data")
        assert caught.value.code == "VERIFY_CHECKSUM"


def test_parts_of_another_size_prove_nothing(bucket):
    """An ETag made from parts of another size, which cannot be recomputed, does not fail the read."""
    whole = os.urandom(3 * (6 << 20))
    given = {"Bucket": bucket.name, "Key": "data"}
    upload = bucket.client.create_multipart_upload(**given)["UploadId"]
    parts = []
    for number in range(3):
        body = whole[number * (6 << 20) :][: 6 << 20]
        answer = bucket.client.upload_part(**given, UploadId=upload, PartNumber=number + 1, Body=body)
        parts.append({"PartNumber": number + 1, "ETag": answer["ETag"]})
    bucket.client.complete_multipart_upload(**given, UploadId=upload, MultipartUpload={"Parts": parts})
    assert everything(bucket.store().folder(()), "data") == whole


def test_a_server_that_does_not_say_that_it_sends_a_range_is_read(bucket):
    """An object is read correctly from a server that sends ranges with status 200, as rclone does."""
    content = os.urandom(PART + 5)
    bucket.put("data", content)

    with BadWire(bucket.url, status={206: 200}) as line, bucket.store(endpoint_url=line.url).folder(()) as folder:
        assert everything(folder, "data") == content


def test_the_region_of_a_bucket_is_asked_for(bucket):
    """If no option names the region, both libraries sign for the bucket's region."""
    bucket.put("data")
    signed = []

    def note(handler, body):
        signed.append(handler.headers["Authorization"].split("/")[2])
        return body

    with BadWire(bucket.url, note, headers={"x-amz-bucket-region": "eu-north-1"}) as line:
        folder = bucket.store(endpoint_url=line.url, region=None).folder(())
        assert folder.entry("data").size == 4
        assert len(list(folder.entries())) == 1
    assert signed == ["us-east-1", "eu-north-1", "eu-north-1"]


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(bucket):
    """All ranges are of one version of the object, or the read fails."""
    bucket.put("data", bytes(PART + 5))
    with bucket.store().folder(()) as folder, folder.read("data") as reader:
        bucket.put("data", b"\x01" * (PART + 5))
        block = memoryview(bytearray(reader.size))
        with pytest.raises(Fault) as caught:
            reader.read_at(0, block)
        assert caught.value.code == "FILE_SIZE_CHANGED"


def test_what_passes_is_tried_again(bucket):
    """The complete object arrives after a status 503 and a connection lost in the response."""
    content = os.urandom(5000)
    bucket.put("data", content)
    troubles = iter(["busy"])
    cuts = iter([True])

    def busy(handler, body):
        if next(troubles, "ok") == "busy":
            handler.refuse(503, "SlowDown")
            return None
        return body

    def cut(handler, body):
        return None if next(cuts, False) else body

    with BadWire(bucket.url, busy, cut) as line, bucket.store(endpoint_url=line.url).folder(()) as folder:
        assert receive(folder, "data") == content
    assert len(line.asked) == 3


def test_what_does_not_pass_is_asked_once_and_tells_no_secret(bucket, tmp_path):
    """A refusal fails the task with Globus's code, without a retry; the reason contains no key or signature."""

    def refuse(handler, body):
        handler.refuse(403, "AccessDenied")

    with BadWire(bucket.url, refuse) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url, token="a-token-of-the-world")  # noqa: S106
        (tmp_path / "disk" / "data").write_bytes(b"data")
        status = move(transfers, ("cloud", "/data"), ("disk", "/copy"))
    assert status.state is TaskState.FAILED
    assert status.code == "PERMISSION_DENIED"
    assert "403" in status.reason
    # The second request shows that the source cannot be read.
    assert len(line.asked) == 2
    for secret in ("AKIDWORLD", "of-the-world", "Signature", "127.0.0.1"):
        assert secret not in status.reason


def test_a_server_that_is_not_there_is_a_trouble_that_may_pass(bucket):
    """A refused connection is a transient error that omits the address."""
    with BadWire(bucket.url) as line:
        store = bucket.store(endpoint_url=line.url)
    with pytest.raises(S3Fault) as caught:
        store.folder(()).entry("data")
    assert caught.value.code == "CONNECT_FAILED"
    assert store.transient(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_missing_bucket_is_named(bucket, tmp_path):
    """A missing bucket fails the task and is named."""
    bucket.name = "no-such-bucket"
    status = move(bucket.backend(tmp_path), ("cloud", "/data"), ("disk", "/data"), recursive=True)
    assert (status.state, status.code) == (TaskState.FAILED, "FILE_NOT_FOUND")
    assert "The bucket does not exist; create it, or correct the URL" in status.reason
    assert "no-such-bucket" in status.reason


def test_names_that_no_path_can_hold_stay_where_they_are(bucket, tmp_path):
    """Keys that no path can express are skipped, so that none leads elsewhere; the rest is copied."""
    for key in ("t/../../escaped", "t//double", "t/./dot", "t/..", "t/good", "t/a+b %&é"):
        bucket.put(f"cloud/{key}")
    bucket.put("cloud/t/sub/", b"")
    status = move(bucket.backend(tmp_path), ("cloud", "/t"), ("disk", "/t"), recursive=True)
    assert status.state is TaskState.SUCCEEDED
    assert status.files_skipped
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        "disk/t/good",
        "disk/t/a+b %&é",
    }
    assert (tmp_path / "disk" / "t" / "sub").is_dir()


def test_a_folder_with_such_names_is_not_said_to_be_gone(bucket, tmp_path):
    """A deletion fails if it leaves keys that no path can express."""
    for key in ("t//double", "t/..", "t/good"):
        bucket.put(f"cloud/{key}")
    request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
    status = bucket.backend(tmp_path).run(request, timeout=60, polling_interval=1)
    assert status.state is TaskState.FAILED
    assert bucket.keys("cloud/") == {"cloud/t//double"}


@pytest.mark.parametrize("keys", [{"t/"}, {"t/sub/"}, {"t/sub/", "t/sub/x"}, {"t/", "t/x", "t//double"}])
def test_an_object_with_the_name_of_a_folder_is_not_lost(bucket, tmp_path, keys):
    """A mirror of a folder key with content to a disk fails and removes nothing."""
    for key in keys:
        bucket.put(f"cloud/{key}")
    (tmp_path / "disk" / "t").mkdir(parents=True)
    (tmp_path / "disk" / "t" / "more").touch()
    transfers = bucket.backend(tmp_path)
    status = move(transfers, ("cloud", "/t"), ("disk", "/t"), recursive=True, delete_destination_extra=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert "a name that ends with '/'" in status.reason
    found = {path.relative_to(tmp_path / "disk").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"t/more", *(key for key in keys if not key.endswith("/") and "//" not in key)}


@pytest.mark.parametrize("key", ["t//double", "t/./x", "t/../x", "t/sub//x", "t/sub/../more", "t//"])
@pytest.mark.parametrize("goal", ["disk", "other"])
def test_nothing_is_removed_beside_names_that_no_path_can_hold(bucket, tmp_path, key, goal):
    """A mirror from a source with keys that no path can express fails and removes nothing."""
    for name in (key, "t/x"):
        bucket.put(f"cloud/{name}")
    bucket.put("cloud/t/sub/y")
    for name in ("more", "sub/more", "double"):
        bucket.put(f"other/t/{name}")
        (tmp_path / "disk/t/sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "disk/t" / name).touch()
    options = {"recursive": True, "delete_destination_extra": True}
    status = move(bucket.backend(tmp_path), ("cloud", "/t"), (goal, "/t"), **options)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    if goal == "disk":
        found = {path.relative_to(tmp_path / "disk").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    else:
        found = {key.removeprefix("other/") for key in bucket.keys("other/")}
    assert found == {"t/x", "t/sub/y", "t/more", "t/sub/more", "t/double"}


def test_a_folder_is_deleted_with_the_content_of_its_name(bucket, tmp_path):
    """A folder key with content is deleted with the folder, and a mirror removes it as an extra."""
    for key in ("t/", "t/x", "u/", "u/x"):
        bucket.put(f"cloud/{key}")
    bucket.put("other/u/x")
    transfers = bucket.backend(tmp_path)
    request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    status = move(transfers, ("other", "/u"), ("cloud", "/u"), recursive=True, delete_destination_extra=True)
    assert status.state is TaskState.SUCCEEDED
    assert bucket.keys("cloud/") == {"cloud/u/x"}


@pytest.mark.parametrize("tokens", [[b""], [b"one"], [b"one", b"two"], [b"one", b"two", b"three"]])
def test_a_listing_that_goes_round_in_a_circle_ends(bucket, tmp_path, tokens):
    """Repeated pages, and a truncated page without a continuation token, are errors."""
    bucket.put("cloud/t/x")
    count = 0

    def first_page(handler, body):
        handler.path = re.sub("&?continuation-token=[^&]*", "", handler.path)
        return body

    def again(handler, body):
        nonlocal count
        if "max-keys=1000" not in handler.path:
            return body
        count += 1
        token = tokens[count % len(tokens)]
        told = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>" % token
        return body.replace(b"<IsTruncated>false</IsTruncated>", told)

    with BadWire(bucket.url, first_page, again) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)
        request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
        status = transfers.run(request, timeout=60, polling_interval=1)
        with pytest.raises(Exception, match="listing"):
            transfers.ls("cloud", "/t")
    assert status.state is TaskState.FAILED
    assert bucket.keys("cloud/") == {"cloud/t/x"}


def test_a_listing_of_empty_pages_ends(bucket, tmp_path, monkeypatch):
    """A listing of endless empty pages, each with a new token, is an error."""
    monkeypatch.setattr(clients, "EMPTY_PAGES", 20)
    bucket.put("cloud/t/x")
    count = 0

    def first_page(handler, body):
        handler.path = re.sub("&?continuation-token=[^&]*", "", handler.path)
        return body

    def again(handler, body):
        nonlocal count
        if "list-type" not in handler.path:
            return body
        count += 1
        told = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>" % count
        body = re.sub(rb"<Contents>.*</Contents>", b"", body, flags=re.DOTALL)
        return body.replace(b"<IsTruncated>false</IsTruncated>", told)

    with BadWire(bucket.url, first_page, again) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)
        with pytest.raises(Exception, match="too many empty pages"):
            transfers.ls("cloud", "/t")
        (tmp_path / "disk/t").mkdir()
        (tmp_path / "disk/t/more").touch()
        options = {"recursive": True, "delete_destination_extra": True}
        assert move(transfers, ("cloud", "/t"), ("disk", "/t"), **options).state is TaskState.FAILED
        request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
        assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.FAILED
    assert bucket.keys("cloud/") == {"cloud/t/x"}
    assert (tmp_path / "disk/t/more").exists()
    assert count < 200


@pytest.mark.parametrize("pages", [2, 30])
def test_a_few_empty_pages_are_read_past(bucket, pages):
    """Empty pages, which S3 sends after many deletions, do not end a listing."""
    bucket.put("t/x")
    count = 0

    def first_page(handler, body):
        handler.path = re.sub("&?continuation-token=[^&]*", "", handler.path)
        return body

    def late(handler, body):
        nonlocal count
        count += 1
        if count > pages:
            return body
        told = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>" % count
        body = re.sub(rb"<Contents>.*</Contents>", b"", body, flags=re.DOTALL)
        return body.replace(b"<IsTruncated>false</IsTruncated>", told)

    with BadWire(bucket.url, first_page, late) as line:
        store = bucket.store(endpoint_url=line.url)
        assert [entry.name for entry in store.folder(("t",)).entries()] == ["x"]


def test_an_empty_first_page_hides_no_folder(bucket, tmp_path):
    """A folder whose listing begins with an empty page exists: it is not replaced, and a deletion deletes all of it."""
    for name in ("d/x", "d/y/z", "taken/f"):
        bucket.put(f"cloud/{name}")

    def without_token(handler, body):
        handler.first = "list-type" in handler.path and "continuation-token" not in handler.path
        handler.path = re.sub("&?continuation-token=[^&]*", "", handler.path)
        return body

    def empty(handler, body):
        if not handler.first:
            return body
        told = b"<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
        body = re.sub(rb"<(Contents|CommonPrefixes)>.*</\1>", b"", body, flags=re.DOTALL)
        return re.sub(rb"<IsTruncated>\w+</IsTruncated>", told, body)

    with BadWire(bucket.url, without_token, empty) as line:
        with bucket.store("cloud", endpoint_url=line.url).folder(()) as folder:
            assert folder.entry("d").kind == "dir"
            with pytest.raises(OSError, match="not empty"):
                folder.remove_folder("d")
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)
        (tmp_path / "disk/f").touch()
        assert move(transfers, ("disk", "/f"), ("cloud", "/taken")).code == "IS_A_DIRECTORY"
        request = delete_request(src_ep="cloud", src_path="/d", recursive=True, ignore_missing=True)
        status = transfers.run(request, timeout=60, polling_interval=1)
    assert status.state is TaskState.SUCCEEDED, status.reason
    assert bucket.keys("cloud/") == {"cloud/taken/f"}


@pytest.mark.parametrize("marker", [b"", b"0", b"1", b"2"])
def test_a_list_of_parts_that_does_not_get_on_ends(bucket, marker):
    """If the list of a dead writer's parts never ends, the upload starts over and does not hang."""
    listed = 0

    def circle(handler, body):
        nonlocal listed
        if handler.command == "GET" and "uploadId" in handler.path:
            listed += 1
            told = b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>%s</NextPartNumberMarker>" % marker
            body = re.sub(rb"<NextPartNumberMarker>.*?</NextPartNumberMarker>", b"", body)
            body = re.sub(rb"<IsTruncated>\w+</IsTruncated>", told, body)
        return body

    def same_page(handler, body):
        handler.path = re.sub("&?part-number-marker=[^&]*", "", handler.path)
        return body

    with BadWire(bucket.url, same_page, circle) as line:
        killed(writer(replace(bucket, url=line.url), 2 * PART + 5, [0, 1]))
        with bucket.store("cloud", endpoint_url=line.url).folder((), create=True) as folder:
            send(folder, "big", content_of(2 * PART + 5))
    assert bucket.get("cloud/big") == content_of(2 * PART + 5)
    assert bucket.uploads() == []
    assert 0 < listed < 5


def test_a_listing_has_all_pages_and_is_never_old(bucket):
    """A listing includes all its pages, and shows changes by other programs at once."""
    for number in range(8):
        bucket.put(f"t/{number}", b"")
    store = bucket.store()
    store.page = 3
    assert len(list(store.folder(("t",)).entries())) == 8
    assert list(store.folder(("t",)).remove_all([str(number) for number in range(8)])) == []
    bucket.put("t/new")
    assert [entry.name for entry in store.folder(("t",)).entries()] == ["new"]


def test_an_empty_folder_is_kept_and_removed(bucket):
    """A key with a final slash keeps an empty folder; a folder that is not empty cannot be removed."""
    store = bucket.store("cloud")
    with store.folder(("a", "b"), create=True):
        pass
    assert bucket.keys() == {"cloud/a/b/"}
    with pytest.raises(OSError, match="not empty"):
        store.folder(()).remove_folder("a")
    store.folder(("a",)).remove_folder("b")
    assert bucket.keys() == set()
    with pytest.raises(FileNotFoundError):
        list(store.folder(("a",)).entries())


def test_within_one_server_the_server_copies(bucket, tmp_path):
    """Within one server, the server copies, and nothing is downloaded."""
    bucket.put("cloud/data", os.urandom(5000))
    with BadWire(bucket.url) as line:
        status = move(bucket.backend(tmp_path, endpoint_url=line.url), ("cloud", "/data"), ("other", "/copy"))
    assert status.state is TaskState.SUCCEEDED
    assert status.bytes_done == 5000
    assert bucket.get("other/copy") == bucket.get("cloud/data")
    assert not [asked for asked in line.asked if asked.startswith("GET") and "list-type" not in asked]


def test_parts_are_copied_by_the_server(bucket):
    """An object too large for one copy is copied in parts by the server."""
    content = content_of(PART + 5)
    bucket.put("data", content)
    store = bucket.store()
    with (
        store.folder(()) as folder,
        folder.read("data") as reader,
        folder.temp_file("copy", size=PART + 5) as temp_file,
    ):
        assert temp_file.copy_part(reader, 0, PART, verify=True)
        assert temp_file.copy_part(reader, PART, 5, verify=True)
        temp_file.commit(None)
    assert bucket.get("copy") == content


@pytest.mark.parametrize("said", [b"", b"<html><body>Log in</body></html>", b"<!doctype html><html>", b"{}"])
def test_an_empty_answer_is_no_success(bucket, tmp_path, said):
    """A copy or an upload whose response is not one of S3 fails with a hint, and leaves no upload."""

    def other(handler, body):
        ends = handler.command == "POST" and "uploadId" in handler.path
        return said if ends or "x-amz-copy-source" in handler.headers else body

    bucket.put("cloud/small")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/large").write_bytes(content_of(PART + 5))
    with BadWire(bucket.url, answer=other) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)
        for src, dst in ((("disk", "/large"), ("cloud", "/large")), (("cloud", "/small"), ("other", "/small"))):
            status = move(transfers, src, dst)
            assert (status.state, status.code) == (TaskState.FAILED, "ENDPOINT_ERROR")
            assert "check endpoint_url" in status.reason
    assert bucket.uploads() == []


def test_between_two_servers_nothing_is_copied_by_one(bucket):
    """The server does not copy between endpoints with different credentials."""
    bucket.put("data", bytes(SMALL + 1))
    folder, stranger = bucket.store().folder(()), bucket.store(key="AKIDOTHER").folder(())
    assert stranger.copy_from(folder, folder.entry("data"), "copy", CopyOptions()) is None


def test_small_objects_go_both_ways_and_between_servers_in_one_request_each(bucket, tmp_path):
    """A small file is sent and received as a whole, and must have the requested checksum."""
    (tmp_path / "small").write_bytes(b"small")
    there, here = bucket.store().folder(()), LocalStore(str(tmp_path)).folder(())
    other = bucket.store(key="AKIDOTHER").folder(())
    options = CopyOptions(checksum=f"sha256:{hashlib.sha256(b'small').hexdigest()}")
    with here:
        assert there.copy_from(here, here.entry("small"), "up", options) == 5
        assert other.copy_from(there, there.entry("up"), "across", options) == 5
        assert here.copy_from(there, there.entry("across"), "down", options) == 5
        for goal, origin in ((there, here), (other, there), (here, there)):
            name = "small" if origin is here else "up"
            with pytest.raises(Fault, match="not the expected one"):
                goal.copy_from(origin, origin.entry(name), "wrong", CopyOptions(checksum="md5:00"))
    assert (tmp_path / "down").read_bytes() == b"small"
    assert not (tmp_path / "wrong").exists()
    assert bucket.keys() == {"up", "across"}


def test_a_page_of_a_listing_says_what_botocore_reads_in_it(bucket):
    """Pages are parsed as by botocore: names with odd characters, folders, times, ETags and sizes."""
    for key in ("t/a", "t/Ünï & <b>+ %20", "t/folder/x", "t/e\u0301"):
        bucket.put(key, key.encode())
    found = {entry.name: entry for entry in bucket.store().folder(("t",)).entries()}
    page = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="t/", Delimiter="/")
    assert {name for name, entry in found.items() if entry.kind == "dir"} == {"folder"}
    told = {
        item["Key"][2:]: (item["Size"], item["LastModified"].timestamp(), item["ETag"].strip('"'))
        for item in page["Contents"]
    }
    assert {name: (e.size, e.mtime, e.version) for name, e in found.items() if e.kind == "file"} == told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sekret": "x"}, "secret"),
        ({"client_kwargs": {"region": "x"}}, "region_name"),
        ({"s3_additional_kwargs": {"Colour": "x"}}, "ACL"),
        ({"config_kwargs": {"signature_version": "s3"}}, "config_kwargs.signature_version"),
        ({"secret": None}, "is set; set both or neither"),
        ({"profile": "nobody", "key": None, "secret": None}, "ProfileNotFound"),
    ],
)
def test_an_option_that_is_not_known_is_named(bucket, options, said):
    """An unknown or wrong option is a configuration error with the reason."""
    with pytest.raises(ConfigError, match=said):
        bucket.store(**options)


def test_keys_come_from_the_environment_too(bucket, monkeypatch):
    """Without keys in the options, AWS's environment variables set the keys and the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.url)
    store = bucket.store(key=None, secret=None, endpoint_url=None)
    bucket.put("data")
    assert store.folder(()).entry("data").size == 4
    assert [entry.name for entry in store.folder(()).entries()] == ["data"]


def test_without_keys_it_says_where_to_put_them(bucket):
    """Missing keys are an error that names the variables."""
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        bucket.store(key=None, secret=None)


def test_a_missing_extra_is_named(tmp_path):
    """A missing package is an error with the install command."""
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from chiltepin.backends.filesystem import FilesystemBackend as B\n"
        "from chiltepin.errors import UnsupportedOptionError\n"
        "try: B.from_config({'cloud': {'url': 's3://bucket'}}, {}).ls('cloud', '/')\n"
        "except UnsupportedOptionError as err: print(err)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "pip install boto3 obstore" in run.stdout


@pytest.fixture
def elsewhere(bucket, tmp_path):
    """A function that makes transfers between a disk, a bucket, and the same bucket over another connection."""

    def opened(line):
        os.makedirs(tmp_path / "disk", exist_ok=True)
        places = {
            "disk": {"url": f"file://{tmp_path}/disk"},
            "cloud": bucket.settings(endpoint_url=line.url),
            "other": bucket.settings("other"),
        }
        return Transfers(FilesystemBackend.from_config(places, {}))

    return opened


@pytest.mark.parametrize("goal", ["disk", "other"])
def test_an_object_of_one_request_comes_in_parts_and_is_proved_as_a_whole(bucket, elsewhere, tmp_path, goal):
    """An object sent in one request is received in parts and verified by its MD5, in whatever order they arrive."""
    content = os.urandom(4 * PART + 5)
    bucket.put("big", content)
    with BadWire(bucket.url) as line:
        assert move(elsewhere(line), ("cloud", "/big"), (goal, "/big")).state is TaskState.SUCCEEDED
        assert len([asked for asked in line.asked if asked.startswith("GET /") and asked.endswith("/big")]) == 5
    there = (tmp_path / "disk" / "big").read_bytes() if goal == "disk" else bucket.get("other/big")
    assert there == content


@pytest.mark.parametrize("goal", ["disk", "other"])
def test_a_part_that_is_damaged_or_missing_fails_the_whole(bucket, elsewhere, tmp_path, goal):
    """A corrupted part fails the MD5 of the object, and a refused part ends the parts that wait for it."""
    bucket.put("big", os.urandom(4 * PART + 5))
    second = f"bytes={PART}-{2 * PART - 1}"

    def flip(handler, body):
        return b"\x00\x01" + body[2:] if handler.headers["Range"] == second else body

    def refuse(handler, body):
        if handler.headers["Range"] != second:
            return body
        handler.send_error(403)
        return None

    with BadWire(bucket.url, answer=flip) as line:
        status = move(elsewhere(line), ("cloud", "/big"), (goal, "/big"))
        assert (status.state, status.code) == (TaskState.FAILED, "EXTERNAL_CHECKSUM_MISMATCH")
    with BadWire(bucket.url, refuse) as line:
        status = move(elsewhere(line), ("cloud", "/big"), (goal, "/big"))
        assert (status.state, status.code) == (TaskState.FAILED, "PERMISSION_DENIED")
    assert bucket.keys("other") == set()
    assert bucket.uploads() == []
    assert os.listdir(tmp_path / "disk") == []


def test_a_listing_that_breaks_off_is_begun_again(bucket, elsewhere, tmp_path):
    """A page that fails every try costs one fault, the listing restarts, and each file is copied only once."""
    for number in range(BATCH_FILES + 20):
        bucket.put(f"{number}.dat")
    refused = []

    def refuse(handler, body):
        handler.path = handler.path.replace("max-keys=1000", f"max-keys={BATCH_FILES}")
        if "continuation-token" not in handler.path or len(refused) == TRIES:
            return body
        refused.append(handler.path)
        handler.send_error(503)
        return None

    with BadWire(bucket.url, refuse) as line:
        status = move(elsewhere(line), ("cloud", "/"), ("disk", "/copy"), recursive=True)
    assert (status.state, status.files_done, status.faults) == (TaskState.SUCCEEDED, BATCH_FILES + 20, 1)
    assert len(os.listdir(tmp_path / "disk" / "copy")) == BATCH_FILES + 20


def test_a_child_made_by_fork_moves_objects_by_itself(bucket, tmp_path):
    """A forked child copies small and large objects both ways without hanging, though its parent used the bucket."""
    transfers = bucket.backend(tmp_path)
    (tmp_path / "disk/small").write_bytes(b"small")
    (tmp_path / "disk/large").write_bytes(content_of(2 * PART + 7))

    def there_and_back(name):
        for size in ("small", "large"):
            assert move(transfers, ("disk", size), ("cloud", f"{name}-{size}")).state is TaskState.SUCCEEDED
            assert move(transfers, ("cloud", f"{name}-{size}"), ("disk", f"{name}-{size}")).state is TaskState.SUCCEEDED
            assert (tmp_path / f"disk/{name}-{size}").read_bytes() == (tmp_path / f"disk/{size}").read_bytes()

    there_and_back("parent")
    in_child(lambda: there_and_back("child"))
    there_and_back("again")
    assert len(bucket.keys("cloud/child-")) == 2


DIRECT = ["*", "127.0.0.1", "127.0.0.0/8", "127.0.0.1:{port}", "example.org, 127.0.0.1", "example.org *"]


@pytest.mark.parametrize("told", DIRECT)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_request_goes_to_the_proxy_where_no_proxy_names_the_server(bucket, tmp_path, monkeypatch, name, told):
    """Both libraries send requests for objects, listings and deletions directly to the server."""
    bucket.put("cloud/t/large", os.urandom(PART + 5))
    bucket.put("cloud/t/small")
    with BadWire(bucket.url) as proxy:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.setenv(name, told.format(port=bucket.url.rpartition(":")[2]))
        transfers = bucket.backend(tmp_path)
        status = move(transfers, ("cloud", "/t"), ("disk", "/t"), recursive=True)
        request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
        assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
        assert proxy.asked == []
    assert (status.state, status.files_done) == (TaskState.SUCCEEDED, 2)


@pytest.mark.parametrize(
    "variables", [{"http_proxy": ""}, {"ALL_PROXY": ""}, {"HTTP_PROXY": "", "no_proxy": "27.0.0.1"}]
)
def test_all_requests_go_to_the_proxy_of_the_environment(bucket, tmp_path, monkeypatch, variables):
    """Both libraries use the proxy for a server that NO_PROXY does not name."""
    bucket.put("cloud/t/small")
    with BadWire(bucket.url) as proxy:
        for name, value in variables.items():
            monkeypatch.setenv(name, value or proxy.url)
        status = move(bucket.backend(tmp_path), ("cloud", "/t"), ("disk", "/t"), recursive=True)
        assert status.state is TaskState.SUCCEEDED
        assert {request.partition(" ")[2].partition("?")[0] for request in proxy.asked if "GET" in request} == {
            f"{bucket.url}/{bucket.name}",
            f"{bucket.url}/{bucket.name}/cloud/t/small",
        }


def test_a_proxy_that_is_not_an_http_proxy_is_named(bucket, monkeypatch):
    """A SOCKS proxy is a configuration error and is not ignored."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match="not an HTTP proxy"):
        bucket.store()


SERVERS = [
    ("http://127.0.0.1:9000", "http://127.0.0.1:9000/", True),
    ("http://127.0.0.1:9000", "http://localhost:9000", True),
    ("http://LOCALHOST.:9000", "http://[::1]:9000", True),
    ("http://127.0.0.1:9000", "http://127.1:9000", True),
    ("http://127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000", True),
    ("http://0.0.0.0:9000", "http://localhost:9000", True),
    ("http://127.0.0.1:9000", "http://127.0.0.1:9001", False),
    ("http://127.0.0.1", "http://localhost:80", True),
    ("https://S3.example.invalid", "https://s3.example.invalid.:443/", True),
    ("https://s3.example.invalid", "https://s4.example.invalid", False),
    ("https://s3.amazonaws.com", "https://s3.us-east-1.amazonaws.com", True),
    ("https://s3.dualstack.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", True),
    ("https://s3.cn-north-1.amazonaws.com.cn", "https://s3.amazonaws.com", False),
]


@pytest.mark.parametrize(("one", "other", "same"), SERVERS)
def test_a_server_is_the_same_by_each_of_its_urls(one, other, same):
    """URLs that differ in case, dots, slashes, default ports, or name and address identify the same server."""
    assert same_server(one, other) == same_server(other, one) == same


@pytest.mark.parametrize("folder", ["proj/b", "/proj//b/", "proj/b/c/"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "http://LOCALHOST:{}"])
def test_a_folder_that_holds_the_root_of_another_endpoint_stays(bucket, folder, url):
    """However another endpoint's URL names its server and folder, its root is not deleted; a sibling folder is."""
    for key in ("proj/b/c/data", "proj/bb/data"):
        bucket.put(key)
    inner = bucket.settings(endpoint_url=url.format(bucket.url.rpartition(":")[2]))
    inner["url"] = f"s3://{bucket.name}/{folder}"
    places = {"outer": bucket.settings("proj"), "inner": inner}
    transfers = Transfers(FilesystemBackend.from_config(places, {}))
    for path, state in (("/b", TaskState.FAILED), ("/bb", TaskState.SUCCEEDED)):
        request = delete_request(src_ep="outer", src_path=path, recursive=True)
        assert transfers.run(request, timeout=60, polling_interval=1).state is state
    assert bucket.keys() == {"proj/b/c/data"}


@pytest.mark.parametrize("part", ["001", "789", "999"])
def test_milliseconds_of_a_listing_do_not_move_an_object_again(bucket, tmp_path, part):
    """A copy whose time has whole seconds counts as unchanged if only the listed milliseconds differ."""
    bucket.put("cloud/t/x")
    later = False

    def finer(handler, body):
        body = re.sub(rb"\.\d+Z</LastModified>", f".{part}Z</LastModified>".encode(), body)
        return re.sub(rb"<LastModified>\d+", b"<LastModified>2099", body) if later else body

    with BadWire(bucket.url, answer=finer) as line:
        transfers = bucket.backend(tmp_path, endpoint_url=line.url)

        def again():
            options = {"recursive": True, "preserve_timestamp": True, "sync_level": "mtime"}
            status = move(transfers, ("cloud", "/t"), ("disk", "/t"), **options)
            return status.state, status.files_done, status.files_skipped

        assert again() == (TaskState.SUCCEEDED, 1, 0)
        assert again() == (TaskState.SUCCEEDED, 0, 1)
        later = True
        assert again() == (TaskState.SUCCEEDED, 1, 0)


@pytest.mark.parametrize("size", [5000, SMALL + 5, PART + 5])
def test_an_object_with_a_content_encoding_arrives_as_it_is_stored(bucket, tmp_path, size):
    """An object with a content encoding arrives with its stored bytes, on a disk and in a bucket."""
    content = gzip.compress(os.urandom(size), 0)
    bucket.client.put_object(Bucket=bucket.name, Key="cloud/z", Body=content, ContentEncoding="gzip")
    transfers = bucket.backend(tmp_path)
    for goal in ("disk", "other"):
        assert move(transfers, ("cloud", "/z"), (goal, "/z")).state is TaskState.SUCCEEDED
    assert (tmp_path / "disk" / "z").read_bytes() == bucket.get("other/z") == content


@pytest.mark.parametrize("size", [5, PART + 5])
def test_a_bucket_with_versions_shows_the_current_ones(bucket, tmp_path, size):
    """Only current versions are listed, copied and mirrored; a deletion adds a marker and keeps the versions."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for letter in (b"1", b"2"):
        bucket.put("cloud/t/x", letter * size)
        bucket.put("cloud/t/gone", letter * size)
    bucket.client.delete_object(Bucket=bucket.name, Key="cloud/t/gone")
    (tmp_path / "disk/t").mkdir(parents=True)
    (tmp_path / "disk/t/gone").touch()
    transfers = bucket.backend(tmp_path)
    assert [entry.name for entry in transfers.ls("cloud", "/t")] == ["x"]
    for goal in ("disk", "other"):
        options = {"recursive": True, "delete_destination_extra": True}
        assert move(transfers, ("cloud", "/t"), (goal, "/t"), **options).state is TaskState.SUCCEEDED
    assert bucket.get("other/t/x") == (tmp_path / "disk/t/x").read_bytes() == b"2" * size
    assert os.listdir(tmp_path / "disk/t") == ["x"]
    assert move(transfers, ("cloud", "/t/gone"), ("disk", "/y")).code == "FILE_NOT_FOUND"
    request = delete_request(src_ep="cloud", src_path="/t", recursive=True)
    assert transfers.run(request, timeout=60, polling_interval=1).state is TaskState.SUCCEEDED
    told = bucket.client.list_object_versions(Bucket=bucket.name, Prefix="cloud/t/")
    assert {marker["Key"] for marker in told["DeleteMarkers"]} >= {"cloud/t/x", "cloud/t/gone"}
    assert [version["Key"] for version in told["Versions"]].count("cloud/t/x") == 2
