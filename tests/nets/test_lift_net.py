"""LiFT: sizes, what it serves, and the files its weights come in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.networks import stir_norms

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
from safetensors.torch import save_file  # noqa: E402

from covis.errors import ArgumentError, BundleError  # noqa: E402
from covis.nets.dense import fingerprint, older_fingerprint  # noqa: E402
from covis.nets.lift import FeatureKind, LiFT, load_lift, metadata, pad_to  # noqa: E402

KIND = FeatureKind("dino-vits16", "0123456789abcdef", 11, "key", 12, 16)


def random_lift(kind):
    torch.manual_seed(4)
    return stir_norms(LiFT(kind).eval(), 0.3, 0.1, 0.6)


@pytest.fixture(scope="module")
def net():
    return random_lift(KIND)


def test_published_size():
    net = LiFT(replace(KIND, channels=384))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(1.2e6, rel=0.02)


@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (48, 112)])
@torch.inference_mode()
def test_any_size(patch, size):
    """A cell for each patch begun, a lifted one for each half of a patch, and so on."""
    net = random_lift(replace(KIND, patch=patch))
    cells = [-(-side // patch) for side in size]
    image, features = torch.rand(2, 3, *size), torch.rand(2, 12, *cells)
    for times in (1, 2):
        expected = [-(-side * 2**times // patch) for side in size]
        assert list(net.lift(image, features, times).shape) == [2, 12, *expected]


@torch.inference_mode()
def test_padding_is_cropped_back(net):
    """What the padded image gives, less what lies beyond the image."""
    image, features = torch.rand(1, 3, 33, 50), torch.rand(1, 12, 3, 4)
    padded = pad_to(image, 48, 64)
    assert torch.equal(padded[..., 33:, :50], image[..., 32:, :].expand(-1, -1, 15, -1))
    whole = net(padded, features)
    assert torch.equal(net.lift(image, features), whole[..., :5, :7])


@torch.inference_mode()
def test_patch_14_sees_16_pixels_a_cell():
    net = random_lift(replace(KIND, patch=14))
    image, features = torch.rand(1, 3, 28, 42), torch.rand(1, 12, 2, 3)
    resized = torch.nn.functional.interpolate(image, (32, 48), mode="bilinear")
    assert torch.equal(net.lift(image, features), net(resized, features))


@torch.inference_mode()
def test_unit_features_stay_unit():
    net = random_lift(replace(KIND, unit=True))
    lifted = net.lift(torch.rand(1, 3, 32, 32), torch.rand(1, 12, 2, 2), 2)
    torch.testing.assert_close(lifted.norm(dim=1), torch.ones(1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 12, 3, 2), (1, 11, 2, 2)])
def test_exception_features_of_another_image(net, shape):
    with pytest.raises(ArgumentError, match="do not belong to an image of 32x20"):
        net.lift(torch.rand(1, 3, 20, 32), torch.rand(shape))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_state_dicts(net, tmp_path, suffix, prefix):
    path = tmp_path / f"weights.{suffix}"
    state = {prefix + key: value for key, value in net.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = load_lift(path, KIND)
    assert not loaded.training
    assert loaded.kind == KIND
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, net.state_dict()[key])
    with pytest.raises(BundleError, match="does not say which features"):
        load_lift(path)


def test_own_files_say_what_they_are_for(net, tmp_path):
    path = tmp_path / "own.safetensors"
    save_file(net.state_dict(), path, metadata(net))
    assert load_lift(path).kind == KIND
    assert load_lift(path, replace(KIND, backbone="another name")).kind == KIND


def test_a_residual_one_begins_as_bilinear(tmp_path):
    net = LiFT(replace(KIND, patch=8, unit=True), residual=True)
    with torch.no_grad():
        net.outc.weight[3] = 0.5
    save_file(net.state_dict(), tmp_path / "own.safetensors", metadata(net))
    loaded = load_lift(tmp_path / "own.safetensors")
    image, features = torch.rand(1, 3, 32, 48), torch.rand(1, KIND.channels, 4, 6)
    larger = torch.nn.functional.interpolate(
        features, size=(8, 12), mode="bilinear", align_corners=False
    )
    unlearnt = LiFT(net.kind, residual=True).eval()
    found, changed = unlearnt(image, features), loaded(image, features)
    torch.testing.assert_close(found, torch.nn.functional.normalize(larger, dim=1))
    assert (changed[:, 3] - found[:, 3]).abs().max() > 0.01


OTHERS = [
    {"fingerprint": "f" * 16},
    {"fingerprint": "", "backbone": "dino-vitb16"},
    {"layer": 10},
    {"facet": "query"},
    {"unit": True},
]


@pytest.mark.parametrize("change", OTHERS)
def test_exception_other_features(net, tmp_path, change):
    path = tmp_path / "own.safetensors"
    save_file(net.state_dict(), path, metadata(net))
    with pytest.raises(BundleError, match=r"trained on dino-vits16 \(layer 11, key, patch 16\)"):
        load_lift(path, replace(KIND, **change))


def test_exception_other_network(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="not the weights of LiFT; other shape"):
        load_lift(tmp_path / "w.safetensors", replace(KIND, channels=14))


@pytest.mark.parametrize("said", ["{", "[]", '{"backbone": "x"}'])
def test_exception_damaged_description(net, tmp_path, said):
    save_file(net.state_dict(), tmp_path / "w.safetensors", {"covis.features": said})
    with pytest.raises(BundleError, match="what it says of its features is damaged"):
        load_lift(tmp_path / "w.safetensors", KIND)


def test_fingerprint_is_of_values_whatever_they_are_called():
    """Releases of transformers name weights otherwise in memory."""
    torch.manual_seed(0)
    one = torch.nn.ModuleDict({"query": torch.nn.Linear(3, 4), "norm": torch.nn.LayerNorm(4)})
    other = torch.nn.ModuleDict({"a": one["norm"], "q_proj": one["query"]})
    assert fingerprint(one) == fingerprint(other)
    assert older_fingerprint(one) != older_fingerprint(other)
    before = fingerprint(one)
    with torch.no_grad():
        one["query"].weight[0, 0] += 1
    assert fingerprint(one) != before


def test_what_files_of_before_say_is_believed():
    kind = FeatureKind("vit", "new", 1, "key", 8, 16, older="old")
    before = FeatureKind("called otherwise", "old", 1, "key", 8, 16)
    assert before.same_as(kind)
    assert kind.same_as(before)
    assert not replace(before, fingerprint="another").same_as(kind)
    assert not replace(before, layer=0).same_as(kind)


@torch.inference_mode()
def test_a_share_of_a_residual_lift():
    """Half of it lies half way between bilinear enlargement and the whole."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.lift import with_share

    torch.manual_seed(2)
    net = LiFT(KIND, residual=True).eval()
    torch.nn.init.normal_(net.outc.weight)
    image, features = torch.rand(1, 3, 48, 64), torch.rand(1, 12, 3, 4)
    bilinear = torch.nn.functional.interpolate(features, scale_factor=2, mode="bilinear")
    half = with_share(net, 0.5)(image, features)
    torch.testing.assert_close(half, (bilinear + net(image, features)) / 2)
    with pytest.raises(BundleError, match="not residual"):
        with_share(LiFT(KIND), 0.5)


