"""ALIKED beside kornia's, and with the authors' weights on pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.detectors import plain_network

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

from covis import load_image  # noqa: E402
from covis.export.aliked import MAPS, DescribeGraph, DetectGraph  # noqa: E402
from covis.features.aliked import Aliked  # noqa: E402
from covis.nets.aliked import load_official  # noqa: E402
from covis.runtime.torch import TorchGraph  # noqa: E402


class DescribeOne(torch.nn.Module):
    """As a tuple, which `TorchGraph` takes apart."""

    def __init__(self, net):
        super().__init__()
        self.graph = DescribeGraph(net)

    def forward(self, **inputs):
        return (self.graph(**inputs),)


def extractor(path):
    """What runs a bundle, on the network itself."""
    net = load_official(path)
    return plain_network(
        Aliked,
        detect=TorchGraph(DetectGraph(net), ["scores", *MAPS]),
        describe=TorchGraph(DescribeOne(net), ["descriptors"]),
    )


def peer(name, state=None):
    """kornia's ALIKED of the same sizes."""
    kornia = pytest.importorskip("kornia.feature", reason="compares with kornia's ALIKED")
    if not hasattr(kornia, "ALIKED"):
        pytest.skip("this kornia has no ALIKED")
    torch.manual_seed(0)
    net = kornia.ALIKED(name, max_num_keypoints=4096).eval()
    if state is not None:
        net.load_state_dict(state, strict=False)
    return net


def assert_same(found, theirs):
    """Every keypoint of kornia's is among ours, half a pixel further right and down.

    The published suppression, which is ours, keeps more: see the note in kornia's docstring.
    """
    assert len(theirs.keypoints) > 40
    points = theirs.keypoints.numpy() + 0.5
    distances = np.linalg.norm(found.keypoints[None] - points[:, None], axis=2)
    nearest = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 2e-3
    assert len(points) <= len(found) < 1.3 * len(points)
    scores, vectors = found.scores[nearest], found.descriptors[nearest]
    np.testing.assert_allclose(scores, theirs.keypoint_scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(vectors, theirs.descriptors.numpy(), atol=1e-3)


@pytest.mark.parametrize("size", [(96, 160), (101, 150)])
@pytest.mark.parametrize("kind", ["t16", "n16", "n16rot"])
def test_published_weights_give_what_kornia_gives(shared, kind, size):
    path = shared / "weights" / "aliked" / f"aliked-{kind}.pth"
    net = peer(f"aliked-{kind}", torch.load(path, weights_only=True))
    picture = cv2.imread(str(shared / "golden" / "a.png"))[100:, 150:][: size[0], : size[1], ::-1]
    image = load_image(np.ascontiguousarray(picture))
    with torch.inference_mode():
        theirs = net(torch.from_numpy(image.pixels).permute(2, 0, 1)[None] / 255)[0]
    (found,) = extractor(path).sparse([image], 10**6, Aliked.THRESHOLD)
    assert_same(found, theirs)


def test_random_weights_give_what_kornia_gives(tmp_path):
    """Wide offsets, which reach beyond the border."""
    net = peer("aliked-t16")
    for name, value in net.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.2, 0.8)
    net.desc_head.offset_conv[2].weight.data *= 20
    state = {k: v for k, v in net.state_dict().items() if k != "dkd.hw_grid"}
    torch.save(state, tmp_path / "w.pth")
    ours = load_official(tmp_path / "w.pth")
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        _, scores = net.extract_dense_map(image)
        theirs = net(image)[0]
        maps = ours.maps(image)
        torch.testing.assert_close(ours.scores(maps), scores[:, 0], rtol=0, atol=1e-5)
        levels = [level[0].permute(1, 2, 0) for level in maps]
        box = torch.tensor([0, 0, 96, 64])
        found = ours.describe(levels, theirs.keypoints, box)
    assert len(found) > 20
    torch.testing.assert_close(found, theirs.descriptors, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["t16", "n16"])
def test_convention_a_white_square_is_found_at_a_corner(shared, kind):
    """In a picture that is padded: pixels 40 to 45 and 30 to 35 are white, so that its corners are
    (40, 30) to (46, 36) with the top-left pixel's centre at (0.5, 0.5)."""
    pixels = np.full((70, 90, 3), 30, np.uint8)
    pixels[30:36, 40:46] = 255
    found = extractor(shared / "weights" / "aliked" / f"aliked-{kind}.pth")
    (features,) = found.sparse([load_image(pixels)], 1, Aliked.THRESHOLD)
    corners = [[x, y] for x in (40, 46) for y in (30, 36)]
    assert np.linalg.norm(features.keypoints - corners, axis=1).min() < 0.65
