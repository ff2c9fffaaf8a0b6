"""Pictures as networks take them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_input(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) of 0..255 -> [B, 3, H, W] of 0..1, on the device."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
