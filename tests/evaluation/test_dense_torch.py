"""Backbones under PyTorch in the benchmarks, and how well small photos' features come back."""

from __future__ import annotations

import numpy as np
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.reconstruction import evaluate

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis.evaluation.dense_torch import TorchModel  # noqa: E402
from covis.images import load_image  # noqa: E402
from covis.nets.dense import VisionTransformer, XFeatMap, describe  # noqa: E402
from covis.nets.lift import LiFT  # noqa: E402


def test_the_same_as_the_networks(random_net, texture):
    backbone = XFeatMap(random_net, "random")
    torch.manual_seed(0)
    lift = LiFT(backbone.kind).eval()
    pixels = np.ascontiguousarray(texture[:50, :70])
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    for lifts in (0, 1):
        found = TorchModel(backbone, lift)(lifts)(load_image(pixels))
        with torch.no_grad():
            wanted = describe(backbone, image, lift, lifts)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found.descriptors, wanted, atol=1e-5)
        assert found.step == (8 / 2**lifts, 8 / 2**lifts)
    shrunk = TorchModel(backbone)(0)(load_image(texture[:64, :96], max_size=48))
    assert shrunk.step == (16, 16)
    with pytest.raises(ArgumentError, match="there is no LiFT"):
        TorchModel(backbone)(1)(load_image(pixels))


def test_vits_have_unit_length_here(texture):
    transformers = pytest.importorskip("transformers", reason="ViTs need transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=32,
        patch_size=16,
    )
    backbone = VisionTransformer(transformers.ViTModel(config), "tiny")
    lift = LiFT(backbone.kind).eval()
    found = TorchModel(backbone, lift)(1)(load_image(texture[:40, :64]))
    assert found.descriptors.shape == (5, 8, 16)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=2), 1, atol=1e-5)
    assert TorchModel(backbone).name == "tiny (layer 1, key, patch 16)"


def colours(lifts):
    """The mean colour of a cell of 8 pixels; 'lifted' ones know those of 4 or of 2."""
    side = 8 >> lifts

    def describe(image):
        rows, columns = (each // side for each in image.pixels.shape[:2])
        cells = image.pixels.reshape(rows, side, columns, side, 3).mean(axis=(1, 3))
        unit = cells / np.linalg.norm(cells, axis=2, keepdims=True)
        return DenseFeatures(unit.astype(np.float32), (side, side), image.width, image.height, "-")

    return describe


def test_errors_by_hand():
    """Stripes of two colours, 8 pixels wide: at half the size a cell has both."""
    picture = np.zeros((128, 140, 3), np.uint8)
    picture[:, (np.arange(140) - 6) // 8 % 2 == 0, 0] = 200
    picture[:, (np.arange(140) - 6) // 8 % 2 == 1, 1] = 200
    table = evaluate([picture, np.zeros((90, 300, 3), np.uint8)], colours)
    assert table.items == 1
    rows = {row.variant: row.scores["error"] for row in table.rows}
    assert rows["+ LiFT once"] == pytest.approx(0, abs=1e-6)
    assert rows["+ LiFT twice"] == pytest.approx(0, abs=1e-6)
    assert rows["+ bilinear x 2"] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)


def test_exception_small():
    with pytest.raises(ArgumentError, match="1 photos, and none with sides of 128"):
        evaluate([np.zeros((127, 400, 3), np.uint8)], colours)
