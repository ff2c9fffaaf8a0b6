"""ALIKED: deformable features (Zhao et al., IEEE TIM 2023, arXiv 2304.03608).

Module names are the official ones, so published state dicts load unchanged.

The paper's feature map, all levels brought to full size, joined and normalised, is never built:
the score head needs eight channels of it, the descriptors a few pixels a keypoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import BundleError
from covis.nets.weights import load_strictly, read_network

SIZE_MULTIPLE = 32
"""Height and width of the network's input are multiples of this."""

LEVELS = 4


class DeformableConv(nn.Module):
    """A 3x3 convolution whose nine taps move, without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(inputs, 2 * 9, 3, padding=1)
        self.regular_conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]. Nothing lies beyond the border.

        Taps go row by row; a tap's offset is (down, right), at most a quarter of the longer side.
        """
        height, width = x.shape[-2:]
        size = torch.tensor([height, width], dtype=x.dtype, device=x.device)
        limit = size.amax(dim=0) / 4
        offsets = self.offset_conv(x).minimum(limit).maximum(-limit).unflatten(1, (9, 2))
        steps = torch.arange(-1, 2, dtype=x.dtype, device=x.device)
        rows = torch.arange(height, dtype=x.dtype, device=x.device)
        columns = torch.arange(width, dtype=x.dtype, device=x.device)
        down = offsets[:, :, 0] + steps.repeat_interleave(3)[:, None, None] + rows[:, None]
        right = offsets[:, :, 1] + steps.repeat(3)[:, None, None] + columns
        grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], dim=-1)
        taken = F.grid_sample(x, grid.flatten(1, 2), align_corners=False)
        taps = taken.unflatten(2, (9, height)).flatten(1, 2)
        return F.conv2d(taps, self.regular_conv.weight.flatten(1)[..., None, None])


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and SELU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.selu(self.bn1(self.conv1(x)))
        return F.selu(self.bn2(self.conv2(x)))


class ResBlock(nn.Module):
    """The same beside a 1x1 convolution, to which it is added before the last SELU."""

    def __init__(self, inputs: int, outputs: int, deformable: bool) -> None:
        super().__init__()

        def conv(channels: int) -> nn.Module:
            if deformable:
                return DeformableConv(channels, outputs)
            return nn.Conv2d(channels, outputs, 3, padding=1, bias=False)

        self.conv1 = conv(inputs)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.selu(self.bn1(self.conv1(x)))
        return F.selu(self.bn2(self.conv2(y)) + self.downsample(x))


class DescriptorHead(nn.Module):
    """The sparse deformable descriptor head, SDDH."""

    def __init__(self, dim: int, kernel: int, positions: int) -> None:
        super().__init__()
        self.kernel, self.positions = kernel, positions
        self.offset_conv = nn.Sequential(
            nn.Conv2d(dim, 2 * positions, kernel),
            nn.SELU(),
            nn.Conv2d(2 * positions, 2 * positions, 1),
        )
        self.sf_conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.agg_weights = nn.Parameter(torch.randn(positions, dim, dim) * dim**-0.5)

    def offsets(self, patches: Tensor, limit: Tensor) -> Tensor:
        """[N, dim, kernel, kernel] around the keypoints -> [N, positions, 2], (x, y) pixels."""
        offsets = self.offset_conv(patches).minimum(limit).maximum(-limit)
        return offsets.flatten(1).unflatten(1, (2, self.positions)).mT

    def aggregate(self, features: Tensor) -> Tensor:
        """Features at the positions [N, positions, dim] -> unit descriptors [N, dim]."""
        mixed = F.selu(F.linear(features, self.sf_conv.weight.flatten(1)))
        return F.normalize(mixed.flatten(1) @ self.agg_weights.flatten(0, 1), dim=1)


