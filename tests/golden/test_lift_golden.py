"""LiFT against what the official implementation gives."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
safetensors = pytest.importorskip("safetensors.torch", reason="golden files are safetensors")

from covis.nets.lift import FeatureKind, load_lift  # noqa: E402


@pytest.mark.parametrize("patch", [8, 16])
@torch.inference_mode()
def test_lifted(shared, tmp_path, patch):
    golden = safetensors.load_file(shared / "golden" / f"lift_patch{patch}.safetensors")
    weights = {k[8:]: v for k, v in golden.items() if k.startswith("weights.")}
    safetensors.save_file(weights, tmp_path / "w.safetensors")
    channels = golden["input.features"].shape[1]
    net = load_lift(tmp_path / "w.safetensors", FeatureKind("-", "", 11, "key", channels, patch))
    for times, name in ((1, "output.lifted"), (2, "output.lifted_twice")):
        lifted = net.lift(golden["input.image"], golden["input.features"], times)
        torch.testing.assert_close(lifted, golden[name], rtol=0, atol=1e-5)
