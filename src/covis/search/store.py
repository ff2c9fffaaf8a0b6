"""The store: two Lance tables in one folder or bucket, which LanceDB opens as they are.

    images    a row a picture's content: size, global vector, thumbnail, local features.
              Its key is the content's hash; its metadata says what made the features.
    files     a row a path: its size and time, which content it has, or why it could not be used.

Every commit is one file that appears whole or not at all. `images` is written before `files`, so
a process killed between the two leaves pictures that no file names: they count as not there, and
the next run that adds or removes names or drops them. Two processes that insert one key at once
are told apart by Lance: the second one's insert is tried again and finds it there.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

os.environ.setdefault("LANCE_LOG", "error")
# It would warn of each partition of an index to which a new row adds nothing.
import lance

from covis.errors import ArgumentError, CovisError
from covis.files.run_folder import differences
from covis.types import Features, FloatArray

FORMAT, READ = 2, (1, 2)
"""What new stores are, and what is read. Rows of the first one have no checksum."""
THUMBNAIL = 16
"""Side of the grey thumbnail by which turned and mirrored copies are found, in pixels."""
COMPACTED_ROWS = 128, 1024, 8192
MANY_FRAGMENTS = 32
"""So many fragments between two of COMPACTED_ROWS are joined up to the larger one, the smallest
ones first, so that many small commits do not write all rows anew each time."""
DELETED = 0.1
"""The share of a fragment's rows that may be deleted before it is written anew, without them."""
KEPT, KEPT_AT_LEAST = timedelta(minutes=10), timedelta(minutes=1)
"""Older versions of the tables stay so long, for readers that are at them; the shorter time where
they take more than the table itself."""
RETRIES = 50
"""How often a commit is tried again when another process committed in between."""
AT_ONCE = 4096
"""Rows of all pictures that are read at a time."""
VECTOR_INDEX_FROM = 100_000
"""With more images, Lance's vector index finds the candidates instead of a matrix product."""
LOOKED_UP_FROM = 10_000
"""With more images, rows are found by indices of their keys instead of reading whole columns: files
of 12 of 100,000 pictures in 2 ms instead of 20."""

LEAST_PROBES = 1024
"""See `probes`."""
CODE_BITS = 4
"""Bits of a number in the vector index."""
CHECKED_EXACTLY = 2
"""So many times the vectors asked for are read to be compared exactly."""

BLOCK = 8192
"""Rows that are read at a time."""

CHECKSUM = "checksum"

_KEY = {"lance-schema:unenforced-primary-key": "true"}
_META = b"covis"
_OF_WEIGHTS = ("pooled", "descriptor", "vector")


@dataclass(frozen=True)
class Identity:
    """What made the features of a store. Others cannot be compared with them.

    features: the model's name. weights: `Bundle.digest`; empty for none.
    pooled: whether the global vector was pooled from the descriptors, see `pooling`.
    descriptor, vector: numbers in a local descriptor and in a global vector.
    """

    features: str
    weights: str
    max_keypoints: int
    max_size: int | None
    pooled: bool
    descriptor: int
    vector: int

    def other_kind(self, other: Identity) -> str:
        """How its features are no match for these, in words; empty where they can be compared:
        there may be more or fewer in a picture."""
        return self._differences(
            replace(other, max_keypoints=self.max_keypoints, max_size=self.max_size)
        )

    def _differences(self, other: Identity) -> str:
        follows = {"weights": "features", **dict.fromkeys(_OF_WEIGHTS, "weights")}
        return "; ".join(differences(asdict(self), asdict(other), follows))

    def check(self, other: Identity, uri: str) -> None:
        """Raise ArgumentError where `other`, of now, is not what made the store at `uri`."""
        if self == other:
            return
        what = self._differences(other)
        raise ArgumentError(
            f"{uri} was made with other settings ({what}). Use the same, or make a new store with "
            "'covis add PHOTOS --to ANOTHER'."
        )


