"""Data frames in files of R (``.rds``, ``.RData``), with factors, dates, labels and kinds of missing values."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
import zoneinfo
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.codebook import Codebook, without_rare_labels
from shardsynth.data.r_objects import NA_BITS, NA_INTEGER, SECONDS, RFormatError, RObject, RReader
from shardsynth.data.unpacking import LEAST_TEXT, Unpacked
from shardsynth.errors import InputError, ShardError

READERS = (".rds", ".rdata", ".rda")
_BATCH_ROWS = 1 << 17
_MOST_LABELS, _MOST_SECONDS = 10_000, 4e11  # no day or second beyond year 14,000
_DAMAGE = (
    pa.ArrowException,
    OSError,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    RecursionError,
    MemoryError,
    IndexError,
    OverflowError,
)


def frame_names(path: Path) -> list[str]:
    """Names of the data frames of an ``.RData`` file; empty for any other file.

    Raises:
        ShardError: The file is damaged.
    """
    if path.suffix.lower() not in (".rdata", ".rda") or not path.is_file():
        return []
    try:
        return list(_frames(_unpacked(path, None)))
    except RFormatError as error:
        raise ShardError(f"{path}: {error}") from None
    except _DAMAGE:
        raise ShardError(f"{path}: is no file of R, or is cut short or damaged") from None


def _frames(stream: Any) -> dict[str, RObject]:
    if stream(5) not in (b"RDX2\n", b"RDX3\n"):
        raise RFormatError("it is no file of R's save(), or in its text format: save it again")
    pairs = RReader(stream).object()
    objects = zip(pairs.names, pairs.value if isinstance(pairs.value, list) else [])
    return {key: value for key, value in objects if isinstance(value, RObject) and _is_frame(value)}


class RFile:
    """A data frame of a file; the protocol is ``foreign.ForeignTable``.

    R keeps column after column, so the whole table is in memory.
    """

    is_text = False

    def __init__(self, path: Path, name: str | None, max_unpacked: int | None = None) -> None:
        self._path = path
        try:
            frame = self._frame(_unpacked(path, max_unpacked), name)
            self._table = pa.table(*self._columns(frame))
        except RFormatError as error:
            raise ShardError(f"{path}: {error}") from None
        except _DAMAGE:
            raise ShardError(f"{path}: is no file of R, or is cut short or damaged") from None
        self.fields = self._table.schema

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        for batch in self._table.to_batches(max_chunksize=_BATCH_ROWS):
            yield batch.columns

    def _frame(self, stream: Any, name: str | None) -> RObject:
        if self._path.suffix.lower() == ".rds":
            found = RReader(stream).object()
            if not _is_frame(found):
                raise RFormatError("it holds no data frame: in R, saveRDS(as.data.frame(x), file)")
            return found
        frames = _frames(stream)
        shown = ", ".join(map(repr, frames))
        if name is not None and name not in frames:
            raise InputError(f"{self._path}: has no data frame {name!r}, only {shown or 'other objects'}")
        if name is None and len(frames) != 1:
            which = (
                f"{len(frames)} data frames: say which by --sheet: {shown}; or --all-sheets"
                if frames
                else "no data frame"
            )
            raise InputError(f"{self._path}: has {which}")
        return frames[name] if name is not None else next(iter(frames.values()))

    def _columns(self, frame: RObject) -> tuple[list[pa.Array], pa.Schema]:
        arrays, fields = [], []
        for name, column in zip(frame.texts("names"), frame.value if isinstance(frame.value, list) else []):
            assert isinstance(column, RObject)
            array, book = self._column(str(name), column)
            arrays.append(array)
            fields.append(book.on(pa.field(str(name), array.type)))
            kinds = _kinds(column)
            if kinds is not None:
                arrays.append(kinds)
                fields.append(Codebook(kinds_of=str(name), source="rds").on(pa.field(f"{name}_missing", kinds.type)))
        if not arrays:
            raise RFormatError("the data frame has no columns")
        if len(set(map(len, arrays))) > 1:
            raise RFormatError("it is damaged: columns of other lengths")
        return arrays, pa.schema(fields)

    def _column(self, name: str, column: RObject) -> tuple[pa.Array, Codebook]:
        classes = column.texts("class")
        book = _codebook(column)
        if "factor" in classes and column.kind == "integer":
            return _factor(column, ordered="ordered" in classes), book
        if column.kind == "character":
            return pa.array(column.value, pa.string()), without_rare_labels(book, pa.array(column.value, pa.string()))
        if column.kind == "logical":
            flags = np.asarray(column.value)
            return pa.array(flags != 0, mask=flags == NA_INTEGER), book
        if column.kind not in ("integer", "double") or not isinstance(column.value, np.ndarray):
            raise RFormatError(f"column {name!r} is a {column.kind} in R, not a vector of values: leave it out, in R")
        if column.value.dtype == np.float64 and "integer64" in classes:
            longs = column.value.view(np.int64)
            return pa.array(longs, mask=longs == -(2**63)), book
        array = _moments(column, classes)
        if array is None:
            array = _numbers(column)
            book = without_rare_labels(book, array)
        return array, book


def _is_frame(found: RObject) -> bool:
    return found.kind == "list" and "data.frame" in found.texts("class")


def _unpacked(path: Path, most: int | None) -> Any:
    """A function that reads bytes of the unpacked file; it stops where the file unpacks to too much."""
    counted = Unpacked.of(path, most, LEAST_TEXT)
    with path.open("rb") as file:
        magic = file.read(6)
    opener: Any = open
    for start, other in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        opener = other if magic.startswith(start) else opener
    stream = io.BufferedReader(opener(path, "rb"), 1 << 20)

    def read(count: int) -> bytes:
        counted.add(count)
        return stream.read(count)

    return read


def _factor(column: RObject, *, ordered: bool) -> pa.Array:
    levels = column.texts("levels")
    codes = np.asarray(column.value, np.int32)
    absent = codes == NA_INTEGER
    places = pa.array(np.where(absent, 0, codes - 1), pa.int32(), mask=absent)
    return pa.DictionaryArray.from_arrays(places, pa.array(levels, pa.string()), ordered=ordered)


def _numbers(column: RObject) -> pa.Array:
    values = column.value
    assert isinstance(values, np.ndarray)
    if values.dtype == np.int32:
        return pa.array(values, mask=values == NA_INTEGER)
    absent = np.isnan(values)
    present = values[~absent]
    if len(present) and (present == np.rint(present)).all() and (np.abs(present) <= 2.0**53).all():
        return pa.array(np.where(absent, 0, values).astype(np.int64), mask=absent)
    return pa.array(values, mask=absent)


def _moments(column: RObject, classes: list[str | None]) -> pa.Array | None:
    """Dates, instants and durations; None for plain numbers."""
    values = np.asarray(column.value)
    absent = values == NA_INTEGER if values.dtype == np.int32 else ~np.isfinite(values)
    numbers = np.where(absent, 0, values).astype(np.float64)
    numbers = np.clip(numbers, -_MOST_SECONDS, _MOST_SECONDS)
    if "Date" in classes:
        days = np.clip(np.floor(numbers), -(2**31), 2**31 - 1)
        return pa.array(days.astype(np.int32), mask=absent).cast(pa.date32())
    if "POSIXct" in classes:
        zone = next((text for text in column.texts("tzone") if text), "UTC")
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            zone = "UTC"
        return pa.array(np.rint(numbers * 1e6).astype(np.int64), mask=absent).cast(pa.timestamp("us", zone))
    if "difftime" in classes:
        unit = SECONDS.get(str(next(iter(column.texts("units")), "secs")), 1)
        return pa.array(np.rint(numbers * unit * 1e3).astype(np.int64), mask=absent).cast(pa.duration("ms"))
    return None


def _kinds(column: RObject) -> pa.Array | None:
    """Kinds of missing values of haven's ``tagged_na``, such as ``.a``; None where there are none."""
    values = column.value
    if column.kind != "double" or not isinstance(values, np.ndarray) or "integer64" in column.texts("class"):
        return None
    bits = values.view(np.uint64)
    tags = np.where(np.isnan(values) & (bits & 0xFFFFFFFF == NA_BITS), bits >> 32 & 0xFF, 0)
    letters = tags.tolist() if tags.any() else []
    if not letters:
        return None
    return pa.array([f".{chr(tag)}" if tag else None for tag in letters], pa.string()).dictionary_encode()


