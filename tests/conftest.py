"""Fixtures of the core's tests: folders, networks, bundles and pictures made by code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import as_bundle, seeded, stir_norms
from helpers.textures import draw_texture
from helpers.warps import warp_picture, warp_points

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden outputs and published weights beside the repository."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"{SHARED} is not there: golden outputs and published weights are needed")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def no_models_of_the_user(tmp_path_factory):
    """What whoever runs the tests has installed changes no answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVIS_HOME", str(tmp_path_factory.mktemp("nothing-installed")))
        yield


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
    torch = seeded(3)
    from covis.nets.xfeat import XFeat

    generator = torch.Generator().manual_seed(3)
    net = XFeat().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(size, generator=generator) * 0.5 + 0.1)
    return net


@pytest.fixture(scope="session")
def random_aliked():
    """A small ALIKED with random weights, batch-norm statistics far from 0 and 1, wide offsets."""
    seeded(5)
    from covis.nets.aliked import ALIKED, DeformableConv

    net = stir_norms(ALIKED((4, 4, 8, 8), 16, positions=4).eval(), 0.3, 0.1, 0.6)
    for module in net.modules():
        if isinstance(module, DeformableConv):
            module.offset_conv.weight.data *= 5
    net.desc_head.offset_conv[2].weight.data *= 20
    net.score_head[6].weight.data *= 20
    return net


@pytest.fixture(scope="session")
def random_disk():
    """DISK with random weights."""
    seeded(9)
    from covis.nets.disk import DISK

    return DISK().eval()


@pytest.fixture(scope="session")
def random_edgepoint():
    """A small EdgePoint2 with random weights and batch-norm statistics far from 0 and 1."""
    torch = seeded(7)
    from covis.nets.edgepoint import EdgePoint, Sizes

    net = stir_norms(EdgePoint(Sizes(4, 8, 16, 24, 32, 4)).eval(), 0.3, 0.1, 0.6)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    net.score_head[4].weight.data *= 10
    return net


@pytest.fixture(scope="session")
def random_superpoint():
    """SuperPoint with random weights that find something everywhere."""
    torch = seeded(6)
    from covis.nets.superpoint import SuperPoint

    net = SuperPoint().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return net


def bundle_of(net, kind, name):
    """A fixture: the network of another one as a bundle in the folder of `models`."""

    @pytest.fixture(scope="session")
    def bundle(request, models):
        return as_bundle(kind, request.getfixturevalue(net), models / name)

    return bundle


random_bundle = bundle_of("random_net", "xfeat", "random")
edgepoint_bundle = bundle_of("random_edgepoint", "edgepoint", "edgepoint")
aliked_bundle = bundle_of("random_aliked", "aliked", "aliked")
disk_bundle = bundle_of("random_disk", "disk", "disk")
superpoint_bundle = bundle_of("random_superpoint", "superpoint", "superpoint")


@pytest.fixture(scope="session")
def delg_bundle(random_net, models):
    """DELG on `random_net` as a bundle in the folder of `models`."""
    pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")
    seeded(7)
    from covis.export.delg import export_delg
    from covis.nets.delg import light_delg

    delg = light_delg(random_net).eval()
    return export_delg(delg, models / "delg", name="delg", licence="-", source="-")


@pytest.fixture(scope="session")
def texture():
    """(480, 640, 3) uint8 with detail at every scale."""
    return draw_texture(480, 640)


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
