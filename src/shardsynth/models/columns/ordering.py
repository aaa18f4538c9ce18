"""In which order the categories of a nominal column lie along its latent.

The order is that of the leading axis of a correspondence analysis (Greenacre 1984) of the column against all others:
categories that go with the same values of the other columns come to lie side by side, which is what lets one latent
correlation per pair say most of what their table says. Ordinal columns keep their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def correspondence_order(tables: Sequence[Integers], size: int) -> Integers:
    """Codes of a nominal column in latent order.

    Args:
        tables: Contingency tables [at least ``size`` rows, any columns] of the column with each other one; rows past
            ``size`` (missing) are left out, the columns may include missing.
        size: Number of codes of the column.

    Returns:
        int64[size], a permutation of the codes. The axis points so that the code that weighs most in it lies at
        its upper end; codes never seen stand where they were, in the middle.
    """
    if size < 3 or not tables:
        return np.arange(size)
    stacked = np.concatenate([t[:size] for t in tables], axis=1).astype(np.float64)
    stacked = stacked[:, stacked.sum(axis=0) > 0]
    if stacked.size == 0:
        return np.arange(size)
    share = stacked / stacked.sum()
    row, column = share.sum(axis=1), share.sum(axis=0)
    root = np.sqrt(np.maximum(row, 1e-300))
    residual = (share - np.outer(row, column)) / np.outer(root, np.sqrt(column))
    axis = np.linalg.eigh(residual @ residual.T)[1][:, -1]
    score = np.where(row > 0, axis / root, 0.0)
    if axis[np.argmax(np.abs(axis))] < 0:
        score = -score
    # Rounding: equal scores must not be told apart by the last bit.
    return np.argsort(np.round(score, 9), kind="stable")
