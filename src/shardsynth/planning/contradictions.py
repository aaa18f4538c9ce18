"""Metadata against types and rows, while planning: what no type holds is refused, what the rows contradict is named.

Nothing is fitted before a column's extremes went through coding and writing once and came back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.choose import declared_bounds
from shardsynth.data.codec import decimal_exponent, storage_dtype, to_array, to_storage
from shardsynth.data.columns import Column
from shardsynth.data.detection import no_numbers
from shardsynth.data.dictionary_index import holds
from shardsynth.data.layouts import LAYOUT, DateLayout, layout_from, layout_of
from shardsynth.data.learn_layout import Counted, learn_number_layout
from shardsynth.data.metadata import composite_key, keys_of
from shardsynth.data.shards import Dataset, read_batches
from shardsynth.data.values import axis, decoded, kind_of, needs_parsing, without_view
from shardsynth.errors import MetadataError, ModelError
from shardsynth.job import Job

#: Most rows that are read while planning; of larger tables the profile tells the same.
MOST_ROWS = 2_000_000
_MOST_KEPT = 100_000  # distinct categories of a column
#: Largest share of texts that are no dates in a column of dates: words for dates that are not known.
_MOST_UNREAD = 0.1


def check_types(columns: Sequence[Column]) -> None:
    """Check that the types of the columns can hold what the metadata say, without reading a row.

    Raises:
        MetadataError: A range or a category is no value of the column's type, or its dictionary index is too small.
    """
    for column in columns:
        if column.role in ("number", "datetime"):
            with np.errstate(over="ignore"):
                bounds = np.array(declared_bounds(column))
            if not needs_parsing(column):
                _check_bounds(column, bounds[~np.isnan(bounds)])
        elif column.role == "category":
            _check_categories(column)


def _check_bounds(column: Column, bounds: np.ndarray[Any, Any]) -> None:
    type_ = column.value_type
    if pa.types.is_integer(type_):
        limits = np.iinfo(type_.to_pandas_dtype())
        outside = (bounds < limits.min) | (bounds > limits.max)
    elif pa.types.is_decimal(type_):
        outside = np.abs(bounds) >= 10.0 ** (type_.precision - type_.scale)
    elif pa.types.is_floating(type_):
        outside = np.abs(bounds) > float(np.finfo(type_.to_pandas_dtype()).max)
    else:
        return
    if outside.any():
        raise MetadataError(
            f"column {column.name!r}: its range_min or range_max is no value of the Arrow type {type_}; correct it in "
            "the metadata or leave it out"
        )


def _check_categories(column: Column) -> None:
    values = column.options.get("range_values")
    if not isinstance(values, (list, type(None))):
        raise MetadataError(
            f"column {column.name!r}: range_values is {type(values).__name__}; wanted a list of values, such as [F, M]"
        )
    if not values:
        return
    if pa.types.is_dictionary(column.type) and len(values) > holds(column.type):
        raise MetadataError(
            f"column {column.name!r}: the metadata list {len(values):,} range_values, but the index of its type "
            f"{column.type.index_type} holds {holds(column.type):,}; list fewer, or write plain values"
        )
    wrong = sum(not _is_value(value, column.value_type) for value in values)
    if wrong:
        raise MetadataError(
            f"column {column.name!r}: {wrong:,} of its {len(values):,} range_values are no values of the Arrow type "
            f"{column.value_type}; correct them in the metadata"
        )


def _is_value(value: Any, type_: pa.DataType) -> bool:
    if value is None or kind_of(type_) not in ("integer", "text", "boolean"):
        return True
    try:
        number = isinstance(value, float) and kind_of(type_) == "integer" and value == int(value)
        pa.scalar(int(value) if number else value, type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError):
        return False
    return True


def contradictions(job: Job, dataset: Dataset, metadata: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    """What the rows contradict in the metadata: a sentence each, with counts and without a value.

    Args:
        job: The job; under dp, no row is read.
        dataset: Its shards; larger ones than ``MOST_ROWS`` are not read.
        metadata: The job's metadata.
        columns: The columns that they describe.

    Raises:
        MetadataError: A column's extremes cannot be coded and written again.
    """
    if job.privacy is not None or dataset.rows > MOST_ROWS:
        return []
    keys = [*keys_of(dict(metadata)), *composite_key(dict(metadata))]
    watches: list[_Watch | _TextNumbers] = [
        _TextNumbers(c) if c.role == "number" and kind_of(c.type) == "text" else _Watch(c, job.rare.min_count)
        for c in columns
        if c.role in _WATCHED
    ]
    key_values: dict[str, list[pa.Array]] = {name: [] for name in keys if name in dataset.schema.names}
    names = {watch.column.name for watch in watches} | set(key_values)
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema, names=names):
            for watch in watches:
                watch.update(batch.column(batch.schema.names.index(watch.column.name)))
            for name, arrays in key_values.items():
                arrays.append(decoded(batch.column(batch.schema.names.index(name))))
    found = [sentence for watch in watches for sentence in watch.sentences()]
    for key in [[name] for name in keys_of(dict(metadata))] + [composite_key(dict(metadata))]:
        found += _repeats([key_values[name] for name in key if name in key_values], key)
    return found


_WATCHED = ("number", "datetime", "category")


class _TextNumbers:
    """Text that the metadata call numerical. How it is written is learned later, from all rows."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._rows: dict[str, int] = {}

    def update(self, array: pa.Array) -> None:
        if len(self._rows) <= _MOST_KEPT:
            values, rows = _counted(without_view(decoded(array)).drop_null())
            for value, count in zip(values.to_pylist(), rows.tolist()):
                self._rows[value] = self._rows.get(value, 0) + count

    def sentences(self) -> list[str]:
        counted = Counted.of(list(self._rows), np.array(list(self._rows.values()), np.int64))
        if self._rows and learn_number_layout(counted, certain=True) is None:
            raise MetadataError(no_numbers(self.column.name, self.column.type))
        return []


