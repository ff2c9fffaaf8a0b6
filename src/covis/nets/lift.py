"""LiFT: twice the resolution for a backbone's features (ECCV 2024, arXiv 2403.14625).

Module names are the official ones, so published state dicts load unchanged.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from covis.errors import ArgumentError, BundleError
from covis.nets.weights import load_strictly, read_state_dict

IMAGE_CHANNELS = 32
KIND = "covis.features"
"""The key of a .safetensors file's metadata that says which features a LiFT is for, and whether
it is residual."""


@dataclass(frozen=True)
class FeatureKind:
    """What features are. A LiFT serves one kind only.

    backbone: its name, for people. fingerprint: of the weights that make the features, which
    tells backbones apart; "" where it is not known, and then the name does.
    layer: counted from 0. facet: "key", "query", "value", "token", or "centred map"
    for XFeat. channels: C. patch: pixels a cell covers, each way.
    unit: whether descriptors have unit length; lifted ones are given it then.
    older: the fingerprint as files had it before, which hashed the weights' names as well.
    """

    backbone: str
    fingerprint: str
    layer: int
    facet: str
    channels: int
    patch: int
    unit: bool = False
    older: str = ""

    def __str__(self) -> str:
        return f"{self.backbone} (layer {self.layer}, {self.facet}, patch {self.patch})"

    def same_as(self, other: FeatureKind) -> bool:
        """Whether what serves one serves the other."""
        mine, theirs = ({kind.fingerprint, kind.older} - {""} for kind in (self, other))
        if mine and theirs:
            if not mine & theirs:
                return False
            other = replace(other, backbone=self.backbone)
        return self == replace(other, fingerprint=self.fingerprint, older=self.older)


def convolution(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> list[nn.Module]:
    """3x3, batch norm, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class DoubleConv(nn.Module):
    """Two 3x3 convolutions without bias, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            *convolution(inputs, outputs, bias=False), *convolution(outputs, outputs, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Up(nn.Module):
    """x [B, I, h, w] and skip [B, 32, 2h, 2w] -> [B, O, 2h, 2w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.conv_1 = DoubleConv(inputs // 2 + IMAGE_CHANNELS, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv_1(torch.cat([self.up(x), skip], dim=1))


class LiFT(nn.Module):
    """The module for one kind of features (section 3.1).

    It looks at the image at 8 pixels a cell where the patch is no larger, else at 16: images of
    backbones with another patch, such as DINOv2's 14, are resized to that.

    residual: what the network gives is added to the features enlarged bilinearly; not in the
    paper. The network has half as many channels inside as there are features. That costs 64
    features of XFeat a third of what ViTs, with 384, can spare.
    """

    def __init__(self, kind: FeatureKind, residual: bool = False) -> None:
        super().__init__()
        self.kind, self.residual = kind, residual
        self.cell = 8 if kind.patch <= 8 else 16
        """Pixels of the image for each cell of the features, each way."""
        pool: list[nn.Module] = [] if self.cell == 8 else [nn.MaxPool2d(2, 2)]
        self.image_convs_1 = nn.Sequential(
            *convolution(3, IMAGE_CHANNELS, 2),
            *convolution(IMAGE_CHANNELS, IMAGE_CHANNELS, 2),
            *pool,
        )
        self.image_convs_2 = nn.Sequential(*convolution(IMAGE_CHANNELS, IMAGE_CHANNELS, 2))
        self.up1 = Up(kind.channels + IMAGE_CHANNELS, kind.channels // 2)
        self.outc = nn.Conv2d(kind.channels // 2, kind.channels, 1)
        if residual:
            nn.init.zeros_(self.outc.weight)
            nn.init.zeros_(self.outc.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Features [B, C, h, w] and their image [B, 3, cell h, cell w] -> [B, C, 2h, 2w].

        The image is in the backbone's own normalisation.
        """
        lifted = self.given(image, features)
        if self.residual:
            lifted = lifted + enlarge(features)
        return F.normalize(lifted, dim=1) if self.kind.unit else lifted

    def given(self, image: Tensor, features: Tensor) -> Tensor:
        """What the network gives: the same, or of a residual one what it adds."""
        fine = self.image_convs_1(image)
        coarse = self.image_convs_2(fine)
        lifted: Tensor = self.outc(self.up1(torch.cat([features, coarse], dim=1), fine))
        return lifted

    def lift(self, image: Tensor, features: Tensor, times: int = 1) -> Tensor:
        """Features of any image, lifted `times` times; each doubles their resolution.

        image: [B, 3, H, W], in the backbone's own normalisation. features: [B, C, h, w] with
        h = H / patch, rounded up, and w alike. Returns [B, C, 2^times H / patch, ...], rounded
        up. The image is padded to whole cells and what lies beyond it is cropped from the
        result; after the first time the image is enlarged along with the features (section 3.3).

        Raises ArgumentError when the features are not of the image's size.
        """
        patch, sides = self.kind.patch, image.shape[-2:]
        cells = features.shape[-2:]
        if cells != whole_cells(sides, patch) or features.shape[1] != self.kind.channels:
            raise ArgumentError(
                f"features of shape {tuple(features.shape)} do not belong to an image of "
                f"{sides[1]}x{sides[0]}: {self.kind} gives {self.kind.channels} channels and "
                "a cell for each patch begun."
            )
        image = pad_to(image, patch * cells[0], patch * cells[1])
        for _ in range(times):
            rows, columns = features.shape[-2:]
            size = self.cell * rows, self.cell * columns
            if image.shape[-2:] != size:
                seen = F.interpolate(image, size, mode="bilinear", align_corners=False)
            else:
                seen = image
            features = self(seen, features)
        rows, columns = whole_cells(sides, patch, times)
        return features[..., :rows, :columns]

    def check(self, kind: FeatureKind) -> None:
        """Raises BundleError when this LiFT was not made for such features."""
        if not self.kind.same_as(kind):
            raise BundleError(
                f"this LiFT was trained on {self.kind} and serves nothing else, not {kind}. "
                "Take the backbone, layer and facet that it was trained on, or train another "
                "with 'covis train lift'."
            )


def enlarge(maps: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W], bilinear."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


def whole_cells(sides: torch.Size | tuple[int, ...], patch: int, times: int = 0) -> torch.Size:
    """How many cells an image's (H, W) begins, after features were lifted `times` times."""
    return torch.Size(ceil(2**times * side / patch) for side in sides)


def pad_to(image: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of [B, C, H, W] up to that size."""
    height, width = image.shape[-2:]
    if (height, width) == (rows, columns):
        return image
    return F.pad(image, (0, columns - width, 0, rows - height), mode="replicate")


def load_lift(path: str | Path, kind: FeatureKind | None = None) -> LiFT:
    """A LiFT with trained weights, in evaluation mode.

    path: a state dict with the official names, perhaps behind "module.", as .safetensors, .pt
    or .pth. kind: the features to lift. Files of this project say what they were trained on;
    official ones do not, and for them `kind` is believed.

    Raises BundleError when the file is missing, unreadable, holds another network or was
    trained on other features.
    """
    state = {k.removeprefix("module."): v for k, v in read_state_dict(path).items()}
    made_for, residual = _stored(Path(path))
    if made_for is None and kind is None:
        raise BundleError(
            f"{path}: does not say which features it was trained on. Give the backbone, layer "
            "and facet along with it."
        )
    net = LiFT(made_for or kind, residual)  # type: ignore[arg-type]
    load_strictly(net, state, path)
    if kind is not None:
        net.check(kind)
    return net.eval()


def metadata(net: LiFT) -> dict[str, str]:
    """What a .safetensors file says of a LiFT beside its weights."""
    return {KIND: json.dumps(asdict(net.kind) | {"residual": net.residual})}


def _stored(path: Path) -> tuple[FeatureKind | None, bool]:
    """Which features a .safetensors file says that it is for, None where it does not, and
    whether it is residual."""
    if path.suffix != ".safetensors":
        return None, False
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KIND)
        if text is None:
            return None, False
        said = json.loads(text)
        residual = bool(said.pop("residual", False))
        return FeatureKind(**said), residual
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise BundleError(f"{path}: what it says of its features is damaged ({error}).") from error
