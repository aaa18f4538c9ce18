"""Latent correlations of all column pairs at once: penalised polychoric maximum likelihood in NumPy.

A pair of columns is a contingency table of ordered codes. Its cells are rectangles of a bivariate
normal with correlation r, cut at the normal quantiles of the table's own margins (the two-step
estimator of Olsson 1979). Cell probabilities come from Plackett's identity dPhi2/dr = phi2, integrated by
Gauss-Legendre along r = tanh t, where the integrand has the same width whatever r is. Fisher scoring runs on t, in
which the weak prior t ~ N(0, 0.5^2) keeps tables with an empty cell away from +-1. Later iterations integrate over
their step only, so that each costs a third of the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Standard deviation of the prior on atanh r.
PRIOR_SD = 0.5
#: |atanh r| never goes beyond this: |r| <= 0.9993.
LIMIT = 4.0
_FAR = 12.0  # threshold that stands for infinity: Phi(-12) < 2e-33
_FLOOR = 1e-12  # smallest probability of a cell
_FIRST_NODES = 14
_STEP_NODES = 4
_ITERATIONS = 6
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Association:
    """Latent correlation of each pair of columns, estimated from its table.

    Attributes:
        correlation: Posterior mode of r, one per table.
        information: Fisher information about r at the mode, in 1 / r^2, of the table alone (without the prior).
    """

    correlation: Floats
    information: Floats


def polychoric(tables: Sequence[NDArray[np.int64]], prior_sd: float = PRIOR_SD) -> Association:
    """Latent correlation of each contingency table.

    Args:
        tables: One integer table per pair, rows and columns in latent order; shapes may differ. Rows and columns may
            be empty. A table with a single row or column of counts gives r = 0 and no information.
        prior_sd: Standard deviation of the normal prior on atanh r; ``inf`` for plain maximum likelihood.

    Returns:
        Correlations and their information, in the order of ``tables``.
    """
    correlation = np.zeros(len(tables))
    information = np.zeros(len(tables))
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, table in enumerate(tables):
        groups[_padded(table.shape[0]), _padded(table.shape[1])].append(index)
    for (rows, columns), members in sorted(groups.items()):
        step = max(1, _CELLS_AT_ONCE // (rows * columns))
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            block = np.zeros((len(chosen), rows, columns))
            for place, index in enumerate(chosen):
                table = tables[index]
                block[place, : table.shape[0], : table.shape[1]] = table
            correlation[chosen], information[chosen] = _fit_block(block, prior_sd)
    return Association(correlation, information)


def _padded(size: int) -> int:
    """Number of codes to which a table of ``size`` codes is padded, so that tables are fitted in few groups."""
    return next(limit for limit in (2, 4, 6, 8, 12, 16, 24, 32, 1 << 30) if size <= limit) if size <= 32 else size


def _fit_block(counts: Floats, prior_sd: float) -> tuple[Floats, Floats]:
    """Fisher scoring for tables of one padded shape [P, K, L]."""
    total = counts.sum(axis=(1, 2))
    safe = np.maximum(total, 1.0)
    a, row_margin = _thresholds(counts.sum(axis=2) / safe[:, None])
    b, column_margin = _thresholds(counts.sum(axis=1) / safe[:, None])
    precision = 0.0 if np.isinf(prior_sd) else prior_sd**-2
    t = np.arctanh(np.clip(_score_correlation(counts, a, b, row_margin, column_margin), -0.995, 0.995))
    products = a[:, :, None] * b[:, None, :]
    squares = 0.5 * (a[:, :, None] ** 2 + b[:, None, :] ** 2)
    above = _integrate(products, squares, np.zeros_like(t), t, _FIRST_NODES)  # Phi2(a, b; r) - Phi(a) Phi(b)
    independent = row_margin[:, :, None] * column_margin[:, None, :]
    fisher = np.zeros_like(t)
    for iteration in range(_ITERATIONS + 1):
        r = np.tanh(t)
        slope = 1.0 - r * r  # dr / dt
        cells = np.maximum(independent + _cells(above), _FLOOR)
        gradient = _cells(_density(products, squares, r))
        # Cells whose probability rounds to 0 are left out: they would make the expected information infinite.
        ratio = gradient / cells
        score = np.einsum("pij,pij->p", counts, ratio)
        fisher = total * np.einsum("pij,pij->p", np.where(cells > _FLOOR, gradient, 0.0), ratio)
        if iteration == _ITERATIONS:
            break
        step = (score * slope - precision * t) / np.maximum(fisher * slope**2 + precision, 1e-9)
        limit = 0.7 if iteration < 2 else 0.25
        new = np.clip(t + np.clip(step, -limit, limit), -LIMIT, LIMIT)
        if np.max(np.abs(new - t), initial=0.0) < 1e-5:
            break
        above += _integrate(products, squares, t, new, _STEP_NODES)
        t = new
    varied = ((row_margin > 0).sum(axis=1) > 1) & ((column_margin > 0).sum(axis=1) > 1)
    return np.where(varied, np.tanh(t), 0.0), np.where(varied, fisher, 0.0)


def _thresholds(margin: Floats) -> tuple[Floats, Floats]:
    """Inner normal thresholds [P, K-1] of margins [P, K]; padded codes and empty ends lie at +-infinity."""
    from scipy.special import ndtri

    cumulative = np.cumsum(margin, axis=1)[:, :-1]
    inner = (cumulative > 1e-14) & (cumulative < 1 - 1e-12)
    limits = np.where(cumulative < 0.5, -_FAR, _FAR)
    return np.where(inner, ndtri(np.clip(cumulative, 1e-14, 1 - 1e-12)), limits), margin


def _score_correlation(counts: Floats, a: Floats, b: Floats, rows: Floats, columns: Floats) -> Floats:
    """Starting value: Pearson correlation of the codes' mean normal scores, raised to make up for their low spread."""
    left, right = _mean_scores(a, rows), _mean_scores(b, columns)
    moment = np.einsum("pij,pi,pj->p", counts, left, right) / np.maximum(counts.sum(axis=(1, 2)), 1.0)
    spread = np.einsum("pi,pi->p", rows, left**2) * np.einsum("pi,pi->p", columns, right**2)
    return np.asarray(moment / np.maximum(spread, 1e-9) ** 0.75)


