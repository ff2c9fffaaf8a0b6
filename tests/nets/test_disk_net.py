"""DISK's network: what is computed late is what the whole network computes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")

import torch.nn.functional as F  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.nets.disk import DISK, load_official  # noqa: E402
from covis.nets.weights import architectures_in  # noqa: E402


def test_published_number_of_parameters():
    assert sum(p.numel() for p in DISK().parameters()) == 1_092_369


@pytest.mark.parametrize("size", [(16, 32), (48, 32)])
def test_scores_and_descriptors_are_those_of_the_whole_network(random_disk, size):
    height, width = size
    image = torch.rand(2, 3, height, width)
    with torch.inference_mode():
        scores, descriptors = random_disk(image)
        features = random_disk.features(image)
        assert features.shape == (2, 80, height, width)
        torch.testing.assert_close(random_disk.scores(features), scores, rtol=0, atol=1e-4)
        # The corners see what lies outside.
        corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
        inside = torch.randint(0, min(size), (30, 2)).tolist()
        keypoints = torch.tensor(corners + inside)
        found = random_disk.describe(features[0].permute(1, 2, 0), keypoints)
        expected = descriptors[0, :, keypoints[:, 1], keypoints[:, 0]].T
        torch.testing.assert_close(found, F.normalize(expected, dim=1), rtol=0, atol=1e-5)


def test_a_published_file_holds_the_extractor_among_others(random_disk, tmp_path):
    path = tmp_path / "disk-depth.pth"
    torch.save({"extractor": random_disk.state_dict()}, path)
    assert architectures_in(path) == ["disk"]
    read = load_official(path).state_dict()
    for name, value in random_disk.state_dict().items():
        assert torch.equal(read[name], value)


def test_exception_for_other_weights(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"unet.path_down.0.1.3.weight": torch.zeros(1)}, path)
    with pytest.raises(BundleError, match="not the weights of DISK"):
        load_official(path)
