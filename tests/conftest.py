"""Fixtures of the core's tests: folders, networks, bundles and pictures made by code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden outputs and published weights beside the repository."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"{SHARED} is not there: golden outputs and published weights are needed")
    return SHARED


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder for the session's bundles; see `home`."""
    folder = tmp_path_factory.mktemp("home") / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def home(models, monkeypatch):
    """COVIS_HOME holds the session's bundles, so that they are found by name."""
    monkeypatch.setenv("COVIS_HOME", str(models.parent))
    return models.parent


@pytest.fixture(scope="session")
def random_net():
    """XFeat with random weights and batch-norm statistics far from 0 and 1."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    from covis.nets.xfeat import XFeat

    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    net = XFeat().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(size, generator=generator) * 0.5 + 0.1)
    return net


@pytest.fixture(scope="session")
def random_bundle(random_net, models):
    """`random_net` as a bundle in the folder of `models`."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.xfeat import export_xfeat

    return export_xfeat(random_net, models / "random", name="random", licence="-", source="-")


@pytest.fixture(scope="session")
def random_aliked():
    """A small ALIKED with random weights, batch-norm statistics far from 0 and 1, wide offsets."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    from covis.nets.aliked import ALIKED, DeformableConv

    torch.manual_seed(5)
    net = ALIKED((4, 4, 8, 8), 16, positions=4).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.1, 0.6)
        if isinstance(module, DeformableConv):
            module.offset_conv.weight.data *= 5
    net.desc_head.offset_conv[2].weight.data *= 20
    net.score_head[6].weight.data *= 20
    return net


@pytest.fixture(scope="session")
def aliked_bundle(random_aliked, models):
    """`random_aliked` as a bundle in the folder of `models`."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.aliked import export_aliked

    return export_aliked(random_aliked, models / "aliked", name="aliked", licence="-", source="-")


@pytest.fixture(scope="session")
def random_edgepoint():
    """A small EdgePoint2 with random weights and batch-norm statistics far from 0 and 1."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    from covis.nets.edgepoint import EdgePoint, Sizes

    torch.manual_seed(7)
    net = EdgePoint(Sizes(4, 8, 16, 24, 32, 4)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.1, 0.6)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    net.score_head[4].weight.data *= 10
    return net


@pytest.fixture(scope="session")
def edgepoint_bundle(random_edgepoint, models):
    """`random_edgepoint` as a bundle in the folder of `models`."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.edgepoint import export_edgepoint

    folder = models / "edgepoint"
    return export_edgepoint(random_edgepoint, folder, name="edgepoint", licence="-", source="-")


@pytest.fixture(scope="session")
def random_superpoint():
    """SuperPoint with random weights that find something everywhere."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    from covis.nets.superpoint import SuperPoint

    torch.manual_seed(6)
    net = SuperPoint().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return net


@pytest.fixture(scope="session")
def superpoint_bundle(random_superpoint, models):
    """`random_superpoint` as a bundle in the folder of `models`."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    from covis.export.superpoint import export_superpoint

    folder = models / "superpoint"
    return export_superpoint(random_superpoint, folder, name="superpoint", licence="-", source="-")


@pytest.fixture(scope="session")
def texture():
    """(480, 640, 3) uint8 with detail at every scale."""
    return draw_texture(480, 640)


def draw_texture(height: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cell in (4, 8, 16, 32, 64):
        noise = rng.random((height // cell + 2, width // cell + 2, 3), np.float32)
        large = cv2.resize(noise, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        picture += large[:height, :width] * cell**0.5
    low, high = np.percentile(picture, (1, 99))
    return np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def warp_points(matrix, points):
    """Pixels with the top-left one's centre at (0.5, 0.5), by a homography of such pixels."""
    return cv2.perspectiveTransform(points[:, None].astype(np.float64), matrix)[:, 0]


def warp_picture(picture, matrix, size):
    """The picture as the homography (of pixels with centres at .5) moves it; size (w, h)."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    whole = np.linalg.inv(half) @ matrix @ half
    return cv2.warpPerspective(picture, whole, size, flags=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def known_pair(texture):
    """Two views of one texture and the homography 1-from-0 between them."""
    matrix = np.array([[0.9, -0.15, 70.0], [0.12, 0.95, 10.0], [1e-4, -5e-5, 1.0]])
    return texture, warp_picture(texture, matrix, (600, 500)), matrix


@pytest.fixture(scope="session")
def warp():
    return warp_points


DESCRIBE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "safetensors", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from covis.dense import DenseExtractor
describe = DenseExtractor(sys.argv[1], lifts=int(sys.argv[2]))
print(*describe(np.zeros((40, 40, 3), np.uint8)).descriptors.shape)
"""


@pytest.fixture(scope="session")
def shape_without_pytorch():
    """Of a picture's dense features, in a process that cannot import PyTorch."""

    def shape(folder: Path, lifts: int) -> tuple[int, ...]:
        command = [sys.executable, "-c", DESCRIBE, str(folder), str(lifts)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return tuple(map(int, printed.split()))

    return shape
