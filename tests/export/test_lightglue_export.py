"""LightGlue's bundle and its one file against the network they come from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from covis import Matcher
from covis.errors import ArgumentError, BundleError
from covis.matching.lightglue import LightGlue, Settings
from covis.runtime import Bundle
from covis.runtime.onnx import OnnxGraph

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
onnx = pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.export.lightglue import (  # noqa: E402
    FIXED_OUTPUTS,
    Parity,
    agreement,
    compare,
    default_settings,
    export_fixed_depth,
    export_for_other_runtimes,
    export_lightglue,
    made_up_pair,
    parity_report,
)
from covis.nets.lightglue import LightGlue as Net  # noqa: E402

THRESHOLDS = {"depth_confidence": 0.6, "width_confidence": 0.8, "threshold": 0.0}


@pytest.fixture(scope="module")
def net():
    """Random weights whose heads disagree about the points, so that the loop has work to do."""
    torch.manual_seed(1)
    net = Net(16, dim=32, layers=3, heads=2).eval()
    for head in net.token_confidence.values():
        head.token[0].weight.data *= 8
        head.token[0].bias.data += 2
    for head in net.log_assignment.values():
        head.matchability.weight.data *= 8
        head.matchability.bias.data -= 2
        head.final_proj.weight.data *= 3
    return net


@pytest.fixture(scope="module")
def bundle(net, models):
    return export_lightglue(
        net,
        models / "glue",
        name="glue",
        licence="Apache-2.0",
        source="-",
        features="made up",
        settings=replace(default_settings(net), **THRESHOLDS),
    )


@pytest.fixture(scope="module")
def fixed(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("fixed") / "glue.onnx"
    export_fixed_depth(net, path, threshold=0.0)
    return path


def pair_of(net, *counts, seed=0):
    return made_up_pair(net, counts, np.random.default_rng(seed))


def test_description(net, bundle):
    about = json.loads((bundle.folder / "bundle.json").read_text())
    assert about["architecture"] == "lightglue"
    assert about["settings"] == {"features": "made up", "dim": 32, "heads": 2} | asdict(
        replace(default_settings(net), **THRESHOLDS)
    )
    assert Settings.of(Bundle.read(bundle.folder)) == replace(default_settings(net), **THRESHOLDS)


def test_published_thresholds():
    """LightGlue's and, of the sizes of LighterGlue, its own."""
    large, small = default_settings(Net(128)), default_settings(Net(64, dim=96, layers=6, heads=1))
    assert (large.depth_confidence, large.width_confidence, large.threshold) == (0.95, 0.99, 0.1)
    assert (small.depth_confidence, small.width_confidence, small.threshold) == (None, 0.95, 0.1)


def test_parity(net, bundle, fixed):
    rows = compare(net, bundle, fixed)
    for row in rows:
        assert row.layers[0] == row.layers[1]
        assert row.alike
        assert row.matches == (row.common, row.common)
        assert row.difference < 1e-4
    adapted = [row for row in rows if row.run == "as set"]
    assert any(row.pruned[0] for row in adapted)
    assert any(row.layers[0] < 3 for row in adapted)
    assert max(row.common for row in rows) > 100
    assert {row.run for row in rows} == {"as set", "full", "one file"}
    report = parity_report(bundle, rows)
    assert "| full | 512 x 400 | 3 / 3 | 0 / 0 |" in report
    assert report.count("\n| ") == len(rows) + 2
    assert agreement(rows) in report


def test_agreement():
    one = Parity("full", (9, 9), (3, 3), (0, 0), (8, 7), 6, 2e-5, True)
    two = Parity("as set", (9, 9), (3, 2), (0, 0), (4, 4), 4, 1e-5, True)
    said = agreement([one, two])
    assert "10 of 12 matches the same, scores within 2.0e-05" in said
    assert "alike in 1 of 2 runs" in said


@pytest.fixture
def traced(bundle, fixed, monkeypatch):
    """Puts the files of these tests where new ones would be traced; takes the arguments."""
    given = {}

    def export(net, folder, **arguments):
        given.update(arguments)
        shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
        return Bundle.read(folder)

    monkeypatch.setattr("covis.export.lightglue.export_lightglue", export)
    monkeypatch.setattr(
        "covis.export.lightglue.export_fixed_depth",
        lambda net, path, **arguments: shutil.copy(fixed, path),
    )
    return given


