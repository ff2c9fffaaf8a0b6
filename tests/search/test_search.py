"""Searching: what is found, where, in what order and in what time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.pages import page
from numpy.typing import NDArray

from covis.draw.hits import COLUMNS, MARGIN, TILE, TITLE, draw_hits
from covis.errors import ArgumentError, CovisError, ImageError
from covis.features.extractor import Extractor
from covis.geometry.agreement import View
from covis.geometry.polygon import box_around, clipped, corners
from covis.images.decode import enlarged, load_image
from covis.images.orientation import ORIENTATIONS, Orientation
from covis.matching import Matcher
from covis.matching.lightglue import LightGlue
from covis.runtime import Bundle
from covis.search import Index, compared, retrieve
from covis.search.compared import doubted
from covis.search.names import Names
from covis.search.retrieve import FINER_KEYPOINTS, Hit, Ranker, SearchResult
from covis.search.store import Store
from covis.types import Features, Geometry, Matches, Verdict, VerdictLabel

Pixels = NDArray[np.uint8]
Scene = Callable[..., Pixels]
Write = Callable[[Path, Pixels], Path]
Told = dict[str, tuple[int, VerdictLabel]]
"""What a matcher is to say of photos, by name: inliers and verdict."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, scene: Scene, write: Write) -> Index:
    """Eight scenes, larger than those of the other tests."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(8):
        write(folder / "photos" / f"{number}.png", scene(number, 240, 320))
    index = Index(folder / "store", features="sift", max_keypoints=400)
    index.add([folder / "photos"])
    return index


def names(found) -> list[str]:
    return [Path(hit.path).name for hit in found.hits]


def moved(pixels: Pixels) -> tuple[Pixels, NDArray[np.float64]]:
    """Another view of a picture, and the map from the picture to it (pixel centres at .5)."""
    matrix = np.array([[0.85, -0.1, 40], [0.12, 0.9, 5], [1e-4, 0, 1]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    whole = np.linalg.inv(half) @ matrix @ half
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(cv2.warpPerspective(pixels, whole, size), np.uint8), matrix


def rgb(pixels: Pixels) -> Pixels:
    """The files hold what OpenCV takes for BGR."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def test_another_view_is_found_and_says_where(large: Index, scene: Scene) -> None:
    view, matrix = moved(rgb(scene(3, 240, 320)))
    found = large.search(view, 5, budget=None)
    hit = found.hits[0]
    assert names(found)[0] == "3.png"
    assert (len(found.hits), found.images, found.candidates, found.checked) == (5, 8, 8, 8)
    assert hit.verdict is not None
    assert hit.verdict.label == "same"
    assert hit.inliers > 50
    assert hit.matches is not None
    kept = hit.matches.inliers
    there = cv2.perspectiveTransform(hit.matches.points1[kept][:, None].astype(np.float64), matrix)[
        :, 0
    ]
    assert np.median(np.linalg.norm(there - hit.matches.points0[kept], axis=1)) < 1
    assert all(other.inliers < hit.inliers for other in found.hits[1:])
    # What is looked for is the whole view; its part of the picture is what both show.
    frame = (0, 0, 320, 240)
    seen = cv2.perspectiveTransform(corners(frame)[:, None], np.linalg.inv(matrix))[:, 0]
    shown = clipped(seen.astype(np.float64), frame)
    back = cv2.perspectiveTransform(shown[:, None], matrix)[:, 0]
    assert hit.regions is not None
    for region, outline in zip(hit.regions, (back, shown), strict=True):
        np.testing.assert_allclose(region, box_around(outline.astype(np.float64)), atol=2)
    assert hit.outline is not None
    assert hit.outline.shape == shown.shape


def test_a_region_is_looked_for_and_told_in_the_whole_picture(large: Index, scene: Scene) -> None:
    """Two scenes side by side: the region says which one is meant."""
    both = np.concatenate([rgb(scene(1, 240, 320)), rgb(scene(5, 240, 320))], axis=1)
    found = large.search(both, 1, region=(320, 0, 320, 240), budget=None)
    assert names(found) == ["5.png"]
    matches = found.hits[0].matches
    assert matches is not None
    shift = (matches.points0 - matches.points1)[matches.inliers]
    np.testing.assert_allclose(np.median(shift, axis=0), [320, 0], atol=0.5)
    corner = np.array([[[320.0, 0.0]]])
    mapped = cv2.perspectiveTransform(corner, matches.geometry.matrix)
    np.testing.assert_allclose(mapped[0, 0], [0, 0], atol=0.5)


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory, scene: Scene, write: Write) -> Index:
    """An index with the features of the package, which know one way up."""
    folder = tmp_path_factory.mktemp("upright")
    for number in range(3):
        write(folder / "photos" / f"{number}.png", scene(number, 320, 448))
    index = Index(folder / "store", max_keypoints=500)
    index.add([folder / "photos"])
    return index


