"""Backbones: the facets of small random ViTs, and XFeat's map."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
transformers = pytest.importorskip("transformers", reason="ViTs need transformers")

from covis.errors import ArgumentError, BundleError  # noqa: E402
from covis.nets.dense import FACETS, VisionTransformer, XFeatMap, describe, load_vit  # noqa: E402
from covis.nets.lift import LiFT  # noqa: E402

SIZES = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3}
CLASSES = {"intermediate_size": 16, **SIZES}


def vit(patch):
    config = transformers.ViTConfig(image_size=4 * patch, patch_size=patch, **CLASSES)
    return transformers.ViTModel(config)


def dinov2(patch):
    config = transformers.Dinov2Config(image_size=4 * patch, patch_size=patch, **SIZES)
    return transformers.Dinov2Model(config)


def dinov2_registers(patch):
    config = transformers.Dinov2WithRegistersConfig(image_size=4 * patch, patch_size=patch, **SIZES)
    return transformers.Dinov2WithRegistersModel(config)


def dinov3(patch):
    config = transformers.DINOv3ViTConfig(patch_size=patch, **CLASSES)
    return transformers.DINOv3ViTModel(config)


KINDS = [(vit, 8), (vit, 16), (dinov2, 14), (dinov2_registers, 14), (dinov3, 16)]


def made(build, patch, *args):
    torch.manual_seed(0)
    return VisionTransformer(build(patch).eval(), "small", *args)


def blocks(net):
    (found,) = (m for m in net.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
    return found


@pytest.mark.parametrize(("build", "patch"), KINDS)
@torch.inference_mode()
def test_facets(build, patch):
    """A facet is what the layer's projection makes of the tokens that enter it."""
    torch.manual_seed(0)
    whole = build(patch).eval()
    entering, leaving = [], []
    layer = blocks(whole)[1]
    layer.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    layer.register_forward_hook(lambda _, __, output: leaving.append(output))
    image = torch.rand(2, 3, 4 * patch, 4 * patch)
    whole(image)
    norm = next(
        m for name, m in layer.named_children() if name.startswith("norm") or "before" in name
    )
    projections = dict(layer.attention.named_modules())
    for facet in FACETS:
        expected = (
            leaving[0] if facet == "token" else projections[f"{facet[0]}_proj"](norm(entering[0]))
        )[:, -16:]
        backbone = made(build, patch, 1, facet)
        assert (backbone.kind.layer, backbone.kind.facet) == (1, facet)
        found = backbone(image)
        assert found.shape == (2, 12, 4, 4)
        torch.testing.assert_close(found.flatten(2).mT, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("build", "patch"), KINDS)
@torch.inference_mode()
def test_any_size(build, patch):
    backbone = made(build, patch)
    assert backbone.kind.patch == patch
    lift = LiFT(backbone.kind).eval()
    image = torch.rand(1, 3, 2 * patch + 1, 5 * patch)
    assert describe(backbone, image).shape == (1, 12, 3, 5)
    assert describe(backbone, image, lift, 1).shape == (1, 12, 5, 10)
    assert describe(backbone, image, lift, 2).shape == (1, 12, 9, 20)


def test_layers():
    assert made(vit, 8).kind.layer == 2
    assert made(vit, 8, -3).kind.layer == 0
    with pytest.raises(ArgumentError, match="small has layers 0 to 2, none 3"):
        made(vit, 8, 3)
    with pytest.raises(ArgumentError, match="'keys' is no facet; there are: key, query"):
        made(vit, 8, 0, "keys")


def test_fingerprint_is_of_what_makes_the_features():
    """Other weights change it; those behind the layer and the pooler do not."""
    one, two = made(vit, 8, 1), made(vit, 8, 1)
    assert one.kind == two.kind
    torch.manual_seed(0)
    net = vit(8)
    with torch.no_grad():
        net.layers[2].layernorm_before.weight.add_(1)
    assert VisionTransformer(net, "small", 1).kind == one.kind
    torch.manual_seed(0)
    net = vit(8)
    with torch.no_grad():
        net.layers[1].layernorm_before.weight.add_(1)
    assert VisionTransformer(net, "small", 1).kind.fingerprint != one.kind.fingerprint


