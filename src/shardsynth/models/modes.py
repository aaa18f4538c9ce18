"""Modes of a numeric column: a one-dimensional Gaussian mixture fitted on its histogram.

CTGAN's mode-specific normalisation (Xu et al. 2019, "Modeling Tabular Data using Conditional GAN", section 4.2): a
value is a mode and its place in it, ``(v - mean) / (4 std)``. Expectation-maximisation runs on at most some thousand
weighted points whatever the number of rows, so that it takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: A value lies within -1 and 1 of its mode with 99.99 % probability.
STDS = 4.0
#: Places are kept within this at encoding, so that tanh can reach them.
LIMIT = 0.99
_STEPS = 100
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Modes:
    """Components of a mixture.

    Attributes:
        mean: float64[k].
        std: float64[k], positive.
        weight: float64[k], sums to 1.
    """

    mean: Floats
    std: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.mean)

    def responsibilities(self, values: Floats) -> Floats:
        """float64[n, k]: probability that each value comes from each mode."""
        log = -0.5 * ((values[:, None] - self.mean) / self.std) ** 2 + np.log(self.weight / self.std)
        log -= log.max(axis=1, keepdims=True)
        np.exp(log, out=log)
        return np.asarray(log / log.sum(axis=1, keepdims=True))

    def encode(self, values: Floats, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A mode drawn for each value by its responsibilities, and the place in it.

        Args:
            values: float64[n], none missing.
            rng: Draws the modes.

        Returns:
            ``(modes, places)``: int64[n], and float32[n] within -0.99 and 0.99.
        """
        if not len(values):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        reached = np.cumsum(self.responsibilities(values), axis=1)
        modes = (reached < rng.random(len(values))[:, None] * reached[:, -1:]).sum(axis=1)
        places = (values - self.mean[modes]) / (STDS * self.std[modes])
        return modes, np.clip(places, -LIMIT, LIMIT).astype(np.float32)

    def decode(self, modes: NDArray[Any], places: NDArray[Any]) -> Floats:
        """float64[n] of modes [n] and places [n] within -1 and 1."""
        return np.asarray(self.mean[modes] + (STDS * self.std[modes]) * places)


def fit_modes(
    points: Floats, weight: Floats, spread: Floats, *, most: int = 10, lightest: float = 0.005, floor: float = 0.0
) -> Modes:
    """Mixture of weighted points by expectation-maximisation.

    Started at equal shares of the weight; a component that falls under ``lightest`` is dropped on the way and its
    points go to the others, so that a column has as many modes as it needs.

    Args:
        points: Middle of each bin, float64[m].
        weight: Share of each bin, float64[m].
        spread: Width of each bin (0: an atom), over which its values are even, float64[m].
        most: Components at most.
        lightest: Least share of a component.
        floor: Least standard deviation.
    """
    weight = weight / weight.sum()
    within = spread**2 / 12.0
    centre = float(weight @ points)
    total = float(np.sqrt(weight @ ((points - centre) ** 2 + within)))
    least = max(floor, 1e-4 * total, np.finfo(np.float64).tiny)
    k = max(1, min(most, len(points)))
    order = np.argsort(points, kind="stable")
    reached = np.cumsum(weight[order])
    start = points[order][np.minimum(np.searchsorted(reached, (np.arange(k) + 0.5) / k), len(points) - 1)]
    mean = np.unique(start)
    if len(mean) < k:  # heavy atoms took several starts: spread the others evenly over the range
        mean = np.unique(np.concatenate([mean, np.linspace(points.min(), points.max(), k - len(mean) + 2)[1:-1]]))
    std = np.full(len(mean), max(total / max(len(mean), 1), least))
    share = np.full(len(mean), 1.0 / len(mean))
    before = -np.inf
    for _ in range(_STEPS):
        log = -0.5 * (((points[:, None] - mean) ** 2 + within[:, None]) / std**2) + np.log(share / std)
        top = log.max(axis=1, keepdims=True)
        odds = np.exp(log - top)
        sums = odds.sum(axis=1, keepdims=True)
        likelihood = float(weight @ (np.log(sums) + top)[:, 0])
        mass = (odds / sums) * weight[:, None]
        share = mass.sum(axis=0)
        keep = share > lightest
        if not keep.all() and keep.any():
            mean, std, share, mass = mean[keep], std[keep], share[keep], mass[:, keep]
            before = -np.inf
        elif likelihood - before < _TOLERANCE:
            break
        else:
            before = likelihood
        mean = (mass.T @ points) / share
        variance = np.einsum("mk,mk->k", mass, (points[:, None] - mean) ** 2 + within[:, None]) / share
        std = np.maximum(np.sqrt(variance), least)
        share = share / share.sum()
    return Modes(mean, std, share / share.sum())
