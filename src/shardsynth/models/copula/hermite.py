"""Latent correlations of wide tables from one Gram matrix of normal scores.

A column's normal score is a step function s(z) of its latent z. Expanded in orthonormal Hermite polynomials, s =
sum_k c_k h_k, two columns with latent correlation r have E[s_a s_b] = sum_k c_ak c_bk r^k (Mehler's formula). Plain
normal scores stop at k = 1 with c_1 = 1. This is wrong for zero-inflated columns: at 80 % zeros, a latent correlation
of 0.70 is estimated as 0.54. Here the polynomial is solved for r, for all pairs at once. The prior of ``dependence``
draws the estimates towards 0. Common factors are fitted to them, or they are moved to a positive definite matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.column_codes import SCORE_STEP
from shardsynth.models.copula.dependence import PRIOR_SD, polychoric
from shardsynth.models.copula.factor_analysis import factor_analysis, joined
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.summaries.counts import Counts

if TYPE_CHECKING:
    from shardsynth.models.copula.latents import Dimension

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Terms of the expansion.
TERMS = 24
_LIMIT = 0.98
_BLOCK = 128
_STEPS = 8


def hermite_coefficients(mass: Integers, scores: Floats, terms: int = TERMS) -> Floats:
    """Coefficients of a score as a function of its latent.

    Args:
        mass: int64[n], rows of each code in latent order.
        scores: float64[n], score of each code.
        terms: Number of polynomials, from h_1.

    Returns:
        float64[terms]: c_k = E[s(z) h_k(z)], from  int_a^b He_k phi = He_{k-1}(a) phi(a) - He_{k-1}(b) phi(b).
    """
    from scipy.special import ndtri

    inner = ndtri(np.clip(np.cumsum(mass)[:-1] / mass.sum(), 1e-12, 1 - 1e-12))
    density = np.exp(-0.5 * inner**2) / np.sqrt(2 * np.pi)
    steps = np.diff(scores)  # s jumps by so much at each threshold
    before, current = np.zeros_like(inner), np.ones_like(inner)  # h_{-1}, h_0
    coefficients = np.empty(terms)
    for k in range(1, terms + 1):
        coefficients[k - 1] = steps @ (current * density) / np.sqrt(k)
        before, current = current, (inner * current - np.sqrt(k - 1) * before) / np.sqrt(k)
    return coefficients


def solve_correlations(moments: Floats, coefficients: Floats, rows: Floats | float) -> Floats:
    """Latent correlations of all pairs.

    Args:
        moments: float64[d, d], E[s_a s_b] over rows where both are present.
        coefficients: float64[d, terms].
        rows: Number of rows of each moment, one number or float64[d, d]; the more rows, the less the prior counts.

    Returns:
        float64[d, d]: modes of atanh r under the moments' likelihood and the prior; diagonal 1.
    """
    d = len(moments)
    result = np.eye(d)
    size = np.broadcast_to(np.asarray(rows, dtype=np.float64), (d, d))
    spread = (coefficients**2).sum(axis=1)
    for start in range(0, d, _BLOCK):
        stop = min(start + _BLOCK, d)
        # Columns from ``start`` on are enough: the matrix is symmetric.
        block = _solve(
            moments[start:stop, start:],
            coefficients[start:stop],
            coefficients[start:],
            np.outer(spread[start:stop], spread[start:]),
            size[start:stop, start:],
        )
        result[start:stop, start:] = block
        result[start:, start:stop] = block.T
    np.fill_diagonal(result, 1.0)
    return result


def sampling_errors(correlations: Floats, coefficients: Floats, rows: Floats | float) -> Floats:
    """Standard errors of latent correlations from ``solve_correlations``.

    Args:
        correlations: float64[d, d], as solved.
        coefficients: float64[d, terms].
        rows: Number of rows of each moment, one number or float64[d, d].

    Returns:
        float64[d, d]: of atanh r its information under the moments' likelihood, times 1 - r^2; the prior makes them
        smaller. The diagonal is 1.
    """
    size = np.broadcast_to(np.asarray(rows, dtype=np.float64), correlations.shape)
    spread = np.maximum((coefficients**2).sum(axis=1), 1e-12)
    errors = np.empty_like(correlations)
    for start in range(0, len(errors), _BLOCK):
        part = slice(start, start + _BLOCK)
        r = correlations[part]
        _, gradient = _polynomial(r, coefficients[part], coefficients)
        root = np.sqrt(size[part] / np.outer(spread[part], spread)) * np.abs(gradient) * (1.0 - r * r)
        errors[part] = root / (root**2 + PRIOR_SD**-2) * (1.0 - r * r)
    np.fill_diagonal(errors, 1.0)
    return np.maximum(errors, 1e-9)


def _solve(moments: Floats, left: Floats, right: Floats, variance: Floats, rows: Floats) -> Floats:
    """Minimise n (m - f(r))^2 / (2 v) + t^2 / (2 sd^2) by Gauss-Newton on t = atanh r."""
    slope = np.outer(left[:, 0], right[:, 0])
    t = np.arctanh(np.clip(moments / np.where(np.abs(slope) > 1e-12, slope, 1e-12), -0.9, 0.9))
    top = float(np.arctanh(_LIMIT))
    weight = rows / np.maximum(variance, 1e-12)
    for step in range(_STEPS):
        r = np.tanh(t)
        value, gradient = _polynomial(r, left, right)
        gradient *= 1.0 - r * r
        # dE/dr > 0 for increasing scores (Price's theorem), but the derivative of the cut series may be negative near
        # -1.
        gradient = np.maximum(gradient, 1e-6 * slope)
        change = weight * gradient * (moments - value) - t / PRIOR_SD**2
        change /= weight * gradient**2 + PRIOR_SD**-2
        limit = 0.8 if step < 3 else 0.3
        t = np.clip(t + np.clip(change, -limit, limit), -top, top)
    return np.tanh(t)


def _polynomial(r: Floats, left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """sum_k c_ak c_bk r^k and its derivative, by Horner's rule."""
    value, gradient = np.zeros_like(r), np.zeros_like(r)
    for k in range(left.shape[1] - 1, -1, -1):
        gradient = gradient * r + value
        value = value * r + np.outer(left[:, k], right[:, k])
    # value holds sum_k c_k r^(k-1): multiply by r once more.
    return value * r, gradient * r + value


