"""SuperPoint (DeTone et al., CVPR workshops 2018, arXiv 1712.07629), the architecture alone.

Module names are the official ones, so published state dicts load unchanged. The published
weights are Magic Leap's, for non-commercial research only; none are in this project.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from covis.nets.weights import load_strictly, read_network

STRIDE = 8
"""Pixels an output cell covers, each way."""


class SuperPoint(nn.Module):
    """A VGG-like encoder with two heads (section 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(1, 64, 3, padding=1)
        self.conv1b = nn.Conv2d(64, 64, 3, padding=1)
        self.conv2a = nn.Conv2d(64, 64, 3, padding=1)
        self.conv2b = nn.Conv2d(64, 64, 3, padding=1)
        self.conv3a = nn.Conv2d(64, 128, 3, padding=1)
        self.conv3b = nn.Conv2d(128, 128, 3, padding=1)
        self.conv4a = nn.Conv2d(128, 128, 3, padding=1)
        self.conv4b = nn.Conv2d(128, 128, 3, padding=1)
        self.convPa = nn.Conv2d(128, 256, 3, padding=1)
        self.convPb = nn.Conv2d(256, STRIDE**2 + 1, 1)
        self.convDa = nn.Conv2d(128, 256, 3, padding=1)
        self.convDb = nn.Conv2d(256, 256, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Grey in 0..1, [B, 1, H, W], 8 pixels each way or more -> scores and descriptors.

        scores: [B, 8 h, 8 w] with h = H // 8, w = W // 8, each pixel's probability of being a
        keypoint; the image's last H % 8 rows and W % 8 columns have none.
        descriptors: [B, 256, h, w], unit length.
        """
        x = F.relu(self.conv1b(F.relu(self.conv1a(image))))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv2b(F.relu(self.conv2a(x))))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv3b(F.relu(self.conv3a(x))))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv4b(F.relu(self.conv4a(x))))
        cells = self.convPb(F.relu(self.convPa(x))).softmax(dim=1)[:, :-1]
        descriptors = self.convDb(F.relu(self.convDa(x)))
        return F.pixel_shuffle(cells, STRIDE).squeeze(1), F.normalize(descriptors, dim=1)


def load_official(path: str | Path) -> SuperPoint:
    """SuperPoint with published weights, in evaluation mode.

    path: a state dict with the official names (superpoint_v1.pth), as .safetensors, .pt or .pth.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    net = SuperPoint()
    load_strictly(net, read_network(path, "superpoint"), path)
    return net.eval()
