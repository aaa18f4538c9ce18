"""The table as an autoregressive model sees it: one small integer per learned column and row.

A code is a run of neighbouring segments of the column's protected quantile function (``fitted.Marginal``): a category,
an atom, or a quantile bin; the last code is missing. Within a code the value is drawn by the marginal itself, so that
no value of any one row is in the model. Columns that are computed from others (``relations``) have no code.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class BinnedColumn:
    """A learned column in codes.

    Attributes:
        fit: The column under the protections; only what stands here goes into the model file.
        ends: int64[m], one past the last segment of each code that is a value.
        nullable: Whether there is one more code, missing.
    """

    fit: FittedColumn
    ends: Integers
    nullable: bool

    @classmethod
    def of(cls, fit: FittedColumn, codes: int) -> BinnedColumn:
        """Cut a column's quantile function into at most about so many codes.

        A segment that holds its share of the rows stands alone; the lighter ones between such are joined until they do.

        Args:
            fit: A column of treatment ``latent``.
            codes: Codes wanted for its values.
        """
        marginal = _marginal(fit)
        return cls(fit, _joined(marginal.probability, codes), marginal.p_missing > 0)

    @property
    def name(self) -> str:
        """Column name."""
        return self.fit.name

    @property
    def size(self) -> int:
        """Codes, missing included."""
        return len(self.ends) + self.nullable

    @cached_property
    def share(self) -> Floats:
        """float64[size]: share of the rows of each code, by the counts of all rows."""
        present = np.diff(self._cdf) * (1.0 - _marginal(self.fit).p_missing)
        shares = np.append(present, _marginal(self.fit).p_missing) if self.nullable else present
        return np.asarray(shares, np.float64)

    @cached_property
    def places(self) -> Floats | None:
        """float64[size]: place of each code of an axis in its order, in 0 to 1 (NaN: missing); None for categories."""
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
        """Whether a value wants a uniform number besides its code."""
        return not self._is_atoms

    def missing(self, codes: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Which codes [n] mean missing; None if none can."""
        return codes == len(self.ends) if self.nullable else None

    def values(self, codes: NDArray[Any], uniform: Floats | None) -> Floats:
        """Category indices or axis values float64[n] of codes [n], not yet on the grid; something where missing.

        Args:
            codes: Codes.
            uniform: Uniform numbers float64[n], where ``spreads``.
        """
        marginal = _marginal(self.fit)
        held = np.minimum(codes, len(self.ends) - 1) if self.nullable else codes
        if self._is_atoms or uniform is None:
            return np.asarray(marginal.lo[held])
        if self._single:
            return np.asarray(marginal.lo[held] + (marginal.hi - marginal.lo)[held] * uniform)
        cdf = self._cdf
        return marginal.quantile(cdf[held] + np.diff(cdf)[held] * uniform)

    def encode(
        self, coder: ColumnCoder, codes: NDArray[Any], axis: Floats | None, rng: np.random.Generator | None
    ) -> Codes:
        """Codes int16[n] of rows.

        Args:
            coder: The column's coder.
            codes: Its fine codes [n].
            axis: Axis values float64[n], NaN where missing; None for categories.
            rng: Draws a code for rows whose own category is protected; None: they get the most frequent one, so that
                a row's code depends on no other row.
        """
        if axis is not None:
            absent = np.isnan(axis)
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
                out[lost] = rng.choice(len(present), int(lost.sum()), p=present / present.sum())
        return np.asarray(out, np.int16)

    def codes_of_values(self, values: Floats) -> Integers:
        """int64[n]: code of each category index (-1: none of the model's) or axis value."""
        marginal = _marginal(self.fit)
        if self.fit.categories is not None:
            segment = np.full(len(self.fit.categories) + 1, -1, np.int64)
            segment[marginal.lo.astype(np.int64)] = np.arange(len(marginal.lo))
            found = segment[values.astype(np.int64)]
            return np.where(found < 0, -1, np.searchsorted(self.ends, found, side="right"))
        # Half way between two segments: a value there was joined to the nearer one.
        borders = 0.5 * (marginal.hi[:-1] + marginal.lo[1:])
        return np.asarray(np.searchsorted(self.ends, np.searchsorted(borders, values, side="left"), side="right"))

    def _category_table(self, coder: ColumnCoder) -> Integers:
        """int64[values + 1]: code of each of the coder's categories, then of an unknown value; -1: protected."""
        assert coder.values is not None and self.fit.categories is not None
        known = pc.index_in(_plain(coder.values), value_set=_plain(self.fit.categories))
        index = np.asarray(pc.fill_null(known, -1).to_numpy(zero_copy_only=False), np.int64)
        if len(self.fit.categories) > int((index >= 0).sum()):  # "other", which was none of the data's
            index = np.where(index < 0, len(self.fit.categories) - 1, index)
        return self.codes_of_values(np.append(index, -1))


