"""Where to cut an axis, and which codes to join: pure functions of values and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.data.columns import COMMON_ROWS
from shardsynth.data.empty_gaps import empty_gaps

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Most quantile bins of an axis; atoms are not counted among them.
BINS = 1024
#: Most coarse codes of the values of one column; the code of missing is not counted among them.
COARSE = 31
#: Most fine codes that get a coarse code of their own when there are more fine codes than coarse ones.
_COARSE_ATOMS = 10


def cuts_of(
    values: Floats, counts: Integers, low: float, high: float, *, bounds: Sequence[float] = (), exact: bool
) -> Floats:
    """Cuts of an axis: an atom ``a`` is the pair ``a, nextafter(a)``; every other cut is a quantile.

    Less than 1/1,024 + 1/2,048 of the counts lie between two neighbouring cuts that are not an atom. So a
    Kolmogorov-Smirnov distance that is computed at the cuts alone differs from the exact one by less than that, for any
    other table.

    Args:
        values: Distinct values in order, float64[n].
        counts: How often each occurs, int64[n].
        low: Minimum over all rows, always an atom.
        high: Maximum over all rows, always an atom.
        bounds: More values that become atoms.
        exact: Whether ``values`` are all values of the column, not those of a sample. If so, and if they are at most
            1,024, each of them becomes an atom.

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
    apart = empty_gaps(values, values, counts, counts >= COMMON_ROWS)
    beside = values[apart | np.append(apart[1:], False)]  # so no bin reaches into a gap
    return np.unique(np.concatenate([inside, _with_next(np.concatenate([atoms, ends, beside]))]))


def _with_next(atoms: Floats) -> Floats:
    return np.unique(np.concatenate([atoms, np.nextafter(atoms, np.inf)]))


def coarse_codes(mass: Integers, *, ordered: bool) -> npt.NDArray[np.int16]:
    """Coarse code of each fine code of values; there are at most 31 coarse codes.

    Args:
        mass: Counts of the fine codes of values (without missing), int64[n].
        ordered: Whether the codes have an order (an axis, an ordinal column): neighbours are joined then. Else the
            rarest categories share one code.

    Returns:
        int16[n] in 0..30; every code from 0 to the largest is used.
    """
    if not len(mass):
        return np.zeros(0, np.int16)
    occurs = mass > 0
    if occurs.sum() <= COARSE:
        return _int16(np.maximum(np.cumsum(occurs) - 1, 0))
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
    # The light codes are cut into groups of equal mass, and again where a heavy code is in the middle of a group.
    middle = (np.cumsum(light) - light / 2) / max(int(light.sum()), 1)
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    key = group * (4 * COARSE) + 2 * np.cumsum(heavy) - heavy
    used = np.unique(key[occurs])
    return _int16(np.clip(np.searchsorted(used, key, side="right") - 1, 0, None))


def _int16(codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int16]:
    return np.asarray(codes, dtype=np.int16)


def normal_scores(mass: Integers) -> Floats:
    """Normal score of each code: the mean of a standard normal variable on the interval of quantiles of the code.

    With cumulative shares a and b on the two sides of a code, the mean of a normal variable truncated to that interval:
    (phi(q(a)) - phi(q(b))) / (b - a), where phi is the normal density and q the normal quantile function.

    Args:
        mass: Counts of the codes of values, int64[n], in code order.

    Returns:
        float64[n]. A code without counts gets the quantile at its position; all are 0 where no code has counts.
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
