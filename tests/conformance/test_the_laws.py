"""Each law detects a backend with a deliberate fault."""

from __future__ import annotations

import copyreg
import inspect
import textwrap
from types import TracebackType

import pytest
import wrong
from tblib import pickling_support
from wrong import altered

import chiltepin.testing.conformance
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.model import FilterRule
from chiltepin.testing.conformance import BackendLaws, FolderRig
from chiltepin.testing.conformance.selection import BUT_LOGS, FIRST_WINS, NO_SUB

pytest_plugins = ("pytester",)

WRONG = [
    (wrong.SaysItIsDone, "a_file_arrives", {}, "must create the file"),
    (wrong.CountsNothing, "a_file_arrives", {}, "files_done must count"),
    (wrong.RaisesForTheUnknown, "an_unknown_task_is_lost", {}, "LOST and must not raise"),
    (wrong.LosesTheOrder, "poll_keeps_the_order", {}, "in the order of the handles"),
    (wrong.AnswersOnce, "poll_keeps_the_order", {}, "also for repeated handles"),
    (wrong.SubmitsTwice, "one_submission_id_makes_one_task", {}, "same handle"),
    (wrong.SubmitsTwice, "one_submission_id_makes_one_task_for_a_crowd", {}, "one handle"),
    (wrong.TakesBack, "a_final_state_stays", {}, "not become CANCELED"),
    (wrong.DeletesRoots, "a_root_is_never_deleted", {"root": "/"}, "must not delete any file in it"),
    (wrong.FollowsLinks, "a_link_goes_itself", {}, "keep its target"),
    (wrong.TakesPatterns, "a_pattern_is_a_name", {}, "as a pattern"),
    (wrong.LeavesHalf, "a_missing_source_does_not_succeed", {"recursive": False}, "must not leave any file"),
    (wrong.DeletesAtTheEnd, "close_keeps_the_data", {}, "must not delete data"),
    (wrong.ReplacesOnRename, "nothing_is_replaced", {}, "exists, must raise BackendError; got no error"),
    (wrong.MakesAllFolders, "a_folder_is_made", {}, "exists, must raise BackendError; got no error"),
    (wrong.GuessesSizes, "one_path_is_what_the_listing_says", {}, "name, kind and size"),
    (wrong.HashesNames, "a_checksum_is_that_of_the_content", {}, "SHA-256 of the content"),
    (wrong.HidesTheHidden, "a_folder_is_listed", {"folder": "/d"}, "hidden"),
    (wrong.RemembersListings, "what_was_moved_is_listed", {}, "listing of an earlier call"),
    (wrong.ChainsForeignErrors, "an_error_is_plain", {"mistake": "missing folder"}, "SdkError"),
    (wrong.RaisesWhatCannotBeUnpickled, "an_error_is_plain", {"mistake": "missing folder"}, "pickle"),
    (wrong.RaisesWhatItGets, "a_mistake_has_its_error", {"mistake": "unknown destination"}, "got KeyError"),
    (wrong.TakesAnyOption, "from_config_refuses_what_it_does_not_know", {}, "got no error"),
    (wrong.HasNoCancel, "it_has_all_methods", {}, "of chiltepin.protocol.TransferBackend"),
    (wrong.ClaimsTooMuch, "it_says_what_it_can", {}, "sync_levels must be a subset of"),
    (wrong.CountsItsIdsFromOne, "submission_ids_differ", {}, "the same id twice"),
    (wrong.ListsNothing, "a_missing_folder_is_not_found", {}, "PathNotFoundError; got no error"),
    (wrong.ListsNothing, "a_file_cannot_be_listed", {}, "BackendError; got no error"),
    (wrong.ListsNothing, "a_link_out_of_the_root_is_not_followed", {}, "PermissionDeniedError; got no error"),
    (
        altered(items=wrong.inside),
        "what_is_in_a_folder_goes_into_the_other",
        {"origin": "/d", "goal": "/e"},
        "not in a folder below it",
    ),
    (wrong.CopiesTheCopy, "a_folder_is_not_copied_into_its_copy", {"folder": "/"}, "must not copy its own files"),
    (altered(recursive=lambda _: True), "a_folder_needs_recursive", {}, "without recursive"),
    (altered(ignore_missing=lambda _: True), "a_missing_path_is_no_success", {}, "must not succeed"),
    (altered(deadline=lambda _: None), "a_deadline_that_has_passed_moves_nothing", {}, "EXPIRED"),
    (altered(preserve_timestamp=lambda _: False), "a_time_is_kept_or_refused", {}, "must keep the time"),
    (altered(filters=lambda _: ()), "filters_choose_files", {"rules": BUT_LOGS, "moved": set()}, "must move"),
    (
        altered(filters=lambda request: request.filters[::-1]),
        "filters_choose_files",
        {"rules": FIRST_WINS, "moved": {"/sub.log/c.nc", "/sub.log/d.log"}},
        "must move",
    ),
    (
        altered(filters=lambda request: tuple(FilterRule(method=one.method, name=one.name) for one in request.filters)),
        "filters_choose_files",
        {"rules": NO_SUB, "moved": {"/a.nc", "/b.txt"}},
        "must move",
    ),
    (
        altered(sync_level=lambda _: None),
        "a_sync_level_decides",
        {"level": "exists", "old": b"x", "younger": None, "left": True},
        "must skip",
    ),
    (
        altered(sync_level=lambda _: "exists"),
        "a_sync_level_decides",
        {"level": "checksum", "old": b"atad", "younger": 3600.0, "left": False},
        "must replace",
    ),
    (
        altered(sync_level=lambda _: "size"),
        "a_sync_level_decides",
        {"level": "mtime", "old": b"atad", "younger": -3600.0, "left": False},
        "must replace",
    ),
    (wrong.ClaimsUnknownChecksums, "it_says_what_it_can", {}, "checksums must be a subset of"),
    (wrong.ClaimsNoChecksums, "a_file_of_the_right_checksum_arrives", {"algorithm": "md5"}, "must refuse"),
    (
        altered(items=wrong.checked_for_zeros),
        "a_file_of_the_right_checksum_arrives",
        {"algorithm": "sha256"},
        "must arrive; got a task in state FAILED",
    ),
    (
        altered(items=wrong.unchecked),
        "a_file_of_another_checksum_does_not",
        {"algorithm": "sha512", "verify": True},
        "must report EXTERNAL_CHECKSUM_MISMATCH",
    ),
    (
        altered(items=wrong.checked_if_verified),
        "a_file_of_another_checksum_does_not",
        {"algorithm": "sha1", "verify": False},
        "must report EXTERNAL_CHECKSUM_MISMATCH",
    ),
    (
        wrong.ChecksAfterwards,
        "a_file_of_another_checksum_does_not",
        {"algorithm": "md5", "verify": True},
        "must not replace",
    ),
    (altered(items=wrong.all_like_the_first), "each_item_has_its_own_checksum", {}, "with its own checksum"),
    (
        altered(items=wrong.unchecked),
        "a_checksum_that_means_nothing_is_refused",
        {"text": "sha256:00", "options": {}},
        "refused at submit",
    ),
    (
        altered(items=wrong.cut_at_a_number_sign),
        "a_name_is_that_name_or_refused",
        {"name": "a#b"},
        "with its own content",
    ),
    (wrong.SaysItIsDone, "a_name_is_that_name_or_refused", {"name": "a::b"}, "and no other; got"),
    (wrong.SweepsByPrefix, "files_named_like_temporary_ones_stay", {}, "as a temporary file"),
    (wrong.OpensFiles, "a_file_that_is_replaced_keeps_its_mode", {}, "keep its mode 600"),
    (wrong.ContinuesBlindly, "a_rewritten_source_is_not_mixed", {}, "earlier content"),
    (wrong.FollowsLinks, "a_root_is_not_deleted_through_links", {"spelled": "/self"}, "leads to the root"),
    (
        wrong.BeginsIn1970,
        "a_time_out_of_the_common_range_is_kept_or_refused",
        {"then": -86_400.0},
        "must keep the time",
    ),
    (altered(delete_destination_extra=lambda _: False), "what_is_too_much_goes", {}, "must be deleted"),
    (altered(delete_destination_extra=lambda request: request.recursive), "a_tree_merges", {}, "must stay"),
    (wrong.ClaimsToRemoveNothing, "what_is_too_much_goes", {}, "must refuse it at submit"),
    (wrong.RemovesBeside, "what_is_too_much_goes", {}, "outside the destination folder"),
    (wrong.WantsAFolder, "it_goes_into_a_new_folder_too", {}, "SUCCEEDED"),
    (wrong.WantsMoreThanARoot, "a_root_can_be_mirrored", {}, "work in a root"),
    (altered(delete_destination_extra=lambda _: False), "an_empty_source_empties", {}, "must empty"),
    (wrong.RemovesFirst, "what_a_sync_level_leaves_alone_stays", {"level": "size"}, "skips must stay"),
    (wrong.RemovesFirst, "what_filters_leave_out_stays", {}, "exclude must not be deleted"),
    (altered(filters=lambda _: ()), "what_filters_leave_out_stays", {}, "exclude must not be deleted"),
    (wrong.RemovesAnyway, "after_a_fault_nothing_goes", {}, "unless every file was moved"),
    (wrong.RemovesFirst, "a_missing_source_removes_nothing", {}, "must not delete any file"),
    (wrong.RemovesFirst, "a_source_inside_the_destination_stays", {"folder": "/all"}, "must never be deleted"),
    (wrong.RemovesThroughLinks, "a_link_that_is_too_much_goes_itself", {}, "must not be deleted"),
    (
        altered(items=lambda request: request.items[:1]),
        "more_than_one_folder_is_refused",
        {"pairs": (("/d", "/e"), ("/d/sub", "/e/sub")), "options": {}},
        "refused at submit",
    ),
]


