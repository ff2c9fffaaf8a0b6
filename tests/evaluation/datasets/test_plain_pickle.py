"""Pickles and archives that hold more than plain values are refused before anything is made."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from covis.errors import ArgumentError, CovisError
from covis.evaluation.datasets.plain_pickle import read_plain_npz, read_plain_pickle
from covis.files.atomic import read_arrays

VALUES = {
    "floats": np.arange(6, dtype=">f8").reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "texts": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "objects": np.array([None, "a", np.arange(3.0)], dtype=object),
    "flags": np.array([True, False]),
    "number": np.float32(0.5),
    "list": [np.uint8(3), (1, 2), {"x": np.zeros(0)}],
}


def same(one: object, other: object) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return (
            type(other) is np.ndarray
            and one.dtype == other.dtype
            and one.shape == other.shape
            and all(map(same, one.ravel().tolist(), other.ravel().tolist()))
        )
    return one == other


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(VALUES, protocol)
    (tmp_path / "a.pkl").write_bytes(content)
    assert same(pickle.loads(content), read_plain_pickle(tmp_path / "a.pkl"))


class Described:
    """Pickles as a call of a dtype, followed by a state of the file's choice."""

    def __init__(self, name: str, state: tuple) -> None:
        self.name, self.state = name, state

    def __reduce__(self):
        return np.dtype, (self.name, False, True), self.state


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("V8", (3, "|", None, ("f",), {"f": (np.dtype("f8"), 0)}, 8, 1, 0)),
        ("V8", (3, "|", None, None, None, 8, 1, 0)),
        ("f8", (3, "<", None, ("f",), {"f": (np.dtype("f8"), 0)}, 8, 1, 63)),
        ("f8", (3, "<", (np.dtype("f8"), (2,)), None, None, 8, 1, 0)),
        ("M8[s]", (4, "<", None, None, None, -1, -1, 0)),
    ],
)
def test_exception_for_kinds_of_numbers_that_are_not_plain(
    tmp_path: Path, name: str, state: tuple
) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Described(name, state), 2))
    with pytest.raises(ArgumentError, match="it has numbers"):
        read_plain_pickle(tmp_path / "a.pkl")


def test_exception_for_an_archive_that_unfolds_without_end(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(20_000_000, np.float32))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content.getvalue())
    assert path.stat().st_size < 100_000
    for read in (read_plain_npz, read_arrays):
        with pytest.raises(CovisError, match=r"a\.npz.*unfolds from .* to 80,000,128"):
            read(path)
