"""Exact sums of products over the rows where both of two columns are present: Pearson correlations to the last bit.

Values are scaled by the table's own range to integers of 40 bits (20 bits in wide tables), in limbs of 20 bits: a
float64 product over a block of 8,192 rows is then below 2^53, hence exact for any BLAS, thread count and order. The
block sums are added up in pairs of int64.
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

#: Rows over which a float64 product of two 20-bit integers is exact.
BLOCK = 8192
LIMB = 20
#: Numeric columns up to which values have two limbs.
_TWO_LIMBS = 128
_CARRY = 40


def scaled(values: Array, missing: Mask | None, found: Range, limbs: int) -> Integers:
    """Native (or axis) values as integers from 0 to 2^(20 limbs) - 1 over the column's range; 0 where missing."""
    most = 2 ** (LIMB * limbs) - 1
    if found.low is None:
        return np.zeros(len(values), np.int64)
    if values.dtype.kind in "iu" and isinstance(found.low, int) and found.high - found.low <= most:
        wide = values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False)
        whole = (wide - wide.dtype.type(found.low)).view(np.int64)
    else:
        low, high = float(found.low), float(found.high)
        shrink = 0.25 if np.isinf(high - low) else 1.0
        floats = np.asarray(values, np.float64)
        with np.errstate(divide="ignore"):
            scale = most / (high * shrink - low * shrink) if high > low else 0.0
        whole = np.rint((floats * shrink - low * shrink) * scale)
        whole = np.nan_to_num(whole, nan=0.0, posinf=0.0, neginf=0.0).astype(np.int64)
    if missing is not None:
        whole[missing] = 0
    return np.clip(whole, 0, most)


class WideSums:
    """A matrix of non-negative integers of up to 100 bits, as ``high * 2^40 + low``."""

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
        """The integers themselves, as Python's."""
        whole: npt.NDArray[np.object_] = self.high.astype(object) * 2**_CARRY + self.low.astype(object)
        return whole

    def floats(self) -> npt.NDArray[np.longdouble]:
        """The integers in extended precision."""
        return self.high.astype(np.longdouble) * 2.0**_CARRY + self.low.astype(np.longdouble)


class Moments:
    """Sums over the d numeric columns of a table.

    Columns without missing values share one mask, which saves most of the products of a table that has few.

    Attributes:
        ranges: Range of each column, in order.
        limbs: 2, or 1 where there are more than 128 columns.
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = list(ranges)
        d = len(self.ranges)
        self.limbs = 2 if d <= _TWO_LIMBS else 1
        own = [i for i, r in enumerate(self.ranges) if r.missing]
        self._mask_of = np.zeros(d, np.int64)
        self._mask_of[own] = np.arange(1, len(own) + 1)
        self._masked = own
        squares = self.limbs * (self.limbs + 1) // 2
        self.products = WideSums((self.limbs * d, self.limbs * d))
        self.over_masks = WideSums((1 + len(own) + (self.limbs + squares) * d, 1 + len(own)))

    def add(self, values: Sequence[Array], missing: Sequence[Mask | None]) -> None:
        """Add a batch: native values and missing mask of every column."""
        d = len(self.ranges)
        if not d:
            return
        n = len(values[0])
        for first in range(0, n, BLOCK):
            part = slice(first, first + BLOCK)
            rows = min(BLOCK, n - first)
            whole = np.empty((d, rows), np.int64)
            masks = np.ones((1 + len(self._masked), rows))
            for i, (column, absent) in enumerate(zip(values, missing)):
                gone = None if absent is None else absent[part]
                whole[i] = scaled(column[part], gone, self.ranges[i], self.limbs)
                if gone is not None and self._mask_of[i]:
                    masks[self._mask_of[i]] = ~gone
            limbs = [((whole >> (LIMB * k)) & (2**LIMB - 1)).astype(np.float64) for k in reversed(range(self.limbs))]
            squares = [limbs[a] * limbs[b] for a in range(self.limbs) for b in range(a, self.limbs)]
            stacked = np.concatenate(limbs)
            self.products.add(stacked @ stacked.T)
            self.over_masks.add(np.concatenate([masks, stacked, *squares]) @ masks.T)

    def merge(self, other: Moments) -> None:
        """Add another part's sums."""
        self.products.merge(other.products)
        self.over_masks.merge(other.over_masks)

    def correlations(self) -> tuple[Floats, Integers]:
        """Pearson correlations and the rows where both are present.

        Returns:
            ``(r, n)``: float64[d, d] with NaN where a column does not vary over those rows, and int64[d, d].
        """
        d, masks = len(self.ranges), 1 + len(self._masked)
        exact = d <= 4 * _TWO_LIMBS
        p = self.products.exact() if exact else self.products.floats()
        m = self.over_masks.exact() if exact else self.over_masks.floats()
        count = m[:masks][self._mask_of][:, self._mask_of]
        rest = [m[masks + k * d : masks + (k + 1) * d][:, self._mask_of] for k in range((len(m) - masks) // max(d, 1))]
        unit = 2**LIMB if exact else np.longdouble(2**LIMB)
        if not d:
            return np.zeros((0, 0)), np.zeros((0, 0), np.int64)
        if self.limbs == 1:
            total, square, both = rest[0], rest[1], p
        else:
            total = rest[0] * unit + rest[1]
            square = rest[2] * unit**2 + rest[3] * (2 * unit) + rest[4]
            both = p[:d, :d] * unit**2 + (p[:d, d:] + p[d:, :d]) * unit + p[d:, d:]
        # total[i, j]: sum of column i over the rows where j is present too.
        covariance = _floats(count * both - total * total.T)
        spread = _floats(count * square - total * total)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = covariance / (np.sqrt(spread) * np.sqrt(spread.T))
        r[(spread <= 0) | (spread.T <= 0)] = np.nan
        return np.clip(r, -1.0, 1.0), _floats(count).astype(np.int64)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays for the archive."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, sums in (("products", self.products), ("masks", self.over_masks)):
            arrays.update(packed(sums.high.ravel(), f"moments.{name}.high"))
            arrays.update(packed(sums.low.ravel(), f"moments.{name}.low"))
        return arrays

    def from_arrays(self, arrays: dict[str, Any]) -> None:
        """Inverse of ``to_arrays``."""
        for name, sums in (("products", self.products), ("masks", self.over_masks)):
            sums.high[:] = unpacked(arrays, f"moments.{name}.high").reshape(sums.high.shape)
            sums.low[:] = unpacked(arrays, f"moments.{name}.low").reshape(sums.low.shape)


def _floats(values: npt.NDArray[Any]) -> Floats:
    return np.asarray(values, dtype=np.float64)
