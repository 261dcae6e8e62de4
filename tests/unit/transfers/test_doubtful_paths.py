"""Warnings about valid paths that are probably not what the user means."""

from __future__ import annotations

import pytest

from chiltepin.transfers.doubtful_paths import warn_of


@pytest.mark.parametrize(
    ("path", "place", "said"),
    [
        ("/scratch/me/x", {"mount": "/scratch/me"}, "did you mean '/x'?"),
        ("/scratch/me", {"url": "sftp://host/scratch/me/"}, "did you mean '/'?"),
        ("$HOME/x", {}, "did you mean '~/x'?"),
        ("/data/${USER}", {}, "'${USER}', which is not expanded; write its value."),
        ("/data/*.nc", {}, "a pattern, which is not expanded"),
        (r"C:\Users\me", {}, "did you mean '/C/Users/me'?"),
    ],
)
def test_a_doubtful_path_is_one_warning(path, place, said, caplog):
    """The same mistake in several paths gives one warning, with the path that was probably meant."""
    warn_of([(f"end of {path}", path, place)])
    warn_of([(f"end of {path}", f"{path}/other", place)])
    [record] = caplog.records
    assert said in record.getMessage()


@pytest.mark.parametrize(
    ("path", "place"),
    [("/scratch/me2/x", {"mount": "/scratch/me"}), ("/data/[1].nc", {}), ("/price in $", {})],
)
def test_an_ordinary_path_is_none(path, place, caplog):
    """Ordinary paths that only resemble a mistake give no warning."""
    warn_of([("a", path, place)])
    assert not caplog.records


def test_a_folder_with_the_name_of_the_root_is_meant(tmp_path, caplog):
    """A path that begins with the root gives no warning if the root contains such a folder."""
    (tmp_path / str(tmp_path).lstrip("/")).mkdir(parents=True)
    warn_of([("a", f"{tmp_path}/x", {"mount": str(tmp_path)})])
    assert not caplog.records
