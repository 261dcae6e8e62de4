"""Archives that fsspec opens: all members arrive, whatever their names, or the transfer fails."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import subprocess
import tarfile
import threading
import warnings
import zipfile
from functools import partial

import pytest
from test_web_indexes import seeds
from webservers import files_of, odd_name, odd_tree
from worlds import world_of

from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.backends.filesystem.stores.fsspec.archive import ArchiveReader
from chiltepin.errors import BackendError, UnsupportedOptionError
from chiltepin.model import TaskState
from chiltepin.transfers.arguments import transfer_request
from chiltepin.transfers.runner import Transfers

NAMES = ("top", "run/a.nc", "run/deep/er/b.nc")


def zip_of(path, *members, kind="w"):
    """Write a zip; a member is a name, or a name and its content."""
    with zipfile.ZipFile(path, kind) as archive:
        for member in members:
            archive.writestr(*((member, f"in {member}") if isinstance(member, str) else member))


def tar_of(path, *members, mode="w"):
    """Write a tar; a member is a name, a name and its content, or a name, its type and its link target."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            name, *more = (member, f"in {member}") if isinstance(member, str) else member
            info = tarfile.TarInfo(name)
            if len(more) == 2:
                info.type, info.linkname = more
                archive.addfile(info)
            else:
                info.size = len(more[0].encode())
                archive.addfile(info, io.BytesIO(more[0].encode()))


