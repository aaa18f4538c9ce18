"""Confidence intervals of shares and of areas under a ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Standard normal quantiles of two-sided intervals of 95 and 99 %.
Z95, Z99 = 1.959964, 2.575829


def wilson(share: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share.

    Args:
        share: The share, from 0 to 1.
        n: Independent rows that it was counted in.
        z: Normal quantile of the interval.

    Returns:
        ``(low, high)``; (0, 1) without rows.
    """
    if n <= 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def auc(
    positive: Sequence[float] | Floats, negative: Sequence[float] | Floats, z: float = Z95
) -> tuple[float, float, float]:
    """Area under the ROC curve of scores, and its interval (Hanley and McNeil 1982).

    Args:
        positive: Scores of the positives; a good classifier scores them higher.
        negative: Scores of the negatives.
        z: Normal quantile of the interval.

    Returns:
        ``(auc, low, high)``; ties count half. (0.5, 0, 1) where either side is empty.
    """
    a, b = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    m, n = len(a), len(b)
    if not m or not n:
        return 0.5, 0.0, 1.0
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, side="left") + np.searchsorted(ordered, a, side="right")
    area = float(below.mean() / (2 * n))
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (q1 - area * area) + (n - 1) * (q2 - area * area)) / (m * n)
    # At an area of 0 or 1 the formula gives a width of 0. The interval is at least as wide as one changed row makes it.
    half = max(z * math.sqrt(max(variance, 0.0)), 1.0 / (2 * min(m, n)))
    return area, max(0.0, area - half), min(1.0, area + half)