class _Watch:
    """Rows of one column that its metadata do not allow."""

    def __init__(self, column: Column, min_count: int) -> None:
        self.column, self._min_count = column, min_count
        self._outside = self._rows = self._unread = 0
        self._lenient = column
        if needs_parsing(column) and (form := layout_of(column)) is not None:
            layout = layout_from(form)
            if isinstance(layout, DateLayout):
                layout = replace(layout, lenient=True, unit="us" if layout.unit == "ns" else layout.unit)
                self._lenient = replace(column, options={**column.options, LAYOUT: layout.text})
        self._counts: dict[Any, int] = {}
        values = column.options.get("range_values") if column.role == "category" else None
        self._allowed = set(values) if values else None
        self._bounds = declared_bounds(self._lenient) if column.role != "category" else (np.nan, np.nan)

    def update(self, array: pa.Array) -> None:
        if self.column.role == "category":
            self._add_categories(array)
            return
        values = decoded(array).drop_null()
        if not len(values):
            return
        if needs_parsing(self.column):
            values, rows = _counted(values)
        else:
            rows = np.ones(len(values), np.int64)
        numbers, missing = axis(self._lenient, values)
        if needs_parsing(self.column):
            self._unread += int(rows[missing].sum())
            if missing.all() or self._unread > _MOST_UNREAD * (self._rows + self._unread):
                axis(self.column, values)  # names what is wrong
        low, high = self._bounds
        self._rows += int(rows[~missing].sum())
        self._outside += int(rows[(numbers < low) | (numbers > high)].sum())
        if not needs_parsing(self.column):  # how text is written is learned later, from all rows
            self._try(numbers, missing)

    def _add_categories(self, array: pa.Array) -> None:
        values, rows = _counted(decoded(array).drop_null())
        self._rows += int(rows.sum())
        if self._allowed is None or len(self._counts) > _MOST_KEPT:
            return
        for value, count in zip(values.to_pylist(), rows.tolist()):
            if not (value in self._allowed or str(value) in self._allowed or str(value) == "nan"):
                self._counts[value] = self._counts.get(value, 0) + count

    def _try(self, numbers: Any, missing: Any) -> None:
        """Code and write the batch's smallest and largest value: they must come back."""
        present = np.flatnonzero(~missing & np.isfinite(numbers))
        if not len(present):
            return
        chosen = present[[numbers[present].argmin(), numbers[present].argmax()]]
        type_ = self.column.value_type
        decimal = pa.types.is_decimal(type_)
        exponent = decimal_exponent(type_, float(np.abs(numbers[chosen]).max())) if decimal else None
        try:
            storage = numbers[chosen] if exponent is None else numbers[chosen] * 10.0**exponent
            written = to_array(type_, to_storage(storage, storage_dtype(type_)), exponent=exponent)
            back, _ = axis(self.column, written)
        except (pa.ArrowInvalid, ModelError, MetadataError, OverflowError, ValueError, TypeError) as error:
            raise MetadataError(
                f"column {self.column.name!r} of type {type_}: its smallest or largest value cannot be coded and "
                f"written again ({type(error).__name__}); check its sdtype ({self.column.sdtype}) in the metadata"
            ) from None
        if not np.allclose(back, numbers[chosen], rtol=1e-6, atol=0.0 if exponent is None else 10.0**-exponent):
            raise MetadataError(
                f"column {self.column.name!r} of type {type_}: its smallest or largest value is another one after it "
                f"was coded and written; check its sdtype ({self.column.sdtype}) in the metadata"
            )

    def sentences(self) -> list[str]:
        """What the rows contradict."""
        name, found = self.column.name, []
        if self._outside:
            found.append(
                f"column {name!r}: {self._outside:,} of {self._rows:,} rows lie outside range_min and range_max"
            )
        common = {value: count for value, count in self._counts.items() if count >= self._min_count}
        if common:
            found.append(
                f"column {name!r}: {sum(common.values()):,} of {self._rows:,} rows have {len(common):,} values that "
                "are not among range_values"
            )
        return found


def _counted(values: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    counts = values.value_counts()
    return counts.field("values"), counts.field("counts").to_numpy()


def _repeats(columns: list[list[pa.Array]], key: list[str]) -> list[str]:
    """A sentence if the values of a key repeat; rows without a value are told, too."""
    if not key or len(columns) != len(key):
        return []
    table = pa.table([pa.chunked_array(arrays) for arrays in columns], [str(i) for i in range(len(columns))])
    distinct = table.group_by(table.column_names).aggregate([]).num_rows
    missing = sum(column.null_count for column in table.columns)
    repeated = table.num_rows - distinct
    shown = repr(key[0]) if len(key) == 1 else str(key)
    found = [f"key {shown}: {missing:,} values are missing"] if missing else []
    if repeated:
        found.append(f"key {shown}: {repeated:,} of {table.num_rows:,} rows repeat a value; made values never repeat")
    return found
