"""DELG: one network for global and local features (Cao et al., ECCV 2020, arXiv 2001.05027).

The backbone gives a shallow map S and a deep one D. D makes the global descriptor, S the local
ones; what the local branch learns never reaches the backbone (section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import BundleError
from covis.nets.weights import load_strictly, read_state_dict
from covis.nets.xfeat import XFeat, XFeatOutput

GEM_POWER = 3.0
LOCAL_DIMENSION, ATTENTION_CHANNELS = 128, 512
RESNET_DIMENSION = 2048
LIGHT_DIMENSION, LIGHT_LOCAL, LIGHT_ATTENTION = 256, 32, 128
DIRECTIONS = 32
"""Channels of D on XFeat."""
ROOT_ROUNDS, ROOT_FLOOR = 8, 1e-4
RESNETS = {"resnet50": "microsoft/resnet-50", "resnet101": "microsoft/resnet-101"}
"""And where `transformers` finds their ImageNet weights."""
IMAGE_MEAN, IMAGE_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Maps(NamedTuple):
    """A backbone's two maps: shallow S [B, C, h, w] and deep D [B, C', h', w']."""

    shallow: Tensor
    deep: Tensor


class DelgOutput(NamedTuple):
    """What DELG gives for images.

    global_descriptor: [B, G], unit length.
    local: [B, L, h, w], local descriptors with signs, not normalised.
    attention: [B, 1, h, w], above 0, how much a place tells.
    shallow, reconstruction: [B, C, h, w], S without its gradient and S', for the losses.
    """

    global_descriptor: Tensor
    local: Tensor
    attention: Tensor
    shallow: Tensor
    reconstruction: Tensor


class ReceptiveField(NamedTuple):
    """Where the cells of a map look, in pixels of the input, alike for x and y.

    Cell i sees start + i * stride up to that plus size; pixel 0 reaches from 0 to 1, so that
    the middle of what the cell sees is start + i * stride + size / 2, and its centre is 0.5.
    """

    size: int = 1
    stride: int = 1
    start: int = 0

    def then(self, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> ReceptiveField:
        """The field of what `layer` gives on a map with this field."""
        sizes: tuple[Any, ...] = layer.kernel_size, layer.stride, layer.padding
        kernel, stride, padding = (v if isinstance(v, int) else int(v[0]) for v in sizes)
        return ReceptiveField(
            self.size + (kernel - 1) * self.stride,
            self.stride * stride,
            self.start - padding * self.stride,
        )

    @staticmethod
    def through(modules: Iterable[nn.Module]) -> ReceptiveField:
        """The field after every convolution and pooling in `modules`, which follow each other."""
        field = ReceptiveField()
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                    field = field.then(layer)
        return field


def gem(maps: Tensor, power: float = GEM_POWER) -> Tensor:
    """Generalised mean over the places of maps that are not negative: [B, C, h, w] -> [B, C]."""
    return maps.clamp(min=1e-6).pow(power).mean(dim=(2, 3)).pow(1 / power)


def root_moment(maps: Tensor, rounds: int = ROOT_ROUNDS) -> Tensor:
    """The square root of the second moment of maps over their places: [B, C, h, w] -> [B, T].

    The T = C (C + 1) / 2 numbers are the upper triangle row by row, what stands off the diagonal
    times sqrt(2), so that inner products are those of the whole matrices. The moment is scaled
    to a trace of 1; the root comes from Newton-Schulz iterations (Li et al., CVPR 2018), which
    need nothing but products. In it, directions that many places share count for less.
    """
    rows = maps.flatten(2)
    channels = rows.shape[1]
    eye = torch.eye(channels, dtype=maps.dtype, device=maps.device)
    moment = rows @ rows.transpose(1, 2)
    trace = (moment * eye).sum(dim=(1, 2), keepdim=True)
    root, inverse = moment / (trace + 1e-12) + ROOT_FLOOR * eye, eye.expand_as(moment)
    for _ in range(rounds):
        step = 1.5 * eye - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    i, j = torch.triu_indices(channels, channels, device=maps.device)
    weights = torch.where(i == j, 1.0, math.sqrt(2)).to(maps)
    return root.flatten(1)[:, i * channels + j] * weights


class GlobalHead(nn.Module):
    """Pooling and a "whitening" layer: D [B, C, h, w] -> [B, G], unit length (3.1)."""

    def __init__(self, pooled: int, dimension: int, pool: Callable[[Tensor], Tensor] = gem) -> None:
        """pool: D -> [B, pooled]; GeM as published, or `root_moment`."""
        super().__init__()
        self.whiten = nn.Linear(pooled, dimension)
        self.pool = pool

    def forward(self, deep: Tensor) -> Tensor:
        return self.describe(self.pool(deep))

    def describe(self, pooled: Tensor) -> Tensor:
        """[B, pooled] -> [B, G], unit length."""
        return F.normalize(self.whiten(pooled), dim=1)


class Attention(nn.Module):
    """S' [B, C, h, w] -> [B, 1, h, w], above 0 (3.2)."""

    def __init__(self, channels: int, hidden: int = ATTENTION_CHANNELS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, reconstruction: Tensor) -> Tensor:
        return F.softplus(self.layers(reconstruction))


