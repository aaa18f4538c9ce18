"""The copula as stock SDV fits it, but from counts: the option ``encoding: sdv``, to compare the two.

SDV turns every column into one number. A category becomes a uniform draw from its interval of (0, 1); the intervals
stand in the order of first appearance, and missing is a category. A number stays, and a missing one becomes the mean
(in the output, an independent coin makes numbers missing again). Each column gets a named distribution. The
correlations are Pearson's, of the normal scores. Here the same is computed from histograms and pair tables, and the
values inside a coarse code are represented by their mean score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.coding import ColumnCoder, TableCoder
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.distributions import FAMILIES, distribution_functions, fit_family
from shardsynth.models.columns.fit import ColumnPersons, axis_cells, column_ends, fit_axis, has_tails, imputed
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.columns.marginals import Cells, kept_categories
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EPSILON = float(np.finfo(np.float32).eps)  # copulas clips probabilities so far from 0 and 1
_UNIT_CELLS = 256


def fit_like_sdv(profile: Profile, coder: TableCoder, counts: Counts, options: FitOptions) -> CopulaFit:
    """A copula with SDV's encoding of categories and missing values, named marginals and Pearson correlations.

    Args:
        profile: Merged, of the training rows; its sample gives the order of the categories.
        coder: Made from it, of at most 500 columns.
        counts: With pair tables.
        options: With ``encoding="sdv"``.

    Raises:
        ModelError: Too many columns for pair tables, or a category too rare for the protections.
    """
    if coder.wide:
        raise ModelError(f"encoding: sdv needs pair tables, which {len(coder.columns)} columns are too many for")
    fitted: dict[str, FittedColumn] = {}
    scores: dict[int, tuple[Floats, float, float]] = {}
    for i, column in enumerate(coder.columns):
        if counts.hist[i].sum() == 0 or (counts.hist[i][:-1].sum() == 0):
            continue
        if column.is_category:
            fitted[column.name], scores[i] = _category(column, counts, i, profile, options)
        else:
            fitted_column, _ = fit_axis(
                column,
                counts.hist[i],
                profile[column.name],
                options.protection,
                options.family(column.name),
                enforce=options.enforce_min_max,
                impute=True,
                persons=ColumnPersons.of(counts, i),
            )
            fitted[column.name] = fitted_column
            if fitted_column.treatment == "latent":
                scores[i] = _axis_scores(column, counts, i, profile, fitted_column, options)
    place = {c.name: i for i, c in enumerate(coder.table)}
    drawn = [i for i, c in enumerate(coder.columns) if c.name in fitted and fitted[c.name].treatment == "latent"]
    latents = [Latent("value", (place[coder.columns[i].name],)) for i in drawn]
    matrix = np.eye(len(drawn))
    for a, i in enumerate(drawn):
        for b in range(a):
            matrix[a, b] = matrix[b, a] = _pearson(counts.pair(i, drawn[b]), scores[i], scores[drawn[b]])
    # A number is missing by an independent coin: a latent of its own that nothing is correlated with.
    coins = [i for i in drawn if not coder.columns[i].is_category and counts.hist[i][-1] > 0]
    latents += [
        Latent("missing", (place[coder.columns[i].name],), float(counts.hist[i][-1] / counts.rows)) for i in coins
    ]
    full = np.eye(len(latents))
    full[: len(drawn), : len(drawn)] = nearest_correlation(matrix)
    columns = [
        fitted.get(c.name) or FittedColumn(c.name, c.role, c.role if c.role in ("id", "pii") else "empty")
        for c in coder.table
    ]
    return CopulaFit(columns, latents, full, [], ["encoded as stock SDV does"])


def _category(
    coder: ColumnCoder, counts: Counts, i: int, profile: Profile, options: FitOptions
) -> tuple[FittedColumn, tuple[Floats, float, float]]:
    """A category column as intervals of (0, 1), and its mean scores by coarse code, their mean and variance."""
    assert coder.values is not None
    if coder.other:
        raise ModelError(f"column {coder.name!r}: encoding: sdv cannot hold more than {len(coder.values)} categories")
    hist, persons = counts.hist[i], ColumnPersons.of(counts, i)
    keep = kept_categories(hist[:-1], options.protection, None if persons is None else persons.cells.persons[:-1])
    order = _order_of_appearance(coder, profile)
    codes = [c for c in order if c == coder.missing or keep[c]]
    if not keep.any():
        return FittedColumn(coder.name, "category", "empty", categories=coder.values[:0]), (np.zeros(0), 0.0, 1.0)
    rows = np.array([hist[c] for c in codes], dtype=np.float64)
    edges = np.concatenate([[0.0], np.cumsum(rows) / rows.sum()])
    edges[-1] = 1.0
    name = options.family(coder.name) if options.family(coder.name) in FAMILIES else "beta"
    distribution = _of_uniform(name)
    cdf, _ = distribution_functions(distribution)
    inner = cdf(edges[1:-1])
    share = np.diff(np.concatenate([[0.0], inner, [1.0]]))
    values = coder.values.filter(pa.array(keep))
    index = np.cumsum(keep) - 1
    segment = np.array([-1 if c == coder.missing else index[c] for c in codes], dtype=np.float64)
    marginal = Marginal("category", share, segment, segment, 0.0)
    treatment = "constant" if len(codes) == 1 else "latent"
    column = FittedColumn(
        coder.name, "category", treatment, marginal, values, coder.precision, coder.emit_nan, distribution
    )
    # Normal scores of a uniform draw from each interval: mean by fine code, then by coarse code.
    mean, mean_square = _interval_scores(edges, distribution)
    fine = np.zeros(coder.n_codes)
    fine[codes] = mean
    centre = float(rows @ mean / rows.sum())
    variance = float(rows @ mean_square / rows.sum()) - centre**2
    return column, (_coarse_mean(coder, hist, fine), centre, variance)


def _order_of_appearance(coder: ColumnCoder, profile: Profile) -> list[int]:
    """Codes, missing included, in the order in which they appear in the row sample; the others last."""
    column = profile.sample.column(coder.name)
    assert coder.values is not None
    categories = pc.unique(column)
    codes = pc.index_in(categories, value_set=coder.values.cast(categories.type)).to_pylist()
    missing = categories.is_null(nan_is_null=True).to_pylist()
    in_sample = [coder.missing if gone else code for code, gone in zip(codes, missing) if gone or code is not None]
    in_sample = list(dict.fromkeys(in_sample))
    rest = [c for c in range(coder.n_codes) if c not in set(in_sample) and coder.mass[c] > 0]
    return in_sample + rest


def _of_uniform(name: str) -> dict[str, Any]:
    """The named distribution of numbers that are uniform on (0, 1)."""
    exact = {
        "beta": {"a": 1.0, "b": 1.0, "loc": 0.0, "scale": 1.0},
        "uniform": {"loc": 0.0, "scale": 1.0},
        "norm": {"loc": 0.5, "scale": float(np.sqrt(1 / 12))},
    }
    if name in exact:
        return {"distribution": name, "learned_parameters": exact[name]}
    grid = np.arange(_UNIT_CELLS, dtype=np.float64) / _UNIT_CELLS
    cells = Cells(np.full(_UNIT_CELLS, 1000, dtype=np.int64), grid, grid + 1 / _UNIT_CELLS)
    return fit_family(name, cells, (0.0, 1.0), Precision("float"))


def _interval_scores(edges: Floats, distribution: dict[str, Any]) -> tuple[Floats, Floats]:
    """Mean and mean square of the normal score of a uniform draw between neighbouring edges."""
    points, weights = np.polynomial.legendre.leggauss(32)
    x = 0.5 * (edges[1:] + edges[:-1])[:, None] + 0.5 * np.diff(edges)[:, None] * points
    z = _normal(distribution, x)
    return np.asarray(z @ weights / 2), np.asarray(z**2 @ weights / 2)


def _normal(distribution: dict[str, Any], x: Floats) -> Floats:
    from scipy.special import ndtri

    cdf, _ = distribution_functions(distribution)
    return np.asarray(ndtri(np.clip(cdf(x), _EPSILON, 1 - _EPSILON)))


def _axis_scores(
    coder: ColumnCoder, counts: Counts, i: int, profile: Profile, column: FittedColumn, options: FitOptions
) -> tuple[Floats, float, float]:
    """Mean normal score by coarse code, with missing at the mean, and mean and variance of the scores."""
    hist = counts.hist[i]
    if has_tails(coder, options.protection):
        hist = coder.within_ends(hist)
    cells = axis_cells(coder, hist, options.protection)
    ends = column_ends(coder, cells, profile[coder.name], options.protection, ColumnPersons.of(counts, i))
    used = np.flatnonzero(hist[:-1] > 0)
    middle = np.clip(0.5 * (cells.lo + cells.hi), *ends)
    filled = imputed(cells, 1, coder.precision)
    mean = float(np.average(0.5 * (filled.lo + filled.hi), weights=filled.count))
    fine = np.zeros(coder.n_codes)
    distribution = column.distribution
    if distribution["distribution"] not in FAMILIES:  # one value, and missing ones
        return np.zeros(coder.n_coarse), 0.0, 1.0
    fine[used] = _normal(distribution, middle)
    fine[-1] = _normal(distribution, np.array([mean]))[0]
    centre = float(hist @ fine / hist.sum())
    variance = float(hist @ (fine - centre) ** 2 / hist.sum())
    coarse = _coarse_mean(coder, hist, fine)
    # The values inside a coarse code are represented by their mean: their spread must not count as noise.
    rows = np.bincount(coder.coarse, weights=hist, minlength=coder.n_coarse)
    between = float(rows @ (coarse - centre) ** 2 / rows.sum())
    return coarse, centre, min(variance, between) or 1.0


def _coarse_mean(coder: ColumnCoder, hist: Integers, fine: Floats) -> Floats:
    rows = np.bincount(coder.coarse, weights=hist, minlength=coder.n_coarse)
    total = np.bincount(coder.coarse, weights=hist * fine, minlength=coder.n_coarse)
    return np.asarray(total / np.maximum(rows, 1.0))


def _pearson(table: Integers, left: tuple[Floats, float, float], right: tuple[Floats, float, float]) -> float:
    """Pearson correlation of normal scores, from a table of coarse codes.

    ``left`` and ``right`` are scores by coarse code, their mean and their variance.
    """
    share = table / max(int(table.sum()), 1)
    covariance = float((left[0] - left[1]) @ share @ (right[0] - right[1]))
    return float(np.clip(covariance / np.sqrt(max(left[2] * right[2], 1e-12)), -1.0, 1.0))
