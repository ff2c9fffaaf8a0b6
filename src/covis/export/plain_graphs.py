"""The graphs that no model owns: the matrix product behind nearest neighbours, rows of a matrix.

    python -m covis.export.plain_graphs

writes both to where they are run from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from covis.export.onnx_graph import OPSET
from covis.runtime.devices import PROBE

Shapes = Mapping[str, tuple[int, Sequence[str]]]


def write_product(path: Path) -> None:
    """Write the graph x [N, D], columns [D, M] -> product [N, M] to `path`."""
    inputs: Shapes = {
        "x": (TensorProto.FLOAT, "ND"),
        "columns": (TensorProto.FLOAT, "DM"),
    }
    _write(path, "MatMul", inputs, {"product": (TensorProto.FLOAT, "NM")})


def write_rows(path: Path) -> None:
    """Write the graph x [N, D], index [K] -> rows [K, D] to `path`."""
    inputs: Shapes = {"x": (TensorProto.FLOAT, "ND"), "index": (TensorProto.INT64, "K")}
    _write(path, "Gather", inputs, {"rows": (TensorProto.FLOAT, "KD")})


def _write(path: Path, operator: str, inputs: Shapes, outputs: Shapes) -> None:
    """Write a graph of one operator."""
    given, made = (
        [helper.make_tensor_value_info(name, *shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    )
    node = helper.make_node(operator, list(inputs), list(outputs))
    graph = helper.make_graph([node], path.stem, given, made)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    write_product(Path(__file__).parent.parent / "matching" / "matrix_product.onnx")
    write_rows(PROBE)