@pytest.mark.parametrize("way", ORIENTATIONS[1:])
def test_a_copy_is_found_and_marked_whichever_way_it_stands(
    upright: Index, way: Orientation
) -> None:
    photo = load_image(Path(upright.uri).parent / "photos" / "2.png")
    query = way.of_picture(photo)
    found = upright.search(query, 1, budget=None)
    (hit,) = found.hits
    assert (Path(hit.path).name, hit.certain) == ("2.png", True)
    assert Orientation(hit.turn, hit.mirrored) == way
    told = hit.to_dict()
    assert (told["turn"], told["mirrored"]) == (way.turn, way.mirrored)
    assert hit.inliers > 300
    matches = hit.matches
    assert matches is not None
    # The points and the geometry are those of the query as it is.
    corners = np.array([[[0, 0]], [[query.width, 0]], [[0, query.height]]], np.float64)
    mapped = cv2.perspectiveTransform(corners, matches.geometry.matrix)[:, 0]
    size = np.array([photo.width, photo.height])
    np.testing.assert_allclose(mapped, np.rint(mapped / size) * size, atol=1.5)
    there = cv2.perspectiveTransform(
        matches.points0[:, None].astype(np.float64), matches.geometry.matrix
    )[:, 0]
    assert np.linalg.norm(there - matches.points1, axis=1)[matches.inliers].max() < 5


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_query_is_found_with_its_points_as_they_are(upright: Index, turn: int) -> None:
    photo = rgb(cv2.imread(str(Path(upright.uri).parent / "photos" / "2.png")))
    query = np.ascontiguousarray(np.rot90(photo, -turn // 90))
    found = upright.search(query, 1, rotate="auto", budget=None)
    assert names(found) == ["2.png"]
    matches = found.hits[0].matches
    assert matches is not None
    assert matches.inliers.sum() > 100
    assert matches.turn == turn
    x, y = matches.points1[matches.inliers].T
    width, height = 448, 320
    there = {90: (height - y, x), 180: (width - x, height - y), 270: (y, width - x)}[turn]
    apart = np.abs(np.column_stack(there) - matches.points0[matches.inliers])
    assert np.median(apart) < 1


def test_an_upright_query_is_not_turned(upright: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covis.search.retrieve.TURNS", None)
    photo = Path(upright.uri).parent / "photos" / "1.png"
    found = upright.search(photo, 1, rotate="auto", budget=None)
    assert (names(found), found.hits[0].inliers > 100) == (["1.png"], True)


@pytest.mark.parametrize("way", [Orientation(90), Orientation(270, mirrored=True)])
def test_a_turned_copy_is_found_whatever_the_vectors_say(upright: Index, way: Orientation) -> None:
    """Thumbnails of all pictures are looked at, not of the nearest alone."""
    photos = Path(upright.uri).parent / "photos"
    for number in range(3):
        query = way.of_picture(load_image(photos / f"{number}.png"))
        found = upright.search(query, 1, candidates=1, budget=None)
        assert (names(found), len(found.certain)) == ([f"{number}.png"], 1)


@pytest.mark.parametrize("side", [160, 96])
def test_a_thumbnail_finds_its_picture(upright: Index, side: int) -> None:
    photo = load_image(Path(upright.uri).parent / "photos" / "1.png").pixels
    factor = side / 448
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    found = upright.search(np.asarray(small, np.uint8), 3, budget=None)
    assert (names(found)[0], len(found.certain)) == ("1.png", 1)
    assert found.hits[0].regions is not None
    np.testing.assert_allclose(found.hits[0].regions[1], [0, 0, 448, 320], atol=3)


def test_what_shares_nothing_is_different(upright: Index, scene: Scene) -> None:
    found = upright.search(rgb(scene(77, 320, 448)), 3, budget=None)
    told = [(hit.inliers, hit.to_dict()["verdict"]) for hit in found.hits]
    assert (0, "different") in told
    assert (0, "unsure") not in told
    assert found.certain == []


def tell_time(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """All clocks say what `now` does: this thread has the processor all the time."""
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", lambda: now[0])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which is what it says: each check takes a second of it."""
    now = [0.0]
    tell_time(monkeypatch, now)
    check = Ranker._check

    def slow(self, *arguments):
        now[0] += 1.0
        return check(self, *arguments)

    monkeypatch.setattr(Ranker, "_check", slow)
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    return now


def test_turning_never_costs_what_is_found_upright(
    large: Index, clock: list[float], scene: Scene
) -> None:
    """The turned picture has as long again."""
    index = Index(large.uri)
    query = rgb(scene(77, 240, 320))
    plain = index.search(query, 8, budget=3.5)
    clock[0] = 0.0
    turned = index.search(query, 8, budget=3.5, rotate="auto")
    assert (plain.checked, plain.untried_turns) == (3, ())
    assert turned.checked >= plain.checked
    assert turned.untried_turns == ()
    clock[0] = 0.0
    turned = index.search(query, 8, budget=0.01, rotate="auto")
    assert (turned.checked, turned.untried_turns) == (1, (90, 180, 270))
    clock[0] = 0.0
    copy = np.ascontiguousarray(rgb(scene(4, 240, 320))[:, ::-1])
    assert index.search(copy, 8, budget=3.5).untried_copies == 0


def test_the_likeliest_copy_is_checked_before_all_others(
    index: Index, tmp_path: Path, clock: list[float], scene: Scene, write: Write
) -> None:
    """However short the time is; the mirrored query turned looks a little less like the others."""
    pixels = scene(4, 240, 320)
    write(tmp_path / "p" / "copy.png", pixels)
    write(tmp_path / "p" / "less.png", cv2.GaussianBlur(pixels, (0, 0), 9)[::-1, ::-1])
    write(tmp_path / "p" / "other.png", scene(5, 240, 320))
    index.add([tmp_path / "p"])
    found = index.search(np.ascontiguousarray(rgb(pixels)[:, ::-1]), budget=0.01)
    assert [(Path(hit.path).name, hit.mirrored) for hit in found.certain] == [("copy.png", True)]
    assert (found.checked, found.untried_copies) == (1, 1)


@pytest.mark.parametrize("fate", ["gone", "changed"])
def test_files_that_are_there_come_first(
    index: Index, tmp_path: Path, write: Write, scene: Scene, fate: str
) -> None:
    a, b, c = (write(tmp_path / "p" / name, scene(1)) for name in ("a.png", "b.png", "c.png"))
    os.link(c, tmp_path / "p" / "d.png")
    index.add([tmp_path / "p"])
    query = load_image(b)
    for file in (a, b):
        if fate == "gone":
            file.unlink()
        else:
            write(file, scene(2))
        (hit,) = index.search(query, budget=None).hits
    # A hard link to c is no more files.
    assert (hit.path, hit.copies, hit.state) == (str(c), (str(a), str(b)), "there")
    for file in (c, tmp_path / "p" / "d.png"):
        file.unlink()
    (hit,) = index.search(query, budget=None).hits
    assert (hit.path, hit.state) == (str(a), fate) if fate == "changed" else "gone"
    # What is there now is not drawn as what was found.
    sheet = draw_hits(query, index.search(query, budget=None))
    left = sheet[TITLE + MARGIN : -MARGIN, : MARGIN + TILE]
    assert (left == 60).all(axis=2).mean() > 0.2


def test_pages_on_one_template_are_not_certain(index: Index, tmp_path: Path, write: Write) -> None:
    for number in range(3):
        write(tmp_path / "p" / f"{number}.png", page(number, lines=6))
    index.add([tmp_path / "p"])
    found = index.search(tmp_path / "p" / "1.png", budget=None)
    assert names(found)[0] == "1.png"
    assert [hit.certain for hit in found.hits] == [True, False, False]
    assert index.search(rgb(page(7, lines=6)), budget=None).certain == []


def test_hits_of_few_inliers_lie_over_the_query(tmp_path: Path, scene: Scene, write: Write) -> None:
    """Of two unrelated pictures with 40 inliers, only the one that looks like the query is sure."""
    query, other = scene(0, 240, 320), scene(1, 240, 320)
    paths = [
        write(tmp_path / name, pixels) for name, pixels in (("b.png", other), ("a.png", query))
    ]
    area = (0.0, 0.0, 320.0, 240.0)

    def hits(columns: int) -> list[Hit]:
        across, down = np.linspace(10, 310, columns), np.linspace(10, 230, 5)
        grid = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2).astype(np.float32)
        plane = Geometry("homography", np.eye(3), np.ones(len(grid), bool))
        found = Matches(grid, grid, grid[:, 0], geometry=plane, verdict=Verdict("same", 0.99))
        return [Hit(str(path), (), 0.5, 320, 240, found, area, "there") for path in paths]

    view = View.of(load_image(rgb(query)))
    with ThreadPoolExecutor(1) as pool:
        judged, left = doubted(hits(8), view, False, pool)
        assert [Path(hit.path).name for hit in judged] == ["a.png", "b.png"]
        assert [hit.certain for hit in judged] == [True, False]
        assert left == 0
        # So many agree by no accident, and most photographs of one place do not lie over each
        # other.
        assert all(hit.certain for hit in doubted(hits(12), view, False, pool)[0])
        # The first is compared however late it is; of the others nobody knows.
        judged, left = doubted(hits(8)[::-1], view, False, pool, until=0.0)
        assert [hit.certain for hit in judged] == [True, False]
        assert left == 1
        last = judged[1].matches
        assert last is not None
        assert last.verdict == Verdict("unsure", 0.5)
        assert last.geometry is not None
        assert last.geometry.note == "no time was left to lay the pictures over each other"


def test_time_for_comparing_photos_is_kept_from_the_checks(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certain hit with few inliers is laid over the query at the end."""
    monkeypatch.setattr("covis.search.answer_time.COMPARED", 1.0)
    few: Told = {name: (9, "same") for name in "012"}
    index, _ = scripted(upright, monkeypatch, few, few)
    now = [0.0]
    tell_time(monkeypatch, now)
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    check, load = Ranker._check, compared.load_image

    def slow(self, match, *arguments):
        now[0] += 1.0
        return check(self, match, *arguments)

    def loading(*arguments, **options):
        now[0] += 1.0
        return load(*arguments, **options)

    monkeypatch.setattr(Ranker, "_check", slow)
    monkeypatch.setattr(compared, "load_image", loading)
    monkeypatch.setattr(retrieve, "FINER_SHARE", 0.0)
    monkeypatch.setattr(retrieve, "_rivals", lambda best: [])
    query = Path(upright.uri).parent / "photos" / "0.png"
    results = []
    for budget in (4.5, 0.5):
        now[0] = 0.0
        found = index.search(query, budget=budget)
        results.append((found.checked, found.not_compared, found.seconds["total"]))
    # Two checks, of which two photos are to be compared; a third would leave no time for those.
    assert results == [(2, 0, 4.0), (1, 0, 2.0)]


def test_certain_hits_come_first_and_the_rest_by_similarity(large: Index, scene: Scene) -> None:
    """A query of two scenes: both are certain, whatever the vector of the whole says."""
    both = np.concatenate([rgb(scene(0, 240, 320)), rgb(scene(6, 240, 320))[:, :200]], axis=1)
    found = large.search(both, 8, budget=None)
    labels = [hit.verdict.label == "same" for hit in found.hits if hit.verdict is not None]
    assert names(found)[:2] == ["0.png", "6.png"]
    assert labels == [True, True] + [False] * 6
    rest = [hit.similarity for hit in found.hits[2:]]
    assert rest == sorted(rest, reverse=True)


def test_hits_are_reported_by_likeness_first_and_then_as_they_are_checked(
    large: Index, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "TOLD_EVERY", 0.0)
    told: list[SearchResult] = []
    found = large.search(scene(3, 240, 320), 5, budget=None, report=told.append)
    assert told[0].checked == 0
    similar = [hit.similarity for hit in told[0].hits]
    assert similar == sorted(similar, reverse=True)
    checked = [each.checked for each in told]
    assert checked == sorted(checked)
    assert 0 < checked[1] < checked[-1]
    assert names(told[-1]) == names(found)
    assert found.hits[0].certain

    def stop(_: SearchResult) -> None:
        raise ArgumentError("enough")

    with pytest.raises(ArgumentError, match="enough"):
        large.search(scene(3, 240, 320), report=stop)


def test_the_budget_stops_the_checking(large: Index, clock: list[float]) -> None:
    index = Index(large.uri)
    query = Path(large.uri).parent / "photos" / "4.png"
    found = index.search(query, 8, budget=3.5)
    assert (found.checked, found.candidates, len(found.hits)) == (3, 8, 8)
    assert names(found)[0] == "4.png"
    assert [hit.matches is None for hit in found.hits].count(True) == 5
    clock[0] = 0.0
    found = index.search(query, 8, budget=0.01)
    assert (found.checked, names(found)[0]) == (1, "4.png")
    assert found.hits[0].certain
    # A second for the one, seven more for the others, and a fifth to spare.
    assert found.enough == pytest.approx(1.2 * 8)


def test_a_busy_machine_leaves_less_of_the_budget_for_checking(
    large: Index, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding the query is a second of work; the clock tells how slow things are, and the end of
    the answer takes as many times as long."""
    monkeypatch.setattr("covis.search.answer_time.ANSWER", 1.0)
    decode, took = retrieve._region_of, [1.0]
    monkeypatch.setattr(time, "thread_time", lambda: clock[0] - (took[0] - 1) * (clock[0] > 0))

    def slowly(*arguments: object) -> object:
        clock[0] = took[0]
        return decode(*arguments)

    monkeypatch.setattr(retrieve, "_region_of", slowly)
    index = Index(large.uri)
    query = Path(large.uri).parent / "photos" / "4.png"
    checked = []
    for took[0] in (1.0, 1.9, 6.0):
        clock[0] = 0.0
        checked.append(index.search(query, 8, budget=9.5).checked)
    # The checks are at full speed again, and the time that is kept becomes less.
    assert checked == [7, 6, 1]


def test_names_are_looked_up_before_the_checks(
    large: Index, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end there is no time to wait for the tables; each is asked for once."""
    told: list[str | tuple[str, int]] = []
    check, named = Ranker._check, Store.named

    def checking(self, *arguments):
        told.append("check")
        return check(self, *arguments)

    def naming(self, contents, columns):
        told.append(("named", len(contents)))
        return named(self, contents, columns)

    monkeypatch.setattr(Ranker, "_check", checking)
    monkeypatch.setattr(Store, "named", naming)
    found = Index(large.uri).search(Path(large.uri).parent / "photos" / "4.png", 8, budget=3.5)
    assert told == [("named", 8), "check", "check", "check"]
    assert len(found.hits) == 8


def test_few_candidates_are_read_before_the_first_check(
    large: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    monkeypatch.setattr("covis.search.retrieve.FETCHED", 2)
    sizes, read = [], Store.features

    def reading(self, rows):
        sizes.append(len(rows))
        return read(self, rows)

    monkeypatch.setattr(Store, "features", reading)
    query = Path(large.uri).parent / "photos" / "4.png"
    found = Index(large.uri, matcher="nearest").search(query, 8, budget=None)
    assert (sizes, found.checked) == ([1, 2, 2, 2, 1], 8)


def scripted(
    index: Index, monkeypatch: pytest.MonkeyPatch, nearest: Told, lightglue: Told
) -> tuple[Index, list[str]]:
    """The index, with matchers that say what they are told of each photo, and a list of those that
    LightGlue was asked about."""
    rows, _ = index.store.vectors()
    stored = [features for _, features in index.store.features(rows.tolist())]
    photos = sorted((Path(index.uri).parent / "photos").iterdir())
    extract = Extractor(max_keypoints=500)
    known = {extract(enlarged(load_image(path))).keypoints[0].tobytes(): path for path in photos}
    assert len(known) == len(stored) == 3
    asked = []

    def check(match: Matcher, features0: Features, features1: Features) -> Matches:
        name = known[features1.keypoints[0].tobytes()].stem
        inliers, label = (nearest if match.matcher == "nearest" else lightglue)[name]
        if match.matcher == "auto":
            assert max(len(features0), len(features1)) <= FINER_KEYPOINTS
            asked.append(name)
        points = features1.keypoints[:inliers]
        geometry = Geometry("homography", np.eye(3), np.ones(inliers, bool))
        scores = np.ones(inliers, np.float32)
        return Matches(points, points, scores, geometry=geometry, verdict=Verdict(label, 0.5))

    monkeypatch.setattr("covis.search.retrieve.check_pair", check)
    return Index(index.uri), asked


def stems_and_inliers(found: SearchResult) -> list[tuple[str, int]]:
    return [(Path(hit.path).stem, hit.inliers) for hit in found.hits]


def test_lightglue_has_the_last_word_on_who_is_first(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photo 2 has too few matches to be in question; what is certain to LightGlue is in front."""
    nearest: Told = {"0": (100, "same"), "1": (60, "same"), "2": (40, "same")}
    lightglue: Told = {"0": (70, "same"), "1": (80, "same"), "2": (99, "same")}
    index, asked = scripted(upright, monkeypatch, nearest, lightglue)
    query = Path(upright.uri).parent / "photos" / "0.png"
    found = index.search(query, budget=None)
    assert sorted(asked) == ["0", "1"]
    assert stems_and_inliers(found) == [
        ("1", 80),
        ("0", 70),
        ("2", 40),
    ]
    lightglue |= {"1": (90, "unsure"), "0": (10, "same")}
    found = index.search(query, budget=None)
    assert stems_and_inliers(found) == [
        ("0", 10),
        ("1", 60),
        ("2", 40),
    ]


def test_lightglue_is_asked_about_all_where_none_is_certain(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest: Told = {"0": (9, "unsure"), "1": (8, "different"), "2": (7, "unsure")}
    lightglue: Told = {"0": (30, "unsure"), "1": (8, "different"), "2": (20, "same")}
    index, asked = scripted(upright, monkeypatch, nearest, lightglue)
    found = index.search(Path(upright.uri).parent / "photos" / "0.png", budget=None)
    assert sorted(asked) == ["0", "1", "2"]
    assert stems_and_inliers(found)[:2] == [("2", 20), ("0", 9)]


def test_lightglue_is_not_asked_where_the_first_place_is_clear(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest: Told = {"0": (100, "same"), "1": (90, "unsure"), "2": (49, "same")}
    index, asked = scripted(upright, monkeypatch, nearest, {})
    found = index.search(Path(upright.uri).parent / "photos" / "0.png", budget=None)
    assert (asked, names(found)[:2]) == ([], ["0.png", "2.png"])


def test_nearest_leaves_lightglue_time_and_goes_on_after_it(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is what the clock says: a check takes a second of it, one of LightGlue's four, and six
    are reckoned with before the first."""
    now = [0.0]
    nearest: Told = {name: (9, "unsure") for name in "012"}
    lightglue: Told = {name: (20, "same") for name in "012"}
    index, asked = scripted(upright, monkeypatch, nearest, lightglue)
    tell_time(monkeypatch, now)
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    check = Ranker._check

    def slow(self, match, *arguments):
        now[0] += 1.0 if match.matcher == "nearest" else 4.0
        return check(self, match, *arguments)

    monkeypatch.setattr(Ranker, "_check", slow)
    query = Path(upright.uri).parent / "photos" / "0.png"
    for budget, checked, lightglues, seconds in (
        (9.5, 3, 1, 7.0),
        (8.9, 3, 0, 3.0),
        # Three fifths are for nearest at first.
        (3.5, 3, 0, 3.0),
        (2.5, 2, 0, 2.0),
    ):
        now[0] = 0.0
        asked.clear()
        found = index.search(query, budget=budget)
        assert (found.checked, len(asked), found.seconds["total"]) == (checked, lightglues, seconds)
        assert found.hits[0].certain == (lightglues > 0)


def test_lightglue_is_given_up_when_the_time_is_over(
    upright: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its layers takes a second of the clock, and what was found before stays."""
    now, layers = [0.0], [0]
    tell_time(monkeypatch, now)
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    monkeypatch.setattr("covis.search.retrieve._rivals", lambda best: best)
    advance = LightGlue._advance

    def slow(self, *arguments):
        now[0], layers[0] = now[0] + 1, layers[0] + 1
        return advance(self, *arguments)

    monkeypatch.setattr(LightGlue, "_advance", slow)
    monkeypatch.setattr(LightGlue, "_done", lambda *_: False)
    query = Path(upright.uri).parent / "photos" / "1.png"
    found = upright.search(query, 3, budget=2.5)
    assert (layers[0], found.seconds["refine"]) == (3, 3.0)
    assert names(found)[0] == "1.png"
    assert found.hits[0].to_dict()["model"] == "xfeat-covis"


def test_what_lightglue_found_is_told(upright: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all photos were rivals: LightGlue's own matches, with the package's weights."""
    monkeypatch.setattr("covis.search.retrieve._rivals", lambda best: best)
    monkeypatch.setattr("covis.search.retrieve.FINER_KEYPOINTS", 100)
    found = upright.search(Path(upright.uri).parent / "photos" / "1.png", 3, budget=None)
    assert names(found)[0] == "1.png"
    matches = found.hits[0].matches
    assert matches is not None
    assert matches.model == "xfeat-covis + lightglue-xfeat-covis"
    assert 50 < found.hits[0].inliers <= 100
    assert np.abs(matches.points0 - matches.points1)[matches.inliers].max() < 5
    assert found.hits[1].to_dict()["model"] == "xfeat-covis"


@pytest.fixture
def slanted(tmp_path: Path, scene: Scene, write: Write) -> tuple[Index, Path]:
    """A store of three photos, and a query: one of them turned by 50 degrees and shrunk to a third,
    which XFeat's features do not match."""
    for number in range(3):
        write(tmp_path / "photos" / f"{number}.png", scene(number, 320, 448))
    index = Index(tmp_path / "store", max_keypoints=300, threads=1)
    index.add([tmp_path / "photos"])
    matrix = cv2.getRotationMatrix2D((224, 160), 50, 0.4)
    query = cv2.warpAffine(scene(1, 320, 448), matrix, (448, 320), flags=cv2.INTER_AREA)
    return index, write(tmp_path / "query.png", query)


def test_effort_looks_once_more_at_what_stays_unsure(slanted: tuple[Index, Path]) -> None:
    """At a part of the query; points and geometry are those of the whole."""
    index, query = slanted
    picture = cv2.copyMakeBorder(cv2.imread(str(query)), 30, 0, 50, 0, cv2.BORDER_CONSTANT)
    whole, region = np.ascontiguousarray(picture[:, :, ::-1]), (50, 30, 448, 320)
    before = index.search(whole, 3, region=region, budget=None)
    assert (before.certain, before.looked_again, before.left) == ([], 0, 0)
    found = index.search(whole, 1, region=region, budget=None, effort="auto")
    (hit,) = found.hits
    assert (Path(hit.path).name, hit.certain) == ("1.png", True)
    assert 1 <= found.looked_again <= 3
    assert hit.matches is not None
    assert hit.to_dict()["attempts"][0]["method"] == "edgepoint-covis"
    assert hit.matches.stopped
    # OpenCV has the centre of the top-left pixel at (0, 0).
    matrix = cv2.getRotationMatrix2D((224.5, 160.5), 50, 0.4)
    matrix[:, 2] += region[:2]
    moved = cv2.transform(hit.matches.points1[hit.matches.inliers][:, None], matrix)[:, 0]
    off = np.linalg.norm(moved - hit.matches.points0[hit.matches.inliers], axis=1)
    assert np.median(off) < 1
    back = cv2.perspectiveTransform(moved[:, None], hit.matches.geometry.matrix)[:, 0]
    off = np.linalg.norm(back - hit.matches.points1[hit.matches.inliers], axis=1)
    assert np.median(off) < 3


def test_effort_ends_with_the_budget_and_leaves_gone_photos(
    slanted: tuple[Index, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, query = slanted
    looked: list[str] = []

    def look(self, hit, pictures, query, corner, until):
        looked.append(Path(hit.path).name)
        now[0] += 2.0
        return pictures, hit

    now = [0.0]
    tell_time(monkeypatch, now)
    monkeypatch.setattr("covis.search.second_look.SecondLook._look", look)
    found = index.search(query, 3, budget=3, effort="auto")
    assert (found.looked_again, found.left, len(looked)) == (2, 1, 2)
    (Path(index.uri).parent / "photos" / looked[0]).unlink()
    now[0] = 0.0
    again = index.search(query, 3, budget=10, effort="auto")
    assert (again.looked_again, again.left) == (2, 0)
    assert looked[0] not in looked[2:]
    with pytest.raises(ArgumentError, match="no effort 'much'"):
        index.search(query, effort="much")


def test_each_photo_that_is_looked_at_once_more_is_told_and_the_rest_can_be_left(
    slanted: tuple[Index, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, query = slanted
    looked: list[str] = []

    def look(self, hit, pictures, query, corner, until):
        looked.append(Path(hit.path).name)
        return pictures, replace(hit, looked_for=(0, 0, len(looked), 1))

    def stop(some: SearchResult) -> None:
        if len(looked) == 2:
            told.append([hit.looked_for[2] for hit in some.hits if Path(hit.path).name in looked])
            raise KeyboardInterrupt

    told: list[list[float]] = []
    monkeypatch.setattr("covis.search.second_look.SecondLook._look", look)
    with pytest.raises(KeyboardInterrupt):
        index.search(query, 3, budget=None, effort="auto", report=stop)
    assert len(looked) == 2
    assert [sorted(each) for each in told] == [[1, 2]]


def test_a_named_matcher_is_used_alone(slanted: tuple[Index, Path]) -> None:
    index, query = slanted
    named = Index(index.uri, matcher="nearest", threads=1)
    assert named.search(query, 3, budget=None, effort="auto").looked_again == 0


def test_fewer_candidates_are_the_most_similar(large: Index) -> None:
    query = Path(large.uri).parent / "photos" / "4.png"
    every = large.search(query, 8, budget=0.001)
    few = large.search(query, 8, candidates=3, budget=0.001)
    assert names(few) == names(every)[:3]


def test_copies_are_told_and_files_that_went_are_not(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    a, b, c = (write(tmp_path / "p" / name, scene(1)) for name in ("a.png", "b.png", "c.png"))
    write(tmp_path / "p" / "d.png", scene(2))
    index.add([tmp_path / "p"])
    (hit, _) = index.search(a, budget=None).hits
    assert (hit.path, hit.copies) == (str(a), (str(b), str(c)))
    index.remove([a])
    (hit, _) = index.search(a, budget=None).hits
    assert (hit.path, hit.copies) == (str(b), (str(c),))
    # A picture that no file has, as a killed run may leave it, is no hit.
    index.store.files.delete(f"path IN ('{b}', '{c}')")
    assert names(index.search(a, budget=None)) == ["d.png"]


def test_what_is_added_later_is_found(
    filled: Index, photos: Path, write: Write, scene: Scene
) -> None:
    query = write(photos.parent / "query.png", scene(50))
    assert "new.png" not in names(filled.search(query, budget=None))
    write(photos / "new.png", scene(50))
    Index(filled.uri).add([photos])
    assert names(filled.search(query, 1, budget=None)) == ["new.png"]


def test_the_same_with_lance_s_vector_index(
    filled: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = filled.search(photos / "2.png", budget=None)
    monkeypatch.setattr("covis.search.store.VECTOR_INDEX_FROM", 3)
    filled.store.tidy()
    index = Index(filled.uri)
    assert index.store.has_vector_index()
    found = index.search(photos / "2.png", budget=None)
    assert names(found)[0] == "2.png"
    assert found.hits[0].similarity == pytest.approx(exact.hits[0].similarity, abs=0.01)
    assert {hit.path for hit in found.hits} == {hit.path for hit in exact.hits}

    # Names are looked up in a table so large only of what is likely to be a hit.
    asked, look_up = [], Names._look_up

    def looking(self, rows):
        asked.append(len(rows))
        return look_up(self, rows)

    monkeypatch.setattr(Names, "_look_up", looking)
    assert len(index.search(photos / "2.png", 1, budget=None).hits) == 1
    assert asked == [1]


def test_an_empty_store_has_no_hits(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    query = write(tmp_path / "q.png", scene(1))
    index.add([query])
    index.remove([query])
    found = index.search(query)
    assert (found.hits, found.images) == ([], 0)
    assert index.duplicates() == []


def test_a_query_without_features_is_answered(filled: Index) -> None:
    grey = np.full((60, 60), 128, np.uint8)
    found = filled.search(grey, budget=None)
    assert len(found.hits) == 6
    assert all(hit.inliers == 0 for hit in found.hits)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"k": 0}, "must be 1 or more"),
        ({"candidates": 0}, "must be 1 or more"),
        ({"budget": 0}, "a time above 0"),
        ({"budget": "2s"}, "budget must be a finite number, not .2s."),
        ({"k": 2.5}, "k must be a whole number"),
        ({"rotate": "45"}, "no rotate '45'"),
        ({"region": (0, 0, 500, 20)}, "does not lie in .* of 200x150 pixels"),
        ({"region": (0, 0, 0, 20)}, "give x,y,width,height"),
    ],
)
def test_exception_for_options_out_of_range(
    filled: Index, photos: Path, options: dict[str, object], told: str
) -> None:
    with pytest.raises(ArgumentError, match=told):
        filled.search(photos / "0.png", **options)


def test_exception_for_a_query_that_is_no_picture(filled: Index, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        filled.search(tmp_path / "none.png")


def test_exception_for_a_store_of_other_weights(
    filled: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Extractor, "weights", "others")
    with pytest.raises(
        ArgumentError, match=r"weights none then, others now\)\. .* make a new store"
    ):
        Index(filled.uri).search(photos / "0.png")


@pytest.mark.parametrize(
    ("matcher", "told"),
    [
        ("lightglue", "no LightGlue weights are installed for 'sift'"),
        ("lightglue-xfeat-covis", "is for features of 'xfeat-covis', not of 'sift'"),
    ],
)
def test_exception_for_a_matcher_of_other_features(
    filled: Index, photos: Path, matcher: str, told: str
) -> None:
    with pytest.raises(CovisError, match=told):
        Index(filled.uri, matcher=matcher).load()


@pytest.mark.parametrize(
    ("matcher", "told"), [("magic", "no matcher 'magic'"), ("semi-dense", "sparse features")]
)
def test_exception_for_an_unknown_matcher_before_anything_is_read(
    tmp_path: Path, matcher: str, told: str
) -> None:
    with pytest.raises(ArgumentError, match=told):
        Index(tmp_path / "none", matcher=matcher)


def test_exception_for_a_matcher_that_needs_what_no_store_keeps(
    filled: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(
        "for-sift",
        "lightglue",
        {},
        "",
        "",
        Path(),
        settings={"features": "sift", "scale_orientation": True},
    )
    monkeypatch.setattr(
        Matcher, "bundle", lambda self, model: None if self.matcher == "nearest" else bundle
    )
    with pytest.raises(ArgumentError, match=r"'for-sift' needs .* scales and orientations"):
        Index(filled.uri, matcher="lightglue").load()
    # By default they are left out.
    (hit, *_) = Index(filled.uri).search(photos / "0.png").hits
    assert hit.to_dict()["model"] == "sift"


def test_the_sheet_has_a_tile_a_hit(large: Index, tmp_path: Path) -> None:
    query = Path(large.uri).parent / "photos" / "4.png"
    found = large.search(query, 3, budget=None)
    gone = replace(found.hits[2], path=str(tmp_path / "gone.png"), matches=None)
    sheet = draw_hits(query, replace(found, hits=[*found.hits[:2], gone]))
    assert sheet.shape[1] == MARGIN + COLUMNS * (TILE + MARGIN)
    tile = (sheet.shape[0] - 3 * MARGIN) // 2
    for row, column in ((0, 0), (0, 1), (1, 0)):
        top, left = MARGIN + row * (tile + MARGIN), MARGIN + column * (TILE + MARGIN)
        assert sheet[top : top + tile, left : left + TILE].std() > 5
    assert (sheet[-100:, TILE + 2 * MARGIN :] == sheet[0, 0]).all()


def test_the_sheet_frames_the_region(large: Index, scene: Scene) -> None:
    query, region = rgb(scene(1, 240, 320)), (40, 30, 200, 150)
    found = large.search(query, 1, region=region, budget=None)
    found = replace(found, hits=[replace(found.hits[0], matches=None)])
    plain, framed = draw_hits(query, found), draw_hits(query, found, region=region)
    rows, columns = np.nonzero((plain != framed).any(axis=2))
    # Both pictures at their own size, a gap of 6 pixels between, in the tile's middle.
    left = MARGIN + (TILE - 2 * 320 - 6) // 2 + 40
    top = MARGIN + TITLE + 30
    np.testing.assert_allclose([columns.min(), rows.min()], [left, top], atol=4)
    np.testing.assert_allclose([columns.max(), rows.max()], [left + 200, top + 150], atol=4)


def test_hits_as_plain_words(large: Index) -> None:
    import json

    query = Path(large.uri).parent / "photos" / "4.png"
    found = json.loads(json.dumps(large.search(query, 2, budget=None).to_dict()))
    first = found["hits"][0]
    assert (found["images"], first["verdict"], first["turn"]) == (8, "same", 0)
    assert first["inliers"] <= first["matches"]
    assert first["model"] == "sift"
    np.testing.assert_allclose(first["query_region"], first["region"], atol=0.1)


def test_stored_features_are_what_the_extractor_finds(large: Index) -> None:
    path = Path(large.uri).parent / "photos" / "0.png"
    fresh: Features = Extractor("sift", max_keypoints=400)(enlarged(load_image(path)))
    rows, _ = large.store.vectors()
    (stored,) = [
        features
        for (_, features) in large.store.features(rows.tolist())
        if len(features) == len(fresh) and np.array_equal(features.keypoints, fresh.keypoints)
    ]
    assert (stored.width, stored.height, stored.model) == (320, 240, "sift")
