"""Conversion of the arguments of a call to a request."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from chiltepin.model import DeleteRequest, FilterRule, TransferItem, TransferRequest
from chiltepin.transfers.arguments import check, delete_request, transfer_request

WHERE = {"src_ep": "a", "dst_ep": "b", "src_path": "/x", "dst_path": "/y"}


def test_a_call_becomes_a_request():
    """A request has the caller's arguments, and defaults for the rest."""
    assert transfer_request(**WHERE) == TransferRequest(
        source="a", destination="b", items=(TransferItem(source="/x", destination="/y"),)
    )
    assert delete_request(src_ep="a", src_path=PurePosixPath("/x"), ignore_missing=True) == DeleteRequest(
        endpoint="a", paths=("/x",), ignore_missing=True
    )


def test_filters_are_rules_in_order():
    """Include rules precede exclude rules, and a single pattern needs no list."""
    request = transfer_request(**WHERE, recursive=True, include=["*.nc", "*.txt"], exclude="*")
    assert request.filters == (
        FilterRule(method="include", name="*.nc"),
        FilterRule(method="include", name="*.txt"),
        FilterRule(method="exclude", name="*"),
    )


def test_filters_keep_their_order():
    """The rules in `filters` keep their order and apply to files unless a rule says otherwise."""
    request = transfer_request(
        **WHERE, recursive=True, filters=[("exclude", "1.nc"), ["include", "*.nc"], ("exclude", "tmp", "dir")]
    )
    assert request.filters == (
        FilterRule(method="exclude", name="1.nc"),
        FilterRule(method="include", name="*.nc"),
        FilterRule(method="exclude", name="tmp", kind="dir"),
    )
    with pytest.raises(ValueError, match="write all rules in filters"):
        transfer_request(**WHERE, recursive=True, filters=[("exclude", "1.nc")], include="*")


@pytest.mark.parametrize(
    ("argument", "value", "error", "words"),
    [
        ("src_ep", 5, TypeError, "src_ep=5 is of type int; give the name of an endpoint"),
        ("src_ep", " ", ValueError, "is not an endpoint"),
        ("dst_ep", None, TypeError, "dst_ep=None"),
        ("src_path", 5, TypeError, "give a path as a string"),
        ("src_path", b"/x", TypeError, "give a path as a string"),
        ("src_path", "", ValueError, "names nothing"),
        ("dst_path", "a\0b", ValueError, "The path 'a\\x00b' has a NUL byte, which no name can have; remove it."),
        ("src_path", "/\ud800", ValueError, "The path '/\\ud800' has '\\ud800', which no name can have; remove it."),
        ("timeout", "1 hour", TypeError, "timeout='1 hour' is of type str; give a number of seconds, such as 3600"),
        ("timeout", True, TypeError, "give a number of seconds"),
        ("timeout", 0, ValueError, "timeout=0 is out of range; give a number of seconds above 0"),
        ("timeout", float("inf"), ValueError, "give a number of seconds above 0 to 315360000, such as 3600."),
        ("polling_interval", -1, ValueError, "polling_interval=-1"),
        ("recursive", "yes", TypeError, "recursive='yes' is of type str; give True or False"),
        ("verify_checksum", None, TypeError, "verify_checksum=None"),
        ("preserve_timestamp", 1, TypeError, "preserve_timestamp=1"),
        ("ignore_missing", 0, TypeError, "ignore_missing=0"),
        ("sync_level", "sizes", ValueError, "sync_level='sizes' is not a valid sync level; did you mean 'size'"),
        ("include", 5, TypeError, "give a list of patterns"),
        ("include", ["a/b"], ValueError, "a pattern must match file names, such as"),
        ("exclude", [""], ValueError, "a pattern must match file names, such as"),
        ("filters", 5, TypeError, "filters=5 is of type int; give a list of rules"),
        ("filters", "*.nc", TypeError, "give a list of rules, such as [('exclude', '1.nc')"),
        ("filters", ["*.nc"], ValueError, "filters holds '*.nc'; a rule is ('include' or 'exclude', pattern)"),
        ("filters", [("only", "*.nc")], ValueError, "filters holds ('only', '*.nc')"),
        ("filters", [("exclude", "a/b")], ValueError, "a rule is"),
        ("filters", [("exclude", "a", "link")], ValueError, "with 'dir' as a third value"),
        ("filters", [("exclude",)], ValueError, "a rule is"),
        ("checksum", 5, TypeError, "checksum=5 is of type int; give a string such as 'sha256:'"),
        ("checksum", "0" * 32, ValueError, "has no algorithm before a colon"),
        ("checksum", ":00", ValueError, "has no algorithm before a colon"),
        ("checksum", "sha265:00", ValueError, "has the unknown algorithm 'sha265'; did you mean 'sha256'?"),
        ("checksum", "sha-256:00", ValueError, "has the unknown algorithm 'sha-256'; did you mean 'sha256'?"),
        (
            "checksum",
            "blake2b:00",
            ValueError,
            "has the unknown algorithm 'blake2b'; known: md5, sha1, sha256, sha512.",
        ),
        ("checksum", "md5:00", ValueError, "md5 has 32 hexadecimal digits, and there are 2 characters"),
        ("checksum", f"md5:{'g' * 32}", ValueError, "md5 has 32 hexadecimal digits"),
        ("checksum", f"md5:{'0' * 32}\n", ValueError, "md5 has 32 hexadecimal digits"),
        ("delete_destination_extra", "yes", TypeError, "give True or False"),
        ("label", 5, TypeError, "give a string"),
        ("label", "two\nlines", ValueError, "give one line of at most 128 characters"),
        ("label", "x" * 129, ValueError, "give one line of at most 128 characters"),
        ("label", "nightly\rrun", ValueError, "give one line of at most 128 characters, without control characters"),
        ("label", "a\u2028b", ValueError, "without control characters"),
        ("label", "a\x1b[2Jb", ValueError, "without control characters"),
        ("label", "a\x85b", ValueError, "without control characters"),
        ("label", "half \ud800", ValueError, "without control characters"),
        ("label", " run", ValueError, "remove the white space around it"),
        ("label", "run\u3000", ValueError, "remove the white space around it"),
        ("src_path", "/a\r\nb", ValueError, "contains a Windows line break"),
        ("dst_path", "/a\r\n", ValueError, "contains a Windows line break"),
        ("include", ["a\0b"], ValueError, "a pattern must match file names, such as"),
        ("timeout", 10**400, ValueError, "is out of range; give a number of seconds above 0 to 315360000"),
        ("timeout", complex(1), TypeError, "give a number of seconds"),
        ("polling_interval", float("nan"), ValueError, "polling_interval=nan is out of range"),
    ],
)
def test_a_bad_argument_gets_one_good_sentence(argument, value, error, words):
    """A wrong type is a TypeError and a wrong value a ValueError; each message says what to give."""
    with pytest.raises(error) as caught:
        check(argument, value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "source", "meant"),
    [
        ("/results/", "/x", "/results/x"),
        ("/results/.", "/d/x", "/results/x"),
        ("/results/..", "/x/", "/x"),
        ("~/", "x", "~/x"),
        ("/p/", "/d/x/", "/p/x"),
    ],
)
def test_a_file_needs_its_whole_new_path(path, source, meant):
    """A folder as the destination of a file is an error that suggests the path that was probably meant."""
    with pytest.raises(ValueError, match=f"a file needs its full new path; write '{meant}', or set recursive=True"):
        transfer_request(**{**WHERE, "src_path": source, "dst_path": path})


