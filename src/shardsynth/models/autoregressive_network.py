"""The network: p(row) as a product over columns, each given the columns before it in any order.

A column's context is the sum of the embeddings of the codes before it (as in NADE, Larochelle & Murray 2011; any order:
Uria, Murray & Larochelle 2014), so that a row costs time and memory linear in its columns. Each column has a hidden
layer of its own on the context, and logits from both: all columns are a few batched products, columns of similar size
side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

#: Logit of a position that pads a column to the width of its group.
_NEVER = -1e9
#: Up to so many columns, contexts are a product; beyond, running sums.
_FEW_COLUMNS = 256
#: A group's widest column has at most so many times the codes of its narrowest (or 4 codes).
_SPREAD = 1.5


class Network(nn.Module):  # type: ignore[misc]
    """Conditional distributions of every column.

    Args:
        sizes: Codes of each column.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
    """

    def __init__(self, sizes: Sequence[int], embedding: int, hidden: int) -> None:
        super().__init__()
        self.sizes, self.width, self.hidden = tuple(sizes), embedding, hidden
        count = len(self.sizes)
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.register_buffer("starts", torch.from_numpy(starts)[:, None], persistent=False)
        self.groups = _groups(self.sizes)
        self.embeddings = nn.Parameter(torch.empty(sum(self.sizes), embedding))
        self.inner = nn.Parameter(torch.empty(count, embedding, hidden))
        self.inner_bias = nn.Parameter(torch.zeros(count, 1, hidden))
        self.outer = nn.ParameterList(
            nn.Parameter(torch.empty(len(columns), hidden + embedding, widest)) for columns, widest in self.groups
        )
        self.bias = nn.ParameterList(
            nn.Parameter(torch.full((len(columns), 1, widest), _NEVER)) for columns, widest in self.groups
        )

    def start(self, shares: Sequence[NDArray[np.float64]], random: torch.Generator) -> Network:
        """Random weights, and biases that give the columns' own frequencies; returns the network.

        Args:
            shares: float64[size] per column.
            random: The source of randomness.
        """
        with torch.no_grad():
            self.embeddings.normal_(0.0, 1.5 / math.sqrt(len(self.sizes)), generator=random)
            self.inner.normal_(0.0, 1.0 / math.sqrt(self.width), generator=random)
            for weight in self.outer:
                weight.normal_(0.0, 0.01, generator=random)
            for (columns, _), bias in zip(self.groups, self.bias):
                for place, column in enumerate(columns):
                    own = torch.from_numpy(np.log(shares[column] + 1e-6)).to(bias)
                    bias[place, 0, : self.sizes[column]] = own
        return self

    def losses(
        self, codes: Tensor, orders: Tensor, dropout: float = 0.0, random: torch.Generator | None = None
    ) -> Tensor:
        """Mean negative log-likelihood of each column, float32[columns], in nats.

        Args:
            codes: int64[columns, rows].
            orders: int64[g, columns]: g divides the rows; each share of them is seen in one order.
            dropout: Share of the hidden units left out.
            random: Draws them.
        """
        context = self.contexts(codes, orders)
        hidden = torch.relu(torch.baddbmm(self.inner_bias, context, self.inner))
        if dropout:
            kept = torch.rand(hidden.shape, generator=random, device=hidden.device) >= dropout
            hidden = hidden * kept / (1.0 - dropout)
        features = torch.cat([hidden, context], dim=2)
        found: list[Tensor] = []
        for (columns, widest), weight, bias in zip(self.groups, self.outer, self.bias):
            logits = torch.baddbmm(bias, features[columns], weight)
            wanted = codes[columns].reshape(-1)
            loss = functional.cross_entropy(logits.reshape(-1, widest), wanted, reduction="none")
            found.append(loss.view(len(columns), -1).mean(1))
        place = torch.tensor([c for columns, _ in self.groups for c in columns], device=codes.device)
        return torch.zeros(len(self.sizes), device=codes.device).index_add(0, place, torch.cat(found))

    def contexts(self, codes: Tensor, orders: Tensor) -> Tensor:
        """Sum of the embeddings of the columns before each, float32[columns, rows, width]."""
        count, rows = codes.shape
        groups = len(orders)
        embedded = self.embeddings[codes + self.starts]
        place = torch.argsort(orders, dim=1)
        if count <= _FEW_COLUMNS:  # one product with the matrix of who stands before whom
            before = (place[:, None, :] < place[:, :, None]).to(embedded.dtype)
            parts = embedded.view(count, groups, -1).transpose(0, 1)
            return torch.bmm(before, parts).transpose(0, 1).reshape(count, rows, self.width)
        parts = torch.arange(groups, device=codes.device)
        ordered = embedded.view(count, groups, rows // groups, self.width)[orders.t(), parts]
        sums = torch.cat([torch.zeros_like(ordered[:1]), ordered[:-1]]).cumsum(0)
        return sums[place.t(), parts].reshape(count, rows, self.width)

    def head(self, column: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of one column: inner [width, hidden], its bias, outer [hidden + width, size], its bias."""
        for (columns, _), weight, bias in zip(self.groups, self.outer, self.bias):
            if column in columns:
                place, size = columns.index(column), self.sizes[column]
                return (
                    self.inner[column],
                    self.inner_bias[column, 0],
                    weight[place][:, :size],
                    bias[place, 0, :size],
                )
        raise IndexError(column)

    def embedding(self, column: int) -> Tensor:
        """Embeddings of one column's codes, float32[size, width]."""
        first = int(self.starts[column])
        return self.embeddings[first : first + self.sizes[column]]


def _groups(sizes: Sequence[int]) -> list[tuple[list[int], int]]:
    """Columns of similar size, and the size of the widest of each group."""
    order = np.argsort(sizes, kind="stable")
    groups: list[tuple[list[int], int]] = []
    first = 0
    while first < len(order):
        last, most = first, max(_SPREAD * sizes[order[first]], 4)
        while last < len(order) and sizes[order[last]] <= most:
            last += 1
        groups.append(([int(c) for c in order[first:last]], int(sizes[order[last - 1]])))
        first = last
    return groups


def draw_orders(count: int, columns: int, random: torch.Generator, *, fixed: bool) -> Tensor:
    """Orders to train in, int64[count, columns]: as columns will be drawn.

    Half of them are the schema's; in the other half a random set of columns, more often a small one, stands first in
    random order, as the columns of conditions will, and the rest follows in the schema's.
    """
    plain = torch.arange(columns)
    if fixed or columns < 2:
        return plain.repeat(count, 1)
    uniform = torch.rand(count, generator=random)
    front = 1 + ((columns - 1) * uniform**3).long()
    front[::2] = 0
    place = torch.rand(count, columns, generator=random).argsort(1).argsort(1)
    return torch.where(place < front[:, None], place, columns + plain).argsort(1)