class ResNetBackbone(nn.Module):
    """A ResNet of Hugging Face `transformers`; S is conv4's output, D conv5's.

    multiple: what the sides of its input must be multiples of.
    """

    grey = False
    multiple = 1
    mean: Tensor
    deviation: Tensor

    def __init__(self, net: Any) -> None:
        """net: a `ResNetModel`."""
        super().__init__()
        self.net = net
        *_, shallow, deep = net.config.hidden_sizes
        self.channels: tuple[int, int] = shallow, deep
        for name, values in (("mean", IMAGE_MEAN), ("deviation", IMAGE_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Maps:
        """[B, 3, H, W], RGB in 0..1 -> S at 1/16 and D at 1/32, rounded up."""
        found = self.net((image - self.mean) / self.deviation, output_hidden_states=True)
        return Maps(*found.hidden_states[-2:])

    def receptive_field(self) -> ReceptiveField:
        """Of S, along the longest path: the shortcuts see the middle of it."""
        *before, _ = self.net.encoder.stages
        blocks = [block.layer for stage in before for block in stage.layers]
        return ReceptiveField.through([self.net.embedder, *blocks])


class Deepen(nn.Module):
    """XFeat's features as D: in fewer directions, longer where a reliable keypoint is likely."""

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(64, directions, 1, bias=False)

    def forward(self, output: XFeatOutput) -> Tensor:
        """XFeat's maps -> [B, C, H/8, W/8]."""
        none = output.keypoint_logits.softmax(dim=1)[:, -1:]
        return self.weighed(output.features, none, output.reliability)

    def weighed(self, features: Tensor, none: Tensor, reliability: Tensor) -> Tensor:
        """The same. none: [B, 1, H/8, W/8], how probably a cell has no keypoint."""
        weight = (1 - none) * reliability
        return self.reduce(F.normalize(features, dim=1) * weight.sqrt())


class XFeatBackbone(nn.Module):
    """XFeat as it is, frozen, so that its features stay what they are.

    S is its map at 1/16. Its map at 1/32, which would be D, tells photos apart less well than
    its features do: D is `Deepen`'s.
    """

    grey = True
    multiple = 32

    def __init__(self, net: XFeat, directions: int = DIRECTIONS) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.deepen = Deepen(directions)
        self.channels = 64, directions

    def train(self, mode: bool = True) -> XFeatBackbone:
        """The network that is frozen keeps its norms' statistics."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, image: Tensor) -> Maps:
        """[B, C, H, W], sides multiples of 32 -> S at 1/16 and D at 1/8."""
        with torch.no_grad():
            grey = self.net.normalise(image)
            pyramid = self.net.pyramid(grey)
            output = self.net.heads(grey, self.net.fuse(pyramid))
        return Maps(pyramid[1], self.deepen(output))

    def receptive_field(self) -> ReceptiveField:
        """Of S, along the convolutions; `skip1` sees less."""
        net = self.net
        return ReceptiveField.through([net.block1, net.block2, net.block3, net.block4])


class Delg(nn.Module):
    """The whole of DELG on a backbone (figure 2)."""

    def __init__(
        self,
        backbone: ResNetBackbone | XFeatBackbone,
        dimension: int,
        local_dimension: int = LOCAL_DIMENSION,
        attention_channels: int = ATTENTION_CHANNELS,
    ) -> None:
        super().__init__()
        shallow, deep = backbone.channels
        self.backbone = backbone
        self.head = (
            GlobalHead(deep * (deep + 1) // 2, dimension, root_moment)
            if isinstance(backbone, XFeatBackbone)
            else GlobalHead(deep, dimension)
        )
        self.encode = nn.Conv2d(shallow, local_dimension, 1)
        self.decode = nn.Conv2d(local_dimension, shallow, 1)
        self.attention = Attention(shallow, attention_channels)

    @property
    def dimension(self) -> int:
        """Numbers in a global descriptor."""
        return self.head.whiten.out_features

    def forward(self, image: Tensor) -> DelgOutput:
        """What the backbone takes, [B, C, H, W] in 0..1 -> everything."""
        return self.heads(self.backbone(image))

    def heads(self, maps: Maps) -> DelgOutput:
        """Both branches on the backbone's maps."""
        shallow = maps.shallow.detach()
        local = self.encode(shallow)
        reconstruction = F.relu(self.decode(local))
        return DelgOutput(
            self.head(maps.deep), local, self.attention(reconstruction), shallow, reconstruction
        )

    def learnt_state(self) -> dict[str, Tensor]:
        """The state dict without the XFeat that is frozen."""
        return {k: v for k, v in self.state_dict().items() if not self._is_frozen(k)}

    def load_learnt(self, path: str | Path) -> None:
        """Read what `learnt_state` gave. Raises BundleError when the file does not fit."""
        frozen = {k: v for k, v in self.state_dict().items() if self._is_frozen(k)}
        load_strictly(self, frozen | read_state_dict(path), path)

    def _is_frozen(self, name: str) -> bool:
        return isinstance(self.backbone, XFeatBackbone) and name.startswith("backbone.net.")


def light_delg(net: XFeat) -> Delg:
    """DELG on an XFeat, with random weights of its own."""
    return Delg(XFeatBackbone(net), LIGHT_DIMENSION, LIGHT_LOCAL, LIGHT_ATTENTION)


def load_resnet(kind: str, start: str | Path | None = None) -> ResNetBackbone:
    """A ResNet of `RESNETS`.

    start: a folder that `transformers` wrote or a name it knows, "random", or None for the
    weights learnt on ImageNet.

    Raises BundleError when those weights cannot be had or are not of this network, or
    `transformers` is missing.
    """
    try:
        from transformers import ResNetConfig, ResNetModel
    except ImportError:
        raise BundleError(
            f"{kind} needs the package transformers: python -m pip install transformers"
        ) from None

    depths = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}[kind]
    if str(start) == "random":
        return ResNetBackbone(ResNetModel(ResNetConfig(depths=depths)))
    where = str(start or RESNETS[kind])
    try:
        net = ResNetModel.from_pretrained(where)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(
            f"{where}: no ResNet to start from ({reason}). Give a folder that holds one in the "
            "format of Hugging Face transformers, or 'random'."
        ) from None
    if list(net.config.depths or ()) != depths:
        raise BundleError(f"{where}: its depths are {net.config.depths}, not those of {kind}.")
    return ResNetBackbone(net)
