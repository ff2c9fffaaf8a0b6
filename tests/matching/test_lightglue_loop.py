"""LightGlue's loop: when it stops, what it prunes, what it reports, at every size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covis import Features
from covis.errors import ArgumentError, BundleError
from covis.matching import lightglue
from covis.matching.lightglue import LightGlue, Settings
from covis.runtime import Bundle


def features(count, seed=0, dimension=16, scale_orientation=False, model="m"):
    rng = np.random.default_rng(seed)
    found = Features(
        keypoints=(rng.random((count, 2)) * (640, 480)).astype(np.float32),
        scores=np.ones(count, np.float32),
        descriptors=rng.standard_normal((count, dimension)).astype(np.float32),
        width=640,
        height=480,
        model=model,
    )
    if not scale_orientation:
        return found
    return replace(
        found,
        scales=rng.random(count).astype(np.float32),
        orientations=rng.random(count).astype(np.float32),
    )


class Script:
    """Graphs that say what they are told: confidence and matchability are in the descriptors."""

    def __init__(self):
        self.calls = []

    def __getitem__(self, role):
        def graph(outputs, **inputs):
            self.calls.append(role)
            return getattr(self, role.rstrip("0123456789"))(**inputs)

        graph.on_device = graph
        return graph

    def encode(self, descriptors, positions):
        return [descriptors, positions, positions]

    def layer(self, x0, x1, cos0, sin0, cos1, sin1):
        assert len(x0) == len(cos0) == len(sin0)
        assert len(x1) == len(cos1) == len(sin1)
        return [x0, x1]

    def decide(self, x):
        return [x[:, 0], x[:, 1]]

    def assign(self, x0, x1):
        return [x0, x1, np.zeros(len(x0), np.float32), np.zeros(len(x1), np.float32)]

    def normalise(self, m0, m1):
        s = m0[:, 2:] @ m1[:, 2:].T
        top0, top1 = s.max(axis=1), s.max(axis=0)
        spread0 = np.log(np.exp(s - top0[:, None]).sum(axis=1))
        return [top0, spread0, top1, np.log(np.exp(s - top1).sum(axis=0))]

    def best(self, m0, m1, top0, top1, bias0, bias1):
        s = m0[:, 2:] @ m1[:, 2:].T
        p = (s - top0[:, None]) + (s - top1) + bias0[:, None] + bias1
        return [p.max(axis=1), p.argmax(axis=1), p.max(axis=0), p.argmax(axis=0)]


def scripted(confidence, matchability):
    """Features whose heads say this of them, and which are all different."""
    count = len(confidence)
    vectors = np.column_stack([confidence, matchability, 20 * np.eye(count)])
    return replace(features(count), descriptors=vectors.astype(np.float32))


def run(settings, *pair):
    script = Script()
    found = LightGlue(script, replace(settings, input_dim=pair[0].descriptors.shape[1]))(*pair)
    return found, script.calls


SETTINGS = Settings(layers=4, input_dim=0, depth_confidence=0.5, width_confidence=0.9)


def test_stops_when_more_than_the_share_is_sure():
    sure, unsure = scripted([1, 1], [1, 1]), scripted([0, 0], [1, 1])
    assert run(SETTINGS, sure, sure)[0].layers == 1
    assert run(SETTINGS, sure, unsure)[0].layers == 4  # Exactly half is not more than half.
    assert run(replace(SETTINGS, depth_confidence=0.49), sure, unsure)[0].layers == 1
    assert run(SETTINGS.full(), sure, sure)[0].layers == 4


def test_the_layer_it_stops_at_assigns():
    sure = scripted([1, 1], [1, 1])
    found, calls = run(SETTINGS, sure, sure)
    assert calls == [
        "encode", "encode", "layer0", "decide0", "decide0", "assign0", "normalise", "best",
    ]  # fmt: skip
    np.testing.assert_array_equal(found.indices, [[0, 0], [1, 1]])
    np.testing.assert_allclose(found.scores, 1, atol=1e-6)
    assert "assign3" in run(SETTINGS.full(), sure, sure)[1]
    assert "decide0" not in run(SETTINGS.full(), sure, sure)[1]


def test_the_threshold_falls_with_depth():
    """0.8 + 0.1 exp(-4 l / L), the first layer's l being 0."""
    thresholds = [SETTINGS.sure_from(layers) for layers in (1, 2, 5)]
    np.testing.assert_allclose(thresholds, [0.9, 0.8 + 0.1 * np.exp(-1), 0.8 + 0.1 * np.exp(-4)])
    nearly = scripted([0.85] * 3, [1] * 3)
    assert run(SETTINGS, nearly, nearly)[0].layers == 2


