"""Exact sums of products over the rows where both of two columns are present, for Pearson correlations.

Values are scaled by the table's own range to integers of 40 bits (20 bits in tables of many columns), and split into
limbs of 20 bits. The product of two limbs, summed over a block of 8,192 rows, is then below 2^53, so float64 holds it
exactly for any BLAS, thread count and order. The sums of the blocks are added up in pairs of int64. So the correlations
are equal to the last bit for any split of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data.values import Array
from shardsynth.summaries.pair_tables import packed, unpacked
from shardsynth.summaries.ranges import Range

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Rows over which a float64 sum of products of two limbs is exact.
BLOCK = 8192
#: Bits of a limb.
LIMB = 20
#: Most numeric columns of a table whose values have two limbs.
_TWO_LIMBS = 128
#: Bits of the lower part of a wide sum.
_CARRY = 40


def scaled(values: Array, missing: Mask | None, column_range: Range, limbs: int) -> Integers:
    """Values as integers: 0 at the minimum of the column, 2^(20 limbs) - 1 at its maximum, 0 where missing.

    Args:
        values: Native or axis values [n].
        missing: bool[n]; None where nothing is missing.
        column_range: Range of the column.
        limbs: 1 or 2.
    """
    most = 2 ** (LIMB * limbs) - 1
    if column_range.low is None:
        return np.zeros(len(values), np.int64)
    if values.dtype.kind in "iu" and isinstance(column_range.low, int) and column_range.high - column_range.low <= most:
        native_integers = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False)
        integers = (native_integers - native_integers.dtype.type(column_range.low)).view(np.int64)
    else:
        low, high = float(column_range.low), float(column_range.high)
        shrink = 0.25 if np.isinf(high - low) else 1.0
        floats = np.asarray(values, np.float64)
        with np.errstate(divide="ignore"):
            scale = most / (high * shrink - low * shrink) if high > low else 0.0
        integers = np.rint((floats * shrink - low * shrink) * scale)
        integers = np.nan_to_num(integers, nan=0.0, posinf=0.0, neginf=0.0).astype(np.int64)
    if missing is not None:
        integers[missing] = 0
    return np.clip(integers, 0, most)


class WideSums:
    """A matrix of integers of up to 100 bits, none negative, as ``high * 2^40 + low``."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.high: Integers = np.zeros(shape, np.int64)
        self.low: Integers = np.zeros(shape, np.int64)

    def add(self, more: npt.NDArray[Any]) -> None:
        """Add integers below 2^53."""
        self.low += more.astype(np.int64)
        self._carry()

    def merge(self, other: WideSums) -> None:
        """Add another part's sums."""
        self.high += other.high
        self.low += other.low
        self._carry()

    def _carry(self) -> None:
        self.high += self.low >> _CARRY
        self.low &= (1 << _CARRY) - 1

    def exact(self) -> npt.NDArray[np.object_]:
        """The integers as Python integers."""
        integers: npt.NDArray[np.object_] = self.high.astype(object) * 2**_CARRY + self.low.astype(object)
        return integers

    def floats(self) -> npt.NDArray[np.longdouble]:
        """The integers in extended precision."""
        return self.high.astype(np.longdouble) * 2.0**_CARRY + self.low.astype(np.longdouble)


