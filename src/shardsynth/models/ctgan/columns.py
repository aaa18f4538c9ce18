"""One column of a deep model: what the networks see of it, and how codes become values again.

A category column has one code per learned category, one token for all folded categories, and one for missing. A numeric
value is a mode and a place in it. Missing is one more mode, so the networks learn how it depends on other columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from shardsynth.data.coding import ColumnCoder
from shardsynth.models.columns.column_options import EMPIRICAL
from shardsynth.models.columns.fit import ColumnPersons, Tally, fit_axis, fit_category
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import grid_unit
from shardsynth.models.ctgan.modes import Modes, fit_modes
from shardsynth.models.ctgan.options import DeepOptions

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Probabilities are kept this far from 0 and 1 before they become normal scores.
_EDGE = 1e-6
#: Smallest standard deviation of a mode, in grid units. All places of such a mode round to one value.
_FLOOR = 0.1


@dataclass(frozen=True)
class ModeColumn:
    """A learned column in codes.

    Attributes:
        fit: The column under the protections.
        share: float64[codes], share of the rows of each code; sums to 1. The last code is missing if ``nullable``.
        nullable: Whether there is a code for missing.
        modes: The modes of a numeric column; None for categories.
        normal: Whether the modes are those of normal scores (CopulaGAN).
        learned: int64[h], category of each of the first h codes; None for a numeric column.
        folded: int64[t], categories that share the code h, the token; empty if there is none.
        folded_share: float64[t], their shares, summing to 1.
        coin: Probability that a value is missing by chance, whatever the networks say (imported from SDV).
        tails: Probability that a value which the networks put at the lower end of a column with tails, or at its upper
            end, is drawn from the tail; else it is the end.
    """

    fit: FittedColumn
    share: Floats
    nullable: bool
    modes: Modes | None = None
    normal: bool = False
    learned: Integers | None = None
    folded: Integers | None = None
    folded_share: Floats | None = None
    coin: float = 0.0
    tails: tuple[float, float] = (1.0, 1.0)

    @property
    def has_tails(self) -> bool:
        """Whether values lie beyond the fifth most extreme ones."""
        return self.is_axis and self.fit.marginal is not None and self.fit.marginal.ends is not None

    @property
    def stochastic(self) -> bool:
        """Whether a value needs its own uniform number."""
        return self.coin > 0 or (self.folded is not None and len(self.folded) > 0) or self.has_tails

    @property
    def name(self) -> str:
        """Column name."""
        return self.fit.name

    @property
    def is_axis(self) -> bool:
        """Whether a value is a mode and a place: a numeric column."""
        return self.modes is not None

    @property
    def size(self) -> int:
        """Number of codes, the one for missing included."""
        return len(self.share)

    def missing(self, codes: NDArray[Any], uniform: Floats | None = None) -> Mask | None:
        """bool[n]: which rows are missing; None if the column never is.

        Args:
            codes: Codes [n].
            uniform: Uniform numbers float64[n]; needed if ``stochastic``.
        """
        absent = codes == self.size - 1 if self.nullable else None
        if self.coin > 0 and uniform is not None:
            lost = uniform < self.coin
            return lost if absent is None else absent | lost
        return absent

    def values(self, codes: NDArray[Any], places: NDArray[Any] | None, uniform: Floats | None) -> NDArray[Any]:
        """Category indices int64[n] or axis values float64[n] of codes; some valid value where missing.

        Args:
            codes: Codes [n].
            places: Places within the modes [n]; needed for a numeric column.
            uniform: Uniform numbers float64[n]; needed if ``stochastic``.
        """
        if self.modes is None:
            assert self.learned is not None
            last = len(self.learned) - 1
            categories: NDArray[Any] = self.learned[np.minimum(codes, max(last, 0))]
            if self.folded is not None and len(self.folded):
                assert self.folded_share is not None and uniform is not None
                token = codes == last + 1
                cdf = np.cumsum(self.folded_share)
                place = np.searchsorted(cdf, uniform[token] * cdf[-1], side="right")
                categories[token] = self.folded[np.minimum(place, len(self.folded) - 1)]
            return categories
        assert places is not None
        values = self.modes.decode(np.minimum(codes, len(self.modes) - 1), np.clip(places, -1.0, 1.0))
        marginal = self.fit.marginal
        assert marginal is not None
        if self.normal:
            values = marginal.quantile(ndtr(values))
        if marginal.ends is None:
            return values if self.normal else np.clip(values, marginal.lo[0], marginal.hi[-1])
        values = np.clip(values, *marginal.ends)
        if uniform is not None:
            for side, end in enumerate(self.at_ends(values)):
                beyond = end[uniform[end] < self.tails[side]]
                place = uniform[beyond] / self.tails[side] * self.tail_mass[side] if len(beyond) else uniform[beyond]
                values[beyond] = marginal.quantile(place if side == 0 else 1.0 - place)
        return values

    def at_ends(self, values: Floats) -> tuple[Integers, Integers]:
        """Numbers of the values [n] that lie at the lower end of a column with tails, and at its upper end."""
        assert self.fit.marginal is not None and self.fit.marginal.ends is not None
        low, high = self.fit.marginal.ends
        return np.flatnonzero(values <= low), np.flatnonzero(values >= high)

    @cached_property
    def tail_mass(self) -> tuple[float, float]:
        """Share of the values that lie in the lower tail, and in the upper one."""
        assert self.fit.marginal is not None
        share, (lower, upper) = self.fit.marginal.probability, self.fit.marginal.tails
        return float(share[:lower].sum()), float(share[len(share) - upper :].sum())

    def encode(
        self, coder: ColumnCoder, codes: NDArray[Any], axis: Floats | None, rng: np.random.Generator
    ) -> tuple[Integers, NDArray[np.float32] | None]:
        """Codes int64[n] of training rows, and for a numeric column places float32[n] (0 where missing).

        Args:
            coder: The column's coder.
            codes: Its fine codes [n].
            axis: Axis values float64[n], NaN where missing; None for categories.
            rng: Draws modes, and categories in place of protected ones.
        """
        absent = codes == coder.missing
        out = np.full(len(codes), self.size - 1, np.int64)
        if self.modes is None:
            out[~absent] = self._category_codes(coder, codes[~absent], rng)
            return out, None
        assert axis is not None and self.fit.marginal is not None
        present = axis[~absent]
        if self.fit.marginal.ends is not None:
            present = np.clip(present, *self.fit.marginal.ends)  # nothing learned may depend on a value beyond the ends
        if self.normal:
            present = to_normal(self.fit.marginal, present)
        places = np.zeros(len(codes), np.float32)
        out[~absent], places[~absent] = self.modes.encode(present, rng)
        return out, places

    def _category_codes(self, coder: ColumnCoder, codes: NDArray[Any], rng: np.random.Generator) -> Integers:
        """Codes int64[n] of fine codes [n]; none of them is missing."""
        assert self.learned is not None and self.folded is not None
        assert coder.values is not None and self.fit.categories is not None
        # A protected category gets the token if there is one, else "other" if there is one, else a random code.
        token = len(self.learned) if len(self.folded) else -1
        code_of = np.full(len(self.fit.categories), token, np.int64)
        code_of[self.learned] = np.arange(len(self.learned))
        known = pc.index_in(_plain(coder.values), value_set=_plain(self.fit.categories))
        index = np.asarray(pc.fill_null(known, -1).to_numpy(zero_copy_only=False), np.int64)
        table = np.where(index >= 0, code_of[np.maximum(index, 0)], -1)
        if token < 0 and len(self.fit.categories) > int((index >= 0).sum()):
            token = int(code_of[-1])  # the last category is "other", which no row had
        table = np.append(np.where(table < 0, token, table), [token, token])
        learned_codes = table[np.minimum(codes, len(table) - 1)]
        lost = learned_codes < 0
        if lost.any():
            shares = self.share[: len(self.learned)]
            learned_codes[lost] = rng.choice(len(shares), int(lost.sum()), p=shares / shares.sum())
        return np.asarray(learned_codes, np.int64)


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()) if pa.types.is_string_view(values.type) else values


def to_normal(marginal: Marginal, values: Floats) -> Floats:
    """Normal scores float64[n] of axis values float64[n]; an atom gets the score of its middle probability."""
    ends = marginal.cumulative
    starts = np.concatenate([[0.0], ends[:-1]])
    k = np.minimum(np.searchsorted(marginal.hi, values, side="left"), len(ends) - 1)
    width = marginal.hi[k] - marginal.lo[k]
    inside = np.where(width > 0, (values - marginal.lo[k]) / np.where(width > 0, width, 1.0), 0.5)
    u = starts[k] + (ends[k] - starts[k]) * np.clip(inside, 0.0, 1.0)
    return np.asarray(ndtri(np.clip(u, _EDGE, 1.0 - _EDGE)), np.float64)


def code_category(
    coder: ColumnCoder, hist: Integers, options: DeepOptions, *, nullable: bool, persons: ColumnPersons | None = None
) -> tuple[FittedColumn, ModeColumn | None, list[str]]:
    """A category column under the protections; its codes, None if it is not learned; and notes for the report.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        options: ``max_categories`` and the protections.
        nullable: Whether the field may hold nulls.
        persons: The persons behind the rows, where they are counted.

    Raises:
        ModelError: Every category is rare, and the column cannot be null.
    """
    ranks = np.zeros(coder.n_coarse, np.int64)  # a deep model knows no order: categories stay as they are
    fitted, notes = fit_category(coder, hist, ranks, options.protection, nullable=nullable, persons=persons)
    if fitted.treatment != "latent" or fitted.marginal is None:
        return fitted, None, notes
    present, absent = fitted.marginal.probability, fitted.marginal.p_missing
    learned, folded = np.arange(len(present)), np.zeros(0, np.int64)
    if len(present) > options.max_categories:
        by_share = np.argsort(-present, kind="stable")
        most = options.max_categories - 1
        learned, folded = np.sort(by_share[:most]), np.sort(by_share[most:])
        notes = [
            *notes,
            f"column {coder.name!r}: {len(folded)} of its {len(present)} categories, "
            f"{present[folded].sum():.1%} of the rows, share one token (max_categories: {options.max_categories})",
        ]
    share = np.concatenate([present[learned], [present[folded].sum()] if len(folded) else []]) * (1.0 - absent)
    if absent > 0:
        share = np.append(share, absent)
    tail = present[folded] / present[folded].sum() if len(folded) else np.zeros(0)
    column = ModeColumn(fitted, share, absent > 0, learned=learned, folded=folded, folded_share=tail)
    return fitted, column, notes


def code_axis(
    coder: ColumnCoder, hist: Integers, tally: Tally, options: DeepOptions, persons: ColumnPersons | None = None
) -> tuple[FittedColumn, ModeColumn | None, list[str]]:
    """A numeric or datetime column under the protections; its modes, None if it is not learned; and notes.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        tally: Its summary in the profile, for minimum and maximum.
        options: ``max_clusters``, ``weight_threshold``, CopulaGAN's marginals and the protections.
        persons: The persons behind the rows, where they are counted.
    """
    empirical, notes = fit_axis(coder, hist, tally, options.protection, persons=persons)
    base = empirical.marginal
    if empirical.treatment != "latent" or base is None:
        return empirical, None, notes
    lo, hi = (base.lo, base.hi) if base.ends is None else (np.clip(edge, *base.ends) for edge in (base.lo, base.hi))
    points, spread = 0.5 * (lo + hi), hi - lo
    floor = _FLOOR * grid_unit(coder.precision)
    fitted, normal = empirical, options.family == "copulagan"
    if normal:
        chosen = options.marginals.get(coder.name, options.default_marginal)
        if chosen != EMPIRICAL:
            enforce = options.enforce_min_max_values
            fitted, notes = fit_axis(
                coder, hist, tally, options.protection, chosen, enforce=enforce, impute=True, persons=persons
            )
        assert fitted.marginal is not None
        score: Callable[[Floats], Floats] = lambda v: to_normal(fitted.marginal, v)  # type: ignore[arg-type]  # noqa: E731
        points, spread, floor = score(points), score(hi) - score(lo), 1e-3
    modes = fit_modes(
        points,
        base.probability,
        spread,
        int(hist[:-1].sum()),
        most=options.max_clusters,
        lightest=options.weight_threshold,
        floor=floor,
    )
    share = modes.weight * (1.0 - base.p_missing)
    if base.p_missing > 0:
        share = np.append(share, base.p_missing)
    return fitted, ModeColumn(fitted, share, base.p_missing > 0, modes, normal), notes
