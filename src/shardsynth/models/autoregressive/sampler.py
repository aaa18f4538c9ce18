"""Codes of rows by their global numbers, a column at a time: the same whatever range, batch or thread asks for them.

Rows are made in blocks of ``BLOCK`` whose first row is a multiple of it, each always whole and by one thread: the
matrix products see the same shapes every time, so that a row's bits depend on nothing but the model, the seed and its
number (on one kind of processor). A row's randomness is its own words of a counter-based stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.models.autoregressive.network import Network
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.sampling.streams import random_words

#: Rows that are made together.
BLOCK = 4_096
_LANE = 2.0**-32
#: Beginnings of a row whose next column has a table, and entries of such a table at most.
_MOST_BEGINNINGS = 1_024
_MOST_ENTRIES = 1 << 17

Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Lanes:
    """A block's random numbers.

    Attributes:
        codes: float32[columns, n], in (0, 1): chooses the code of each column.
        places: uint32[columns, n]: place within the code.
    """

    codes: NDArray[np.float32]
    places: NDArray[np.uint32]


def lanes_of(key: tuple[int, int], block: int, columns: int, layer: int = 0) -> Lanes:
    """Random numbers of one whole block; ``layer`` as in ``random_words``."""
    words = random_words(key, block * BLOCK, BLOCK, columns, layer=layer)
    small = words.astype("<u8", copy=False).view("<u4").T
    shares = ((small[:columns] >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    return Lanes(shares, small[columns:])


def places(lanes: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Uniform numbers float64[n] in (0, 1) of 32-bit lanes."""
    return (lanes.astype(np.float64) + 0.5) * _LANE


@dataclass(frozen=True)
class _Head:
    """One column's weights: inner [width, hidden], outer [size, hidden + width], embedding [size, width]."""

    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    bias: Tensor
    embedding: Tensor


@dataclass
class Rows:
    """Rows being made.

    Attributes:
        codes: Column -> int16[n].
        context: float32[n, width].
        entry: int64[n], which of the beginnings of ``Drawing`` each is.
    """

    codes: dict[int, Tensor]
    context: Tensor = field(repr=False)
    entry: Tensor = field(repr=False)

    def take(self, chosen: Tensor) -> Rows:
        """Some of the rows."""
        codes = {column: own[chosen] for column, own in self.codes.items()}
        return Rows(codes, self.context[chosen], self.entry[chosen])

    def put(self, chosen: Tensor, other: Rows) -> None:
        """Replace some of the rows."""
        for column, codes in other.codes.items():
            self.codes[column][chosen] = codes
        self.context[chosen], self.entry[chosen] = other.context, other.entry


