"""Wide gaps of a column in which no real value lies, such as the one between lab values and 9999 for "unknown"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


def empty_gaps(lo: Floats, hi: Floats, rows: Integers, atom: Mask) -> Mask:
    """Which cells begin after an empty gap.

    A gap is empty if it is wider than all of one of its sides, if that side has at least half of the rows and more
    than one value, and if the other side has an atom. So nothing comes out between 14.6 and 9999, and a tail that thins
    out has no gap.

    Args:
        lo: float64[m], smallest value of each cell, in order.
        hi: float64[m], largest.
        rows: int64[m].
        atom: bool[m], cells of a single value that has enough rows to be kept.

    Returns:
        bool[m]: whether the gap between a cell and the one before it is empty.
    """
    found = np.zeros(len(lo), np.bool_)
    if len(lo) < 3:
        return found
    gap = lo[1:] - hi[:-1]
    below, total = np.cumsum(rows)[:-1], rows.sum()
    left, right = hi[:-1] - lo[0], hi[-1] - lo[1:]
    atoms_above = np.cumsum(atom[::-1])[::-1][1:] > 0
    atoms_below = np.cumsum(atom)[:-1] > 0
    found[1:] = (gap > left) & (left > 0) & (2 * below >= total) & atoms_above
    found[1:] |= (gap > right) & (right > 0) & (2 * (total - below) >= total) & atoms_below
    return found