def _mean_scores(thresholds: Floats, margin: Floats) -> Floats:
    """E[z | code] of a standard normal cut at ``thresholds``: differences of the density over the margin."""
    density = np.exp(-0.5 * thresholds**2) / np.sqrt(2 * np.pi)
    slope = np.zeros_like(margin)
    slope[:, 1:] = density
    slope[:, :-1] -= density
    return np.asarray(slope / np.maximum(margin, 1e-12))


def _density(products: Floats, squares: Floats, r: Floats) -> Floats:
    """phi2(a, b; r) [P, K-1, L-1] from a*b and (a^2 + b^2) / 2."""
    rest = 1.0 / (1.0 - r * r)
    exponent = (products * r[:, None, None] - squares) * rest[:, None, None]
    return np.asarray(np.exp(exponent) * (np.sqrt(rest) / (2 * np.pi))[:, None, None])


@cache
def _quadrature(nodes: int) -> tuple[Floats, Floats]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return points, weights


def _integrate(products: Floats, squares: Floats, start: Floats, stop: Floats, nodes: int) -> Floats:
    """Integral of phi2 dr from tanh(start) to tanh(stop), by Gauss-Legendre in t: dr = (1 - r^2) dt."""
    points, weights = _quadrature(nodes)
    half = 0.5 * (stop - start)
    middle = 0.5 * (stop + start)
    total = np.zeros_like(products)
    for point, weight in zip(points, weights):
        r = np.tanh(middle + half * point)
        rest = 1.0 - r * r
        # phi2 * (1 - r^2) = sqrt(1 - r^2) / 2 pi * exp(...)
        scale = weight * half * np.sqrt(rest) / (2 * np.pi)
        exponent = products * (r / rest)[:, None, None]
        exponent -= squares * (1.0 / rest)[:, None, None]
        np.exp(exponent, out=exponent)
        exponent *= scale[:, None, None]
        total += exponent
    return total


def _cells(corners: Floats) -> Floats:
    """Rectangle sums [P, K, L] of a function given at the inner corners [P, K-1, L-1], zero at the border."""
    pairs, rows, columns = corners.shape
    along = np.zeros((pairs, rows + 1, columns))
    along[:, :-1] = corners
    along[:, 1:] -= corners
    cells = np.zeros((pairs, rows + 1, columns + 1))
    cells[:, :, :-1] = along
    cells[:, :, 1:] -= along
    return cells
