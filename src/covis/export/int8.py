"""A graph whose convolutions compute with 8-bit integers, made of its float graph.

Weights have a scale per channel, activations no sign. Their ranges are what pictures give, the mean
over these: one outlier would make all steps coarser. On processors without instructions for such
products, where nobody takes it, sums of two may not fit into 16 bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from covis.export.onnx_graph import store_half


class _Given(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of a graph, one by one."""

    def __init__(self, inputs: Iterable[dict[str, NDArray[Any]]]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """See `CalibrationDataReader`."""
        return next(self._left, None)


def write_int8(
    source: Path,
    inputs: Iterable[dict[str, NDArray[Any]]],
    in_float: Callable[[str], bool],
    path: Path,
) -> None:
    """Write the graph at `source` to `path`, its convolutions in 8-bit integers.

    inputs: what it is run on to see the ranges of activations, by name. in_float: whether the
    convolution with a weight of this name stays as it is; it is "" for one that is computed.
    Weights that stay are stored as float16.
    """
    model = onnx.load(source)
    _store_single(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    left_out = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and in_float(node.input[1] if node.input[1] in weights else "")
    ]
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        quantize_static(
            model,
            path,
            _Given(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=left_out,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"CalibMovingAverage": True},
        )
    finally:
        logging.disable(logging.NOTSET)
        onnxruntime.set_default_logger_severity(2)  # What it is by default.
    made = onnx.load(path)
    del made.graph.value_info[:]
    del made.graph.metadata_props[:]
    store_half(made, least_rank=2)  # The scales of channels are no weights.
    onnx.save(made, path)


def _store_single(model: onnx.ModelProto) -> None:
    """Turn float16 weights, and the casts behind them, into float32 ones."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
            model.graph.node.remove(node)
