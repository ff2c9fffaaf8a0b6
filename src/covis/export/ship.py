"""Make the bundle `xfeat-covis` of the package from a training run and its measurements.

    python -m covis.export.ship RUN/best.safetensors --notes notes.json --accuracy table.json

notes.json: how the weights were made; it goes into `bundle.json` as it is. table.json: what
`benchmarks/accuracy.py --json` wrote; the rows of all homography and all pose sets are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from covis.export.xfeat import export_xfeat
from covis.nets.xfeat import load_official
from covis.runtime.bundle import SHIPPED

NAME = "xfeat-covis"


def measured(table: Path) -> dict[str, Any]:
    """The pooled rows of an accuracy table, by method and kind."""
    rows = json.loads(table.read_text(encoding="utf-8"))
    pooled: dict[str, Any] = {}
    for row in rows:
        if row["set"].startswith("all "):
            values = {key: row[key] for key in ("share", "auc")}
            pooled.setdefault(Path(row["method"]).stem, {})[row["kind"]] = values
    return pooled


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundle that ships.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--accuracy", type=Path)
    options = parser.parse_args()
    bundle = export_xfeat(
        load_official(options.weights),
        SHIPPED / NAME,
        name=NAME,
        licence="Apache-2.0",
        source="trained by covis; teacher: the published XFeat (Apache-2.0)",
        training=json.loads(options.notes.read_text(encoding="utf-8")),
        metrics=measured(options.accuracy) if options.accuracy else {},
        half=True,
    )
    print(f"{bundle.folder}: {sum(p.stat().st_size for p in bundle.folder.iterdir()) >> 10} KiB")


if __name__ == "__main__":
    main()
