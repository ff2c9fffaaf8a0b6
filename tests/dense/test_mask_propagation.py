"""Carrying masks: what moves is followed, what is out of reach is not, and against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covis.dense import Carrying, DenseFeatures, carry, enlarge, propagate
from covis.errors import ArgumentError

STEP = 4


def features(cells, doublings=0, width=None, height=None, step=STEP):
    cells = np.asarray(cells, np.float32)
    cells = cells / np.linalg.norm(cells, axis=2, keepdims=True)
    rows, columns = cells.shape[:2]
    size = width or columns * step, height or rows * step
    return DenseFeatures(cells, (step, step), *size, "-", doublings)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def moved(background, patch, row, column):
    cells = background.copy()
    cells[row : row + patch.shape[0], column : column + patch.shape[1]] = patch
    return cells


def plainly(frames, mask, how):
    """The protocol cell by cell, for maps of the backbone: shares (h, w, L) of every frame."""
    labels = [label for label in np.unique(mask) if label]
    rows, columns = frames[0].descriptors.shape[:2]
    blocks = mask.reshape(rows, STEP, columns, STEP)

    def reach(cell, end):
        return range(max(cell - how.radius, 0), min(cell + how.radius + 1, end))

    shares = [np.stack([(blocks == label).mean(axis=(1, 3)) for label in labels], axis=2)]
    for number in range(1, len(frames)):
        known = sorted({0, *range(max(number - how.last, 1), number)})
        found = np.zeros_like(shares[0])
        for row in range(rows):
            for column in range(columns):
                candidates = [
                    (float(frames[f].descriptors[y, x] @ frames[number].descriptors[row, column]),
                     shares[f][y, x])
                    for f in known
                    for y in reach(row, rows)
                    for x in reach(column, columns)
                ]  # fmt: skip
                best = sorted(candidates, key=lambda each: -each[0])[: how.top]
                weights = np.exp([cosine / how.temperature for cosine, _ in best])
                found[row, column] = np.average([s for _, s in best], axis=0, weights=weights)
        shares.append(found)
    return labels, shares


@pytest.mark.parametrize("how", [Carrying(last=2, top=3, radius=2), Carrying(last=0, radius=1)])
def test_as_cell_by_cell(monkeypatch, how):
    """Tiles, windows at the border and skipped places change nothing."""
    frames = [features(noise(11, 19, 6, seed=s) + 1.5 * noise(11, 19, 6)) for s in range(1, 6)]
    mask = np.zeros((44, 76), np.uint8)
    mask[10:21, 50:60] = 7
    mask[30:38, 3:11] = 2
    seen = []
    from covis.dense import mask_propagation as module

    original = module._mask
    monkeypatch.setattr(module, "_mask", lambda s, *rest: seen.append(s) or original(s, *rest))
    list(propagate(frames, mask, how, threads=1))
    labels, wanted = plainly(frames, mask, how)
    assert labels == [2, 7]
    assert len(seen) == 4
    for found, truth in zip(seen, wanted[1:], strict=True):
        np.testing.assert_allclose(found, truth, atol=1e-5)
    assert wanted[-1].max() > 0.2


def test_a_moving_patch_is_followed():
    background, patch = noise(16, 24, 16), noise(4, 5, 16, seed=1)
    places = [(2 + n, 3 + 2 * n) for n in range(8)]
    frames = [features(moved(background, patch, *place)) for place in places]
    mask = np.zeros((64, 96), np.uint8)
    mask[8:24, 12:32] = 3
    for found, (row, column) in zip(propagate(frames, mask), places, strict=True):
        truth = np.zeros_like(mask)
        truth[STEP * row : STEP * (row + 4), STEP * column : STEP * (column + 5)] = 3
        assert found.shape == mask.shape
        # Corners are rounded by interpolation between cells.
        assert (found == truth).mean() > 0.99
        assert (found[truth == 3] == 3).mean() > 0.9


@pytest.mark.parametrize("times", [1, 2])
def test_doubled_features_reach_as_far_in_pixels(times):
    """Looked up by squares, of which the image's edge cuts some."""
    side = 2**times
    background, patch = noise(16, 24, 16), noise(4, 5, 16, seed=1)
    mask = np.zeros((62, 93), np.uint8)
    mask[8:24, 12:32] = 1
    frames = []
    for n in range(4):
        small = moved(background, patch, 2 + n, 3 + 2 * n).repeat(side, 0).repeat(side, 1)
        rows, columns = -(-62 * side // STEP), -(-93 * side // STEP)
        small = small[:rows, :columns] + 0.05 * noise(rows, columns, 16, seed=n)
        frames.append(features(small, times, 93, 62, STEP / side))
    *_, last = propagate(frames, mask, Carrying(radius=6))
    truth = np.zeros_like(mask)
    truth[STEP * 5 : STEP * 9, STEP * 9 : STEP * 14] = 1
    assert (last == truth).mean() > 0.99
    *_, lost = propagate(frames[:1] + frames[3:], mask, Carrying(radius=1))
    assert not lost[truth == 1].any()


def test_enlarged_features_remember():
    small = features(noise(6, 8, 4))
    assert enlarge(enlarge(small, 1), 1).doublings == 2


def test_threads_change_nothing():
    frames = [features(noise(20, 20, 8, seed=s) + noise(20, 20, 8)) for s in range(4)]
    mask = np.zeros((80, 80), np.uint8)
    mask[20:50, 20:50] = 1
    one, two = (list(propagate(frames, mask, threads=n)) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_frames_are_taken_one_at_a_time():
    taken = []

    def frames():
        for n in range(3):
            taken.append(n)
            yield features(noise(4, 4, 4))

    mask = np.ones((16, 16), np.uint8)
    for n, _ in enumerate(propagate(frames(), mask)):
        assert taken[-1] == n


def two_movers(count=7):
    """Two patches, one from frame 0 and one, which the first frames have as well, to the right."""
    background, one, two = noise(16, 24, 16), noise(4, 4, 16, seed=1), noise(4, 4, 16, seed=2)
    frames = [
        features(moved(moved(background, one, 2 + n, 3), two, 9 - n, 16)) for n in range(count)
    ]
    truths = []
    for n in range(count):
        truth = np.zeros((64, 96), np.uint8)
        truth[STEP * (2 + n) : STEP * (6 + n), STEP * 3 : STEP * 7] = 1
        truth[STEP * (9 - n) : STEP * (13 - n), STEP * 16 : STEP * 20] = 9
        truths.append(truth)
    return frames, truths


@pytest.mark.parametrize("last", [0, 2, 7])
def test_an_object_given_later_is_followed_from_there(last):
    """Though the frames before, of which one is always looked at, do not say where it is."""
    frames, truths = two_movers()
    ones = np.where(truths[0] == 1, 1, 0).astype(np.uint8)
    nines = np.where(truths[3] == 9, 9, 0).astype(np.uint8)
    found = list(carry(frames, ones, Carrying(last=last), later={3: nines, 99: nines}))
    for n, (each, truth) in enumerate(zip(found, truths, strict=True)):
        wanted = truth if n >= 3 else np.where(truth == 9, 0, truth)
        assert (each.labels == wanted).mean() > 0.99, n
        assert each.labels.dtype == np.uint8
        assert list(each.sureness) == ([1, 9] if n >= 3 else [1])
        assert min(each.sureness.values()) > 0.8
    assert found[3].sureness[9] == found[0].sureness[1] == 1


def test_an_object_given_again_is_where_the_mask_says_and_others_go_on():
    frames, truths = two_movers()
    wrong = np.where(truths[0] == 1, 1, 0).astype(np.uint8)
    wrong[:16, 60:80] = 9
    right = np.where(truths[2] == 9, 9, 0).astype(np.uint8)
    found = list(propagate(frames, wrong, later={2: right}))
    assert (found[1] == 9).any()
    assert not (found[1][truths[1] == 9] == 9).all()
    for each, truth in zip(found[2:], truths[2:], strict=True):
        assert (each == truth).mean() > 0.99


def test_what_is_not_seen_any_more_has_no_sureness():
    background, patch = noise(16, 24, 16), noise(4, 5, 16, seed=1)
    frames = [features(moved(background, patch, 5, 6)), features(background)]
    mask = np.zeros((64, 96), np.uint8)
    mask[20:36, 24:44] = 4
    first, second = carry(frames, mask, Carrying(top=1))
    assert first.sureness == {4: 1.0}
    assert second.sureness == {4: 0.0}
    assert not second.labels.any()


def test_exceptions():
    frame = features(noise(4, 4, 4))
    with pytest.raises(ArgumentError, match="the mask has no object"):
        list(propagate([frame], np.zeros((16, 16), np.uint8)))
    with pytest.raises(ArgumentError, match="the mask is 20x16, frame 0 16x16"):
        list(propagate([frame], np.ones((16, 20), np.uint8)))
    with pytest.raises(ArgumentError, match="the mask is 16x16, frame 1 12x16"):
        list(propagate([frame, features(noise(4, 3, 4))], np.ones((16, 16), np.uint8)))
    mask = np.ones((16, 16), np.uint8)
    with pytest.raises(ArgumentError, match="the mask of frame 1 is 20x16, the frame 16x16"):
        list(propagate([frame, frame], mask, later={1: np.ones((16, 20), np.uint8)}))
    with pytest.raises(ArgumentError, match="the mask of frame 1 has no object"):
        list(propagate([frame, frame], mask, later={1: 0 * mask}))
    with pytest.raises(ArgumentError, match="top must be 1 or more, not 0"):
        Carrying(top=0)
    with pytest.raises(ArgumentError, match="temperature must be above 0"):
        Carrying(temperature=0)


def test_lifted_features_of_a_vit_draw_the_outline():
    """The object grows a quarter of a cell into one that looks mostly like the background; the
    finer cells know how far."""
    kinds = noise(2, 16, seed=4)

    def seen(ends):
        of = (np.arange(24) >= ends).astype(int)  # Of columns of finer cells, four of a ViT's cell.
        mixed = kinds[of].reshape(6, 4, -1).mean(axis=1)
        own = replace(features(np.tile(mixed, (4, 1, 1)), step=4 * STEP), common=True)
        lifted = replace(features(np.tile(kinds[of], (16, 1, 1)), doublings=2), common=True)
        mask = np.zeros((16 * STEP, 24 * STEP), np.uint8)
        mask[:, : ends * STEP] = 7
        return own, replace(lifted, backbone=own), mask

    first, second = seen(12), seen(13)
    _, alone = propagate([first[0], second[0]], first[2])
    _, outlined = propagate([first[1], second[1]], first[2])
    assert (outlined == second[2]).all()
    assert (alone != second[2]).sum() == 16 * STEP * STEP


def test_an_object_out_of_sight_has_no_outline():
    cells = features(noise(4, 6, 16, seed=5))
    lifted = replace(enlarge(cells, 1), backbone=cells)
    mask = np.zeros((4 * STEP, 6 * STEP), np.uint8)
    mask[0, 0] = 1
    other = features(noise(4, 6, 16, seed=6))
    gone = replace(enlarge(other, 1), backbone=other)
    *_, last = carry([lifted, gone], mask, Carrying(radius=0, last=0), later={1: mask * 2})
    assert last.sureness[1] == 0
    assert not (last.labels == 1).any()
