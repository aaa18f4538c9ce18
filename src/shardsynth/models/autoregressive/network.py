"""The network: p(row) as a product over columns, each given the columns before it in any order.

A column's context is the sum of the embeddings of the codes before it (as in NADE, Larochelle & Murray 2011; any order:
Uria, Murray & Larochelle 2014), so a row costs time and memory linear in the number of columns. Each column has its own
hidden layer on the context, and its logits come from both. Columns of similar size form a group, so that all columns
together take a few batched products.
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
#: Number of smooth functions of a numeric column, if not said otherwise.
COSINES = 12
#: Up to so many columns the contexts are a matrix product, which is faster; beyond that, running sums.
_FEW_COLUMNS = 256
#: A group's widest column has at most so many times the codes of its narrowest one (4 codes are always allowed).
_SPREAD = 1.5


class Network(nn.Module):  # type: ignore[misc]
    """Conditional distributions of every column.

    The codes of a numeric column have an order. Such a column learns the weights of a few cosines of the order, and
    besides these one embedding and one set of logit weights for each of its codes that ``own`` names. Weights of a bin
    with few rows would learn these rows. ``folded`` adds both up; a folded network has no cosines.

    Args:
        sizes: Codes of each column.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        places: Per column float64[size], the place of each code in the order, 0 to 1, NaN for missing; None for a
            column without an order. None instead of a list: no column has an order.
        own: Per column bool[size], which codes have weights of their own; looked at for columns with an order only.
            None: all codes.
        cosines: Number of smooth functions of a column with an order. Fewer learn less of single rows.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        embedding: int,
        hidden: int,
        places: Sequence[NDArray[np.float64] | None] | None = None,
        own: Sequence[NDArray[np.bool_]] | None = None,
        cosines: int = COSINES,
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
        self.smooth_embeddings = nn.ParameterList(nn.Parameter(torch.zeros(n, cosines, embedding)) for n, _ in shapes)
        self.smooth_outer = nn.ParameterList(
            nn.Parameter(torch.zeros(n, hidden + embedding, cosines)) for n, _ in shapes
        )
        for number, (columns, widest) in enumerate(self.groups):
            basis = torch.zeros(len(columns), widest, cosines)
            for row, column in enumerate(columns):
                column_places = places[column]
                if column_places is not None:
                    basis[row, : len(column_places)] = torch.from_numpy(_cosines(column_places, cosines)).float()
            self.register_buffer(f"basis_{number}", basis, persistent=False)
            mask = torch.ones(len(columns), widest)
            for row, column in enumerate(columns):
                if own is not None and places[column] is not None:
                    mask[row, : len(own[column])] = torch.from_numpy(own[column]).float()
            self.register_buffer(f"own_{number}", mask, persistent=False)

    def start(self, shares: Sequence[NDArray[np.float64]], random: torch.Generator) -> Network:
        """Random weights, and biases that give each column its frequencies; returns the network.

        Args:
            shares: float64[size] per column, share of each code.
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
                    log_shares = torch.from_numpy(np.log(shares[column] + 1e-6)).to(self.bias[number])
                    self.bias[number][place, 0, : self.sizes[column]] = log_shares
        return self

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def folded(self) -> Network:
        """A network of the same distributions without smooth functions, on the CPU."""
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
        basis: Tensor = getattr(self, f"basis_{number}")
        return basis

    def _embeddings(self, number: int) -> Tensor:
        """Embeddings of a group's codes, float32[columns, widest, width]."""
        embeddings: Tensor = self.embeddings[number]
        if not self.smooth:
            return embeddings
        own: Tensor = getattr(self, f"own_{number}")
        return torch.baddbmm(embeddings * own[:, :, None], self.basis(number), self.smooth_embeddings[number])

    def outer_weights(self, number: int) -> Tensor:
        """Weights of a group's logits, float32[columns, hidden + width, widest]."""
        weights: Tensor = self.outer[number]
        if not self.smooth:
            return weights
        own: Tensor = getattr(self, f"own_{number}")
        return torch.baddbmm(weights * own[:, None, :], self.smooth_outer[number], self.basis(number).transpose(1, 2))

    def losses(
        self, codes: Tensor, orders: Tensor, dropout: float = 0.0, random: torch.Generator | None = None
    ) -> Tensor:
        """Negative log-likelihood of each code given those before it, float32[columns, rows], in nats.

        Args:
            codes: int64[columns, rows].
            orders: int64[g, columns]. g divides the number of rows; the first rows / g rows are seen in the first
                order, the next in the second, and so on.
            dropout: Share of the numbers of the context and of the hidden layer that are left out.
            random: Draws which ones.
        """
        # Columns of a group are put side by side: then a group is a slice, and is not copied.
        codes, orders = codes[self.by_group], self.place_by_group[orders]
        context = thinned(self.summed(self.embedded(codes, self.starts[self.by_group]), orders), dropout, random)
        bias, inner = self.inner_bias[self.by_group], self.inner[self.by_group]
        hidden = thinned(torch.relu(torch.baddbmm(bias, context, inner)), dropout, random)
        counts = [len(columns) for columns, _ in self.groups]
        parts = zip(self.groups, hidden.split(counts), context.split(counts), codes.split(counts))
        losses: list[Tensor] = []
        for number, ((columns, widest), group_hidden, group_context, targets) in enumerate(parts):
            outer = self.outer_weights(number)
            logits = torch.baddbmm(self.bias[number], group_hidden, outer[:, : self.hidden])
            logits = logits.baddbmm_(group_context, outer[:, self.hidden :])
            loss = functional.cross_entropy(logits.view(-1, widest), targets.reshape(-1), reduction="none")
            losses.append(loss.view(len(columns), -1))
        return torch.cat(losses)[self.place_by_group]

    def contexts(self, codes: Tensor, orders: Tensor) -> Tensor:
        """Sum of the embeddings of the columns before each, float32[columns, rows, width]; arguments as ``losses``."""
        return self.summed(self.embedded(codes, self.starts), orders)

    def embedded(self, codes: Tensor, starts: Tensor) -> Tensor:
        """Embeddings of codes int64[columns, rows], float32[columns, rows, width].

        Args:
            codes: The codes, columns in any arrangement.
            starts: int64[columns, 1], where the codes of these columns begin in the table of all embeddings.
        """
        tables = [self._embeddings(number).view(-1, self.width) for number in range(len(self.groups))]
        return torch.cat(tables)[codes + starts]

    def summed(self, embedded: Tensor, orders: Tensor) -> Tensor:
        """Sum of the embeddings of the columns before each, float32[columns, rows, width].

        Args:
            embedded: float32[columns, rows, width].
            orders: As in ``losses``.
        """
        count, rows = embedded.shape[:2]
        groups = len(orders)
        place = torch.argsort(orders, dim=1)
        if count <= _FEW_COLUMNS:  # one product with the matrix that says which column comes before which
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

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def reach(self, calibration: Tensor) -> float:
        """A bound of all logits, whatever the codes; infinite where a product could overflow float32.

        Args:
            calibration: float32[all codes], is added to logits.
        """
        columns = range(len(self.sizes))
        context = sum((self.embedding(c).abs().amax(0) for c in columns), torch.zeros(self.width)).double()
        most = float(context.max())
        for column in columns:
            inner, inner_bias, outer, bias = (weights.abs().double() for weights in self.head(column))
            hidden = inner_bias + context @ inner
            logits = bias + torch.cat([hidden, context]) @ outer
            most = max(most, float(hidden.max()), float(logits.max()))
        return most + float(calibration.abs().amax() if len(calibration) else 0.0)

    def embedding(self, column: int) -> Tensor:
        """Embeddings of one column's codes, float32[size, width]."""
        number, place = self._place(column)
        return self._embeddings(number)[place, : self.sizes[column]]

    def _place(self, column: int) -> tuple[int, int]:
        """Group of a column, and its place there."""
        return next((i, columns.index(column)) for i, (columns, _) in enumerate(self.groups) if column in columns)


