"""Pickles of published data sets, read without running what they may hold.

A pickle can run any program. These unpicklers make nothing but plain values and arrays.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from covis.errors import ArgumentError
from covis.files.atomic import check_unfolds


def read_plain_pickle(path: str | Path) -> Any:
    """What a pickle of plain values and arrays holds.

    Raises ArgumentError that names the file when it cannot be read, is damaged, or asks for more.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_PlainUnpickler(file, encoding="latin1").load())
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # A damaged pickle raises almost anything.
        raise ArgumentError(f"{path}: not the published ground truth ({error}).") from error


def read_plain_npz(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file by name, those of Python objects too.

    LoFTR's have that ending and are bare pickles of a dictionary; they are read as well.

    Raises ArgumentError as `read_plain_pickle` does.
    """
    if not zipfile.is_zipfile(path):
        found = read_plain_pickle(path)
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise ArgumentError(f"{path}: holds no arrays by name.")
        return found
    try:
        with zipfile.ZipFile(path) as archive:
            check_unfolds(archive, Path(path).stat().st_size)
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
        return _plain(_PlainUnpickler(file, encoding="latin1").load())
    array = np.frombuffer(file.read(), dtype, count=int(np.prod(shape, dtype=np.int64)))
    return array.reshape(shape, order="F" if fortran_order else "C")


class _Kind:
    """A dtype as pickles describe it, plain ones only: NumPy's own believes what a file says of
    where objects lie in memory."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(r"[<>|=]?(\?|b1|[iu][1248]|f[248]|c8|c16|O8?|[SU]\d*)", name):
            raise pickle.UnpicklingError(f"it has numbers of the kind {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, within, names, columns = state[1:5]
        if order not in ("<", ">", "|", "=") or (within, names, columns) != (None, None, None):
            raise pickle.UnpicklingError("it has numbers that are not plain ones")
        if self.dtype.kind in "SU":
            self.dtype = np.dtype(f"{self.dtype.kind}{_bytes_of(self.dtype.kind, state[5])}")
        self.dtype = self.dtype.newbyteorder(order)


def _bytes_of(kind: str, size: Any) -> int:
    return int(size) // (4 if kind == "U" else 1)


class _Array(np.ndarray):
    """An array while it is read; `_plain` makes an ordinary one of it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, kind, columns_first, values = state
        if isinstance(values, str):
            values = values.encode("latin1")
        super().__setstate__((version, shape, kind.dtype, columns_first, values))


def _scalar(kind: _Kind, values: bytes | str) -> Any:
    content = values.encode("latin1") if isinstance(values, str) else values
    return np.frombuffer(content, kind.dtype, count=1)[0]


def _from_buffer(values: Any, kind: _Kind, shape: tuple[int, ...], order: str) -> Any:
    return np.frombuffer(values, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _plain(found: Any) -> Any:
    """What was read, with ordinary arrays."""
    if isinstance(found, _Array):
        if found.dtype.hasobject:
            for at, value in enumerate(found.flat):
                found.flat[at] = _plain(value)
        return found.view(np.ndarray)
    if isinstance(found, dict):
        return {_plain(key): _plain(value) for key, value in found.items()}
    if isinstance(found, (list, tuple, set)):
        return type(found)(_plain(value) for value in found)
    return found


_ARRAY = {
    "_reconstruct": lambda _, shape, kind: np.empty(0).view(_Array),
    "scalar": _scalar,
    "_frombuffer": _from_buffer,
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _Kind,
    # How Python 3 writes bytes for Python 2.
    ("__builtin__", "bytes"): lambda: b"",
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
