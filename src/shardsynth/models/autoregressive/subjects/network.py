"""The network of several tables: each row given its owner, its earlier siblings, and its place among them.

A table has the network of a single table (``autoregressive.network``): the context of a column is the sum of the
embeddings of the row's earlier columns. To it comes what is *given* for the whole row: the owner's row, a recurrent
state over the earlier siblings (GRU, Cho et al. 2014), the row before, how many rows come before and after. And each
column's logits get terms of their own for the values that the column had on earlier rows (``persistence``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shardsynth.models.autoregressive.network import COSINES, Network, thinned
from shardsynth.models.autoregressive.subjects.families import CodedRows, Families, last_known
from shardsynth.models.autoregressive.subjects.persistence import (
    LEVELS,
    WIDTHS,
    by_distance,
    fitted_terms,
    levels,
    levels_before,
)

#: Places that have an embedding of their own; further ones share those of a power of 2 ^ (1/4).
_EXACT, _PLACES = 24, 64
#: Up to so many codes a category learns what follows each code.
_FEW_CODES = 130

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TableShape:
    """What the network needs to know of a table.

    Attributes:
        sizes: Codes of each column.
        nullable: Of each column, whether its last code means missing.
        places: See ``Network``.
        shares: float64[size] per column, share of each code.
        owner: The owner's name; None for the root.
        own: See ``Network``.
        cosines: See ``Network``.
    """

    sizes: tuple[int, ...]
    nullable: tuple[bool, ...]
    places: tuple[Floats | None, ...]
    shares: tuple[Floats, ...]
    owner: str | None
    own: tuple[NDArray[np.bool_], ...] | None = None
    cosines: int = COSINES


class RowNetwork(Network):
    """The network of one table's rows; arguments as of ``Network``.

    Args:
        shape: The table.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        folded: Whether it is a folded network, without smooth functions: what follows a code stands in one table.
    """

    def __init__(self, shape: TableShape, embedding: int, hidden: int, *, folded: bool = False) -> None:
        places = None if folded else shape.places
        super().__init__(shape.sizes, embedding, hidden, places, shape.own, shape.cosines)
        self.nullable, self.places = shape.nullable, shape.places
        self.plain = folded
        self.owned = shape.owner is not None
        self.outward = nn.Linear(embedding, embedding)
        if not self.owned:
            return
        self.owner = nn.Linear(embedding, embedding)
        self.begin = nn.Linear(embedding, embedding)
        self.history = nn.GRU(embedding, embedding, batch_first=True)
        self.past = nn.Linear(embedding, embedding, bias=False)
        self.previous = nn.Linear(embedding, embedding, bias=False)
        self.before = nn.Embedding(_PLACES, embedding)
        self.left = nn.Embedding(_PLACES, embedding)
        self.aside = nn.Linear(embedding, embedding, bias=False)
        groups = [(len(columns), widest) for columns, widest in self.groups]
        self.had = nn.ParameterList(nn.Parameter(torch.zeros(n, 1, 1)) for n, _ in groups)
        self.urn = nn.ParameterList(nn.Parameter(torch.zeros(n, 1, 1)) for n, _ in groups)
        self.follows = nn.ParameterList(
            nn.Parameter(torch.zeros(n, k + 1, k if folded or k <= _FEW_CODES else 0)) for n, k in groups
        )
        for number, (columns, widest) in enumerate(self.groups):
            rarity = torch.ones(len(columns), 1, widest)
            for place, column in enumerate(columns):
                share = torch.from_numpy(np.maximum(shape.shares[column], 1e-6))
                rarity[place, 0, : len(share)] = 1.0 / share
            self.register_buffer(f"rarity_{number}", rarity, persistent=False)
        if folded:
            self.levels = nn.ParameterList(nn.Parameter(torch.zeros(n, LEVELS + 1, k)) for n, k in groups)
            return
        self.stays = nn.ParameterList(nn.Parameter(torch.zeros(n, 1)) for n, _ in groups)
        self.near = nn.ParameterList(nn.Parameter(torch.zeros(n, len(WIDTHS))) for n, _ in groups)
        self.level = nn.ParameterList(nn.Parameter(torch.zeros(n, len(WIDTHS))) for n, _ in groups)
        for number, (columns, widest) in enumerate(self.groups):
            unordered = torch.ones(len(columns), 1, 1)
            near = torch.zeros(len(columns), widest + 1, widest, len(WIDTHS))
            far = torch.zeros(len(columns), LEVELS + 1, widest, len(WIDTHS))
            for place, column in enumerate(columns):
                order, size = shape.places[column], shape.sizes[column]
                if order is not None:
                    near[place, :size, :size] = torch.from_numpy(by_distance(order, order)).float()
                    far[place, :, :size] = torch.from_numpy(by_distance(levels(), order)).float()
                    unordered[place] = 0.0
            for name, values in (("near", near), ("far", far), ("unordered", unordered)):
                self.register_buffer(f"{name}_{number}", values, persistent=False)
        if self.smooth:
            functions = shape.cosines
            self.moves = nn.ParameterList(nn.Parameter(torch.zeros(n, functions, functions)) for n, _ in groups)

    def start_all(self, shares: Sequence[Floats], random: torch.Generator) -> RowNetwork:
        """Random weights; returns the network."""
        if self.sizes:
            self.start(shares, random)
        scale = 1.0 / math.sqrt(self.width)
        with torch.no_grad():
            for name, weights in self.named_parameters():
                if name.startswith(("outward", "owner", "begin", "history", "past", "previous", "aside")):
                    weights.normal_(0.0, 0.5 * scale, generator=random) if weights.dim() > 1 else weights.zero_()
                elif name.startswith(("before", "left")):
                    weights.normal_(0.0, 0.1, generator=random)
        return self

    def by_last(self, number: int) -> Tensor:
        """Terms of a group's logits by the last known code, float32[columns, widest + 1, widest]."""
        columns, widest = self.groups[number]
        follows: Tensor = self.follows[number]
        if self.plain:
            return follows
        terms = functional.pad(torch.diag_embed(self.stays[number].expand(-1, widest)), (0, 0, 0, 1))
        terms = terms + torch.einsum("nmkw,nw->nmk", self.buffer("near", number), self.near[number])
        if widest <= _FEW_CODES:
            terms = terms + follows * self.buffer("unordered", number)
        if self.smooth:
            basis = self.basis(number)
            moved = torch.bmm(torch.bmm(basis, self.moves[number]), basis.transpose(1, 2))
            terms = terms + functional.pad(moved, (0, 0, 0, 1))
        # A narrower column's own size means that nothing is known.
        narrow = [(place, self.sizes[column]) for place, column in enumerate(columns) if self.sizes[column] < widest]
        if narrow:
            places, sizes = (torch.tensor(values, device=terms.device) for values in zip(*narrow))
            none = terms[places, widest]
            terms = terms.clone()
            terms[places, sizes] = none
        return terms

    def by_level(self, number: int) -> Tensor:
        """Terms of a group's logits by the mean of earlier values, float32[columns, LEVELS + 1, widest]."""
        if self.plain:
            folded: Tensor = self.levels[number]
            return folded
        return torch.einsum("nmkw,nw->nmk", self.buffer("far", number), self.level[number])

    def by_times(self, number: int, times: Tensor) -> Tensor:
        """Terms of a group's logits, by how often each code stood on earlier rows.

        Args:
            number: The group.
            times: float32[columns, n, widest].
        """
        often = torch.log1p(times * self.buffer("rarity", number))
        terms: Tensor = self.had[number] * (times > 0) + self.urn[number] * often
        return terms

    def buffer(self, name: str, number: int) -> Tensor:
        """A group's tensor that is not learned."""
        found: Tensor = getattr(self, f"{name}_{number}")
        return found

    def row_losses(
        self,
        codes: Tensor,
        given: Tensor,
        past: tuple[Tensor, Tensor] | None,
        owner: Tensor | None,
        dropout: float = 0.0,
        random: torch.Generator | None = None,
        *,
        embedded: Tensor | None = None,
    ) -> Tensor:
        """Negative log-likelihood of rows, float32[n], in nats.

        Args:
            codes: int64[columns, n].
            given: float32[n, width], what is given for the whole row.
            past: int64[columns, n] each, see ``families.last_known`` and ``persistence.levels_before``; None for rows
                of no owner.
            owner: int64[n], place of each row's owner, never decreasing; None for rows of no owner.
            dropout: Share of the numbers of the context and of the hidden layer that are left out.
            random: Draws which ones.
            embedded: float32[columns, n, width], what earlier columns are for later ones; None: their embeddings.
        """
        count = len(self.sizes)
        if not count:
            return given.new_zeros(codes.shape[1])
        before = torch.tril(given.new_ones(count, count), -1)[self.by_group][:, self.by_group]
        embedded = self.embedded(codes, self.starts) if embedded is None else embedded
        codes, embedded = codes[self.by_group], embedded[self.by_group]
        context = (before @ embedded.reshape(count, -1)).view(embedded.shape) + given
        context = thinned(context, dropout, random)
        bias, inner = self.inner_bias[self.by_group], self.inner[self.by_group]
        hidden = thinned(torch.relu(torch.baddbmm(bias, context, inner)), dropout, random)
        sizes = [len(columns) for columns, _ in self.groups]
        parts = zip(self.groups, hidden.split(sizes), context.split(sizes), codes.split(sizes))
        losses = given.new_zeros(codes.shape[1])
        lasts, means = ([], []) if past is None else (each[self.by_group].split(sizes) for each in past)
        for number, ((columns, widest), group_hidden, group_context, targets) in enumerate(parts):
            outer = self.outer_weights(number)
            logits = torch.baddbmm(self.bias[number], group_hidden, outer[:, : self.hidden])
            logits = logits.baddbmm(group_context, outer[:, self.hidden :])
            if past is not None:
                assert owner is not None
                of = torch.arange(len(columns), device=codes.device)[:, None]
                logits = logits + self.by_last(number).reshape(-1, widest)[of * (widest + 1) + lasts[number]]
                logits = logits + self.by_level(number).reshape(-1, widest)[of * (LEVELS + 1) + means[number]]
                logits = logits + self.by_times(number, times_before(targets, owner, widest))
            loss = functional.cross_entropy(logits.reshape(-1, widest), targets.reshape(-1), reduction="none")
            losses = losses + loss.view(len(columns), -1).sum(0)
        return losses

    def columns_of(self, codes: Tensor, dropout: float, random: torch.Generator | None) -> Tensor:
        """Embeddings of rows int64[columns, n], float32[columns, n, width]; with dropout, of some of their columns.

        A row is known by all of its columns together. Where some of them are left out, as in the random orders of a
        single table, what few columns say is learned, and not whose row it is.
        """
        if not self.sizes:
            return self.outward.weight.new_zeros(0, codes.shape[1], self.width)
        embedded = self.embedded(codes, self.starts)
        if not dropout:
            return embedded
        return embedded * thinned(embedded.new_ones(*embedded.shape[:2], 1), dropout, random)

    def embedding_of(self, codes: Tensor) -> Tensor:
        """Sum of the embeddings of all columns, float32[n, width], of rows int64[columns, n]."""
        if not self.sizes:
            return self.outward.weight.new_zeros(codes.shape[1], self.width)
        return self.embedded(codes, self.starts).sum(0)

    def given_rows(self, owner: Tensor, state: Tensor, previous: Tensor, before: Tensor, left: Tensor) -> Tensor:
        """What is given for rows of an owner, float32[n, width].

        Args:
            owner: float32[n, width], what the owner says of itself.
            state: float32[n, width], of the history before the row.
            previous: float32[n, width], embedding of the row before; 0 for the first one.
            before: int64[n], rows of the owner before this one.
            left: int64[n], rows of the owner after it.
        """
        given: Tensor = self.owner(owner) + self.past(state) + self.previous(previous)
        return given + self.before(place_of(before)) + self.left(place_of(left))

    def first_state(self, owner: Tensor) -> Tensor:
        """State of the history before the first row, float32[owners, width]."""
        return torch.tanh(self.begin(owner))

    def says(self, embedding: Tensor, given: Tensor) -> Tensor:
        """What a row says of itself to the rows that it owns, float32[n, width]."""
        return torch.tanh(self.outward(embedding + given))


