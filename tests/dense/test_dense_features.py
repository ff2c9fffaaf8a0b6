"""Dense features without PyTorch: those of the networks, at any size, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from covis import load_image
from covis.dense import DenseExtractor, DenseFeatures, choose_model, enlarge
from covis.errors import ArgumentError, BundleError
from covis.options import DEFAULT_DENSE, FINE_DENSE

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export.lift import export_lift, export_lift_alone  # noqa: E402
from covis.nets.dense import XFeatMap, describe  # noqa: E402
from covis.nets.lift import LiFT  # noqa: E402


@pytest.fixture(scope="module", params=[False, True], ids=["as published", "residual"])
def nets(random_net, request):
    backbone = XFeatMap(random_net, "random")
    torch.manual_seed(1)
    lift = LiFT(backbone.kind, request.param).eval()
    torch.nn.init.normal_(lift.outc.weight, std=0.2)
    for module in lift.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.1, 0.6)
    return backbone, lift


@pytest.fixture(scope="module")
def bundle(nets, tmp_path_factory):
    backbone, lift = nets
    folder = tmp_path_factory.mktemp("lift") / "lift"
    return export_lift(lift, backbone, folder, name="lift", licence="-", source="-")


def expected(nets, pixels, times):
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return describe(nets[0], image, nets[1], times)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("lifts", [0, 1, 2])
def test_the_networks_without_pytorch(nets, bundle, texture, lifts):
    extract = DenseExtractor(str(bundle.folder), lifts=lifts, threads=1)
    for size in ((64, 96), (37, 65), (1, 3)):
        pixels = np.ascontiguousarray(texture[: size[0], : size[1]])
        found = extract(pixels)
        assert (found.model, found.doublings) == ("lift", lifts)
        cell = 8 / 2**lifts
        assert found.descriptors.shape == (-(-size[0] // cell), -(-size[1] // cell), 64)
        wanted = expected(nets, pixels, lifts)
        np.testing.assert_allclose(found.descriptors, wanted, rtol=0, atol=2e-5)


def test_a_lift_alone_takes_its_backbone_by_name(nets, bundle, texture, tmp_path, monkeypatch):
    """And only one that makes the features that it was trained on."""
    backbone, lift = nets
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    about = {"source": "-", "name": "alone", "licence": "mine"}
    alone = str(export_lift_alone(lift, tmp_path / "alone", **about).folder)
    with pytest.raises(BundleError, match="'alone' lifts the features of random, which is not her"):
        DenseExtractor(alone)
    base = tmp_path / "models" / "random"
    export_lift(None, backbone, base, name="random", licence="theirs", source="-")
    found = DenseExtractor(alone, lifts=2, threads=1)
    assert (found.model, found.licence) == ("alone", "mine (LiFT); theirs (backbone)")
    whole = DenseExtractor(str(bundle.folder), lifts=2, threads=1)
    pixels = np.ascontiguousarray(texture[:37, :65])
    np.testing.assert_array_equal(found(pixels).descriptors, whole(pixels).descriptors)
    assert found(pixels).backbone is None
    said = (base / "bundle.json").read_text()
    (base / "bundle.json").write_text(said.replace(backbone.kind.fingerprint, "0" * 16))
    with pytest.raises(BundleError, match=r"gives others\. Get it again, with --force"):
        DenseExtractor(alone)


def test_lifted_features_of_a_vit_have_those_of_the_vit_beside(bundle, texture, monkeypatch):
    monkeypatch.setitem(bundle.settings, "unit", False)
    monkeypatch.setattr("covis.dense.features.dense_bundle", lambda model: bundle)
    pixels = np.ascontiguousarray(texture[:37, :65])
    own = DenseExtractor("-", lifts=1, threads=1)(pixels).backbone
    plain = DenseExtractor("-", lifts=0, threads=1)(pixels)
    assert own is not None
    np.testing.assert_array_equal(own.descriptors, plain.descriptors)
    assert (own.step, own.doublings, own.common) == (plain.step, 0, True)


def test_auto_takes_the_best_that_is_installed(nets, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    for task, model in (
        ("match", DEFAULT_DENSE),
        ("discover", DEFAULT_DENSE),
        ("show", FINE_DENSE),
    ):
        chosen, better = choose_model(task)
        assert (chosen, better[:34]) == (model, "'covis weights get dinov2-small' b")
    assert choose_model("propagate") == (FINE_DENSE, "")
    assert DenseExtractor("auto").model == DEFAULT_DENSE
    where = tmp_path / "models" / "dinov2-small"
    export_lift(None, nets[0], where, name="dinov2-small", licence="-", source="-")
    assert choose_model("match") == choose_model("show") == ("lift-dinov2-small", "")
    assert choose_model("discover") == ("dinov2-small", "")
    assert DenseExtractor("upsampler-covis").model == "dinov2-small+upsampler-covis"
    assert choose_model("propagate") == (FINE_DENSE, "")


def test_any_backbone_is_enlarged_by_the_upsampler(bundle, texture):
    """Means of its features, of twice as many cells, each near the cells around it."""
    plain = DenseExtractor(str(bundle.folder), lifts=0)(texture[:64, :96])
    finer = DenseExtractor(f"{bundle.folder}+upsampler-covis")(texture[:64, :96])
    assert finer.model == f"{bundle.name}+upsampler-covis"
    assert finer.step == (plain.step[0] / 2, plain.step[1] / 2)
    np.testing.assert_allclose(np.linalg.norm(finer.descriptors, axis=2), 1, atol=1e-5)
    cosines = (finer.descriptors * enlarge(plain, 1).descriptors).sum(axis=2)
    assert cosines.mean() > 0.9
    assert cosines.mean() < 0.9999


def test_an_upsampler_needs_dense_features():
    with pytest.raises(ArgumentError, match="makes no dense features"):
        DenseExtractor("xfeat-covis+upsampler-covis")
    with pytest.raises(ArgumentError, match="features of its own backbone"):
        DenseExtractor("upsampler-covis+lift-xfeat-covis")


def test_lengths_are_one(bundle, texture):
    found = DenseExtractor(str(bundle.folder), lifts=1)(texture[:64, :64])
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=2), 1, atol=1e-5)


def test_convention_points(bundle, texture):
    """The first of 8, 4 or 2 pixels a cell describes their middle, in pixels of the full size."""
    for lifts, first in ((0, 4.0), (1, 2.0), (2, 1.0)):
        found = DenseExtractor(str(bundle.folder), lifts=lifts)(texture[:64, :96])
        np.testing.assert_allclose(found.points[0, 0], (first, first))
        np.testing.assert_allclose(found.points[-1, -1], (96 - first, 64 - first))
    shrunk = load_image(texture[:64, :96], max_size=48)
    found = DenseExtractor(str(bundle.folder), lifts=0)(shrunk)
    assert found.descriptors.shape == (4, 6, 64)
    np.testing.assert_allclose(found.points[1, 2], (40, 24))
    assert (found.width, found.height) == (96, 64)


def test_at_is_bilinear():
    descriptors = np.zeros((2, 2, 2), np.float32)
    descriptors[..., 0] = [[1, 0], [1, 0]]
    descriptors[..., 1] = [[0, 1], [0, 1]]
    features = DenseFeatures(descriptors, (4.0, 6.0), 8, 12, "-")
    found = features.at(np.array([[2, 3], [4, 3], [3, 9], [0, 0], [100, 100]], np.float32))
    half = np.sqrt(0.5)
    three = np.array([0.75, 0.25]) / np.hypot(0.75, 0.25)
    np.testing.assert_allclose(found, [[1, 0], [half, half], three, [1, 0], [0, 1]], atol=1e-6)
    places = features.points.reshape(-1, 2)
    np.testing.assert_allclose(features.at(places), descriptors.reshape(-1, 2), atol=1e-6)


def test_exceptions(bundle, random_bundle):
    with pytest.raises(ArgumentError, match="lifts must be 0 or more, not -1"):
        DenseExtractor(str(bundle.folder), lifts=-1)
    with pytest.raises(ArgumentError, match="max_size must be 0 or more"):
        DenseExtractor(str(bundle.folder), max_size=-1)
    with pytest.raises(ArgumentError, match="'random' is a bundle for xfeat, not for dense"):
        DenseExtractor(str(random_bundle.folder))


def test_without_pytorch(shape_without_pytorch, bundle):
    assert shape_without_pytorch(bundle.folder, lifts=2) == (20, 20, 64)
