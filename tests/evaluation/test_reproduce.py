import json
import math
from pathlib import Path

from helpers import trees

from covis.errors import ArgumentError, CovisError
from covis.evaluation import reproduce
from covis.evaluation.benchmark import Row, Settings
from covis.evaluation.registry import BENCHMARKS
from covis.evaluation.reproduce import Job, find_data, page, plan
from covis.evaluation.result import Result

SIFT = Settings(features="sift", matcher="nearest", seeds=1, max_keypoints=200)


def result(job, rows, seconds=1.0):
    return Result(
        job.benchmark, "d", job.settings, {"m": "1"}, tuple(rows), seconds, "2026-02-03", "here", {}
    )


def test_data_is_found_by_folder_and_marks(tmp_path):
    trees.hpatches(tmp_path / "HPatches")
    trees.pairs(tmp_path / "homography" / "wall")
    trees.queries(tmp_path / "search" / "museum")
    # Laid out like ScanNet-1500, but of no benchmark's name.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pairs_calibrated.txt").write_text("")
    # Of a benchmark's name, without its data.
    (tmp_path / "roxford5k").mkdir()
    assert set(find_data(tmp_path)) == {
        ("pairs", tmp_path),
        ("queries", tmp_path / "search"),
        ("hpatches", tmp_path / "HPatches"),
    }
    (tmp_path / "scannet1500").mkdir()
    (tmp_path / "scannet1500" / "pairs_calibrated.txt").write_text("")
    assert ("scannet1500", tmp_path / "scannet1500") in set(find_data(tmp_path))


def test_plan_has_sift_and_ours_and_official_ones_only_where_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    trees.pairs(tmp_path / "wall")
    jobs = plan(tmp_path, "xfeat-official", Settings(threads=1))
    assert {job.label for job in jobs} == {"SIFT", "ours"}
    assert all(job.settings.threads == 1 for job in jobs)
    assert {job.settings.matcher for job in jobs} == {"nearest", "lightglue"}
    assert {job.settings.max_keypoints for job in jobs} == {4096, 2048}
    assert len({job.file for job in jobs}) == len(jobs)
    # The shipped weights stand for official ones, to see that they are taken where they are.
    official = plan(tmp_path, "xfeat-covis", Settings())
    assert {job.label for job in official} == {"SIFT", "official weights", "ours"}
    assert "lightglue" in {
        job.settings.matcher for job in official if job.label == "official weights"
    }


def test_plan_knows_a_folder_however_it_is_named(tmp_path, monkeypatch):
    trees.pairs(tmp_path / "wall")
    monkeypatch.chdir(tmp_path / "wall")
    named = plan(Path(".."), "none", Settings()), plan(tmp_path, "none", Settings())
    assert [job.folder for job in named[0]] == [job.folder for job in named[1]]


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    data = trees.pairs(tmp_path / "wall")
    jobs = [Job("pairs", data, label, SIFT) for label in ("one", "two")]
    keep = tmp_path / "parts"
    [first] = [next(reproduce.run(jobs, keep))]
    assert not first[2]
    assert sorted(path.name for path in keep.iterdir()) == [jobs[0].file]
    again = list(reproduce.run(jobs, keep))
    assert [known for _, _, known in again] == [True, False]
    assert again[0][1].rows[0].figures == first[1].rows[0].figures
    # Other settings, or other versions, are measured again.
    other = Job("pairs", data, "one", Settings(features="sift", matcher="nearest", seeds=2))
    assert other.file != jobs[0].file or other.kept(keep) is None
    changed = Job("pairs", data, "one", Settings(**vars(SIFT) | {"every": 2}))
    assert changed.file == jobs[0].file
    assert changed.kept(keep) is None
    monkeypatch.setattr(reproduce, "versions", lambda: {"numpy": "9"})
    assert jobs[0].kept(keep) is None


def test_damaged_kept_results_are_measured_again(tmp_path):
    job = Job("pairs", trees.pairs(tmp_path / "wall"), "one", SIFT)
    (tmp_path / job.file).write_text("{")
    assert job.kept(tmp_path) is None


def pose_row(part, errors):
    counts = [1] * len(errors)
    detail = {"errors": errors, "matches": counts, "inliers": [[1]] * len(errors)}
    return Row("relative pose, LO-RANSAC", "m", part, {"AUC@5°": 1.0}, len(errors), detail=detail)


def test_the_page_has_ours_and_printed_rows_and_what_is_missing(tmp_path):
    settings = Settings(max_keypoints=None, threads=1)
    job = Job("megadepth1500", tmp_path / "megadepth1500", "ours", settings)
    row = Row("XFeat, LO-RANSAC", "xfeat-covis + nearest", "all", {"AUC@5°": 12.34}, 9)
    waiting = Job("megadepth1500", tmp_path / "megadepth1500", "SIFT", SIFT)
    text = page([(job, result(job, [row]))], [(waiting, "not yet")], "xfeat-official")
    assert "| ours | xfeat-covis + nearest | all | 9 | 12.3 |" in text
    assert (
        "| printed: XFeat (Potje et al., CVPR 2024), MegaDepth-1500 | XFeat | all |  | 42.6 |"
        in (text)
    )
    assert "- `megadepth1500`, SIFT, sift + nearest, 200 keypoints: not yet" in text
    assert f"- `hpatches`: {BENCHMARKS['hpatches'].how_to_get}" in text
    assert "- `megadepth1500`: the data" not in text
    for fact in ("2026-02-03", "- machine: here", "- threads: 1", "m (1)", "seeds"):
        assert fact in text


def test_hard_poses_are_pooled_from_single_errors(tmp_path):
    settings = Settings(max_keypoints=2048)
    job = Job("pairs", tmp_path, "ours", settings)
    # null in JSON stands for infinite errors.
    rows = [pose_row("7scenes", [[1.0], [None]]), pose_row("scannet-sample", [[30.0], [1.0]])]
    rows.append(pose_row("easy", [[0.0]]))
    text = page([(job, result(job, rows))], [], "x")
    [line] = [line for line in text.splitlines() if "hard poses" in line]
    # Two of four pairs at 1 degree: recall rises to 1/4 there, jumps to 1/2, and stays to 5.
    assert f"| ours | m | hard poses | 4 | {100 * (0.25 / 2 + 4 * 0.5) / 5:.1f} |" in line


def test_no_group_without_all_of_its_sets(tmp_path):
    job = Job("pairs", tmp_path, "ours", Settings())
    text = page([(job, result(job, [pose_row("7scenes", [[1.0], [math.inf]])]))], [], "x")
    assert "hard poses" not in text
    assert "7scenes" in text


def test_exception_of_a_job_does_not_stop_the_others(tmp_path):
    broken = trees.pairs(tmp_path / "broken")
    (broken / "pairs.json").write_text(json.dumps([{"image0": "a.png"}]))
    data = trees.pairs(tmp_path / "wall")
    jobs = [
        Job("pairs", broken, "damaged", SIFT),
        Job("pairs", data, "no model", Settings(features="nowhere", matcher="nearest")),
        Job("pairs", data, "good", SIFT),
    ]
    (_, damaged, _), (_, lost, _), (_, good, _) = reproduce.run(jobs, tmp_path / "parts")
    assert isinstance(damaged, ArgumentError)
    assert "image1" in str(damaged)
    assert isinstance(lost, CovisError)
    assert "no model named 'nowhere'" in str(lost)
    assert isinstance(good, Result)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [jobs[2].file]
