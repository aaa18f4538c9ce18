"""Biases that give drawn rows the counted frequencies: of all rows, and of the rows of each rare class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.models.autoregressive.class_rows import ClassBiases
from shardsynth.models.autoregressive.classes import ClassShares
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.sampler import Rows, Sampler, chosen

#: Times that a bias is moved, and by what at most: for all rows, and for those of a class, which few rows taught.
_ALL, _CLASS = (2, 2.0), (8, 4.0)
#: Least share of a code in the rows of no rare class, which need not have it at all.
_LEAST_LEFT = 1e-7
#: Rows of each class that are drawn.
_CLASS_ROWS = 4_096


@torch.inference_mode()  # type: ignore[untyped-decorator]
def calibrated_biases(
    network: Network,
    shares: Sequence[NDArray[np.float64]],
    rows: int,
    seed: int,
    classes: Sequence[ClassShares] = (),
) -> tuple[Tensor, ClassBiases | None]:
    """What to add to the biases so that rows have the counted frequencies, drawn in the order of the columns.

    Columns are drawn one after the other by the calibrated model. The bias of each is moved, some times, by the
    logarithm of counted share / mean predicted probability. Rows of rare classes are drawn apart, so that each class
    has its own biases; the others are then calibrated to what these leave.

    Args:
        network: The trained network.
        shares: float64[size] per column, counted share of each code.
        rows: Largest number of rows to draw; with very many codes fewer are drawn.
        seed: Seed of these rows.
        classes: Rare classes of column 0.

    Returns:
        float32[all codes], and the biases of the classes; None where there is no class.
    """
    most = (32 << 20) // max(network.sizes)
    rows, class_rows = (max(1024, min(n, most)) for n in (rows, _CLASS_ROWS))
    sampler = Sampler(network, torch.zeros(sum(network.sizes)))
    random = torch.Generator().manual_seed(seed)
    drawn, shifts = sampler.begin(rows), []
    pools = [sampler.begin(class_rows) for _ in classes]
    of_classes: list[list[Tensor]] = [[] for _ in classes]
    is_rare = torch.zeros(rows, dtype=torch.bool)
    for column, share in enumerate(shares):
        weights = sampler.weights(drawn, column)
        common, wanted = slice(None), share
        if column and classes:
            for own, pool, rare in zip(of_classes, pools, classes):
                own.append(_drawn(sampler, pool, column, rare.shares[column], _CLASS, random))
                weights[:, drawn.codes[0] == rare.code] *= torch.exp(own[-1])[:, None]
            common, wanted = ~is_rare, _left(share, shares[0], column, classes)
        part = weights[:, common]
        shift = _shift(part, wanted, *(_CLASS if classes else _ALL))
        if column and classes:
            weights[:, common] = part
        sampler.enter(drawn, column, chosen(weights, torch.rand(rows, generator=random)))
        shifts.append(shift)
        if not column:
            for own, pool, rare in zip(of_classes, pools, classes):
                sampler.enter(pool, column, torch.full((class_rows,), rare.code, dtype=torch.int16))
                own.append(torch.zeros(len(share)))
                is_rare |= drawn.codes[0] == rare.code
    if not classes:
        return torch.cat(shifts), None
    biases = torch.stack([torch.cat(own) for own in of_classes])
    return torch.cat(shifts), ClassBiases(tuple(rare.code for rare in classes), biases)


def _drawn(
    sampler: Sampler,
    pool: Rows,
    column: int,
    share: NDArray[np.float64],
    how: tuple[int, float],
    random: torch.Generator,
) -> Tensor:
    """The bias of a column in the rows of a pool, to which the column is added."""
    weights = sampler.weights(pool, column)
    shift = _shift(weights, share, *how)
    sampler.enter(pool, column, chosen(weights, torch.rand(weights.shape[1], generator=random)))
    return shift


def _shift(weights: Tensor, share: NDArray[np.float64], times: int, most: float) -> Tensor:
    """What to add to the logits, float32[size], so that the mean probabilities of weights [size, n] are the shares.

    The weights are overwritten by those that they then are.
    """
    counted = torch.from_numpy(share).float()
    shift = torch.zeros(len(share))
    if not weights.shape[1]:
        return shift
    for _ in range(times):
        predicted = (weights / weights.sum(0)).mean(1)
        step = torch.log((counted / predicted.clamp(min=1e-9)).clamp(math.exp(-most), math.exp(most)))
        step[counted <= 0] = 0.0
        shift += step
        weights *= torch.exp(step)[:, None]
    return shift


def _left(
    share: NDArray[np.float64], of_target: NDArray[np.float64], column: int, classes: Sequence[ClassShares]
) -> NDArray[np.float64]:
    """Shares of a column's codes in the rows of no rare class."""
    rest = share.copy()
    for rare in classes:
        rest = rest - of_target[rare.code] * rare.shares[column]
    rest = np.where(share > 0, np.maximum(rest, _LEAST_LEFT), 0.0)
    return np.asarray(rest / rest.sum())