def test_a_uuid_is_the_same_in_capitals():
    """A UUID as an endpoint name is case-insensitive; other names are unchanged."""
    uuid = "12345678-1234-1234-1234-123456789ABC"
    assert check("src_ep", uuid) == uuid.lower()
    assert check("src_ep", "HPC Scratch") == "HPC Scratch"


def test_a_checksum_is_written_in_one_way():
    """The algorithm and digits of a checksum are case-insensitive; an empty checksum means none."""
    request = transfer_request(**WHERE, checksum=f"MD5:{'0A' * 16}")
    assert request == transfer_request(**WHERE, checksum=f"md5:{'0a' * 16}")
    assert request.items[0].checksum == f"md5:{'0a' * 16}"
    assert transfer_request(**WHERE, checksum="") == transfer_request(**WHERE)
    assert request != transfer_request(**WHERE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": ["*.nc"]}, "include and exclude select files of a folder; set recursive=True"),
        ({"delete_destination_extra": True}, "applies to a folder; set recursive=True"),
        ({"checksum": f"md5:{'0' * 32}", "recursive": True}, "A checksum is for one file, but recursive=True moves"),
        ({"checksum": f"md5:{'0' * 32}", "sync_level": "size"}, "Files that sync_level skips are not compared"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    """Options that conflict raise an error that says what to change."""
    with pytest.raises(ValueError, match=words):
        transfer_request(**WHERE, **options)


def test_what_is_too_much_is_removed_only_if_wanted():
    """Extra files at the destination are deleted only with `delete_destination_extra`."""
    assert not transfer_request(**WHERE, recursive=True).delete_destination_extra
    assert transfer_request(**WHERE, recursive=True, delete_destination_extra=True).delete_destination_extra


@pytest.mark.parametrize("label", ["", "nightly run", "Lauf 7: ä", "👩‍🔬", "x" * 128])
def test_a_label_that_the_service_takes_is_taken(label):
    """A label may contain letters of any language, up to 128 characters."""
    assert check("label", label) == label


def test_short_intervals_are_lengthened():
    """A polling interval of less than 0.05 seconds is raised to 0.05 seconds."""
    assert check("polling_interval", 1e-9) == 0.05
    assert check("polling_interval", 0.1) == 0.1
