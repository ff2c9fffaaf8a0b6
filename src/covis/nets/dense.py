"""Backbones of dense features, all called alike: XFeat, DINOv2 and ViTs of Hugging Face
`transformers`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covis.errors import ArgumentError, BundleError
from covis.nets.delg import IMAGE_DEVIATION, IMAGE_MEAN
from covis.nets.lift import FeatureKind, LiFT, pad_to, whole_cells
from covis.nets.xfeat import SIZE_MULTIPLE, STRIDE, XFeat

Facet = Literal["key", "query", "value", "token"]
FACETS: tuple[Facet, ...] = get_args(Facet)
PROJECTIONS: dict[Facet, tuple[str, ...]] = {
    "key": ("k_proj", "key"),
    "query": ("q_proj", "query"),
    "value": ("v_proj", "value"),
}
"""What the releases of `transformers` call the layers that make them."""


class XFeatMap(nn.Module):
    """XFeat's descriptors, centred, unit length: one cell every 8 pixels, 64 channels.

    Centred: the mean over the image is taken off. All cells have a large part in common, which
    says nothing about the place.
    """

    multiple = SIZE_MULTIPLE
    """Sides of the image are multiples of this."""

    def __init__(self, net: XFeat, name: str) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        blocks = net.block1, net.block2, net.block3, net.block4, net.block5
        described = nn.ModuleList([net.skip1, *blocks, net.block_fusion])
        self.kind = FeatureKind(
            name,
            fingerprint(described),
            0,
            "centred map",
            64,
            STRIDE,
            unit=True,
            older=older_fingerprint(described),
        )

    def normalise(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> the same, so that its grey is what XFeat sees of it."""
        grey = image.mean(dim=1, keepdim=True)
        mean = grey.mean(dim=(2, 3), keepdim=True)
        variance = (grey - mean).square().mean(dim=(2, 3), keepdim=True)
        return (image - mean) / (variance + 1e-5).sqrt()

    def forward(self, image: Tensor) -> Tensor:
        """What `normalise` gave, [B, 3, H, W] -> [B, 64, H/8, W/8]."""
        grey = image.mean(dim=1, keepdim=True)
        features = F.normalize(self.net.fuse(self.net.pyramid(grey)), dim=1)
        return F.normalize(features - features.mean(dim=(2, 3), keepdim=True), dim=1)


