"""Biases for rows under conditions: the columns that are not tested come as often as in the rows that meet them.

The orders of one network do not agree exactly. Rows of a first sample, whose tested columns were drawn first, are
weighed by the probability that the order of unconditional rows gives them, which is calibrated to the counts, over the
probability that they had (importance sampling; truncated as in Ionides 2008, "Truncated importance sampling"). The
biases then give new rows the weighed frequencies, one column after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from shardsynth.models.autoregressive.sampler import BLOCK, Drawing, Rows, Sampler, chosen, with_absent

#: Rows of the first sample, in blocks, and the largest number of columns for which it is made.
BLOCKS, MOST_COLUMNS = 4, 300
#: Times that a bias is moved, and by what at most.
_TIMES, _MOST = 2, 2.0
#: A frequency that was seen on so many rows is half believed.
_HALF = 10.0


@torch.inference_mode()  # type: ignore[untyped-decorator]
def biases_given(drawing: Drawing, plain: Drawing, codes: Tensor, tested: int, seed: int) -> list[Tensor]:
    """What to add to the logits of each column, float32[size].

    Args:
        drawing: Draws rows under the conditions, without biases.
        plain: Draws unconditional rows.
        codes: int16[columns, n], rows that ``drawing`` made; n is a multiple of ``BLOCK``.
        tested: The first columns of the order of ``drawing`` that get no bias.
        seed: Seed of the new rows.
    """
    blocks = codes.split(BLOCK, dim=1)
    logs = torch.cat([_log_probability(plain, part) - _log_probability(drawing, part) for part in blocks])
    weights = torch.exp(logs - logs.max()).double()
    weights = weights.clamp(max=float(weights.mean()) * math.sqrt(len(weights)))
    weights /= weights.sum()
    believed = 1.0 / float(weights.square().sum())  # as many rows of equal weight would say as much
    sampler, random = drawing.sampler, torch.Generator().manual_seed(seed)
    biases = [torch.zeros(size) for size in sampler.sizes]
    rows = sampler.begin(codes.shape[1])
    for number, column in enumerate(drawing.order):
        if number < tested:
            sampler.enter(rows, column, codes[column])
            continue
        predicted = _weights(drawing, rows, column)
        absent = drawing.absent(rows, column)
        free = torch.ones(codes.shape[1], dtype=torch.bool) if absent is None else ~absent
        seen = torch.ones(codes.shape[1], dtype=torch.bool)
        if absent is not None:
            seen = codes[column] != sampler.sizes[column] - 1
        counted = torch.bincount(codes[column][seen].long(), weights[seen], sampler.sizes[column])
        if free.any() and float(counted.sum()) > 0:
            bias = _bias(predicted[:, free], counted, believed)
            predicted[:, free] *= torch.exp(bias)[:, None]
            biases[column] = bias
        sampler.enter(rows, column, chosen(predicted, torch.rand(codes.shape[1], generator=random)))
    return biases


def _bias(predicted: Tensor, counted: Tensor, rows: float) -> Tensor:
    """What gives the mean of weights [size, n] the counted shares [size], as far as so many rows say."""
    trust = (counted * rows / (counted * rows + _HALF)).float()
    share = (counted / counted.sum()).float()
    bias = torch.zeros(len(counted))
    for _ in range(_TIMES):
        weights = predicted * torch.exp(bias)[:, None]
        mean = (weights / weights.sum(0)).mean(1)
        step = torch.log((share / mean.clamp(min=1e-9)).clamp(math.exp(-_MOST), math.exp(_MOST)))
        bias += torch.where(share > 0, step * trust, torch.zeros_like(step))
    return bias


def calibrated_by(sampler: Sampler, biases: Sequence[Tensor]) -> Sampler:
    """The sampler with another calibration, that of ``biases_given``."""
    return sampler.with_calibration([bias[:, None].to(sampler.device) for bias in biases])


def _weights(drawing: Drawing, rows: Rows, column: int) -> Tensor:
    """Weights of a column's codes, float32[size, n], whatever is allowed."""
    weights = drawing.sampler.weights(rows, column, calibrated=drawing.calibrated)
    absent = drawing.absent(rows, column)
    return weights if absent is None else with_absent(weights, absent)


def _log_probability(drawing: Drawing, codes: Tensor) -> Tensor:
    """Logarithm of the probability of rows int16[columns, n], float32[n], whatever is allowed."""
    sampler, n = drawing.sampler, codes.shape[1]
    rows, total = sampler.begin(n), torch.zeros(n, device=sampler.device)
    for column in drawing.order:
        weights = _weights(drawing, rows, column)
        own = weights.gather(0, codes[column].long()[None])[0] / weights.sum(0)
        total += torch.log(own.clamp(min=1e-30))
        sampler.enter(rows, column, codes[column])
    return total
