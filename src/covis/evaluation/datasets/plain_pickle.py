"""Pickles of published data sets, read without running what they may hold.

A pickle can run any program. These unpicklers make nothing but plain values and arrays.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from covis.errors import ArgumentError


def read_plain_pickle(path: str | Path) -> Any:
    """What a pickle of plain values and arrays holds.

    Raises ArgumentError that names the file when it cannot be read, is damaged, or asks for more.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # A damaged pickle raises almost anything.
        raise ArgumentError(f"{path}: not the published ground truth ({error}).") from error


def read_plain_npz(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file by name, those of Python objects too.

    Raises ArgumentError as `read_plain_pickle` does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for name in archive.namelist():
                with archive.open(name) as file:
                    found[name.removesuffix(".npy")] = read_plain_npy(file)
            return found
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:
        raise ArgumentError(f"{path}: not an .npz file of plain arrays ({error}).") from error


def read_plain_npy(file: BinaryIO | Any) -> Any:
    """The array in an open .npy file. Raises whatever a damaged one makes NumPy raise."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran_order, dtype = read_header(file)
    if dtype.hasobject:
        return _PlainUnpickler(file, encoding="latin1").load()
    array = np.frombuffer(file.read(), dtype, count=int(np.prod(shape, dtype=np.int64)))
    return array.reshape(shape, order="F" if fortran_order else "C")


_ARRAY = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # How Python 3 writes bytes for Python 2.
    ("_codecs", "encode"): lambda text, encoding: str.encode(text, "latin1"),
    **{
        (f"numpy.{core}.{module}", name): _ARRAY[name]
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
}
"""All that a pickle of plain values and arrays refers to, by the names of old and new NumPy."""


class _PlainUnpickler(pickle.Unpickler):
    """Makes plain values and arrays, and refuses everything else before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain value")
        return _ALLOWED[module, name]
