"""A fitted copula as integers: what makes its samples the same bytes on every machine.

All numbers lie on the grid 2^-22. The 65,536 equally likely values of the normal deviates ``e`` are *odd* multiples of
it, every row of the factor ``A`` (latent z = A e) has an *odd* sum, and every cut between two segments of a
quantile function is an *even* multiple. Then z is an odd multiple of 2^-44. It never equals a cut or a cell's border,
so that the result does not depend on a rule for ties or on a rounding mode. All its partial sums are integers (times
2^-44) below 2^53: exact in float64 in any order, with or without FMA, on any BLAS, number of threads or GPU.

The factor is the Cholesky factor times a dense orthogonal matrix: the correlations stay, and each latent becomes a mix
of at least eight deviates, so that 16 bits per deviate do not show in a margin (total variation about 1e-5).

The segment of a latent is found without a search: z is rounded to a cell of width 2^-s, and ``steps[cell]`` is chosen
so that ``round(z / width + steps[cell])`` is the segment (``CellTable``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.marginals import grid_unit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GRID_BITS = 22
GRID = 1 << GRID_BITS
#: Latents are looked up between -8 and 8; beyond lies a probability of 1.2e-15.
REACH = 8
LEVELS = 1 << 16
MIN_LANES = 8
_MAX_SEGMENT = 1 / 512  # heavier segments are cut: inside a segment, the place is independent of all other columns
_MOST_ATOMS = 2048
_SHIFTS = range(3, 13)
_MAX_PASSES = 8
_EXACT = 2.0**53
#: What the length of a row of the factor may be off by rounding.
_UNIT_LENGTH = 1e-4


def normal_levels() -> NDArray[np.int32]:
    """The deviates, in units of 2^-22: int32[65536], increasing, odd, symmetric, of variance 1.

    Each stands for one of 65,536 equally likely slices of the normal distribution by its mean.
    """
    from scipy.special import ndtri

    inner = ndtri(np.arange(LEVELS // 2, LEVELS) / LEVELS)
    density = np.append(np.exp(-0.5 * inner**2) / np.sqrt(2 * np.pi), 0.0)
    upper = LEVELS * (density[:-1] - density[1:])
    upper /= np.sqrt(np.mean(upper**2))
    upper_half = odd(upper)
    return np.concatenate([-upper_half[::-1], upper_half]).astype(np.int32)


def odd(values: Floats) -> Integers:
    """Nearest odd multiples of 2^-22, as integers."""
    return 2 * np.floor(np.asarray(values) * (GRID / 2)).astype(np.int64) + 1


def even(values: Floats) -> Integers:
    """Nearest even multiples of 2^-22, as integers."""
    return 2 * np.rint(np.asarray(values) * (GRID / 2)).astype(np.int64)


def factor_of(correlation: Floats) -> NDArray[np.int32]:
    """Factor of a correlation matrix, in units of 2^-22.

    Args:
        correlation: float64[d, d], positive semi-definite, unit diagonal.

    Returns:
        int32[d, m], m = max(d, 8), rows of odd sum, with ``A A' = correlation`` up to 2^-22.

    Raises:
        ModelError: The matrix is far from positive semi-definite, or too large for exact sums.
    """
    size = len(correlation)
    lanes = max(size, MIN_LANES)
    if size == 0:
        return np.zeros((0, lanes), np.int32)
    try:
        root = np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(correlation)
        if values[0] < -1e-6:
            raise ModelError(f"correlation matrix of {size} latents is not positive semi-definite") from None
        root = vectors * np.sqrt(np.maximum(values, 0.0))
    dense = root @ cosines(size, lanes)
    dense /= np.sqrt(np.sum(dense**2, axis=1, keepdims=True))
    return with_odd_rows(np.rint(dense * GRID).astype(np.int64)).astype(np.int32)


def with_odd_rows(factor: Integers) -> Integers:
    """The factor with odd row sums: in each row of even sum, the largest entry is changed by one unit."""
    factor = factor.copy()
    rows = np.arange(len(factor))
    factor[rows, np.argmax(np.abs(factor), axis=1)] += 1 - (factor.sum(axis=1) & 1)
    return factor


def check_exact(factor: Integers, largest: int) -> None:
    """Check that every partial sum of ``factor @ e`` is exact in float64.

    Raises:
        ModelError: A row could reach 2^53 units of 2^-44.
    """
    reach = np.abs(factor.astype(np.float64)).sum(axis=1).max(initial=0.0) * largest
    if reach >= _EXACT:
        raise ModelError(f"{factor.shape[1]} latents are too many for exact sums ({reach:.2g} of 2^53)")


def check_factor(factor: NDArray[np.integer[Any]], largest: int) -> None:
    """Check a factor that comes from a file: rows of odd sum and of length 1, whose sums are exact.

    Args:
        factor: [d, m], integers.
        largest: Largest deviate.

    Raises:
        ModelError: It is not so.
    """
    wide = factor.astype(np.int64)
    if not (wide.sum(axis=1) & 1).all():
        raise ModelError("a row has an even sum")
    if (np.abs(np.sqrt((wide.astype(np.float64) ** 2).sum(axis=1)) / GRID - 1.0) > _UNIT_LENGTH).any():
        raise ModelError("a row is not of length 1")
    check_exact(wide, largest)


def cosines(rows: int, columns: int) -> Floats:
    """First rows of the orthonormal cosine transform of size ``columns``: dense, orthogonal rows."""
    angles = np.outer(np.arange(rows), np.arange(columns) + 0.5) * (np.pi / columns)
    basis = np.sqrt(2.0 / columns) * np.cos(angles)
    basis[0] /= np.sqrt(2.0)
    return np.asarray(basis)


def cut_marginal(marginal: Marginal, precision: Precision | None = None) -> tuple[Marginal, Integers]:
    """A marginal ready for sampling, and its cuts.

    Args:
        marginal: As fitted.
        precision: Grid of its values. If these are few, all become atoms: the same distribution, with one look-up per
            value instead of three.

    Returns:
        The same quantile function, in which segments of less than about 2e-7 are left out and heavy ones that are not
        atoms are cut into equal parts; and the cuts int64[m - 1], strictly increasing even units of 2^-22: segment k is
        drawn where ``cuts[k-1] < z < cuts[k]``.
    """
    from scipy.special import ndtri

    marginal = _finer(_atoms(marginal, precision or Precision()))
    cuts = even(np.clip(ndtri(marginal.cumulative[:-1]), -REACH, REACH))
    # A segment between equal cuts is never drawn.
    edges = np.concatenate([[-(REACH + 1) * GRID], cuts, [(REACH + 1) * GRID]])
    is_drawn = np.diff(edges) > 0
    last = np.flatnonzero(is_drawn)
    thinned = replace(
        marginal,
        probability=marginal.probability[is_drawn],
        lo=marginal.lo[is_drawn],
        hi=marginal.hi[is_drawn],
    ).with_ends(marginal.ends)
    return thinned, cuts[last[:-1]]


def missing_cut(p_missing: float) -> Integers:
    """Cut above which a missing latent means missing, int64[1]."""
    from scipy.special import ndtri

    return even(np.clip([ndtri(1.0 - p_missing)], -REACH, REACH))


def _atoms(marginal: Marginal, precision: Precision) -> Marginal:
    """The marginal with each point of the grid as an atom, if they are not too many.

    An atom has the mass of the part of its segment that is rounded to it.
    """
    unit = grid_unit(precision)
    if not unit or marginal.kind == "category" or np.array_equal(marginal.lo, marginal.hi):
        return marginal
    first, last = precision.snap(marginal.lo), precision.snap(marginal.hi)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.rint((last - first) / unit)
    if not steps.sum() + len(steps) <= _MOST_ATOMS:  # in floats: the whole range of int64 overflows an integer
        return marginal
    points = steps.astype(np.int64) + 1
    segment = np.repeat(np.arange(len(points)), points)
    place = np.arange(len(segment)) - np.repeat(np.cumsum(points) - points, points)
    value = precision.snap(first[segment] + place * unit)
    lo, hi = marginal.lo[segment], marginal.hi[segment]
    inside = np.minimum(hi, value + 0.5 * unit) - np.maximum(lo, value - 0.5 * unit)
    share = np.where(hi > lo, np.maximum(inside, 0.0) / np.where(hi > lo, hi - lo, 1.0), 1.0)
    starts = np.flatnonzero(np.diff(value, prepend=-np.inf) > 0)  # neighbouring segments may share a point
    probability = np.add.reduceat(marginal.probability[segment] * share, starts)
    return replace(marginal, probability=probability, lo=value[starts], hi=value[starts])


def _finer(marginal: Marginal) -> Marginal:
    """The same quantile function, in which only atoms are heavier than 1/512."""
    has_width = marginal.hi > marginal.lo
    parts = np.where(has_width, np.ceil(marginal.probability / _MAX_SEGMENT), 1.0).astype(np.int64)
    if parts.max(initial=1) == 1:
        return marginal
    place = np.concatenate([np.arange(n) for n in parts]) / np.repeat(parts, parts)
    step = np.repeat((marginal.hi - marginal.lo) / parts, parts)
    lo = np.repeat(marginal.lo, parts) + np.repeat(marginal.hi - marginal.lo, parts) * place
    return replace(marginal, probability=np.repeat(marginal.probability / parts, parts), lo=lo, hi=lo + step)


@dataclass(frozen=True)
class CellTable:
    """Finds the segment of a latent among its cuts, in a fixed number of look-ups.

    Attributes:
        shift: Cells have the width 2^-shift.
        steps: float64[16 * 2^shift + 1]: ``round(z * 2^shift + steps[cell])`` is the segment, up to ``passes`` less.
        cuts: float64[m], the cuts in units of a cell, then infinity.
        passes: How many times to add one to the segment where z lies above ``cuts[segment]``.
        search: The cuts lie too close together for this: they are searched, and ``steps`` is empty.
    """

    shift: int
    steps: Floats
    cuts: Floats
    passes: int = 0
    search: bool = False


def cell_table(cuts: Integers) -> CellTable:
    """The coarsest look-up table that separates cuts (int64[m - 1], even, strictly increasing)."""
    shift, most = _SHIFTS[0], 0
    for shift in _SHIFTS:
        cell = _cells(cuts, shift)
        firsts = np.flatnonzero(np.diff(cell, prepend=cell[:1] - 1))
        most = int(np.max(np.diff(firsts, append=len(cell)), initial=0))
        if most <= 1:
            break
    scaled = np.append(cuts * (2.0**shift / GRID), np.inf)
    if most > _MAX_PASSES:
        return CellTable(shift, np.zeros(0), scaled, search=True)
    edge = REACH << shift
    cells = np.arange(-edge, edge + 1)
    here = np.bincount(np.clip(cell, -edge, edge) + edge, minlength=len(cells))
    base = np.cumsum(here) - here  # cuts in the cells below
    steps: NDArray[np.float64] = base.astype(np.float64) - cells
    occupied = np.flatnonzero(here)
    steps[occupied] = base[occupied] + 0.5 - scaled[base[occupied]]
    return CellTable(shift, steps, scaled, passes=max(0, most - 1))


def _cells(cuts: Integers, shift: int) -> Integers:
    """Cell of each cut. z never lies on the border between two cells, so that a cut there may belong to either."""
    return np.asarray(np.rint(cuts * (2.0**shift / GRID)).astype(np.int64))
