"""LightGlue against what the official implementation gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covis import Features
from covis.matching.lightglue import LightGlue

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
numpy = pytest.importorskip("safetensors.numpy", reason="golden files are safetensors")

from covis.export.lightglue import default_settings, export_lightglue  # noqa: E402
from covis.nets.lightglue import load_official, steps  # noqa: E402
from covis.runtime.torch import TorchGraph  # noqa: E402

CONFIDENCES = {"early_stop": (0.8, 0.9), "input_proj": (0.99, 0.95), "scale_ori": (0.9, 0.9)}
"""Depth and width; the threshold is 0."""


def features(golden, image, prefix=""):
    found = {
        name: golden[f"{prefix}{name}{image}"][0]
        for name in ("keypoints", "descriptors", "image_size", "scales", "oris")
        if f"{prefix}{name}{image}" in golden
    }
    width, height = found["image_size"].tolist()
    return Features(
        keypoints=found["keypoints"],
        scores=np.ones(len(found["keypoints"]), np.float32),
        descriptors=found["descriptors"],
        width=width,
        height=height,
        model="golden",
        scales=found.get("scales"),
        orientations=found.get("oris"),
    )


def matchers(backend, net, settings, folder):
    """With these settings, and at full depth and width."""
    if backend == "torch":
        graphs = {role: TorchGraph(step, step.outputs) for role, step in steps(net).items()}
        return LightGlue(graphs, settings), LightGlue(graphs, settings.full())
    bundle = export_lightglue(
        net, folder, name="g", licence="-", source="-", features="-", settings=settings
    )
    return LightGlue.open(bundle), LightGlue.open(bundle, full=True)


SMALL = [
    *((name, "torch") for name in CONFIDENCES),
    ("scale_ori", "onnx"),
    pytest.param("early_stop", "onnx", marks=pytest.mark.slow),
    pytest.param("input_proj", "onnx", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "backend"), SMALL)
def test_small(shared, tmp_path, name, backend):
    golden = numpy.load_file(shared / "golden" / f"lightglue_small_{name}.safetensors")
    weights = {k[8:]: v for k, v in golden.items() if k.startswith("weights.")}
    numpy.save_file(weights, tmp_path / "w.safetensors")
    net = load_official(tmp_path / "w.safetensors")
    depth, width = CONFIDENCES[name]
    settings = replace(
        default_settings(net), depth_confidence=depth, width_confidence=width, threshold=0.0
    )
    pair = features(golden, 0, "input."), features(golden, 1, "input.")
    adaptive, full = matchers(backend, net, settings, tmp_path / "bundle")
    for run, found in (("adaptive", adaptive(*pair)), ("full", full(*pair))):
        partners = golden[f"{run}.matches0"][0]
        matched = np.flatnonzero(partners >= 0)
        np.testing.assert_array_equal(found.indices, np.column_stack([matched, partners[matched]]))
        expected = golden[f"{run}.matching_scores0"][0][matched]
        np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-4)
        if run == "adaptive":
            assert found.layers == golden["adaptive.stop"]
            np.testing.assert_array_equal(found.layers0, golden["adaptive.prune0"][0])
            np.testing.assert_array_equal(found.layers1, golden["adaptive.prune1"][0])
            assert (found.layers0 < found.layers).any()
        else:
            assert (found.layers0 == net.layers).all()


@pytest.mark.parametrize("backend", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_published_weights(shared, tmp_path, backend):
    path = shared / "weights" / "lighterglue" / "lighterglue.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the published weights are needed")
    golden = numpy.load_file(shared / "golden" / "lighterglue_real.safetensors")
    net = load_official(path)
    assert (net.input_dim, net.dim, net.layers, net.heads, net.adaptive) == (64, 96, 6, 1, False)
    _, full = matchers(backend, net, default_settings(net), tmp_path / "bundle")
    found = full(features(golden, 0), features(golden, 1))
    scores = dict(zip(map(tuple, found.indices.tolist()), found.scores, strict=True))
    expected = dict(zip(map(tuple, golden["matches"].tolist()), golden["scores"], strict=True))
    common = scores.keys() & expected.keys()
    assert len(common) >= 0.99 * max(len(scores), len(expected))
    assert max(abs(scores[match] - expected[match]) for match in common) < 2e-3
