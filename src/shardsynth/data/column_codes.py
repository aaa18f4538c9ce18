"""The codes of one column: categories, or the bins and atoms of an axis."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.cuts import normal_scores
from shardsynth.data.ends import Ends
from shardsynth.data.values import Array, Precision, axis_of_native, column_native, decoded, kind_of, native

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]
Native = tuple[Array, "npt.NDArray[np.bool_] | None"]

#: Normal scores are multiples of this in the fixed-point Gram matrix (20 bits: from -8 to 8).
SCORE_STEP = 2.0**-16
#: Widest range of integers whose codes are kept in a table.
_LOOKUP_RANGE = 1 << 21


@dataclass(frozen=True)
class ColumnCoder:
    """Codes of one learned column (role ``category``, ``number`` or ``datetime``).

    Categories: with k values, the codes 0..k-1 stand for ``values``, then comes ``other`` if there is one, and the last
    code means missing. A value of another table that is not a category gets the code ``unseen``, one past the last.

    Axis: with m cuts, code c in 0..m stands for ``cuts[c-1] <= v < cuts[c]`` (0: below the minimum, m: above the
    maximum), and m + 1 means missing.

    Attributes:
        column: The column.
        values: Categories in code order, of the column's value type; None on an axis.
        other: Whether there is a code ``other`` for the categories that are not in ``values``.
        cuts: float64[m], strictly increasing; empty for categories. An atom ``a`` is the two cuts ``a`` and
            ``nextafter(a)``.
        coarse: int16[n_codes], coarse code of each fine code.
        mass: int64[n_codes], rows per fine code in the profile (in the sample, where there were too many values to
            count).
        precision: The grid of the values.
        emit_nan: Whether missing values were written as NaN, not as null.
        low: Minimum on the axis over all rows (NaN for categories, or without values).
        high: Maximum on the axis.
        bounds: Smallest and largest valid value: the metadata's ``range_min`` and ``range_max``, else ``low`` and
            ``high``. Both are atoms of the cuts.
        decimals: Number of decimals to which values are rounded before they are coded, as SDMetrics does; None: they
            are not rounded.
        ends: Where tails are fitted, the ends of the column: the cuts, the coarse codes, the mass and the scores are
            those of values between them.
    """

    column: Column
    values: pa.Array | None
    other: bool
    cuts: Floats
    coarse: Codes
    mass: npt.NDArray[np.int64]
    precision: Precision = field(default_factory=Precision)
    emit_nan: bool = False
    low: float = float("nan")
    high: float = float("nan")
    bounds: tuple[float, float] = (float("nan"), float("nan"))
    decimals: int | None = None
    ends: Ends | None = None

    @property
    def name(self) -> str:
        """Column name."""
        return self.column.name

    @property
    def is_category(self) -> bool:
        """Whether the codes are categories."""
        return self.values is not None

    @property
    def n_codes(self) -> int:
        """Number of fine codes, missing included."""
        return len(self.coarse)

    @property
    def missing(self) -> int:
        """The code of missing values: the last."""
        return self.n_codes - 1

    @property
    def unseen(self) -> int:
        """The code of values that are not a category: one past the last."""
        return self.n_codes

    @property
    def n_coarse(self) -> int:
        """Number of coarse codes, missing (the last) included."""
        return int(self.coarse[-1]) + 1

    @property
    def atoms(self) -> npt.NDArray[np.bool_]:
        """bool[n_codes]: codes of an axis that stand for a single value, ``cuts[c-1]``."""
        flags = np.zeros(self.n_codes, np.bool_)
        if len(self.cuts):
            flags[1 : len(self.cuts)] = np.nextafter(self.cuts[:-1], np.inf) == self.cuts[1:]
        return flags

    @property
    def end_codes(self) -> tuple[int, int]:
        """Codes of the two ends; there must be ends."""
        assert self.ends is not None
        first, last = np.searchsorted(self.cuts, [self.ends.low, self.ends.high], side="right")
        return int(first), int(last)

    def within_ends(self, hist: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows int64[n_codes] by fine code, with the values beyond the ends counted at the ends."""
        if self.ends is None:
            return hist
        (first, last), moved = self.end_codes, hist.copy()
        moved[first], moved[last] = hist[: first + 1].sum(), moved[last] + hist[last + 1 : -1].sum()
        if first == last:
            moved[first] = hist[:-1].sum()
        moved[:first] = 0
        moved[last + 1 : -1] = 0
        return moved

    @cached_property
    def scores(self) -> Floats:
        """Normal score of each fine code, float64[n_codes], on the grid ``SCORE_STEP``; missing is 0."""
        scores = np.append(normal_scores(self.mass[:-1]), 0.0)
        if self.ends is not None:
            first, last = self.end_codes
            scores[:first], scores[last + 1 : -1] = scores[first], scores[last]
        return np.clip(np.rint(scores / SCORE_STEP), -(2**19), 2**19 - 1) * SCORE_STEP

    def axis(self, values: Array) -> Floats:
        """Native values [n] on the axis, float64[n], rounded to ``decimals``."""
        floats = axis_of_native(values, self.column.value_type)
        return floats if self.decimals is None else np.round(floats, self.decimals)

    def native(self, array: pa.Array) -> Native | None:
        """Native values and null mask of an array; None for categories of text or bytes."""
        if not self.is_category:
            return column_native(self.column, array)
        return None if kind_of(self.column.type) in ("text", "binary") else native(decoded(array))

    def codes(self, array: pa.Array, values: Native | None = None) -> Codes:
        """Fine codes of an array, int16[n]; ``values`` is ``native(array)`` where the caller has it already."""
        if values is None:
            values = self.native(array)
        if values is None:
            return self._text_codes(array)
        numbers, nulls = values
        codes = self._lookup(numbers)
        if nulls is not None:
            codes[nulls] = self.missing
        return codes

    def _lookup(self, values: Array) -> Codes:
        """Codes from a table where the integers are close together, else by bisection."""
        if values.dtype.kind != "f":
            if values.dtype.itemsize == 1:
                return self._small_table(values.dtype)[values.view(np.uint8)]
            if self._table is not None and values.dtype != np.uint64:
                first, table = self._table
                return table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
        return self._search(values)

    @cached_property
    def _table(self) -> tuple[int, Codes] | None:
        domain = self._domain
        if domain is None or domain[1] - domain[0] > _LOOKUP_RANGE or abs(domain[0]) > 2**62 or domain[1] > 2**62:
            return None
        first = domain[0] - 1
        return first, self._search(np.arange(first, domain[1] + 2, dtype=np.int64))

    @property
    def _domain(self) -> tuple[int, int] | None:
        """Smallest and largest native integer that has a code of its own."""
        if self.is_category:
            order = self._sorted[0]
            return (int(order[0]), int(order[-1])) if len(order) and order.dtype.kind in "iu" else None
        if not len(self.cuts) or pa.types.is_decimal(self.column.value_type):
            return None
        return int(self.low), int(self.high)

    def _small_table(self, dtype: np.dtype[Any]) -> Codes:
        cache = self.__dict__.setdefault("_tables", {})
        if dtype not in cache:
            cache[dtype] = self._search(np.arange(256, dtype=np.uint8).view(dtype))
        table: Codes = cache[dtype]
        return table

    @cached_property
    def _sorted(self) -> tuple[Array, Codes]:
        """Categories as native values in order, and the code of each."""
        numbers = native(self.values)[0]
        order = np.argsort(numbers, kind="stable")
        return numbers[order], order.astype(np.int16)

    def _search(self, values: Array) -> Codes:
        if not self.is_category:
            floats = self.axis(values)
            codes = np.searchsorted(self.cuts, floats, side="right").astype(np.int16)
        else:
            floats = values
            categories, order = self._sorted
            code_of_others = len(categories) if self.other else self.unseen
            codes = np.full(len(values), code_of_others, np.int16)
            if len(categories):
                nearest = np.minimum(np.searchsorted(categories, values), len(categories) - 1)
                is_category = categories[nearest] == values
                codes[is_category] = order[nearest[is_category]]
        if floats.dtype.kind == "f":
            codes[np.isnan(floats)] = self.missing
        return codes

    def _text_codes(self, array: pa.Array) -> Codes:
        assert self.values is not None
        if not pa.types.is_dictionary(array.type):
            return self._codes_of_text(array)
        indices, nulls = native(array.indices)
        if not len(array.dictionary):
            return np.full(len(array), self.missing, np.int16)
        cached = self.__dict__.get("_dictionary")
        if cached is None or not (cached[0] is array.dictionary or cached[0].equals(array.dictionary)):
            cached = self.__dict__["_dictionary"] = (array.dictionary, self._codes_of_text(array.dictionary))
        table: Codes = cached[1]
        if nulls is None:
            return table[indices]
        codes = table[np.where(nulls, 0, indices)]
        codes[nulls] = self.missing
        return codes

    def _codes_of_text(self, array: pa.Array) -> Codes:
        assert self.values is not None
        plain = pa.large_binary() if kind_of(self.column.type) == "binary" else pa.large_string()
        positions = pc.index_in(array.cast(plain), value_set=self.values.cast(plain))
        code_of_others = len(self.values) if self.other else self.unseen
        codes = np.asarray(pc.fill_null(positions, code_of_others).to_numpy(zero_copy_only=False)).astype(np.int16)
        if array.null_count:
            codes[array.is_null().to_numpy(zero_copy_only=False)] = self.missing
        return codes
