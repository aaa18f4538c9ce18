"""Sum of the clipped gradients of rows, without a gradient of a single row in memory: ghost clipping.

Every weight of the network meets one activation and one derivative per row and column. So the norm of a row's gradient
is a sum of products of norms of these (Goodfellow 2015, "Efficient per-example gradient computations"). The sum of the
clipped gradients is one more product, with weighted rows (Bu et al. 2022, "book-keeping"). One backward pass goes to
the activations, none to the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from shardsynth.models.autoregressive.network import Network


@dataclass(frozen=True)
class _Pass:
    """Activations and derivatives of one forward and one backward pass of rows.

    Attributes:
        codes: int64[columns, rows].
        context: Activations that enter the inner layers [columns, rows, width].
        features: Activations that enter the outer layers [columns, rows, hidden + width].
        of_embedded: Derivatives by the embeddings of the codes [columns, rows, width].
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
        """The same pass, each row's derivatives times its weight float32[rows]."""
        column = weights[:, None]
        logits = [gradient * column for gradient in self.of_logits]
        return replace(self, of_embedded=self.of_embedded * column, of_inner=self.of_inner * column, of_logits=logits)


def clipped_sums(network: Network, codes: Tensor, order: Tensor, clip: float) -> tuple[dict[str, Tensor], Tensor]:
    """Sum over rows of the gradients of their negative log-likelihoods, each scaled down to norm ``clip``.

    The part of a row in the sum depends on that row alone: all rows have the same order of columns.

    Args:
        network: The network; its gradients are not changed.
        codes: int64[columns, rows].
        order: int64[columns], the order in which the columns are seen.
        clip: Largest norm of one row's gradient.

    Returns:
        The sums by parameter name; and float32[rows], the norms before clipping.
    """
    embedded = network.embedded(codes, network.starts).detach().requires_grad_()
    context = network.summed(embedded, order[None])
    inner = torch.baddbmm(network.inner_bias, context, network.inner)
    features = torch.cat([torch.relu(inner), context], dim=2)
    logits, loss = [], torch.zeros((), device=codes.device)
    for number, (columns, widest) in enumerate(network.groups):
        group_logits = torch.baddbmm(network.bias[number], features[columns], network.outer_weights(number))
        loss = loss + functional.cross_entropy(
            group_logits.view(-1, widest), codes[columns].reshape(-1), reduction="sum"
        )
        logits.append(group_logits)
    of_embedded, of_inner, *of_logits = torch.autograd.grad(loss, [embedded, inner, *logits])
    with torch.no_grad():
        batch = _Pass(codes, context, features, of_embedded, of_inner, of_logits)
        norms = _squares(network, batch).sqrt()
        return _sums(network, batch.weighted((clip / norms.clamp(min=1e-12)).clamp(max=1.0))), norms


def _squares(network: Network, batch: _Pass) -> Tensor:
    """Squared norm of each row's gradient, float32[rows].

    A layer's part is |derivative|^2 times |activation|^2 of its input, plus 1 for the bias.
    """
    total = (_square(batch.of_inner) * (_square(batch.context) + 1.0)).sum(0)
    entered = torch.ones((), device=batch.codes.device)  # input of an embedding: 1, and smooth functions
    if network.smooth:
        bases = [network.basis(number).reshape(-1, network.basis(number).shape[2]) for number in _numbers(network)]
        entered = 1.0 + torch.cat([_square(basis) for basis in bases])[batch.codes + network.starts]
    total += (_square(batch.of_embedded) * entered).sum(0)
    for number, (columns, _) in enumerate(network.groups):
        of_logits = batch.of_logits[number]
        entering = _square(batch.features[columns])
        total += (_square(of_logits) * (entering + 1.0)).sum(0)
        if network.smooth:
            total += (_square(of_logits @ network.basis(number)) * entering).sum(0)
    return total


def _sums(network: Network, batch: _Pass) -> dict[str, Tensor]:
    """Sums of the rows' gradients by parameter name; the derivatives are weighted already."""
    sums = {"inner": batch.context.transpose(1, 2) @ batch.of_inner, "inner_bias": batch.of_inner.sum(1, keepdim=True)}
    tables = torch.zeros(sum(len(c) * widest for c, widest in network.groups), network.width, device=batch.codes.device)
    tables.index_add_(0, (batch.codes + network.starts).reshape(-1), batch.of_embedded.reshape(-1, network.width))
    first = 0
    for number, (columns, widest) in enumerate(network.groups):
        last = first + len(columns) * widest
        entered = tables[first:last].view(len(columns), widest, network.width)
        outer = batch.features[columns].transpose(1, 2) @ batch.of_logits[number]
        sums[f"embeddings.{number}"], sums[f"outer.{number}"] = entered, outer
        sums[f"bias.{number}"] = batch.of_logits[number].sum(1, keepdim=True)
        if network.smooth:
            sums[f"smooth_embeddings.{number}"] = network.basis(number).transpose(1, 2) @ entered
            sums[f"smooth_outer.{number}"] = outer @ network.basis(number)
        first = last
    return sums


def _square(values: Tensor) -> Tensor:
    """Squared norm along the last axis."""
    return values.square().sum(-1)


def _numbers(network: Network) -> range:
    return range(len(network.groups))
