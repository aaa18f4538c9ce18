"""A linear layer whose input ends in a one-hot condition vector: the vector is never made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def _sums_by_condition(rows: Tensor, flat: Tensor, conditions: int) -> Tensor:
    """Sums of the rows [b, n] of each condition: [conditions, n], the same bits whenever the device is the same."""
    if rows.device.type == "cpu":
        return rows.new_zeros(conditions, rows.shape[1]).index_add_(0, flat, rows)
    # A GPU adds into a place in any order; a product has one order.
    one_hot = rows.new_zeros(len(rows), conditions).scatter_(1, flat[:, None], 1.0)
    return one_hot.t() @ rows


class _Conditioned(torch.autograd.Function):  # type: ignore[misc]
    """A linear layer on [*parts, noise, one-hot vectors], without concatenating them.

    The product with a one-hot vector is a row of the weights. The noise needs no derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, noise: Tensor, flat: Tensor, weight: Tensor, bias: Tensor, half: bool, *parts: Tensor
    ) -> Tensor:
        known = [part.bfloat16() if half else part for part in (*parts, noise)]
        sizes = [part.shape[1] for part in known]
        *dense, table = weight.split([*sizes, weight.shape[1] - sum(sizes)], dim=1)
        out = nn.functional.embedding(flat, table.t().contiguous()).add_(bias)
        for part, block in zip(known, dense):
            if half:
                out += part @ block.bfloat16().t()
            else:
                out.addmm_(part, block.t())
        ctx.save_for_backward(flat, weight, *known)
        ctx.sizes, ctx.half = sizes, half
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, *known = ctx.saved_tensors
        d_out = gradients[0]
        rounded = d_out.bfloat16() if ctx.half else d_out
        d_weight, d_parts, first = torch.empty_like(weight), [], 0
        for part, size in zip(known, ctx.sizes):
            block = slice(first, first + size)
            if ctx.half:
                d_weight[:, block] = rounded.t() @ part
            else:
                torch.mm(rounded.t(), part, out=d_weight[:, block])
            if first + size < sum(ctx.sizes):
                d_parts.append((rounded @ weight[:, block].to(rounded.dtype)).float())
            first += size
        d_weight[:, first:] = _sums_by_condition(d_out, flat, weight.shape[1] - first).t()
        return None, None, d_weight, d_out.sum(0), None, *d_parts


def conditioned_linear(noise: Tensor, flat: Tensor, weight: Tensor, bias: Tensor, half: bool, *parts: Tensor) -> Tensor:
    """The layer's output [b, n] of ``[*parts, noise, one-hot vectors]``.

    Args:
        noise: float32[b, k]; gets no derivative.
        flat: int64[b], hot position of each condition vector.
        weight: float32[n, widths of all that it is of].
        bias: float32[n].
        half: Compute matrix products in bfloat16.
        parts: float32[b, widths], what is learned from.
    """
    result: Tensor = _Conditioned.apply(noise, flat, weight, bias, half, *parts)
    return result
