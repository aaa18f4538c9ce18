"""Fitting one column: from its histogram to the ``FittedColumn`` that a model holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder
from shardsynth.data.values import Precision, axis_of_native, needs_parsing
from shardsynth.errors import JobError, ModelError
from shardsynth.models.columns.column_options import EMPIRICAL, ColumnOptions
from shardsynth.models.columns.distributions import family_marginal, fit_family
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import (
    Cells,
    Protection,
    atoms_marginal,
    category_marginal,
    cells_of_histogram,
    grid_unit,
    kept_categories,
    person_ends,
    protected_ends,
    protected_marginal,
)
from shardsynth.models.columns.tail_bounds import tail_bounds
from shardsynth.models.columns.tails import with_tails
from shardsynth.models.columns.transform import Transform
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.persons import PersonCells, PersonEnds, joined_hashes, union_size
from shardsynth.summaries.tally import NumberTally
from shardsynth.summaries.text import TextTally

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Tally = Union[NumberTally, TextTally]

#: The category of all rare ones.
OTHER = "other"


@dataclass(frozen=True)
class ColumnPersons:
    """The persons behind the rows of one column.

    Attributes:
        cells: Of each fine code.
        ends: Those with the most extreme values; None for categories.
    """

    cells: PersonCells
    ends: PersonEnds | None

    @classmethod
    def of(cls, counts: Counts, i: int) -> ColumnPersons | None:
        """Those of column i of counts; None where these count rows alone."""
        persons = counts.persons
        return None if persons is None else cls(persons.cells[i], persons.ends[i])

    def of_enough(self, codes: Integers, least: int) -> bool:
        """Whether at least ``least`` persons have one of the codes."""
        return union_size(self.cells.hashes[codes]) >= least


def fit_category(
    coder: ColumnCoder,
    hist: Integers,
    rank: Integers,
    protection: Protection,
    known: Sequence[Any] | None = None,
    nullable: bool = True,
    persons: ColumnPersons | None = None,
) -> tuple[FittedColumn, list[str]]:
    """A category column under the protections.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        rank: int64[coarse codes without missing], place of each coarse code along the latent.
        protection: What the model may hold.
        known: Only these values may be kept (other columns are a function of this one); None: any.
        nullable: Whether the column's field may hold nulls.
        persons: The persons behind the rows, where they are counted.

    Returns:
        The column (``latent``, ``constant`` or ``empty``), and notes.

    Raises:
        ModelError: Every category is rare, and the column cannot be null.
    """
    assert coder.values is not None
    size = len(coder.values)
    count, rows = hist[:size], int(hist.sum())
    keep = kept_categories(count, protection, None if persons is None else persons.cells.persons[:size])
    if known is not None:
        allowed = set(known)
        keep &= np.array([v in allowed for v in coder.values.to_pylist()], dtype=bool)
    text = pa.types.is_string(coder.values.type) or pa.types.is_large_string(coder.values.type)
    rest = int(hist[:-1].sum() - count[keep].sum())
    notes = [f"column {coder.name!r}: {int((~keep & (count > 0)).sum())} rare categories left out"] if rest else []
    values, kept_rows = coder.values.filter(pa.array(keep)), count[keep].astype(np.int64)
    place = rank[coder.coarse[:-1].astype(np.int64)][:size][keep]
    needs_other = not keep.any() and not nullable
    lumped = rest and (persons is None or persons.of_enough(np.flatnonzero(~keep), protection.min_count))
    if lumped and text and known is None and (protection.rare == "other" or needs_other):
        values, kept_rows, place = _with_other(values, kept_rows, place, rest)
    absent = float(hist[-1] / rows) if rows else 1.0
    base = FittedColumn(coder.name, coder.column.role, "empty", None, values, coder.precision, coder.emit_nan)
    if not len(kept_rows):
        if not nullable:
            counted = "rows" if persons is None else "persons"
            raise ModelError(
                f"column {coder.name!r}: every one of its {size} categories is seen on fewer than "
                f"{protection.min_count} {counted}, and it cannot be null; call it an id in the metadata, or set rare: "
                "{as: keep}"
            )
        return base, [*notes, f"column {coder.name!r}: nothing but rare categories, written as missing"]
    order = np.lexsort((np.arange(len(kept_rows)), place)).astype(np.int64)
    marginal = category_marginal(kept_rows, order, absent)
    treatment = "constant" if len(kept_rows) == 1 and absent == 0 else "latent"
    distribution = {"distribution": "categorical", "learned_parameters": {"categories": len(kept_rows)}}
    return replace(base, treatment=treatment, marginal=marginal, distribution=distribution), notes


def _with_other(values: pa.Array, count: Integers, place: Integers, rest: int) -> tuple[pa.Array, Integers, Integers]:
    """The categories, with the rows of all rare ones in the category ``other``, which is added if there is none."""
    names = values.to_pylist()
    if OTHER in names:
        count = count.copy()
        count[names.index(OTHER)] += rest
        return values, count, place
    middle = int(np.median(place)) if len(place) else 0
    with_other = pa.concat_arrays([values, pa.array([OTHER], values.type)])
    return with_other, np.append(count, rest), np.append(place, middle)


def fit_axis(
    coder: ColumnCoder,
    hist: Integers,
    tally: Tally,
    protection: Protection,
    family: str = EMPIRICAL,
    *,
    enforce: bool = True,
    points: Sequence[float] | None = None,
    impute: bool = False,
    options: ColumnOptions | None = None,
    persons: ColumnPersons | None = None,
) -> tuple[FittedColumn, list[str]]:
    """A column of numbers or instants under the protections.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        tally: Its part of the profile: the extremes.
        protection: What the model may hold.
        family: ``empirical``, or one of SDV's names.
        enforce: Whether named distributions are clipped to the ends.
        points: Only these values may occur, each as an atom (other columns are a function of this one); None: any.
        impute: Fit a named distribution with missing values counted at the mean, as SDV does.
        options: Those of the column.
        persons: The persons behind the rows, where they are counted.

    Returns:
        The column (``latent``, ``constant`` or ``empty``), and notes.

    Raises:
        JobError: No value lies between the ends of the options, or a value has no transformed value.
    """
    options = _on_grid(options or ColumnOptions(), coder.precision)
    rows, present = int(hist.sum()), int(hist[:-1].sum())
    absent = float(hist[-1] / rows) if rows else 1.0
    base = FittedColumn(coder.name, coder.column.role, "empty", None, None, coder.precision, coder.emit_nan)
    if present == 0:
        return base, []
    if present < protection.min_count:
        return base, [f"column {coder.name!r}: {present} values are too few to learn from, written as missing"]
    if persons is not None and not persons.of_enough(np.arange(len(hist) - 1), protection.min_count):
        return base, [f"column {coder.name!r}: too few persons have a value to learn from, written as missing"]
    cells = axis_cells(coder, hist, protection, persons)
    ends = column_ends(coder, cells, tally, protection, persons)
    inner_ends = _ends_within_options(coder.name, ends, options)
    if options.places is not None:
        base = replace(base, precision=Precision("decimal", digits=options.places))
    if points is not None:
        allowed = [
            p
            for p in points
            if (options.low is None or p >= options.low) and (options.high is None or p <= options.high)
        ]
        marginal = _atoms_at(cells, np.asarray(allowed, dtype=np.float64), protection, absent)
    elif family == EMPIRICAL or inner_ends[0] == inner_ends[1]:
        marginal = _empirical(coder, cells, inner_ends, options, protection, absent)
    else:
        filled = imputed(cells, int(hist[-1]), coder.precision) if impute else cells
        empirical = _empirical(coder, cells, inner_ends, options, protection, absent)
        far = ends if empirical.ends is None else snapped_reach(empirical, coder.precision)
        support = (far[0] if options.low is None else options.low, far[1] if options.high is None else options.high)
        known = None if options.low is None and options.high is None else support
        if options.transform is not None:
            _check_transformable(coder, cells, options.transform)
        distribution = fit_family(family, filled, inner_ends, coder.precision, known, options.transform)
        clip = enforce if options.enforce is None else options.enforce
        precision = base.precision if options.places is not None else coder.precision
        marginal = family_marginal(distribution, support, precision or Precision(), absent, clip=clip)
        marginal = marginal.with_ends(empirical.ends)
        return replace(base, treatment="latent", marginal=marginal, distribution=distribution), []
    if options.places is not None and base.precision is not None:
        atoms = marginal.lo == marginal.hi
        lo, hi = (np.where(atoms, base.precision.snap(edge), edge) for edge in (marginal.lo, marginal.hi))
        marginal = replace(marginal, lo=lo, hi=hi).with_ends(marginal.ends)
    single_value = len(marginal.lo) == 1 and marginal.lo[0] == marginal.hi[0]
    return replace(
        base,
        treatment="constant" if single_value and absent == 0 else "latent",
        marginal=marginal,
        distribution={"distribution": EMPIRICAL, "learned_parameters": {"segments": len(marginal.lo)}},
    ), []


def axis_cells(
    coder: ColumnCoder, hist: Integers, protection: Protection, persons: ColumnPersons | None = None
) -> Cells:
    """The histogram of a number or instant as cells; with tails, all rows beyond the ends lie on these.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        protection: What the model may hold.
        persons: The persons behind the rows, where they are counted.
    """
    hashes = None if persons is None else persons.cells.hashes[:-1]
    if has_tails(coder, protection):
        hist = coder.within_ends(hist)
        if hashes is not None:
            first, last = coder.end_codes
            ends = joined_hashes(hashes[: first + 1]), joined_hashes(hashes[last:])
            hashes = hashes.copy()
            hashes[first], hashes[last] = ends
    return cells_of_histogram(hist[:-1], coder.cuts, coder.low, coder.high, coder.precision, hashes)


def has_tails(coder: ColumnCoder, protection: Protection) -> bool:
    """Whether tails are fitted to a column; it must have been coded for them."""
    return protection.extremes == "tail" and coder.ends is not None


def snapped_reach(marginal: Marginal, precision: Precision) -> tuple[float, float]:
    """Least and largest value that a quantile function of numbers gives."""
    reach = precision.snap(np.array([marginal.lo[0], marginal.hi[-1]]))
    return float(reach[0]), float(reach[1])


def reach_of(coder: ColumnCoder, hist: Integers, protection: Protection) -> tuple[float, float]:
    """Least and largest value that a model has of a column with tails.

    Args:
        coder: The column's coder, with ends.
        hist: int64[n_codes], rows by fine code, missing last.
        protection: What the model may hold.
    """
    assert coder.ends is not None
    cells = axis_cells(coder, hist, protection)
    within = (coder.ends.low, coder.ends.high)
    if int(cells.count.sum()) < protection.min_count:
        return within
    return snapped_reach(_empirical(coder, cells, within, ColumnOptions(), protection, 0.0), coder.precision)


def _empirical(
    coder: ColumnCoder,
    cells: Cells,
    within: tuple[float, float],
    options: ColumnOptions,
    protection: Protection,
    absent: float,
) -> Marginal:
    """The quantile function of the cells between two ends, with tails beyond these where the column has some."""
    if not has_tails(coder, protection) or len(cells.count) < 2:  # noqa: PLR2004
        return protected_marginal(cells, within, coder.precision, protection, absent)
    assert coder.ends is not None
    low, high = tail_bounds(coder)
    bounds = (
        low if options.low is None else max(low, options.low),
        high if options.high is None else min(high, options.high),
    )
    return with_tails(cells, coder.ends, within, bounds, coder.precision, protection, absent)


def _on_grid(options: ColumnOptions, precision: Precision) -> ColumnOptions:
    """The options with their ends moved inwards to the grid of the values."""
    grid = precision if options.places is None else Precision("decimal", digits=options.places)
    unit = grid_unit(grid)
    low, high = (None if end is None else float(grid.snap(np.array([end]))[0]) for end in (options.low, options.high))
    if low is not None and options.low is not None and low < options.low:
        low += unit
    if high is not None and options.high is not None and high > options.high:
        high -= unit
    return options.model_copy(update={"low": low, "high": high})


def _ends_within_options(name: str, ends: tuple[float, float], options: ColumnOptions) -> tuple[float, float]:
    """The protected ends, cut to those of the options."""
    low = ends[0] if options.low is None else max(ends[0], options.low)
    high = ends[1] if options.high is None else min(ends[1], options.high)
    if low > high:
        raise JobError(
            f"columns.{name}: no value of the column lies between the min and max of the options; give others"
        )
    return low, high


def _check_transformable(coder: ColumnCoder, cells: Cells, transform: Transform) -> None:
    outside = transform.refuses(cells.lo, cells.hi, grid=grid_unit(coder.precision) > 0)
    if outside.any():
        range_text = (
            f"above {transform.base:g}" if transform.name == "log" else f"in {transform.base:g} to {transform.top:g}"
        )
        raise JobError(
            f"columns.{coder.name}.transform: {transform.name} needs values {range_text}; about "
            f"{int(cells.count[outside].sum())} rows have others; give another min or max, or leave the transform out"
        )


def column_ends(
    coder: ColumnCoder, cells: Cells, tally: Tally, protection: Protection, persons: ColumnPersons | None = None
) -> tuple[float, float]:
    """Lower and upper end of the marginal of a number or instant, under the protections.

    Args:
        coder: The column's coder.
        cells: Its histogram.
        tally: Its part of the profile.
        protection: What the model may hold.
        persons: The persons behind the rows, where they are counted.
    """
    if has_tails(coder, protection):
        assert coder.ends is not None
        within = coder.precision.snap(np.array([coder.ends.low, coder.ends.high]))
        return float(within[0]), float(within[1])
    if persons is not None and persons.ends is not None and protection.clip and len(persons.ends.low):
        floor_and_ceiling = np.array(person_ends(persons.ends, protection))
        if coder.decimals is not None:
            floor_and_ceiling = np.round(floor_and_ceiling, coder.decimals)
        if needs_parsing(coder.column):
            floor_and_ceiling = coder.precision.snap(floor_and_ceiling)
        return float(floor_and_ceiling[0]), float(floor_and_ceiling[1])
    if isinstance(tally, NumberTally) and not needs_parsing(coder.column):
        low, high = (
            (axis_of_native(values, coder.column.value_type), count) for values, count in (tally.lowest, tally.highest)
        )
        if coder.decimals is not None:
            low, high = ((np.round(values, coder.decimals), count) for values, count in (low, high))
        return protected_ends(low, high, protection)
    # Only the histogram is known. A cell is represented by its middle, which is no row's value.
    ends = cells.lo if not protection.clip else 0.5 * cells.lo + 0.5 * cells.hi
    tops = cells.hi if not protection.clip else ends
    low_end, high_end = protected_ends((ends, cells.count), (tops, cells.count), protection)
    snapped = coder.precision.snap(np.array([low_end, high_end]))
    return float(snapped[0]), float(snapped[1])


def imputed(cells: Cells, missing: int, precision: Precision) -> Cells:
    """The cells, with ``missing`` rows added at their mean, as SDV fills in missing values."""
    if not missing:
        return cells
    mean = float(np.average(0.5 * (cells.lo + cells.hi), weights=cells.count))
    if grid_unit(precision):
        mean = float(precision.snap(np.array([mean]))[0])
    place = int(np.searchsorted(cells.lo, mean))
    return Cells(  # only a named distribution is fitted to them: their persons are not needed
        np.insert(cells.count, place, missing), np.insert(cells.lo, place, mean), np.insert(cells.hi, place, mean)
    )


def _atoms_at(cells: Cells, points: Floats, protection: Protection, absent: float) -> Marginal:
    """Atoms at ``points``, from the cells that are atoms with enough rows; they share the mass of all other cells."""
    atoms = (cells.lo == cells.hi) & (cells.count >= protection.min_count) & np.isin(cells.lo, points)
    atoms &= np.array([cells.of_enough(k, k + 1, protection.min_count) for k in range(len(atoms))], np.bool_)
    return atoms_marginal(cells.lo[atoms], cells.count[atoms], absent)
