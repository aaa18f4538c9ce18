"""Tables as data frames of R, ``.rds``: factors, dates, labels and kinds of missing values as haven keeps them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.codebook import Codebook
from shardsynth.data.r_objects import NA_BITS, NA_INTEGER, SECONDS, RObject
from shardsynth.data.values import decoded
from shardsynth.errors import ModelError

Numbers = npt.NDArray[Any]

_TYPES = {"logical": 10, "integer": 13, "double": 14, "character": 16, "list": 19}
_PAIRS, _SYMBOL, _TEXT, _END = 2, 1, 9, 254
_OBJECT, _WITH_ATTRIBUTES, _WITH_TAG, _UTF8 = 0x100, 0x200, 0x400, 0x8000
#: R's NA among doubles, and the largest whole number that a double holds exactly.
_NA = 0x7FF00000 << 32 | NA_BITS
_EXACT = 2**53


def write_rds(table: pa.Table, codebook: dict[str, Codebook], path: Path) -> None:
    """Write a table as a data frame.

    Raises:
        ModelError: R has no type for a column.
    """
    columns = {field.name: _column(field, table[field.name], codebook[field.name]) for field in table.schema}
    for name in table.column_names:
        of = columns.get(codebook[name].kinds_of)
        if of is not None and of.kind in ("integer", "double"):
            columns.pop(name)
            _tag(of, decoded(table[name]).to_pylist())
    rows = RObject("integer", np.array([NA_INTEGER, -table.num_rows], np.int32))
    attributes = {"names": _texts(columns), "class": _texts(["data.frame"]), "row.names": rows}
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(b"X\n" + struct.pack(">iii", 2, 0x040202, 0x020300))
        _Writer(cast(BinaryIO, file)).item(RObject("list", list(columns.values()), attributes))


class _Writer:
    """Writes objects in version 2 of R's format, which R reads since 1.4."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._symbols: dict[str, int] = {}

    def item(self, found: RObject) -> None:
        """Write an object."""
        flags = _TYPES[found.kind]
        flags |= _WITH_ATTRIBUTES if found.attributes else 0
        flags |= _OBJECT if "class" in found.attributes else 0
        values: Any = found.value
        self._integers(flags, len(values))
        if found.kind == "character":
            self._file.write(b"".join(map(_characters, values)))
        elif found.kind == "list":
            for value in values:
                self.item(value)
        else:
            self._file.write(values.astype(">f8" if found.kind == "double" else ">i4").tobytes())
        for name, attribute in found.attributes.items():
            self._integers(_PAIRS | _WITH_TAG)
            self._symbol(name)
            self.item(attribute)
        if found.attributes:
            self._integers(_END)

    def _symbol(self, name: str) -> None:
        if name in self._symbols:
            self._integers(self._symbols[name] << 8 | 255)
            return
        self._symbols[name] = len(self._symbols) + 1
        self._integers(_SYMBOL)
        self._file.write(_characters(name))

    def _integers(self, *numbers: int) -> None:
        self._file.write(struct.pack(f">{len(numbers)}i", *numbers))


def _characters(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">ii", _TEXT, -1)
    raw = text.encode()
    return struct.pack(">ii", _TEXT | _UTF8, len(raw)) + raw


def _texts(texts: Iterable[str]) -> RObject:
    return RObject("character", list(texts))


def _column(field: pa.Field, column: pa.ChunkedArray, book: Codebook) -> RObject:
    type_ = field.type
    if pa.types.is_dictionary(type_) and pa.types.is_string(type_.value_type):
        array = column.unify_dictionaries().combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        codes = pc.add(array.indices.cast(pa.int32()), 1).fill_null(NA_INTEGER).to_numpy(zero_copy_only=False)
        classes = ["ordered", "factor"] if type_.ordered else ["factor"]
        levels = RObject("character", array.dictionary.to_pylist())
        found = RObject("integer", codes, {"levels": levels, "class": _texts(classes)})
    else:
        found = _vector(field.name, decoded(column), book)
        if (book.value_labels or book.missing) and "class" not in found.attributes:
            found.attributes.update(_labels(found, book))
    if book.label:
        found.attributes["label"] = _texts([book.label])
    return found


