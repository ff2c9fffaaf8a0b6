"""PyTorch module -> ONNX file, and back to its weights."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

OPSET = 18


def write_graph(
    module: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Any],
    path: Path,
    half: bool,
    defaults: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Trace `module` on the named example inputs and write it to `path`.

    dynamic: the `torch.export` dimensions that may change, by input. half: store weights as
    float16; they are turned back when the graph is loaded, and computed with as float32.
    defaults: of inputs that may be left out, by name.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The exporter reports at length that torchvision is absent, which nothing here uses.
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(
                module.eval(),
                kwargs=dict(example),
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=dict(dynamic),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
            )
        finally:
            logging.disable(logging.NOTSET)
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    _drop_zero_biases(model)
    for name, values in (defaults or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    if half:
        store_half(model)
    onnx.save(model, path)


def _drop_zero_biases(model: onnx.ModelProto) -> None:
    """Take away the biases of 0 that the exporter computes for convolutions without any: with them
    ONNX Runtime neither folds batch norms into these nor lays them out as it is fastest."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    fixed = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            name = node.input[2]
            while name in made and made[name].op_type in ("Expand", "CastLike", "Cast"):
                name = made[name].input[0]
            if name in made and made[name].op_type == "Constant":
                fixed[name] = numpy_helper.to_array(made[name].attribute[0].t)
            if name != node.input[2] and name in fixed and not fixed[name].any():
                del node.input[2]
    kept, needed = [], {each.name for each in graph.output}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def store_half(model: onnx.ModelProto, least_rank: int = 1) -> None:
    """Keep large float32 weights as float16, with a cast behind each; those of `least_rank`."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 64 and values.ndim >= least_rank:
            name = tensor.name
            stored = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
            tensor.CopyFrom(stored)
            casts.append(
                onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
            )
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The float weights of a graph by the names they had in the module, as float32."""
    model = onnx.load(path)
    inputs = {each.name for each in model.graph.input}
    return {
        tensor.name.removesuffix(".half"): numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        and tensor.name not in inputs
    }
