"""How many persons stand behind a count: per cell, the smallest hashes of persons.

A cell keeps the ``k`` smallest distinct hashes of the persons that it was seen with. So the number of its persons is
exact up to k, in memory that depends neither on rows nor on persons; and so is the number of persons of several cells
together. The smallest hashes of two parts of a table follow from those of each part: a commutative monoid of integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.summaries.rows import hash_keys, hash_row_numbers

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Stands for no person: larger than the hash of any.
NOBODY = np.uint64(2**64 - 1)
_SALT = "person"


def hash_persons(seed: int, column: pa.Array | pa.ChunkedArray, rows: Hashes) -> Hashes:
    """Hashes of the persons of rows, uint64[n], none of them ``NOBODY``.

    Args:
        seed: The job's seed.
        column: The column that names the persons [n].
        rows: uint64[n], global row numbers: a row that names nobody is a person of its own.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    hashes = hash_keys(seed, _SALT, column, hash_row_numbers(seed, _SALT, rows))
    return np.minimum(hashes, NOBODY - np.uint64(1))


def distinct_in(cells: Integers, persons: Hashes, size: int) -> Integers:
    """Number of persons of each cell, int64[size]: of rows in memory, without a limit.

    Args:
        cells: int64[n], cell of each row.
        persons: uint64[n], hashes of its person.
        size: Number of cells.
    """
    order = np.lexsort((persons, cells))
    cells, persons = cells[order], persons[order]
    new = np.ones(len(cells), np.bool_)
    new[1:] = (cells[1:] != cells[:-1]) | (persons[1:] != persons[:-1])
    return np.bincount(cells[new], minlength=size).astype(np.int64)


def union_size(hashes: Hashes) -> int:
    """Number of distinct persons among the hashes, whatever the shape of the array."""
    return len(np.setdiff1d(hashes.ravel(), [NOBODY]))


def joined_hashes(hashes: Hashes) -> Hashes:
    """The k smallest hashes of several cells together, uint64[k], of uint64[cells, k]."""
    joined = np.full(hashes.shape[1], NOBODY, np.uint64)
    distinct = np.unique(hashes)[: len(joined)]
    joined[: len(distinct)] = distinct
    return joined