def _codebook(column: RObject) -> Codebook:
    """Labels and formats as haven and Hmisc keep them."""
    label = next((text for text in column.texts("label") if text), "")
    forms = (column.texts(f"format.{program}") for program in ("spss", "stata", "sas"))
    form = next((form[0] for form in forms if form and form[0]), "")
    if "difftime" in column.texts("class"):
        form = next((text for text in column.texts("units") if text), "")
    labels: dict[str, str] = {}
    found = column.attributes.get("labels")
    if found is not None:
        for code, text in zip(_codes(found), found.texts("names")):
            if code is not None and text is not None:
                labels[code] = text
    missing: list[Any] = []
    absent, limits = column.attributes.get("na_values"), column.attributes.get("na_range")
    if absent is not None and absent.value is not None:
        missing += list(absent.value.tolist() if isinstance(absent.value, np.ndarray) else absent.value)
    if limits is not None and isinstance(limits.value, np.ndarray) and len(limits.value) == 2:
        missing.append({"lo": float(limits.value[0]), "hi": float(limits.value[1])})
    return Codebook(label, dict(list(labels.items())[:_MOST_LABELS]), form, "", missing, "", "rds")


def _codes(labels: RObject) -> list[str | None]:
    """Codes of a vector of value labels, as text; of a tagged missing value its letter."""
    if labels.kind == "character":
        return [text if isinstance(text, str) else None for text in labels.value or []]
    kinds = _kinds(labels)
    tags = kinds.to_pylist() if kinds is not None else []
    codes: list[str | None] = []
    for place, value in enumerate(_numbers(labels).to_pylist() if isinstance(labels.value, np.ndarray) else []):
        tag = tags[place] if tags else None
        codes.append(tag[1:] if tag else None if value is None else str(value))
    return codes
