"""Options that check themselves, and their defaults."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covis import options
from covis.errors import ArgumentError
from covis.options import (
    ExtractorOptions,
    MatcherOptions,
    MatchOptions,
    RuntimeOptions,
    cpu_threads,
    thread_count,
)


class Scalar:
    """As a tensor of one number: it has an index, and is no number of Python's."""

    def __index__(self) -> int:
        return 5

    def __float__(self) -> float:
        return 5.0


WRONG: list[tuple[type, dict[str, Any], str]] = [
    (ExtractorOptions, {"max_keypoints": 100.5}, "max_keypoints must be a whole number, not 100.5"),
    (ExtractorOptions, {"max_keypoints": "9"}, "max_keypoints must be a whole number, not '9'"),
    (ExtractorOptions, {"max_keypoints": True}, "max_keypoints must be a whole number, not True"),
    (ExtractorOptions, {"max_keypoints": Scalar()}, "a whole number, not a Scalar"),
    (ExtractorOptions, {"max_keypoints": np.ones(3)}, "a whole number, not a ndarray"),
    (ExtractorOptions, {"max_keypoints": 0}, "max_keypoints must be 1 or more, not 0"),
    (ExtractorOptions, {"max_keypoints": 10**30}, "max_keypoints must be 2,147,483,647 or less"),
    (ExtractorOptions, {"max_size": -1}, "max_size must be 0 or more, not -1"),
    (ExtractorOptions, {"max_size": 960.0}, "max_size must be a whole number, not 960.0"),
    (ExtractorOptions, {"semi_dense": 1}, "semi_dense must be True or False, not 1"),
    (ExtractorOptions, {"threshold": "low"}, "threshold must be a finite number, not 'low'"),
    (ExtractorOptions, {"threshold": Scalar()}, "threshold must be a finite number, not a Scalar"),
    (ExtractorOptions, {"threshold": float("nan")}, "threshold must be a finite number, not nan"),
    (ExtractorOptions, {"threshold": 10**400}, "threshold must be a finite number, not 1000"),
    (ExtractorOptions, {"features": 3}, "features must be a name or a folder, not 3"),
    (ExtractorOptions, {"features": ""}, "features must be a name or a folder, not ''"),
    (MatcherOptions, {"matcher": ["nearest"]}, "matcher must be a name or a folder, not a list"),
    (MatcherOptions, {"full_depth": "yes"}, "full_depth must be True or False, not 'yes'"),
    (MatcherOptions, {"max_ratio": 1.5}, "max_ratio must lie in 0..1 and be above 0, not 1.5"),
    (MatcherOptions, {"max_ratio": 0}, "max_ratio must lie in 0..1 and be above 0, not 0"),
    (MatcherOptions, {"min_similarity": True}, "min_similarity must be a finite number, not True"),
    (RuntimeOptions, {"threads": 0}, "threads must be 1 or more, not 0"),
    (RuntimeOptions, {"threads": 2.0}, "threads must be a whole number, not 2.0"),
    (MatchOptions, {"max_size": -1}, "max_size must be 0 or more, not -1"),
    (MatchOptions, {"geometry": "round"}, "no geometry 'round'; there are: homography, fund"),
    (MatchOptions, {"geometry": None}, "no geometry None; there are: homography"),
    (MatchOptions, {"rotate": "sideways"}, "no rotate 'sideways'; there are: none, auto"),
    (MatchOptions, {"seed": None}, "seed must be a whole number, not None"),
    (MatchOptions, {"seed": -1}, "seed must be 0 or more, not -1"),
]


@pytest.mark.parametrize(("kind", "values", "words"), WRONG)
def test_exception_for_a_wrong_value_is_one_line(
    kind: type, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        kind(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exception_for_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ArgumentError, match="max_keypoints must be a whole number, not a Tensor"):
        ExtractorOptions(max_keypoints=torch.tensor(5))


@pytest.mark.parametrize("kind", [ExtractorOptions, MatcherOptions, RuntimeOptions, MatchOptions])
def test_options_take_keywords_only_and_stay_as_they_are(kind: type) -> None:
    made = kind()
    with pytest.raises(TypeError):
        kind("xfeat")
    with pytest.raises(FrozenInstanceError):
        made.threads = 1
    assert made == kind()


def test_numbers_of_numpy_and_paths_become_plain(tmp_path: Path) -> None:
    made = ExtractorOptions(
        features=tmp_path,  # type: ignore[arg-type]
        max_keypoints=np.int64(7),  # type: ignore[arg-type]
        threshold=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert (made.features, made.max_keypoints, made.threshold) == (str(tmp_path), 7, 0.5)
    assert type(made.max_keypoints) is int
    assert type(made.threshold) is float


def test_over_fills_what_is_left_to_covis() -> None:
    mine = ExtractorOptions(max_keypoints=5, max_size=0)
    both = mine.over(ExtractorOptions(features="sift", max_keypoints=9, max_size=99))
    assert both == ExtractorOptions(features="sift", max_keypoints=5, max_size=0)


def test_threads_are_bounded_by_the_processors() -> None:
    assert thread_count(100_000) == thread_count(None) == cpu_threads()
    assert thread_count(1) == 1
    assert RuntimeOptions(threads=100_000).threads == 100_000


def test_match_options_hold_those_of_extractor_and_matcher() -> None:
    whole = MatchOptions(features="sift", max_keypoints=9, matcher="lightglue", full_depth=True)
    assert whole.extractor == ExtractorOptions(features="sift", max_keypoints=9)
    assert whole.matching == MatcherOptions(matcher="lightglue", full_depth=True)


def test_nothing_but_the_standard_library_is_imported() -> None:
    script = """
import sys
before = set(sys.modules)
import covis.options
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(names - set(sys.stdlib_module_names) - {"covis"}))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
    assert options.DEFAULT_MATCHER == "auto"
