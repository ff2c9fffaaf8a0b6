"""`covis align`."""

from __future__ import annotations

import json

import cv2
import numpy as np

from covis.images.decode import read_samples


def test_the_second_picture_is_laid_onto_the_first(covis, pair):
    options = ("--features", "sift", "--matcher", "nearest")
    done = covis("align", *pair, "-o", "warped.png", *options)
    assert done.exit_code == 0, done.output
    assert "Aligned by a homography: 0." in done.output
    warped, before = read_samples("warped.png"), read_samples(pair[0])
    assert warped.shape == (160, 200, 4)
    shown = warped[:, :, 3] > 0
    assert shown[8:, 12:].all()
    assert not shown[:4].any()
    off = np.abs(warped[20:140, 20:180, :3].astype(int) - before[20:140, 20:180, :3])
    assert np.median(off) <= 2
    told = json.loads(covis("align", *pair, "-o", "w.png", "--json", *options).output)
    np.testing.assert_allclose(told["homography_1from0"][0][2], -10, atol=0.2)
    assert told["verdict"] == "same"


def test_what_cannot_be_aligned_is_told_and_writes_nothing(covis, pair, tmp_path):
    plain = np.full((160, 200, 3), 120, np.uint8)
    cv2.imwrite("plain.png", plain)
    done = covis("align", pair[0], "plain.png", "-o", "warped.png", "--features", "sift")
    assert done.exit_code == 2
    assert "0 matches agree, 20 or more are needed to align the pictures" in done.output
    assert not (tmp_path / "warped.png").exists()
    done = covis("align", *pair, "-o", pair[0])
    assert done.exit_code == 2
    assert "must not be written over" in done.output