def moved(url, folder, **options):
    """Copy an archive to the folder ``got``."""
    endpoints = {"archive": {"url": url}, "disk": {"url": str(folder)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    told = {"src_path": "/", "dst_path": "/got", "recursive": True, **options}
    return transfers.run(transfer_request(src_ep="archive", dst_ep="disk", **told), timeout=60, polling_interval=1)


def arrived(folder):
    """The contents of the files that arrived, by name."""
    return {os.fsdecode(name): content.decode() for name, content in files_of(folder / "got").items()}


MAKERS = {"zip": zip_of, "tar": tar_of}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("names", [NAMES, [f"./{name}" for name in NAMES], [f"/{name}" for name in NAMES], ["a//b"]])
def test_folders_without_an_entry_are_folders(tmp_path, kind, names):
    """Folders without an entry are copied; a leading ``/`` or ``./`` is dropped, as ``tar`` and ``unzip`` do."""
    MAKERS[kind](tmp_path / "x", *names)
    assert moved(f"{kind}://::{tmp_path}/x", tmp_path).state is TaskState.SUCCEEDED
    wanted = {name.removeprefix(".").lstrip("/").replace("//", "/"): f"in {name}" for name in names}
    assert arrived(tmp_path) == wanted


@pytest.mark.parametrize("kind", MAKERS)
def test_a_part_of_an_archive_is_copied(tmp_path, kind):
    """A single folder or file of an archive is copied, and a folder of it can be the endpoint's root."""
    MAKERS[kind](tmp_path / "x", *NAMES)
    url = f"{kind}://::{tmp_path}/x"
    assert moved(url, tmp_path, src_path="/run/deep").files_done == 1
    assert moved(url, tmp_path, src_path="/run/a.nc", dst_path="/got/one", recursive=False).files_done == 1
    assert moved(f"{kind}://run::{tmp_path}/x", tmp_path, dst_path="/got/root").files_done == 2
    assert set(arrived(tmp_path)) == {"er/b.nc", "one", "root/a.nc", "root/deep/er/b.nc"}
    assert moved(url, tmp_path, src_path="/ru").code == "FILE_NOT_FOUND"


@pytest.mark.parametrize("kind", MAKERS)
def test_an_empty_archive_is_an_empty_folder(tmp_path, kind):
    """An archive without members is copied as an empty folder."""
    MAKERS[kind](tmp_path / "x")
    assert moved(f"{kind}://::{tmp_path}/x", tmp_path).state is TaskState.SUCCEEDED
    assert os.listdir(tmp_path / "got") == []


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../x", "run/../../x", "/../x"])
def test_a_member_that_leads_out_fails_and_the_others_come(tmp_path, kind, name):
    """A member whose name contains ``..`` fails, the rest arrives, and no extra file is deleted."""
    MAKERS[kind](tmp_path / "x", *NAMES, name)
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("stays")
    status = moved(f"{kind}://::{tmp_path}/x", tmp_path, delete_destination_extra=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert set(arrived(tmp_path)) == {*NAMES, "extra"}
    assert sorted(os.listdir(tmp_path)) == ["got", "x"]


@pytest.mark.parametrize("kind", MAKERS)
def test_of_two_members_of_one_name_the_later_counts(tmp_path, kind):
    """Of members with the same name, the last is copied, as ``tar`` and ``unzip`` do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of duplicate names
        MAKERS[kind](tmp_path / "x", ("a", "first"), ("b", "other"), ("./a" if kind == "tar" else "a", "last"))
    assert moved(f"{kind}://::{tmp_path}/x", tmp_path).state is TaskState.SUCCEEDED
    assert arrived(tmp_path) == {"a": "last", "b": "other"}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_name_that_is_file_and_folder_fails(tmp_path, kind):
    """A name that is both a file and a folder fails; the rest arrives."""
    MAKERS[kind](tmp_path / "x", "a", "a/b", "c")
    status = moved(f"{kind}://::{tmp_path}/x", tmp_path)
    assert status.state is TaskState.FAILED
    assert "both as a file and as a folder" in status.reason
    assert set(arrived(tmp_path)) == {"c"}


def test_links_and_devices_of_a_tar_are_what_they_are(tmp_path):
    """Symbolic links and pipes are skipped, as in a folder; a hard link is copied as the file that it links to."""
    hard, soft, pipe = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE
    tar_of(tmp_path / "x", "a", ("hard", hard, "a"), ("soft", soft, "a"), ("pipe", pipe, ""), ("d", soft, "/etc"))
    status = moved(f"tar://::{tmp_path}/x", tmp_path)
    assert (status.state, status.files_done, status.files_skipped) == (TaskState.SUCCEEDED, 2, 3)
    assert arrived(tmp_path) == {"a": "in a", "hard": "in a"}
    assert moved(f"tar://::{tmp_path}/x", tmp_path, src_path="/soft", recursive=False).code == "PERMISSION_DENIED"
    tar_of(tmp_path / "x", "a", ("hard", hard, "gone"), ("d", soft, "/etc"), "d/passwd")
    status = moved(f"tar://::{tmp_path}/x", tmp_path)
    assert status.faults == 2
    assert "which the archive does not hold" in status.reason


def test_a_link_in_a_zip_is_a_link(tmp_path):
    """A symbolic link in a Unix zip is skipped, not copied as a file that contains its target."""
    info = zipfile.ZipInfo("soft")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    zip_of(tmp_path / "x", "a", (info, "a"))
    status = moved(f"zip://::{tmp_path}/x", tmp_path)
    assert (status.state, status.files_skipped) == (TaskState.SUCCEEDED, 1)
    assert arrived(tmp_path) == {"a": "in a"}


def with_raw_name(path, name):
    """Write a zip with a name of these bytes and without the UTF-8 flag, as Unix zip programs do."""
    zip_of(path, ("N" * len(name), "raw"), "ok")
    path.write_bytes(path.read_bytes().replace(b"N" * len(name), name))


@pytest.mark.parametrize("name", ["é".encode(), b"caf\xe9", "日本".encode(), b"plain"])
def test_a_name_of_a_zip_of_unix_is_its_bytes(tmp_path, name):
    """A name without the UTF-8 flag in a Unix zip is copied byte for byte, as ``unzip`` does."""
    with_raw_name(tmp_path / "x", name)
    assert moved(f"zip://::{tmp_path}/x", tmp_path).state is TaskState.SUCCEEDED
    assert files_of(tmp_path / "got") == {name: b"raw", b"ok": b"in ok"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0.txt", "is not a name"), ("folder/", "4 bytes under folder/, the name of a folder")],
    ids=["cut at a NUL", "content of a folder"],
)
def test_a_member_that_zipfile_reads_as_another_one_fails(tmp_path, name, reason):
    """A member with a NUL in its name, or a folder with content, fails and does not hide another member."""
    info = zipfile.ZipInfo("N" * len(name))
    zip_of(tmp_path / "x", "a", (info, "data"), "folder/f")
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes().replace(b"N" * len(name), name.encode()))
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "extra").write_text("stays")
    status = moved(f"zip://::{tmp_path}/x", tmp_path, delete_destination_extra=True)
    assert (status.state, status.code) == (TaskState.FAILED, "INVALID_PATH_NAME")
    assert reason in status.reason
    assert arrived(tmp_path) == {"a": "in a", "folder/f": "in folder/f", "extra": "stays"}


@pytest.mark.parametrize(("system", "wanted"), [(0, "run/deep/a.nc"), (3, "run\\deep\\a.nc")])
def test_a_backslash_is_read_as_unzip_reads_it(tmp_path, system, wanted):
    """A backslash separates folders in a name without slashes in a Windows zip, but not in a Unix zip."""
    info = zipfile.ZipInfo("run\\deep\\a.nc")
    info.create_system = system
    zip_of(tmp_path / "x", (info, "data"), "b")
    assert moved(f"zip://::{tmp_path}/x", tmp_path).state is TaskState.SUCCEEDED
    assert arrived(tmp_path) == {wanted: "data", "b": "in b"}
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-q", "-d", "by-unzip", "x"], cwd=tmp_path, check=False, capture_output=True)
        assert files_of(tmp_path / "by-unzip") == files_of(tmp_path / "got")


@pytest.mark.parametrize("time", [-5, 10**12, 10**18, -(10**18)])
def test_a_time_that_no_calendar_holds_is_listed_as_unknown(tmp_path, time):
    """A folder can be listed whatever the modification times of its files."""
    with tarfile.open(tmp_path / "x", "w") as archive:
        info = tarfile.TarInfo("a")
        info.mtime = time
        archive.addfile(info)
    backend = FilesystemBackend.from_config({"archive": {"url": f"tar://::{tmp_path}/x"}}, {})
    [entry] = backend.ls("archive", "/")
    assert (entry.name, entry.modified is None) == ("a", abs(time) > 5)


def encrypt(path):
    """Mark the first member of a zip as encrypted."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)


def compress_otherwise(path):
    """Mark the first member of a zip as compressed by Deflate64, as Windows does with large files."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(mark) + at] = 9
    path.write_bytes(data)


def damage(path):
    """Change a byte of the content of the first member."""
    data = bytearray(path.read_bytes())
    data[data.index(b"in a")] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (encrypt, "a is encrypted in the archive; decrypt the archive first."),
        (compress_otherwise, "a is compressed by a method that Python lacks; create the archive again with deflate."),
        (damage, "a is damaged in the archive; download the archive again."),
    ],
)
def test_a_member_that_cannot_be_read_fails_alone(tmp_path, spoil, reason):
    """An encrypted, damaged or otherwise compressed member of a zip fails with a sentence; the rest arrives."""
    zip_of(tmp_path / "x", "a", "b", "c")
    spoil(tmp_path / "x")
    status = moved(f"zip://::{tmp_path}/x", tmp_path)
    assert (status.state, status.faults, status.reason) == (TaskState.FAILED, 1, reason)
    assert arrived(tmp_path) == {"b": "in b", "c": "in c"}


@pytest.mark.parametrize(
    ("members", "code", "reason"),
    [
        ([("pipe", tarfile.FIFOTYPE, ""), ("hard", tarfile.LNKTYPE, "pipe")], "NOT_A_FILE", "is not a file"),
        ([("d", tarfile.DIRTYPE, ""), ("hard", tarfile.LNKTYPE, "d")], "NOT_A_FILE", "is not a file"),
        (
            [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("hard", tarfile.LNKTYPE, "b")],
            "INVALID_SYMLINK",
            "form a circle",
        ),
    ],
    ids=["pipe", "folder", "circle"],
)
def test_a_hard_link_to_no_file_is_explained(tmp_path, members, code, reason):
    """A hard link in a tar to a pipe, a folder or a circle of links fails with a sentence; the rest arrives."""
    tar_of(tmp_path / "x", "top", *members)
    status = moved(f"tar://::{tmp_path}/x", tmp_path)
    assert (status.state, status.code, status.faults) == (TaskState.FAILED, code, 1)
    assert status.reason.startswith("hard is a hard link in the archive")
    assert reason in status.reason
    assert arrived(tmp_path) == {"top": "in top"}


def write_any(path, kind):
    """Write an archive with three members: a zip, or a tar with a compression."""
    content = "".join(map(str, range(3000)))
    if kind in ("zip", "deflated"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if kind == "zip" else zipfile.ZIP_DEFLATED) as archive:
            for name in NAMES:
                archive.writestr(name, content)
    else:
        tar_of(path, *((name, content) for name in NAMES), mode=f"w:{kind}" if kind != "tar" else "w")
    return content


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["zip", "deflated", "tar", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_explained(tmp_path, kind):
    """After any damage or truncation, a failure is a sentence that does not name a class of Python."""
    told = []
    for seed in seeds(25):
        chance, path = random.Random(f"{kind} {seed}"), tmp_path / f"x.tar.{kind}"  # noqa: S311 - not secret
        content = write_any(path, kind)
        data = bytearray(path.read_bytes())
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            status = moved(f"{'zip' if kind in ('zip', 'deflated') else 'tar'}://::{path}", tmp_path)
        except BackendError as err:
            told.append((seed, "", str(err)))
            continue
        if status.state is TaskState.FAILED:
            told.append((seed, status.code, status.reason))
        elif kind != "tar":
            # A tar has checksums of headers only.
            assert set(arrived(tmp_path).values()) == {content}, seed
        shutil.rmtree(tmp_path / "got", ignore_errors=True)
    assert told
    assert [(seed, why) for seed, code, why in told if code == "INTERNAL_ERROR" or re.search(r": \w*\.", why)] == []


@pytest.mark.parametrize("kept", [512, 1024, 1100, 1536, 2048 + 300, 3072])
def test_a_tar_that_was_cut_is_not_a_shorter_one(tmp_path, kept):
    """A tar truncated in a header, in a file or between members is an error, not a shorter list."""
    tar_of(tmp_path / "x", "a", "b", "c")
    os.truncate(tmp_path / "x", kept)
    with pytest.raises(BackendError, match="cannot be opened"):
        moved(f"tar://::{tmp_path}/x", tmp_path)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("lost", [0, 4, 12, 60])
def test_a_compressed_tar_that_was_cut_is_not_a_shorter_one(tmp_path, kind, lost):
    """A compressed tar arrives; a truncated one is an error, even if only its checksum is incomplete."""
    tar_of(tmp_path / f"x.tar.{kind}", "a", "b", mode=f"w:{kind}")
    os.truncate(tmp_path / f"x.tar.{kind}", os.path.getsize(tmp_path / f"x.tar.{kind}") - lost)
    if lost:
        with pytest.raises(BackendError, match="cannot be opened"):
            moved(f"tar://::{tmp_path}/x.tar.{kind}", tmp_path)
    else:
        assert moved(f"tar://::{tmp_path}/x.tar.{kind}", tmp_path).state is TaskState.SUCCEEDED
        assert arrived(tmp_path) == {"a": "in a", "b": "in b"}


def test_a_tar_with_a_damaged_header_is_not_a_shorter_one(tmp_path):
    """A damaged header is an error, not the end of the list."""
    tar_of(tmp_path / "x", "a", "b", "c")
    data = bytearray((tmp_path / "x").read_bytes())
    data[1024 + 148] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BackendError, match="damaged or truncated"):
        moved(f"tar://::{tmp_path}/x", tmp_path)


UNREADABLE = [
    ("zip://::{}/none.zip", "The archive does not exist; write a URL such as 'zip://::/data/run.zip'."),
    ("tar://::{}/none.tar", "The archive does not exist; write a URL such as 'tar://::/data/run.tar'."),
    ("zip://::{}", "The URL names a folder instead of an archive; write a URL such as"),
    ("zip://", "The URL names a folder instead of an archive; write a URL such as"),
    ("zip://::{}/text", "The file is not a zip archive, or it is damaged; write a URL such as"),
    ("tar://::{}/text", "The file is not a tar archive, or it is damaged; write a URL such as"),
]


@pytest.mark.parametrize(("url", "words"), UNREADABLE)
def test_what_is_not_an_archive_is_explained(tmp_path, url, words):
    """A URL of a missing archive, of a folder, or of another file, is an error that says so."""
    (tmp_path / "text").write_text("text")
    with pytest.raises(BackendError) as caught:
        moved(url.format(tmp_path), tmp_path)
    assert words in str(caught.value)


def test_an_archive_can_only_be_read(tmp_path):
    """A transfer to an archive is refused before it starts."""
    zip_of(tmp_path / "x", "a")
    (tmp_path / "f").write_text("f")
    endpoints = {"archive": {"url": f"zip://::{tmp_path}/x"}, "disk": {"url": str(tmp_path)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    request = transfer_request(src_ep="disk", dst_ep="archive", src_path="/f", dst_path="/f")
    with pytest.raises(UnsupportedOptionError, match="is read-only"):
        transfers.run(request, timeout=10, polling_interval=1)


def test_two_transfers_from_one_archive_do_not_disturb_each_other(tmp_path):
    """Several tasks read members of one open archive at once, and all members arrive whole."""
    large = {f"f{number}": str(number) * 3_000_000 for number in range(4)}
    tar_of(tmp_path / "x", *large.items())
    endpoints = {"archive": {"url": f"tar://::{tmp_path}/x"}, "disk": {"url": str(tmp_path)}}
    transfers = Transfers(FilesystemBackend.from_config(endpoints, {}))
    states = []

    def fetch(name):
        request = transfer_request(src_ep="archive", dst_ep="disk", src_path=name, dst_path=f"/got/{name}")
        states.append(transfers.run(request, timeout=60, polling_interval=1).state)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in large]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert states == [TaskState.SUCCEEDED] * 4
    assert arrived(tmp_path) == large


TOOLS = {
    "tar": ["tar", "-cf", "../x", "."],
    "zip": ["zip", "-qr", "../x", "."],
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", TOOLS)
def test_what_the_tool_packs_is_what_arrives(tmp_path, kind):
    """A generated tree that ``tar`` or ``zip`` packs arrives byte for byte."""
    if shutil.which(kind) is None:
        pytest.skip(f"There is no {kind} here.")
    for seed in seeds(12):
        work = tmp_path / str(seed)
        (work / "tree").mkdir(parents=True)
        odd_tree(random.Random(f"{kind} {seed}"), work / "tree")  # noqa: S311 - reproducible, not secret
        (work / "tree" / "always").write_text("there")
        subprocess.run(TOOLS[kind], cwd=work / "tree", check=True)
        packed = next(name for name in ("x", "x.zip") if (work / name).exists())
        status = moved(f"{kind}://::{work}/{packed}", work)
        assert status.state is TaskState.SUCCEEDED, (seed, status.reason)
        assert files_of(work / "got") == files_of(work / "tree"), seed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", MAKERS)
def test_all_members_of_generated_archives_arrive(tmp_path, kind):
    """All members arrive, whatever prefixes, repeated slashes and missing folders their names have."""
    for seed in seeds(40):
        chance, wanted = random.Random(seed), {}  # noqa: S311 - reproducible, not secret
        for _ in range(8):
            names = [odd_name(chance).decode("utf-8", "replace") for _ in range(chance.randint(1, 3))]
            if ".." in names or any(key.startswith("/".join(names)) for key in wanted):
                continue
            if any("/".join(names).startswith(f"{key}/") for key in wanted):
                continue
            wanted["/".join(names)] = chance.choice(["", "./", "/", ".//"]) + chance.choice(["/", "//", "/./"]).join(
                names
            )
        MAKERS[kind](tmp_path / "x", *((name, "x" * len(name)) for name in wanted.values()))
        assert moved(f"{kind}://::{tmp_path}/x", tmp_path, dst_path=f"/got/{seed}").state is TaskState.SUCCEEDED, seed
        found = {os.fsdecode(name) for name in files_of(tmp_path / "got" / str(seed))}
        assert found == set(wanted), seed


def ends(folder):
    """Make the folder of the destination; the source is an archive."""
    (folder / "got").mkdir()
    return {"laptop": "", "scratch": str(folder / "got")}


def replaced(make, path, *members):
    """Write an archive beside another one, and rename it to that name."""
    make(path.with_name("new"), *members)
    path.with_name("new").replace(path)


def rewritten(make, path, *members):
    """Write another archive into the same file."""
    make(path, *members)


@pytest.mark.parametrize("again", [replaced, rewritten])
@pytest.mark.parametrize("kind", MAKERS)
def test_each_task_reads_the_archive_that_is_there(tmp_path, kind, again):
    """An archive that is replaced or rewritten between two tasks is read again, also if its names stay."""
    archive = tmp_path / "x"
    world = world_of(ends(tmp_path), laptop={"url": f"{kind}://::{archive}"})
    for number, text in enumerate(("one", "two", "three" * 50_000)):
        (MAKERS[kind] if not number else partial(again, MAKERS[kind]))(archive, ("pad", text * 3), ("f", text))
        for _ in range(2):
            assert world.move("/f", f"/{number}").state is TaskState.SUCCEEDED
        assert (tmp_path / "got" / str(number)).read_text() == text


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_that_is_rewritten_during_a_copy(tmp_path, kind, monkeypatch):
    """If an archive is rewritten while a member is copied, the transfer fails, and the old copy stays."""
    archive, got = tmp_path / "x", tmp_path / "got"
    world = world_of(ends(tmp_path), laptop={"url": f"{kind}://::{archive}"})
    MAKERS[kind](archive, ("f", "1" * 3_000_000))
    (got / "f").write_text("old")
    read, changes = ArchiveReader.readinto, [lambda: MAKERS[kind](archive, ("pad", "2" * 999), ("f", "2" * 3_000_000))]

    def then_changed(self, block):
        count = read(self, block)
        if changes:
            changes.pop()()
        return count

    monkeypatch.setattr(ArchiveReader, "readinto", then_changed)
    assert world.move("/f", "/f").state is TaskState.FAILED
    assert (got / "f").read_text() == "old"
    assert os.listdir(got) == ["f"]
