"""Running the steps of a model with PyTorch: the backend for GPUs, beside ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn


class TorchGraph:
    """One module, called as `OnnxGraph` calls a graph."""

    def __init__(self, module: nn.Module, outputs: Sequence[str], device: str = "cpu") -> None:
        """module: takes its inputs by name and returns a tuple of tensors, one for each of
        `outputs`. device: where it is moved to and run."""
        self._module, self._outputs = module.eval().to(device), tuple(outputs)
        self._device = device

    def __call__(self, outputs: Sequence[str], **inputs: Any) -> list[NDArray[Any]]:
        """Run with named inputs; returns the named outputs in their order."""
        return [tensor.cpu().numpy() for tensor in self.on_device(outputs, **inputs)]

    @torch.inference_mode()
    def on_device(self, outputs: Sequence[str], **inputs: Any) -> list[Any]:
        """The same as tensors; see `Graph`."""
        tensors = {k: torch.as_tensor(v).to(self._device) for k, v in inputs.items()}
        results = dict(zip(self._outputs, self._module(**tensors), strict=True))
        return [results[name] for name in outputs]