def rig_of(kind, top):
    """Return a rig for a backend over two folders."""
    folders = {name: top / name for name in ("here", "there")}
    for folder in folders.values():
        folder.mkdir()
    endpoints = {name: {"url": str(folder)} for name, folder in folders.items()}
    return FolderRig(kind.from_config(endpoints, {}), folders, config=(endpoints, {}))


@pytest.mark.parametrize(
    ("kind", "law", "arguments", "words"), WRONG, ids=[f"{case[0].__name__}-{case[1]}" for case in WRONG]
)
def test_a_wrong_backend_breaks_its_law(tmp_path, kind, law, arguments, words):
    """A backend with a deliberate fault breaks the law about it, and the message says what is expected."""
    rig = rig_of(kind, tmp_path)
    with pytest.raises(AssertionError) as broken:
        getattr(BackendLaws(), f"test_{law}")(rig, **arguments)
    assert words in str(broken.value)


def test_what_others_teach_pickle_fools_no_law(tmp_path, monkeypatch):
    """An error that can be pickled only with the tblib that Parsl installs breaks the law."""
    kind = wrong.RaisesWhatCannotBeUnpickled
    for learned in (kind.FailureError, TracebackType):
        # Let monkeypatch remove the registration after the test.
        monkeypatch.setitem(copyreg.dispatch_table, learned, None)
    pickling_support.install(kind.FailureError)
    with pytest.raises(AssertionError, match="pickle round trip"):
        BackendLaws().test_an_error_is_plain(rig_of(kind, tmp_path), mistake="missing folder")


