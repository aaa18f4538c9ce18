"""SDV's Inequality and Range: columns in increasing order. A model sees one value and the gaps after it.

The first column that is present in a row is the *anchor*. Each later one becomes the gap to the column present before
it. Gaps are never negative, so whatever a model draws is restored in order. No missing value is filled in: a gap is
missing where its column is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import from_codes
from shardsynth.sampling.constraints.compared import ComparedColumns, numbers, read_numbers
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, Replacement, missing_of

_GAP, _FIRST = "numerical", "categorical"


@dataclass(frozen=True)
class OrderedStep:
    """Columns in increasing order.

    Attributes:
        declared: SDV's declaration.
        constrained: The columns, lowest first.
        strict: Whether neighbours must differ.
        names: Names of the replacements: the gaps. If some row has a later column but not the first one, two more:
            the anchor, and which column it is. Empty where the order is enforced by rejection.
    """

    declared: dict[str, Any]
    constrained: tuple[ConstrainedColumn, ...]
    strict: bool
    names: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(c.column.name for c in self.constrained)

    @property
    def anchored(self) -> bool:
        """Whether the anchor is not always the first column."""
        return len(self.names) > len(self.constrained) - 1

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``."""
        if not self.names:
            return ()
        return self.columns if self.anchored else self.columns[1:]

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``: the first column, if it is the anchor of every row."""
        return self.columns[:1] if self.names and not self.anchored else ()

    @cached_property
    def _compared(self) -> ComparedColumns:
        return ComparedColumns(self.constrained)

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        number = pa.int64() if self._compared.whole else pa.float64()
        fields = [
            Replacement(pa.field(name, number), {"sdtype": _GAP}) for name in self.names[: len(self.constrained) - 1]
        ]
        if self.anchored:
            anchor, first = self.names[-2:]
            fields.append(Replacement(pa.field(anchor, number), {"sdtype": _GAP}))
            fields.append(Replacement(pa.field(first, pa.dictionary(pa.int8(), pa.string())), {"sdtype": _FIRST}))
        return tuple(fields)

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        size = len(self.constrained)
        values, missing = self._compared.values(0, arrays[self.columns[0]])
        previous, none_before = values.copy(), missing.copy()
        first = np.where(missing, -1, 0)
        gaps = []
        for i in range(1, size):
            values, missing = self._compared.values(i, arrays[self.columns[i]])
            present = ~missing
            gap = np.where(present & ~none_before, values - previous, 0)
            if self._compared.digits is not None and not self._compared.whole:
                gap = np.round(gap, self._compared.digits)
            gaps.append((gap, none_before | missing))
            first = np.where(present & (first < 0), i, first)
            previous = np.where(present, values, previous)
            none_before = none_before & missing
        replacements = {name: numbers(*gap) for name, gap in zip(self.names, gaps)}
        if self.anchored:
            replacements[self.names[-2]] = numbers(self._anchor(arrays, first), first < 0)
            kind = pa.dictionary(pa.int8(), pa.string())
            replacements[self.names[-1]] = from_codes(kind, pa.array(self.columns), first)
        return replacements

    def _anchor(self, arrays: Arrays, first: NDArray[np.int64]) -> NDArray[Any]:
        """Value of the first column that is present in each row, where there is one."""
        anchor = self._compared.values(0, arrays[self.columns[0]])[0].copy()
        for i in range(1, len(self.constrained)):
            here = first == i
            if here.any():
                anchor[here] = self._compared.values(i, arrays[self.columns[i]])[0][here]
        return anchor

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        restored: dict[str, pa.Array] = {}
        if not self.names:
            return restored, np.zeros(n, np.bool_)
        if self.anchored:
            anchor, no_anchor = read_numbers(arrays[self.names[-2]], self._compared.whole)
            first, no_first = _codes(arrays[self.names[-1]], self.columns)
            no_anchor = no_anchor | no_first
            begins = ~no_anchor & (first == 0)
            previous, any_before = self._compared.put(restored, 0, anchor, ~begins, None)
        else:
            anchor, no_anchor = self._compared.values(0, arrays[self.columns[0]])
            previous, any_before = anchor, ~no_anchor
            first = np.zeros(n, np.int64)
        broken = np.zeros(n, np.bool_)
        for i in range(1, len(self.constrained)):
            gap, no_gap = read_numbers(arrays[self.names[i - 1]], self._compared.whole)
            follows = any_before & ~no_gap
            smallest = 1 if self.strict and self._compared.whole else 0
            value = np.where(follows, previous + np.maximum(gap, smallest), previous)
            begins = ~no_anchor & (first == i)
            value = np.where(begins, anchor, value)
            present = follows | begins
            value, _ = self._compared.put(restored, i, value, ~present, np.where(follows, previous, value))
            if self.strict:
                broken |= follows & (value <= previous)
            else:
                broken |= follows & (value < previous)
            previous = np.where(present, value, previous)
            any_before = any_before | present
        return restored, broken

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``: compares every present value with the one present before it."""
        previous, none_before = self._compared.values(0, arrays[self.columns[0]])
        valid = np.ones(n, np.bool_)
        for i in range(1, len(self.constrained)):
            values, missing = self._compared.values(i, arrays[self.columns[i]])
            in_order = values > previous if self.strict else values >= previous
            valid &= in_order | missing | none_before
            previous = np.where(missing, previous, values)
            none_before = none_before & missing
        return valid

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "ordered",
            "declared": self.declared,
            "held": [c.to_json() for c in self.constrained],
            "strict": self.strict,
            "names": list(self.names),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> OrderedStep:
        """Inverse of ``to_json``."""
        constrained = tuple(ConstrainedColumn.from_json(c, schema) for c in data["held"])
        return cls(data["declared"], constrained, data["strict"], tuple(data["names"]))


def needs_anchor(columns: tuple[str, ...], arrays: Arrays) -> bool:
    """Whether any row has a later column but not the first one."""
    absent = missing_of(arrays[columns[0]])
    return any(bool((absent & ~missing_of(arrays[name])).any()) for name in columns[1:])


def _codes(array: pa.Array, names: tuple[str, ...]) -> tuple[NDArray[np.int64], Mask]:
    """Place of each row's name among ``names``, and which rows have no name or an unknown one (place 0)."""
    dictionary = array.dictionary.to_pylist()
    table = np.array([names.index(name) if name in names else -1 for name in dictionary] + [-1], np.int64)
    codes = table[np.asarray(array.indices.fill_null(len(dictionary)).to_numpy(zero_copy_only=False)).astype(np.int64)]
    return np.maximum(codes, 0), codes < 0
