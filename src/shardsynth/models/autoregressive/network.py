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
#: Smooth functions of a numeric column.
_COSINES = 12
#: Up to so many columns, contexts are a product; beyond, running sums.
_FEW_COLUMNS = 256
#: A group's widest column has at most so many times the codes of its narrowest (or 4 codes).
_SPREAD = 1.5


class Network(nn.Module):  # type: ignore[misc]
    """Conditional distributions of every column.

    The codes of a numeric column are in order. Besides what each code learns for itself, such a column learns smooth
    functions of the order, a few cosines, for its embeddings and for its logits: with few rows to a bin these carry the
    dependence. ``folded`` adds them up; a folded network is a plain one.

    Args:
        sizes: Codes of each column.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        places: Per column float64[size], the place of each code in the order in 0 to 1, NaN for missing; None for
            columns without order. None: no column has one.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        embedding: int,
        hidden: int,
        places: Sequence[NDArray[np.float64] | None] | None = None,
    ) -> None:
        super().__init__()
        self.sizes, self.width, self.hidden = tuple(sizes), embedding, hidden
        count = len(self.sizes)
        self.groups = _groups(self.sizes)
        starts, first = torch.zeros(count, 1, dtype=torch.int64), 0
        for columns, widest in self.groups:
            starts[columns, 0] = first + widest * torch.arange(len(columns))
            first += widest * len(columns)
        self.register_buffer("starts", starts, persistent=False)
        by_group = torch.tensor([c for columns, _ in self.groups for c in columns])
        self.register_buffer("by_group", by_group, persistent=False)
        self.register_buffer("place_by_group", by_group.argsort(), persistent=False)
        self.inner = nn.Parameter(torch.empty(count, embedding, hidden))
        self.inner_bias = nn.Parameter(torch.zeros(count, 1, hidden))
        shapes = [(len(columns), widest) for columns, widest in self.groups]
        self.embeddings = nn.ParameterList(nn.Parameter(torch.zeros(n, k, embedding)) for n, k in shapes)
        self.outer = nn.ParameterList(nn.Parameter(torch.zeros(n, hidden + embedding, k)) for n, k in shapes)
        self.bias = nn.ParameterList(nn.Parameter(torch.full((n, 1, k), _NEVER)) for n, k in shapes)
        self.smooth = places is not None and any(p is not None for p in places)
        if not self.smooth or places is None:
            return
        self.smooth_embeddings = nn.ParameterList(nn.Parameter(torch.zeros(n, _COSINES, embedding)) for n, _ in shapes)
        self.smooth_outer = nn.ParameterList(
            nn.Parameter(torch.zeros(n, hidden + embedding, _COSINES)) for n, _ in shapes
        )
        for number, (columns, widest) in enumerate(self.groups):
            basis = torch.zeros(len(columns), widest, _COSINES)
            for row, column in enumerate(columns):
                own = places[column]
                if own is not None:
                    basis[row, : len(own)] = torch.from_numpy(_cosines(own)).float()
            self.register_buffer(f"basis_{number}", basis, persistent=False)

    def start(self, shares: Sequence[NDArray[np.float64]], random: torch.Generator) -> Network:
        """Random weights, and biases that give the columns' own frequencies; returns the network.

        Args:
            shares: float64[size] per column.
            random: The source of randomness.
        """
        scale = 1.5 / math.sqrt(len(self.sizes))
        with torch.no_grad():
            self.inner.normal_(0.0, 1.0 / math.sqrt(self.width), generator=random)
            for number, (columns, _) in enumerate(self.groups):
                self.embeddings[number].normal_(0.0, scale, generator=random)
                self.outer[number].normal_(0.0, 0.01, generator=random)
                if self.smooth:
                    self.smooth_embeddings[number].normal_(0.0, scale, generator=random)
                    ordered = self.basis(number).abs().sum((1, 2), keepdim=True) > 0
                    self.embeddings[number].mul_(torch.where(ordered, 0.1, 1.0))
                for place, column in enumerate(columns):
                    own = torch.from_numpy(np.log(shares[column] + 1e-6)).to(self.bias[number])
                    self.bias[number][place, 0, : self.sizes[column]] = own
        return self

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def folded(self) -> Network:
        """The same distributions without smooth functions, on the CPU."""
        plain = Network(self.sizes, self.width, self.hidden)
        plain.inner.copy_(self.inner)
        plain.inner_bias.copy_(self.inner_bias)
        for number in range(len(self.groups)):
            plain.embeddings[number].copy_(self._embeddings(number))
            plain.outer[number].copy_(self.outer_weights(number))
            plain.bias[number].copy_(self.bias[number])
        plain.eval().requires_grad_(False)
        return plain

    def basis(self, number: int) -> Tensor:
        """Smooth functions of a group's codes, float32[columns, widest, functions]; 0 for columns without order."""
        found: Tensor = getattr(self, f"basis_{number}")
        return found

    def _embeddings(self, number: int) -> Tensor:
        """Embeddings of a group's codes, float32[columns, widest, width]."""
        own: Tensor = self.embeddings[number]
        if not self.smooth:
            return own
        return torch.baddbmm(own, self.basis(number), self.smooth_embeddings[number])

    def outer_weights(self, number: int) -> Tensor:
        """Weights of a group's logits, float32[columns, hidden + width, widest]."""
        own: Tensor = self.outer[number]
        if not self.smooth:
            return own
        return torch.baddbmm(own, self.smooth_outer[number], self.basis(number).transpose(1, 2))

    def losses(
        self, codes: Tensor, orders: Tensor, dropout: float = 0.0, random: torch.Generator | None = None
    ) -> Tensor:
        """Negative log-likelihood of each code given those before it, float32[columns, rows], in nats.

        Args:
            codes: int64[columns, rows].
            orders: int64[g, columns]: g divides the rows; each share of them is seen in one order.
            dropout: Share of the context's and the hidden layer's numbers left out.
            random: Draws them.
        """
        # Columns stand as their groups do: a group is then a slice, and nothing is copied to get at it.
        codes, orders = codes[self.by_group], self.place_by_group[orders]
        context = _thinned(self.summed(self.embedded(codes, self.starts[self.by_group]), orders), dropout, random)
        bias, inner = self.inner_bias[self.by_group], self.inner[self.by_group]
        hidden = _thinned(torch.relu(torch.baddbmm(bias, context, inner)), dropout, random)
        counts = [len(columns) for columns, _ in self.groups]
        parts = zip(self.groups, hidden.split(counts), context.split(counts), codes.split(counts))
        found: list[Tensor] = []
        for number, ((columns, widest), own_hidden, own_context, wanted) in enumerate(parts):
            outer = self.outer_weights(number)
            logits = torch.baddbmm(self.bias[number], own_hidden, outer[:, : self.hidden])
            logits = logits.baddbmm_(own_context, outer[:, self.hidden :])
            loss = functional.cross_entropy(logits.view(-1, widest), wanted.reshape(-1), reduction="none")
            found.append(loss.view(len(columns), -1))
        return torch.cat(found)[self.place_by_group]

    def contexts(self, codes: Tensor, orders: Tensor) -> Tensor:
        """Sum of the embeddings of the columns before each, float32[columns, rows, width]."""
        return self.summed(self.embedded(codes, self.starts), orders)

    def embedded(self, codes: Tensor, starts: Tensor) -> Tensor:
        """Embeddings of codes int64[columns, rows], float32[columns, rows, width].

        The columns may stand in any arrangement: ``starts`` int64[columns, 1] says where their codes begin.
        """
        tables = [self._embeddings(number).view(-1, self.width) for number in range(len(self.groups))]
        return torch.cat(tables)[codes + starts]

    def summed(self, embedded: Tensor, orders: Tensor) -> Tensor:
        """Sums of the columns before each, in the orders of ``losses``, of embeddings as ``embedded`` gives them."""
        count, rows = embedded.shape[:2]
        groups = len(orders)
        place = torch.argsort(orders, dim=1)
        if count <= _FEW_COLUMNS:  # one product with the matrix of who stands before whom
            before = (place[:, None, :] < place[:, :, None]).to(embedded.dtype)
            parts = embedded.view(count, groups, -1).transpose(0, 1)
            return torch.bmm(before, parts).transpose(0, 1).reshape(count, rows, self.width)
        parts = torch.arange(groups, device=embedded.device)
        ordered = embedded.view(count, groups, rows // groups, self.width)[orders.t(), parts]
        sums = torch.cat([torch.zeros_like(ordered[:1]), ordered[:-1]]).cumsum(0)
        return sums[place.t(), parts].reshape(count, rows, self.width)

    def head(self, column: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of one column: inner [width, hidden], its bias, outer [hidden + width, size], its bias."""
        number, place = self._place(column)
        size = self.sizes[column]
        outer, bias = self.outer_weights(number)[place, :, :size], self.bias[number][place, 0, :size]
        return self.inner[column], self.inner_bias[column, 0], outer, bias

    def embedding(self, column: int) -> Tensor:
        """Embeddings of one column's codes, float32[size, width]."""
        number, place = self._place(column)
        return self._embeddings(number)[place, : self.sizes[column]]

    def _place(self, column: int) -> tuple[int, int]:
        """Group of a column, and its place there."""
        return next((i, columns.index(column)) for i, (columns, _) in enumerate(self.groups) if column in columns)


def _thinned(values: Tensor, dropout: float, random: torch.Generator | None) -> Tensor:
    """The values, a share of them (in 256ths) left out and the others grown for that."""
    lost = round(256 * dropout)
    if not lost:
        return values
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
    dice = words.random_(-(2**63), None, generator=random).view(torch.uint8)[: values.numel()].view(values.shape)
    return values * (dice >= lost).to(values.dtype).mul_(256 / (256 - lost))


def _cosines(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[size, _COSINES]: cosines of rising frequency and falling size; 0 for missing."""
    order = np.arange(1, _COSINES + 1)
    values = np.cos(np.pi * place[:, None] * order) / np.sqrt(order)
    return np.where(np.isnan(values), 0.0, values)


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
