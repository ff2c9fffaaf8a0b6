"""ViTs as bundles: what PyTorch and transformers give, at any size, without them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.networks import dinov2_as_exported, stir_norms

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.dense import DenseExtractor  # noqa: E402
from covis.errors import ArgumentError, BundleError  # noqa: E402
from covis.export import lift as module  # noqa: E402
from covis.export.lift import export_lift  # noqa: E402
from covis.nets.dense import VisionTransformer, describe  # noqa: E402
from covis.nets.dinov2 import DINOv2, Sizes  # noqa: E402
from covis.nets.lift import FeatureKind, LiFT  # noqa: E402


def strong(net):
    """Random weights of a size that shows in the features, positions among them."""
    torch.manual_seed(0)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5 if weight.dim() == 3 else 0.2)
    return net.eval()


def lift_for(kind):
    torch.manual_seed(1)
    return stir_norms(LiFT(kind).eval(), 0.1, 0.1, 0.6)


def expected(backbone, lift, pixels, times):
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        found = describe(backbone, image, lift, times)
    return torch.nn.functional.normalize(found, dim=1)[0].permute(1, 2, 0).numpy()


def check(backbone, lift, bundle, texture):
    patch = backbone.kind.patch
    for times in (0, 1, 2):
        extract = DenseExtractor(str(bundle.folder), lifts=times, threads=1)
        for height, width in ((4 * patch, 4 * patch), (3 * patch + 1, 6 * patch - 2), (1, 2)):
            pixels = np.ascontiguousarray(texture[:height, :width])
            found = extract(pixels)
            cell = patch / 2**times
            assert found.descriptors.shape[:2] == (-(-height // cell), -(-width // cell))
            wanted = expected(backbone, lift, pixels, times)
            np.testing.assert_allclose(found.descriptors, wanted, rtol=0, atol=1e-4)


class Patches(torch.nn.Module):
    """A backbone with neither attention nor positions, and cells unlike those of its LiFT."""

    multiple = 14

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 14, stride=14)
        self.kind = FeatureKind("patches", "", 0, "token", 12, 14)

    def normalise(self, image):
        return (image - 0.4) / 0.2

    def forward(self, image):
        return self.conv(image)


@pytest.fixture
def patches(monkeypatch):
    monkeypatch.setattr(module, "_for_export", lambda backbone: backbone)
    return strong(Patches())


def test_cells_unlike_those_of_the_lift(patches, texture, tmp_path):
    lift = lift_for(patches.kind)
    bundle = export_lift(lift, patches, tmp_path / "b", name="b", licence="-", source="-")
    check(patches, lift, bundle, texture)


def test_without_a_lift(patches, texture, tmp_path):
    bundle = export_lift(None, patches, tmp_path / "b", name="mine", licence="-", source="-")
    found = DenseExtractor(str(bundle.folder))(texture[:28, :42])
    assert found.doublings == 0
    np.testing.assert_allclose(
        found.descriptors, expected(patches, None, texture[:28, :42], 0), atol=1e-5
    )
    with pytest.raises(ArgumentError, match=r"'mine' has no LiFT, so .* take 0 lifts, or make"):
        DenseExtractor(str(bundle.folder), lifts=1)


class Positions(Patches):
    """With positions of the size of the exporter's example, whatever the image's is."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.rand(1, 12, 4, 4))

    def forward(self, image):
        features = self.conv(image)
        size = [int(side) for side in features.shape[2:]]
        return features + torch.nn.functional.interpolate(self.table, size)


class Other(Patches):
    def forward(self, image):
        return 1.01 * self.conv(image)


@pytest.mark.parametrize(("backbone", "exported"), [(Positions, Positions), (Patches, Other)])
def test_exception_other_features(backbone, exported, monkeypatch, tmp_path):
    """What is wrong with a graph is found out, and nothing is left behind."""
    monkeypatch.setattr(module, "_for_export", lambda _: strong(exported()))
    with pytest.raises(BundleError, match="patches: exported, it gives other features"):
        export_lift(None, strong(backbone()), tmp_path / "b", name="b", licence="-", source="-")
    assert list(tmp_path.iterdir()) == []


def test_exception_too_large(patches, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LARGEST", 4 * (12 * 3 * 14 * 14 + 12) - 1)
    with pytest.raises(BundleError, match="patches: too large"):
        export_lift(None, patches, tmp_path / "b", name="b", licence="-", source="-")


CONFIGS = {
    "ViT-8": ("ViT", {"image_size": 32, "patch_size": 8, "intermediate_size": 16}),
    "ViT-16": ("ViT", {"image_size": 64, "patch_size": 16, "intermediate_size": 16}),
    "Dinov2": ("Dinov2", {"image_size": 56, "patch_size": 14}),
    "registers": ("Dinov2WithRegisters", {"image_size": 56, "patch_size": 14}),
    "DINOv3": ("DINOv3ViT", {"patch_size": 16, "intermediate_size": 16}),
}
SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}


def vit(name, facet="key"):
    transformers = pytest.importorskip("transformers", reason="ViTs need transformers")
    kind, sizes = CONFIGS[name]
    config = getattr(transformers, f"{kind}Config")(**SIZES, **sizes)
    net = strong(getattr(transformers, f"{kind}Model")(config))
    return VisionTransformer(net, name, facet=facet)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "facet"),
    [("ViT-8", "key"), ("ViT-16", "token"), ("Dinov2", "value"), ("registers", "key"),
     ("DINOv3", "query")],
)  # fmt: skip
def test_vits(name, facet, texture, tmp_path):
    backbone = vit(name, facet)
    lift = lift_for(backbone.kind)
    bundle = export_lift(lift, backbone, tmp_path / "b", name="b", licence="-", source="-")
    check(backbone, lift, bundle, texture)


def test_dinov2_needs_no_transformers(texture, tmp_path, monkeypatch):
    """From an ONNX file as the published one, to features at sizes that no file was made at."""
    import covis

    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    net = strong(DINOv2(Sizes(64, 2, 1, positions=3)))
    dinov2_as_exported(net.state_dict(), tmp_path / "w.onnx")
    bundle = covis.import_weights(tmp_path / "w.onnx", name="dino", layer=-2, facet="token")
    assert bundle.source == "w (layer 0, token, patch 14), no LiFT"
    assert bundle.licence == "Apache-2.0, if these are the published weights"
    extract = DenseExtractor("dino", threads=1)
    backbone = VisionTransformer(net, "w", 0, "token")
    for height, width in ((42, 42), (29, 97), (1, 2)):
        pixels = np.ascontiguousarray(texture[:height, :width])
        np.testing.assert_allclose(
            extract(pixels).descriptors, expected(backbone, None, pixels, 0), rtol=0, atol=1e-5
        )


@pytest.mark.slow
def test_without_pytorch(shape_without_pytorch, tmp_path):
    folder = tmp_path / "b"
    export_lift(None, vit("ViT-8"), folder, name="b", licence="-", source="-")
    assert shape_without_pytorch(folder, lifts=0) == (5, 5, 12)


def test_exception_lift_of_another_facet(tmp_path):
    lift = LiFT(vit("ViT-8", "value").kind)
    with pytest.raises(BundleError, match=r"trained on ViT-8 \(layer 1, value, patch 8\)"):
        export_lift(lift, vit("ViT-8"), tmp_path / "b", name="b", licence="-", source="-")
