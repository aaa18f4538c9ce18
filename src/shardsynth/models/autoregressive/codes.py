"""The table as an autoregressive model sees it: one small integer per learned column and row.

A code is a run of neighbouring segments of the column's protected quantile function (``fitted.Marginal``): a category,
an atom, or a quantile bin. The last code means missing. Within a code the marginal itself draws the value, so the model
holds no value of a single row. Columns that are computed from others (``relations``) have no code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.learn import fit_columns, verified_relations
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.relations import Relation
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Cut:
    """How to cut a numeric column into half as many codes more.

    Attributes:
        weight: float64[segments], sums to 1: what the codes share alike.
        borders: int64[k], numbers of segments that begin a code in any case.
    """

    weight: Floats
    borders: Integers


@dataclass(frozen=True)
class BinnedColumn:
    """A learned column in codes.

    Attributes:
        fit: The column under the protections. Only this part goes into the model file.
        ends: int64[m], one past the last segment of each code that is a value.
        nullable: Whether there is one more code that means missing.
    """

    fit: FittedColumn
    ends: Integers
    nullable: bool

    @classmethod
    def of(cls, fit: FittedColumn, codes: int, cut: Cut | None = None) -> BinnedColumn:
        """Cut a column's quantile function into about ``codes`` codes or fewer.

        A segment that holds the share of a code (about ``1 / codes``) or more is a code alone. Lighter neighbours are
        joined until they hold that share. A tail has no code of its own: it is in that of the end before it.

        Args:
            fit: A column of treatment ``latent``.
            codes: Number of codes for its values; missing is not counted.
            cut: What to go by in place of the probability.
        """
        marginal = _marginal(fit)
        ends = _joined(marginal.probability, codes)
        if cut is not None:
            ends = np.union1d(_joined(cut.weight, codes + codes // 2), cut.borders)
        return cls(fit, _with_tails(ends, marginal), marginal.p_missing > 0)

    @property
    def name(self) -> str:
        """Column name."""
        return self.fit.name

    @property
    def size(self) -> int:
        """Number of codes, the one for missing included."""
        return len(self.ends) + self.nullable

    @cached_property
    def share(self) -> Floats:
        """float64[size]: share of all rows that each code has."""
        present = np.diff(self._cdf) * (1.0 - _marginal(self.fit).p_missing)
        shares = np.append(present, _marginal(self.fit).p_missing) if self.nullable else present
        return np.asarray(shares, np.float64)

    @cached_property
    def places(self) -> Floats | None:
        """float64[size]: place of each code in the order of a numeric column, 0 to 1, NaN for missing.

        None for categories, which have no order.
        """
        if self.fit.categories is not None:
            return None
        middle = 0.5 * (self._cdf[:-1] + self._cdf[1:])
        return np.asarray(np.append(middle, np.nan) if self.nullable else middle, np.float64)

    @cached_property
    def _cdf(self) -> Floats:
        """float64[m + 1]: cumulative probability of the values at the border of each code."""
        cdf: Floats = np.append(0.0, _marginal(self.fit).cumulative)[np.append(0, self.ends)]
        return cdf

    @cached_property
    def _single(self) -> bool:
        """Whether every code is one segment."""
        return len(self.ends) == len(_marginal(self.fit).lo)

    @cached_property
    def _is_atoms(self) -> bool:
        marginal = _marginal(self.fit)
        return self._single and np.array_equal(marginal.lo, marginal.hi)

    @property
    def spreads(self) -> bool:
        """Whether a value needs a uniform number besides its code."""
        return not self._is_atoms

    def missing(self, codes: NDArray[Any]) -> NDArray[np.bool_] | None:
        """bool[n]: which codes mean missing; None if the column is never missing."""
        return codes == len(self.ends) if self.nullable else None

    def values(self, codes: NDArray[Any], uniform: Floats | None) -> Floats:
        """Category indices or axis values float64[n], not yet rounded to the grid; any value where missing.

        Args:
            codes: Codes [n].
            uniform: Uniform numbers float64[n]; needed if ``spreads``.
        """
        marginal = _marginal(self.fit)
        value_codes = np.minimum(codes, len(self.ends) - 1) if self.nullable else codes
        if self._is_atoms or uniform is None:
            return np.asarray(marginal.lo[value_codes])
        if self._single:
            return np.asarray(marginal.lo[value_codes] + (marginal.hi - marginal.lo)[value_codes] * uniform)
        cdf = self._cdf
        return marginal.quantile(cdf[value_codes] + np.diff(cdf)[value_codes] * uniform)

    def encode(
        self,
        coder: ColumnCoder,
        codes: NDArray[Any],
        axis: Floats | None,
        rng: np.random.Generator | None,
        persons: Integers | None = None,
    ) -> Codes:
        """Codes int16[n] of rows.

        Args:
            coder: The column's coder.
            codes: Its fine codes [n].
            axis: Axis values float64[n], NaN where missing; None for categories.
            rng: Draws a code for rows whose category is protected. None: they get the most frequent code, so a row's
                code depends on no other row.
            persons: int64[n], the rows' persons, where a person's rows are learned together: of one person, equal
                values that are protected get one code.
        """
        if axis is not None:
            absent = np.isnan(axis)
            ends = _marginal(self.fit).ends
            axis = axis if ends is None else np.clip(axis, *ends)  # no code may depend on a value beyond the ends
            out = self.codes_of_values(np.where(absent, 0.0, axis))
        else:
            absent = codes == coder.missing
            out = self._category_table(coder)[np.minimum(codes, len(coder.values or ()))]
        lost = (out < 0) & ~absent
        if self.nullable:
            out = np.where(absent, len(self.ends), out)
        else:
            lost |= absent
        if lost.any():
            present = self.share[: len(self.ends)]
            if rng is None:
                out[lost] = np.argmax(present)
            else:
                drawn = rng.choice(len(present), int(lost.sum()), p=present / present.sum())
                if persons is not None:
                    value = persons[lost] * (int(codes.max()) + 1) + codes[lost].astype(np.int64)
                    _, first, back = np.unique(value, return_index=True, return_inverse=True)
                    drawn = drawn[first][back]
                out[lost] = drawn
        return np.asarray(out, np.int16)

    def codes_of_values(self, values: Floats) -> Integers:
        """int64[n]: code of each category index or axis value; -1 for a category that the model does not hold."""
        marginal = _marginal(self.fit)
        if self.fit.categories is not None:
            segment_of = np.full(len(self.fit.categories) + 1, -1, np.int64)
            segment_of[marginal.lo.astype(np.int64)] = np.arange(len(marginal.lo))
            segments = segment_of[values.astype(np.int64)]
            return np.where(segments < 0, -1, np.searchsorted(self.ends, segments, side="right"))
        # A value between two segments belongs to the nearer one.
        borders = 0.5 * (marginal.hi[:-1] + marginal.lo[1:])
        return np.asarray(np.searchsorted(self.ends, np.searchsorted(borders, values, side="left"), side="right"))

    def code_of_only(self, value: float) -> int | None:
        """The code of a number that no other value has; None where there is none."""
        marginal = _marginal(self.fit)
        if self.fit.categories is not None:
            return None
        code = int(self.codes_of_values(np.array([value]))[0])
        first = int(self.ends[code - 1]) if code else 0
        own = slice(first, int(self.ends[code]))
        return code if bool((marginal.lo[own] == value).all() and (marginal.hi[own] == value).all()) else None

    def _category_table(self, coder: ColumnCoder) -> Integers:
        """int64[values + 1]: code of each of the coder's categories, then of an unknown value; -1: protected."""
        assert coder.values is not None and self.fit.categories is not None
        known = pc.index_in(_plain(coder.values), value_set=_plain(self.fit.categories))
        index = np.asarray(pc.fill_null(known, -1).to_numpy(zero_copy_only=False), np.int64)
        if len(self.fit.categories) > int((index >= 0).sum()):  # the last category is "other", which no row had
            index = np.where(index < 0, len(self.fit.categories) - 1, index)
        return self.codes_of_values(np.append(index, -1))


