"""The one graph that no model owns: the matrix product behind nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from covis.export.onnx_graph import OPSET


def write_product(path: Path) -> None:
    """Write the graph x [N, D], columns [D, M] -> product [N, M] to `path`."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "columns"], ["product"])],
        "product",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "D"]),
            helper.make_tensor_value_info("columns", TensorProto.FLOAT, ["D", "M"]),
        ],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["N", "M"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    write_product(Path(__file__).parent.parent / "matching" / "matrix_product.onnx")
