"""Every benchmark by the name that `covis eval` knows it by.

To add one: write a module of `covis.evaluation.benchmarks` with `run(data, settings, report) ->
list[Row]` and, in its `BENCHMARKS`, a `Benchmark` that describes it and has what papers print for
it (see `covis.evaluation.benchmark`); then list the module in MODULES. `covis reproduce` finds its
data by the marks and runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from covis.evaluation.benchmark import Benchmark
from covis.evaluation.benchmarks import (
    davis,
    hpatches,
    localisation,
    object_discovery,
    pairs,
    pf_willow,
    phototourism,
    posed_pairs,
    retrieval,
    spair,
)

MODULES = (
    pairs,
    hpatches,
    posed_pairs,
    phototourism,
    retrieval,
    localisation,
    spair,
    pf_willow,
    davis,
    object_discovery,
)


def by_name(modules: Iterable[Any]) -> dict[str, Benchmark]:
    """What modules have in their `BENCHMARKS`, in that order."""
    return {benchmark.name: benchmark for module in modules for benchmark in module.BENCHMARKS}


BENCHMARKS: Mapping[str, Benchmark] = by_name(MODULES)