def test_export_for_other_runtimes(net, traced, tmp_path):
    """A folder that is a bundle, a file of its own and a report at once."""
    found, rows = export_for_other_runtimes(
        net, tmp_path / "new", name="n", licence="MIT", source="-", full_depth=True
    )
    assert traced["settings"] == default_settings(net).full()
    assert found.folder == tmp_path / "new"
    assert {row.run for row in rows} == {"as set", "full", "one file"}
    report = (tmp_path / "new" / "parity.md").read_text(encoding="utf-8")
    assert report == parity_report(found, rows)
    assert (tmp_path / "new" / "one_file.onnx").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.usefixtures("traced")
def test_export_for_other_runtimes_is_whole_or_not_there(net, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("covis.export.lightglue.compare", broken)
    with pytest.raises(ZeroDivisionError):
        export_for_other_runtimes(net, tmp_path / "new", name="n", licence="-", source="-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("counts", [(0, 0), (0, 7), (7, 0), (1, 1), (1, 1000), (7, 300)])
def test_one_file_at_every_size(net, fixed, counts):
    """The shapes hold, and each image's matches are the other's."""
    inputs = {}
    for image, features in enumerate(pair_of(net, *counts)):
        inputs[f"keypoints{image}"] = features.keypoints
        inputs[f"descriptors{image}"] = features.descriptors
        inputs[f"size{image}"] = np.array([640, 480], np.float32)
    matches0, scores0, matches1, scores1 = OnnxGraph(fixed)(FIXED_OUTPUTS, **inputs)
    assert (matches0.shape, matches1.shape) == ((counts[0],), (counts[1],))
    assert matches0.dtype == np.int64
    matched = np.flatnonzero(matches0 >= 0)
    assert len(matched) == np.count_nonzero(matches1 >= 0)
    assert len(matched) > 0 or min(counts) == 0
    np.testing.assert_array_equal(matches1[matches0[matched]], matched)
    np.testing.assert_array_equal(scores1[matches0[matched]], scores0[matched])
    assert (scores0[matched] > 0).all()
    assert (np.delete(scores0, matched) == 0).all()


def test_one_file_has_standard_operators_only(fixed):
    model = onnx.load(fixed)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    assert not any("Sequence" in node.op_type for node in model.graph.node)


def test_no_similarity_of_all_heads_in_a_layer(bundle):
    """Attention is one operator that works on blocks; nothing multiplies points with points."""
    operators = [node.op_type for node in onnx.load(bundle.graph("layer0")).graph.node]
    assert operators.count("MultiHeadAttention") == 4
    assert "Softmax" not in operators


def test_a_pair_is_the_same_alone_and_in_any_batch(net, bundle):
    matcher = LightGlue.open(bundle)
    counts = [(150, 170), (1, 80), (0, 20), (200, 90)]
    pairs = [pair_of(net, *count, seed=seed) for seed, count in enumerate(counts)]
    alone = [LightGlue.open(bundle)(*pair) for pair in pairs]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [0, 0]):
        batch = matcher.batch([pairs[index] for index in order])
        for found, index in zip(batch, order, strict=True):
            assert found.layers == alone[index].layers
            for name in ("indices", "scores", "layers0", "layers1"):
                np.testing.assert_array_equal(getattr(found, name), getattr(alone[index], name))


def test_matcher(net, bundle, home):
    one, two = pair_of(net, 200, 150)
    for name in ("glue", str(bundle.folder)):
        matches = Matcher(name)(one, two)
        expected = LightGlue.open(bundle)(one, two)
        assert len(matches) == len(expected.indices) > 20
        assert (matches.model, matches.licence) == ("made up + glue", "Apache-2.0")
        assert (np.diff(matches.scores) <= 0).all()
        assert set(map(tuple, matches.indices)) == set(map(tuple, expected.indices))
        np.testing.assert_array_equal(matches.points0, one.keypoints[matches.indices[:, 0]])
        np.testing.assert_array_equal(matches.points1, two.keypoints[matches.indices[:, 1]])


def test_matcher_at_full_depth(net, bundle, home):
    one, two = pair_of(net, 200, 150)
    expected = LightGlue.open(bundle, full=True)(one, two)
    assert expected.layers > LightGlue.open(bundle)(one, two).layers
    matches = Matcher("glue", full_depth=True)(one, two)
    np.testing.assert_array_equal(np.sort(matches.scores), np.sort(expected.scores))


@pytest.fixture
def glued_home(bundle, tmp_path, monkeypatch):
    """COVIS_HOME with the weights installed for features "made-up", whose kind is "made"."""
    folder = tmp_path / "home" / "models" / "lightglue-made-up"
    shutil.copytree(bundle.folder, folder)
    about = json.loads((folder / "bundle.json").read_text())
    about |= {"name": "lightglue-made-up", "settings": about["settings"] | {"features": "made"}}
    (folder / "bundle.json").write_text(json.dumps(about))
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("glued_home")
def test_matcher_finds_the_weights_for_the_features(net):
    one, two = (replace(features, model="made-up") for features in pair_of(net, 50, 60))
    for matcher in ("lightglue", "auto", "lightglue-made-up"):
        assert Matcher(matcher).bundle("made-up").name == "lightglue-made-up"
        assert Matcher(matcher)(one, two).model == "made-up + lightglue-made-up"
    assert Matcher("auto", max_ratio=0.9)(one, two).model == "made-up"
    other = replace(one, model="made-other")
    assert Matcher("auto")(other, other).model == "made-other"
    assert Matcher("auto").bundle("made-other") is None
    with pytest.raises(
        BundleError, match=r"installed for 'made-other'\..* --name lightglue-made-other"
    ):
        Matcher("lightglue")(other, other)


@pytest.mark.usefixtures("glued_home")
def test_matcher_takes_the_features_it_is_for(net):
    """Weights for "made" take "made" and "made-..."; no others, whatever their size."""
    (one, _), matcher = pair_of(net, 5, 5), Matcher("lightglue-made-up")
    for model in ("made", "made-other"):
        assert len(matcher(*[replace(one, model=model)] * 2)) > 0
    for model in ("madeira", "up", "mad"):
        with pytest.raises(ArgumentError, match=f"for features of 'made', not of '{model}'"):
            matcher(*[replace(one, model=model)] * 2)


def test_scale_orientation_full_depth_only_half_precision(tmp_path):
    torch.manual_seed(2)
    net = Net(32, dim=32, layers=2, heads=2, scale_orientation=True, adaptive=False).eval()
    settings = default_settings(net)
    assert not settings.decides
    bundle = export_lightglue(
        net,
        tmp_path / "sift",
        name="sift",
        licence="-",
        source="-",
        features="sift",
        settings=replace(settings, threshold=0.0),
        half=True,
    )
    assert sorted(bundle.graphs) == ["assign1", "best", "encode", "layer0", "layer1", "normalise"]
    for parameter in net.parameters():
        if parameter.numel() > 64:
            parameter.data = parameter.data.half().float()
    (row,) = compare(net, bundle, sizes=[(60, 50)])
    assert row.matches == (row.common, row.common)
    assert row.common > 10
    assert row.difference < 1e-4


def test_exception_something_else_there(net, tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(BundleError, match="is no bundle; it is left alone"):
        export_lightglue(net, tmp_path, name="x", licence="-", source="-", features="-")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


MANY = """
import resource, sys
import numpy as np
from covis import Features
from covis.matching.lightglue import LightGlue
from covis.runtime import Bundle
matcher = LightGlue.open(Bundle.read(sys.argv[1]), full=True)
rng = np.random.default_rng(0)
count = 20_000
pair = [
    Features(
        keypoints=(rng.random((count, 2)) * 640).astype(np.float32),
        scores=np.ones(count, np.float32),
        descriptors=rng.standard_normal((count, 16)).astype(np.float32),
        width=640, height=640, model="m",
    )
    for _ in range(2)
]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = matcher(*pair)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(found.layers1) == count and found.layers == 3
print((after - before) // 1024)
"""


@pytest.mark.slow
def test_twenty_thousand_points(bundle):
    """One similarity of 20,000 x 20,000 would take 1526 MiB a head."""
    result = subprocess.run(
        [sys.executable, "-c", MANY, str(bundle.folder)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 600