@dataclass(frozen=True)
class Coding:
    """The columns of an autoregressive model.

    Attributes:
        table: One per schema column: treatment as in ``fitted.TREATMENTS``.
        columns: The learned ones, in schema order.
        relations: Computed columns, in order.
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
    ) -> Coding:
        """Choose codes from the counts of all training rows; no row is read.

        Args:
            profile: Merged, of the training rows.
            coder: Made from it.
            counts: Merged.
            options: The protections.
            bins: Codes of a numeric column, about.
            most_categories: Codes of a category column; the rarer categories share codes.
            relations: As for ``fit_copula``.

        Raises:
            ModelError: Nothing can be learned, or a column cannot be under the protections.
        """
        if counts.rows == 0:
            raise ModelError("there is no training row: a smaller evaluate.holdout leaves some")
        notes: list[str] = []
        verified = verified_relations(counts, relations, notes)
        orders = {i: np.arange(one.n_coarse - 1) for i, one in enumerate(coder.columns)}
        fitted, bound = fit_columns(profile, coder, counts, options, orders, verified, notes)
        table = [fitted.get(c.name) or _unlearned(c.name, c.role) for c in coder.table]
        for place, one in enumerate(table):
            if one.treatment == "latent" and one.categories is not None and len(one.categories) > most_categories:
                table[place] = by_frequency(one)
                notes.append(
                    f"column {one.name!r}: the rarest of its {len(one.categories)} categories share codes "
                    f"(max_categories: {most_categories})"
                )
        learned = [
            BinnedColumn.of(one, bins if one.categories is None else most_categories)
            for one in table
            if one.treatment == "latent"
        ]
        if not learned:
            raise ModelError("autoregressive: no column is left to learn (all are ids, personal, empty or constant)")
        return cls(tuple(table), tuple(learned), tuple(bound), (*notes, *(r.describe() for r in bound)))

    def encode(self, coder: TableCoder, rows: pa.Table | pa.RecordBatch, seed: int | None, part: int = 0) -> Codes:
        """Rows in codes, int16[n, columns].

        Args:
            coder: What the columns were coded with.
            rows: Rows with the coder's columns.
            seed: Draws stand-ins for protected categories; None as for ``BinnedColumn.encode``.
            part: Number of the batch, for rows that come in several.
        """
        rng = None if seed is None else np.random.default_rng([seed, 5, part])
        encoded = coder.encode(rows)
        codes = np.empty((rows.num_rows, len(self.columns)), np.int16)
        for number, column in enumerate(self.columns):
            i = coder.index[column.name]
            codes[:, number] = column.encode(coder.columns[i], encoded.codes[i], encoded.axis[i], rng)
        return codes


def _marginal(fit: FittedColumn) -> Marginal:
    assert fit.marginal is not None
    return fit.marginal


def _unlearned(name: str, role: str) -> FittedColumn:
    return FittedColumn(name, role, role if role in ("id", "pii") else "empty")


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


def by_frequency(fit: FittedColumn) -> FittedColumn:
    """A category column whose quantile function begins with the most frequent category."""
    marginal = _marginal(fit)
    order = np.argsort(-marginal.probability, kind="stable")
    probability, codes = marginal.probability[order], marginal.lo[order]
    return replace(fit, marginal=Marginal("category", probability, codes, codes, marginal.p_missing))


def _joined(probability: Floats, codes: int) -> Integers:
    """One past the last segment of each code: runs of segments of about equal probability, heavy segments alone."""
    if len(probability) <= codes:
        return np.arange(1, len(probability) + 1)
    least = 1.0 / codes
    heavy = probability >= least
    # What the heavy leave is shared evenly by the codes that are left.
    rest = max(codes - int(heavy.sum()), 1)
    least = float(probability[~heavy].sum()) / rest
    ends: list[int] = []
    mass = 0.0
    for place, (own, alone) in enumerate(zip(probability.tolist(), heavy.tolist())):
        if alone and mass > 0:
            ends.append(place)
            mass = 0.0
        mass += own
        if alone or mass >= least * (1 - 1e-9):
            ends.append(place + 1)
            mass = 0.0
    if mass > 0:
        ends.append(len(probability))
    return np.array(ends, np.int64)
