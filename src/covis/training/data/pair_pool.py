"""Pairs that are made once and then read from the disk: making one costs more than learning from
it, above all where a teacher has to look at it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.files.atomic import read_arrays, write_arrays
from covis.training.data.labelled_pairs import LabelledPair


class PairPool:
    """Numbered pairs below a folder; what was made of something else lies apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._making = threading.Lock()

    def get(self, made_of: object, number: int, make: Callable[[], LabelledPair]) -> LabelledPair:
        """The pair of that number, made now where it is not there.

        made_of: all that it depends on besides its number, told apart by its `repr`.

        Raises CovisError when its file cannot be read or written.
        """
        kind = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
        path = self.folder / kind / f"{number:06}.npz"
        if not path.exists():
            with self._making:
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_arrays(path, _stored(make()))
        # What was made is read as well: it has lost digits, and must be the same each time.
        stored = read_arrays(path)
        return LabelledPair(
            points=stored["points"],
            positions=stored["positions"],
            descriptors=stored["descriptors"].astype(np.float32),
            partners=stored["partners"].astype(np.int64),
            taught=stored.get("taught"),
            said=stored["said"].astype(np.int64) if "said" in stored else None,
        )


def _stored(pair: LabelledPair) -> dict[str, NDArray[Any]]:
    few_digits = {
        "descriptors": np.float16, "partners": np.int16, "taught": np.float16, "said": np.int16
    }  # fmt: skip
    return {
        name: values.astype(few_digits.get(name, values.dtype))
        for name, values in vars(pair).items()
        if values is not None
    }
