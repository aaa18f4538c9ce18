"""The order of the categories of a nominal column along its latent.

The order is that of the leading axis of a correspondence analysis (Greenacre 1984) of the column against all others:
categories that go with the same values of the other columns lie side by side. Then one latent correlation per pair says
most of what their table says. Ordinal columns keep their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def correspondence_order(tables: Sequence[Integers], size: int) -> Integers:
    """Codes of a nominal column in latent order.

    Args:
        tables: Contingency tables of the column with each other one, int64[at least ``size``, any]. Rows from ``size``
            on (missing) are left out; the columns may include missing.
        size: Number of codes of the column.

    Returns:
        int64[size], a permutation of the codes. The sign of the axis is chosen so that the code of the largest weight
        lies at its upper end; codes that no row has get the score 0 of the middle.
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
    # Rounded: the last bit, which depends on the CPU, must not order equal scores.
    return np.argsort(np.round(score, 9), kind="stable")
