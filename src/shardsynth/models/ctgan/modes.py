"""Modes of a numeric column: a one-dimensional Gaussian mixture fitted on its histogram.

CTGAN's mode-specific normalisation (Xu et al. 2019, "Modeling Tabular Data using Conditional GAN", section 4.2): a
value is a mode and its place in it, ``(v - mean) / (4 std)``. The fit sees a few thousand weighted points at most,
however many rows there are, so it takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]

#: A place of 1 is so many standard deviations from the mean: 99.99 % of a mode's values have places within -1 and 1.
STDS = 4.0
#: Encoded places are clipped to this, because tanh never reaches 1.
LIMIT = 0.99
_STEPS = 300
_TOLERANCE = 1e-5
#: Concentration of the Dirichlet process; a small one gives few components.
_CONCENTRATION = 1e-3


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
        """A mode for each value, drawn by its responsibilities, and the place in it.

        Args:
            values: float64[n], without missing values.
            rng: Draws the modes.

        Returns:
            ``(modes, places)``: int64[n], and float32[n] within -0.99 and 0.99.
        """
        if not len(values):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        cdf = np.cumsum(self.responsibilities(values), axis=1)
        modes = (cdf < rng.random(len(values))[:, None] * cdf[:, -1:]).sum(axis=1)
        places = (values - self.mean[modes]) / (STDS * self.std[modes])
        return modes, np.clip(places, -LIMIT, LIMIT).astype(np.float32)

    def decode(self, modes: NDArray[Any], places: NDArray[Any]) -> Floats:
        """Values float64[n] of modes [n] and places [n] in -1 to 1."""
        return np.asarray(self.mean[modes] + (STDS * self.std[modes]) * places)


def fit_modes(
    points: Floats,
    weight: Floats,
    spread: Floats,
    rows: int,
    *,
    most: int = 10,
    lightest: float = 0.005,
    floor: float = 0.0,
) -> Modes:
    """Fit a mixture to weighted points by variational inference under a Dirichlet process.

    Blei and Jordan 2006, "Variational inference for Dirichlet process mixtures", in one dimension. The priors are those
    of the ctgan package: concentration 0.001, and mean and variance of the points as one observation. Components that
    are not needed lose their weight; those with a share below ``lightest`` are dropped.

    Args:
        points: Middle of each bin, float64[m].
        weight: Share of each bin, float64[m].
        spread: Width of each bin, float64[m]; values are uniform over it; 0 for an atom.
        rows: Number of rows that the shares are of.
        most: Largest number of components.
        lightest: Smallest share of a component.
        floor: Smallest standard deviation.
    """
    weight = weight / weight.sum()
    centre = float(weight @ points)
    scale = float(np.sqrt(weight @ ((points - centre) ** 2 + spread**2 / 12.0))) or 1.0
    x, within = (points - centre) / scale, (spread / scale) ** 2 / 12.0
    least = max(floor / scale, 1e-4)
    mass = _start(x, weight, max(1, min(most, len(x)))) * weight[:, None]
    before = np.zeros(0)
    for _ in range(_STEPS):
        count = rows * mass.sum(axis=0) + 1e-9
        middle = rows * (mass.T @ x) / count
        square = rows * np.einsum("mk,mk->k", mass, (x[:, None] - middle) ** 2 + within[:, None])
        # Posterior of each component: normal with unknown mean and precision (Bishop 2006, section 10.2).
        strength, freedom = 1.0 + count, 1.0 + count
        mean = count * middle / strength
        variance = (1.0 + square + count / strength * middle**2) / freedom
        std = np.maximum(np.sqrt(variance), least)
        # Posterior of the stick-breaking weights, in the order of the components.
        first, rest = 1.0 + count, _CONCENTRATION + np.append(np.cumsum(count[::-1])[-2::-1], 0.0)
        whole = digamma(first + rest)
        stick = digamma(first) - whole + np.append(0.0, np.cumsum(digamma(rest) - whole)[:-1])
        log_precision = digamma(0.5 * freedom) - np.log(0.5 * freedom) - 2 * np.log(std)
        distance = ((x[:, None] - mean) ** 2 + within[:, None]) / std**2 + 1.0 / strength
        log = stick + 0.5 * (log_precision - distance)
        odds = np.exp(log - log.max(axis=1, keepdims=True))
        mass = (odds / odds.sum(axis=1, keepdims=True)) * weight[:, None]
        shares = mass.sum(axis=0)
        if len(before) and np.abs(shares - before).max() < _TOLERANCE:
            break
        before = shares
    keep = shares > min(lightest, float(shares.max()) / 2)
    order = np.flatnonzero(keep)[np.argsort(mean[keep], kind="stable")]
    return Modes(centre + scale * mean[order], scale * std[order], shares[order] / shares[order].sum())


def _start(x: Floats, weight: Floats, k: int) -> Floats:
    """float64[m, k] of 0 and 1: each point in one of at most k groups, by Lloyd's algorithm from even quantiles."""
    order = np.argsort(x, kind="stable")
    cdf = np.cumsum(weight[order])
    centres = np.unique(x[order][np.minimum(np.searchsorted(cdf, (np.arange(k) + 0.5) / k), len(x) - 1)])
    if len(centres) < k:  # heavy atoms took several quantiles: spread the missing centres over the range
        centres = np.unique(np.concatenate([centres, np.linspace(x.min(), x.max(), k - len(centres) + 2)[1:-1]]))
    for _ in range(20):
        nearest = np.abs(x[:, None] - centres).argmin(axis=1)
        total = np.bincount(nearest, weight, len(centres))
        used = total > 0
        centres = (np.bincount(nearest, weight * x, len(centres))[used]) / total[used]
    nearest = np.abs(x[:, None] - centres).argmin(axis=1)
    by_weight = np.argsort(-np.bincount(nearest, weight, len(centres)), kind="stable")  # the heaviest group comes first
    return np.asarray(nearest[:, None] == by_weight, np.float64)
