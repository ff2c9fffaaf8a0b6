"""Calibrating the verdict: the fit, the thresholds, the pairs it learns from."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest

from covis.errors import TrainingError
from covis.evaluation.metrics.calibration import log_loss
from covis.geometry.verdict import Calibration, Evidence
from covis.training.recipes.verdict import (
    FALSE_ALARMS,
    FOLDS,
    LOOK_ALIKES,
    MISSES,
    OTHERS,
    Sample,
    calibrate,
    collect,
    colours,
    fit,
    held_out,
    logistic,
    render_views,
    save,
    thresholds,
)


def picture(height, width, seed=0):
    """Grey noise at several scales, as BGR."""
    rng = np.random.default_rng(seed)
    layers = [rng.random((height // cell + 1, width // cell + 1)) for cell in (4, 12, 40)]
    noise = sum(cv2.resize(layer, (width, height)) for layer in layers)
    return cv2.merge([cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)] * 3)


def simulated(count=4000, seed=0):
    """Samples by known weights: log-odds -3 + 2 log(1 + surprise * coverage) with a model."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        keypoints = int(rng.integers(0, 4000))
        evidence = Evidence(keypoints)
        log_odds = -np.log1p(keypoints / 100)
        if rng.random() < 0.6:
            surprise = float(rng.exponential(10))
            evidence = Evidence(keypoints, True, surprise, *rng.random(3))
            log_odds = -3 + 2 * np.log1p(surprise * evidence.coverage)
        same = bool(rng.random() < 1 / (1 + np.exp(-log_odds)))
        samples.append(Sample(same, evidence, i % FOLDS, "made:up", "homography"))
    return samples


def test_regression_finds_the_weights_that_made_the_answers():
    rng = np.random.default_rng(0)
    x = np.c_[np.ones(40_000), rng.normal(size=(40_000, 2))]
    y = rng.random(40_000) < 1 / (1 + np.exp(-x @ [-0.5, 1.5, 0.7]))
    found = logistic(x, y, np.ones(len(x)), free=1)
    np.testing.assert_allclose(found, [-0.5, 1.5, 0.7], atol=0.06)
    twice = logistic(np.r_[x, x], np.r_[y, y], np.full(2 * len(x), 0.5), free=1)
    np.testing.assert_allclose(found, twice, atol=1e-6)


def test_a_weight_that_would_be_negative_is_left_out():
    rng = np.random.default_rng(0)
    x = np.c_[np.ones(4000), rng.normal(size=(4000, 2))]
    y = rng.random(4000) < 1 / (1 + np.exp(-x @ [-0.5, 1.5, -0.7]))
    found = logistic(x, y, np.ones(len(x)), free=1)
    assert found[2] == 0
    np.testing.assert_allclose(found[:2], logistic(x[:, :2], y, np.ones(len(x)), free=1))
    assert found[0] < 0


def test_answers_that_a_term_separates_give_finite_weights():
    x = np.c_[np.ones(20), np.arange(20.0)]
    assert np.isfinite(logistic(x, np.arange(20) >= 10, np.ones(20), free=1)).all()


def test_held_out_probabilities_tell_nearly_as_much_as_those_fitted_to_the_pairs_themselves():
    samples = simulated()
    same = [sample.same for sample in samples]
    own = fit(samples)
    fitted = log_loss([own.probability(sample.evidence) for sample in samples], same)
    assert fitted < log_loss(held_out(samples), same) < fitted + 0.01
    assert fitted < 0.6


def test_thresholds_keep_their_rates():
    rng = np.random.default_rng(0)
    same = rng.random(20_000) < 0.3
    probabilities = np.where(same, rng.beta(4, 2, 20_000), rng.beta(2, 4, 20_000))
    at_least, at_most = thresholds(probabilities, same)
    assert (probabilities[~same] >= at_least).mean() <= FALSE_ALARMS
    assert (probabilities[~same] >= at_least - 0.02).mean() > FALSE_ALARMS
    assert (probabilities[same] <= at_most).mean() <= MISSES
    assert (probabilities[same] <= at_most + 0.02).mean() > MISSES


def test_thresholds_stay_on_their_side_of_one_half():
    same = np.arange(100) < 50
    assert thresholds(np.where(same, 0.9, 0.1), same) == (0.5, 0.5)


def test_the_threshold_holds_within_every_group():
    same = np.array([False] * 4000 + [True] * 1000)
    probabilities = np.where(same, 0.99, 0.1)
    groups = ["a"] * 3600 + ["b"] * 1400
    probabilities[3600:3603] = 0.9  # 3 of the 4,000 wrong ones, but of the 400 of this group
    assert thresholds(probabilities, same)[0] == 0.5
    at_least, _ = thresholds(probabilities, same, groups)
    assert 0.9 < at_least < 0.91


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    samples = simulated(800)
    calibration = calibrate(samples)
    save(calibration, samples, tmp_path / "verdict.json", "made up")
    assert Calibration.read(tmp_path / "verdict.json") == calibration
    assert calibration.least == 1 / 800


def test_exception_when_every_pair_has_a_model():
    samples = [sample for sample in simulated(200) if sample.evidence.model]
    with pytest.raises(TrainingError, match="too few pairs"):
        calibrate(samples)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(5 * FOLDS):
        cv2.imwrite(str(folder / f"{i}.png"), picture(140, 180, seed=i))
    return folder


def test_a_photo_makes_one_right_pair_and_some_wrong_ones(photos, monkeypatch):
    def two_parts(photo, rng):
        left = int(rng.integers(1, 20))
        return [photo[:, :-20, 0], photo[:, left:, 0]]

    monkeypatch.setattr("covis.training.recipes.verdict.render_views", two_parts)
    samples, again = (list(islice(collect(photos, ["sift:nearest"], seed=0), 5)) for _ in range(2))
    assert [s.same for s in samples] == [True, *[False] * (LOOK_ALIKES + OTHERS)]
    assert {(s.fold, s.method) for s in samples} == {(0, "sift:nearest")}
    assert all(s.evidence.keypoints > 0 for s in samples)
    assert again == samples


def test_exception_for_too_few_photos(photos, tmp_path):
    (tmp_path / "one.png").write_bytes((photos / "0.png").read_bytes())
    with pytest.raises(TrainingError, match="too few"):
        next(collect(tmp_path, ["sift:nearest"], seed=0))


@pytest.mark.parametrize("seed", range(4))
def test_views_are_two_grey_pictures_that_differ(seed):
    views = render_views(picture(240, 320), np.random.default_rng(seed))
    assert len(views) == 2
    for view in views:
        assert view.dtype == np.uint8
        assert view.ndim == 2
        assert 240 <= min(view.shape) <= max(view.shape) <= 1056
    assert views[0].shape != views[1].shape or (views[0] != views[1]).any()


def test_alike_colours_are_nearer_than_others():
    red, blue = np.zeros((2, 40, 40, 3), np.uint8)
    red[..., 2], blue[..., 0] = 200, 200
    mixed = red.copy()
    mixed[:10] = blue[:10]
    assert colours(red) @ colours(red) == pytest.approx(1)
    assert colours(red) @ colours(mixed) > colours(blue) @ colours(mixed) > 0.1


def test_the_number_of_right_pairs_does_not_matter():
    samples = simulated(500)
    more = samples + [sample for sample in samples if sample.same]
    once, again = (held_out(some)[: len(samples)] for some in (samples, more))
    np.testing.assert_allclose(once, again, atol=0.02)
