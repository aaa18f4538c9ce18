"""Fitting one column: from its histogram to the ``FittedColumn`` that a model holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Union

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder
from shardsynth.data.values import Precision, axis_of_native, needs_parsing
from shardsynth.errors import JobError, ModelError
from shardsynth.models.columns.asked import EMPIRICAL, Asked
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
    protected_ends,
    protected_marginal,
)
from shardsynth.models.columns.transform import Transform
from shardsynth.summaries.tally import NumberTally
from shardsynth.summaries.text import TextTally

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Tally = Union[NumberTally, TextTally]

_OTHER = "other"


def fit_category(
    coder: ColumnCoder,
    hist: Integers,
    rank: Integers,
    protection: Protection,
    known: Sequence[Any] | None = None,
    nullable: bool = True,
) -> tuple[FittedColumn, list[str]]:
    """A category column under the protections.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        rank: int64[coarse codes without missing], place of each coarse code along the latent.
        protection: The rules.
        known: Only these values may be kept (a column that others are a function of); None: any.
        nullable: Whether the column's field may hold nulls.

    Returns:
        The column (``latent``, ``constant`` or ``empty``), and notes.
    """
    assert coder.values is not None
    size = len(coder.values)
    count, rows = hist[:size], int(hist.sum())
    keep = kept_categories(count, protection)
    if known is not None:
        allowed = set(known)
        keep &= np.array([v in allowed for v in coder.values.to_pylist()], dtype=bool)
    text = pa.types.is_string(coder.values.type) or pa.types.is_large_string(coder.values.type)
    rest = int(hist[:-1].sum() - count[keep].sum())
    notes = [f"column {coder.name!r}: {int((~keep & (count > 0)).sum())} rare categories left out"] if rest else []
    values, kept = coder.values.filter(pa.array(keep)), count[keep].astype(np.int64)
    place = rank[coder.coarse[:-1].astype(np.int64)][:size][keep]
    must_write = not keep.any() and not nullable
    if rest and text and known is None and (protection.rare == "other" or must_write):
        values, kept, place = _with_other(values, kept, place, rest)
    absent = float(hist[-1] / rows) if rows else 1.0
    base = FittedColumn(coder.name, coder.column.role, "empty", None, values, coder.precision, coder.emit_nan)
    if not len(kept):
        if not nullable:
            raise ModelError(
                f"column {coder.name!r}: every one of its {size} categories is seen on fewer than "
                f"{protection.min_count} rows, and it cannot be null; call it an id in the metadata, or set rare: "
                "{as: keep}"
            )
        return base, [*notes, f"column {coder.name!r}: nothing but rare categories, written as missing"]
    order = np.lexsort((np.arange(len(kept)), place)).astype(np.int64)
    marginal = category_marginal(kept, order, absent)
    treatment = "constant" if len(kept) == 1 and absent == 0 else "latent"
    distribution = {"distribution": "categorical", "learned_parameters": {"categories": len(kept)}}
    return replace(base, treatment=treatment, marginal=marginal, distribution=distribution), notes


def _with_other(values: pa.Array, count: Integers, place: Integers, rest: int) -> tuple[pa.Array, Integers, Integers]:
    """The categories with one more that stands for all rare ones (or with their rows on the one of that name)."""
    names = values.to_pylist()
    if _OTHER in names:
        count = count.copy()
        count[names.index(_OTHER)] += rest
        return values, count, place
    middle = int(np.median(place)) if len(place) else 0
    more = pa.concat_arrays([values, pa.array([_OTHER], values.type)])
    return more, np.append(count, rest), np.append(place, middle)


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
    asked: Asked | None = None,
) -> tuple[FittedColumn, list[str]]:
    """A column of numbers or instants under the protections.

    Args:
        coder: The column's coder.
        hist: int64[n_codes], rows by fine code, missing last.
        tally: What the profile counted of it: its extremes.
        protection: The rules.
        family: ``empirical``, or one of SDV's names.
        enforce: Named distributions are clipped to the ends.
        points: Only these values may occur, each on its own (a column that others are a function of).
        impute: Fit a named distribution with missing values counted at the mean, as SDV does.
        asked: What the user asks of the column.

    Returns:
        The column (``latent``, ``constant`` or ``empty``), and notes.

    Raises:
        JobError: No value lies between the ends that are asked, or a value has no transformed value.
    """
    asked = _on_grid(asked or Asked(), coder.precision)
    rows, present = int(hist.sum()), int(hist[:-1].sum())
    absent = float(hist[-1] / rows) if rows else 1.0
    base = FittedColumn(coder.name, coder.column.role, "empty", None, None, coder.precision, coder.emit_nan)
    if present == 0:
        return base, []
    if present < protection.min_count:
        return base, [f"column {coder.name!r}: {present} values are too few to learn from, written as missing"]
    cells = cells_of_histogram(hist[:-1], coder.cuts, coder.low, coder.high, coder.precision)
    ends = column_ends(coder, cells, tally, protection)
    inner = _asked_ends(coder.name, ends, asked)
    if asked.places is not None:
        base = replace(base, precision=Precision("decimal", digits=asked.places))
    if points is not None:
        within = [
            p for p in points if (asked.low is None or p >= asked.low) and (asked.high is None or p <= asked.high)
        ]
        marginal = _points(cells, np.asarray(within, dtype=np.float64), protection, absent)
    elif family == EMPIRICAL or inner[0] == inner[1]:
        marginal = protected_marginal(cells, inner, coder.precision, protection, absent)
    else:
        used = imputed(cells, int(hist[-1]), coder.precision) if impute else cells
        support = (ends[0] if asked.low is None else asked.low, ends[1] if asked.high is None else asked.high)
        known = None if asked.low is None and asked.high is None else support
        if asked.transform is not None:
            _check_transform(coder, cells, asked.transform)
        distribution = fit_family(family, used, inner, coder.precision, known, asked.transform)
        clip = enforce if asked.enforce is None else asked.enforce
        precision = base.precision if asked.places is not None else coder.precision
        marginal = family_marginal(distribution, support, precision or Precision(), absent, clip=clip)
        return replace(base, treatment="latent", marginal=marginal, distribution=distribution), []
    if asked.places is not None and base.precision is not None:
        atoms = marginal.lo == marginal.hi
        lo, hi = (np.where(atoms, base.precision.snap(edge), edge) for edge in (marginal.lo, marginal.hi))
        marginal = replace(marginal, lo=lo, hi=hi)
    only = len(marginal.lo) == 1 and marginal.lo[0] == marginal.hi[0]
    return replace(
        base,
        treatment="constant" if only and absent == 0 else "latent",
        marginal=marginal,
        distribution={"distribution": EMPIRICAL, "learned_parameters": {"segments": len(marginal.lo)}},
    ), []


def _on_grid(asked: Asked, precision: Precision) -> Asked:
    """The ends that are asked, moved inwards to the grid on which the values are rounded."""
    grid = precision if asked.places is None else Precision("decimal", digits=asked.places)
    unit = grid_unit(grid)
    low, high = (None if end is None else float(grid.snap(np.array([end]))[0]) for end in (asked.low, asked.high))
    if low is not None and asked.low is not None and low < asked.low:
        low += unit
    if high is not None and asked.high is not None and high > asked.high:
        high -= unit
    return asked.model_copy(update={"low": low, "high": high})


def _asked_ends(name: str, ends: tuple[float, float], asked: Asked) -> tuple[float, float]:
    """The protected ends, within those that are asked."""
    low = ends[0] if asked.low is None else max(ends[0], asked.low)
    high = ends[1] if asked.high is None else min(ends[1], asked.high)
    if low > high:
        raise JobError(f"columns.{name}: no value of the column lies between the min and max that are asked")
    return low, high


def _check_transform(coder: ColumnCoder, cells: Cells, transform: Transform) -> None:
    wrong = transform.refuses(cells.lo, cells.hi, grid=grid_unit(coder.precision) > 0)
    if wrong.any():
        wanted = (
            f"above {transform.base:g}" if transform.name == "log" else f"in {transform.base:g} to {transform.top:g}"
        )
        raise JobError(
            f"columns.{coder.name}.transform: {transform.name} needs values {wanted}; about "
            f"{int(cells.count[wrong].sum())} rows have others: give another min or max, or leave the transform out"
        )


def column_ends(coder: ColumnCoder, cells: Cells, tally: Tally, protection: Protection) -> tuple[float, float]:
    """The two values that the marginal of an axis may not go beyond."""
    if isinstance(tally, NumberTally) and not needs_parsing(coder.column):
        low, high = (
            (axis_of_native(values, coder.column.value_type), count) for values, count in (tally.lowest, tally.highest)
        )
        if coder.decimals is not None:
            low, high = ((np.round(values, coder.decimals), count) for values, count in (low, high))
        return protected_ends(low, high, protection)
    # Only the histogram is known: a cell is represented by its middle, which is nobody's value.
    ends = cells.lo if not protection.clip else 0.5 * (cells.lo + cells.hi)
    tops = cells.hi if not protection.clip else ends
    low_end, high_end = protected_ends((ends, cells.count), (tops, cells.count), protection)
    snapped = coder.precision.snap(np.array([low_end, high_end]))
    return float(snapped[0]), float(snapped[1])


def imputed(cells: Cells, missing: int, precision: Precision) -> Cells:
    """The cells with the missing rows counted at the mean."""
    if not missing:
        return cells
    mean = float(np.average(0.5 * (cells.lo + cells.hi), weights=cells.count))
    if grid_unit(precision):
        mean = float(precision.snap(np.array([mean]))[0])
    place = int(np.searchsorted(cells.lo, mean))
    return Cells(
        np.insert(cells.count, place, missing), np.insert(cells.lo, place, mean), np.insert(cells.hi, place, mean)
    )


def _points(cells: Cells, points: Floats, protection: Protection, absent: float) -> Marginal:
    """Atoms at the given points, from cells that are atoms; other mass goes to the rest."""
    atoms = (cells.lo == cells.hi) & (cells.count >= protection.min_count) & np.isin(cells.lo, points)
    return atoms_marginal(cells.lo[atoms], cells.count[atoms], absent)