def thinned(values: Tensor, dropout: float, random: torch.Generator | None) -> Tensor:
    """The values with dropout: a share of them (in 256ths) is 0, and the others are scaled up to keep the mean."""
    lost = round(256 * dropout)
    if not lost:
        return values
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
    dice = words.random_(-(2**63), None, generator=random).view(torch.uint8)[: values.numel()].view(values.shape)
    return values * (dice >= lost).to(values.dtype).mul_(256 / (256 - lost))


def _cosines(place: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """float64[size, count]: cosines of rising frequency and falling amplitude; 0 for missing."""
    order = np.arange(1, count + 1)
    values = np.cos(np.pi * place[:, None] * order) / np.sqrt(order)
    return np.where(np.isnan(values), 0.0, values)


def _groups(sizes: Sequence[int]) -> list[tuple[list[int], int]]:
    """Groups of columns of similar size: the columns' numbers, and the size of the widest one."""
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
    """Orders to train in, int64[count, columns]: those in which columns will be drawn later.

    Half of them are the schema's order. In the other half a random set of columns, more often a small one, comes first
    in random order, like the columns of conditions; the rest follows in the schema's order.

    Args:
        count: Number of orders.
        columns: Number of columns.
        random: The source of randomness.
        fixed: All orders are the schema's.
    """
    plain = torch.arange(columns)
    if fixed or columns < 2:
        return plain.repeat(count, 1)
    uniform = torch.rand(count, generator=random)
    front = 1 + ((columns - 1) * uniform**3).long()
    front[::2] = 0
    place = torch.rand(count, columns, generator=random).argsort(1).argsort(1)
    return torch.where(place < front[:, None], place, columns + plain).argsort(1)
