"""Fit the rare classes of a column from the row sample, under the protections of ``columns.marginals``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.values import axis_of_native, decoded, without_view
from shardsynth.models.columns.column_options import EMPIRICAL
from shardsynth.models.columns.fit import OTHER
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Marginal
from shardsynth.models.columns.formulas import StepRelation
from shardsynth.models.columns.marginals import Cells, Protection, person_ends, protected_ends, protected_marginal
from shardsynth.models.columns.relations import FunctionRelation
from shardsynth.models.copula.classes import ClassesFit, ClassFit, conditional, distribution, points
from shardsynth.summaries.persons import NOBODY, Hashes, PersonCells, PersonEnds

Floats = NDArray[np.float64]

#: Largest share of a rare class; rows (or persons) of the sample that it needs, as a multiple of ``min_count``.
_LARGEST_SHARE, _LEAST = 0.05, 6
#: Most rare classes, the largest first.
_MOST_CLASSES = 8
#: A column is different in a class if this Kolmogorov-Smirnov statistic times sqrt(rows) is exceeded (level 1e-4).
_DIFFERENT = 2.2
#: Smallest probability of a category, or of an atom, in a class.
_LEAST_SHARE = 1e-6


def fit_classes(
    fit: CopulaFit, target: str, sample: pa.Table, coder: TableCoder, protection: Protection, persons: Hashes | None
) -> ClassesFit | None:
    """The rare classes of a target, with the columns that differ in them; None where there are none.

    Args:
        fit: The fitted copula.
        target: Name of a column.
        sample: Row sample of the training rows.
        coder: The codes of the columns.
        protection: What the model may hold.
        persons: uint64[rows of the sample], hashes of their persons; None: each row is a person of its own.
    """
    place = {column.name: i for i, column in enumerate(fit.columns)}
    latents = {latent.columns[0]: k for k, latent in enumerate(fit.latents) if latent.kind == "value"}
    if target not in place or place[target] not in latents or protection.min_count < 1:
        return None
    column = fit.columns[place[target]]
    if column.categories is None or column.marginal is None:
        return None
    lumps = {c.name: _lump(c, fit, coder, protection) for c in fit.columns if c.categories is not None}
    codes = _codes(column, sample[target], lumps[target])
    ends = np.concatenate([[0.0], column.marginal.cumulative])
    classes: list[ClassFit] = []
    largest_first = sorted(zip(column.marginal.probability.tolist(), column.marginal.lo.tolist()), reverse=True)
    for share, code in largest_first:
        rows = np.flatnonzero(codes == int(code))
        enough = len(rows) if persons is None else len(np.unique(persons[rows]))
        if share > _LARGEST_SHARE or enough < _LEAST * protection.min_count or len(classes) == _MOST_CLASSES:
            continue
        segment = int(np.flatnonzero(column.marginal.lo == code)[0])
        within = (float(ends[segment]), float(ends[segment + 1]))
        marginals: dict[int, Marginal] = {}
        own = sample.take(pa.array(rows))
        own_persons = None if persons is None else persons[rows]
        for index, latent in latents.items():
            other = fit.columns[index]
            empirical = other.distribution.get("distribution") in (EMPIRICAL, "categorical")
            if index == place[target] or other.marginal is None or other.treatment != "latent" or not empirical:
                continue
            correlation = float(fit.correlation[latents[place[target]], latent])
            learned = _marginal(other, own, coder, protection, own_persons, lumps.get(other.name, -1))
            if learned is not None and _differs(learned, other.marginal, enough, within, correlation):
                marginals[index] = learned
        if marginals:
            classes.append(ClassFit(int(code), float(share), marginals))
    changed = sorted({index for found in classes for index in found.marginals})
    others = np.flatnonzero(~np.isin(codes, [found.code for found in classes]))
    own, own_persons = sample.take(pa.array(others)), None if persons is None else persons[others]
    rest: dict[int, Marginal] = {}
    for index in changed:
        changed_column = fit.columns[index]
        learned = _marginal(changed_column, own, coder, protection, own_persons, lumps.get(changed_column.name, -1))
        if learned is None:
            return None
        rest[index] = learned
    return ClassesFit(place[target], tuple(classes), rest) if classes else None


def with_classes(
    fit: CopulaFit,
    refit: Callable[[Collection[str]], CopulaFit],
    target: str,
    sample: pa.Table,
    coder: TableCoder,
    protection: Protection,
    persons: Hashes | None,
) -> tuple[CopulaFit, ClassesFit | None]:
    """A fit with the rare classes of a target.

    A rare class that follows from a range of one number (frauds are the largest amounts) would leave nothing but this
    number to the other columns. Where it has enough rows, it is learned as a class instead, if that number is among the
    columns that differ in it.

    Args:
        fit: The fitted copula.
        refit: Fits it again, with these columns learned and not computed.
        target: As of ``fit_classes``, like the rest.
        sample: Row sample.
        coder: The codes.
        protection: What the model may hold.
        persons: Hashes of the persons of the sample.
    """
    for relation in fit.relations:
        if relation.name == target and isinstance(relation, StepRelation):
            other = refit([target])
            classes = fit_classes(other, target, sample, coder, protection, persons)
            parent = [column.name for column in other.columns].index(relation.parent.name)
            if classes is not None and all(parent in found.marginals for found in classes.classes):
                return other, classes
            return fit, None
    return fit, fit_classes(fit, target, sample, coder, protection, persons)


def _marginal(
    column: FittedColumn, rows: pa.Table, coder: TableCoder, protection: Protection, persons: Hashes | None, lump: int
) -> Marginal | None:
    """Quantile function of a column in a class; None where its rows are too few, or it cannot be one."""
    assert column.marginal is not None
    encoder = coder.columns[coder.index[column.name]]
    if column.categories is not None:
        return _category_marginal(column, rows[column.name], protection, persons, lump)
    values = _axis(encoder, rows[column.name])
    present = np.isfinite(values)
    if present.sum() < _LEAST * protection.min_count:
        return None
    values = values[present]
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
    if np.array_equal(column.marginal.lo, column.marginal.hi):  # other columns may be functions of these values
        return _atoms_of(column.marginal, distinct, counts, hashes, protection)
    learned = protected_marginal(
        Cells(counts.astype(np.int64), distinct, distinct, hashes),
        within,
        column.precision or encoder.precision,
        protection,
        column.marginal.p_missing,
    )
    return learned


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
    codes = _codes(column, array, lump)
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


def _axis(encoder: ColumnCoder, array: pa.ChunkedArray) -> Floats:
    """Axis values of a column, float64[n], NaN where missing."""
    native = encoder.native(decoded(array))
    assert native is not None
    values, nulls = native
    floats = axis_of_native(values, encoder.column.value_type)
    return floats if nulls is None else np.where(nulls, np.nan, floats)


def _differs(own: Marginal, whole: Marginal, rows: int, within: tuple[float, float], correlation: float) -> bool:
    """Whether a column's distribution in a class differs from the one that the Gaussian gives to the class."""
    from scipy.special import ndtri

    if own.kind == "category":
        steps, expected = own.cumulative, whole.cumulative
    else:
        places = np.unique(np.concatenate([own.lo, own.hi]))
        steps, expected = distribution(own, places), distribution(whole, places)
    quantiles = ndtri(np.clip(expected, 1e-15, 1 - 1e-15))
    given = np.interp(quantiles, points(), conditional(within, correlation))
    return bool(np.abs(steps - given).max() * np.sqrt(rows) > _DIFFERENT)


def _lump(column: FittedColumn, fit: CopulaFit, coder: TableCoder, protection: Protection) -> int:
    """Code of the category that stands for the rare ones of a column too (``fit.fit_category``); -1: there is none."""
    values, categories = coder.columns[coder.index[column.name]].values, column.categories
    assert values is not None and categories is not None
    names = categories.to_pylist()
    if OTHER not in names:
        return -1
    known = any(isinstance(x, FunctionRelation) and x.parent.name == column.name for x in fit.relations)
    added = OTHER not in values.to_pylist()
    return names.index(OTHER) if added or (protection.rare == "other" and not known) else -1


def _codes(column: FittedColumn, array: pa.ChunkedArray, lump: int) -> NDArray[np.int64]:
    """Code of each value among the categories of a column, int64[n]; ``lump`` where it has none, -1 where missing."""
    plain = without_view(decoded(array))
    assert column.categories is not None
    found = pc.fill_null(pc.index_in(plain, value_set=column.categories.cast(plain.type)), lump)
    missing = plain.is_null().to_numpy(zero_copy_only=False)
    return np.where(missing, -1, np.asarray(found.to_numpy(zero_copy_only=False), np.int64))
