"""Any backbone and its LiFT under PyTorch, for the benchmarks of dense features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from covis.dense import DenseFeatures
from covis.evaluation.dense import Describe
from covis.nets.dense import Backbone, describe
from covis.nets.lift import LiFT
from covis.types import Image


@dataclass(frozen=True)
class TorchModel:
    """What `measure` takes as a model. Descriptors are brought to unit length after lifting.

    Raises ArgumentError when lifted features are asked for without a LiFT, BundleError when it was
    trained on other features.
    """

    backbone: Backbone
    lift: LiFT | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        return str(self.backbone.kind)

    def __call__(self, lifts: int) -> Describe:
        self.backbone.to(self.device)
        lift = None if self.lift is None else self.lift.to(self.device).eval()

        @torch.inference_mode()
        def features(image: Image) -> DenseFeatures:
            height, width = image.pixels.shape[:2]
            pixels = torch.from_numpy(image.pixels).to(self.device).permute(2, 0, 1)[None]
            found = describe(self.backbone, pixels.float() / 255, lift, lifts)[0]
            unit = torch.nn.functional.normalize(found.permute(1, 2, 0), dim=2)
            cell = self.backbone.kind.patch / 2**lifts
            return DenseFeatures(
                descriptors=np.ascontiguousarray(unit.cpu().numpy()),
                step=(cell * image.width / width, cell * image.height / height),
                width=image.width,
                height=image.height,
                model=self.name,
                doublings=lifts,
            )

        return features
