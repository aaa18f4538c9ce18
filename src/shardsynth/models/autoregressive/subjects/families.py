"""Rows of several tables in codes, the rows of an owner side by side: what a model of subjects is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Codes = NDArray[Any]


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

    def subjects_of(self, name: str) -> Integers:
        """int64[n]: place of the subject of each row of a table."""
        owner = self.rows[name].owner
        return owner if name == self.names[0] else self.subjects_of(self.owner_of[name])[owner]

    def rows_of_subjects(self) -> Integers:
        """int64[subjects]: rows of each subject, in all tables."""
        counted = [np.bincount(self.subjects_of(name), minlength=len(self)) for name in self.names]
        return np.asarray(np.sum(counted, axis=0), np.int64)


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