def test_prunes_the_sure_without_a_partner():
    one = scripted([1, 1, 0, 0, 0, 0, 0], [0.05, 0.5, 0.05, 0.5, 1, 1, 1])
    found, _ = run(SETTINGS, one, one)
    assert found.layers == 4
    np.testing.assert_array_equal(found.layers0, [1, 4, 4, 4, 4, 4, 4])
    np.testing.assert_array_equal(found.layers1, found.layers0)
    np.testing.assert_array_equal(found.indices, [[i, i] for i in range(1, 7)])


def test_without_early_stopping_matchability_alone_prunes():
    one = scripted([1, 1, 0, 0], [0.05, 0.5, 0.05, 0.5])
    found, _ = run(replace(SETTINGS, depth_confidence=None), one, one)
    assert found.layers == 4
    np.testing.assert_array_equal(found.layers0, [1, 4, 1, 4])


def test_pruned_points_count_as_sure():
    """Two of eight points are pruned, then two of the rest are sure: the half."""
    one = scripted([1, 0.85, 0, 0], [0, 1, 1, 1])
    assert run(replace(SETTINGS, depth_confidence=0.49), one, one)[0].layers == 2
    assert run(replace(SETTINGS, depth_confidence=0.51), one, one)[0].layers == 4


def test_nothing_left_is_an_answer():
    gone, there = scripted([1, 1, 1], [0, 0, 0]), scripted([0, 0, 0], [1, 1, 1])
    found, _ = run(replace(SETTINGS, depth_confidence=0.9), gone, there)
    assert (found.layers, len(found.indices), len(found.scores)) == (1, 0, 0)
    np.testing.assert_array_equal(found.layers0, [1, 1, 1])


def test_threshold():
    one = scripted([1, 1], [1, 1])
    unlike = replace(one, descriptors=np.array([[1, 1, 1, 0], [1, 1, 0, 1]], np.float32))
    found, _ = run(replace(SETTINGS, threshold=0), unlike, unlike)
    assert len(found.indices) == 2
    assert found.scores[0] == pytest.approx((np.e / (np.e + 1)) ** 2, abs=1e-6)
    assert len(run(replace(SETTINGS, threshold=0.6), unlike, unlike)[0].indices) == 0


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 5), (5, 1)])
def test_hardly_any_points(counts):
    one, two = scripted([0] * 5, [1] * 5), scripted([0] * 5, [1] * 5)
    one, two = (
        replace(f, keypoints=f.keypoints[:n], scores=f.scores[:n], descriptors=f.descriptors[:n])
        for f, n in zip((one, two), counts, strict=True)
    )
    found, _ = run(SETTINGS, one, two)
    assert found.indices.shape == (min(counts), 2)
    assert found.indices.dtype == np.int64
    assert found.scores.shape == (min(counts),)
    assert found.scores.dtype == np.float32
    assert (len(found.layers0), len(found.layers1)) == counts
    assert found.layers == (4 if min(counts) else 0)


@pytest.fixture(scope="module")
def torch_graphs():
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    from covis.nets.lightglue import LightGlue, steps
    from covis.runtime.torch import TorchGraph

    torch.manual_seed(1)
    net = LightGlue(16, dim=32, layers=3, heads=2)
    for head in net.token_confidence.values():
        head.token[0].weight.data *= 8
    for head in net.log_assignment.values():
        head.matchability.weight.data *= 8
        head.final_proj.weight.data *= 8
    return {role: TorchGraph(step, step.outputs) for role, step in steps(net).items()}


