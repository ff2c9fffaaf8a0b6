"""DELG over scales: boxes, suppression, and that an extractor gives what the network says."""

from __future__ import annotations

import numpy as np
import pytest

from covis.errors import BundleError
from covis.features.delg import (
    GLOBAL_SCALES,
    LOCAL_SCALES,
    Delg,
    receptive_boxes,
    suppress,
)
from covis.images.decode import load_image
from covis.runtime import Bundle

FIELD = {"size": 51, "stride": 16, "start": -25}


def bundle(tmp_path, **settings):
    return Bundle("n", "delg", {"delg": "-"}, "-", "-", tmp_path, settings=settings)


class Network:
    """Attention where the picture is red, and what it was asked."""

    def __init__(self):
        self.sizes = []

    def __call__(self, outputs, image):
        assert outputs == ["global", "local", "attention"]
        self.sizes.append(image.shape[2:])
        red = image[:, 0, ::16, ::16]
        local = np.stack([red, -red, 0 * red + 1], axis=-1)
        whole = np.array([[len(self.sizes), 1.0]], np.float32)
        return [whole / np.linalg.norm(whole), local.astype(np.float32), red]


def extract(tmp_path, pixels, graph, count=1000, threshold=0.5, mask=None):
    delg = Delg(bundle(tmp_path, receptive_field=FIELD), graph=graph)
    return delg.sparse([load_image(pixels, mask=mask)], count, threshold)[0]


def test_boxes_are_the_cells_fields():
    boxes = receptive_boxes(np.array([0, 2]), np.array([0, 1]), (51, 16, -25))
    np.testing.assert_array_equal(boxes, [[-25, -25, 26, 26], [7, -9, 58, 42]])


def test_convention_first_cell_lies_on_the_first_pixel(tmp_path):
    """In the middle of its box: the centre of the top-left pixel, at every scale its own."""
    pixels = np.zeros((192, 256, 3), np.uint8)
    pixels[:8, :8, 0] = 255
    features = extract(tmp_path, pixels, Network())
    assert len(features) > 0
    # A pixel of the image at scale s covers 1 / s pixels, but for rounding of the size.
    expected = 0.5 / np.array(LOCAL_SCALES)
    for point in features.keypoints:
        assert np.abs(point / expected[:, None] - 1).max(axis=1).min() < 0.02


def test_scales(tmp_path):
    graph = Network()
    features = extract(tmp_path, np.full((200, 400, 3), 255, np.uint8), graph, count=5000)
    assert [size[0] for size in graph.sizes] == [round(200 * s) for s in LOCAL_SCALES]
    assert [size[1] for size in graph.sizes] == [round(400 * s) for s in LOCAL_SCALES]
    # The mean of the global scales' unit vectors, of unit length.
    places = [LOCAL_SCALES.index(scale) + 1 for scale in GLOBAL_SCALES]
    vectors = np.array([[place, 1.0] for place in places])
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(features.global_descriptor, mean / np.linalg.norm(mean), rtol=1e-5)
    assert features.global_descriptor.dtype == np.float32
    # Boxes are as much larger as the scale is smaller.
    sides = np.unique(features.scales.round(1))
    np.testing.assert_allclose(sides, sorted(51 / s for s in LOCAL_SCALES), rtol=0.02)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, rtol=1e-5)


def test_least_attention_count_and_order(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (160, 160, 3), np.uint8)
    few = extract(tmp_path, pixels, Network(), count=20)
    assert len(few) == 20
    assert (np.diff(few.scores) <= 0).all()
    many = extract(tmp_path, pixels, Network(), threshold=0.9)
    assert (many.scores > 0.9).all()
    assert len(extract(tmp_path, pixels, Network(), threshold=2.0)) == 0


def test_mask(tmp_path):
    mask = np.zeros((160, 320), bool)
    mask[:, :160] = True
    features = extract(tmp_path, np.full((160, 320, 3), 255, np.uint8), Network(), mask=mask)
    assert len(features) > 0
    assert (features.keypoints[:, 0] >= 160).all()


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = (high - low).clip(min=0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


@pytest.mark.parametrize("most", [0.0, 0.3, 0.9])
def test_suppression_keeps_the_best_of_those_that_overlap(most):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 50, (60, 2))
    boxes = np.hstack([corners, corners + rng.uniform(10, 30, (60, 2))])
    scores = rng.random(60)
    kept = suppress(boxes, scores, 60, most)
    assert (np.diff(scores[kept]) <= 0).all()
    for place, index in enumerate(kept):
        assert all(overlap(boxes[index], boxes[other]) <= most for other in kept[:place])
    for index in set(range(60)) - set(kept.tolist()):
        better = [other for other in kept if scores[other] >= scores[index]]
        assert any(overlap(boxes[index], boxes[other]) > most for other in better)
    np.testing.assert_array_equal(suppress(boxes, scores, 5, most), kept[:5])


def test_exception_bundle_without_a_field(tmp_path):
    with pytest.raises(BundleError, match="does not say 'receptive_field'"):
        Delg(bundle(tmp_path), graph=Network())


def test_exported_delg_through_the_extractor(home, models, texture):
    """A small ResNet's bundle, and the same network in PyTorch, on one picture."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    transformers = pytest.importorskip("transformers", reason="ResNets need transformers")
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    import covis
    from covis.export.delg import DELG_OUTPUTS, DelgGraph, export_delg
    from covis.nets import delg as nets
    from covis.runtime.torch import TorchGraph

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1]
    )
    net = nets.Delg(nets.ResNetBackbone(transformers.ResNetModel(config)), 12, 5, 7).eval()
    made = export_delg(net, models / "delg-small", name="delg-small", licence="-", source="-")
    assert made.settings["receptive_field"] == net.backbone.receptive_field()._asdict()
    picture = texture[:150, :210]
    found = covis.Extractor("delg-small", max_keypoints=200)(picture)
    torch_delg = Delg(made, graph=TorchGraph(DelgGraph(net), DELG_OUTPUTS))
    expected = torch_delg.sparse([load_image(picture)], 200, 0.0)[0]
    assert len(found) == len(expected) == 200
    assert found.global_descriptor.shape == (12,)
    np.testing.assert_allclose(found.global_descriptor, expected.global_descriptor, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)