@dataclass(frozen=True)
class WideCorrelation:
    """Correlations of the latents of a wide table.

    Attributes:
        matrix: float64[d, d], positive definite, unit diagonal.
        moved: Largest difference from the estimate of a pair.
        loadings: float64[d, r], whose products are the matrix off its diagonal; None: it is not of few factors.
    """

    matrix: Floats
    moved: float
    loadings: Floats | None = None


def gram_correlation(counts: Counts, dimensions: Sequence[Dimension]) -> WideCorrelation:
    """Correlations of the latents of a wide table.

    Value latents come from the Gram matrix of normal scores, missing latents from the joint missing counts; a
    value and a missing latent are taken as independent. Common factors take the place of the pairs' estimates where
    they are these to within their sampling errors (see ``factor_analysis``).

    Args:
        counts: Above 500 columns.
        dimensions: The latents, values first.
    """
    assert counts.scores is not None and counts.score_sums is not None
    values = [d.columns[0] for d in dimensions if d.kind == "value"]
    absent = [d.columns[0] for d in dimensions if d.kind == "missing"]
    target = np.eye(len(dimensions))
    parts: list[Floats | None] = []
    if values:
        rows_together = _rows_together(counts, values)
        moments = counts.scores[np.ix_(values, values)] * SCORE_STEP**2 / np.maximum(rows_together, 1.0)
        columns = [counts.coder.columns[i] for i in values]
        coefficients = np.stack(
            [hermite_coefficients(counts.hist[i][:-1], c.scores[:-1]) for i, c in zip(values, columns)]
        )
        solved = solve_correlations(moments, coefficients, rows_together)
        target[: len(values), : len(values)] = solved
        errors = sampling_errors(solved, coefficients, rows_together)
        parts.append(factor_analysis(solved, errors, float(np.median(rows_together))))
    if absent:
        solved, errors = _missing_correlation(counts, absent)
        target[len(values) :, len(values) :] = solved
        parts.append(factor_analysis(solved, errors, counts.rows))
    loadings = joined(parts)
    if loadings is None:
        matrix = nearest_correlation(target)
    else:
        matrix = loadings @ loadings.T
        np.fill_diagonal(matrix, 1.0)
    return WideCorrelation(matrix, float(np.abs(matrix - target).max(initial=0.0)), loadings)


def _rows_together(counts: Counts, columns: Sequence[int]) -> Floats:
    """float64[d, d]: about how many rows of the Gram matrix have values in both columns."""
    d = len(columns)
    missing = np.zeros((d, d))
    place = {c: k for k, c in enumerate(counts.coder.missing_columns)}
    missing_rows = np.array([counts.hist[i][-1] for i in columns], dtype=np.float64)
    with_missing = [k for k, i in enumerate(columns) if i in place]
    if with_missing:
        index = [place[columns[k]] for k in with_missing]
        missing[np.ix_(with_missing, with_missing)] = counts.missing_gram[np.ix_(index, index)]
    both = counts.rows - missing_rows[:, None] - missing_rows[None, :] + missing
    return np.asarray(both * (counts.fit_rows / max(counts.rows, 1)))


def _missing_correlation(counts: Counts, columns: Sequence[int]) -> tuple[Floats, Floats]:
    """Tetrachoric correlations of the missing indicators from joint missing counts, and their errors: float64[d, d]."""
    place = {c: k for k, c in enumerate(counts.coder.missing_columns)}
    index = [place[i] for i in columns]
    both = counts.missing_gram[np.ix_(index, index)]
    missing_rows, d = np.diag(both), len(columns)
    rows, cols = np.tril_indices(d, -1)
    tables = np.empty((len(rows), 2, 2), dtype=np.int64)
    tables[:, 1, 1] = both[rows, cols]
    tables[:, 1, 0] = missing_rows[rows] - tables[:, 1, 1]
    tables[:, 0, 1] = missing_rows[cols] - tables[:, 1, 1]
    tables[:, 0, 0] = counts.rows - tables[:, 1].sum(axis=1) - tables[:, 0, 1]
    matrix, errors = np.eye(d), np.ones((d, d))
    found = polychoric(list(tables))
    matrix[rows, cols] = matrix[cols, rows] = found.correlation
    root = np.sqrt(found.information) * (1.0 - found.correlation**2)
    error = root / (root**2 + PRIOR_SD**-2) * (1.0 - found.correlation**2)
    errors[rows, cols] = errors[cols, rows] = np.maximum(error, 1e-9)
    return matrix, errors
