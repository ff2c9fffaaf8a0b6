"""docs/formats.md against what `covis map` and `covis locate` write."""

from __future__ import annotations

import json
from dataclasses import fields

from helpers.formats import documented

from covis.sfm.localise import Locator
from covis.sfm.options import MapSummary


def test_a_maps_folder(mapped):
    folder, summary = mapped
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "covis.json", "photos.json", "features.covis", "database.db", "sparse", "summary.json",
    }  # fmt: skip
    assert MapSummary.find(folder) == summary
    assert {path.name for path in (folder / "features.covis").iterdir()} >= {
        "images.lance", "files.lance",
    }  # fmt: skip
    settings = json.loads((folder / "covis.json").read_text("utf-8"))
    assert list(settings) == list(documented("Keys of covis.json"))
    keys = [*(field.name for field in fields(summary)), "written"]
    assert keys == list(documented("covis map --json"))


def test_json_of_locate(mapped, another):
    found = Locator(mapped[0])(another[0]).to_dict()
    assert list(found) == list(documented("covis locate --json"))
    for key in ("camera", "neighbours"):
        value = found[key][0] if key == "neighbours" else found[key]
        assert all(f"`{name}`" in documented("covis locate --json")[key] for name in value)
