"""Reading weights: what fits, and what is said of what does not."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
from safetensors.torch import save_file  # noqa: E402

from covis.errors import BundleError  # noqa: E402
from covis.nets.weights import (  # noqa: E402
    architectures_in,
    licence_in,
    load_strictly,
    read_network,
    read_state_dict,
)
from covis.nets.xfeat import XFeat, load_official  # noqa: E402


@pytest.fixture(scope="module")
def state(random_net):
    return {key: value.contiguous() for key, value in random_net.state_dict().items()}


def test_a_file_states_the_terms_of_its_weights(state, random_net, tmp_path):
    """What was trained here is the user's; an import takes that for its licence."""
    from covis.training.checkpoint import save_weights

    save_weights(random_net, tmp_path / "trained.safetensors")
    save_weights(random_net, tmp_path / "lift.safetensors", {"covis.features": "{}"})
    save_file(state, tmp_path / "stated.safetensors", {"licence": "MIT"})
    save_file(state, tmp_path / "silent.safetensors")
    torch.save(state, tmp_path / "silent.pt")
    said = {path.name: licence_in(path) for path in tmp_path.iterdir()}
    assert said == {
        "trained.safetensors": "yours", "lift.safetensors": "yours",
        "stated.safetensors": "MIT", "silent.safetensors": "", "silent.pt": "",
    }  # fmt: skip


def outputs(net):
    image = torch.rand((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return net.eval()(image)


def assert_same(net, other, atol=0.0):
    for one, two in zip(outputs(net), outputs(other), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=atol)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
def test_formats(random_net, state, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    net = load_official(path)
    assert not net.training
    assert_same(net, random_net)


def test_nested_state_dict(random_net, state, tmp_path):
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pt")
    assert_same(load_official(tmp_path / "weights.pt"), random_net)


def test_absent_statistics_are_taken_as_folded(state, tmp_path):
    names = [key for key in state if key.endswith("running_mean")]
    assert len(names) > 20
    folded = dict(state)
    for name in names:
        folded[name] = torch.zeros_like(state[name])
        variance = name.replace("mean", "var")
        folded[variance] = torch.full_like(state[variance], 1 - 1e-5)
    absent = {k: v for k, v in state.items() if "running" not in k and "tracked" not in k}
    save_file(folded, tmp_path / "folded.safetensors")
    save_file(absent, tmp_path / "absent.safetensors")
    one, two = (load_official(tmp_path / f"{name}.safetensors") for name in ("folded", "absent"))
    assert_same(one, two)


def test_exception_missing_file(tmp_path):
    with pytest.raises(BundleError, match="no such weights file"):
        read_state_dict(tmp_path / "none.pt")


def damaged():
    buffer = io.BytesIO()
    torch.save({"a": torch.rand(100)}, buffer)
    whole = buffer.getvalue()
    rng = np.random.default_rng(0)
    for length in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1):
        yield whole[:length]
    for length in (5, 60, 400):
        yield rng.bytes(length)
        yield b"\x80\x02" + rng.bytes(length)
    yield b"\x80\x02."
    yield b"\x80\x02h\x05."


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_exception_damaged_files(tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    for content in damaged():
        path.write_bytes(content)
        with pytest.raises(BundleError, match="not a readable weights file"):
            read_state_dict(path)


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_no_code_from_the_file_runs(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"a": Runs()}, protocol=2))
    torch.save({"a": Runs()}, tmp_path / "evil_zip.pt")
    for name in ("evil.pt", "evil_zip.pt"):
        with pytest.raises(BundleError, match="not a readable weights file"):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [3, [1], {"a": 3}, {"a": torch.ones(1), "b": "x"}])
def test_exception_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BundleError, match="holds no state dict"):
        read_state_dict(tmp_path / "weights.pt")


def test_exception_other_network(state, tmp_path):
    net = XFeat()
    before = net.state_dict()["skip1.1.weight"].clone()
    lacking = {k: v for k, v in state.items() if k != "skip1.1.weight"}
    with pytest.raises(BundleError, match=r"not the weights of XFeat; missing: skip1\.1\.weight\."):
        load_strictly(net, lacking, "file")
    with pytest.raises(BundleError, match=r"unknown: a, b, c \.\.\."):
        load_strictly(net, state | dict.fromkeys("abcd", torch.ones(1)), "file")
    with pytest.raises(BundleError, match=r"other shape: skip1\.1\.bias"):
        load_strictly(net, state | {"skip1.1.bias": torch.ones(3)}, "file")
    assert torch.equal(net.state_dict()["skip1.1.weight"], before)


def test_architectures_in(
    state, random_edgepoint, random_aliked, random_superpoint, random_disk, tmp_path
):
    from covis.nets.lift import FeatureKind, LiFT
    from covis.nets.lightglue import LightGlue

    glue = LightGlue(16, dim=16, heads=1, layers=1).state_dict()
    kinds = {
        "xfeat": state,
        "edgepoint": random_edgepoint.state_dict(),
        "aliked": random_aliked.state_dict(),
        "superpoint": random_superpoint.state_dict(),
        "disk": {f"extractor.{name}": value for name, value in random_disk.state_dict().items()},
        "lift": LiFT(FeatureKind("-", "", 0, "key", 4, 8)).state_dict(),
        "lightglue": {f"matcher.{name}": value for name, value in glue.items()},
    }
    for kind, weights in kinds.items():
        torch.save(weights, tmp_path / "w.pt")
        assert architectures_in(tmp_path / "w.pt") == [kind]
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(
        BundleError, match="none of these: xfeat, edgepoint, aliked, superpoint, disk"
    ):
        architectures_in(tmp_path / "w.pt")


def test_networks_are_found_inside_larger_files(random_net, state, tmp_path):
    """As the authors ship XFeat with its LightGlue, and DISK inside a dictionary."""
    from covis.nets.lightglue import LightGlue
    from covis.nets.lightglue import load_official as load_lightglue

    glue = LightGlue(16, dim=16, heads=1, layers=1).eval()
    both = {f"extractor.model.net.{name}": value for name, value in state.items()}
    both |= {f"matcher.{name}": value for name, value in glue.state_dict().items()}
    torch.save(both, tmp_path / "both.pt")
    torch.save({"pipeline": {"extractor": state}, "matcher": glue.state_dict()}, tmp_path / "in.pt")
    for path in (tmp_path / "both.pt", tmp_path / "in.pt"):
        assert architectures_in(path) == ["xfeat", "lightglue"]
        assert read_network(path, "xfeat").keys() == state.keys()
        assert_same(load_official(path), random_net)
        found = load_lightglue(path).state_dict()
        assert found.keys() == glue.state_dict().keys()
        assert all(torch.equal(found[name], value) for name, value in glue.state_dict().items())