@dataclass(frozen=True)
class File:
    """A row of `files`: a path and what was found there.

    modified: in nanoseconds. content: the hash of the bytes; None where it could not be read.
    error: why it could not be used; empty where it could.
    """

    path: str
    size: int
    modified: int
    content: str | None
    error: str = ""


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """A row of `images`.

    orientation: the EXIF value that the file had; all else refers to the upright picture.
    vector: (G,) float32, unit length. thumbnail: (16, 16) uint8, grey.
    """

    content: str
    orientation: int
    focal_length: float | None
    thumbnail: NDArray[np.uint8]
    vector: FloatArray
    features: Features


class Store:
    """The tables at one address."""

    def __init__(self, uri: str, identity: Identity, images: Any, files: Any) -> None:
        """images, files: the tables as they were at one moment; nothing changes these objects, so
        that threads can share them. `refresh` puts newer ones in their place."""
        self.uri, self.identity = uri, identity
        self.images, self.files = images, files

    @staticmethod
    def open(uri: str | os.PathLike[str]) -> Store:
        """The store at a path or an address such as s3://bucket/folder.

        Raises ArgumentError where there is none, CovisError where it cannot be read.
        """
        store = Store.find(uri)
        if store is None:
            raise ArgumentError(f"{uri}: no store there; make one: covis add PHOTOS --to {uri}.")
        return store

    @staticmethod
    def find(uri: str | os.PathLike[str]) -> Store | None:
        """The store at `uri`, None where there is none."""
        uri = _address(uri)
        if os.path.isfile(uri):
            raise ArgumentError(f"{uri} is a file; name a folder for the store.")
        images = _table(uri, "images")
        if images is None:
            return None
        files = _table(uri, "files")
        try:
            with reported(uri):
                values = json.loads(images.schema.metadata[_META])
            version = values.pop("format")
            identity = Identity(**values) if version in READ else None
        except (TypeError, KeyError, ValueError):
            raise CovisError(f"{uri}: these tables are not covis'; name another store.") from None
        if identity is None:
            raise CovisError(f"{uri} has format {version}, this covis reads {FORMAT}: update it.")
        if files is None:
            raise CovisError(f"{uri} is damaged: its table of files is missing.")
        return Store(uri, identity, images, files)

    @staticmethod
    def make(uri: str | os.PathLike[str], identity: Identity) -> Store:
        """The store at `uri`, made if it is not there.

        Raises ArgumentError when it was made with something else, CovisError when it cannot be
        written.
        """
        uri = _address(uri)
        store = Store.find(uri)
        if store is None:
            _check_free(uri)
            meta = {_META: json.dumps({"format": FORMAT, **asdict(identity)}).encode()}
            _create(uri, "files", _FILES)
            _create(uri, "images", _image_schema(identity).with_metadata(meta))
            store = Store.open(uri)
        store.identity.check(identity, uri)
        return store

    @property
    def stores(self) -> tuple[Store, ...]:
        """Itself alone; see `Shards`."""
        return (self,)

    def refresh(self) -> None:
        """Take up what was committed, here and elsewhere."""
        with reported(self.uri):
            self.images, self.files = self._latest("images"), self._latest("files")

    def snapshot(self) -> Store:
        """The tables as they are here now; no refresh of this one changes them."""
        return copy(self)

    def _latest(self, name: str) -> Any:
        """A table as it is now, an object of its own."""
        table = getattr(self, name)
        return table.checkout_version(table.latest_version)

    def commit(self, described: Sequence[ImageRecord], files: Sequence[File]) -> set[str]:
        """Store pictures, then files; returns the contents that these files no longer have."""
        superseded: set[str] = set()
        with reported(self.uri):
            if described:
                rows = _image_rows(described, self.images.schema)
                _insert(self._latest("images"), "content").execute(rows)
            if files:
                table = self._latest("files")
                which = _among("path", [file.path for file in files])
                before = table.to_table(filter=which, columns=["path", "content"])
                latest = {file.path: file.content for file in files}
                superseded = {
                    row["content"]
                    for row in before.to_pylist()
                    if row["content"] not in (None, latest[row["path"]])
                }
                columns = {
                    column.name: [getattr(file, column.name) for file in files]
                    for column in fields(File)
                }
                rows = pa.Table.from_pydict(columns, _FILES)
                _insert(table, "path").when_matched_update_all().execute(rows)
        self.refresh()
        return superseded

    def replace(self, described: Sequence[ImageRecord]) -> None:
        """Put what is given of pictures that are there in the place of what there is."""
        with reported(self.uri):
            rows = _image_rows(described, self.images.schema)
            merge = _insert(self._latest("images"), "content").when_matched_update_all()
            merge.execute(rows)
        self.refresh()

    def unnamed(self) -> set[str]:
        """The pictures that no file names."""
        self.refresh()
        contents = self._contents("images")
        return set(
            contents.filter(pc.invert(pc.is_in(contents, self._contents("files")))).to_pylist()
        )

    def drop_unnamed(self, contents: Iterable[str] | None = None) -> int:
        """Remove those of the pictures (of all by default) that no file names; how many.

        Another process that names one of them at this very moment finds it again.
        """
        dropped = 0
        with reported(self.uri):
            if contents is None:
                unnamed = self.unnamed()
            else:
                self.refresh()
                unnamed = self.present(list(contents))
                unnamed -= {row["content"] for row in self.named(sorted(unnamed), ["content"])}
            for chunk in _chunks(sorted(unnamed)):
                which = _among("content", chunk)
                rows = self.images.to_table(filter=which)
                self._latest("images").delete(which)
                self.refresh()
                again = {row["content"] for row in self.named(chunk, ["content"])}
                if again:
                    kept = pc.is_in(rows["content"], pa.array(sorted(again), pa.string()))
                    _insert(self._latest("images"), "content").execute(rows.filter(kept))
                dropped += len(chunk) - len(again)
            self.refresh()
        return dropped

    def drop_doubled(self) -> int:
        """Remove all rows but one of each picture and each path; how many."""
        dropped = 0
        with reported(self.uri):
            self.refresh()
            for name, key in (("images", "content"), ("files", "path")):
                table = self._latest(name)
                rows = table.to_table(columns=[key], with_row_id=True)
                first: dict[str, int] = {}
                ids = zip(rows[key].to_pylist(), rows["_rowid"].to_pylist(), strict=True)
                doubled = [row for value, row in ids if first.setdefault(value, row) != row]
                for begin in range(0, len(doubled), 500):
                    some = ", ".join(map(str, doubled[begin : begin + 500]))
                    table.delete(f"_rowid IN ({some})")
                dropped += len(doubled)
            self.refresh()
        return dropped

    def without_picture(self) -> list[str]:
        """The paths whose pictures are not stored, as a run leaves them whose pictures another one
        removed."""
        with reported(self.uri):
            self.refresh()
            named = self._contents("files")
            missing = named.filter(pc.invert(pc.is_in(named, self._contents("images"))))
            contents = sorted(set(missing.drop_null().to_pylist()))
            return [row["path"] for row in self.named(contents, ["path"])]

    def _contents(self, name: str) -> pa.ChunkedArray:
        """Those of a table, nulls where it has none."""
        with reported(self.uri):
            return getattr(self, name).to_table(columns=["content"])["content"]

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files by path, and the pictures that no other file names."""
        with reported(self.uri):
            for chunk in _chunks(paths):
                self._latest("files").delete(_among("path", chunk))
        self.drop_unnamed()

    def present(self, contents: Sequence[str]) -> set[str]:
        """Which of these contents are stored."""
        with reported(self.uri):
            found = [
                self.images.to_table(filter=_among("content", chunk), columns=["content"])
                for chunk in _chunks(contents)
            ]
        return {content for rows in found for content in rows["content"].to_pylist()}

    def named(self, contents: Sequence[str], columns: list[str]) -> list[dict[str, Any]]:
        """The rows of files that have these contents."""
        with reported(self.uri):
            found = [
                self.files.to_table(filter=_among("content", chunk), columns=columns)
                for chunk in _chunks(contents)
            ]
        return [row for rows in found for row in rows.to_pylist()]

    def at(self, path: str, columns: list[str]) -> dict[str, Any] | None:
        """The row of a file; None for a path that is not there."""
        with reported(self.uri):
            found = self.files.to_table(filter=_among("path", [path]), columns=columns).to_pylist()
        return found[0] if found else None

    def row(self, content: str) -> int | None:
        """The row id of a picture; None for one that is not there."""
        with reported(self.uri):
            found = self.images.to_table(
                filter=_among("content", [content]), columns=[], with_row_id=True
            )
        return int(found["_rowid"][0].as_py()) if found.num_rows else None

    def stored_files(self) -> Iterator[tuple[list[str], list[int], list[int]]]:
        """Paths, sizes and times of the files whose pictures are stored, in blocks."""
        with reported(self.uri):
            # In one go: the set of contents is made anew by each call of `is_in`.
            stored = pc.is_in(self._contents("files"), self._contents("images"))
            columns = ["path", "size", "modified"]
            begin = 0
            for batch in self.files.to_batches(columns=columns):
                kept = batch.filter(stored[begin : begin + len(batch)].combine_chunks())
                begin += len(batch)
                yield tuple(kept[name].to_pylist() for name in columns)

    def column(self, table: Any, name: str) -> list[Any]:
        """One column as a list."""
        with reported(self.uri):
            values: list[Any] = table.to_table(columns=[name])[name].to_pylist()
        return values

    @property
    def version(self) -> tuple[int, ...]:
        """Tells apart states of the pictures."""
        return (self.images.version,)

    def count(self) -> int:
        """How many pictures there are."""
        with reported(self.uri):
            return int(self.images.count_rows())

    def in_memory(self) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.uint8]]:
        """Row ids (N,), global vectors (N, G) and thumbnails (N, 256) of what a search holds: all
        pictures, or none where there is an index to go by."""
        if self.has_vector_index():
            none = np.empty((0, self.identity.vector), np.float32)
            return np.empty(0, np.int64), none, np.empty((0, THUMBNAIL**2), np.uint8)
        return *self.vectors(), self._whole("thumbnail", THUMBNAIL**2, np.uint8)[1]

    def blocks(self, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
        """Columns of all pictures, some thousand at a time, and at which place these begin."""
        begin = 0
        with reported(self.uri):
            batches = self.images.to_batches(
                columns=columns, batch_size=BLOCK, batch_readahead=1, fragment_readahead=1
            )
            for batch in batches:
                yield begin, pa.table(batch)
                begin += batch.num_rows

    def vectors(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Row ids (N,) and global vectors (N, G) of all pictures."""
        return self._whole("vector", self.identity.vector, np.float32)

    def _whole(
        self, name: str, length: int, dtype: DTypeLike
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Row ids (N,) of all pictures, and a column of lists of one length (N, length).

        Read some rows at a time: at once it would take twice the memory, which is not given back.
        """
        with reported(self.uri):
            rows = np.empty(self.images.count_rows(), np.int64)
            values = np.empty((len(rows), length), dtype)
            begin = 0
            for batch in self.images.to_batches(
                columns=[name], with_row_id=True, batch_size=AT_ONCE, batch_readahead=2
            ):
                part = slice(begin, begin + batch.num_rows)
                rows[part] = batch["_rowid"].to_numpy()
                values[part] = batch[name].flatten().to_numpy().reshape(-1, length)
                begin += batch.num_rows
        return rows, values

    def nearest(self, vector: FloatArray, count: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Row ids and similarities of the pictures most similar to a vector, by Lance's index."""
        query = {"column": "vector", "q": vector, "k": count, "metric": "dot"}
        with reported(self.uri):
            query["nprobes"] = probes(self.images.count_rows())
            query["refine_factor"] = CHECKED_EXACTLY
            rows = self.images.to_table(columns=["_distance"], nearest=query, with_row_id=True)
        similarity = 1 - rows["_distance"].to_numpy()
        return rows["_rowid"].to_numpy().astype(np.int64), similarity.astype(np.float32)

    def take(self, rows: Sequence[int], columns: list[str]) -> pa.Table:
        """Columns of the pictures with these row ids, in their order."""
        with reported(self.uri):
            return self.images._take_rows(list(rows), columns=columns)

    def features(self, rows: Sequence[int]) -> list[tuple[str, Features]]:
        """The contents and features of the pictures with these row ids."""
        columns = ["content", "width", "height", "keypoints", "scores", "descriptors"]
        table = self.take(rows, columns)
        return [_unpacked(table, row, self.identity) for row in range(table.num_rows)]

    def sizes(self) -> tuple[int, int]:
        """Bytes of the tables as they are, and of all their files, older versions too."""
        tables = self.images, self.files
        with reported(self.uri):
            live = sum(
                file.file_size_bytes or 0
                for table in tables
                for fragment in table.get_fragments()
                for file in fragment.data_files()
            )
            everything = sum(
                sum(batch["size_bytes"].to_pylist())
                for table in tables
                for batch in table.all_files()
            )
        return live, everything

    def tidy(self) -> None:
        """Join small fragments, drop old versions, take new rows into the indices."""
        for name in ("images", "files"):
            try:
                table = self._latest(name)
                _compact(table)
                _forget(table)
            except OSError:
                # Another process was at the same; the next run finds it to do again.
                continue
        self.refresh()
        self._index()

    def has_vector_index(self) -> bool:
        """Whether `nearest` has an index to go by: a large store has, once it was tidied."""
        with reported(self.uri):
            large = self.images.count_rows() > VECTOR_INDEX_FROM
            return large and "vector_idx" in _indices(self.images)

    def _index(self) -> None:
        with reported(self.uri):
            images = self.images.count_rows()
            for name, column, above in (
                ("images", "vector", VECTOR_INDEX_FROM),
                ("images", "content", LOOKED_UP_FROM),
                ("files", "path", LOOKED_UP_FROM),
                ("files", "content", LOOKED_UP_FROM),
            ):
                if images <= above:
                    continue
                try:
                    _index_column(self._latest(name), column)
                except OSError:  # As in `tidy`.
                    continue
        self.refresh()


def _compact(table: Any) -> None:
    """Join small fragments among themselves, and write those anew that lost rows."""
    fragments = [fragment.metadata for fragment in table.get_fragments()]
    sizes = [fragment.num_rows for fragment in fragments]
    for smaller, rows in pairwise((0, *COMPACTED_ROWS)):
        if sum(smaller <= size < rows for size in sizes) >= MANY_FRAGMENTS:
            break
    else:
        rows = COMPACTED_ROWS[0]
        if not any(each.num_deletions > DELETED * each.physical_rows for each in fragments):
            return
    table.optimize.compact_files(
        target_rows_per_fragment=rows,
        materialize_deletions_threshold=DELETED,
        batch_size=64,
        num_threads=1,
    )


def _forget(table: Any) -> None:
    """Drop old versions, by their age and size."""
    live = sum(
        file.file_size_bytes or 0
        for fragment in table.get_fragments()
        for file in fragment.data_files()
    )
    everything = sum(sum(batch["size_bytes"].to_pylist()) for batch in table.all_files())
    kept = KEPT_AT_LEAST if everything > 2 * live else KEPT
    table.cleanup_old_versions(older_than=kept)


def _partitions(rows: int) -> int:
    """Of the vector index, the square root of the rows, as is usual."""
    return max(1, int(np.sqrt(rows)))


def probes(rows: int) -> int:
    """Partitions of the vector index that a search looks into.

    LEAST_PROBES, and half of them if that is more: global vectors lie in one cloud, and the nearest
    ones of many are spread over most partitions. To a million rows it is all.
    """
    return max(LEAST_PROBES, _partitions(rows) // 2)


def _indices(table: Any) -> set[str]:
    return {index.name for index in table.describe_indices()}


def _index_column(table: Any, column: str) -> None:
    """Make an index, or take new rows into it."""
    name = f"{column}_idx"
    if name in _indices(table):
        table.optimize.optimize_indices(index_names=[name])
    elif column == "vector":
        table.create_index(
            column,
            "IVF_RQ",
            metric="dot",
            num_bits=CODE_BITS,
            num_partitions=_partitions(table.count_rows()),
            name=name,
        )
    else:
        table.create_scalar_index(column, "BTREE", name=name)


def quantised(descriptors: FloatArray) -> NDArray[np.int8]:
    """(N, D) descriptors of unit length -> (N, D) int8, each scaled to the full range.

    The scales need not be kept: `restored` makes the length one again.
    """
    largest = np.abs(descriptors).max(axis=1, keepdims=True, initial=0)
    return np.rint(descriptors * (127 / np.maximum(largest, 1e-12))).astype(np.int8)


def restored(codes: NDArray[np.int8]) -> FloatArray:
    """(N, D) int8 -> (N, D) float32 of unit length."""
    descriptors = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", descriptors, descriptors))
    descriptors /= np.maximum(lengths, 1e-12)[:, None]
    return descriptors


def fixed(column: pa.ChunkedArray, dtype: DTypeLike) -> NDArray[Any]:
    """A column of lists of one length as an array (N, length)."""
    values = np.empty((len(column), column.type.list_size), dtype)
    begin = 0
    for chunk in column.chunks:
        values[begin : begin + len(chunk)] = np.asarray(chunk.flatten()).reshape(
            len(chunk), column.type.list_size
        )
        begin += len(chunk)
    return values


_opened_by: int | None = None
"""The process that used Lance first."""


def _check_not_forked(uri: str) -> None:
    """Raise CovisError in a process that was forked after its parent had opened a store.

    Lance's threads do not live on in it, and what is opened anew there hangs for ever, too.
    """
    global _opened_by
    if _opened_by is None:
        _opened_by = os.getpid()
    elif _opened_by != os.getpid():
        raise CovisError(
            f"{uri}: this process was forked after its parent had opened a store, and cannot use "
            "any. Start it by 'spawn' (multiprocessing.get_context), or open stores in it alone."
        )


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Turn what Lance raises into CovisError, one line."""
    _check_not_forked(uri)
    try:
        yield
    except CovisError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        raise CovisError(_said(uri, error)) from error
    except BaseException as error:
        # Of Rust's panics, which are no Exception; their class cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise CovisError(_said(uri, error)) from error


_SYSTEM = (
    (("os error 28)", "os error 122)"), "the disk is full", "free some of it and run again."),
    (
        ("os error 13)", "os error 30)"),
        "covis may not write there",
        "change the rights of its folder, or name another store.",
    ),
    (
        ("os error 1)", "os error 95)", "os error 38)"),
        "its disk has no hard links, which a store needs",
        "name a store on another disk.",
    ),
    (
        ("os error 11)", "os error 24)", "code: 11,", "code: 24,"),
        "the system lets this process have no more threads or files",
        "raise its limits ('ulimit -u', 'ulimit -n').",
    ),
)
"""Words of an error, what they mean, and what to do."""


def _said(uri: str, error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    for words, what, remedy in _SYSTEM:
        if any(word in text for word in words):
            return f"{uri}: {what}; {remedy}"
    return (
        f"{uri}: the store cannot be used ({text[:300]}). "
        "If it is damaged, restore its folder from a copy, or add the photos to another store."
    )


_FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False, metadata=_KEY),
        pa.field("size", pa.int64()),
        pa.field("modified", pa.int64()),
        pa.field("content", pa.string()),
        pa.field("error", pa.string()),
    ]
)


def _image_schema(identity: Identity) -> pa.Schema:
    return pa.schema(
        [
            pa.field("content", pa.string(), nullable=False, metadata=_KEY),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("orientation", pa.int8()),
            pa.field("focal_length", pa.float32()),
            pa.field("thumbnail", pa.list_(pa.uint8(), THUMBNAIL**2)),
            pa.field("vector", pa.list_(pa.float32(), identity.vector)),
            pa.field("keypoints", pa.list_(pa.list_(pa.float32(), 2))),
            pa.field("scores", pa.list_(pa.float32())),
            pa.field("descriptors", pa.list_(pa.list_(pa.int8(), identity.descriptor))),
            pa.field("checksum", pa.uint32()),
        ]
    )


def _image_rows(described: Sequence[ImageRecord], schema: pa.Schema) -> pa.Table:
    features = [row.features for row in described]
    ends = np.cumsum([0, *(len(f) for f in features)]).astype(np.int32)

    def lists(arrays: Iterable[NDArray[Any]], width: int = 0) -> pa.Array:
        """One list a picture, of numbers or of rows of `width` numbers."""
        values = pa.array(np.concatenate([array.ravel() for array in arrays]))
        if width:
            values = pa.FixedSizeListArray.from_arrays(values, width)
        return pa.ListArray.from_arrays(ends, values)

    def blocks(arrays: Iterable[NDArray[Any]], width: int) -> pa.Array:
        values = pa.array(np.concatenate([array.ravel() for array in arrays]))
        return pa.FixedSizeListArray.from_arrays(values, width)

    descriptor = schema.field("descriptors").type.value_type.list_size
    columns: dict[str, Any] = {
        "content": [row.content for row in described],
        "width": [f.width for f in features],
        "height": [f.height for f in features],
        "orientation": [row.orientation for row in described],
        "focal_length": [row.focal_length for row in described],
        "thumbnail": blocks((row.thumbnail for row in described), THUMBNAIL**2),
        "vector": blocks((row.vector for row in described), schema.field("vector").type.list_size),
        "keypoints": lists((f.keypoints for f in features), 2),
        "scores": lists(f.scores for f in features),
        "descriptors": lists((quantised(f.descriptors) for f in features), descriptor),
    }
    if CHECKSUM not in schema.names:
        return pa.Table.from_pydict(columns, schema)
    bare = schema.remove(schema.get_field_index(CHECKSUM))
    table = pa.Table.from_pydict(columns, bare)
    return table.append_column(schema.field(CHECKSUM), [checksums(table)]).cast(schema)


def checksums(rows: pa.Table) -> pa.Array:
    """One of each picture's row: CRC-32 of all its other columns, in the order of their names."""
    names = sorted(set(rows.column_names) - {CHECKSUM})
    columns = [rows[name].combine_chunks() for name in names]
    return pa.array(
        [
            zlib.crc32(b"\0".join(_bytes(column, row) for column in columns))
            for row in range(rows.num_rows)
        ],
        pa.uint32(),
    )


def _bytes(column: pa.Array, row: int) -> bytes:
    """What a row has there, down to its numbers."""
    values = column.slice(row, 1)
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    if pa.types.is_string(values.type) or values.null_count:
        return repr(values.to_pylist()).encode()
    return bytes(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)))


