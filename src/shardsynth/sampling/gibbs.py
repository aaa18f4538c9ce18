"""Gaussian vectors in boxes by Gibbs sampling: for boxes of many coordinates, where no proposal is accepted in time.

Each coordinate is drawn in turn from its normal given the others, cut to its interval (Geweke 1991). That can always be
done, however improbable the box. The vectors follow the Gaussian in the box up to what is left of their start after
``SWEEPS`` rounds. All arithmetic is elementwise IEEE, as in ``tilting``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shardsynth.sampling.elementary import Truncated
from shardsynth.sampling.tilting import dot, solve

Floats = NDArray[np.float64]

#: Rounds in which every coordinate is drawn once.
SWEEPS = 24


def draw_in_boxes(correlation: Floats, low: Floats, high: Floats, uniforms: Callable[[int], Floats]) -> Floats:
    """One vector in each box, float64[n, c].

    Args:
        correlation: float64[c, c], positive definite.
        low: float64[n, c], lower ends, may be infinite.
        high: float64[n, c], upper ends.
        uniforms: Gives float64[n, c] in (0, 1) of a round, by its number.
    """
    size = len(correlation)
    raised = correlation + np.diag(np.full(size, 1e-6))
    precision = solve(np.repeat(raised[None], size, axis=0), np.eye(size))
    weights = -precision / np.diag(precision)[:, None]
    np.fill_diagonal(weights, 0.0)
    spread = 1.0 / np.sqrt(np.diag(precision))
    points = np.minimum(np.maximum(0.0, low), high)
    for sweep in range(SWEEPS):
        u = uniforms(sweep)
        for k in range(size):
            centre = dot(weights[k], points)
            least, most = (low[:, k] - centre) / spread[k], (high[:, k] - centre) / spread[k]
            drawn = centre + spread[k] * Truncated(least, most).draw(u[:, k])
            points[:, k] = np.minimum(np.maximum(drawn, low[:, k]), high[:, k])
    return points
