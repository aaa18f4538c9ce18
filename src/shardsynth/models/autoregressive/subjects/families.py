"""Rows of several tables in codes, the rows of an owner side by side: what a model of subjects is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Codes = NDArray[Any]

#: Rows of the usual frequencies that are added to those that are counted; largest logarithm of a ratio.
_PRIOR, _MOST = 8.0, 3.0
#: Fewest owners in which a category follows another one for it to count.
_OWNERS = 5
#: Codes of a number within about this distance, of its order from 0 to 1, are counted together.
_WIDTH = 0.05


@dataclass(frozen=True)
class CodedRows:
    """Rows of one table.

    Attributes:
        codes: int16[n, columns].
        owner: int64[n], place of each row's owner in the owner's rows, never decreasing; of the root, its own place.
        owners: Number of the owner's rows.
    """

    codes: Codes
    owner: Integers
    owners: int

    @property
    def counts(self) -> Integers:
        """int64[owners]: rows of each owner."""
        return np.asarray(np.bincount(self.owner, minlength=self.owners), np.int64)


@dataclass(frozen=True)
class Families:
    """Rows of all tables of some subjects.

    Attributes:
        names: The tables, owners before what they own; the first one is the root.
        owner_of: Owner of each table but the root.
        rows: Rows by table.
    """

    names: tuple[str, ...]
    owner_of: Mapping[str, str]
    rows: Mapping[str, CodedRows]

    def __len__(self) -> int:
        return len(self.rows[self.names[0]].owner)

    def take(self, subjects: Integers) -> Families:
        """The rows of some subjects, in this order."""
        root = self.rows[self.names[0]]
        chosen = {self.names[0]: subjects}
        taken = {self.names[0]: CodedRows(root.codes[subjects], np.arange(len(subjects)), len(subjects))}
        for name in self.names[1:]:
            own, owners = self.rows[name], chosen[self.owner_of[name]]
            counts = own.counts
            starts = np.cumsum(counts) - counts
            chosen[name] = ranges(starts[owners], counts[owners])
            owner = np.repeat(np.arange(len(owners)), counts[owners])
            taken[name] = CodedRows(own.codes[chosen[name]], owner, len(owners))
        return Families(self.names, self.owner_of, taken)

    def first_rows(self, name: str, most: int) -> CodedRows:
        """The rows of the first owners of a table, about so many."""
        rows = self.rows[name]
        if len(rows.owner) <= most:
            return rows
        last = int(np.searchsorted(rows.owner, rows.owner[most]))
        return CodedRows(rows.codes[:last], rows.owner[:last], rows.owners)

    def rows_of_subjects(self) -> Integers:
        """int64[subjects]: rows of each subject, in all tables."""
        subject = {self.names[0]: np.arange(len(self))}
        total = np.ones(len(self), np.int64)
        for name in self.names[1:]:
            subject[name] = subject[self.owner_of[name]][self.rows[name].owner]
            total += np.bincount(subject[name], minlength=len(self))
        return total


def joined(parts: Sequence[Families]) -> Families:
    """Families side by side."""
    first = parts[0]
    rows = {}
    for name in first.names:
        owners = np.cumsum([0, *(part.rows[name].owners for part in parts)])
        codes = np.concatenate([part.rows[name].codes for part in parts])
        owner = np.concatenate([part.rows[name].owner + start for part, start in zip(parts, owners)])
        rows[name] = CodedRows(codes, owner, int(owners[-1]))
    return Families(first.names, first.owner_of, rows)


def ranges(starts: Integers, counts: Integers) -> Integers:
    """The numbers of all ranges, one after the other: each begins at its start, and has as many as its count."""
    total = int(counts.sum())
    offsets = np.cumsum(counts) - counts
    return np.asarray(np.arange(total) - np.repeat(offsets, counts) + np.repeat(starts, counts), np.int64)


def persistence(
    rows: CodedRows,
    sizes: Sequence[int],
    nullable: Sequence[bool],
    places: Sequence[NDArray[np.float64] | None],
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """How much more often codes follow others and come again than their shares say, as logarithms.

    So that few rows say little of their own, neighbouring codes of a number are counted together; of categories, what
    follows another one counts where several owners have it, and each begins with what holds for all of them together.

    Args:
        rows: Rows of owners.
        sizes: Codes of each column.
        nullable: Of each column, whether its last code means missing.
        places: Per column, places of the codes in the order, 0 to 1; None for categories.

    Returns:
        Per column float64[size + 1, size], each code after the last known one (the last row: none is known); and
        float64[size], a code that an earlier row of the owner had, other than the last known one, against one that none
        had.
    """
    found = []
    last = last_known(rows.codes, rows.owner, sizes, nullable)
    starts = np.searchsorted(rows.owner, rows.owner)
    for column, size in enumerate(sizes):
        own = rows.codes[:, column].astype(np.int64)
        share = (np.bincount(own, minlength=size) + 0.5) / (len(own) + 0.5 * size)
        counts = np.zeros((size + 1, size))
        np.add.at(counts, (last[:, column], own), 1.0)
        expected = counts.sum(axis=1, keepdims=True) * share
        usual = np.ones((size + 1, size))
        if places[column] is None:
            triples = np.unique(np.stack([rows.owner, last[:, column], own]), axis=1)
            owners = np.zeros((size + 1, size))
            np.add.at(owners, (triples[1], triples[2]), 1.0)
            same = np.eye(size + 1, size, dtype=np.bool_)
            usual[same] = (counts[same].sum() + 1.0) / (expected[same].sum() + 1.0)
            few = (owners < _OWNERS) & ~same
            counts[few], expected[few] = 0.0, 0.0
        near = _near(places[column], size)
        for table in (counts, expected):
            table[:size] = near.T @ table[:size] @ near
            table[size] = table[size] @ near
        prior = _PRIOR * near.T @ share
        follows = np.log((counts + prior * usual) / (expected + prior))

        is_code = np.zeros((len(own), size), np.bool_)
        is_code[np.arange(len(own)), own] = True
        before = np.cumsum(is_code, axis=0, dtype=np.int32) - is_code
        known = last[:, column] < size
        other = known[:, None] & (last[:, column][:, None] != np.arange(size))
        had = before > before[starts]
        rates = []
        for where in (had & other, ~had & other):
            hits, chances = (where & is_code).sum(axis=0), where.sum(axis=0)
            lift = (hits.sum() + 1.0) / ((chances * share).sum() + 1.0)
            rates.append(np.log((hits + _PRIOR * share * lift) / (chances + _PRIOR)))
        found.append((np.clip(follows, -_MOST, _MOST), np.clip(rates[0] - rates[1], -_MOST, _MOST)))
    return found


def _near(places: NDArray[np.float64] | None, size: int) -> NDArray[np.float64]:
    """float64[size, size]: how much each code counts for each other one; missing counts for itself."""
    if places is None:
        return np.eye(size)
    with np.errstate(invalid="ignore"):
        near = np.exp(-0.5 * ((places[:, None] - places[None, :]) / _WIDTH) ** 2)
    near = np.where(np.isnan(near), np.eye(size), near)
    return np.asarray(near / near.sum(axis=1, keepdims=True), np.float64)


def last_known(codes: Codes, owner: Integers, sizes: Sequence[int], nullable: Sequence[bool]) -> Integers:
    """int64[n, columns]: the last code of each column, of those before the row and not missing, within its owner.

    The size of the column where there is none.
    """
    n = len(codes)
    result = np.empty(codes.shape, np.int64)
    starts = np.searchsorted(owner, owner)
    place = np.arange(n)
    for column, (size, has_missing) in enumerate(zip(sizes, nullable)):
        own = codes[:, column].astype(np.int64)
        known = own != size - 1 if has_missing else np.ones(n, np.bool_)
        last = np.maximum.accumulate(np.where(known, place, -1)) if n else place
        before = np.concatenate([[-1], last[:-1]]) if n else place
        inside = before >= starts
        result[:, column] = np.where(inside, own[np.maximum(before, 0)], size)
    return result