@torch.inference_mode()
def test_a_lift_on_an_upsampler():
    """What is added is the same on either."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.lift import OnUpsampled
    from covis.nets.upsampler import Upsampler

    torch.manual_seed(2)
    lift, upsampler = LiFT(KIND, residual=True).eval(), Upsampler().eval()
    image, features = torch.rand(1, 3, 48, 64), torch.rand(1, 12, 3, 4)
    small = torch.nn.functional.avg_pool2d(image, 2)
    joined = OnUpsampled(lift, upsampler)
    torch.testing.assert_close(joined(image, features), upsampler(small, features))
    torch.nn.init.normal_(lift.outc.weight)
    bilinear = torch.nn.functional.interpolate(features, scale_factor=2, mode="bilinear")
    added = joined(image, features) - upsampler(small, features)
    torch.testing.assert_close(added, lift(image, features) - bilinear)


@torch.inference_mode()
def test_narrowed_to_what_matters():
    """Channels that are mixtures of few others can be left out, at the edges too; of others the
    more are kept, the nearer it is."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.lift import narrowed

    torch.manual_seed(4)
    wide = random_lift(replace(KIND, channels=32))
    seen = [(torch.rand(1, 3, 64, 80), torch.randn(1, 32, 4, 5)) for _ in range(4)]
    image, features = torch.rand(1, 3, 48, 64), torch.randn(1, 32, 3, 4)
    whole = wide(image, features)
    far = [
        float((narrowed(wide, width, seen)(image, features) - whole).norm() / whole.norm())
        for width in (8, 24, 32)
    ]
    assert far[0] > far[1] > 1e-3 > 1e-5 > far[2]
    few = torch.randn(5, 32)
    up = wide.up1.up
    up.weight.copy_(torch.einsum("ikab,ko->ioab", torch.randn(64, 5, 2, 2), few))
    up.bias.copy_(few[0])
    found = narrowed(wide, 5, seen)
    assert found.up1.up.weight.shape == (64, 5, 2, 2)
    torch.testing.assert_close(found(image, features), wide(image, features), rtol=1e-4, atol=1e-4)