@dataclass(frozen=True)
class Coding:
    """The columns of an autoregressive model.

    Attributes:
        table: One per schema column; its treatment is one of ``fitted.TREATMENTS``.
        columns: The learned ones, in the order in which they are drawn: that of the schema, but for a column that has
            rare classes, which is the first one.
        relations: Computed columns; each comes after the computed columns that it needs.
        notes: Facts for the report.
    """

    table: tuple[FittedColumn, ...]
    columns: tuple[BinnedColumn, ...]
    relations: tuple[Relation, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each learned column."""
        return tuple(column.size for column in self.columns)

    @classmethod
    def fit(
        cls,
        profile: Profile,
        coder: TableCoder,
        counts: Counts,
        options: FitOptions,
        *,
        bins: int,
        most_categories: int,
        relations: Sequence[Relation] | None = None,
        learned: Collection[str] = (),
    ) -> Coding:
        """Choose codes from the counts of all training rows; no row is read.

        Args:
            profile: Merged profile of the training rows.
            coder: Made from the profile.
            counts: Merged counts of the training rows.
            options: The protections.
            bins: About how many codes a numeric column gets.
            most_categories: Largest number of codes of a category column; the rarest categories share codes.
            relations: Computed columns, as for ``fit_copula``.
            learned: Columns that are learned even where a relation gives them.

        Raises:
            ModelError: There is nothing to learn, or a column cannot be learned under the protections.
        """
        if counts.rows == 0:
            raise ModelError("there is no training row: a smaller evaluate.holdout leaves some")
        notes: list[str] = []
        verified = [r for r in verified_relations(counts, relations, notes) if r.name not in learned]
        orders = {i: np.arange(column.n_coarse - 1) for i, column in enumerate(coder.columns)}
        fitted, bound = fit_columns(profile, coder, counts, options, orders, verified, notes)
        table = [fitted.get(c.name) or _unlearned(c.name, c.role) for c in coder.table]
        for column in table:
            count = _categories(column)
            if count > most_categories:
                notes.append(
                    f"column {column.name!r}: the rarest of its {count} categories share codes "
                    f"(max_categories: {most_categories})"
                )
        notes += [relation.describe() for relation in bound]
        return cls.of(table, bins, most_categories, bound, notes)

    @classmethod
    def of(
        cls,
        table: Sequence[FittedColumn],
        bins: int,
        most_categories: int,
        relations: Sequence[Relation] = (),
        notes: Sequence[str] = (),
        *,
        first: str = "",
        cuts: Mapping[str, Cut] | None = None,
    ) -> Coding:
        """Cut the columns of treatment ``latent`` into codes.

        Args:
            table: One per schema column.
            bins: As of ``fit``.
            most_categories: Likewise.
            relations: Likewise, verified.
            notes: Facts for the report.
            first: The column that is drawn first.
            cuts: By name, of numeric columns that are not cut by their probability.
        """
        cuts = cuts or {}
        columns = [_most_frequent_first(c) if _categories(c) > most_categories else c for c in table]
        learned = [
            BinnedColumn.of(column, bins if column.categories is None else most_categories, cuts.get(column.name))
            for column in sorted(columns, key=lambda column: column.name != first)
            if column.treatment == "latent"
        ]
        return cls(tuple(columns), tuple(learned), tuple(relations), tuple(notes))

    def encode(
        self,
        coder: TableCoder,
        rows: pa.Table | pa.RecordBatch,
        seed: int | None,
        part: int = 0,
        persons: Integers | None = None,
    ) -> Codes:
        """Rows in codes, int16[n, columns].

        Args:
            coder: What the columns were coded with.
            rows: Rows with the coder's columns.
            seed: For codes in place of protected categories. None: nothing is drawn, see ``BinnedColumn.encode``.
            part: Number of the batch, if the rows come in several.
            persons: See ``BinnedColumn.encode``.
        """
        rng = None if seed is None else np.random.default_rng([seed, 5, part])
        encoded = coder.encode(rows)
        codes = np.empty((rows.num_rows, len(self.columns)), np.int16)
        for number, column in enumerate(self.columns):
            i = coder.index[column.name]
            codes[:, number] = column.encode(coder.columns[i], encoded.codes[i], encoded.axis[i], rng, persons)
        return codes


def _marginal(fit: FittedColumn) -> Marginal:
    assert fit.marginal is not None
    return fit.marginal


def _unlearned(name: str, role: str) -> FittedColumn:
    return FittedColumn(name, role, role if role in ("id", "pii") else "empty")


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


def _categories(fit: FittedColumn) -> int:
    """Number of categories that are learned; 0 for a numeric column."""
    return len(fit.categories) if fit.treatment == "latent" and fit.categories is not None else 0


def _most_frequent_first(fit: FittedColumn) -> FittedColumn:
    """The column, its rarest categories side by side at the end, so that these can share codes."""
    marginal = _marginal(fit)
    order = np.argsort(-marginal.probability, kind="stable")
    probability, codes = marginal.probability[order], marginal.lo[order]
    return replace(fit, marginal=Marginal("category", probability, codes, codes, marginal.p_missing))


def _joined(probability: Floats, codes: int) -> Integers:
    """One past the last segment of each code: runs of segments of about equal probability; a heavy segment is alone."""
    if len(probability) <= codes:
        return np.arange(1, len(probability) + 1)
    least = 1.0 / codes
    heavy = probability >= least
    # The codes that are left share the light segments evenly.
    rest = max(codes - int(heavy.sum()), 1)
    least = float(probability[~heavy].sum()) / rest
    ends: list[int] = []
    mass = 0.0
    for place, (share, alone) in enumerate(zip(probability.tolist(), heavy.tolist())):
        if alone and mass > 0:
            ends.append(place)
            mass = 0.0
        mass += share
        if alone or mass >= least * (1 - 1e-9):
            ends.append(place + 1)
            mass = 0.0
    if mass > 0:
        ends.append(len(probability))
    return np.array(ends, np.int64)


def _with_tails(ends: Integers, marginal: Marginal) -> Integers:
    """The ends of codes, in which each tail is in one code with the segment before it."""
    lower, upper = marginal.tails
    first, last = lower + (lower > 0), len(marginal.lo) - upper - (upper > 0)
    return np.asarray(ends[(ends >= first) & ((ends <= last) | (ends == len(marginal.lo)))], np.int64)
