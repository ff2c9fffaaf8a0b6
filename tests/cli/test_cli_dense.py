from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from typer.testing import Result

from covis import load_image
from covis.dense import DenseExtractor, read_mask, write_mask

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def dense_bundle(random_net, tmp_path_factory) -> Path:
    """Random networks, whose descriptors still tell places of a texture apart."""
    from covis.export.lift import export_lift
    from covis.nets.dense import XFeatMap
    from covis.nets.lift import LiFT

    torch.manual_seed(1)
    backbone = XFeatMap(random_net, "random")
    folder = tmp_path_factory.mktemp("dense") / "lift"
    lift = LiFT(backbone.kind).eval()
    return export_lift(lift, backbone, folder, name="lift", licence="-", source="-").folder


@pytest.fixture(scope="session")
def plain_bundle(random_net, tmp_path_factory) -> Path:
    """The backbone alone."""
    from covis.export.lift import export_lift
    from covis.nets.dense import XFeatMap

    folder = tmp_path_factory.mktemp("dense") / "plain"
    backbone = XFeatMap(random_net, "random")
    export_lift(None, backbone, folder, name="plain", licence="-", source="-")
    return folder


@pytest.fixture
def dense(covis: Run, dense_bundle: Path) -> Run:
    return lambda name, *given: covis("dense", name, *given, "--model", dense_bundle)


