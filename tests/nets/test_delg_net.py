"""DELG's layers against their formulas, its gradients and where its cells look."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.nets.delg import (  # noqa: E402
    Attention,
    Delg,
    GlobalHead,
    ReceptiveField,
    ResNetBackbone,
    gem,
    light_delg,
    load_resnet,
    root_moment,
)
from covis.training.losses.delg import (  # noqa: E402
    ArcFace,
    AttentionClassifier,
    reconstruction_loss,
)


@pytest.fixture
def resnet():
    """A ResNet of the published shape, a few channels wide."""
    transformers = pytest.importorskip("transformers", reason="ResNets need transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 2, 1]
    )
    return ResNetBackbone(transformers.ResNetModel(config))


@pytest.fixture(params=["resnet", "xfeat"])
def delg(request, random_net):
    if request.param == "xfeat":
        return light_delg(random_net)
    return Delg(request.getfixturevalue("resnet"), 12, 5, 7)


def some_image(delg, height=64, width=96):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 1 if delg.backbone.grey else 3, height, width, generator=generator)


# The formulas.


@pytest.mark.parametrize("power", [1.0, 3.0, 5.0])
def test_gem_is_its_formula(power):
    maps = torch.rand(2, 3, 4, 5)
    found = gem(maps, power).numpy()
    for image in range(2):
        for channel in range(3):
            values = maps[image, channel].double().numpy().ravel()
            expected = (sum(v**power for v in values) / 20) ** (1 / power)
            assert found[image, channel] == pytest.approx(expected, rel=1e-4)


def test_gem_lies_between_the_mean_and_the_largest():
    maps = torch.rand(2, 3, 6, 6)
    assert (gem(maps) > maps.mean(dim=(2, 3))).all()
    assert (gem(maps) < maps.amax(dim=(2, 3))).all()
    torch.testing.assert_close(gem(maps, 200.0), maps.amax(dim=(2, 3)), rtol=0.03, atol=0)


def test_gem_of_nothing_has_a_gradient():
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    gem(maps).sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_root_moment_is_the_root_of_the_moment():
    """Its square is the second moment, scaled to a trace of 1; triangles keep inner products."""
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7)
    found = root_moment(maps)
    assert found.shape == (2, 15)
    roots = torch.zeros(2, 5, 5)
    i, j = np.triu_indices(5)
    roots[:, i, j] = found / torch.from_numpy(np.where(i == j, 1, 2**0.5)).float()
    roots = roots + roots.transpose(1, 2) - torch.diag_embed(roots.diagonal(dim1=1, dim2=2))
    for image in range(2):
        rows = maps[image].flatten(1)
        moment = rows @ rows.T / rows.square().sum()
        torch.testing.assert_close(roots[image] @ roots[image], moment, rtol=0, atol=1e-3)
    inner = (roots[0] * roots[1]).sum()
    torch.testing.assert_close((found[0] * found[1]).sum(), inner)
    torch.testing.assert_close(root_moment(7 * maps), found)


def test_root_moment_of_nothing_is_finite():
    maps = torch.zeros(1, 3, 2, 2, requires_grad=True)
    root_moment(maps).sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_global_head_pools_whitens_and_scales():
    head, deep = GlobalHead(3, 4), torch.rand(2, 3, 5, 5)
    raw = gem(deep).detach() @ head.whiten.weight.T + head.whiten.bias
    torch.testing.assert_close(head(deep), raw / raw.norm(dim=1, keepdim=True))


def test_published_backbones_pool_by_gem(resnet, random_net):
    assert Delg(resnet, 12).head.pool is gem
    assert light_delg(random_net).head.pool is root_moment


def test_attention_is_above_zero():
    with torch.inference_mode():
        found = Attention(6, 5).eval()(torch.randn(2, 6, 4, 3))
    assert found.shape == (2, 1, 4, 3)
    assert (found > 0).all()


def test_output_shapes(delg):
    with torch.inference_mode():
        output = delg.eval()(some_image(delg))
    shallow, _ = delg.backbone.channels
    assert output.global_descriptor.shape == (2, delg.dimension)
    torch.testing.assert_close(output.global_descriptor.norm(dim=1), torch.ones(2))
    assert output.local.shape == (2, delg.encode.out_channels, 4, 6)
    assert output.attention.shape == (2, 1, 4, 6)
    assert output.shallow.shape == output.reconstruction.shape == (2, shallow, 4, 6)
    # Signed descriptors, a reconstruction that is not.
    assert (output.local < 0).any()
    assert (output.reconstruction >= 0).all()


# Gradients.


def gradients(module):
    return [p.grad for p in module.parameters() if p.requires_grad]


def test_local_losses_leave_the_backbone_alone(delg):
    """L_r and L_a: exactly zero in the backbone and the global head, something in the branch."""
    delg.train()
    output = delg(some_image(delg))
    classify = AttentionClassifier(delg.backbone.channels[0], 3)
    loss = reconstruction_loss(output.reconstruction, output.shallow)
    loss = loss + classify(output.attention, output.reconstruction, torch.tensor([0, 2]))
    # So that a gradient of zero is told from none at all.
    (loss + 0 * output.global_descriptor.sum()).backward()
    learnt = gradients(delg.backbone)
    assert learnt
    for gradient in (*learnt, *gradients(delg.head)):
        assert gradient is None or not gradient.any()
    for part in (delg.encode, delg.decode, delg.attention, classify):
        assert any(gradient.any() for gradient in gradients(part))


def test_the_global_loss_reaches_the_backbone_and_nothing_local(delg):
    delg.train()
    output = delg(some_image(delg))
    ArcFace(delg.dimension, 3)(output.global_descriptor, torch.tensor([0, 2])).backward()
    assert all(g is not None for g in gradients(delg.backbone) + gradients(delg.head))
    assert any(g.any() for g in gradients(delg.backbone))
    for part in (delg.encode, delg.decode, delg.attention):
        assert all(gradient is None for gradient in gradients(part))


def test_xfeat_stays_frozen(random_net):
    """Weights and the norms' statistics, whatever is learnt on top."""
    delg = light_delg(random_net).train()
    before = {k: v.clone() for k, v in delg.backbone.net.state_dict().items()}
    learnt = [p for p in delg.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learnt, 0.1, weight_decay=0.1)
    delg(some_image(delg)).global_descriptor.sum().backward()
    optimiser.step()
    for name, value in delg.backbone.net.state_dict().items():
        assert torch.equal(value, before[name]), name


