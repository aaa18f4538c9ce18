"""Factor analysis of the correlations of a wide table: R = L L' + D where this is R to within its sampling errors.

The correlations of thousands of columns are estimates, each with its error. Few common factors often give them all to
within these errors; they are the better estimate then, and rows are drawn from them many times faster. The loadings
minimise the sum of squared standardised residuals off the diagonal, by principal factors with iterated communalities
(Harman 1976, chapters 8 and 9). A pair that the common factors miss gets a factor of its own. The least number of
factors that passes is taken; where none does, the matrix stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Numbers of factors that are tried, as long as they are at most this share of the latents.
RANKS = (8, 16, 32, 64, 128, 256, 512)
MOST = 1 / 8
#: Largest mean square of the standardised residuals: it is 1 if nothing but the rows' chance is left, and 1.25 if what
#: is missed is half as large as that. A standard error counts as at least ``LEAST_ERROR``.
MEAN_SQUARE, LEAST_ERROR = 1.25, 0.005
#: A pair is missed by the common factors from so many standard errors on.
MISSED = 6.0
#: Fewer latents than this need no factors.
_SMALL = 64
_LIMIT = 1.0 - 1e-4  # largest communality
_ITERATIONS = 60
_SPARE = 8  # columns of the subspace iteration beyond the rank


def factor_analysis(correlation: Floats, error: Floats, rows: float) -> Floats | None:
    """Loadings of a correlation matrix.

    Args:
        correlation: float64[d, d], estimates; need not be positive semi-definite.
        error: float64[d, d], the standard errors they would have if nothing else were known.
        rows: Number of rows from which they were estimated.

    Returns:
        float64[d, r], rows of length below 1: ``loadings @ loadings'`` is the matrix off its diagonal to within its
        errors; None: that would need more than an eighth of d factors.
    """
    size = len(correlation)
    if size <= _SMALL:
        return _root(correlation)
    precision = 1.0 / error
    np.fill_diagonal(precision, 0.0)
    scale = precision.sum(axis=1) / np.sqrt(precision.sum())  # 1 / error_ij is about scale_i scale_j
    target = correlation * np.outer(scale, scale)
    np.fill_diagonal(target, 0.0)
    start = np.random.default_rng(0).standard_normal((size, RANKS[-1] + _SPARE))
    for rank in RANKS:
        if rank > size * MOST:
            return None
        scaled = _principal_factors(target, scale**2, start[:, : rank + _SPARE], rank)
        # Given the factors, only what is unique to two columns scatters: their errors are smaller by that.
        unique = np.maximum(1.0 - (scaled**2).sum(axis=1) / np.sqrt(rows), 0.01)
        left = np.maximum(error * np.sqrt(np.outer(unique, unique)), LEAST_ERROR)
        loadings = _with_pairs(scaled / scale[:, None], correlation, left, int(size * MOST) - rank)
        if loadings is not None:
            return loadings
    return None


def joined(parts: Sequence[Floats | None]) -> Floats | None:
    """Loadings of latents of which each part is independent of the others; None where one has none."""
    if not parts or any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    whole = np.zeros((sum(len(p) for p in known), sum(p.shape[1] for p in known)))
    row = column = 0
    for part in known:
        whole[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
    return whole


def _root(correlation: Floats) -> Floats:
    """Loadings of a few latents, whose correlations need no analysis: float64[d, d]."""
    from shardsynth.models.copula.nearest import nearest_correlation

    return np.asarray(np.linalg.cholesky(nearest_correlation(correlation)) * np.sqrt(_LIMIT))


def _principal_factors(target: Floats, variance: Floats, basis: Floats, rank: int) -> Floats:
    """Loadings float64[d, rank] of a scaled matrix whose diagonal is not known."""
    communality, roots = np.zeros(len(target)), np.zeros(rank)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(target @ basis + communality[:, None] * basis)
        inner = basis.T @ (target @ basis + communality[:, None] * basis)
        found, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
        basis = basis @ vectors[:, ::-1]
        before, roots = roots, np.maximum(found[::-1][:rank], 0.0)
        loadings = basis[:, :rank] * np.sqrt(roots)
        communality = (loadings**2).sum(axis=1)
        shrink = np.minimum(1.0, _LIMIT * variance / np.maximum(communality, 1e-300))
        loadings, communality = loadings * np.sqrt(shrink)[:, None], communality * shrink
        if np.abs(roots - before).max() < 1e-3 * roots.max(initial=1e-300):
            break
    return np.asarray(loadings)


def _with_pairs(loadings: Floats, correlation: Floats, error: Floats, most: int) -> Floats | None:
    """The loadings with a factor for each pair that they miss; None where the result does not fit."""
    residual = correlation - loadings @ loadings.T
    np.fill_diagonal(residual, 0.0)
    standard = np.abs(residual) / error
    missed = standard > MISSED
    pairs = np.argwhere(np.triu(missed))
    mean_square = float(np.square(standard[~missed]).sum()) / (len(residual) * (len(residual) - 1))
    if mean_square > MEAN_SQUARE or len(pairs) > most:
        return None
    unique = np.sqrt(1.0 - (loadings**2).sum(axis=1))
    own = np.zeros((len(loadings), len(pairs)))
    for number, (i, j) in enumerate(pairs):
        size = np.sqrt(abs(residual[i, j]) / (unique[i] * unique[j]))  # each column gives the same share of its own
        own[i, number], own[j, number] = size * unique[i], np.copysign(size * unique[j], residual[i, j])
    whole = np.concatenate([loadings, own], axis=1)
    return whole if ((whole**2).sum(axis=1) <= _LIMIT + 1e-9).all() else None
