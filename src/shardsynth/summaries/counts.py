"""Pass 2: ``Counts``, integer histograms and contingency tables of the codes of a ``TableCoder``.

A commutative monoid of integers: the bytes are equal for any split of the rows and any order of merging. Counts of the
real rows fit the copula. Counts of real and of synthetic rows make the quality report and its plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data import archive
from shardsynth.data.coding import SCORE_STEP, Encoded, TableCoder
from shardsynth.data.values import without_views
from shardsynth.errors import MergeError
from shardsynth.summaries.moments import BLOCK, Moments
from shardsynth.summaries.pair_tables import PairTables, packed, unpacked
from shardsynth.summaries.person_counts import PersonCounts
from shardsynth.summaries.ranges import ScoreRanges
from shardsynth.summaries.real_bins import ROWS as REAL_BIN_ROWS
from shardsynth.summaries.real_bins import RealBins
from shardsynth.summaries.rows import hash_row_numbers, share_threshold
from shardsynth.summaries.score_tables import ScoreTables
from shardsynth.summaries.unseen import Unseen

Integers = npt.NDArray[np.int64]

#: About how many rows are counted in the fit tables: those with the smallest hashes.
FIT_ROWS = 2_000_000


class RelationLike(Protocol):
    """A rule that rows can break."""

    def violations(self, batch: pa.RecordBatch) -> int:
        """Number of rows of a batch that break the rule."""


class Counts:
    """Integer counts of a table.

    Attributes:
        coder: The codes that are counted. Index ``i`` below is the index in ``coder.columns``.
        rows: Number of rows counted.
        fit_rows: Number of rows in the fit tables.
        hist: int64[n_codes] per column: rows per fine code, missing last.
        outside: Per column, the values that are not a category of the profile; none on an axis.
        relations: The relations whose violations are counted.
        violations: Per relation, the number of rows that break it.
        score: Tables for SDMetrics' scores; None if they are not counted.
        scores: int64[d, d], Gram matrix of normal scores in units of ``SCORE_STEP**2`` over ``fit_rows`` rows, where a
            missing value has the score 0. It is kept for the fit of more than 500 columns, else None.
        score_sums: int64[d], sums of the normal scores in units of ``SCORE_STEP``; None where ``scores`` is None.
        missing_gram: int64[m, m], rows where both of two columns of ``coder.missing_columns`` are missing.
        persons: The persons behind these counts; None where they are counted by rows alone.
        real_bins: Pairs of a category and a number on the bins of the real table; None where they are not counted.
    """

    def __init__(
        self,
        coder: TableCoder,
        fit: bool,
        score: ScoreRanges | None,
        seed: int | None = None,
        total_rows: int | None = None,
        relations: Sequence[RelationLike] = (),
        persons: PersonCounts | None = None,
        real: ScoreRanges | None = None,
    ) -> None:
        self.coder = coder
        self.persons = persons
        self.rows = self.fit_rows = 0
        self.hist = [np.zeros(c.n_codes, np.int64) for c in coder.columns]
        self.outside = [Unseen() for _ in coder.columns]
        self.relations = list(relations)
        self.violations = [0] * len(self.relations)
        m = len(coder.missing_columns)
        self.missing_gram: Integers = np.zeros((m, m), np.int64)
        self._seed = coder.seed if seed is None else seed
        self._threshold = share_threshold(FIT_ROWS, coder.rows if total_rows is None else total_rows)
        self._fit = fit
        d = len(coder.columns)
        self._tables = PairTables([c.n_coarse for c in coder.columns]) if fit and not coder.wide else None
        self.scores: Integers | None = np.zeros((d, d), np.int64) if fit and coder.wide else None
        self.score_sums: Integers | None = np.zeros(d, np.int64) if fit and coder.wide else None
        self.score = None if score is None else ScoreTables(coder, score)
        counted = self.score is not None and self.score.tables is not None and real is not None
        self.real_bins = RealBins(self.score, real) if counted and self.score and real else None
        self._bin_threshold = share_threshold(REAL_BIN_ROWS, coder.rows if total_rows is None else total_rows)
        self._waiting: list[npt.NDArray[np.int16]] = []

    @classmethod
    def empty(
        cls,
        coder: TableCoder,
        *,
        fit: bool,
        score: ScoreRanges | None,
        seed: int | None = None,
        total_rows: int | None = None,
        relations: Sequence[RelationLike] = (),
        persons: PersonCounts | None = None,
        real: ScoreRanges | None = None,
    ) -> Counts:
        """Counts of no rows.

        Args:
            coder: The codes.
            fit: Whether to count the pair tables of the fit (above 500 columns: the Gram matrix of normal scores).
            score: Ranges of this table, to count what SDMetrics' scores need; None to count no scores.
            seed: Seed that chooses the rows of the fit tables; the coder's if None.
            total_rows: Rows of the whole table, about 2,000,000 of which are in the fit tables; the coder's if None.
            relations: Relations whose violations are counted.
            persons: Counts of no persons, where persons are counted too.
            real: Ranges of the real table, to count pairs on its bins (see ``real_bins``); None: they are not counted.
        """
        return cls(coder, fit, score, seed, total_rows, relations, persons, real)

    def update(
        self,
        batch: pa.RecordBatch,
        row_offset: int,
        keep: npt.NDArray[np.bool_] | None = None,
        persons: npt.NDArray[np.uint64] | None = None,
    ) -> Counts:
        """Count a batch.

        Args:
            batch: Rows with the coder's columns.
            row_offset: Global row number of the batch's first row.
            keep: bool[n], the rows that belong to these counts; all of them if None.
            persons: uint64[n], hashes of the rows' persons, where persons are counted.

        Returns:
            These counts.
        """
        batch = without_views(batch)
        rows = np.arange(row_offset, row_offset + batch.num_rows, dtype=np.uint64)
        if keep is not None and not keep.all():
            batch, rows = batch.filter(pa.array(keep)), rows[keep]
            persons = None if persons is None else persons[keep]
        if batch.num_rows == 0:
            return self
        self.rows += batch.num_rows
        encoded = self.coder.encode(batch)
        if self.persons is not None and persons is not None:
            self.persons.update(encoded, persons)
        for i, codes in enumerate(encoded.codes):
            counted = np.bincount(codes, minlength=len(self.hist[i]) + 1)
            self.hist[i] += counted[:-1]
            if counted[-1]:
                unseen = pa.array(codes == self.coder.columns[i].unseen)
                self.outside[i].add(batch.column(self.coder.columns[i].name).filter(unseen))
        for k, relation in enumerate(self.relations):
            self.violations[k] += int(relation.violations(batch))
        self._count_missing(encoded)
        if self._fit:
            self._count_fit(encoded, rows)
        if self.score is not None:
            self.score.update(encoded)
        if self.real_bins is not None:
            chosen = hash_row_numbers(self._seed, "bins", rows) <= np.uint64(self._bin_threshold)
            self.real_bins.update(encoded, chosen)
        return self

    def _count_missing(self, encoded: Encoded) -> None:
        columns = self.coder.missing_columns
        if not columns:
            return
        absent = np.empty((len(columns), encoded.rows), np.float32)
        for k, i in enumerate(columns):
            absent[k] = encoded.codes[i] == self.coder.columns[i].missing
        for first in range(0, encoded.rows, 1 << 20):
            part = absent[:, first : first + (1 << 20)]
            self.missing_gram += (part @ part.T).astype(np.int64)

    def _count_fit(self, encoded: Encoded, rows: npt.NDArray[np.uint64]) -> None:
        if not encoded.codes:
            self.fit_rows += len(rows)
            return
        chosen = hash_row_numbers(self._seed, "fit", rows) <= np.uint64(self._threshold)
        self.fit_rows += int(chosen.sum())
        codes = encoded.codes if chosen.all() else [c[chosen] for c in encoded.codes]
        if self._tables is not None:
            # A value that is not a category counts as the last one. The table that made the coder has no such value.
            coarse = [np.append(c.coarse, c.coarse[max(c.n_codes - 2, 0)]) for c in self.coder.columns]
            self._waiting.append(np.array([table[c] for table, c in zip(coarse, codes)], np.int16))
            if sum(w.shape[1] for w in self._waiting) >= 1 << 16:
                self._settle()
            return
        assert self.scores is not None and self.score_sums is not None
        tables = [np.append(np.rint(s / SCORE_STEP), 0.0) for s in self.coder.normal_scores]
        for first in range(0, len(codes[0]), BLOCK):
            part = np.array([table[c[first : first + BLOCK]] for table, c in zip(tables, codes)])
            self.scores += (part @ part.T).astype(np.int64)
            self.score_sums += part.sum(axis=1).astype(np.int64)

    def _settle(self) -> None:
        """Count the fit codes that wait: many small batches are counted together, because one call is faster."""
        if self._waiting and self._tables is not None:
            waiting, self._waiting = self._waiting, []
            self._tables.add(waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1))

    def merge(self, other: Counts) -> Counts:
        """Add another part of the same table, and return these counts.

        Raises:
            MergeError: The parts have different codes or ranges.
        """
        if self._shape() != other._shape():
            raise MergeError("two parts were counted on different codes or ranges: count again")
        self._settle()
        other._settle()
        self.rows += other.rows
        self.fit_rows += other.fit_rows
        self.hist = [a + b for a, b in zip(self.hist, other.hist)]
        for outside, other_outside in zip(self.outside, other.outside):
            outside.merge(other_outside)
        self.violations = [a + b for a, b in zip(self.violations, other.violations)]
        self.missing_gram = self.missing_gram + other.missing_gram
        if self._tables is not None and other._tables is not None:
            self._tables.vector += other._tables.vector
        if self.scores is not None and other.scores is not None:
            self.scores += other.scores
        if self.score_sums is not None and other.score_sums is not None:
            self.score_sums += other.score_sums
        if self.score is not None and other.score is not None:
            self.score.merge(other.score)
        if self.persons is not None and other.persons is not None:
            self.persons.merge(other.persons)
        if self.real_bins is not None and other.real_bins is not None:
            self.real_bins.vector = self.real_bins.vector + other.real_bins.vector
        else:
            self.real_bins = None  # a part that an older version counted has none
        return self

    def _shape(self) -> Any:
        ranges = None if self.score is None else self.score.ranges.to_json()
        persons = None if self.persons is None else self.persons.head()
        return [c.n_codes for c in self.coder.columns], self._fit, len(self.violations), ranges, persons

    def pair(self, i: int, j: int) -> Integers:
        """The fit table of columns i and j over ``fit_rows`` rows, int64[n_coarse of i, n_coarse of j].

        Raises:
            KeyError: These counts have no fit tables.
        """
        self._settle()
        if self._tables is None:
            raise KeyError("these counts have no fit tables")
        return self._tables.table(i, j)

    def fit_tables(self) -> PairTables | None:
        """All fit tables; None where these counts have none."""
        self._settle()
        return self._tables

    def replace_fit_tables(self, tables: PairTables) -> None:
        """Take other fit tables of the same columns."""
        self._tables = tables

    def score_pair(self, i: int, j: int) -> Integers:
        """SDMetrics' contingency table of columns i and j, int64; at least one of them is a category.

        A category has its fine codes, then ``unseen``; of more than 256 codes, the 255 most frequent ones, and one for
        all others. A number has ten bins, then a code for the maximum and for missing values.

        Raises:
            KeyError: These counts have no score tables.
        """
        return self._scored().pair(i, j)

    @property
    def moments(self) -> Moments:
        """Sums of products of the numeric columns.

        Raises:
            KeyError: These counts have no score tables.
        """
        return self._scored().moments

    def _scored(self) -> ScoreTables:
        if self.score is None:
            raise KeyError("these counts have no score tables")
        return self.score

    #: For the page: no row of a column is left out of its histogram.
    left_out = None

    @property
    def unseen(self) -> list[int]:
        """Per column, rows whose value is not a category of the profile, or is outside the coder's ``bounds``."""
        return [
            outside.rows if c.is_category else _beyond(c.cuts, hist, *c.bounds)
            for c, hist, outside in zip(self.coder.columns, self.hist, self.outside)
        ]

    def save(self, path: str | Path) -> None:
        """Write one file; its bytes depend on the rows alone."""
        self._settle()
        members: dict[str, archive.Member] = dict(packed(np.concatenate([np.zeros(0, np.int64), *self.hist]), "hist"))
        members.update(packed(self.missing_gram.ravel(), "missing"))
        if self._tables is not None:
            members.update(packed(self._tables.vector, "fit"))
        if self.scores is not None and self.score_sums is not None:
            # A Gram matrix is symmetric: half of it is enough.
            members["gram"] = self.scores[np.triu_indices(len(self.scores))]
            members["gram_sums"] = self.score_sums
        if self.score is not None:
            members.update(self.score.to_arrays())
        head = {
            "version": 1,
            "rows": self.rows,
            "fit_rows": self.fit_rows,
            "fit": self._fit,
            "outside": [unseen.to_json() for unseen in self.outside],
            "violations": self.violations,
            "ranges": None if self.score is None else self.score.ranges.to_json(),
        }
        if self.persons is not None:
            members.update(self.persons.to_members())
            head["persons"] = self.persons.head()
        if self.real_bins is not None:
            members.update(self.real_bins.to_arrays())
            head["real_bins"] = self.real_bins.ranges.to_json()
        members["head"] = head
        archive.write(path, members)

    @classmethod
    def load_merged(cls, paths: Sequence[str | Path], coder: TableCoder) -> Counts:
        """Sum of the counts in one file or more; ``coder`` is the one that they were counted with."""
        merged = cls.load(paths[0], coder)
        for path in paths[1:]:
            merged.merge(cls.load(path, coder))
        return merged

    @classmethod
    def load(cls, path: str | Path, coder: TableCoder) -> Counts:
        """The counts that ``save`` wrote; ``coder`` is the one that they were counted with.

        Raises:
            RunError: The file cannot be read.
            MergeError: The counts are of other codes.
        """
        members = archive.read(path)
        head = members["head"]
        ranges = None if head["ranges"] is None else ScoreRanges.from_json(head["ranges"])
        real = None if head.get("real_bins") is None else ScoreRanges.from_json(head["real_bins"])
        counts = cls(coder, head["fit"], ranges, real=real)
        counts.rows, counts.fit_rows = head["rows"], head["fit_rows"]
        counts.outside, counts.violations = [Unseen.from_json(u) for u in head["outside"]], head["violations"]
        hist = unpacked(members, "hist")
        if len(hist) != sum(len(h) for h in counts.hist):
            raise MergeError(f"{path}: counted on different codes; delete it and resume")
        ends = np.cumsum([len(h) for h in counts.hist])
        counts.hist = [part.copy() for part in np.split(hist, ends[:-1])] if len(ends) else []
        counts.missing_gram = unpacked(members, "missing").reshape(counts.missing_gram.shape)
        if counts._tables is not None:
            counts._tables.vector = unpacked(members, "fit")
        if counts.scores is not None:
            upper = np.triu_indices(len(counts.scores))
            counts.scores[upper] = members["gram"]
            counts.scores.T[upper] = members["gram"]
            counts.score_sums = members["gram_sums"]
        if counts.score is not None:
            counts.score.from_arrays(members)
        if counts.real_bins is not None:
            counts.real_bins.from_arrays(members)
        if head.get("persons") is not None:
            counts.persons = PersonCounts.of_members(coder, head["persons"], members)
        return counts


def _beyond(cuts: npt.NDArray[np.float64], hist: Integers, low: float, high: float) -> int:
    """Rows with a value below ``low`` or above ``high``: atoms of the cuts, or NaN where there is no bound."""
    present = hist[:-1]
    under = present[: int(np.searchsorted(cuts, low, side="right"))].sum() if not np.isnan(low) else 0
    over = present[int(np.searchsorted(cuts, high, side="right")) + 1 :].sum() if not np.isnan(high) else 0
    return int(under + over)
