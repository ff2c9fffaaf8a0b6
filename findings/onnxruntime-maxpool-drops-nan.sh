#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: MaxPool drops a NaN from most of the windows that hold it; PyTorch's max
# pooling spreads it over all of them.
#
# Expected: the exported network and the one in PyTorch agree, or both show that something is
#   broken: with a NaN in a score map, non-maximum suppression by `score == maxpool(score)` finds
#   nothing near it in PyTorch.
# Seen: 9 windows of 3x3 hold the NaN. PyTorch: 9 NaN. ONNX Runtime: 1, in the middle; the other 8
#   pass on the largest of the plain numbers. So a network that breaks in PyTorch looks well after
#   its export, and keypoints right beside the hole differ between the two.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 torch==2.13.0
cd "$work"
ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

scores = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
scores[0, 0, 2, 2] = np.nan
pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
graph = helper.make_graph(
    [pool], "pool",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, scores.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, scores.shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
found = session.run(None, {"x": scores})[0]
reference = torch.nn.functional.max_pool2d(torch.tensor(scores), 3, 1, 1).numpy()
print(f"ONNX Runtime:\n{found[0, 0]}\nPyTorch:\n{reference[0, 0]}")
assert np.isnan(reference).sum() == 9
assert np.isnan(found).sum() == 1
PYTHON
