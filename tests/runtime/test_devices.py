"""Which device networks run on, and what is said where it is not there; answers stay the same."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest

import covis
from covis.cli import doctor
from covis.errors import ArgumentError, DeviceWarning
from covis.matching.lightglue import LightGlue
from covis.options import RuntimeOptions
from covis.runtime import devices, onnx
from covis.runtime.bundle import find_bundle
from covis.runtime.devices import CPU, DEVICES, chosen, fast_int8, trouble

OPENVINO = DEVICES["openvino"].provider
NAMED = sorted(DEVICES)


@pytest.fixture(autouse=True)
def afresh():
    """What was chosen before, and chosen here, is forgotten."""

    def forget():
        chosen.cache_clear()
        trouble.cache_clear()
        onnx._opened.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def build(monkeypatch):
    """Makes as if a build of ONNX Runtime had these devices; says which of them start."""

    def made(*names, starts=()):
        found = [DEVICES[name].provider for name in names]
        monkeypatch.setattr(devices.onnxruntime, "get_available_providers", lambda: [*found, CPU])
        monkeypatch.setattr(devices, "_starts", lambda name: name in starts)
        for name, row in DEVICES.items():
            monkeypatch.setitem(DEVICES, name, replace(row, system=""))

    return made


@pytest.fixture
def on_cuda(build, monkeypatch):
    """A device "cuda" that is really the processor, so that its memory can be read."""
    build("cuda", starts=["cuda"])
    monkeypatch.setitem(DEVICES, "cuda", replace(DEVICES["cuda"], memory="cpu"))
    asked = []

    def fake(device, threads):
        asked.append(device)
        return [CPU]

    monkeypatch.setattr(onnx, "providers", fake)
    return asked


def test_the_plain_build_runs_on_the_processor_without_a_word(build):
    build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (chosen("auto"), chosen("cpu")) == ("cpu", "cpu")
    assert devices.usable() == ["cpu"]


def test_auto_takes_a_gpu_that_works_and_nothing_else(build):
    build("coreml", "openvino", "cuda", starts=["coreml", "openvino", "cuda"])
    assert (chosen("auto"), chosen("cpu"), chosen("coreml")) == ("cuda", "cpu", "coreml")


@pytest.mark.parametrize("there", [("coreml", "openvino"), ("cuda", "directml")])
def test_auto_falls_back_in_silence(build, there):
    build(*there, starts=["coreml", "openvino"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen("auto") == "cpu"


@pytest.mark.parametrize("name", NAMED)
def test_a_named_device_that_is_missing_says_once_what_to_install(build, name):
    build()
    with pytest.warns(DeviceWarning) as told:
        assert [chosen(name), chosen(name)] == ["cpu", "cpu"]
    assert len(told) == 1
    said = str(told[0].message)
    assert said.startswith(f"device '{name}' needs ")
    assert f"pip install {DEVICES[name].package}." in said
    assert said.endswith("The processor is used.")
    assert "\n" not in said


def test_a_named_device_that_does_not_start_says_what_it_needs(build):
    build("cuda")
    with pytest.warns(DeviceWarning, match=r"'cuda' does not start.* an NVIDIA GPU and its driver"):
        assert chosen("cuda") == "cpu"


def test_another_system_s_device_is_not_to_be_installed(build, monkeypatch):
    build()
    monkeypatch.setitem(DEVICES, "coreml", replace(DEVICES["coreml"], system="another"))
    with pytest.warns(
        DeviceWarning, match=r"^device 'coreml' needs macOS. The processor is used.$"
    ):
        assert chosen("coreml") == "cpu"


def test_an_unknown_device_is_refused():
    with pytest.raises(ArgumentError, match="no device 'gpu'; there are: auto, cpu, cuda, coreml"):
        covis.Extractor(device="gpu")


def test_the_processor_takes_what_a_device_cannot():
    (provider, options), last = devices.providers("openvino", 3)
    assert (provider, options["num_of_threads"], last) == (OPENVINO, "3", CPU)
    assert devices.providers("cpu", 3) == [CPU]


def test_graphs_are_kept_by_device(on_cuda):
    bundle = find_bundle("edgepoint-covis")
    one, other, again = (
        onnx.open_graphs(bundle, ["detect"], RuntimeOptions(threads=1, device=device))["detect"]
        for device in ("cpu", "auto", "cuda")
    )
    assert one is not other
    assert other is again
    assert (one.device, other.device) == ("cpu", "cuda")


@pytest.mark.parametrize(("able", "role"), [(True, "detect-int8"), (False, "detect")])
def test_8_bit_integers_where_the_processor_is_faster_so(monkeypatch, on_cuda, able, role):
    bundle = find_bundle("xfeat-covis")
    opened = []
    monkeypatch.setattr(onnx, "fast_int8", lambda: able)
    monkeypatch.setattr(onnx, "_opened", lambda path, *_: opened.append(path.name))
    for device in ("cpu", "cuda"):
        onnx.open_graphs(bundle, ["detect", "refine"], RuntimeOptions(device=device))
    assert opened == [f"{role}.onnx", "refine.onnx", "detect.onnx", "refine.onnx"]


@pytest.mark.parametrize(
    ("name", "there", "fast"),
    [("AVX512VNNI", True, True), ("AVX512VNNI", False, False), ("AVX2", True, False)],
)
def test_what_a_processor_needs_for_8_bit_integers(monkeypatch, name, there, fast):
    monkeypatch.setattr(cv2, "getHardwareFeatureName", lambda feature: name * (feature == 23))
    monkeypatch.setattr(cv2, "checkHardwareSupport", lambda feature: there and feature == 23)
    fast_int8.cache_clear()
    assert fast_int8() is fast
    fast_int8.cache_clear()


def test_every_network_of_a_match_gets_the_device(on_cuda, texture):
    covis.match(texture[:200, :200], texture[:200, 40:240], matcher="lightglue", device="cuda")
    assert len(on_cuda) >= 5
    assert set(on_cuda) == {"cuda"}


def points(seed, count=90):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 64)).astype(np.float32)
    return covis.Features(
        keypoints=(rng.random((count, 2)) * 400).astype(np.float32),
        scores=np.ones(count, np.float32),
        descriptors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        width=400,
        height=400,
        model="xfeat-covis",
    )


def lightglue(device, *pair):
    runtime = RuntimeOptions(threads=1, device=device)
    return LightGlue.open(find_bundle("lightglue-xfeat-covis"), runtime=runtime)(*pair)


@pytest.fixture
def fed(monkeypatch):
    """Counts what crosses from NumPy to a device: names of inputs, by graph."""
    crossed = []
    bound = onnx.OnnxGraph._bound

    def watched(graph, outputs, inputs, memory):
        crossed.extend(name for name, each in inputs.items() if isinstance(each, np.ndarray))
        return bound(graph, outputs, inputs, memory)

    monkeypatch.setattr(onnx.OnnxGraph, "_bound", watched)
    return crossed


@pytest.mark.parametrize("counts", [(90, 70), (90, 0)])
def test_layers_stay_on_the_device(on_cuda, fed, counts):
    pair = points(0, counts[0]), points(1, counts[1])
    there, here = lightglue("cuda", *pair), lightglue("cpu", *pair)
    np.testing.assert_array_equal(there.indices, here.indices)
    np.testing.assert_array_equal(there.scores, here.scores)
    np.testing.assert_array_equal(there.layers0, here.layers0)
    assert {"descriptors", "positions"} <= set(fed)
    assert not {"x", "x0", "x1", "cos0", "sin1", "m0", "m1"} & set(fed)


def test_blocks_of_rows_are_taken_on_the_device(on_cuda, fed, monkeypatch):
    monkeypatch.setattr("covis.matching.lightglue.BLOCK", 1000)
    pair = points(0), replace(points(0), keypoints=points(0).keypoints + 1)
    there, here = lightglue("cuda", *pair), lightglue("cpu", *pair)
    np.testing.assert_array_equal(there.indices, here.indices)
    assert len(there.indices) > 50
    assert "index" in fed


def test_the_command_line_says_it_in_one_line(tmp_path, texture):
    if trouble("cuda") is None:
        pytest.skip("CUDA works here")
    cv2.imwrite(str(tmp_path / "a.png"), texture[:160, :160])
    command = [sys.executable, "-m", "covis", "match", "a.png", "a.png", "--device", "cuda"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("covis: device 'cuda' "), done.stderr
    assert done.stderr.endswith("The processor is used.\n")
    assert done.stderr.count("\n") == 1
    assert "Verdict" in done.stdout


def test_every_command_with_threads_has_devices():
    from typer.main import get_command

    from covis.cli import app

    def check(command, path):
        names = {option for each in command.params for option in each.opts}
        if "--threads" in names or path == ["web"]:
            assert "--device" in names, path
        for name, inner in getattr(command, "commands", {}).items():
            check(inner, [*path, name])

    check(get_command(app), [])


def test_doctor_shows_the_devices(build, monkeypatch):
    build("openvino", "cuda", starts=["openvino"])
    monkeypatch.setattr(doctor, "_self_check", dict)
    found = doctor.examine()
    assert found["device"] == "cpu"
    assert found["devices"]["cpu"] is found["devices"]["openvino"] is None
    assert "does not start" in found["devices"]["cuda"]
    assert "pip install onnxruntime-directml" in found["devices"]["directml"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("there", "problem", "hint"),
    [
        ({}, True, False),
        ({"onnxruntime-gpu": "1.30.0"}, False, False),
        ({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.30.0"}, False, True),
    ],
)
def test_doctor_takes_any_one_build(monkeypatch, there, problem, hint):
    monkeypatch.setattr("covis.runtime.builds.installed_builds", lambda: there)
    version = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda n: there.get(n) if "onnxruntime" in n else version(n)
    )
    monkeypatch.setattr(doctor, "_self_check", dict)
    found = doctor.examine()
    assert any("onnxruntime" in each for each in found["problems"]) == problem
    assert any("on top of each other" in each for each in found["hints"]) == hint


@pytest.mark.skipif(
    OPENVINO not in devices.onnxruntime.get_available_providers(),
    reason="needs the build onnxruntime-openvino",
)
class TestOpenVino:
    """The one build for another device that any processor can run."""

    @pytest.fixture(autouse=True)
    def in_float(self, monkeypatch):
        """As the device computes."""
        monkeypatch.setattr(onnx, "fast_int8", lambda: False)

    def test_features_are_the_same(self, known_pair):
        here, there = (
            covis.Extractor("xfeat", device=d)(known_pair[0]) for d in ("cpu", "openvino")
        )
        common = np.isin(*(f.keypoints.round().view("f4,f4").ravel() for f in (here, there)))
        assert common.mean() > 0.99
        assert abs(len(here) - len(there)) < 0.01 * len(here)

    def test_matches_are_the_same(self, known_pair):
        options = {"matcher": "lightglue", "geometry": "homography", "max_keypoints": 500}
        here, there = (
            covis.match(*known_pair[:2], device=d, **options) for d in ("cpu", "openvino")
        )
        assert abs(len(here) - len(there)) <= 0.02 * len(here)
        corners = np.array([[0, 0], [640, 0], [0, 480], [640, 480]], float)
        np.testing.assert_allclose(
            *(_moved(found.geometry.matrix, corners) for found in (here, there)), atol=0.5
        )

    @pytest.mark.parametrize("counts", [(90, 70), (90, 0)])
    def test_lightglue_is_the_same(self, counts):
        pair = points(0, counts[0]), points(1, counts[1])
        there, here = lightglue("openvino", *pair), lightglue("cpu", *pair)
        np.testing.assert_array_equal(there.indices, here.indices)
        np.testing.assert_allclose(there.scores, here.scores, atol=1e-3)

    def test_search_finds_the_same(self, known_pair, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), known_pair[0][..., ::-1])
        index = covis.Index(tmp_path / "store", device="openvino")
        index.add([tmp_path / "a.png"])
        (hit,) = index.search(known_pair[1]).hits
        assert hit.verdict.label == "same"


def _moved(matrix, points):
    ends = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return ends[:, :2] / ends[:, 2:]