class Moments:
    """Sums over the d numeric columns of a table.

    All columns without missing values share one mask. This saves most of the products, because few columns have missing
    values.

    Attributes:
        ranges: Range of each column, in order.
        limbs: Limbs of a value: 2, or 1 where there are more than 128 columns.
        products: int[limbs * d, limbs * d], sums of products of limbs.
        over_masks: Counts of rows, and sums of limbs and of their squares, over the rows of each mask.
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = list(ranges)
        d = len(self.ranges)
        self.limbs = 2 if d <= _TWO_LIMBS else 1
        self._masked = [i for i, r in enumerate(self.ranges) if r.missing]
        masks = 1 + len(self._masked)
        self._mask_of = np.zeros(d, np.int64)
        self._mask_of[self._masked] = np.arange(1, masks)
        squares = self.limbs * (self.limbs + 1) // 2
        self.products = WideSums((self.limbs * d, self.limbs * d))
        self.over_masks = WideSums((masks + (self.limbs + squares) * d, masks))

    def add(self, values: Sequence[Array], missing: Sequence[Mask | None]) -> None:
        """Add a batch: native values and missing mask of every column."""
        d = len(self.ranges)
        if not d:
            return
        n = len(values[0])
        for first in range(0, n, BLOCK):
            part = slice(first, first + BLOCK)
            rows = min(BLOCK, n - first)
            integers = np.empty((d, rows), np.int64)
            masks = np.ones((1 + len(self._masked), rows))
            for i, (column, absent) in enumerate(zip(values, missing)):
                absent_here = None if absent is None else absent[part]
                integers[i] = scaled(column[part], absent_here, self.ranges[i], self.limbs)
                if absent_here is not None and self._mask_of[i]:
                    masks[self._mask_of[i]] = ~absent_here
            limbs = [((integers >> (LIMB * k)) & (2**LIMB - 1)).astype(np.float64) for k in reversed(range(self.limbs))]
            squares = [limbs[a] * limbs[b] for a in range(self.limbs) for b in range(a, self.limbs)]
            stacked = np.concatenate(limbs)
            self.products.add(stacked @ stacked.T)
            self.over_masks.add(np.concatenate([masks, stacked, *squares]) @ masks.T)

    def merge(self, other: Moments) -> None:
        """Add another part's sums."""
        self.products.merge(other.products)
        self.over_masks.merge(other.over_masks)

    def correlations(self) -> tuple[Floats, Integers]:
        """Pearson correlations of all pairs of columns, over the rows where both are present.

        Returns:
            ``(r, n)``: float64[d, d] with NaN where a column does not vary over those rows, and int64[d, d], the number
            of those rows.
        """
        d, masks = len(self.ranges), 1 + len(self._masked)
        exact = d <= 4 * _TWO_LIMBS
        p = self.products.exact() if exact else self.products.floats()
        m = self.over_masks.exact() if exact else self.over_masks.floats()
        count = m[:masks][self._mask_of][:, self._mask_of]
        sums = [m[masks + k * d : masks + (k + 1) * d][:, self._mask_of] for k in range((len(m) - masks) // max(d, 1))]
        unit = 2**LIMB if exact else np.longdouble(2**LIMB)
        if not d:
            return np.zeros((0, 0)), np.zeros((0, 0), np.int64)
        if self.limbs == 1:
            total, square, both = sums[0], sums[1], p
        else:
            total = sums[0] * unit + sums[1]
            square = sums[2] * unit**2 + sums[3] * (2 * unit) + sums[4]
            both = p[:d, :d] * unit**2 + (p[:d, d:] + p[d:, :d]) * unit + p[d:, d:]
        # total[i, j]: sum of column i over the rows where column j is present too.
        covariance = _floats(count * both - total * total.T)
        spread = _floats(count * square - total * total)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = covariance / (np.sqrt(spread) * np.sqrt(spread.T))
        r[(spread <= 0) | (spread.T <= 0)] = np.nan
        return np.clip(r, -1.0, 1.0), _floats(count).astype(np.int64)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive, by name."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, sums in (("products", self.products), ("masks", self.over_masks)):
            arrays.update(packed(sums.high.ravel(), f"moments.{name}.high"))
            arrays.update(packed(sums.low.ravel(), f"moments.{name}.low"))
        return arrays

    def from_arrays(self, arrays: dict[str, Any]) -> None:
        """Take in the sums that ``to_arrays`` gave."""
        for name, sums in (("products", self.products), ("masks", self.over_masks)):
            sums.high[:] = unpacked(arrays, f"moments.{name}.high").reshape(sums.high.shape)
            sums.low[:] = unpacked(arrays, f"moments.{name}.low").reshape(sums.low.shape)


def _floats(values: npt.NDArray[Any]) -> Floats:
    return np.asarray(values, dtype=np.float64)