# Where cells look.


def looked_at(layers, size, cell):
    """The range of rows and columns that a cell's value depends on, by gradient."""
    image = torch.rand(1, 1, size, size, requires_grad=True)
    layers(image)[0, 0, cell, cell].backward()
    rows = torch.nonzero(image.grad[0, 0].abs().sum(dim=1)).ravel()
    return int(rows.min()), int(rows.max()) + 1


def positive(layers):
    """Every weight counts, and no ReLU hides it."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, 0.1, 1)
    return layers.double().float()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 1, 3, padding=1)],
        [nn.Conv2d(1, 1, 7, 2, padding=3), nn.AvgPool2d(3, 2, 1)],
        [nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 3, 2, 1)],
        [nn.AvgPool2d(4, 4), nn.Conv2d(1, 1, 5)],
    ],
    ids=["one", "stem", "strides", "unpadded"],
)
def test_receptive_field_is_what_a_cell_depends_on(layers):
    chain = positive(nn.Sequential(*layers))
    field = ReceptiveField.through(layers)
    for cell in (4, 5):
        begin = field.start + cell * field.stride
        assert looked_at(chain, 96, cell) == (begin, begin + field.size)


def test_receptive_field_of_the_backbones(resnet, random_net):
    """Cells of S look at stretches 16 pixels apart, each around its own 16 pixels' corner."""
    for backbone in (resnet, light_delg(random_net).backbone):
        field = backbone.receptive_field()
        assert field.stride == 16
        # Padding is half of each kernel: the middle of the first is the first pixel's.
        assert field.start + field.size / 2 == 0.5
    # 7x7 and pooling 3x3; 3x3 each in blocks 1, 2 (stride 2), 3 (stride 2) and 4.
    assert resnet.receptive_field().size == 1 + 6 + 2 * 2 + 4 * 2 + 4 * 2 + 8 * 2 + 16 * 2


def test_receptive_field_of_resnet50():
    """291 pixels, as derived by hand from its table of layers."""
    pytest.importorskip("transformers", reason="ResNets need transformers")
    field = load_resnet("resnet50", "random").receptive_field()
    by_hand = 1 + 6 + 2 * 2 + 3 * 2 * 4 + 2 * 4 + 3 * 2 * 8 + 2 * 8 + 5 * 2 * 16
    assert field.size == by_hand


# Weights.


def test_learnt_weights_come_back(random_net, tmp_path):
    torch.manual_seed(5)
    delg, other = light_delg(random_net).eval(), light_delg(random_net).eval()
    state = delg.learnt_state()
    assert state
    assert not any(name.startswith("backbone.net") for name in state)
    save_file(state, tmp_path / "head.safetensors")
    other.load_learnt(tmp_path / "head.safetensors")
    with torch.inference_mode():
        image = some_image(delg)
        assert torch.equal(other(image).global_descriptor, delg(image).global_descriptor)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BundleError, match="not the weights of Delg"):
        other.load_learnt(tmp_path / "other.safetensors")


def test_resnet_weights_from_a_folder(resnet, tmp_path):
    resnet.net.save_pretrained(tmp_path / "resnet")
    with pytest.raises(BundleError, match="its depths are"):
        load_resnet("resnet50", tmp_path / "resnet")
    with pytest.raises(BundleError, match="no ResNet to start from"):
        load_resnet("resnet50", tmp_path / "nothing")


def test_resnet_sees_normalised_colours(resnet):
    seen = []
    resnet.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    resnet.eval()(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    np.testing.assert_allclose(seen[0], 0, atol=1e-6)