def times_before(codes: Tensor, owner: Tensor, size: int) -> Tensor:
    """How often a column had each code on earlier rows of the same owner, float32[columns, n, size].

    Args:
        codes: int64[columns, n].
        owner: int64[n], never decreasing.
        size: Number of codes.
    """
    stood = functional.one_hot(codes, size).to(torch.float32)
    before = stood.cumsum(1) - stood
    return before - before[:, torch.searchsorted(owner, owner)]


def place_of(numbers: Tensor) -> Tensor:
    """int64[n]: number of the embedding of a number of rows."""
    far = _EXACT + (4.0 * torch.log2(numbers.clamp(min=_EXACT).double() / _EXACT)).floor().long()
    return torch.where(numbers < _EXACT, numbers, far).clamp(max=_PLACES - 1)


class SubjectsNetwork(nn.Module):  # type: ignore[misc]
    """One network a table, in the order of the tables: owners before what they own.

    Args:
        shapes: The tables by name.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        folded: See ``RowNetwork``.
    """

    def __init__(self, shapes: Mapping[str, TableShape], embedding: int, hidden: int, *, folded: bool = False) -> None:
        super().__init__()
        self.names = tuple(shapes)
        self.owner_of = {name: shape.owner for name, shape in shapes.items() if shape.owner is not None}
        self.width = embedding
        self.tables = nn.ModuleList(RowNetwork(shape, embedding, hidden, folded=folded) for shape in shapes.values())

    def table(self, name: str) -> RowNetwork:
        """The network of one table."""
        network: RowNetwork = self.tables[self.names.index(name)]
        return network

    def start(self, shapes: Mapping[str, TableShape], random: torch.Generator) -> SubjectsNetwork:
        """Random weights; returns the network."""
        for name, shape in shapes.items():
            self.table(name).start_all(shape.shares, random)
        return self

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def expect(self, families: Families, shapes: Mapping[str, TableShape]) -> SubjectsNetwork:
        """Let codes come again as often as they do in these families; returns the network."""
        for name in self.owner_of:
            network = self.table(name)
            terms = fitted_terms(families.rows[name], network.sizes, network.nullable, shapes[name].places)
            for number, (columns, widest) in enumerate(network.groups):
                for place, column in enumerate(columns):
                    own, size = terms[column], network.sizes[column]
                    network.had[number][place], network.urn[number][place] = own.had, own.urn
                    network.stays[number][place] = own.stays
                    network.near[number][place] = torch.from_numpy(own.near).float()
                    network.level[number][place] = torch.from_numpy(own.level).float()
                    if widest <= _FEW_CODES:
                        follows = torch.from_numpy(own.follows).float()
                        network.follows[number][place, :size, :size] = follows[:size]
                        network.follows[number][place, widest, :size] = follows[size]
        return self

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def folded(self, shapes: Mapping[str, TableShape], hidden: int) -> SubjectsNetwork:
        """A network of the same distributions without smooth functions, on the CPU."""
        plain = SubjectsNetwork(shapes, self.width, hidden, folded=True)
        for name in self.names:
            own, copy = self.table(name), plain.table(name)
            names = set(copy.state_dict())
            kept = {k: v for k, v in own.state_dict().items() if k in names and not k.startswith("follows")}
            copy.load_state_dict({**copy.state_dict(), **{k: v.cpu() for k, v in kept.items()}})
            for number in range(len(own.groups)):
                copy.embeddings[number].copy_(own._embeddings(number))
                copy.outer[number].copy_(own.outer_weights(number))
                if own.owned:
                    copy.follows[number].copy_(own.by_last(number))
                    copy.levels[number].copy_(own.by_level(number))
        plain.eval().requires_grad_(False)
        return plain

    def losses(
        self, families: Families, device: torch.device, dropout: float = 0.0, random: torch.Generator | None = None
    ) -> Tensor:
        """Negative log-likelihood of subjects with all their rows, float32[subjects], in nats."""
        says: dict[str, Tensor] = {}
        subject = {self.names[0]: torch.arange(len(families), device=device)}
        total = torch.zeros(len(families), device=device)
        for name in self.names:
            network, rows = self.table(name), families.rows[name]
            codes = torch.from_numpy(rows.codes.astype(np.int64).T.copy()).to(device)
            embedded = network.columns_of(codes, dropout, random)
            embedding = embedded.sum(0)
            given, past, place = torch.zeros(codes.shape[1], self.width, device=device), None, None
            owner = self.owner_of.get(name)
            if owner is not None:
                place = torch.from_numpy(rows.owner).to(device)
                subject[name] = subject[owner][place]
                known = last_known(rows.codes, rows.owner, network.sizes, network.nullable)
                means = levels_before(rows.codes, rows.owner, network.places)
                past = (torch.from_numpy(known.T.copy()).to(device), torch.from_numpy(means.T.copy()).to(device))
                given, final = self._given(network, rows, embedding, says[owner], device)
                says[owner] = says[owner] + network.aside(final)
            losses = network.row_losses(codes, given, past, place, dropout, random, embedded=embedded)
            total = total.index_add(0, subject[name], losses)
            says[name] = network.says(embedding, given)
        return total

    def _given(
        self, network: RowNetwork, rows: CodedRows, embedding: Tensor, owner: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """What is given for each row, and the state of each owner's history after all of its rows."""
        counts = rows.counts
        first_state = network.first_state(owner)
        with_rows = np.flatnonzero(counts)
        if not len(with_rows):
            return embedding.new_zeros(0, self.width), torch.zeros_like(first_state)
        number = np.arange(len(rows.owner)) - np.repeat((np.cumsum(counts) - counts)[with_rows], counts[with_rows])
        line = np.repeat(np.arange(len(with_rows)), counts[with_rows])
        line_t, number_t = torch.from_numpy(line).to(device), torch.from_numpy(number).to(device)
        padded = embedding.new_zeros(len(with_rows), int(counts.max()), self.width)
        padded = padded.index_put((line_t, number_t), embedding)
        chosen = torch.from_numpy(with_rows).to(device)
        begin = first_state[chosen]
        states, _ = network.history(padded, begin[None].contiguous())
        before = torch.cat([begin[:, None], states[:, :-1]], 1)[line_t, number_t]
        previous = torch.cat([torch.zeros_like(padded[:, :1]), padded[:, :-1]], 1)[line_t, number_t]
        left = torch.from_numpy(counts[rows.owner] - 1 - number).to(device)
        place = torch.from_numpy(rows.owner).to(device)
        given = network.given_rows(owner[place], before, previous, number_t, left)
        ends = torch.from_numpy(counts[with_rows] - 1).to(device)
        final = torch.zeros_like(first_state).index_copy(0, chosen, states[torch.arange(len(ends)), ends])
        return given, final
