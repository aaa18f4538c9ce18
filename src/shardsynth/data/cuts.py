"""Where to cut an axis, and which cuts to join: pure functions of values and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Quantile bins of an axis at most; atoms come on top.
BINS = 1024
#: Fit codes of the values of one column at most; the code of missing comes on top.
COARSE = 31
#: Atoms that a coarse code may be spent on when there are more values than coarse codes.
_COARSE_ATOMS = 10


def cuts_of(
    values: Floats, counts: Integers, low: float, high: float, *, bounds: Sequence[float] = (), exact: bool
) -> Floats:
    """Cuts of an axis: an atom ``a`` is the pair ``a, nextafter(a)``, everything else a quantile.

    Between two cuts that are no atom lie less than 1/1,024 + 1/2,048 of the counts, so that a Kolmogorov-Smirnov
    distance read off at the cuts is within that of the true one, whatever the other table looks like.

    Args:
        values: Distinct values in order, float64[n].
        counts: How often each occurs, int64[n].
        low: Minimum over all rows, always an atom.
        high: Maximum over all rows, always an atom.
        bounds: More values that are to be atoms.
        exact: Whether ``values`` are all that occur (else a sample's): at most 1,024 of them all become atoms.

    Returns:
        float64[m], strictly increasing; empty without values.
    """
    ends = np.array([low, high, *bounds])
    if not len(values):
        return _with_next(ends[~np.isnan(ends)])
    if exact and len(values) <= BINS:
        return _with_next(np.concatenate([values, ends]))
    total = int(counts.sum())
    atoms = values[(counts > 1) & (counts >= total / (2 * BINS))]
    below = np.cumsum(counts)
    targets = np.arange(1, BINS, dtype=np.float64) * (total / BINS)
    quantiles = values[np.minimum(np.searchsorted(below, targets), len(values) - 1)]
    inside = quantiles[(quantiles > low) & (quantiles < high)]
    return np.unique(np.concatenate([inside, _with_next(np.concatenate([atoms, ends]))]))


def _with_next(atoms: Floats) -> Floats:
    return np.unique(np.concatenate([atoms, np.nextafter(atoms, np.inf)]))


def coarse_codes(mass: Integers, *, ordered: bool) -> npt.NDArray[np.int16]:
    """Fit code, at most 31 of them, of each fine code of values.

    Args:
        mass: Counts of the fine codes of values (without missing), int64[n].
        ordered: Whether neighbours may be joined (an axis, an ordinal column); else the rarest share one code.

    Returns:
        int16[n] in 0..30, all codes from 0 to the largest used.
    """
    if not len(mass):
        return np.zeros(0, np.int16)
    seen = mass > 0
    if seen.sum() <= COARSE:
        return _int16(np.maximum(np.cumsum(seen) - 1, 0))
    if not ordered:
        common = np.sort(np.argsort(-mass, kind="stable")[: COARSE - 1])
        codes = np.full(len(mass), COARSE - 1, np.int16)
        codes[common] = np.arange(COARSE - 1)
        return codes
    heavy = np.zeros(len(mass), np.bool_)
    heaviest = np.argsort(-mass, kind="stable")[:_COARSE_ATOMS]
    heavy[heaviest[mass[heaviest] * COARSE >= mass.sum()]] = True
    light = np.where(heavy, 0, mass)
    groups = COARSE - 2 * int(heavy.sum())
    # Equal shares of what is not an atom, then cut again where an atom stands in between.
    middle = (np.cumsum(light) - light / 2) / max(int(light.sum()), 1)
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    key = group * (4 * COARSE) + 2 * np.cumsum(heavy) - heavy
    used = np.unique(key[seen])
    return _int16(np.clip(np.searchsorted(used, key, side="right") - 1, 0, None))


def _int16(codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int16]:
    return np.asarray(codes, dtype=np.int16)


def normal_scores(mass: Integers) -> Floats:
    """Mean of a standard normal variable on the slice that each code takes of it, in code order.

    Args:
        mass: Counts of the codes of values, int64[n]; at least one.

    Returns:
        float64[n]; a code without counts gets the quantile at its place.
    """
    from scipy.special import ndtri

    total = int(mass.sum())
    if total == 0:
        return np.zeros(len(mass))
    upper = np.cumsum(mass) / total
    edges: Any = ndtri(np.concatenate([[0.0], upper]))
    edges[upper.searchsorted(1.0) + 1 :] = np.inf
    density = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    empty = np.asarray(ndtri(np.clip(upper, 0.5 / total, 1 - 0.5 / total)), np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0, (density[:-1] - density[1:]) * total / mass, empty)
