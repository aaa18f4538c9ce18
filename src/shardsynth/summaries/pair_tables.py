"""Contingency tables of many column pairs in one vector of integers: merging them is one addition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Elements of one call of ``bincount``: few enough for the CPU's cache, many enough for a low cost of the call.
_ELEMENTS = 1 << 16


class PairTables:
    """Tables of the columns 0..d-1 with ``sizes`` codes each.

    Each of the first ``leaders`` columns has a table with every later column. The tables of column i are side by side
    in a matrix: ``sizes[i]`` rows, and one column for each code of all later columns. ``vector`` has these matrices one
    after the other, row by row.

    Attributes:
        sizes: Number of codes of each column.
        leaders: Number of columns that have a table with every later column.
        vector: int64, all tables.
    """

    def __init__(self, sizes: Sequence[int], leaders: int | None = None) -> None:
        self.sizes = [int(s) for s in sizes]
        self.leaders = min(len(self.sizes) - 1, len(self.sizes) if leaders is None else leaders)
        self.leaders = max(self.leaders, 0)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)]).astype(np.int64)
        self._widths = [int(self._starts[-1] - self._starts[i + 1]) for i in range(self.leaders)]
        cells = [self.sizes[i] * self._widths[i] for i in range(self.leaders)]
        self._offsets = np.concatenate([[0], np.cumsum(cells, dtype=np.int64)]).astype(np.int64)
        self.vector: Integers = np.zeros(int(self._offsets[-1]), np.int64)

    def add(self, codes: npt.NDArray[np.integer[Any]]) -> None:
        """Count rows.

        Args:
            codes: Integers[d, n], ``0 <= codes[i] < sizes[i]``.
        """
        block = max(_ELEMENTS // max(len(self.sizes), 1), 4096)
        for first in range(0, codes.shape[1], block):
            self._add_block(codes[:, first : first + block].astype(np.int64))

    def _add_block(self, codes: Integers) -> None:
        n = codes.shape[1]
        placed = codes + self._starts[:-1, None]
        for i in range(self.leaders):
            later, width = placed[i + 1 :], self._widths[i]
            cells = self.sizes[i] * width
            base = codes[i] * width - self._starts[i + 1]
            total = self.vector[self._offsets[i] : self._offsets[i + 1]]
            step = max(_ELEMENTS // len(later), min(cells // len(later), n), 256)
            for first in range(0, n, step):
                index = later[:, first : first + step] + base[first : first + step]
                total += np.bincount(index.ravel(), minlength=cells)

    def table(self, i: int, j: int) -> Integers:
        """Rows with each pair of codes of columns i and j, int64[sizes[i], sizes[j]]."""
        if i > j:
            return self.table(j, i).T
        start = int(self._starts[j] - self._starts[i + 1])
        return self.side_by_side(i)[:, start : start + self.sizes[j]]

    def side_by_side(self, i: int) -> Integers:
        """The tables of leader i with every later column, int64[sizes[i], codes of all later columns]."""
        return self.vector[self._offsets[i] : self._offsets[i + 1]].reshape(self.sizes[i], self._widths[i])

    def first_columns(self, i: int) -> Integers:
        """The column of ``side_by_side(i)`` where the table of each later column starts, int64[d - i - 1]."""
        starts: Integers = self._starts[i + 1 : -1] - self._starts[i + 1]
        return starts


def packed(vector: Integers, name: str) -> dict[str, npt.NDArray[Any]]:
    """Small arrays for a vector of counts: sparse where most counts are 0, and in the narrowest dtype.

    Args:
        vector: Counts, none negative.
        name: The names of the arrays start with it.
    """
    nonzero = np.flatnonzero(vector)
    arrays: dict[str, npt.NDArray[Any]] = {f"{name}.size": np.array([len(vector)], np.int64)}
    if 3 * len(nonzero) < len(vector):
        arrays[f"{name}.steps"] = _narrow(np.diff(nonzero, prepend=0))
        vector = vector[nonzero]
    arrays[f"{name}.counts"] = _narrow(vector)
    return arrays


def unpacked(arrays: dict[str, Any], name: str) -> Integers:
    """The vector from which ``packed`` made the arrays."""
    counts: npt.NDArray[Any] = arrays[f"{name}.counts"]
    steps = arrays.get(f"{name}.steps")
    if steps is None:
        return counts.astype(np.int64)
    vector = np.zeros(int(arrays[f"{name}.size"][0]), np.int64)
    vector[np.cumsum(steps.astype(np.int64))] = counts
    return vector


def _narrow(values: Integers) -> npt.NDArray[Any]:
    most = int(values.max()) if len(values) else 0
    for dtype in (np.uint8, np.uint16, np.uint32):
        if most <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values
