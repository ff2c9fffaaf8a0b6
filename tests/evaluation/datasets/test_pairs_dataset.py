import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.pairs import read_pairs
from covis.geometry import Camera

K = [[700, 0, 319.5], [0, 710, 239.5], [0, 0, 1]]
PLANE = {"image0": "a.png", "image1": "b.png", "kind": "homography", "H_1from0": np.eye(3).tolist()}
POSE = {
    "image0": "a.png",
    "image1": "b.png",
    "kind": "pose",
    "K0": K,
    "K1": K,
    "T_1from0": [[0, -1, 0, 4], [1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]],
}


def write(folder, content):
    PIL.Image.new("L", (64, 48)).save(folder / "a.png")
    PIL.Image.new("L", (32, 80)).save(folder / "b.png")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "pairs.json").write_text(text, "utf-8")
    return folder


def test_convention_homography_moves_by_half_a_pixel(tmp_path):
    doubled = PLANE | {"H_1from0": [[2, 0, 0], [0, 2, 0], [0, 0, 1]]}
    found = read_pairs(write(tmp_path, [doubled]))
    assert (found.name, found.kind) == (tmp_path.name, "homography")
    (pair,) = found.pairs
    assert (pair.path0, pair.path1) == (tmp_path / "a.png", tmp_path / "b.png")
    assert (pair.size0, pair.size1) == ((64, 48), (32, 80))
    # The file takes pixel 3's centre, 3 there and 3.5 here, to pixel 6's: 6 there, 6.5 here.
    np.testing.assert_allclose(pair.homography_1from0 @ [3.5, 3.5, 1], [6.5, 6.5, 1])


def test_convention_principal_point_moves_by_half_a_pixel(tmp_path):
    found = read_pairs(str(write(tmp_path, [POSE])))
    assert found.kind == "pose"
    (pair,) = found.pairs
    assert pair.camera0 == pair.camera1 == Camera(700, 710, 320, 240)
    np.testing.assert_array_equal(pair.rotation_1from0, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(pair.translation_1from0, [4, 5, 6])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no list of pairs"),
        ("{}", "holds no list of pairs"),
        ([3], "pair 0: not an object"),
        ([PLANE, PLANE | {"image1": "c.png"}], r"pair 1: the image .*c\.png cannot be read"),
        ([PLANE | {"image0": 3}], "'image0' must be text, not 3"),
        ([PLANE | {"kind": "affine"}], "kind is 'affine'"),
        ([PLANE | {"H_1from0": [[1, 2]]}], "'H_1from0' must be a 3 x 3 matrix"),
        ([PLANE | {"H_1from0": [[1, 2], [3]]}], "'H_1from0' must be a 3 x 3 matrix"),
        ([POSE | {"T_1from0": np.eye(3).tolist()}], "'T_1from0' must be a 4 x 4 matrix"),
        ([POSE | {"K1": np.zeros((3, 3)).tolist()}], "pair 0: Intrinsics must look like"),
        ([PLANE, POSE], "mixes homographies and poses"),
        *[([{k: v for k, v in PLANE.items() if k != f}], f"'{f}' is missing") for f in PLANE],
        *[([{k: v for k, v in POSE.items() if k != f}], f"'{f}' is missing") for f in POSE],
    ],
)
def test_exception_malformed(tmp_path, content, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        read_pairs(write(tmp_path, content))
    assert str(tmp_path / "pairs.json") in str(caught.value)


def test_exception_missing_folder(tmp_path):
    with pytest.raises(ArgumentError, match="no list of pairs to read"):
        read_pairs(tmp_path / "nowhere")


def test_exception_image_that_is_none(tmp_path):
    write(tmp_path, [PLANE])
    (tmp_path / "b.png").write_text("not a picture")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_pairs(tmp_path)


DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_the_shared_sets_can_be_read():
    counts = {
        f.parent.name: len(read_pairs(f.parent).pairs) for f in DATA.glob("[hp]*/*/pairs.json")
    }
    assert sum(counts.values()) == 171
    assert counts["graf"] == 5
    assert counts["7scenes"] == 60