@pytest.fixture
def clip(tmp_path: Path, texture: np.ndarray) -> Path:
    """A grey square with a texture of its own that moves by 8 pixels a frame."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for n in range(4):
        frame = texture[:128, :192].copy()
        frame[40:88, 24 + 8 * n : 72 + 8 * n] = 255 - texture[200:248, 300:348] // 2
        cv2.imwrite(str(folder / f"{n:03}.png"), frame)
    return folder


def square(n: int = 0) -> np.ndarray:
    labels = np.zeros((128, 192), np.uint8)
    labels[40:88, 24 + 8 * n : 72 + 8 * n] = 2
    return labels


def test_match_of_a_picture_with_itself(dense: Run, clip: Path) -> None:
    a = clip / "000.png"
    given = ("--points", "36,44 100,60.5", "--lifts", 0)
    result = dense("match", a, a, *given, "--json", "-o", "drawn.png")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert set(found) == {"points0", "points1", "cosines", "model", "licence"}
    assert found["points0"] == [[36, 44], [100, 60.5]]
    np.testing.assert_allclose(found["points1"][0], (36, 44), atol=1)
    assert found["cosines"][0] == pytest.approx(1, abs=1e-5)
    assert cv2.imread("drawn.png").shape[0] == 512
    Path("points.txt").write_text("36, 44\n100,60.5\n")
    again = dense("match", a, a, "--points", "points.txt", "--lifts", 0)
    assert again.stdout.splitlines()[0].split() == [
        "1", "36.0,44.0", "->", "36.0,44.0", "cosine", "1.000",
    ]  # fmt: skip


def test_match_chooses_points_itself(dense: Run, clip: Path) -> None:
    found = json.loads(dense("match", clip / "000.png", clip / "001.png", "--json").stdout)
    assert len(found["points0"]) == len(found["points1"]) >= 12


def test_propagate_follows_and_keeps_the_palette(dense: Run, clip: Path, tmp_path: Path) -> None:
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    (tmp_path / "true").mkdir()
    for n in range(4):
        write_mask(tmp_path / "true" / f"{n:03}.png", square(n), palette)
    mask = tmp_path / "true" / "000.png"
    given = ("--mask", mask, "-o", "out", "--truth", tmp_path / "true", "--draw", "--lifts", 0)
    result = dense("propagate", clip, *given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("4 masks in out, ")
    assert lines[0].endswith(" frames a second.")
    assert lines[1].startswith("J ")
    for n in range(4):
        labels, colours = read_mask(Path("out") / f"{n:03}.png")
        truth = square(n)
        assert (labels == truth).mean() > 0.95
        assert set(np.unique(labels)) == {0, 2}
        assert colours is not None
        assert colours[:9] == palette
    drawn = load_image("out/drawings/003.jpg").pixels.astype(int)
    plain = load_image(clip / "003.png").pixels.astype(int)
    assert np.abs(drawn[60:70, 60:70] - plain[60:70, 60:70]).mean() > 30
    assert np.abs(drawn[:30] - plain[:30]).mean() < 5


def test_propagate_black_and_white(dense: Run, clip: Path) -> None:
    PIL.Image.fromarray(square() * 127).save("mask.png")
    assert dense("propagate", clip, "--mask", "mask.png", "-o", "out").exit_code == 0
    with PIL.Image.open("out/002.png") as picture:
        assert picture.mode == "L"
        assert set(np.unique(np.asarray(picture))) == {0, 255}


def test_propagate_again_forgets_the_masks_of_frames_that_are_gone(dense: Run, clip: Path) -> None:
    write_mask("mask.png", square())
    given = ("--mask", "mask.png", "-o", "out", "--drawings", "--lifts", 0)
    assert dense("propagate", clip, *given).exit_code == 0
    Path("out/mine.png").write_bytes(b"mine")
    (clip / "003.png").unlink()
    again = dense("propagate", clip, *given)
    assert again.stdout.startswith("3 masks in out, ")
    assert {path.name for path in Path("out").glob("*.png")} == {
        "000.png", "001.png", "002.png", "mine.png"
    }  # fmt: skip
    assert {path.stem for path in Path("out/drawings").iterdir()} == {"000", "001", "002"}


def test_propagate_new_objects_in_a_video_with_scores(dense: Run, clip: Path) -> None:
    """Greys are objects; what comes later is in a mask of its frame; a mask says all it changes."""
    video = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 25, (192, 128))
    for path in sorted(clip.iterdir()):
        video.write(cv2.imread(str(path)))
    video.release()
    for folder in ("given", "true"):
        Path(folder).mkdir()
    still = np.zeros((128, 192), np.uint8)
    still[88:120, 8:56] = 100
    for n in range(4):
        write_mask(f"true/{n:05}.png", np.where(still, still, 120 * square(n)))
    write_mask("given/00000.png", np.where(square() > 0, 240, 0))
    write_mask("given/00002.png", still)
    given = ("--mask", "given", "-o", "out", "--truth", "true", "--lifts", 0)
    result = dense("propagate", "clip.avi", *given, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told == json.loads(Path("out/masks.json").read_text())
    assert told["masks"] == list(told["frames"]) == ["00000", "00001", "00002", "00003"]
    first, second, third, last = told["frames"].values()
    assert list(first) == list(second) == ["255"]
    assert list(third) == list(last) == ["100", "255"]
    assert (first["255"]["sureness"], third["100"]["sureness"], third["100"]["J"]) == (1, 1, 1)
    assert 0.5 < last["100"]["sureness"] < 1
    assert last["100"]["J"] > 0.7
    for n in (2, 3):
        found, _ = read_mask(f"out/{n:05}.png")
        assert (found[still > 0] == 100).mean() > 0.8
        assert (found[square(n) > 0] == 255).mean() > 0.8


def test_propagate_tells_where_a_video_is_cut(dense: Run, clip: Path) -> None:
    video = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 25, (192, 128))
    for _ in range(5):
        for path in sorted(clip.iterdir()):
            video.write(cv2.imread(str(path)))
    video.release()
    whole = Path("clip.avi").read_bytes()
    Path("clip.avi").write_bytes(whole[: len(whole) // 3])
    write_mask("mask.png", square())
    result = dense("propagate", "clip.avi", "--mask", "mask.png", "-o", "out", "--lifts", 0)
    count = len(list(Path("out").glob("*.png")))
    assert 3 < count < 10
    assert result.exit_code == 1
    assert f"covis: clip.avi ends after {count} of 20 frames; it is cut short" in result.stderr


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_discover_finds_nothing_in_one_colour(dense: Run, colour: int) -> None:
    faint = np.random.default_rng(0).integers(-1, 2, (64, 96, 3))
    cv2.imwrite("plain.png", np.clip(colour + faint, 0, 255))
    result = dense("discover", "plain.png", "-o", "drawn.png")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "No object: nothing stands out.\nModel: lift; licence: -.\n"
    assert not Path("drawn.png").exists()
    found = json.loads(dense("discover", "plain.png", "--json").stdout)
    assert (found["box"], found["share"]) == (None, 0)


def test_discover(dense: Run, clip: Path) -> None:
    result = dense("discover", clip / "000.png", "--json", "-o", "drawn.png")
    found = json.loads(result.stdout)
    left, top, right, bottom = found["box"]
    assert 0 <= left < right <= 192
    assert 0 <= top < bottom <= 128
    assert 0 < found["share"] <= (right - left) * (bottom - top) / (192 * 128) + 1e-6
    assert cv2.imread("drawn.png").shape == (128, 192, 3)
    assert found["objects"][0]["box"] == found["box"]
    assert 1 <= len(found["objects"]) <= 3
    given = ("discover", clip / "000.png", "--most", 1, "--masks", "masks.png")
    assert dense(*given).stdout.startswith("Object 1: box ")
    labels, _ = read_mask("masks.png")
    assert labels.shape == (128, 192)
    assert labels.max() == 1
    assert labels.mean() == pytest.approx(found["objects"][0]["share"], abs=1e-6)


def test_show(dense: Run, clip: Path) -> None:
    assert dense("show", clip / "000.png", "-o", "one.png").exit_code == 0
    assert dense("show", clip / "000.png", "-o", "three.png", "--compare").exit_code == 0
    point = ("--compare", "--point", "48,60")
    assert dense("show", clip / "000.png", "-o", "heat.png", *point).exit_code == 0
    one, three, heat = (cv2.imread(f"{name}.png") for name in ("one", "three", "heat"))
    assert one.shape[1] < 2.1 * 192
    assert 3.9 * 192 < three.shape[1] == heat.shape[1] < 4.2 * 192
    assert (three != heat).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["match", "0", "none.png"], "none.png: no such file"),
        (["match", "0", "0", "--points", "500,3"], "the point 500,3 lies outside"),
        (["match", "0", "0", "--points", "5;3"], "'5;3' is no point"),
        (["match", "0", "0", "--points", ""], "no points in it"),
        (["propagate", "empty", "--mask", "m.png", "-o", "out"], "empty: no pictures in it"),
        (["propagate", "clip", "--mask", "none.png", "-o", "out"], "none.png: no such file"),
        (["propagate", "clip", "--mask", "black.png", "-o", "out"], "the mask has no object"),
        (["propagate", "clip", "--mask", "small.png", "-o", "out"], "the mask is 20x20, frame 0"),
        (["propagate", "clip", "--mask", "m.png", "-o", "clip"], "the frames are there"),
        (["propagate", "clip", "--mask", "clip", "-o", "out"], "colours but no palette"),
        (["propagate", "clip", "--mask", "other", "-o", "out"], "frames has no frame of that name"),
        (["propagate", "clip", "--mask", "late", "-o", "out"], "no mask of the first frame of"),
        (["propagate", "clip", "--mask", "cut.png", "-o", "out"], "cut.png"),
        (["propagate", "clip", "--mask", "words.png", "-o", "out"], "words.png"),
        (["discover", "0", "--lifts", "2", "--max-size", "1200"], "that can be cut"),
        (["show", "0", "-o", "x.png", "--point", "-3,5"], "the point -3,5 lies outside"),
        (["show", "0", "-o", "x.abc"], "suffix"),
    ],
)
def test_exception_in_one_line(dense: Run, clip: Path, arguments: list[str], words: str) -> None:
    Path("empty").mkdir()
    write_mask("m.png", square())
    write_mask("black.png", 0 * square())
    whole = Path("m.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("words.png").write_bytes(b"\x89PNG\r\n\x1a\nwords")
    write_mask("small.png", np.full((20, 20), 255, np.uint8))
    for folder, name in (("other", "nine"), ("late", "002")):
        Path(folder).mkdir()
        write_mask(f"{folder}/{name}.png", square())
    large = cv2.resize(cv2.imread(str(clip / "000.png")), (1200, 800))
    cv2.imwrite("large.png", large)
    picture = "large.png" if "discover" in arguments else clip / "000.png"
    named = {"0": picture, "clip": clip}
    result = dense(*(named.get(word, word) for word in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("covis: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not Path("out").exists()


def test_exception_for_an_unknown_model(covis: Run, clip: Path) -> None:
    result = covis("dense", "discover", clip / "000.png", "--model", "nonsense")
    assert result.exit_code == 2
    assert "covis: no model named 'nonsense'" in result.stderr


def test_the_commands_match_the_functions(dense: Run, clip: Path, dense_bundle: Path) -> None:
    from covis.dense import discover

    features = DenseExtractor(str(dense_bundle), lifts=0, max_size=240)(clip / "001.png")
    found = json.loads(dense("discover", clip / "001.png", "--tau", 0.1, "--json").stdout)
    assert found["box"] == list(discover(features, 0.1).box)


def test_discover_shrinks_large_pictures(covis: Run, clip: Path, plain_bundle: Path) -> None:
    from covis.dense import discover

    large = cv2.resize(cv2.imread(str(clip / "001.png")), None, fx=2, fy=2)
    cv2.imwrite("large.png", large)
    features = DenseExtractor(str(plain_bundle), max_size=240)("large.png")
    assert features.doublings == 0
    shares = [float(discover(features, tau).cells.mean()) for tau in (0.2, 0.4)]
    assert shares[0] != shares[1]
    given = ("dense", "discover", "large.png", "--json", "--model", plain_bundle)
    assert json.loads(covis(*given).stdout)["share"] == shares[0]
    assert json.loads(covis(*given, "--tau", 0.4).stdout)["share"] == shares[1]


def test_without_a_lift(covis: Run, clip: Path, plain_bundle: Path) -> None:
    a, model = clip / "000.png", ("--model", plain_bundle)
    PIL.Image.fromarray(square() * 127).save("mask.png")
    assert covis("dense", "match", a, a, *model).exit_code == 0
    assert covis("dense", "propagate", clip, "--mask", "mask.png", "-o", "o", *model).exit_code == 0
    assert covis("dense", "show", a, "-o", "three.png", "--compare", *model).exit_code == 0
    assert 2.9 * 192 < cv2.imread("three.png").shape[1] < 3.2 * 192
    for name, *more in (("match", a), ("show", "-o", "x.png", "--compare")):
        result = covis("dense", name, a, *more, "--lifts", 2, *model)
        assert result.exit_code == 2
        assert result.stderr.startswith("covis: 'plain' has no LiFT, so its features cannot be")
        assert result.stderr.count("\n") == 1


def test_benchmarks_leave_out_what_a_model_cannot(
    covis: Run, clip: Path, plain_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    for n in range(4):
        PIL.Image.fromarray(square(n) * 127).save(tmp_path / "masks" / f"{n:03}.png")
        PIL.Image.open(clip / f"{n:03}.png").save(clip / f"{n:03}.jpg")
    result = covis("eval", "davis", tmp_path, "--features", plain_bundle, "--out", "rows.json")
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("rows.json").read_text())["rows"]
    assert [row["method"].partition(", ")[2] for row in rows] == [
        "backbone",
        "+ bilinear x 2",
        "+ bilinear x 4",
    ]
