"""How the latents of a row are made of its deviates: z = A e, also given some of them.

A is dense, or the latents share few deviates f and have others of their own besides: z = L f + W e. W is
block-diagonal, with blocks of 16 latents and 16 deviates: the rows of an orthogonal matrix, scaled, so that the
deviates' 16 bits do not show in a margin. A row of [L W] is as a row of a dense factor: on the grid, of odd sum, its
sums exact (see ``tables``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.copula.tables import GRID, MIN_LANES, Floats, Integers, cosines, with_odd_rows

#: Latents, and deviates, of a block.
BLOCK = 16


@dataclass(frozen=True)
class Factor:
    """The factor of one sampler.

    Attributes:
        shared: int64[d, s + 16 o + c], units of 2^-22: of the s deviates that the latents share, of those of o opened
            blocks, and of the conditioned latents.
        own: int64[d, 16], units of 2^-22: the row of each latent in its block; None: there are no blocks.
        deviates: Number s.
        opened: Numbers of the opened blocks, whose deviates all latents share; their rows of ``own`` are 0.
    """

    shared: Integers
    own: Integers | None
    deviates: int
    opened: tuple[int, ...] = ()

    @classmethod
    def of(cls, factor: NDArray[np.int32], own: NDArray[np.int32] | None = None) -> Factor:
        """The factor of a model's arrays int32[d, s] and int32[d, 16]."""
        return cls(factor.astype(np.int64), None if own is None else own.astype(np.int64), factor.shape[1])

    @property
    def whole(self) -> Integers:
        """[L W], without the zeros of W: int64[d, ...]."""
        return self.shared if self.own is None else np.concatenate([self.shared, self.own], axis=1)

    @property
    def correlation(self) -> Floats:
        """Correlations of the latents, float64[d, d]."""
        factor = self.shared / GRID
        matrix = factor @ factor.T
        if self.own is not None:
            for start in range(0, len(matrix), BLOCK):
                rows = slice(start, start + BLOCK)
                own = self.own[rows] / GRID
                matrix[rows, rows] += own @ own.T
        return np.asarray(matrix)

    def given(self, latents: Sequence[int]) -> Factor:
        """The factor [F, B] of the latents given some of them, x: z = F e + B x.

        F holds the residuals of a regression on one conditioned latent after the other. Blocks with a conditioned
        latent are opened.

        Args:
            latents: The c conditioned ones, in the order of x.

        Returns:
            Rows of odd sum; a conditioned latent equals its x exactly.
        """
        if self.own is None:
            return Factor(_conditional(self.shared, None, latents), None, self.deviates)
        opened = sorted({latent // BLOCK for latent in latents})
        own, shared = self.own.copy(), np.zeros((len(self.own), BLOCK * len(opened)), np.int64)
        for place, block in enumerate(opened):
            rows = slice(BLOCK * block, BLOCK * (block + 1))
            shared[rows, BLOCK * place : BLOCK * (place + 1)] = own[rows]
            own[rows] = 0
        whole = _conditional(np.concatenate([self.shared, shared], axis=1), own, latents)
        return Factor(whole[:, :-BLOCK], whole[:, -BLOCK:], self.deviates, tuple(opened))


def common_factor(loadings: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Factor of the correlations L L' with a diagonal of 1, in units of 2^-22.

    Args:
        loadings: float64[d, r], rows of length at most 1.

    Returns:
        int32[d, max(r, 8)] and int32[d, 16] (see ``Factor``); the rows of both together have odd sums.
    """
    size, rank = loadings.shape
    shared = loadings @ cosines(rank, max(rank, MIN_LANES))
    scale = np.sqrt(np.maximum(1.0 - (loadings**2).sum(axis=1), 0.0))
    own = cosines(BLOCK, BLOCK)[np.arange(size) % BLOCK] * scale[:, None]
    whole = np.concatenate([shared, own], axis=1)
    whole /= np.sqrt(np.sum(whole**2, axis=1, keepdims=True))
    grid = with_odd_rows(np.rint(whole * GRID).astype(np.int64)).astype(np.int32)
    return np.ascontiguousarray(grid[:, :-BLOCK]), np.ascontiguousarray(grid[:, -BLOCK:])


def _conditional(factor: Integers, own: Integers | None, latents: Sequence[int]) -> Integers:
    """[F, B], then the blocks where there are any, whose rows are not changed: int64[d, m + c (+ 16)]."""
    size = len(latents)
    rest = factor / GRID
    weights = np.zeros((len(factor), size))  # of the conditioned latents in each latent
    for number, latent in enumerate(latents):
        row, row_weights = rest[latent].copy(), -weights[latent].copy()
        row_weights[number] += 1.0
        variance = total(row * row)
        if variance < 1e-3:  # determined by the conditioned latents before it
            continue
        slope = _columns_total(rest * row[None, :]) / variance
        rest = rest - slope[:, None] * row[None, :]
        weights = weights + slope[:, None] * row_weights[None, :]
    full = np.rint(np.concatenate([rest, weights], axis=1) * GRID).astype(np.int64)
    full = with_odd_rows(full if own is None else np.concatenate([full, own], axis=1))
    for number, latent in enumerate(latents):
        full[latent] = 0
        full[latent, factor.shape[1] + number] = GRID
    return full


def total(values: Floats) -> float:
    """Sum in a fixed order: np.sum adds in an order that depends on the CPU."""
    return float(np.cumsum(values)[-1])


def _columns_total(values: Floats) -> Floats:
    """Sum over the last axis in a fixed order; see ``total``."""
    result = np.zeros(len(values))
    for column in values.T:
        result = result + column
    return result
