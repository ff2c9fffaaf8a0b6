#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: `LightGlueMatcher` shows its network a square picture, whatever the
#   picture's shape.
#
# Expected: keypoints go to LightGlue as in its paper's code and in kornia: both axes divided by half of
#   the longer side, so that a turn stays a turn. The corner of a 640x480 picture is (-1, -0.75).
# Seen: each axis is divided by its own side: the corner is (-1, -1). What lies 320 pixels to the right
#   and what lies 240 pixels below are equally far for the network, which was trained otherwise. Giving
#   `setPairInfo` keypoints that are divided already, and no size, passes them on as they are.
# The model here is a probe of four nodes that returns the keypoints it was shown as scores.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6 \
  onnx==1.20.0 kornia==0.8.2 torch==2.13.0
cd "$work"
"$work/venv/bin/python" - 2> errors <<'PYTHON' || { cat errors; exit 1; }
import cv2
import kornia.feature.lightglue as published
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT = 640, 480
keypoints = np.array([[0, 0], [320, 240], [640, 0], [0, 480]], np.float32)
count, size = len(keypoints), 64


def probe(axis):
    """The file of a matcher that pairs point i with point i, and scores it by its coordinate."""
    inputs = [("kpts0", 2), ("kpts1", 2), ("desc0", size), ("desc1", size)]
    numbers = {
        "axis": np.array([axis]),
        "flat": np.array([count]),
        "pairs": np.stack([np.arange(count)] * 2, axis=1),
        "shape": np.array([count, 2]),
        "nothing": np.float32(0),
    }
    nodes = [
        helper.make_node("Gather", ["kpts0", "axis"], ["one"], axis=2),
        helper.make_node("Reshape", ["one", "flat"], ["coordinate"]),
        helper.make_node("Reshape", ["pairs", "shape"], ["matches0"]),
    ]
    total = "coordinate"
    for name, _ in inputs[1:]:  # A graph keeps only the inputs that it uses.
        nodes += [
            helper.make_node("ReduceSum", [name], [f"sum of {name}"], keepdims=0),
            helper.make_node("Mul", [f"sum of {name}", "nothing"], [f"no {name}"]),
            helper.make_node("Add", [total, f"no {name}"], [f"with {name}"]),
        ]
        total = f"with {name}"
    nodes.append(helper.make_node("Identity", [total], ["mscores0"]))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, count, d]) for n, d in inputs],
        [
            helper.make_tensor_value_info("matches0", TensorProto.INT64, [count, 2]),
            helper.make_tensor_value_info("mscores0", TensorProto.FLOAT, [count]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, f"{axis}.onnx")
    return f"{axis}.onnx"


def shown(points, image_size):
    """What the network is shown of the points."""
    axes = []
    for axis in (0, 1):
        matcher = cv2.LightGlueMatcher_create(probe(axis), -1e9)
        matcher.setPairInfo(points, points, image_size, image_size)
        descriptors = np.ones((count, size), np.float32)
        axes.append([1 - match.distance for match in matcher.match(descriptors, descriptors)])
    return np.array(axes).T


expected = published.normalize_keypoints(
    torch.from_numpy(keypoints)[None], torch.tensor([[WIDTH, HEIGHT]])
)[0].numpy()
seen = shown(keypoints, (WIDTH, HEIGHT))
print("OpenCV", cv2.__version__)
for point, one, other in zip(keypoints, expected, seen):
    print(f"{point}: LightGlue {one.round(3)}, OpenCV {other.round(3)}")
assert np.allclose(expected[:, 1], (keypoints[:, 1] - HEIGHT / 2) / (WIDTH / 2), atol=1e-6)
assert np.allclose(seen, 2 * keypoints / (WIDTH, HEIGHT) - 1, atol=1e-6)
assert np.allclose(shown(expected, (0, 0)), expected, atol=1e-6)
PYTHON
echo "as described"