WIDE = Settings(3, 16, depth_confidence=0.9, width_confidence=0.8, threshold=0)


def test_blocks_change_nothing(torch_graphs, monkeypatch):
    matcher = LightGlue(torch_graphs, WIDE)
    pair = features(150, 1), features(170, 2)
    whole = matcher(*pair)
    assert len(whole.indices) > 10
    monkeypatch.setattr(lightglue, "BLOCK", 1000)
    blocks = matcher(*pair)
    np.testing.assert_array_equal(blocks.indices, whole.indices)
    np.testing.assert_allclose(blocks.scores, whole.scores, rtol=1e-4, atol=1e-6)


def test_the_images_may_change_places(torch_graphs):
    matcher = LightGlue(torch_graphs, WIDE)
    one, two = features(150, 1), features(170, 2)
    there, back = matcher(one, two), matcher(two, one)
    assert there.layers == back.layers
    np.testing.assert_array_equal(there.layers0, back.layers1)
    assert set(map(tuple, there.indices)) == set(map(tuple, back.indices[:, ::-1]))


def test_a_pair_is_the_same_alone_and_in_any_batch(torch_graphs):
    matcher = LightGlue(torch_graphs, WIDE)
    counts = [(150, 170), (1, 80), (0, 20), (200, 90)]
    pairs = [(features(a, i), features(b, i + 50)) for i, (a, b) in enumerate(counts)]
    alone = [matcher(*pair) for pair in pairs]
    assert any((found.layers0 < found.layers).any() for found in alone)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [0, 0, 0]):
        batch = matcher.batch([pairs[index] for index in order])
        for found, index in zip(batch, order, strict=True):
            assert found.layers == alone[index].layers
            for name in ("indices", "scores", "layers0", "layers1"):
                np.testing.assert_array_equal(getattr(found, name), getattr(alone[index], name))


def test_convention_positions():
    """Pixels less half the size, in halves of the longest side; scale and turn as they are."""
    seen = []

    class Listening(Script):
        def encode(self, descriptors, positions):
            seen.append(positions)
            return super().encode(descriptors, positions)

    one = replace(
        features(2, scale_orientation=True), keypoints=np.array([[0, 0], [640, 240]], np.float32)
    )
    LightGlue(Listening(), Settings(1, 16, scale_orientation=True))(one, one)
    expected = np.column_stack([[[-1, -0.75], [1, 0]], one.scales, one.orientations])
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)
    assert seen[0].dtype == np.float32


@pytest.mark.parametrize("name", ["depth_confidence", "width_confidence", "threshold"])
def test_exception_out_of_range(name):
    with pytest.raises(ArgumentError, match=f"{name} must lie in 0..1"):
        replace(SETTINGS, **{name: 1.5})


def test_exception_weights_that_cannot_adapt():
    with pytest.raises(ArgumentError, match="full depth and width only"):
        Settings(6, 64, adaptive=False)
    Settings(6, 64, adaptive=False, depth_confidence=None, width_confidence=None)


def test_exception_other_features():
    with pytest.raises(ArgumentError, match="descriptors of 64 numbers; those of 'm' have 16"):
        LightGlue({}, Settings(6, 64))(features(3), features(3))
    with pytest.raises(ArgumentError, match="needs scales and orientations; 'm' has none"):
        LightGlue({}, Settings(6, 16, scale_orientation=True))(features(3), features(3))


def test_exception_bundles(tmp_path):
    xfeat = Bundle("x", "xfeat", {}, "-", "-", tmp_path)
    with pytest.raises(BundleError, match="'x' is a bundle for xfeat"):
        LightGlue.open(xfeat)
    with pytest.raises(BundleError, match="x: no settings for LightGlue"):
        LightGlue.open(replace(xfeat, architecture="lightglue"))