@pytest.mark.parametrize(
    ("law", "arguments"), [case[1:3] for case in WRONG if "moved" not in case[2]], ids=lambda value: str(value)[:40]
)
def test_the_right_backend_keeps_the_same_law(tmp_path, law, arguments):
    """The backend without faults keeps the laws that the faulty backends break."""
    getattr(BackendLaws(), f"test_{law}")(rig_of(FilesystemBackend, tmp_path), **arguments)


def test_a_backend_that_logs_in_at_once_is_found_out(tmp_path, monkeypatch):
    """A connection that from_config opens is detected, even if the backend ignores its failure."""
    rig = rig_of(wrong.LogsInAtOnce, tmp_path)
    with pytest.raises(AssertionError, match="must not open a connection"):
        BackendLaws().test_from_config_makes_no_connection(rig, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "law", "words"),
    [
        (wrong.GoesOn, "a_cancelled_task_stops", "CANCELED, not SUCCEEDED"),
        (wrong.GoesOn, "a_cancelled_task_stays_so", "stay CANCELED"),
        (wrong.StopsAll, "a_task_does_not_stop_another", "when another task is canceled"),
        (altered(deadline=lambda _: None), "a_deadline_stops_a_task", "EXPIRED, not SUCCEEDED"),
    ],
)
def test_a_backend_that_stops_wrongly_breaks_its_law(gated_rig, kind, law, words):
    """If tasks can be held, a backend that does not stop them, or stops too many, breaks the law."""
    gated_rig.backend = kind.from_config(*gated_rig.config)
    with pytest.raises(AssertionError, match=words):
        getattr(BackendLaws(), f"test_{law}")(gated_rig)