class PersonCells:
    """Persons per cell, exact up to ``k``.

    Attributes:
        hashes: uint64[cells, k], per cell the smallest hashes in order; ``NOBODY`` where there are fewer.
    """

    def __init__(self, cells: int, k: int) -> None:
        self.hashes: Hashes = np.full((cells, k), NOBODY, np.uint64)

    def add(self, cells: npt.NDArray[Any], persons: Hashes) -> None:
        """Count rows: ``cells`` integers[n], their cells, and ``persons`` uint64[n]."""
        first = 0
        while first < len(cells):  # the first rows make most of the later ones needless
            last = first + 4096 if first == 0 else len(cells)
            part, people = cells[first:last], persons[first:last]
            near = people < self.hashes[part, -1]
            if near.any():
                self._join(part[near].astype(np.int64), people[near])
            first = last

    def merge(self, other: PersonCells) -> None:
        """Add another part of the same table."""
        cells, _ = np.nonzero(other.hashes != NOBODY)
        if len(cells):
            self._join(cells, other.hashes[other.hashes != NOBODY])

    def _join(self, cells: Integers, persons: Hashes) -> None:
        k = self.hashes.shape[1]
        touched = np.unique(cells)
        cells = np.concatenate([np.repeat(touched, k), cells])
        persons = np.concatenate([self.hashes[touched].ravel(), persons])
        cells, persons, rank = ranked(cells, persons)
        smallest = rank < k
        self.hashes[touched] = NOBODY
        self.hashes[cells[smallest], rank[smallest]] = persons[smallest]

    @property
    def persons(self) -> Integers:
        """Number of persons of each cell, int64[cells], at most k."""
        return np.asarray((self.hashes != NOBODY).sum(axis=1), np.int64)

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive; their names start with ``name``."""
        return {f"{name}.sizes": self.persons.astype(np.uint16), f"{name}.hashes": self.hashes[self.hashes != NOBODY]}

    def from_arrays(self, arrays: dict[str, Any], name: str) -> None:
        """Take in what ``to_arrays`` gave; these cells must be empty, and as many."""
        filled = np.arange(self.hashes.shape[1]) < arrays[f"{name}.sizes"][:, None]
        self.hashes[filled] = arrays[f"{name}.hashes"]


def ranked(cells: Integers, persons: Hashes) -> tuple[Integers, Hashes, Integers]:
    """The distinct pairs in order of cell and person, and the rank of each pair in its cell, from 0."""
    order = np.lexsort((persons, cells))
    cells, persons = cells[order], persons[order]
    new = np.ones(len(cells), np.bool_)
    new[1:] = (cells[1:] != cells[:-1]) | (persons[1:] != persons[:-1])
    cells, persons = cells[new], persons[new]
    starts = np.flatnonzero(np.diff(cells, prepend=cells[:1] - 1))
    rank = np.arange(len(cells)) - np.repeat(starts, np.diff(np.append(starts, len(cells))))
    return cells, persons, rank


class PersonEnds:
    """The ``k`` persons with the smallest values of a column, each with the smallest of hers; and the largest likewise.

    Attributes:
        low: float64[at most k], these smallest values in increasing order.
        high: float64[at most k], the largest values in decreasing order.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._values: list[Floats] = [np.zeros(0), np.zeros(0)]  # of the two sides, the second one negated
        self._persons: list[Hashes] = [np.zeros(0, np.uint64), np.zeros(0, np.uint64)]

    @property
    def low(self) -> Floats:
        """See the class."""
        return self._values[0]

    @property
    def high(self) -> Floats:
        """See the class."""
        return -self._values[1]

    def add(self, values: Floats, persons: Hashes) -> None:
        """Take in values float64[n] on the axis, NaN where missing, of persons uint64[n]."""
        present = ~np.isnan(values)
        values, persons = values[present] + 0.0, persons[present]
        for side, signed in enumerate((values, -values)):
            if len(self._values[side]) == self._k:
                near = signed <= self._values[side][-1]
                self._join(side, signed[near], persons[near])
            else:
                self._join(side, signed, persons)

    def merge(self, other: PersonEnds) -> None:
        """Add another part of the same table."""
        for side in (0, 1):
            self._join(side, other._values[side], other._persons[side])

    def _join(self, side: int, values: Floats, persons: Hashes) -> None:
        if not len(values):
            return
        values = np.concatenate([self._values[side], values])
        persons = np.concatenate([self._persons[side], persons])
        order = np.lexsort((values, persons))
        values, persons = values[order], persons[order]
        own_end = np.ones(len(values), np.bool_)
        own_end[1:] = persons[1:] != persons[:-1]
        values, persons = values[own_end], persons[own_end]
        order = np.lexsort((persons, values))[: self._k]
        self._values[side], self._persons[side] = values[order], persons[order]

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive; their names start with ``name``."""
        return {
            f"{name}.{side}.{what}": array[side]
            for what, array in (("values", self._values), ("persons", self._persons))
            for side in (0, 1)
        }

    def from_arrays(self, arrays: dict[str, Any], name: str) -> None:
        """Take in what ``to_arrays`` gave."""
        self._values = [arrays[f"{name}.{side}.values"] for side in (0, 1)]
        self._persons = [arrays[f"{name}.{side}.persons"] for side in (0, 1)]


class PersonPatterns:
    """Persons per pattern of missing values, exact up to ``k``; nothing where there are too many patterns.

    Attributes:
        overflow: Whether there were too many patterns to count.
    """

    #: Most patterns that are counted.
    MOST = 10_000

    def __init__(self, k: int) -> None:
        self._k = k
        self.overflow = False
        self._patterns: Integers = np.zeros(0, np.int64)
        self._persons: Hashes = np.zeros(0, np.uint64)

    def add(self, patterns: Integers, persons: Hashes) -> None:
        """Count rows: hashes of their patterns int64[n], and of their persons uint64[n]."""
        if self.overflow or not len(patterns):
            return
        patterns, persons, rank = ranked(
            np.concatenate([self._patterns, patterns]), np.concatenate([self._persons, persons])
        )
        kept = rank < self._k
        self._patterns, self._persons = patterns[kept], persons[kept]
        if (rank == 0).sum() > self.MOST:
            self.overflow = True
            self._patterns, self._persons = patterns[:0], persons[:0]

    def merge(self, other: PersonPatterns) -> None:
        """Add another part of the same table."""
        if other.overflow:
            self.overflow = True
            self._patterns, self._persons = self._patterns[:0], self._persons[:0]
        self.add(other._patterns, other._persons)

    def few(self, patterns: Integers, least: int) -> npt.NDArray[np.bool_]:
        """bool[n]: which of the patterns fewer than ``least`` persons have; none after an overflow."""
        if self.overflow or not len(self._patterns):
            return np.zeros(len(patterns), np.bool_)
        known, persons = np.unique(self._patterns, return_counts=True)
        place = np.minimum(np.searchsorted(known, patterns), len(known) - 1)
        return np.where(known[place] == patterns, persons[place] < least, True)

    def own_share(self, least: int, number: int) -> float:
        """At most which share of ``number`` persons has a pattern that fewer than ``least`` have; or 1 (overflow)."""
        if self.overflow:
            return 1.0
        persons = np.unique(self._patterns, return_counts=True)[1]
        return float(persons[persons < least].sum() / max(number, 1))

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays for an archive; their names start with ``name``."""
        overflow = np.array([self.overflow], np.uint8)
        return {f"{name}.overflow": overflow, f"{name}.of": self._patterns, f"{name}.persons": self._persons}

    def from_arrays(self, arrays: dict[str, Any], name: str) -> None:
        """Take in what ``to_arrays`` gave."""
        self.overflow = bool(arrays[f"{name}.overflow"][0])
        self._patterns, self._persons = arrays[f"{name}.of"], arrays[f"{name}.persons"]


def pattern_of(missing: Sequence[npt.NDArray[np.bool_]], rows: int) -> Integers:
    """Hash of each row's pattern of missing values, int64[rows]; ``missing`` has bool[rows] per column."""
    patterns = np.zeros(rows, np.uint64)
    with np.errstate(over="ignore"):
        for number, absent in enumerate(missing):
            (word,) = hash_row_numbers(0, "missing", np.array([number], np.uint64))
            patterns += np.where(absent, word, np.uint64(0))
    return patterns.view(np.int64)
