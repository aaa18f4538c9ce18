"""Rare classes of a column, and another column's distribution in a class, under the protections of ``marginals``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.ends import EndRule
from shardsynth.data.values import axis_of_native, decoded, without_view
from shardsynth.models.columns.fit import OTHER, snapped_reach
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import Cells, Protection, person_ends, protected_ends, protected_marginal
from shardsynth.models.columns.relations import FunctionRelation, Relation
from shardsynth.models.columns.tails import with_tails
from shardsynth.summaries.persons import NOBODY, Hashes, PersonCells, PersonEnds

Floats = NDArray[np.float64]

#: Largest share of a rare class; rows (or persons) of the sample that it needs, as a multiple of ``min_count``.
_LARGEST_SHARE, _LEAST = 0.05, 6
#: Most rare classes, the largest first.
_MOST_CLASSES = 8
#: A column is different in a class if this Kolmogorov-Smirnov statistic times sqrt(rows) is exceeded (level 1e-4).
DIFFERENT = 2.2
#: Smallest probability of a category, or of an atom, in a class.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class RareClass:
    """A rare class of a column.

    Attributes:
        code: Its code in the categories of the column.
        share: Its share of the rows whose value is not missing.
        rows: int64[n], numbers of its rows in the sample.
        size: Its rows in the sample; its persons where these are counted.
    """

    code: int
    share: float
    rows: NDArray[np.int64]
    size: int


def rare_classes(
    column: FittedColumn, codes: NDArray[np.int64], protection: Protection, persons: Hashes | None
) -> list[RareClass]:
    """Rare classes of a column that have enough rows or persons, in the order of their size, the largest first.

    Args:
        column: A column of categories that is learned.
        codes: Codes of the sample, of ``class_codes``.
        protection: What the model may hold.
        persons: uint64[rows of the sample], hashes of their persons; None: each row is a person of its own.
    """
    assert column.marginal is not None
    found: list[RareClass] = []
    largest_first = sorted(zip(column.marginal.probability.tolist(), column.marginal.lo.tolist()), reverse=True)
    for share, code in largest_first:
        rows = np.flatnonzero(codes == int(code))
        size = len(rows) if persons is None else len(np.unique(persons[rows]))
        if share <= _LARGEST_SHARE and size >= _LEAST * protection.min_count and len(found) < _MOST_CLASSES:
            found.append(RareClass(int(code), float(share), rows, size))
    return found


def distribution(marginal: Marginal, points: Floats) -> Floats:
    """Distribution function of a quantile function at points, float64[n]; that of categories by their place."""
    width = marginal.hi - marginal.lo
    inside = (points[:, None] - marginal.lo[None, :]) / np.where(width > 0, width, 1.0)[None, :]
    step = points[:, None] >= marginal.lo[None, :]
    share = np.where(width[None, :] > 0, np.clip(inside, 0.0, 1.0), step)
    return np.asarray((share * marginal.probability[None, :]).sum(axis=1))


def differs(own: Marginal, whole: Marginal, rows: int) -> bool:
    """Whether a column's distribution in a class differs from that in the whole table.

    Args:
        own: In the class; categories and atoms stand in the order of ``whole``.
        whole: In the whole table.
        rows: Rows or persons of the class.
    """
    if len(own.lo) == len(whole.lo) and np.array_equal(own.lo, whole.lo):
        distance = np.abs(own.cumulative - whole.cumulative).max()
    else:
        places = np.unique(np.concatenate([own.lo, own.hi, whole.lo, whole.hi]))
        distance = np.abs(distribution(own, places) - distribution(whole, places)).max()
    return bool(distance * np.sqrt(rows) > DIFFERENT)


def class_marginal(
    column: FittedColumn, rows: pa.Table, coder: TableCoder, protection: Protection, persons: Hashes | None, lump: int
) -> Marginal | None:
    """Quantile function of a column in a class; None where its rows are too few, or it cannot be one.

    Args:
        column: The column in the whole table.
        rows: The rows of the class in the sample.
        coder: The codes of the columns.
        protection: What the model may hold.
        persons: Hashes of the rows' persons; None: each row is a person of its own.
        lump: Of ``lump_code``.
    """
    assert column.marginal is not None
    encoder = coder.columns[coder.index[column.name]]
    if column.categories is not None:
        return _category_marginal(column, rows[column.name], protection, persons, lump)
    values = _axis(encoder, rows[column.name])
    present = np.isfinite(values)
    if present.sum() < _LEAST * protection.min_count:
        return None
    values = values[present]
    of_atoms = np.array_equal(column.marginal.lo, column.marginal.hi)
    if column.marginal.ends is not None and not of_atoms:
        return _with_tails(column, encoder, values, None if persons is None else persons[present], protection)
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    hashes, least = None, protection.min_count
    if persons is not None:
        cells = PersonCells(len(distinct), least)
        cells.add(inverse.reshape(-1).astype(np.int64), persons[present])
        hashes = cells.hashes
        extremes = PersonEnds(least)
        extremes.add(values, persons[present])
        ends = person_ends(extremes, protection)
    else:
        ends = protected_ends((distinct, counts), (distinct, counts), protection)
    if not ends[0] <= ends[1]:
        return None
    within = (float(max(ends[0], column.marginal.lo[0])), float(min(ends[1], column.marginal.hi[-1])))
    if not within[0] < within[1]:
        return None
    if of_atoms:  # other columns may be functions of these values
        return _atoms_of(column.marginal, distinct, counts, hashes, protection)
    learned = protected_marginal(
        Cells(counts.astype(np.int64), distinct, distinct, hashes),
        within,
        column.precision or encoder.precision,
        protection,
        column.marginal.p_missing,
    )
    return learned


def _with_tails(
    column: FittedColumn, encoder: ColumnCoder, values: Floats, persons: Hashes | None, protection: Protection
) -> Marginal | None:
    """The same for a column with tails: those of the class reach no further than those of the column."""
    whole, precision = column.marginal, column.precision or encoder.precision
    assert whole is not None
    ends = EndRule(protection.rank).of_rows(column.name, values, persons)
    if ends is None:
        return None
    low, high = precision.snap(np.array([ends.low, ends.high]))
    within = (float(max(low, whole.lo[0])), float(min(high, whole.hi[-1])))
    if not within[0] < within[1]:
        return None
    inner = precision.snap(np.clip(values, low, high))
    distinct, inverse, counts = np.unique(inner, return_inverse=True, return_counts=True)
    hashes = None
    if persons is not None:
        own = PersonCells(len(distinct), protection.min_count)
        own.add(inverse.reshape(-1).astype(np.int64), persons)
        hashes = own.hashes
    cells = Cells(counts.astype(np.int64), distinct, distinct, hashes)
    bounds = snapped_reach(whole, precision)
    learned = with_tails(cells, ends, within, bounds, precision, protection, whole.p_missing)
    return replace(learned, ends=None)


def _atoms_of(
    whole: Marginal, values: Floats, counts: NDArray[Any], hashes: Hashes | None, protection: Protection
) -> Marginal | None:
    """The values of a column in a class, where the column has only some values."""
    place = np.clip(np.searchsorted(values, whole.lo), 0, len(values) - 1)
    held = np.where(values[place] == whole.lo, counts[place], 0).astype(np.float64)
    own = held if hashes is None else np.where(held > 0, (hashes[place] != NOBODY).sum(axis=1), 0)
    held = np.where(own >= protection.min_count, held, 0.0)
    if not held.any():
        return None
    share = np.maximum(held / held.sum(), _LEAST_SHARE)
    return replace(whole, probability=share / share.sum())


def _category_marginal(
    column: FittedColumn, array: pa.ChunkedArray, protection: Protection, persons: Hashes | None, lump: int
) -> Marginal | None:
    """Shares of the categories in a class, in the order of the column; those of few rows as in the whole table."""
    marginal = column.marginal
    assert marginal is not None and column.categories is not None
    codes = class_codes(column, array, lump)
    size = len(column.categories)
    counts = np.bincount(codes[codes >= 0], minlength=size)
    own = counts
    if persons is not None:
        own = np.array([len(np.unique(persons[codes == code])) if counts[code] else 0 for code in range(size)])
    if counts.sum() < _LEAST * protection.min_count:
        return None
    of_segment = marginal.lo.astype(np.int64)
    known = own[of_segment] >= protection.min_count
    share = np.where(known, counts[of_segment], 0.0) / counts.sum()
    rest = np.where(known, 0.0, marginal.probability)
    if rest.sum() > 0:
        share = share + (1.0 - share.sum()) * rest / rest.sum()
    share = np.maximum(share, _LEAST_SHARE)
    return replace(marginal, probability=share / share.sum())


def is_present(column: FittedColumn, array: pa.ChunkedArray, coder: TableCoder) -> NDArray[np.bool_]:
    """bool[n]: where a learned column has a value."""
    if column.categories is not None:
        plain = without_view(decoded(array))
        return ~np.asarray(plain.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    return np.isfinite(_axis(coder.columns[coder.index[column.name]], array))


def _axis(encoder: ColumnCoder, array: pa.ChunkedArray) -> Floats:
    """Axis values of a column, float64[n], NaN where missing."""
    native = encoder.native(decoded(array))
    assert native is not None
    values, nulls = native
    floats = axis_of_native(values, encoder.column.value_type)
    return floats if nulls is None else np.where(nulls, np.nan, floats)


def lump_code(column: FittedColumn, relations: Sequence[Relation], coder: TableCoder, protection: Protection) -> int:
    """Code of the category that stands for the rare ones of a column too (``fit.fit_category``); -1: there is none."""
    values, categories = coder.columns[coder.index[column.name]].values, column.categories
    assert values is not None and categories is not None
    names = categories.to_pylist()
    if OTHER not in names:
        return -1
    known = any(isinstance(x, FunctionRelation) and x.parent.name == column.name for x in relations)
    added = OTHER not in values.to_pylist()
    return names.index(OTHER) if added or (protection.rare == "other" and not known) else -1


def class_codes(column: FittedColumn, array: pa.ChunkedArray, lump: int) -> NDArray[np.int64]:
    """Code of each value among the categories of a column, int64[n]; ``lump`` where it has none, -1 where missing."""
    plain = without_view(decoded(array))
    assert column.categories is not None
    found = pc.fill_null(pc.index_in(plain, value_set=column.categories.cast(plain.type)), lump)
    missing = plain.is_null().to_numpy(zero_copy_only=False)
    return np.where(missing, -1, np.asarray(found.to_numpy(zero_copy_only=False), np.int64))
