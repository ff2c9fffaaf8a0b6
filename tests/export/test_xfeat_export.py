"""From the network to a bundle and back, with random weights and batch-norm statistics."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
onnx = pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from torch import nn  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.export import xfeat  # noqa: E402
from covis.nets.xfeat import XFeat  # noqa: E402
from covis.options import RuntimeOptions  # noqa: E402
from covis.runtime import Bundle, find_bundle  # noqa: E402
from covis.runtime.onnx import OnnxGraph  # noqa: E402

SIZES = [(1, 32, 32), (1, 64, 96), (3, 96, 64), (2, 32, 320)]


def images(shape, seed=0):
    return np.random.default_rng(seed).random((shape[0], 1, *shape[1:]), np.float32)


def maps(net, image):
    """What `DetectGraph` gives, from the network itself."""
    with torch.inference_mode():
        output = net(torch.from_numpy(image))
        heat = nn.functional.pixel_shuffle(output.keypoint_logits.softmax(dim=1)[:, :64], 8)
    return [
        heat[:, 0].numpy(),
        output.features.permute(0, 2, 3, 1).numpy(),
        output.reliability[:, 0].numpy(),
        output.keypoint_logits.numpy(),
    ]


def assert_close(found, expected, share=1e-4):
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=0, atol=share * np.abs(two).max())


def test_fold_norms_keeps_the_outputs(random_net):
    before = {key: value.clone() for key, value in random_net.state_dict().items()}
    folded = xfeat.fold_norms(random_net)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert not any(isinstance(module, kinds) for module in folded.modules())
    assert any(isinstance(module, kinds) for module in random_net.modules())
    assert_close(maps(folded, images((2, 64, 96))), maps(random_net, images((2, 64, 96))))
    pairs = torch.randn(20, 128)
    with torch.inference_mode():
        torch.testing.assert_close(
            folded.fine_matcher(pairs), random_net.fine_matcher(pairs), rtol=0, atol=1e-4
        )
    for key, value in random_net.state_dict().items():
        assert torch.equal(value, before[key])


def test_fold_norms_in_training_mode(random_net):
    """Folding means evaluation; the network that was given keeps its mode."""
    random_net.train()
    try:
        folded = xfeat.fold_norms(random_net)
        assert random_net.training
        assert not folded.training
    finally:
        random_net.eval()
    assert_close(maps(folded, images((1, 32, 32))), maps(random_net, images((1, 32, 32))))


@pytest.mark.parametrize("shape", SIZES)
def test_detect_graph_is_the_network(random_net, shape):
    """Whatever is rewritten for speed gives the same to rounding."""
    with torch.inference_mode():
        found = xfeat.DetectGraph(xfeat.fold_norms(random_net))(torch.from_numpy(images(shape)))
    assert_close([map.numpy() for map in found], maps(random_net, images(shape)))


@pytest.mark.parametrize("shape", SIZES)
def test_bundle_is_the_network_at_any_size_and_batch(random_net, random_bundle, shape):
    graph = OnnxGraph(random_bundle.graph("detect"))
    found = graph(xfeat.DETECT_OUTPUTS, image=images(shape))
    assert all(map.dtype == np.float32 for map in found)
    assert_close(found, maps(random_net, images(shape)), 5e-4)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_refine_graph(random_net, random_bundle, count):
    pairs = np.random.default_rng(0).standard_normal((count, 128)).astype(np.float32)
    with torch.inference_mode():
        offsets, confidence = xfeat.RefineGraph(xfeat.fold_norms(random_net))(
            torch.from_numpy(pairs)
        )
    assert offsets.shape == (count, 2)
    assert confidence.shape == (count,)
    found = OnnxGraph(random_bundle.graph("refine"))(["offsets", "confidence"], pairs=pairs)
    np.testing.assert_allclose(found[0], offsets, atol=1e-3)
    np.testing.assert_allclose(found[1], confidence, atol=1e-4)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 0), (0, 7), (4, 4), (2, 5)])
def test_convention_refinement_classes(row, column):
    """Class 8 r + c means (c - 4, r - 4) pixels, (x, y)."""

    class Certain(nn.Module):
        def forward(self, pairs):
            logits = torch.zeros(len(pairs), 64)
            logits[:, 8 * row + column] = 50
            return logits

    net = XFeat()
    net.fine_matcher = Certain()
    offsets, confidence = xfeat.RefineGraph(net)(torch.zeros(1, 128))
    torch.testing.assert_close(offsets, torch.tensor([[column - 4.0, row - 4.0]]))
    torch.testing.assert_close(confidence, torch.ones(1))


def test_round_trip(random_net, random_bundle, tmp_path):
    """net -> bundle -> official state dict -> net: the same outputs."""
    state = xfeat.official_state_dict(random_bundle)
    assert state.keys() == XFeat().state_dict().keys()
    again = XFeat()
    again.load_state_dict(state)
    again.eval()
    assert_close(maps(again, images((2, 64, 96))), maps(random_net, images((2, 64, 96))))
    pairs = torch.randn(20, 128)
    with torch.inference_mode():
        torch.testing.assert_close(
            again.fine_matcher(pairs), random_net.fine_matcher(pairs), rtol=0, atol=1e-4
        )


def test_bundle_json(random_bundle):
    about = json.loads((random_bundle.folder / "bundle.json").read_text())
    assert about == random_bundle.describe()
    assert about["graphs"] == {"detect": "detect.onnx", "refine": "refine.onnx"}
    assert sorted(path.name for path in random_bundle.folder.iterdir()) == [
        "bundle.json",
        "detect.onnx",
        "refine.onnx",
    ]


@pytest.mark.slow
def test_half_is_half_as_large_and_close(random_net, random_bundle, tmp_path):
    half = xfeat.export_xfeat(
        random_net, tmp_path / "half", name="half", licence="-", source="-", half=True
    )
    for role in ("detect", "refine"):
        size, whole = (b.graph(role).stat().st_size for b in (half, random_bundle))
        assert size < 0.6 * whole
    found = OnnxGraph(half.graph("detect"))(xfeat.DETECT_OUTPUTS, image=images((1, 64, 96)))
    assert all(map.dtype == np.float32 for map in found)
    assert_close(found, maps(random_net, images((1, 64, 96))), 0.02)
    again = XFeat()
    again.load_state_dict(xfeat.official_state_dict(half))
    assert_close(maps(again.eval(), images((1, 64, 96))), found, 1e-3)


def export_nothing(monkeypatch, folder):
    """`export_xfeat` without the slow part."""

    def write(module, example, outputs, dynamic, path, half, defaults=None):
        path.write_bytes(b"graph")

    monkeypatch.setattr(xfeat, "write_graph", write)
    return xfeat.export_xfeat(XFeat(), folder, name="n", licence="-", source="-")


def test_replaces_a_bundle(monkeypatch, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    folder = tmp_path / "deep" / "er"
    export_nothing(monkeypatch, folder)
    graphs = [path for path in folder.iterdir() if path.suffix == ".onnx"]
    for path in graphs:
        path.write_bytes(b"of the first export")
    bundle = export_nothing(monkeypatch, folder)
    assert bundle == Bundle.read(folder)
    assert graphs
    assert {path.read_bytes() for path in graphs} == {b"graph"}
    assert [path.name for path in folder.parent.iterdir()] == ["er"]


def test_exception_something_else_is_there(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("photos", "file"):
        with pytest.raises(BundleError, match="is no bundle; it is left alone"):
            export_nothing(monkeypatch, tmp_path / name)
    assert (tmp_path / "photos" / "a.jpg").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failed_export_leaves_the_old_bundle(monkeypatch, tmp_path):
    export_nothing(monkeypatch, tmp_path / "bundle")

    def fail(*args, **more):
        raise RuntimeError("no graph")

    monkeypatch.setattr(xfeat, "write_graph", fail)
    with pytest.raises(RuntimeError):
        xfeat.export_xfeat(XFeat(), tmp_path / "bundle", name="n", licence="-", source="-")
    assert Bundle.read(tmp_path / "bundle").name == "n"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_shipped_graph_computes_nothing_twice():
    """One softmax for keypoints and the global descriptor; the mean and the variance of a picture,
    and no mean over its one channel."""
    model = onnx.load(find_bundle("xfeat-covis").graph("detect"))
    operators = Counter(node.op_type for node in model.graph.node)
    assert (operators["Softmax"], operators["ReduceMean"]) == (1, 2)


@pytest.mark.slow
def test_search_head_in_one_pass(random_net, random_bundle, texture, home, models):
    """The global descriptor is DELG's own; keypoints and descriptors stay the same bits."""
    import covis
    from covis.nets.delg import light_delg

    torch.manual_seed(0)
    delg = light_delg(random_net).eval()
    bundle = xfeat.export_xfeat(
        random_net, models / "search", name="search", licence="-", source="-", search=delg
    )
    assert bundle.settings == {"statistics": True, "global_dimension": delg.dimension}
    alone = RuntimeOptions(threads=1)
    both, plain = (OnnxGraph(b.graph("detect"), alone) for b in (bundle, random_bundle))
    for shape in ((1, 64, 96), (2, 96, 32)):
        found = both([*xfeat.DETECT_OUTPUTS, "global"], image=images(shape))
        for one, two in zip(found, plain(xfeat.DETECT_OUTPUTS, image=images(shape)), strict=False):
            np.testing.assert_array_equal(one, two)
        with torch.inference_mode():
            expected = delg(torch.from_numpy(images(shape))).global_descriptor
        np.testing.assert_allclose(found[-1], expected, atol=1e-4)

    # Weights go round, the head's among them stay out of XFeat's.
    again = XFeat()
    again.load_state_dict(xfeat.official_state_dict(bundle))
    assert_close(maps(again.eval(), images((1, 64, 96))), maps(random_net, images((1, 64, 96))))

    extract, without = covis.Extractor("search", threads=1), covis.Extractor("random", threads=1)
    pictures = [texture, texture[::-1], texture[:, ::-1]]
    batch = extract.batch(pictures)
    for picture, features in zip(pictures, batch, strict=True):
        alone, other = extract(picture), without(picture)
        assert other.global_descriptor is None
        for name in ("keypoints", "descriptors", "scores"):
            np.testing.assert_array_equal(getattr(features, name), getattr(other, name))
        np.testing.assert_array_equal(features.global_descriptor, alone.global_descriptor)
        assert np.linalg.norm(features.global_descriptor) == pytest.approx(1, abs=1e-5)
