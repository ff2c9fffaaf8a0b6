"""Decoding and extraction as a stage of Ray Data; what it finds goes into the same tables.

One stage for both: features are smaller than the pictures that would travel between two. This
process hands out files and commits what comes back, so a worker that dies loses nothing:
Ray runs its share again, and a store has one way in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.errors import CovisError
from covis.features.extractor import Extractor
from covis.messages import extra
from covis.search.ingest import BATCH, decode, describe
from covis.search.store import File, ImageRecord

SHARE = 4096
"""Files that are handed to the cluster at a time; memory here grows with it."""

Batch = dict[str, NDArray[Any]]


class RayEngine:
    """Runs on the cluster at `address`, or on this machine."""

    def __init__(self, extract: Extractor, address: str | None = None) -> None:
        """Connect. Raises CovisError where Ray is missing or there is no cluster."""
        self._settings = {
            "features": extract.source,
            "max_keypoints": extract.max_keypoints,
            "max_size": extract.max_size,
            "threads": 1,
        }
        connect(address)

    def __call__(self, files: Iterator[File]) -> Iterator[tuple[File, ImageRecord | str]]:
        import ray

        cluster: Any = ray
        while share := list(islice(files, SHARE)):
            workers = max(1, int(cluster.cluster_resources().get("CPU", 1)))
            found = (
                ray.data.from_items([asdict(file) for file in share])
                .repartition(max(1, min(len(share) // BATCH, 4 * workers)))
                .map_batches(
                    _Stage,
                    fn_constructor_kwargs=self._settings,
                    batch_size=BATCH,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                )
            )
            for row in found.iter_rows():
                yield File(**row["file"]), row["found"]


class _Stage:
    """Decodes and extracts batches, in a worker that keeps its model."""

    def __init__(self, **settings: Any) -> None:
        self._extract = Extractor(**settings)

    def __call__(self, batch: Batch) -> Batch:
        columns = [batch[name].tolist() for name in ("path", "size", "modified", "content")]
        files = [File(*values) for values in zip(*columns, strict=True)]
        decoded = [(file, decode(file, self._extract.max_size)) for file in files]
        found = list(describe(self._extract, decoded))
        return {"file": _objects(map(asdict, files)), "found": _objects(each for _, each in found)}


def connect(address: str | None) -> Any:
    """Ray, on the cluster at `address` or on this machine.

    Raises CovisError where Ray is missing or there is no cluster.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise CovisError(f"the engine 'ray' needs Ray: {extra('ray')}") from None
    try:
        ray.init(
            address=address,
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise CovisError(f"no Ray cluster at {address} ({error}).") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _objects(values: Any) -> NDArray[Any]:
    """An array of Python objects, which NumPy must not look into."""
    listed = list(values)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array