class VisionTransformer(nn.Module):
    """One facet of one layer of a ViT: all heads side by side, special tokens dropped.

    Keys, queries and values are what the layer's projections give, before DINOv3 turns them by
    their positions; tokens are what the layer gives, before the network's last norm. Learnt
    position embeddings are interpolated to the image's size (bicubic); DINOv3's are computed
    for it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        net: Any,
        name: str,
        layer: int | None = None,
        facet: Facet = "key",
        mean: tuple[float, ...] = IMAGE_MEAN,
        deviation: tuple[float, ...] = IMAGE_DEVIATION,
    ) -> None:
        """net: a `DINOv2` of `covis.nets.dinov2`, or of transformers a `ViTModel`, `Dinov2Model`,
        `Dinov2WithRegistersModel` or `DINOv3ViTModel`; the layers behind the one asked for are cut
        off. layer: from 0; the last by default, from whose end negative ones count.

        Raises ArgumentError for a layer or facet there is not, BundleError for a network that is
        no ViT.
        """
        super().__init__()
        layers = _layers(net, name)
        count = len(layers)
        layer = count - 1 if layer is None else layer
        if not -count <= layer < count:
            raise ArgumentError(f"{name} has layers 0 to {count - 1}, none {layer}.")
        if facet not in FACETS:
            raise ArgumentError(f"'{facet}' is no facet; there are: {', '.join(FACETS)}.")
        layer %= count
        del layers[layer + 1 :]
        if getattr(net, "pooler", None) is not None:
            net.pooler = None
        self.net = net.requires_grad_(False).eval().float()
        self.multiple = _side(net.config.patch_size)
        self.facet = facet
        self._layer = layers[layer]
        self._last = self._layer if facet == "token" else _projection(self._layer, facet, name)
        for what, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(what, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.kind = FeatureKind(
            name,
            fingerprint(net),
            layer,
            facet,
            net.config.hidden_size,
            self.multiple,
            older=older_fingerprint(net),
        )

    def normalise(self, image: Tensor) -> Tensor:
        """[B, 3, H, W], RGB in 0..1 -> as the network was trained to see it."""
        return (image - self.mean) / self.deviation

    def forward(self, image: Tensor) -> Tensor:
        """What `normalise` gave, [B, 3, H, W] -> [B, C, H / patch, W / patch]."""
        found: list[Tensor] = []

        def take(module: nn.Module, inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        resized = {"interpolate_pos_encoding": True} if self.net.config.model_type == "vit" else {}
        with self._last.register_forward_hook(take):
            self.net(image, **resized)
        rows, columns = (side // self.multiple for side in image.shape[-2:])
        patches = found[0][:, -rows * columns :]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))


Backbone = XFeatMap | VisionTransformer


def describe(backbone: Backbone, image: Tensor, lift: LiFT | None = None, times: int = 0) -> Tensor:
    """Dense features of any image [B, 3, H, W], RGB in 0..1 -> [B, C, 2^times H / patch, ...].

    Cells are counted rounded up: the image is padded to what the network takes by repeating its
    last row and column, and what lies beyond it is cropped from the result. Cell (row, column)
    describes the place ((column + 0.5) s, (row + 0.5) s), s = patch / 2^times, where the centre
    of the top-left pixel is (0.5, 0.5).

    Raises BundleError when `lift` was trained on other features.
    """
    rows, columns = (-(-side // backbone.multiple) * backbone.multiple for side in image.shape[-2:])
    padded = backbone.normalise(pad_to(image, rows, columns))
    features = backbone(padded)
    if times:
        if lift is None:
            raise ArgumentError("there is no LiFT to lift these features with.")
        lift.check(backbone.kind)
        features = lift.lift(padded, features, times)
    rows, columns = whole_cells(image.shape[-2:], backbone.kind.patch, times)
    return features[..., :rows, :columns]


def fingerprint(net: nn.Module) -> str:
    """16 hexadecimal digits that tell these weights from others, whatever they are called: releases
    of `transformers` differ in that."""
    values = (value.detach().cpu().contiguous().numpy() for value in net.state_dict().values())
    digests = sorted(sha256(f"{v.shape}".encode() + v.tobytes()).digest() for v in values)
    return sha256(b"".join(digests)).hexdigest()[:16]


def older_fingerprint(net: nn.Module) -> str:
    """The same as files have it that were made before names were left out."""
    digest = sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_vit(
    source: str | Path, layer: int | None = None, facet: Facet = "key"
) -> VisionTransformer:
    """A ViT of Hugging Face `transformers`: DINO, DINOv2, DINOv3 or a supervised one.

    source: a folder that `transformers` wrote or a name it knows, such as facebook/dino-vits16.

    Raises BundleError when it cannot be had, is no ViT, or `transformers` is missing;
    ArgumentError for a layer or facet there is not.
    """
    try:
        from transformers import AutoModel
    except ImportError:
        raise BundleError(
            f"{source} needs the package transformers: python -m pip install transformers"
        ) from None
    where = str(source)
    if "/" not in where and not Path(where).is_dir():
        raise BundleError(
            f"{where}: no such folder. Give one in the format of Hugging Face transformers, or a "
            "name that it can download, with its owner, such as facebook/dino-vits16."
        )
    try:
        with _quiet(where):
            net, told = AutoModel.from_pretrained(where, output_loading_info=True)
        known = json.loads(_text_beside(where, "preprocessor_config.json") or "{}")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise BundleError(
            f"{where}: no ViT to be had there ({reason}). Give a folder in the format of Hugging "
            "Face transformers, or a name that it can download."
        ) from None
    absent = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))
    if absent:
        raise BundleError(f"{where}: its weights are not whole: {', '.join(absent[:3])} ...")
    name = Path(where).resolve().name if Path(where).is_dir() else where
    return VisionTransformer(
        net,
        name,
        layer,
        facet,
        tuple(known.get("image_mean", IMAGE_MEAN)),
        tuple(known.get("image_std", IMAGE_DEVIATION)),
    )


def licence_of(source: str | Path) -> str | None:
    """The terms that the model card of what `load_vit` loads names; None where it names none."""
    card = _text_beside(str(source), "README.md") or ""
    head = card.split("---")[1] if card.startswith("---") else ""
    found = dict(re.findall(r"^(license(?:_name)?):[ \t]*['\"]?([^'\"\n]+)", head, re.MULTILINE))
    return found.get("license_name", found.get("license"))


def _text_beside(where: str, file: str) -> str | None:
    """A file beside a network's weights; None where there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(where, file, _raise_exceptions_for_missing_entries=False)
    return None if path is None else Path(path).read_text("utf-8")


@contextmanager
def _quiet(where: str) -> Iterator[None]:
    """Without what `transformers` prints while it loads, except for the bars of downloads."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled() and Path(where).is_dir()
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _layers(net: Any, name: str) -> nn.ModuleList:
    """The blocks of a ViT, in their order."""
    count = getattr(net.config, "num_hidden_layers", None)
    for module in net.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise BundleError(f"{name}: a {type(net).__name__}, which is no ViT that covis knows.")


def _projection(layer: nn.Module, facet: Facet, name: str) -> nn.Module:
    for path, module in layer.named_modules():
        if path.rpartition(".")[2] in PROJECTIONS[facet]:
            return module
    raise BundleError(f"{name}: its layers have no projection to a {facet}.")


def _side(patch: Any) -> int:
    """Of a patch, which `transformers` gives as one number or as two."""
    return int(patch) if isinstance(patch, int) else int(patch[0])
