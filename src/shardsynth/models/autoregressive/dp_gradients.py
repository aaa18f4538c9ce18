"""Gradients of single rows, clipped and summed, without ever holding them: ghost clipping.

Every weight of the network meets one activation and one derivative per row and column, so that the norm of a row's
gradient is a sum of products of their norms (Goodfellow 2015), and the sum of the clipped gradients is one product more
with the rows weighted (Bu et al. 2022, "book-keeping"): one backward pass to the activations, none to the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from shardsynth.models.autoregressive.network import Network


@dataclass(frozen=True)
class _Pass:
    """One pass of rows through the network, there and back.

    Attributes:
        codes: int64[columns, rows].
        context: Activations that enter the inner layers [columns, rows, width].
        features: Activations that enter the outer layers [columns, rows, hidden + width].
        of_embedded: Derivatives by what a code enters with [columns, rows, width].
        of_inner: Derivatives by the inner layers' outputs [columns, rows, hidden].
        of_logits: Derivatives by each group's logits [group's columns, rows, widest].
    """

    codes: Tensor
    context: Tensor
    features: Tensor
    of_embedded: Tensor
    of_inner: Tensor
    of_logits: list[Tensor]

    def weighted(self, weights: Tensor) -> _Pass:
        """With each row's derivatives times its weight, float32[rows]."""
        column = weights[:, None]
        logits = [own * column for own in self.of_logits]
        return replace(self, of_embedded=self.of_embedded * column, of_inner=self.of_inner * column, of_logits=logits)


def clipped_sums(network: Network, codes: Tensor, order: Tensor, clip: float) -> tuple[dict[str, Tensor], Tensor]:
    """Sum over rows of the gradients of their negative log-likelihoods, each scaled down to norm ``clip``.

    What a row adds depends on that row alone: all rows are seen in one order.

    Args:
        network: The network; its gradients are not touched.
        codes: int64[columns, rows].
        order: int64[columns].
        clip: Largest norm of one row's gradient.

    Returns:
        The sums by parameter name, and float32[rows], the norms before clipping.
    """
    embedded = network.embedded(codes, network.starts).detach().requires_grad_()
    context = network.summed(embedded, order[None])
    inner = torch.baddbmm(network.inner_bias, context, network.inner)
    features = torch.cat([torch.relu(inner), context], dim=2)
    logits, loss = [], torch.zeros((), device=codes.device)
    for number, (columns, widest) in enumerate(network.groups):
        own = torch.baddbmm(network.bias[number], features[columns], network.outer_weights(number))
        loss = loss + functional.cross_entropy(own.view(-1, widest), codes[columns].reshape(-1), reduction="sum")
        logits.append(own)
    of_embedded, of_inner, *of_logits = torch.autograd.grad(loss, [embedded, inner, *logits])
    with torch.no_grad():
        seen = _Pass(codes, context, features, of_embedded, of_inner, of_logits)
        norms = _squares(network, seen).sqrt()
        return _sums(network, seen.weighted((clip / norms.clamp(min=1e-12)).clamp(max=1.0))), norms


def _squares(network: Network, seen: _Pass) -> Tensor:
    """Squared norm of each row's gradient, float32[rows]: per weight |activation|^2 |derivative|^2, a bias adds 1."""
    total = (_square(seen.of_inner) * (_square(seen.context) + 1.0)).sum(0)
    entered = torch.ones((), device=seen.codes.device)  # a code enters with 1, and with its smooth functions
    if network.smooth:
        bases = [network.basis(number).reshape(-1, network.basis(number).shape[2]) for number in _numbers(network)]
        entered = 1.0 + torch.cat([_square(basis) for basis in bases])[seen.codes + network.starts]
    total += (_square(seen.of_embedded) * entered).sum(0)
    for number, (columns, _) in enumerate(network.groups):
        own = seen.of_logits[number]
        entering = _square(seen.features[columns])
        total += (_square(own) * (entering + 1.0)).sum(0)
        if network.smooth:
            total += (_square(own @ network.basis(number)) * entering).sum(0)
    return total


def _sums(network: Network, seen: _Pass) -> dict[str, Tensor]:
    """Sums over the rows by parameter name, of derivatives that are weighted already."""
    found = {"inner": seen.context.transpose(1, 2) @ seen.of_inner, "inner_bias": seen.of_inner.sum(1, keepdim=True)}
    tables = torch.zeros(sum(len(c) * widest for c, widest in network.groups), network.width, device=seen.codes.device)
    tables.index_add_(0, (seen.codes + network.starts).reshape(-1), seen.of_embedded.reshape(-1, network.width))
    first = 0
    for number, (columns, widest) in enumerate(network.groups):
        last = first + len(columns) * widest
        entered = tables[first:last].view(len(columns), widest, network.width)
        outer = seen.features[columns].transpose(1, 2) @ seen.of_logits[number]
        found[f"embeddings.{number}"], found[f"outer.{number}"] = entered, outer
        found[f"bias.{number}"] = seen.of_logits[number].sum(1, keepdim=True)
        if network.smooth:
            found[f"smooth_embeddings.{number}"] = network.basis(number).transpose(1, 2) @ entered
            found[f"smooth_outer.{number}"] = outer @ network.basis(number)
        first = last
    return found


def _square(values: Tensor) -> Tensor:
    """Squared norm along the last axis."""
    return values.square().sum(-1)


def _numbers(network: Network) -> range:
    return range(len(network.groups))
