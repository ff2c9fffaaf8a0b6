"""What a map's options take, and what they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from covis.errors import ArgumentError
from covis.sfm import MapOptions, MapSummary


def test_none_is_left_to_covis_and_0_is_full_size():
    options = MapOptions(max_size=0)
    assert options.max_size == 0
    assert (options.features, options.max_keypoints, options.matcher) == (None, None, None)


def test_paths_may_be_words(tmp_path):
    options = MapOptions(masks=str(tmp_path), model=str(tmp_path), pairs=tmp_path / "list.txt")
    assert (options.masks, options.model) == (tmp_path, tmp_path)
    assert options.pairs == Path(tmp_path / "list.txt")


def test_convention_options_are_frozen_and_named():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MapOptions().seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        MapOptions("xfeat")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"max_keypoints": 0}, "max_keypoints must be 1 or more"),
        ({"max_size": -1}, "max_size must be 0 or more"),
        ({"neighbours": 2.5}, "neighbours must be a whole number"),
        ({"distance": float("nan")}, "distance must be a finite number"),
        ({"distance": -1.0}, "distance must not be negative"),
        ({"pairs": "all"}, "no pairs 'all'"),
        ({"mapper": "other"}, "no mapper 'other'"),
        ({"sharing": "some"}, "no sharing 'some'"),
        ({"engine": "cloud"}, "no engine 'cloud'"),
        ({"camera_params": (1.0, float("inf"))}, "camera_params must be a finite number"),
        ({"refine_keypoints": "no"}, "refine_keypoints must be True or False"),
        ({"threads": 0}, "threads must be 1 or more"),
        ({"masks": 3}, "masks must be"),
    ],
)
def test_exceptions(bad, words):
    with pytest.raises(ArgumentError, match=words):
        MapOptions(**bad)


def test_changes_are_told_in_a_line_each():
    assert MapSummary().changes() == []
    gone = [f"{number}.jpg" for number in range(10)]
    lines = MapSummary(gone=gone, changed=["a.jpg"], renamed={"b.jpg": "c.jpg"}).changes()
    assert lines[0].startswith("10 photos gone, dropped: 0.jpg, ")
    assert lines[0].endswith(" and 2 more.")
    assert lines[1:] == [
        "1 photo changed, made anew: a.jpg.",
        "1 photo renamed: b.jpg is c.jpg.",
    ]


def test_advice_on_fisheyes_of_which_nothing_is_known():
    advised = MapSummary(photos=4, fisheye_unknown=True).advice()
    assert advised[0].startswith("a fisheye needs to be known roughly beforehand")
    assert not MapSummary(photos=4, registered=4, fisheye_unknown=True).advice()


def test_focal_lengths_that_are_not_used_are_told():
    summary = MapSummary(focal_ignored={"a.jpg": "EXIF's focal length cannot be, and is ignored"})
    assert summary.changes() == [
        "1 photo with a focal length in EXIF that is not used, such as a.jpg: EXIF's focal length "
        "cannot be, and is ignored."
    ]
