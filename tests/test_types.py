"""Features and matches on disk and as plain data."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError, CovisError
from covis.types import Features, Geometry, Image, Matches, Verdict


def some_features(count: int = 5, **changes: object) -> Features:
    rng = np.random.default_rng(0)
    features = Features(
        keypoints=rng.random((count, 2), np.float32),
        scores=rng.random(count, np.float32),
        descriptors=rng.random((count, 8), np.float32),
        width=640,
        height=480,
        model="sift",
    )
    return replace(features, **changes)


def some_matches(count: int = 4, **changes: object) -> Matches:
    rng = np.random.default_rng(1)
    matches = Matches(
        points0=rng.random((count, 2), np.float32),
        points1=rng.random((count, 2), np.float32),
        scores=rng.random(count, np.float32),
        indices=np.arange(2 * count).reshape(count, 2),
        geometry=Geometry("homography", np.eye(3), np.arange(count) % 2 == 0, "a note"),
        seconds={"match": 0.5},
        model="sift",
        licence="Apache-2.0",
    )
    return replace(matches, **changes)


def assert_same(a: object, b: object) -> None:
    assert type(a) is type(b)
    for f in fields(a):  # type: ignore[arg-type]
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, Geometry):
            assert_same(x, y)
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y


@pytest.mark.parametrize(
    "features",
    [
        some_features(),
        some_features(0),
        some_features(
            scales=np.ones(5, np.float32),
            orientations=np.zeros(5, np.float32),
            pixel_sizes=np.ones((5, 2), np.float32),
        ),
    ],
    ids=["plain", "none", "everything"],
)
def test_features_come_back_as_they_were_saved(features: Features, tmp_path: Path) -> None:
    features.save(tmp_path / "a.npz")
    assert_same(Features.load(tmp_path / "a.npz"), features)


@pytest.mark.parametrize(
    "matches",
    [
        some_matches(),
        some_matches(0),
        some_matches(geometry=None, indices=None),
        some_matches(verdict=Verdict("unsure", 0.3)),
        some_matches(geometry=Geometry("essential", None, np.zeros(4, bool), "too few")),
        some_matches(
            geometry=Geometry("essential", np.eye(3), np.ones(4, bool), "", np.eye(3), np.ones(3))
        ),
    ],
    ids=["homography", "none", "no geometry", "verdict", "no model", "pose"],
)
def test_matches_come_back_as_they_were_saved(matches: Matches, tmp_path: Path) -> None:
    matches.save(tmp_path / "a.npz")
    assert_same(Matches.load(tmp_path / "a.npz"), replace(matches, seconds={}))


def test_the_same_features_give_the_same_bytes(tmp_path: Path) -> None:
    some_features().save(tmp_path / "a.npz")
    some_features().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def saved(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


BAD_FILES = {
    "empty": b"",
    "text": b"hello",
    "one array": (b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, "
                  b"'shape': (0,), }").ljust(127) + b"\n",
    "other arrays": saved(a=np.zeros(3)),
    "objects": saved(keypoints=np.array([{}], object)),
}  # fmt: skip


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
@pytest.mark.parametrize("kind", [Features, Matches])
def test_exception_for_a_bad_file(
    kind: type[Features | Matches], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(CovisError, match=r"bad\.npz"):
        kind.load(path)


def test_exception_for_a_file_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    some_features().save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(CovisError):
            Features.load(path)


def test_exception_for_a_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    some_features().save(path)
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("descriptors.npy").header_offset
    content = bytearray(path.read_bytes())
    content[begin + 250] ^= 1
    path.write_bytes(content)
    with pytest.raises(CovisError, match="damaged"):
        Features.load(path)


def test_exception_for_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CovisError, match="no such file"):
        Features.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.zeros(3, np.float32)},
        {"keypoints": np.zeros((5, 2))},
        {"descriptors": np.zeros((4, 8), np.float32)},
        {"width": 1.5},
        {"model": 3},
    ],
)
def test_exception_for_arrays_that_do_not_fit(changes: dict[str, object], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**some_features().to_arrays(), **changes})  # type: ignore[arg-type]
    with pytest.raises(CovisError, match=next(iter(changes))):
        Features.load(tmp_path / "a.npz")


def test_exception_for_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CovisError, match="cannot be written"):
        some_features().save(tmp_path / "none" / "a.npz")


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_features().save(tmp_path / "a.npz")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(CovisError, match="No space left"):
        some_features(3).save(tmp_path / "a.npz")
    assert len(Features.load(tmp_path / "a.npz")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_matches_as_plain_data() -> None:
    found = json.loads(json.dumps(some_matches().to_dict()))
    assert (found["matches"], found["inliers"]) == (4, 2)
    assert found["inlier_mask"] == [True, False, True, False]
    np.testing.assert_array_equal(np.float32(found["points0"]), some_matches().points0)
    assert found["geometry"]["matrix"] == np.eye(3).tolist()
    assert found["geometry"]["rotation_1from0"] is None
    assert found["seconds"] == {"match": 0.5}


def test_a_verdict_as_plain_data() -> None:
    found = some_matches(verdict=Verdict("same", 0.99)).to_dict()
    assert found["verdict"] == {"label": "same", "probability": 0.99}
    assert some_matches().to_dict()["verdict"] is None


def test_exception_for_a_verdict_that_there_is_not(tmp_path: Path) -> None:
    some_matches(verdict=Verdict("perhaps", 0.5)).save(tmp_path / "a.npz")  # type: ignore[arg-type]
    with pytest.raises(CovisError, match="verdict_label"):
        Matches.load(tmp_path / "a.npz")


def test_matches_without_a_geometry_as_plain_data() -> None:
    found = some_matches(geometry=None).to_dict()
    assert found["geometry"] is None
    assert found["inliers"] is found["inlier_mask"] is None


def test_drawing_writes_the_picture_it_returns(tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    picture = some_matches().draw(image, image, tmp_path / "a.png")
    assert picture.dtype == np.uint8
    assert picture.shape[1] >= 160
    assert (tmp_path / "a.png").is_file()


def test_global_descriptor_is_kept(tmp_path: Path) -> None:
    features = some_features(global_descriptor=np.full(4, 0.5, np.float32))
    features.save(tmp_path / "a.npz")
    assert_same(Features.load(tmp_path / "a.npz"), features)
    wrong = features.to_arrays() | {"global_descriptor": np.ones(4)}
    with pytest.raises(CovisError, match="global_descriptor is float64"):
        Features.from_arrays(wrong)


def full_features() -> Features:
    """Five, with every field."""
    return some_features(
        scales=np.arange(5, dtype=np.float32),
        orientations=np.arange(5, 10, dtype=np.float32),
        pixel_sizes=np.arange(10, dtype=np.float32).reshape(5, 2),
        global_descriptor=np.full(4, 0.5, np.float32),
    )


PER_KEYPOINT = ("keypoints", "scores", "descriptors", "scales", "orientations", "pixel_sizes")


@pytest.mark.parametrize(
    ("indices", "places"),
    [
        (np.array([3, 0]), [3, 0]),
        (np.array([False, True, False, False, True]), [1, 4]),
        (np.empty(0, np.int64), []),
        (slice(2), [0, 1]),
        (slice(9), [0, 1, 2, 3, 4]),
    ],
    ids=["indices", "mask", "none", "the best", "more than there are"],
)
def test_some_features_keep_all_that_belongs_to_them(indices: object, places: list[int]) -> None:
    features = full_features()
    some = features.take(indices)  # type: ignore[arg-type]
    for name in PER_KEYPOINT:
        np.testing.assert_array_equal(getattr(some, name), getattr(features, name)[places])
    assert some.global_descriptor is features.global_descriptor
    assert (some.width, some.height, some.model) == (640, 480, "sift")


def test_fewer_features_are_the_first_ones() -> None:
    features = Features(
        np.arange(10, dtype=np.float32).reshape(5, 2), np.ones(5, np.float32),
        np.ones((5, 4), np.float32), 64, 48, "made up", scales=np.arange(5, dtype=np.float32),
    )  # fmt: skip
    cut = features.take(slice(2))
    assert len(cut) == len(cut.scores) == len(cut.descriptors) == len(cut.scales) == 2
    np.testing.assert_array_equal(cut.keypoints, features.keypoints[:2])
    assert (cut.width, cut.orientations) == (64, None)


@pytest.mark.parametrize("indices", [np.array([5]), np.ones(4, bool)])
def test_exception_for_features_that_there_are_not(indices: object) -> None:
    with pytest.raises(ArgumentError, match="among 5"):
        some_features().take(indices)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": np.zeros(3, np.float32)}, r"scores .*\(5\), not \(3,\)"),
        ({"descriptors": np.zeros((4, 8), np.float32)}, r"descriptors .*\(5, D\), not \(4, 8\)"),
        ({"keypoints": np.zeros((5, 3), np.float32)}, r"keypoints .*\(N, 2\), not \(5, 3\)"),
        ({"scales": np.zeros((5, 1), np.float32)}, "scales"),
        ({"orientations": np.zeros(6, np.float32)}, "orientations"),
        ({"pixel_sizes": np.zeros(5, np.float32)}, "pixel_sizes"),
        ({"global_descriptor": np.zeros((1, 4), np.float32)}, "global_descriptor"),
        ({"descriptors": np.zeros((5, 8), np.uint8)}, "descriptors .* uint8"),
        ({"keypoints": [[0.5, 0.5]] * 5}, "keypoints .* list"),
        ({"scores": None}, "scores .* NoneType"),
    ],
)
def test_exception_for_features_that_do_not_belong_together(
    changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        some_features(**changes)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_features_of_another_precision_are_converted(dtype: object) -> None:
    plain = some_features()
    features = some_features(descriptors=plain.descriptors.astype(dtype))  # type: ignore[call-overload]
    assert features.descriptors.dtype == np.float32
    assert features.descriptors.dtype.isnative
    np.testing.assert_allclose(features.descriptors, plain.descriptors, rtol=1e-3)


def test_float32_arrays_are_not_copied() -> None:
    descriptors = np.ones((5, 8), np.float32)
    assert some_features(descriptors=descriptors).descriptors is descriptors


@pytest.mark.parametrize("field", ["keypoints", "descriptors"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_exception_for_numbers_that_are_none(field: str, value: float) -> None:
    values = getattr(some_features(), field).copy()
    values[3, 1] = value
    with pytest.raises(ArgumentError, match=f"{field} are NaN or infinite in 1 of 5 .* row 3"):
        some_features(**{field: values})


def test_large_descriptors_are_no_error() -> None:
    """Their sum is infinite, they are not."""
    assert len(some_features(descriptors=np.full((5, 8), 3e38, np.float32))) == 5


def test_results_print_on_one_line() -> None:
    assert repr(some_features()) == "Features(5 keypoints of sift, 8 numbers each, image 640x480)"
    found = some_matches(verdict=Verdict("same", 0.9994))
    assert repr(found) == "Matches(4 matches, 2 inliers, same 0.999)"
    assert repr(found.geometry) == "Geometry(homography, 2 inliers)"
    pixels = np.zeros((30, 40, 3), np.uint8)
    assert repr(Image(pixels, 40, 30, name="a.jpg")) == "Image(a.jpg, 40x30)"
    assert repr(Image(pixels, 80, 60)) == "Image(array, 80x60 at 40x30)"


def test_matches_that_were_not_verified_do_not_print_inliers() -> None:
    unverified = some_matches(geometry=Geometry("none", None, np.ones(4, bool)))
    assert repr(unverified) == "Matches(4 matches)"
    assert repr(some_matches(geometry=None)) == "Matches(4 matches)"
    assert unverified.inliers.all()
    assert not unverified.verified
    assert some_matches().verified


def test_notebooks_show_a_small_table_or_the_picture() -> None:
    shown = some_matches(verdict=Verdict("same", 0.9994), model="<sift>")._repr_html_()
    assert "<td>matches</td><td>4</td>" in shown
    assert "<td>inliers</td><td>2</td>" in shown
    assert "<td>same, 0.999</td>" in shown
    assert "<td>&lt;sift&gt;</td>" in shown
    assert "inliers" not in some_matches(geometry=None)._repr_html_()
    assert "<td>keypoints</td><td>5</td>" in some_features()._repr_html_()
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[3, 5] = (250, 100, 7)
    decoded = PIL.Image.open(io.BytesIO(Image(pixels, 80, 60)._repr_png_()))
    np.testing.assert_array_equal(np.asarray(decoded), pixels)
