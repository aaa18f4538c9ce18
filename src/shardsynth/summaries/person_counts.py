"""``PersonCounts``: the persons behind the counts of a table: of codes, ends, pairs of codes and missing patterns.

They stand beside ``Counts`` where the job names a person column. A commutative monoid of integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardsynth.summaries.persons import Hashes, PersonCells, PersonEnds, PersonPatterns, pattern_of, union_size

if TYPE_CHECKING:
    from shardsynth.data.coding import Encoded, TableCoder
    from shardsynth.data.column_codes import ColumnCoder

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Most groups of a column of numbers, and of categories, in the pairs.
_NUMBER_GROUPS, _CATEGORY_GROUPS = 8, 32
#: Persons that a cell of a pair of numbers should hold, as a multiple of k; of categories, about half as many.
_ROOM = 4
#: Most hashes of all pairs together: 128 MB.
_MOST_HASHES = 1 << 24


class PersonCounts:
    """Persons of a table, exact up to ``k`` in every cell.

    Attributes:
        coder: The codes.
        k: Up to how many persons a cell is counted.
        number: About how many persons the table has.
        cells: Per learned column, the persons of each fine code, missing last.
        ends: Per learned column, the persons with the most extreme values; None for categories.
        patterns: Of missing values.
        groups: Per learned column int16[n_codes], the group of each fine code in the pairs; the last one is missing.
    """

    def __init__(self, coder: TableCoder, k: int, number: int, pairs: bool) -> None:
        self.coder, self.k, self.number = coder, k, number
        self.cells = [PersonCells(c.n_codes, k) for c in coder.columns]
        self.ends = [None if c.is_category else PersonEnds(k) for c in coder.columns]
        self.patterns = PersonPatterns(k)
        pairs = pairs and not coder.wide and len(coder.columns) > 1
        self.groups = _groups(coder, k, number) if pairs else []
        sizes = [int(g[-1]) + 1 for g in self.groups]
        self._sizes = sizes
        self._starts: dict[tuple[int, int], int] = {}
        total = 0
        for i in range(len(sizes)):
            for j in range(i + 1, len(sizes)):
                self._starts[i, j] = total
                total += sizes[i] * sizes[j]
        self._pairs = PersonCells(total, k)

    @property
    def has_pairs(self) -> bool:
        """Whether pairs of codes are counted."""
        return bool(self._starts)

    def update(self, encoded: Encoded, persons: Hashes) -> None:
        """Count the rows of a batch, and the hashes uint64[rows] of their persons."""
        for i, (column, codes) in enumerate(zip(self.coder.columns, encoded.codes)):
            known = codes < column.n_codes
            self.cells[i].add(codes[known], persons[known])
            ends, axis = self.ends[i], encoded.axis[i] if self.ends[i] is not None else None
            if ends is not None and axis is not None:
                ends.add(axis, persons)
        missing = [encoded.codes[i] == self.coder.columns[i].missing for i in self.coder.missing_columns]
        if missing:
            self.patterns.add(pattern_of(missing, encoded.rows), persons)
        if not self.has_pairs:
            return
        groups = self.grouped(encoded)
        for (i, j), start in self._starts.items():
            self._pairs.add(start + groups[i].astype(np.int64) * self._sizes[j] + groups[j], persons)

    def grouped(self, encoded: Encoded) -> list[npt.NDArray[np.int16]]:
        """Per learned column, the group int16[rows] of each row of a batch; an unknown category is in the last one."""
        return [
            group[np.minimum(codes, len(group) - 1) - (codes == len(group))]
            for group, codes in zip(self.groups, encoded.codes)
        ]

    def merge(self, other: PersonCounts) -> None:
        """Add another part of the same table."""
        for cells, other_cells in zip(self.cells, other.cells):
            cells.merge(other_cells)
        for ends, other_ends in zip(self.ends, other.ends):
            if ends is not None and other_ends is not None:
                ends.merge(other_ends)
        self.patterns.merge(other.patterns)
        self._pairs.merge(other._pairs)
        self.__dict__.pop("_pair_persons", None)

    @cached_property
    def _pair_persons(self) -> Integers:
        return self._pairs.persons

    def pair(self, i: int, j: int) -> Integers:
        """Persons by group of columns i and j, int64[groups of i, groups of j], at most k each."""
        if i > j:
            return self.pair(j, i).T
        start, shape = self._starts[i, j], (self._sizes[i], self._sizes[j])
        return self._pair_persons[start : start + shape[0] * shape[1]].reshape(shape)

    def enough(self, i: int, j: int, least: int) -> Mask:
        """Which coarse codes of columns i and j at least ``least`` persons have together, bool[n_coarse, n_coarse]."""
        few = self.pair(i, j) < least
        first, second = self.group_of_coarse(i), self.group_of_coarse(j)
        return ~few[first[:, None], second[None, :]]

    def group_of_coarse(self, i: int) -> Integers:
        """Group of each coarse code of column i, int64[n_coarse]."""
        coarse, group = self.coder.columns[i].coarse, self.groups[i]
        table = np.zeros(int(coarse[-1]) + 1, np.int64)
        table[coarse] = group
        return table

    def missing_together(self, i: int, j: int) -> tuple[int, int, int]:
        """Persons with a row where both columns are missing, only i, and only j, at most k each."""
        if i > j:
            both, only_j, only_i = self.missing_together(j, i)
            return both, only_i, only_j
        start, rows, columns = self._starts[i, j], self._sizes[i], self._sizes[j]
        hashes = self._pairs.hashes[start : start + rows * columns].reshape(rows, columns, -1)
        sizes = (union_size(hashes[-1, -1]), union_size(hashes[-1, :-1]), union_size(hashes[:-1, -1]))
        return min(sizes[0], self.k), min(sizes[1], self.k), min(sizes[2], self.k)

    def to_members(self) -> dict[str, Any]:
        """Members for an archive."""
        members: dict[str, Any] = {}
        for i, (cells, ends) in enumerate(zip(self.cells, self.ends)):
            members.update(cells.to_arrays(f"persons.{i}"))
            if ends is not None:
                members.update(ends.to_arrays(f"persons.{i}.ends"))
        members.update(self.patterns.to_arrays("persons.patterns"))
        if self.has_pairs:
            members.update(self._pairs.to_arrays("persons.pairs"))
        return members

    def head(self) -> dict[str, Any]:
        """What ``of_head`` makes empty counts of, as JSON."""
        return {"k": self.k, "number": self.number, "pairs": self.has_pairs}

    @classmethod
    def of_members(cls, coder: TableCoder, head: dict[str, Any], members: dict[str, Any]) -> PersonCounts:
        """Inverse of ``head`` and ``to_members``."""
        counts = cls(coder, head["k"], head["number"], head["pairs"])
        for i, (cells, ends) in enumerate(zip(counts.cells, counts.ends)):
            cells.from_arrays(members, f"persons.{i}")
            if ends is not None:
                ends.from_arrays(members, f"persons.{i}.ends")
        counts.patterns.from_arrays(members, "persons.patterns")
        if counts.has_pairs:
            counts._pairs.from_arrays(members, "persons.pairs")
        return counts


def _groups(coder: TableCoder, k: int, number: int) -> list[npt.NDArray[np.int16]]:
    """Group of each fine code per column: coarse codes, joined where few persons or many columns ask for it."""
    most = np.sqrt(number / (_ROOM * k))
    numbers, categories = int(np.clip(most, 2, _NUMBER_GROUPS)), int(np.clip(1.5 * most, 4, _CATEGORY_GROUPS))
    while True:
        groups = [_joined(c, categories if c.is_category else numbers) for c in coder.columns]
        sizes = np.array([int(g[-1]) + 1 for g in groups])
        cells = (int(sizes.sum()) ** 2 - int((sizes**2).sum())) // 2
        if cells * k <= _MOST_HASHES or categories <= 2:
            return groups
        categories = max(categories // 2, 2)
        numbers = min(numbers, categories)


def _joined(column: ColumnCoder, most: int) -> npt.NDArray[np.int16]:
    """Coarse codes joined to at most ``most`` groups: neighbours of a number; the rarest of a category."""
    values = column.n_coarse - 1
    mass = np.bincount(column.coarse, weights=column.mass, minlength=values + 1)[:values]
    group = np.arange(values)
    if values > most and column.is_category and not column.column.ordered:
        common = np.argsort(-mass, kind="stable")[: most - 1]
        group = np.full(values, most - 1)
        group[np.sort(common)] = np.arange(most - 1)
    elif values > most:
        middle = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1.0)
        group = np.unique(np.minimum((middle * most).astype(np.int64), most - 1), return_inverse=True)[1]
    with_missing = np.append(group, group.max(initial=-1) + 1)
    return with_missing[column.coarse].astype(np.int16)


def persons_of(cells: PersonCells, codes: Sequence[int] | Integers) -> int:
    """Number of persons of several cells together, at most k."""
    return min(union_size(cells.hashes[np.asarray(codes, np.int64)]), int(cells.hashes.shape[1]))