@torch.inference_mode()
def test_exception_lift_of_another_facet():
    lift = LiFT(made(vit, 8, 2, "key").kind)
    with pytest.raises(BundleError, match=r"trained on small \(layer 2, key, patch 8\)"):
        describe(made(vit, 8, 2, "value"), torch.rand(1, 3, 16, 16), lift, 1)
    with pytest.raises(ArgumentError, match="no LiFT"):
        describe(made(vit, 8), torch.rand(1, 3, 16, 16), None, 1)


@torch.inference_mode()
def test_from_a_folder(tmp_path):
    torch.manual_seed(0)
    vit(8).save_pretrained(tmp_path / "small")
    found = load_vit(tmp_path / "small")
    assert found.kind == made(vit, 8).kind
    image = torch.rand(1, 3, 8, 8)
    assert found.normalise(image).mean() != pytest.approx(2 * float(image.mean()) - 1, abs=1e-4)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "small" / "preprocessor_config.json").write_text(json.dumps(settings))
    torch.testing.assert_close(load_vit(tmp_path / "small").normalise(image), 2 * image - 1)


def test_exception_no_vit(tmp_path):
    with pytest.raises(BundleError, match="nofolder: no such folder"):
        load_vit("nofolder")
    with pytest.raises(BundleError, match="no ViT to be had there"):
        load_vit(tmp_path)
    transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 4, 4], depths=[1] * 4)
    ).save_pretrained(tmp_path / "resnet")
    with pytest.raises(BundleError, match="resnet: a ResNetModel, which is no ViT"):
        load_vit(tmp_path / "resnet")


@torch.inference_mode()
def test_xfeat_map_is_xfeats_descriptors_centred(random_net):
    backbone = XFeatMap(random_net, "random")
    image = torch.rand(2, 3, 64, 96)
    found = backbone(backbone.normalise(image))
    unit = torch.nn.functional.normalize
    descriptors = unit(random_net(image).features, dim=1)
    expected = unit(descriptors - descriptors.flatten(2).mean(dim=2)[..., None, None], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_xfeat_map_at_any_size(random_net):
    backbone = XFeatMap(random_net, "random")
    lift = LiFT(backbone.kind).eval()
    image = torch.rand(1, 3, 37, 65)
    assert describe(backbone, image).shape == (1, 64, 5, 9)
    assert describe(backbone, image, lift, 1).shape == (1, 64, 10, 17)
    assert describe(backbone, image, lift, 2).shape == (1, 64, 19, 33)


@torch.inference_mode()
def test_convention_xfeat_describes_the_middle_of_its_cells(texture):
    """In a mirrored image it sees, at the mirrored cells, what is most alike.

    Were a cell's place its corner, the two would lie most of a cell apart.
    """
    pytest.importorskip(
        "onnx", reason="the weights in the package are read with ONNX: covis[train]"
    )
    from covis.export.xfeat import xfeat_of
    from covis.runtime.bundle import find_bundle

    backbone = XFeatMap(xfeat_of(find_bundle("xfeat-covis")), "xfeat-covis")
    image = torch.from_numpy(texture[:256, :320] / np.float32(255)).permute(2, 0, 1)[None]
    plain = describe(backbone, image)
    inner = plain[..., 4:-4, 4:-4]
    for axis in (2, 3):
        mirrored = describe(backbone, image.flip(axis)).flip(axis)
        before, same, behind = (
            float((inner * mirrored.roll(shift, axis)[..., 4:-4, 4:-4]).sum(dim=1).mean())
            for shift in (1, 0, -1)
        )
        assert same > max(before, behind)
        apart = (behind - before) / (2 * (2 * same - before - behind))
        assert abs(apart) < 0.3
