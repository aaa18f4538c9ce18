"""Gradients of single rows, clipped and summed, without ever holding them: ghost clipping.

Every weight of the network meets one activation and one derivative per row and column, so that the norm of a row's
gradient is a sum of products of their norms (Goodfellow 2015), and the sum of the clipped gradients is one product more
with the rows weighted (Bu et al. 2022, "book-keeping"): one backward pass to the activations, none to the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shardsynth.models.autoregressive.network import Network


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
        norms = _squares(network, codes, context, features, of_embedded, of_inner, of_logits).sqrt()
        weights = (clip / norms.clamp(min=1e-12)).clamp(max=1.0)[:, None]
        return _sums(network, codes, context, features, of_embedded * weights, of_inner * weights,
                     [own * weights for own in of_logits]), norms  # fmt: skip


def _squares(
    network: Network,
    codes: Tensor,
    context: Tensor,
    features: Tensor,
    of_embedded: Tensor,
    of_inner: Tensor,
    of_logits: list[Tensor],
) -> Tensor:
    """Squared norm of each row's gradient, float32[rows]: per weight |activation|^2 |derivative|^2, a bias adds 1."""
    total = (_square(of_inner) * (_square(context) + 1.0)).sum(0)
    entered = torch.ones((), device=codes.device)  # a code enters with 1, and with its smooth functions
    if network.smooth:
        bases = [network.basis(number).reshape(-1, network.basis(number).shape[2]) for number in _numbers(network)]
        entered = 1.0 + torch.cat([_square(basis) for basis in bases])[codes + network.starts]
    total += (_square(of_embedded) * entered).sum(0)
    for number, (columns, _) in enumerate(network.groups):
        own = of_logits[number]
        seen = _square(features[columns])
        total += (_square(own) * (seen + 1.0)).sum(0)
        if network.smooth:
            total += (_square(own @ network.basis(number)) * seen).sum(0)
    return total


def _sums(
    network: Network,
    codes: Tensor,
    context: Tensor,
    features: Tensor,
    of_embedded: Tensor,
    of_inner: Tensor,
    of_logits: list[Tensor],
) -> dict[str, Tensor]:
    """Sums over the rows by parameter name, of derivatives that are weighted already."""
    found = {"inner": context.transpose(1, 2) @ of_inner, "inner_bias": of_inner.sum(1, keepdim=True)}
    tables = torch.zeros(sum(len(c) * widest for c, widest in network.groups), network.width, device=codes.device)
    tables.index_add_(0, (codes + network.starts).reshape(-1), of_embedded.reshape(-1, network.width))
    first = 0
    for number, (columns, widest) in enumerate(network.groups):
        last = first + len(columns) * widest
        entered = tables[first:last].view(len(columns), widest, network.width)
        outer = features[columns].transpose(1, 2) @ of_logits[number]
        found[f"embeddings.{number}"], found[f"outer.{number}"] = entered, outer
        found[f"bias.{number}"] = of_logits[number].sum(1, keepdim=True)
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
