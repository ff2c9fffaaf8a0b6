"""PyTorch's tensors as pictures, without importing PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3, 4)


def from_tensor(source: Any) -> NDArray[Any] | None:
    """A tensor of PyTorch's as an array (H, W) or (H, W, C); None for anything else.

    source: (C, H, W), as PyTorch has pictures, (H, W, C) or (H, W), on any device.
    """
    if type(source).__module__.partition(".")[0] != "torch" or not hasattr(source, "detach"):
        return None
    here = source.detach().cpu()
    array: NDArray[Any] = (here.float() if here.is_floating_point() else here).numpy()
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        array = np.ascontiguousarray(np.moveaxis(array, 0, 2))
    return array