def _unpacked(table: pa.Table, row: int, identity: Identity) -> tuple[str, Features]:
    def numbers(name: str, width: int) -> NDArray[Any]:
        values = table[name][row].values
        values = values.flatten() if width > 1 else values
        return np.asarray(values).reshape(-1, width)

    features = Features(
        keypoints=numbers("keypoints", 2),
        scores=numbers("scores", 1)[:, 0],
        descriptors=restored(numbers("descriptors", identity.descriptor)),
        width=table["width"][row].as_py(),
        height=table["height"][row].as_py(),
        model=identity.features,
    )
    return table["content"][row].as_py(), features


def _address(uri: str | os.PathLike[str]) -> str:
    uri = os.fspath(uri)
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)


def _check_free(uri: str) -> None:
    """Raise ArgumentError for a folder that holds other things."""
    if "://" in uri or not os.path.exists(uri):
        return
    if any(not name.endswith(".lance") for name in os.listdir(uri)):
        raise ArgumentError(f"{uri} holds other things; name a new or empty folder for the store.")


def _table(uri: str, name: str) -> Any | None:
    with reported(uri):
        try:
            return lance.dataset(f"{uri}/{name}.lance")
        except ValueError as error:
            if "not found" in str(error):
                return None
            raise


def _create(uri: str, name: str, schema: pa.Schema) -> None:
    """Make an empty table, unless another process just did."""
    address = f"{uri}/{name}.lance"
    if _table(uri, name) is not None:
        return
    try:
        lance.write_dataset(schema.empty_table(), address)
    except OSError as error:
        if _table(uri, name) is None:
            raise CovisError(_said(uri, error)) from error


def _insert(table: Any, key: str) -> Any:
    # Through an index on the key, Lance 14 misses rows that another process has just written.
    merge = table.merge_insert(key).when_not_matched_insert_all().use_index(False)
    return merge.conflict_retries(RETRIES)


def _among(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def _chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]