class ALIKED(nn.Module):
    """The network, in two parts: maps of an image, then descriptors where keypoints are.

    The four maps are [B, dim / 4, H / s, W / s] with s = 1, 2, 8, 32. Their pixels are spread
    over the image corner to corner: the first and last rows and columns of all fall together.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        dim: int = 128,
        *,
        kernel: int = 3,
        positions: int = 16,
    ) -> None:
        """ALIKED-N(16) by default. channels: of the four blocks. dim: of the descriptors.

        kernel: the patch at a keypoint from which the offsets come. positions: that are sampled
        for a descriptor.
        """
        super().__init__()
        c1, c2, c3, c4 = channels
        self.dim = dim
        self.block1 = ConvBlock(3, c1)
        self.block2 = ResBlock(c1, c2, deformable=False)
        self.block3 = ResBlock(c2, c3, deformable=True)
        self.block4 = ResBlock(c3, c4, deformable=True)
        self.conv1 = nn.Conv2d(c1, dim // LEVELS, 1, bias=False)
        self.conv2 = nn.Conv2d(c2, dim // LEVELS, 1, bias=False)
        self.conv3 = nn.Conv2d(c3, dim // LEVELS, 1, bias=False)
        self.conv4 = nn.Conv2d(c4, dim // LEVELS, 1, bias=False)
        self.score_head = nn.Sequential(
            nn.Conv2d(dim, 8, 1, bias=False),
            nn.SELU(),
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 1, 3, padding=1, bias=False),
        )
        self.desc_head = DescriptorHead(dim, kernel, positions)

    def maps(self, image: Tensor) -> list[Tensor]:
        """RGB in 0..1, [B, 3, H, W], H and W multiples of 32 -> the four maps."""
        x1 = self.block1(image)
        x2 = self.block2(F.avg_pool2d(x1, 2))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        x4 = self.block4(F.avg_pool2d(x3, 4))
        levels = ((self.conv1, x1), (self.conv2, x2), (self.conv3, x3), (self.conv4, x4))
        return [F.selu(conv(x)) for conv, x in levels]

    def scores(self, maps: Sequence[Tensor]) -> Tensor:
        """The maps -> [B, H, W] in 0..1, how much each pixel is a keypoint.

        A 1x1 convolution of what is enlarged is the same as enlarging what it gives.
        """
        first, *rest = self.score_head
        assert isinstance(first, nn.Conv2d)
        size = maps[0].shape[-2:]
        small = [
            F.conv2d(x, weight)
            for x, weight in zip(maps, first.weight.chunk(LEVELS, dim=1), strict=True)
        ]
        x = small[0]
        for level in small[1:]:
            x = x + F.interpolate(level, size, mode="bilinear", align_corners=True)
        for module in rest:
            x = module(x)
        return x.squeeze(1).sigmoid()

    def describe(self, maps: Sequence[Tensor], keypoints: Tensor, box: Tensor) -> Tensor:
        """Unit descriptors [N, dim] at keypoints of one image.

        maps: its four, channels last: [H, W, dim / 4], ... keypoints: [N, 2], (x, y) with the
        centre of the top-left pixel at 0, inside the box. box: [4] int64, the part (left, top,
        width, height) of the network's input that is the image and not what it was padded with;
        keypoints are counted from its corner, and nothing lies beyond it.
        """
        corner, size = box[:2], box[2:]
        limit = size.amax(dim=0).to(keypoints.dtype) / 4
        pixels, lengths = self._pixels(maps, corner + self._patch_pixels(keypoints, size))
        patches = pixels / lengths
        side = self.desc_head.kernel
        offsets = self.desc_head.offsets(patches.mT.unflatten(2, (side, side)), limit)
        return self.desc_head.aggregate(
            self._sample(maps, keypoints[:, None] + offsets, corner, size)
        )

    def _patch_pixels(self, keypoints: Tensor, size: Tensor) -> Tensor:
        """[N, 2] -> [N, kernel * kernel, 2] int64, the pixels of the patch row by row.

        The published code shifts patches at the right and lower border one pixel further inside
        than they need be; so does this.
        """
        side = self.desc_head.kernel
        first = keypoints.long() - (side - 1) // 2
        first = first.minimum(size - 1 - side).maximum(torch.zeros_like(size))
        steps = torch.arange(side, device=keypoints.device)
        places = torch.stack([steps.repeat(side), steps.repeat_interleave(side)], dim=1)
        return first[:, None] + places

    def _sample(
        self, maps: Sequence[Tensor], points: Tensor, corner: Tensor, size: Tensor
    ) -> Tensor:
        """Features [N, P, dim] at points [N, P, 2] of the box, bilinear, 0 beyond it."""
        xy, weights = _corners(points)
        weights = weights * ((xy >= 0) & (xy < size)).all(dim=-1)
        xy = xy.minimum(size - 1).maximum(torch.zeros_like(size))
        pixels, lengths = self._pixels(maps, corner + xy)
        return (pixels * (weights[..., None] / lengths)).sum(dim=-2)

    def _pixels(self, maps: Sequence[Tensor], xy: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., dim] of pixels [..., 2] of the network's input, and lengths [..., 1]."""
        height, width = maps[0].shape[:2]
        x, y = xy.reshape(-1, 2).unbind(1)
        parts = [maps[0].flatten(0, 1).index_select(0, y * width + x)]
        for level in maps[1:]:
            rows, columns = level.shape[:2]
            down = y.to(level.dtype) * ((rows - 1) / (height - 1))
            right = x.to(level.dtype) * ((columns - 1) / (width - 1))
            near, weights = _corners(torch.stack([right, down], dim=1))
            # On the last row or column the next one has no weight.
            place = near[..., 1].clamp(max=rows - 1) * columns + near[..., 0].clamp(max=columns - 1)
            taken = level.flatten(0, 1).index_select(0, place.flatten()).unflatten(0, (-1, 4))
            parts.append((taken * weights[..., None]).sum(dim=1))
        joined = torch.cat(parts, dim=1).unflatten(0, xy.shape[:-1])
        return joined, torch.linalg.vector_norm(joined, dim=-1, keepdim=True).clamp(min=1e-12)


def _corners(points: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels [..., 4, 2] around points [..., 2], and their bilinear weights [..., 4]."""
    base = points.floor()
    across, down = (points - base).unbind(-1)
    steps = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=points.device)
    weights = [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down]
    return base.long()[..., None, :] + steps, torch.stack(weights, dim=-1)


def load_official(path: str | Path) -> ALIKED:
    """ALIKED with published weights, in evaluation mode; its sizes are the tensors'.

    path: a state dict with the official names, as .safetensors, .pt or .pth.

    Raises BundleError when the file is missing, unreadable or holds another network.
    """
    state = read_network(path, "aliked")
    try:
        channels = [state[f"block{i}.conv1.weight"].shape[0] for i in (1, 2)]
        channels += [state[f"block{i}.conv1.regular_conv.weight"].shape[0] for i in (3, 4)]
        positions, dim, _ = state["desc_head.agg_weights"].shape
        kernel = state["desc_head.offset_conv.0.weight"].shape[-1]
    except (KeyError, IndexError, ValueError):
        raise BundleError(f"{path}: not the weights of ALIKED.") from None
    net = ALIKED(channels, dim, kernel=kernel, positions=positions)
    load_strictly(net, state, path)
    return net.eval()
