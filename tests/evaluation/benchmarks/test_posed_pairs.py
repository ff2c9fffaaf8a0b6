import math

import numpy as np
import pytest
from helpers import trees

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks.posed_pairs import (
    areas,
    read_megadepth,
    read_scannet,
    run_megadepth,
)
from covis.evaluation.datasets.pairs import PairSet, PosePair
from covis.evaluation.datasets.plain_pickle import read_plain_npz
from covis.evaluation.metrics.two_view import TwoViewResult

K0 = np.array([[200.0, 0, 120], [0, 210, 90], [0, 0, 1]])
K1 = np.array([[190.0, 0, 118], [0, 195, 88], [0, 0, 1]])
ROTATION = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
TRANSLATION = np.array([1.0, 2, 3])


def write_pictures(root):
    for name, picture in zip(("a", "b"), trees.views(), strict=True):
        trees.write(root / "scene" / f"{name}.jpg", picture)


def line(pose, turns=""):
    numbers = " ".join(map(str, [*K0.ravel(), *K1.ravel(), *pose]))
    return f"scene/a.jpg scene/b.jpg {turns}{numbers}\n"


def pose_4x4():
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = ROTATION, TRANSLATION
    return matrix


def check(pair: PosePair):
    assert (pair.path0.name, pair.path1.name) == ("a.jpg", "b.jpg")
    assert pair.size0 == pair.size1 == trees.SIZE
    assert (pair.camera0.matrix == K0).all()
    assert (pair.camera1.matrix == K1).all()
    assert pair.rotation_1from0 == pytest.approx(ROTATION)
    assert pair.translation_1from0 == pytest.approx(TRANSLATION)


@pytest.mark.parametrize("images", ["images", "."])
@pytest.mark.parametrize(
    "text",
    [line([*ROTATION.ravel(), *TRANSLATION]), line(pose_4x4().ravel(), "0 0 ")],
    ids=["rotation and translation", "4 x 4"],
)
def test_reading_a_list(tmp_path, images, text):
    write_pictures(tmp_path / images)
    (tmp_path / "pairs_calibrated.txt").write_text(text * 2 + "\n")
    for read in (read_megadepth, read_scannet):
        found = read(tmp_path)
        assert len(found.pairs) == 2
        for pair in found.pairs:
            check(pair)


def write_scene_info(path, **changed):
    from_world = [np.eye(4), pose_4x4()]
    from_world[0][:3, 3] = 5, 6, 7
    # Camera 1 from camera 0 is the pose: T1 = pose T0.
    from_world[1] = from_world[1] @ from_world[0]
    infos = np.empty(2, object)
    for i in range(2):
        infos[i] = ((1, 2), 0.3, np.zeros((4, 4), np.float32))
    names = np.array([None, "scene/a.jpg", "scene/b.jpg"], object)
    intrinsics = np.array([None, K0, K1], object)
    poses = np.array([None, *from_world], object)
    content = {"image_paths": names, "intrinsics": intrinsics, "poses": poses, "pair_infos": infos}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(content | changed), allow_pickle=True)


@pytest.mark.parametrize("folder", ["", "scene_info", "megadepth_test_1500_scene_info"])
def test_reading_scene_info(tmp_path, folder):
    write_pictures(tmp_path)
    write_scene_info(tmp_path / folder / "0015_0.1_0.3.npz")
    write_scene_info(tmp_path / folder / "0022_0.1_0.3.npz")
    found = read_megadepth(tmp_path)
    assert len(found.pairs) == 4
    for pair in found.pairs:
        check(pair)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_exception_scene_info_that_runs_something_is_refused(tmp_path, capsys):
    objects = np.empty(1, object)
    objects[0] = Evil()
    write_scene_info(tmp_path / "a.npz", pair_infos=objects)
    with pytest.raises(ArgumentError, match=r"a\.npz: not an .npz file of plain arrays"):
        read_megadepth(tmp_path)
    assert capsys.readouterr().out == ""


def test_plain_arrays_of_an_npz(tmp_path):
    arrays = {"c": np.arange(6).reshape(2, 3), "f": np.asfortranarray(np.eye(2)), "n": np.array(3)}
    np.savez(tmp_path / "a.npz", **arrays)
    found = read_plain_npz(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name] == array).all()
        assert found[name].shape == array.shape


GOOD = line([*ROTATION.ravel(), *TRANSLATION])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no pairs"),
        (GOOD.replace("b.jpg", "c.jpg"), r"line 1: the picture scene/c.jpg is not in"),
        (GOOD + "scene/a.jpg scene/b.jpg 1 2\n", "line 2: needs two pictures"),
        (GOOD.replace("3.0\n", "x\n"), "line 1: not a number"),
        (GOOD.replace("3.0\n", "inf\n"), "not finite"),
        (line(pose_4x4().ravel(), "0 1 "), "must not need turning"),
        (GOOD.replace("200.0", "-200.0", 1), "line 1: A camera's focal lengths must be positive"),
    ],
)
def test_exception_malformed_list(tmp_path, text, message):
    write_pictures(tmp_path)
    (tmp_path / "pairs_calibrated.txt").write_text(text)
    with pytest.raises(ArgumentError, match=message):
        read_megadepth(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"poses": np.zeros(3)}, "pair 0: malformed"),
        ({"pair_infos": np.zeros(2)}, "pair 0: malformed"),
    ],
)
def test_exception_malformed_scene_info(tmp_path, changed, message):
    write_pictures(tmp_path)
    write_scene_info(tmp_path / "a.npz", **changed)
    with pytest.raises(ArgumentError, match=message):
        read_megadepth(tmp_path)


def test_exception_nothing_there(tmp_path):
    with pytest.raises(ArgumentError, match=r"neither pairs_calibrated.txt nor scene_info"):
        read_megadepth(tmp_path)
    with pytest.raises(ArgumentError, match=r"no pairs_calibrated.txt"):
        read_scannet(tmp_path)
    np.savez(tmp_path / "a.npz", image_paths=np.zeros(1))
    with pytest.raises(ArgumentError, match="'intrinsics' is missing"):
        read_megadepth(tmp_path)


def test_figures_by_hand():
    errors = np.array([[2.0], [8.0], [15.0], [math.inf]])
    counts = np.ones((4, 1), np.int64)
    figures = areas(TwoViewResult("s", "pose", errors, counts[:, 0], counts))
    # Recall rises to 1/4 at 2, stays to 5.
    assert figures["AUC@5°"] == pytest.approx(100 * (2 * 0.25 / 2 + 3 * 0.25) / 5)
    assert figures["Acc@10°"] == 50


def test_run_takes_every_protocol(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "pairs_calibrated.txt").write_text(GOOD * 2)
    settings = Settings(features="sift", matcher="nearest", seeds=1, every=2)
    told = []
    rows = run_megadepth(tmp_path, settings, lambda *done: told.append(done))
    assert [row.protocol for row in rows] == [
        "XFeat, LO-RANSAC",
        "LightGlue, RANSAC",
        "LightGlue, LO-RANSAC",
    ]
    assert told[-1] == (2, 2)
    assert rows[0].figures.keys() == {"AUC@5°", "AUC@10°", "AUC@20°", "Acc@10°"}
    assert "only one pair in 2" in rows[0].note
    assert isinstance(read_megadepth(tmp_path), PairSet)