def _vector(name: str, array: pa.Array, book: Codebook) -> RObject:
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return RObject("character", array.to_pylist())
    if pa.types.is_boolean(type_) or pa.types.is_null(type_):
        return RObject("logical", _integers(array.cast(pa.bool_())))
    if pa.types.is_integer(type_):
        ends = [end for end in pc.min_max(array).as_py().values() if end is not None]
        if type_.bit_width <= 32 and all(abs(end) < 2**31 for end in ends):
            return RObject("integer", _integers(array))
        if any(end >= 2**63 for end in ends):
            raise ModelError(f"column {name!r}: R has no whole numbers from 2**63 on; write .csv")
        if any(abs(end) > _EXACT for end in ends):
            longs = array.cast(pa.int64()).fill_null(-(2**63)).to_numpy(zero_copy_only=False)
            return RObject("double", longs.view(np.float64), {"class": _texts(["integer64"])})
        return RObject("double", _doubles(array))
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return RObject("double", _doubles(array))
    if pa.types.is_date(type_):
        return RObject("double", _doubles(array.cast(pa.date32()).cast(pa.int32())), {"class": _texts(["Date"])})
    if pa.types.is_timestamp(type_):
        seconds = _doubles(array.cast(pa.timestamp("us", type_.tz), safe=False).cast(pa.int64()), 1e6)
        attributes = {"class": _texts(["POSIXct", "POSIXt"]), "tzone": _texts([type_.tz or "UTC"])}
        return RObject("double", seconds, attributes)
    if pa.types.is_duration(type_) or pa.types.is_time(type_):
        whole = array.cast(pa.int32() if type_.bit_width == 32 else pa.int64())
        unit = book.format if book.format in SECONDS else "secs"
        numbers = _doubles(whole, {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[type_.unit] * SECONDS[unit])
        classes = ["hms", "difftime"] if pa.types.is_time(type_) else ["difftime"]
        return RObject("double", numbers, {"class": _texts(classes), "units": _texts([unit])})
    raise ModelError(f"column {name!r} of type {type_}: R has no such type; write .feather")


def _integers(array: pa.Array) -> Numbers:
    return np.asarray(array.cast(pa.int32()).fill_null(NA_INTEGER).to_numpy(zero_copy_only=False))


def _doubles(array: pa.Array, per: float = 1.0) -> Numbers:
    """Numbers divided by ``per``, with R's own bits where they are missing."""
    absent = array.is_null().to_numpy(zero_copy_only=False)
    numbers = array.cast(pa.float64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False) / per
    return np.where(absent, np.uint64(_NA), numbers.view(np.uint64)).view(np.float64)


def _labels(found: RObject, book: Codebook) -> dict[str, RObject]:
    """Attributes of a labelled column, as haven has them."""
    attributes = {}
    if book.value_labels:
        codes, names = list(book.value_labels), _texts(book.value_labels.values())
        if found.kind == "character":
            attributes["labels"] = RObject("character", codes, {"names": names})
        elif found.kind in ("integer", "double"):
            tagged = [code if len(code) == 1 and code.isalpha() else "" for code in codes]
            if any(tagged):
                _to_doubles(found)
            numbers = np.array([np.nan if tag else float(code) for code, tag in zip(codes, tagged)])
            labels = RObject("double", numbers, {"names": names})
            _tag(labels, [f".{tag}" if tag else None for tag in tagged])
            if found.kind == "integer":
                labels = RObject("integer", numbers.astype(np.int32), {"names": names})
            attributes["labels"] = labels
    classes = ["haven_labelled", "vctrs_vctr", found.kind]
    discrete = [code for code in book.missing if not isinstance(code, dict)]
    limits = next((code for code in book.missing if isinstance(code, dict)), None)
    if book.missing:
        classes.insert(0, "haven_labelled_spss")
    if discrete and found.kind == "character":
        attributes["na_values"] = _texts(map(str, discrete))
    elif discrete:
        attributes["na_values"] = RObject("double", np.array(discrete, np.float64))
    if limits is not None:
        attributes["na_range"] = RObject("double", np.array([limits["lo"], limits["hi"]], np.float64))
    return {**attributes, "class": _texts(classes)}


def _to_doubles(found: RObject) -> None:
    values = np.asarray(found.value)
    if found.kind == "integer":
        numbers = values.astype(np.float64)
        bits = np.where(values == NA_INTEGER, np.uint64(_NA), numbers.view(np.uint64))
        found.kind, found.value = "double", bits.view(np.float64)


def _tag(found: RObject, kinds: list[str | None]) -> None:
    """Put the letters of kinds of missing values into the bits of a column's missing values."""
    if not any(kinds):
        return
    _to_doubles(found)
    numbers = np.array(found.value, np.float64)
    bits = numbers.view(np.uint64)
    for row, kind in enumerate(kinds):
        if kind and np.isnan(numbers[row]):
            bits[row] = _NA | ord(kind[1]) << 32
    found.value = numbers
