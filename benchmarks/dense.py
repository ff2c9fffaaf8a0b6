"""Dense features: backbone, bilinear and LiFT side by side, on ../shared/data/dense.

python benchmarks/dense.py willow --model lift-xfeat-covis
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from covis.dense.features import DEFAULT_DENSE
from covis.errors import CovisError
from covis.evaluation import willow
from covis.evaluation.dense import VARIANTS, Row, Table

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dense"
AGAINST = (("+ LiFT once", "+ bilinear x 2"), ("+ LiFT twice", "+ bilinear x 4"))
"""At the same number of cells."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def against_bilinear(table: Table) -> str:
    """For each size, how much higher LiFT's scores are."""
    lines = []
    for size in dict.fromkeys(row.size for row in table.rows):
        rows = {row.variant: row for row in table.rows if row.size == size}
        for lifted, bilinear in AGAINST:
            said = ", ".join(
                f"{name} {gain(rows[lifted], rows[bilinear], name):+.2f}"
                for name in rows[lifted].scores
            )
            better = all(gain(rows[lifted], rows[bilinear], n) > 0 for n in rows[lifted].scores)
            verdict = "met" if better else "MISSED"
            lines.append(
                f"{size or 'own'} px, {lifted} above {bilinear}: {said} (target {verdict})"
            )
    return "\n".join(lines)


def gain(row: Row, other: Row, name: str) -> float:
    return 100 * (row.scores[name] - other.scores[name])


def run_willow(arguments: argparse.Namespace) -> None:
    sizes: Sequence[int | None] = arguments.sizes or (300, 150, 75)
    folder, model = DATA / "PF-WILLOW", arguments.model
    options = {"threads": arguments.threads, "report": say}
    table = willow.evaluate(folder, model, sizes=sizes, **options)
    doubled = [2 * size for size in sizes if size and 2 * size not in sizes]
    print(f"{table.markdown()}\n\n{against_bilinear(table)}\n")
    if doubled:
        imitated = willow.evaluate(folder, model, sizes=doubled, variants=VARIANTS[:1], **options)
        print(
            f"What LiFT learns to imitate, the backbone on larger images:\n\n{imitated.markdown()}"
        )


PARTS = {"willow": run_willow}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all when left out")
    parser.add_argument("--model", default=DEFAULT_DENSE, help="name or folder of a bundle")
    parser.add_argument("--sizes", type=int, nargs="*", help="longest sides in pixels")
    parser.add_argument("--threads", type=int, help="all processors when left out")
    arguments = parser.parse_args()
    try:
        for part in arguments.parts or PARTS:
            PARTS[part](arguments)
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
