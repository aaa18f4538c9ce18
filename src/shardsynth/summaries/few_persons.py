"""What a fit may not see: missing values, pairs of codes and missing patterns that too few persons have.

``without_few`` takes them out of counts, for a fit from counts. ``RowsOfFew`` takes them out of rows, for a training:
one value of a pair is swapped with that of another row, so that the shares of the column stay what they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Union

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data.coding import Encoded
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.person_counts import PersonCounts
from shardsynth.summaries.persons import pattern_of

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Rows = Union[pa.RecordBatch, pa.Table]

#: How often a value is swapped before the whole row gives way.
_TRIES = 6
#: Patterns of missing values are individual by nature where more of the persons than this have one of their own.
_MOST_OWN_PATTERNS = 0.1


def without_few(counts: Counts, least: int) -> Counts:
    """The counts without what fewer than ``least`` persons have; the same object where no persons were counted.

    - Missing values of a column that so few persons miss are not counted. Nor are they where so few persons miss two
      columns together.
    - Columns that are missing on the same rows, but for those of so few persons, are missing on the same rows.
    - A cell of a pair that so few persons have is empty. Rare categories that share a group are independent within it.

    Args:
        counts: Of the training rows, with persons.
        least: Fewest persons.
    """
    persons = counts.persons
    if persons is None:
        return counts
    shown = copy.copy(counts)
    shown.hist = [hist.copy() for hist in counts.hist]
    for hist, cells in zip(shown.hist, persons.cells):
        if cells.persons[-1] < least:
            hist[-1] = 0
    shown.missing_gram = _missing_gram(shown, persons, least)
    tables = counts.fit_tables()
    if tables is not None and persons.has_pairs:
        tables = copy.copy(tables)
        tables.vector = tables.vector.copy()
        for i in range(len(persons.groups)):
            for j in range(i + 1, len(persons.groups)):
                table = tables.table(i, j)  # a view
                table[:] = np.where(persons.enough(i, j, least), _spread(table, persons, i, j), 0)
        shown.replace_fit_tables(tables)
    return shown


def _missing_gram(shown: Counts, persons: PersonCounts, least: int) -> Integers:
    """The Gram matrix of missing values; ``shown.hist`` is changed where few persons miss two columns together.

    Their rows are then counted neither as missing nor as present. Columns that only few persons tell apart become
    missing together.
    """
    columns, gram = shown.coder.missing_columns, shown.missing_gram.copy()
    hist = shown.hist
    same = (gram == gram.diagonal()[:, None]) & (gram == gram.diagonal()[None, :])
    dropped = np.zeros(len(columns), np.int64)
    pairs = [(a, b) for b in range(len(columns)) for a in range(b)]
    for a, b in pairs:
        i, j = columns[a], columns[b]
        if not (hist[i][-1] and hist[j][-1]):
            gram[a, b] = gram[b, a] = 0
        elif persons.has_pairs and persons.missing_together(i, j)[0] < least:
            dropped[[a, b]] = np.maximum(dropped[[a, b]], gram[a, b])
            gram[a, b] = gram[b, a] = 0
    for a, i in enumerate(columns):
        hist[i][-1] = gram[a, a] = max(int(hist[i][-1] - dropped[a]), 0)
    for a, b in pairs:
        i, j = columns[a], columns[b]
        if not gram[a, b] or not persons.has_pairs:
            continue
        _, only_i, only_j = persons.missing_together(i, j)
        if same[a, b] or (only_i < least and only_j < least):
            hist[j][-1] = gram[b, b] = gram[a, b] = gram[b, a] = hist[i][-1]
    return gram


def _spread(table: Integers, persons: PersonCounts, i: int, j: int) -> Integers:
    """A table in which the codes of a group of categories go with the other column alike."""
    spread = table
    for column, axis in ((i, 0), (j, 1)):
        if not persons.coder.columns[column].is_category:
            continue
        group = persons.group_of_coarse(column)
        sizes = np.bincount(group)
        if sizes.max(initial=1) == 1:
            continue
        spread = spread if axis == 0 else spread.T
        by_group = np.zeros((len(sizes), spread.shape[1]))
        np.add.at(by_group, group, spread)
        mass = spread.sum(axis=1)
        share = mass / np.maximum(np.bincount(group, weights=mass)[group], 1.0)
        spread = np.rint(by_group[group] * share[:, None]).astype(np.int64)
        spread = spread if axis == 0 else spread.T
    return spread


class _Own:
    """Donors that are the same for equal values of a person.

    Args:
        persons: int64[n], the rows' persons.
    """

    def __init__(self, persons: npt.NDArray[np.int64]) -> None:
        _, self.person = np.unique(persons, return_inverse=True)
        self.counts = np.bincount(self.person)
        self.rows = np.argsort(self.person, kind="stable")
        self.starts = np.cumsum(self.counts) - self.counts

    def donors(
        self,
        rows: Integers,
        codes: npt.NDArray[np.int16] | Integers,
        drawn: Integers,
        random: np.random.Generator,
        *,
        among_own: bool,
    ) -> Integers:
        """A donor for each of some rows.

        Args:
            rows: int64[m].
            codes: Codes of the column [n].
            drawn: int64[m], a donor for each, drawn from all rows.
            random: The source of randomness.
            among_own: Whether donors are rows of the person.
        """
        person, code = self.person[rows], codes[rows].astype(np.int64)
        _, first, back = np.unique(person * (int(code.max()) + 1) + code, return_index=True, return_inverse=True)
        if not among_own:
            return np.asarray(drawn[first][back], np.int64)
        who = person[first]
        place = (random.random(len(first)) * self.counts[who]).astype(np.int64)
        return np.asarray(self.rows[self.starts[who] + place][back], np.int64)

    def good_donors(self, rows: Integers, good: Integers, drawn: Integers) -> Integers:
        """A donor for each of some rows: a good row of the person before it, else one that was drawn for the person."""
        is_good = np.zeros(len(self.person), np.bool_)
        is_good[good] = True
        place = np.empty(len(self.rows), np.int64)
        place[self.rows] = np.arange(len(self.rows))
        last = np.maximum.accumulate(np.where(is_good[self.rows], np.arange(len(self.rows)), -1))
        found = last[place[rows]]
        own = found >= self.starts[self.person[rows]]
        _, first, back = np.unique(self.person[rows], return_index=True, return_inverse=True)
        drawn = drawn[first][back]
        return np.where(own, self.rows[np.maximum(found, 0)], drawn)


class RowsOfFew:
    """Takes what too few persons have out of rows.

    Args:
        counts: Of all training rows, with persons.
        least: Fewest persons.
        seed: Chooses the rows that values come from.

    Attributes:
        swapped: Number of values that came from another row so far.
        values: Number of values of learned columns seen so far.
    """

    def __init__(self, counts: Counts, least: int, seed: int) -> None:
        assert counts.persons is not None
        self._persons, self._least, self._seed = counts.persons, least, seed
        self._part = self.swapped = self.values = 0
        self._missing = [cells.persons[-1] < least for cells in self._persons.cells]
        self._few: list[tuple[int, int, Mask]] = []
        groups = range(len(self._persons.groups))
        for i, j in ((i, j) for i in groups for j in groups if i < j):
            table = self._persons.pair(i, j)
            if (few := (table > 0) & (table < least)).any():
                self._few.append((i, j, few))
        self._patterns = self._persons.patterns.own_share(least, self._persons.number) <= _MOST_OWN_PATTERNS

    def taken_out(self, rows: Rows, persons: npt.NDArray[np.int64] | None = None) -> Rows:
        """The rows with such values swapped; as many, in their order.

        Args:
            rows: The rows.
            persons: int64[n], the rows' persons, where their rows are learned together: then equal values of a person
                are swapped alike, first with values that the person has. So what persists goes on to do so.
        """
        coder = self._persons.coder
        if not rows.num_rows or not coder.columns:
            return rows
        encoded = coder.encode(rows)
        random = np.random.default_rng([self._seed, 0x706572, self._part])
        self._part += 1
        source = self._sources(encoded, random, None if persons is None else _Own(persons))
        own = np.arange(encoded.rows)
        changed = [int((s != own).sum()) for s in source]
        self.swapped += sum(changed)
        self.values += encoded.rows * len(source)
        for column, origin, count in zip(coder.columns, source, changed):
            if count:
                place = rows.schema.get_field_index(column.name)
                rows = rows.set_column(place, rows.schema.field(place), rows.column(place).take(pa.array(origin)))
        return rows

    def _sources(self, encoded: Encoded, random: np.random.Generator, own: _Own | None) -> list[Integers]:
        """Per learned column int64[rows]: the row that each row's value comes from."""
        n, coder = encoded.rows, self._persons.coder
        source = [np.arange(n) for _ in coder.columns]
        groups = self._persons.grouped(encoded) if self._few else []
        missing = [
            codes == c.missing if few else None for c, codes, few in zip(coder.columns, encoded.codes, self._missing)
        ]
        whole = self._own_pattern(encoded)
        for turn in range(_TRIES):
            current = [g[s] for g, s in zip(groups, source)]
            absent = [None if m is None else m[s] for m, s in zip(missing, source)]
            score = self._score(current, absent, n)
            column = np.argmax(score, axis=0)
            bad = np.flatnonzero((score.max(axis=0) > 0) & ~whole)
            if not len(bad):
                break
            donors = random.integers(0, n, len(bad))
            for i in np.unique(column[bad]):
                here = bad[column[bad] == i]
                drawn = donors[column[bad] == i]
                if own is not None:
                    drawn = own.donors(here, encoded.codes[i], drawn, random, among_own=2 * turn < _TRIES)
                source[i][here] = drawn
        else:
            current = [g[s] for g, s in zip(groups, source)]
            absent = [None if m is None else m[s] for m, s in zip(missing, source)]
            whole |= self._score(current, absent, n).max(axis=0) > 0
        good = np.flatnonzero(~whole)
        if whole.any() and len(good):
            donors = good[random.integers(0, len(good), int(whole.sum()))]
            if own is not None:
                donors = own.good_donors(np.flatnonzero(whole), good, donors)
            for rows in source:
                rows[whole] = rows[donors]
        return source

    def _own_pattern(self, encoded: Encoded) -> Mask:
        """bool[rows]: rows whose pattern of missing values too few persons have."""
        coder = self._persons.coder
        if not self._patterns or not coder.missing_columns:
            return np.zeros(encoded.rows, np.bool_)
        absent = [encoded.codes[i] == coder.columns[i].missing for i in coder.missing_columns]
        return self._persons.patterns.few(pattern_of(absent, encoded.rows), self._least)

    def _score(
        self, groups: Sequence[npt.NDArray[np.int16]], absent: Sequence[Mask | None], n: int
    ) -> npt.NDArray[np.int16]:
        """int16[columns, rows]: in how many pairs of few persons the value of each column is."""
        score = np.zeros((len(absent), n), np.int16)
        for i, j, few in self._few:
            found = few[groups[i], groups[j]]
            score[i] += found
            score[j] += found
        for i, rows in enumerate(absent):
            if rows is not None:
                score[i] += np.int16(1000) * rows
        return score
