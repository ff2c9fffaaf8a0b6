import numpy as np
import pytest
from helpers import trees

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks.phototourism import accuracies, read_phototourism, run
from covis.evaluation.metrics.two_view import TwoViewResult

h5py = pytest.importorskip("h5py", reason="the published calibration is HDF5: covis[train]")

K = np.array([[200.0, 0, 120], [0, 210, 90], [0, 0, 1]])
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def scene(root, name="reichstag", keys=("b-a",), dtype=None):
    folder = root / name / "set_100"
    for view, picture in zip(("a", "b"), trees.views(), strict=True):
        trees.write(folder / "images" / f"{view}.jpg", picture)
    (folder / "calibration").mkdir()
    # World to camera: a looks from the origin, b is turned and moved.
    poses = {"a": (np.eye(3), np.array([0.0, 0, 4])), "b": (TURN, np.array([1.0, 2, 3]))}
    for view, (rotation, translation) in poses.items():
        with h5py.File(folder / "calibration" / f"calibration_{view}.h5", "w") as file:
            file["K"], file["R"], file["T"] = K, rotation, translation
    (folder / "new-vis-pairs").mkdir()
    np.save(folder / "new-vis-pairs" / "keys-th-0.1.npy", np.array(keys, dtype), allow_pickle=True)
    return folder


@pytest.mark.parametrize("dtype", [None, object])
def test_reading_a_scene(tmp_path, dtype):
    scene(tmp_path, dtype=dtype)
    [found] = read_phototourism(tmp_path)
    assert (found.name, found.kind) == ("reichstag", "pose")
    [pair] = found.pairs
    assert (pair.path0.name, pair.path1.name) == ("b.jpg", "a.jpg")
    assert (pair.camera0.matrix == K).all()
    # The world's origin is (1, 2, 3) in camera b and (0, 0, 4) in a.
    assert pair.rotation_1from0 @ [1, 2, 3] + pair.translation_1from0 == pytest.approx([0, 0, 4])
    # What b sees 1 ahead of (1, 2, 3) is 1 ahead of the origin, and so in a.
    assert pair.rotation_1from0 @ [0, 0, 1] == pytest.approx([0, 0, 1])
    assert pair.rotation_1from0 == pytest.approx(TURN.T)


def result(errors):
    errors = np.array(errors, np.float64)[:, None]
    counts = np.ones(errors.shape, np.int64)
    return TwoViewResult("s", "pose", errors, counts[:, 0], counts)


def test_maa_by_hand():
    # 0.5° is below all ten thresholds, 4.5° below 5 to 10, which are six; 10° counts at 10, 11°
    # nowhere.
    figures = accuracies(result([0.5, 4.5, 10.0, 11.0]))
    assert figures["mAA@10°"] == pytest.approx(100 * (10 + 6 + 1 + 0) / (4 * 10))
    assert figures["mAA@5°"] == pytest.approx(100 * (5 + 1) / (4 * 5))


def test_scenes_count_alike_however_many_pairs_they_have(tmp_path):
    scene(tmp_path, "large", keys=("b-a",) * 3)
    scene(tmp_path, "small")
    settings = Settings(
        features="sift", matcher="nearest", seeds=1, estimators=("poselib",), thresholds=(1.0,)
    )
    rows = {row.part: row for row in run(tmp_path, settings, lambda done, total: None)}
    assert rows.keys() == {"large", "small", "all"}
    assert (rows["large"].items, rows["small"].items, rows["all"].items) == (3, 1, 4)
    for name, value in rows["all"].figures.items():
        scenes = rows["large"].figures[name], rows["small"].figures[name]
        assert value == pytest.approx(sum(scenes) / 2)


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda f: (f / "images" / "a.jpg").unlink(), r"the picture a.jpg is missing"),
        (lambda f: (f / "calibration" / "calibration_a.h5").unlink(), "calibration_a.h5: cannot"),
        (lambda f: (f / "calibration" / "calibration_a.h5").write_bytes(b"x"), "cannot be read"),
        (lambda f: (f / "new-vis-pairs" / "keys-th-0.1.npy").write_bytes(b"x"), "cannot be read"),
        (lambda f: np.save(f / "new-vis-pairs" / "keys-th-0.1.npy", ["a"]), "not a pair of names"),
        (lambda f: np.save(f / "new-vis-pairs" / "keys-th-0.1.npy", []), "lists no pairs"),
    ],
)
def test_exception_damaged_scene(tmp_path, breaking, message):
    breaking(scene(tmp_path))
    with pytest.raises(ArgumentError, match=message):
        read_phototourism(tmp_path)


def test_exception_calibration_without_a_matrix(tmp_path):
    folder = scene(tmp_path)
    with h5py.File(folder / "calibration" / "calibration_a.h5", "w") as file:
        file["K"] = K
    with pytest.raises(ArgumentError, match=r"calibration_a.h5: R is missing"):
        read_phototourism(tmp_path)


def test_exception_no_scenes(tmp_path):
    with pytest.raises(ArgumentError, match="no scene"):
        read_phototourism(tmp_path)
