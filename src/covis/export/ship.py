"""Make the bundle `xfeat-covis` of the package from a training run and its measurements.

    python -m covis.export.ship run/best.safetensors --notes notes.json
    python benchmarks/accuracy.py --json table.json
    python -m covis.export.ship run/best.safetensors --notes notes.json --accuracy table.json

notes.json: how the weights were made; it goes into `bundle.json` as it is. table.json: what the
bundle, as it is stored, measures; its rows over all sets go into `bundle.json` too. With
`--search best.safetensors`, from `covis train delg`, it gives global descriptors as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from covis.export.xfeat import export_xfeat
from covis.nets.delg import light_delg
from covis.nets.xfeat import load_official
from covis.runtime.bundle import SHIPPED

NAME = "xfeat-covis"


def measured(table: Path) -> dict[str, Any]:
    """What the bundle reaches over all sets of a kind, from an accuracy table."""
    rows = json.loads(table.read_text(encoding="utf-8"))
    return {
        row["kind"]: {key: row[key] for key in ("share", "auc")}
        for row in rows
        if row["method"] == "xfeat" and row["set"].startswith("all ")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundle that ships.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--accuracy", type=Path)
    parser.add_argument("--search", type=Path)
    options = parser.parse_args()
    net, search = load_official(options.weights), None
    if options.search:
        search = light_delg(net)
        search.load_learnt(options.search)
    bundle = export_xfeat(
        net,
        SHIPPED / NAME,
        name=NAME,
        licence="Apache-2.0",
        source="trained by covis; teacher: the published XFeat (Apache-2.0)",
        training=json.loads(options.notes.read_text(encoding="utf-8")),
        metrics=measured(options.accuracy) if options.accuracy else {},
        search=search,
        half=True,
    )
    print(f"{bundle.folder}: {sum(p.stat().st_size for p in bundle.folder.iterdir()) >> 10} KiB")


if __name__ == "__main__":
    main()
