"""EdgePoint2's network: its sizes, what its maps are made of, and which files it takes."""

from __future__ import annotations

import pytest
from helpers.networks import assert_alike, assert_apart

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

import torch.nn.functional as F  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.nets.edgepoint import CONFIGURATIONS, EdgePoint, load_official, sizes_of  # noqa: E402
from covis.nets.weights import architectures_in  # noqa: E402

PARAMETERS = {"T32": 27.5, "S64": 46, "E64": 155}
"""In thousands, as published."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_number_of_parameters(name):
    count = sum(p.numel() for p in EdgePoint(CONFIGURATIONS[name]).parameters())
    assert count / 1e3 == pytest.approx(PARAMETERS[name], abs=0.5)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_sizes_come_from_the_weights(name, tmp_path):
    net = EdgePoint(CONFIGURATIONS[name]).eval()
    assert sizes_of(net.state_dict()) == CONFIGURATIONS[name]
    torch.save(net.state_dict(), tmp_path / "w.pth")
    assert architectures_in(tmp_path / "w.pth") == ["edgepoint"]
    loaded = load_official(tmp_path / "w.pth")
    assert not loaded.training
    image = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        for one, two in zip(net(image), loaded(image), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_published_files_load(shared, name):
    path = shared / "weights" / "edgepoint2" / f"{name}.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    assert load_official(path).sizes == CONFIGURATIONS[name]


def test_shapes(random_edgepoint):
    with torch.inference_mode():
        found = random_edgepoint(torch.rand(2, 3, 64, 96))
    assert found.descriptors.shape == (2, 32, 16, 24)
    assert found.scores.shape == (2, 1, 64, 96)


def test_maps_are_the_heads_on_enlarged_levels(random_edgepoint):
    """Levels at 1/2, 1/4, 1/8 and 1/32 are enlarged with pixels' borders in line."""
    net = random_edgepoint
    with torch.inference_mode():
        grey = net.normalise(torch.rand(1, 1, 64, 96))
        x1 = net.block1(grey)
        x2 = net.block2(F.avg_pool2d(x1, 4))
        x3 = net.block3(F.avg_pool2d(x2, 4))

        def at(level, rows, columns):
            return F.interpolate(level, (rows, columns), mode="bilinear", align_corners=False)

        quarter = [F.avg_pool2d(x1, 2), at(x2, 16, 24), at(x3, 16, 24)]
        half = [net.conv1(x1), net.conv2(at(x2, 32, 48)), net.conv3(at(x3, 32, 48))]
        scores = net.score_head(torch.stack(half).sum(dim=0))
        found = net.maps(grey)
        torch.testing.assert_close(found.descriptors, net.desc_head(torch.cat(quarter, dim=1)))
        for row in range(2):
            for column in range(2):
                torch.testing.assert_close(
                    found.scores[0, 0, row::2, column::2],
                    scores[0, 2 * row + column],
                    rtol=0,
                    atol=1e-4,
                )


def test_brightness_and_contrast_do_not_matter(random_edgepoint):
    image = torch.rand(1, 1, 32, 64)
    assert_alike(random_edgepoint, image, 100 + 255 * image, 1e-3)


def test_images_of_a_batch_do_not_meet(random_edgepoint):
    assert_apart(random_edgepoint, torch.rand(3, 1, 32, 64))


def test_exception_other_weights(random_net, tmp_path):
    torch.save(random_net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(BundleError, match="not the weights of EdgePoint2"):
        load_official(tmp_path / "w.pth")