@pytest.mark.parametrize(
    ("kind", "law", "words"),
    [
        (wrong.TakesUntoldForEmpty, "a_file_of_an_untold_size_arrives", "arrive complete"),
        (wrong.RemovesUnseen, "a_listing_that_leaves_something_out_removes_nothing", "incomplete listing"),
        (wrong.SeesNoTrouble, "a_listing_that_leaves_something_out_removes_nothing", "counted in files_skipped"),
    ],
)
def test_a_backend_that_trusts_half_a_truth_breaks_its_law(gated_rig, kind, law, words):
    """If a store omits facts, a backend that ignores this breaks the law, and the filesystem backend keeps it."""
    getattr(BackendLaws(), f"test_{law}")(gated_rig)
    gated_rig.clear()
    gated_rig.backend = kind.from_config(*gated_rig.config)
    with pytest.raises(AssertionError, match=words):
        getattr(BackendLaws(), f"test_{law}")(gated_rig)


def test_a_task_that_would_try_for_ever_counts_as_no_success(tmp_path):
    """A service that keeps retrying a hopeless task keeps the law, which leaves no task behind."""
    rig = rig_of(wrong.KeepsTrying, tmp_path)
    BackendLaws().test_a_missing_source_does_not_succeed(rig, recursive=False)
    assert len(rig.backend.cancelled) == 1


def test_a_rig_that_lacks_a_hook_skips_with_a_sentence(tmp_path):
    """A law whose hook the rig lacks is skipped, and the reason names the hook."""
    rig = rig_of(FilesystemBackend, tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"override FolderRig\.hold"):
        BackendLaws().test_a_cancelled_task_stops(rig)
    rig.config = None
    with pytest.raises(pytest.skip.Exception, match="config="):
        BackendLaws().test_from_config_refuses_what_it_does_not_know(rig)


THIRD_PARTY = """
import pytest
from chiltepin.backends.filesystem import FilesystemBackend
from chiltepin.testing.conformance import BackendLaws, FolderRig

def MyBackend(folders):
    return FilesystemBackend.from_config({name: {"url": str(folder)} for name, folder in folders.items()}, {})

"""


def test_a_third_party_needs_the_lines_of_the_docstring(pytester):
    """The example in the documentation of the suite is a complete test module, which is collected and passes."""
    _, _, example = inspect.getdoc(chiltepin.testing.conformance).partition("::\n\n")
    block = textwrap.dedent(example.split("\n\nOtherwise, ")[0])
    pytester.makepyfile(THIRD_PARTY + block)
    outcomes = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider").parseoutcomes()
    assert "failed" not in outcomes
    assert "errors" not in outcomes
    assert outcomes["passed"] > 100


def test_a_class_without_a_rig_says_so(pytester):
    """A subclass without a rig fails with a message that says what to define."""
    pytester.makepyfile(THIRD_PARTY + "class TestNothing(BackendLaws): ...")
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-k", "has_all_methods")
    result.stdout.fnmatch_lines(["*TestNothing has no rig; define a fixture named rig that returns a Rig.*"])


def test_every_law_has_one_sentence():
    """Every law has a docstring that ends in a period, and belongs to one subject only."""
    laws = {name: law for name, law in inspect.getmembers(BackendLaws, inspect.isfunction) if name.startswith("test_")}
    assert len(laws) > 60
    for name, law in laws.items():
        assert law.__doc__, name
        assert law.__doc__.strip().endswith("."), name
        assert [name in vars(subject) for subject in BackendLaws.__mro__].count(True) == 1, name