class Sampler:
    """Draws columns of many rows.

    Args:
        network: Trained.
        calibration: float32[all codes], added to the biases where columns are drawn in schema order.
        temperature: Logits are divided by it.
        top_p: Only the most probable codes that together hold this probability.
        device: Where to compute.
    """

    def __init__(
        self,
        network: Network,
        calibration: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device, self.top_p, self.temperature = torch.device(device), top_p, temperature
        self.sizes, self.width = network.sizes, network.width
        self._heads: list[_Head] = []
        self._calibration: list[Tensor] = []
        first = 0
        with torch.no_grad():
            for column, size in enumerate(self.sizes):
                inner, inner_bias, outer, bias = (w.detach().to(self.device) for w in network.head(column))
                embedding = network.embedding(column).detach().to(self.device)
                head = _Head(
                    inner.contiguous(),
                    inner_bias,
                    (outer.t() / temperature).contiguous(),
                    bias[:, None] / temperature,
                    embedding.contiguous(),
                )
                self._heads.append(head)
                own = calibration[first : first + size, None].to(self.device)
                self._calibration.append((own / temperature).contiguous())
                first += size

    def embedding(self, column: int) -> Tensor:
        """Embeddings of one column's codes, float32[size, width]."""
        return self._heads[column].embedding

    def begin(self, n: int) -> Rows:
        """Rows of which nothing is known."""
        return Rows(
            {},
            torch.zeros(n, self.width, device=self.device),
            torch.zeros(n, dtype=torch.int64, device=self.device),
        )

    def weights(self, rows: Rows, column: int, *, calibrated: bool = False) -> Tensor:
        """Unnormalised probabilities of a column's codes, float32[size, n], the largest of each row being 1."""
        head, context = self._heads[column], rows.context
        bias = head.bias + self._calibration[column] if calibrated else head.bias
        hidden = torch.addmm(head.inner_bias, context, head.inner).relu_()
        width = hidden.shape[1]
        logits = torch.addmm(bias, head.outer[:, :width], hidden.t()).addmm_(head.outer[:, width:], context.t())
        weights = logits.sub_(logits.amax(0)).exp_()
        return _nucleus(weights, self.top_p) if self.top_p < 1.0 else weights

    def enter(self, rows: Rows, column: int, codes: Tensor) -> None:
        """Let the rows have these codes int16[n] in a column."""
        rows.codes[column] = codes
        rows.context += self._heads[column].embedding.index_select(0, codes.int())

    def draw(
        self,
        rows: Rows,
        column: int,
        uniform: Tensor,
        *,
        calibrated: bool = False,
        allowed: Tensor | None = None,
        plain: Tensor | None = None,
    ) -> Tensor | None:
        """Draw a column.

        Args:
            rows: To which the column is added.
            column: Which.
            uniform: float32[n] in (0, 1).
            calibrated: Whether the columns are drawn in schema order, nothing being given.
            allowed: float32[size] or [size, n], factors in 0 to 1 of the codes' probabilities.
            plain: float32[size], weights to draw by instead of the network's.

        Returns:
            With ``allowed``, the probability float32[n] of what is allowed, given the columns before.
        """
        if plain is not None:
            weights = plain[:, None].expand(-1, len(uniform)).clone()
        else:
            weights = self.weights(rows, column, calibrated=calibrated)
        probability = None
        if allowed is not None:
            total = weights.sum(0)
            weights = weights * (allowed if allowed.dim() == 2 else allowed[:, None])
            probability = weights.sum(0) / total
        self.enter(rows, column, _chosen(weights, uniform))
        return probability


@dataclass(frozen=True)
class _Table:
    """How a column is drawn after each of the beginnings of a row that there are.

    Attributes:
        codes: int16[entries], code of each entry: a beginning followed by a code that it can have.
        cdf: float64[entries], number of the beginning + cumulative probability: one ascending vector, so that a
            uniform number finds its entry.
        probability: float32[beginnings], of what is allowed.
    """

    codes: Tensor
    cdf: Tensor
    probability: Tensor


class Drawing:
    """Columns drawn in one order. The first of them, while few beginnings of a row are possible, from tables.

    Args:
        sampler: Of the model.
        order: Columns.
        calibrated: See ``Sampler.draw``.
        plain: Weights of columns that are not drawn by the network's.
        allowed: By column, float64[size], factors in 0 to 1 of its codes' probabilities.
    """

    def __init__(
        self,
        sampler: Sampler,
        order: Sequence[int],
        *,
        calibrated: bool = False,
        plain: Mapping[int, Tensor] | None = None,
        allowed: Mapping[int, NDArray[np.float64]] | None = None,
    ) -> None:
        self.sampler, self.order, self._calibrated, self._plain = sampler, tuple(order), calibrated, dict(plain or {})
        self._allowed = {c: torch.from_numpy(a.astype(np.float32)) for c, a in (allowed or {}).items()}
        self._allowed = {c: factors.to(sampler.device) for c, factors in self._allowed.items()}
        self._tables: list[_Table] = []
        with torch.inference_mode(), torch_threads(1):
            rows = sampler.begin(1)
            for column in self.order:
                n = len(rows.context)
                if n > _MOST_BEGINNINGS or n * sampler.sizes[column] > _MOST_ENTRIES:
                    break
                rows = self._tabulate(rows, column)
            self._contexts = rows.context

    def draw(self, rows: Rows, number: int, uniform: Tensor) -> Tensor | None:
        """Draw a column, those before it in the order being drawn.

        Args:
            rows: To which it is added.
            number: Its place in the order.
            uniform: float32[n] in (0, 1).

        Returns:
            The probability float32[n] of what is allowed, given the columns before; None where everything is.
        """
        column = self.order[number]
        allowed = self._allowed.get(column)
        if number < len(self._tables):
            table = self._tables[number]
            probability = None if allowed is None else table.probability[rows.entry]
            rows.entry = torch.searchsorted(table.cdf, rows.entry + uniform.double())
            rows.codes[column] = table.codes[rows.entry]
            if number + 1 == len(self._tables):
                rows.context = self._contexts[rows.entry]
            return probability
        plain = self._plain.get(column)
        return self.sampler.draw(rows, column, uniform, calibrated=self._calibrated, allowed=allowed, plain=plain)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def block(self, lanes: Lanes) -> Codes:
        """Codes int16[columns, BLOCK] of a block, all columns being in the order and everything allowed."""
        shares = torch.from_numpy(lanes.codes).to(self.sampler.device)
        rows = self.sampler.begin(shares.shape[1])
        for number, column in enumerate(self.order):
            self.draw(rows, number, shares[column])
        return stacked(rows)

    def _tabulate(self, rows: Rows, column: int) -> Rows:
        """Add the table of a column after these beginnings; returns the beginnings that it leads to."""
        n = len(rows.context)
        plain, allowed = self._plain.get(column), self._allowed.get(column)
        if plain is None:
            weights = self.sampler.weights(rows, column, calibrated=self._calibrated).double().t()
        else:
            weights = plain.to(self.sampler.device).double().expand(n, -1)
        total = weights.sum(1)
        weights = weights if allowed is None else weights * allowed
        left = weights.sum(1)
        if allowed is not None:  # too improbable for float32: what is given is given all the same
            weights = torch.where(left[:, None] > 0, weights, allowed.double())
        beginning, code = torch.nonzero(weights > 0, as_tuple=True)
        share = weights.cumsum(1) / weights.sum(1, keepdim=True)
        share[share >= share[:, -1:]] = 1.0  # rounding leaves nothing beyond the last
        codes = code.to(torch.int16)
        self._tables.append(_Table(codes, beginning + share[beginning, code], (left / total).float()))
        found = rows.take(beginning)
        self.sampler.enter(found, column, codes)
        return found


def stacked(rows: Rows) -> Codes:
    """The rows' codes, int16[columns, n]."""
    return np.stack([rows.codes[column].cpu().numpy() for column in range(len(rows.codes))])


def in_blocks(first_row: int, n: int, threads: int, make: Callable[[int], Sequence[NDArray]]) -> list[NDArray]:  # type: ignore[type-arg]
    """Arrays whose last axis is rows, of rows ``first_row`` to ``first_row + n - 1``, from whole blocks.

    Args:
        first_row: Global number of the first row.
        n: Rows.
        threads: Blocks made at the same time.
        make: Arrays of one block.
    """
    blocks = range(first_row // BLOCK, -(-(first_row + n) // BLOCK))
    with torch_threads(1):
        if threads <= 1 or len(blocks) <= 1:
            made = [make(block) for block in blocks]
        else:
            with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
                made = list(pool.map(make, blocks))
    skip = first_row - blocks.start * BLOCK
    return [np.concatenate(parts, axis=-1)[..., skip : skip + n] for parts in zip(*made)]


def _chosen(weights: Tensor, uniform: Tensor) -> Tensor:
    """int16[n]: codes drawn by weights [size, n], which it overwrites."""
    size = weights.shape[0]
    cdf = weights  # added up in place, one code after the other
    for k in range(1, size):
        cdf[k] += cdf[k - 1]
    passed = cdf < (cdf[-1] * uniform)
    return passed.view(torch.uint8).sum(0, dtype=torch.int16).clamp_(max=size - 1)


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Weights [size, n] without the least probable codes beyond ``top_p`` of the probability."""
    ordered, place = torch.sort(weights, dim=0, descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    kept = before < top_p * ordered.sum(0)
    return torch.zeros_like(weights).scatter_(0, place, torch.where(kept, ordered, torch.zeros_like(ordered)))


@torch.inference_mode()  # type: ignore[untyped-decorator]
def calibrated_biases(network: Network, shares: Sequence[NDArray[np.float64]], rows: int, seed: int) -> Tensor:
    """What to add to the biases, float32[all codes], so that rows drawn in schema order have the counted frequencies.

    Each column is drawn given the columns before it as they come out of the calibrated model; its bias is then moved by
    the log ratio of the counted to the mean predicted probability, twice.

    Args:
        network: Trained.
        shares: Counted share of each code, by column.
        rows: Rows to draw.
        seed: Of their randomness.
    """
    widest = max(network.sizes)
    rows = max(1024, min(rows, (32 << 20) // widest))
    sampler = Sampler(network, torch.zeros(sum(network.sizes)))
    random = torch.Generator().manual_seed(seed)
    drawn, found = sampler.begin(rows), []
    for column, share in enumerate(shares):
        weights = sampler.weights(drawn, column)
        wanted = torch.from_numpy(share).float()
        moved = torch.zeros(len(share))
        for _ in range(2):
            predicted = (weights / weights.sum(0)).mean(1)
            step = torch.log((wanted / predicted.clamp(min=1e-9)).clamp(math.exp(-2), math.exp(2)))
            step[wanted <= 0] = 0.0
            moved += step
            weights *= torch.exp(step)[:, None]
        sampler.enter(drawn, column, _chosen(weights, torch.rand(rows, generator=random)))
        found.append(moved)
    return torch.cat(found)
