"""``TextTally``: exact counts of a column of text or bytes, made on dictionary codes, never row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.archive import value_from_json, value_to_json
from shardsynth.data.values import Array, kind_of, null_mask, plain_type

Integers = npt.NDArray[np.int64]


#: Most levels of an ordered dictionary whose order is kept, and most orders of a column.
MOST_LEVELS, _MOST_ORDERS = 1_000, 1_000


class TextTally:
    """Exact counts of text, of bytes, or of a column without values (the Arrow type ``null``).

    A commutative monoid with an overflow, as ``NumberTally``.

    Attributes:
        rows: Number of rows counted.
        nulls: Number of nulls among them.
        low: Smallest value in byte order, str or bytes; None without values.
        high: Largest value in byte order; None without values.
        nans, infinite, first_infinite: 0, 0 and None: text has no such values.
        overflow: Whether there were too many distinct values to count.
    """

    nans = 0
    infinite = 0
    first_infinite: int | None = None

    def __init__(self, type_: pa.DataType, limit: int) -> None:
        self.type = type_.value_type if pa.types.is_dictionary(type_) else type_
        self._plain = pa.binary() if kind_of(type_) == "binary" else pa.string()
        self.limit = limit
        self.rows = self.nulls = 0
        self.low: Any = None
        self.high: Any = None
        self.overflow = False
        self._values: pa.Array = pa.array([], self._plain)
        self._counts: Integers = np.zeros(0, np.int64)
        self._last: tuple[pa.Array, Integers] | None = None
        self._ordered = pa.types.is_dictionary(type_) and type_.ordered
        self._orders: set[tuple[str, ...]] = set()

    def update(self, array: pa.Array, rows: npt.NDArray[np.uint64] | None = None) -> None:
        """Count the values of a batch; ``rows`` is not used: only ``NumberTally`` needs row numbers."""
        self.rows += len(array)
        if pa.types.is_null(array.type):
            self.nulls += len(array)
            return
        if not pa.types.is_dictionary(array.type):
            if self.overflow:
                self.nulls += array.null_count
                self._widen(array)
                return
            array = array.cast(self._plain).dictionary_encode()
        if self._ordered:
            self._add_order(array.dictionary)
        dictionary, counts = self._count_codes(array)
        used = np.flatnonzero(counts)
        if self.overflow:
            self._widen(dictionary.take(pa.array(used)))
        elif self._last is not None and (self._last[0] is dictionary or self._last[0].equals(dictionary)):
            self._last[1][: len(counts)] += counts
        else:
            self.settle()
            if len(used) > self.limit:
                self._add(dictionary.take(pa.array(used)), counts[used])
            else:
                self._last = (dictionary, counts)

    def _count_codes(self, array: pa.DictionaryArray) -> tuple[pa.Array, Integers]:
        dictionary = array.dictionary
        nulls = null_mask(array.indices)
        codes = array.indices.fill_null(0).to_numpy() if nulls is not None else array.indices.to_numpy()
        counts = np.bincount(codes, minlength=len(dictionary)).astype(np.int64)
        if nulls is not None:
            absent = int(nulls.sum())
            self.nulls += absent
            if len(counts):
                counts[0] -= absent
        if len(dictionary) == 0:
            return dictionary, np.zeros(0, np.int64)
        null_entries = null_mask(dictionary)
        if null_entries is not None:
            self.nulls += int(counts[null_entries].sum())
            counts[null_entries] = 0
        return dictionary, counts

    def _widen(self, values: pa.Array) -> None:
        if len(values) == values.null_count:
            return
        ends = pc.min_max(values.cast(self._plain))
        low, high = ends["min"].as_py(), ends["max"].as_py()
        self.low = low if self.low is None else min(self.low, low, key=_byte_order)
        self.high = high if self.high is None else max(self.high, high, key=_byte_order)

    def _add_order(self, dictionary: pa.Array) -> None:
        if len(dictionary) <= MOST_LEVELS and len(self._orders) <= _MOST_ORDERS:
            self._orders.add(tuple(str(value) for value in dictionary.to_pylist() if value is not None))

    @property
    def levels(self) -> list[str]:
        """Levels of an ordered dictionary, in their order, with those that no row has; empty for any other column.

        Where batches have other levels, these come after the one that stands before them there.
        """
        levels: list[str] = []
        for order in sorted(self._orders, key=lambda order: (-len(order), order)):
            for place, level in enumerate(order):
                if level not in levels:
                    levels.insert(levels.index(order[place - 1]) + 1 if place else 0, level)
        return levels

    def settle(self) -> None:
        """Add the counts that wait under the last dictionary."""
        if self._last is None:
            return
        dictionary, counts = self._last
        self._last = None
        used = np.flatnonzero(counts)
        self._add(dictionary.take(pa.array(used)), counts[used])

    def _add(self, values: pa.Array, counts: Integers) -> None:
        if not len(values):
            return
        values = values.cast(self._plain)
        self._widen(values)
        both = pa.concat_arrays([self._values, values]).dictionary_encode()
        total = np.zeros(len(both.dictionary), np.int64)
        np.add.at(total, both.indices.to_numpy(), np.concatenate([self._counts, counts]))
        if len(total) > self.limit:
            self.overflow = True
            self._values, self._counts = pa.array([], self._plain), np.zeros(0, np.int64)
            return
        order = pc.sort_indices(both.dictionary)
        self._values, self._counts = both.dictionary.take(order), total[order.to_numpy()]

    def merge(self, other: TextTally) -> None:
        """Add the tally of the same column in another part of the table."""
        self.settle()
        other.settle()
        self.rows += other.rows
        self.nulls += other.nulls
        self._orders |= other._orders
        for end in (other.low, other.high):
            if end is not None:
                self._widen(pa.array([end], self._plain))
        if self.overflow or other.overflow:
            self.overflow = True
            self._values, self._counts = pa.array([], self._plain), np.zeros(0, np.int64)
        else:
            self._add(other._values, other._counts)

    @property
    def present(self) -> int:
        """Number of rows with a value."""
        return self.rows - self.nulls

    @property
    def distinct(self) -> int | None:
        """Number of distinct values; None after an overflow."""
        self.settle()
        return None if self.overflow else len(self._values)

    def value_counts(self) -> tuple[pa.Array, Integers] | None:
        """``(values, counts)``: distinct values in byte order and int64 counts; None after an overflow."""
        self.settle()
        return None if self.overflow else (self._values, self._counts)

    def values_as_arrow(self) -> pa.Array | None:
        """The distinct values as an Arrow array of the column's plain type; None after an overflow."""
        self.settle()
        if pa.types.is_null(self.type):  # Arrow casts nothing to it
            return pa.nulls(0)
        return None if self.overflow else self._values.cast(plain_type(self.type))

    def to_members(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A JSON object, and arrays by name, for an archive."""
        self.settle()
        head = {
            "rows": self.rows,
            "nulls": self.nulls,
            "overflow": self.overflow,
            "low": value_to_json(self.low),
            "high": value_to_json(self.high),
            "values": [value_to_json(v) for v in self._values.to_pylist()],
            **({"orders": sorted(map(list, self._orders))} if self._orders else {}),
        }
        return head, {"counts": self._counts}

    def from_members(self, head: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take in what ``to_members`` gave; this tally must be empty."""
        binary = self._plain == pa.binary()
        self.rows, self.nulls, self.overflow = head["rows"], head["nulls"], head["overflow"]
        self.low, self.high = value_from_json(head["low"], binary), value_from_json(head["high"], binary)
        self._values = pa.array([value_from_json(v, binary) for v in head["values"]], self._plain)
        self._counts = arrays["counts"]
        self._orders = {tuple(order) for order in head.get("orders", ())}


def _byte_order(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
