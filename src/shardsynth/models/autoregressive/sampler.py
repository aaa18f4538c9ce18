"""Codes of rows by their global numbers, one column after the other.

Rows are made in blocks of ``BLOCK`` rows; a block starts at a multiple of ``BLOCK`` and is always made whole, by one
thread. So the matrix products have the same shapes every time, and a row depends, to the last bit, only on the model,
the seed and its number (on one kind of processor), not on the range or the thread. Each row has its own words of a
counter-based random stream.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.models.autoregressive.class_rows import ClassBiases, ClassRows
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.sampling.streams import random_words

#: Rows that are made together.
BLOCK = 4_096
_LANE = 2.0**-32
#: A beginning is a combination of codes of the first columns. At most so many have a table of the next column, and a
#: table has at most so many entries.
_MOST_BEGINNINGS = 1_024
_MOST_ENTRIES = 1 << 17

#: Embeddings of columns of so many codes are added as a product.
_FEW_CODES = 4

Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Lanes:
    """A block's random numbers.

    Attributes:
        codes: float32[columns, n] in (0, 1), chooses the code of each column.
        places: uint32[columns, n], the place within the code; ``places`` makes uniform numbers of them.
    """

    codes: NDArray[np.float32]
    places: NDArray[np.uint32]


def lanes_of(key: tuple[int, int], block: int, columns: int, layer: int = 0) -> Lanes:
    """Random numbers of one whole block, for so many columns; ``layer`` as in ``random_words``."""
    words = random_words(key, block * BLOCK, BLOCK, columns, layer=layer)
    small = words.astype("<u8", copy=False).view("<u4").T
    shares = ((small[:columns] >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    return Lanes(shares, small[columns:])


def places(lanes: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Uniform numbers float64[n] in (0, 1) of 32-bit lanes uint32[n]."""
    return (lanes.astype(np.float64) + 0.5) * _LANE


@dataclass(frozen=True)
class _Head:
    """Weights of one column.

    Attributes:
        inner: float32[width, hidden].
        inner_bias: float32[hidden].
        outer: float32[size, hidden + width].
        bias: float32[size, 1].
        embedding: float32[size, width].
    """

    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    bias: Tensor
    embedding: Tensor


@dataclass
class Rows:
    """Rows of which some columns are drawn.

    Attributes:
        codes: Column -> int16[n].
        context: float32[n, width], the sum of the embeddings of these codes.
        entry: int64[n], which of the beginnings of ``Drawing`` each row has.
        known: Column -> int16[n], the known codes (-1: unknown) of columns that are in the context, but not in
            ``codes``; None: there are none.
    """

    codes: dict[int, Tensor]
    context: Tensor = field(repr=False)
    entry: Tensor = field(repr=False)
    known: Mapping[int, Tensor] | None = field(default=None, repr=False)

    def take(self, chosen: Tensor) -> Rows:
        """The rows of these numbers int64[m]."""
        codes = {column: column_codes[chosen] for column, column_codes in self.codes.items()}
        return Rows(codes, self.context[chosen], self.entry[chosen])

    def put(self, chosen: Tensor, other: Rows) -> None:
        """Put the rows of ``other`` in the place of the rows of these numbers int64[m]."""
        for column, codes in other.codes.items():
            self.codes[column][chosen] = codes
        self.context[chosen], self.entry[chosen] = other.context, other.entry


class Sampler:
    """Draws columns of many rows.

    Args:
        network: The trained network.
        calibration: float32[all codes], added to the biases where columns are drawn in schema order.
        temperature: Logits are divided by this.
        top_p: Only the most probable codes that together have this probability are drawn.
        device: Where to compute.
        classes: Rows of rare classes of column 0 have biases of their own for the columns after it.
    """

    def __init__(
        self,
        network: Network,
        calibration: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        device: torch.device | str = "cpu",
        classes: ClassBiases | None = None,
    ) -> None:
        self.device, self.top_p, self.temperature = torch.device(device), top_p, temperature
        self.sizes, self.width = network.sizes, network.width
        self._heads: list[_Head] = []
        self._numbers = torch.arange(_FEW_CODES, dtype=torch.int16, device=self.device)
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
                biases = calibration[first : first + size, None].to(self.device)
                self._calibration.append((biases / temperature).contiguous())
                first += size
        self._classes = None if classes is None else ClassRows(self, classes)

    def embedding(self, column: int) -> Tensor:
        """Embeddings of one column's codes, float32[size, width]."""
        return self._heads[column].embedding

    def with_calibration(self, calibration: list[Tensor]) -> Sampler:
        """The same, with these [size, 1] added to logits (which the temperature has divided)."""
        other = copy.copy(self)
        other._calibration = calibration
        return other

    def begin(self, n: int) -> Rows:
        """Rows [n] without any column."""
        return Rows(
            {},
            torch.zeros(n, self.width, device=self.device),
            torch.zeros(n, dtype=torch.int64, device=self.device),
        )

    def weights(self, rows: Rows, column: int, *, calibrated: bool = False) -> Tensor:
        """Probabilities of a column's codes, float32[size, n], not normalised: the largest of each row is 1."""
        head, context = self._heads[column], rows.context
        bias = head.bias + self._calibration[column] if calibrated else head.bias
        hidden = torch.addmm(head.inner_bias, context, head.inner).relu_()
        width = hidden.shape[1]
        logits = torch.addmm(bias, head.outer[:, :width], hidden.t()).addmm_(head.outer[:, width:], context.t())
        if self._classes is not None and column and 0 in rows.codes:
            self._classes.add(logits, rows.codes[0], column, self._calibration[column] if calibrated else None)
        weights = logits.sub_(logits.amax(0)).exp_()
        if self._classes is not None and not column:
            weights = self._classes.of_known(rows, weights)
        return nucleus(weights, self.top_p) if self.top_p < 1.0 else weights

    def enter(self, rows: Rows, column: int, codes: Tensor) -> None:
        """Add a column of these codes int16[n] to the rows."""
        rows.codes[column] = codes
        embedding = self._heads[column].embedding
        # A product with indicators adds one embedding, exactly, without a copy of it (a GPU may round products).
        if len(embedding) <= _FEW_CODES and self.device.type == "cpu":
            rows.context.addmm_((codes[:, None] == self._numbers[: len(embedding)]).float(), embedding)
        else:
            rows.context += embedding.index_select(0, codes.int())

    def draw(
        self,
        rows: Rows,
        column: int,
        uniform: Tensor,
        *,
        calibrated: bool = False,
        allowed: Tensor | None = None,
        balance_weights: Tensor | None = None,
        absent: Tensor | None = None,
    ) -> Tensor | None:
        """Draw a column.

        Args:
            rows: The column is added to these.
            column: Number of the column.
            uniform: float32[n] in (0, 1).
            calibrated: Whether to add the calibration: columns are drawn in schema order, without conditions.
            allowed: float32[size] or [size, n], factors in 0 to 1 of the codes' probabilities.
            balance_weights: float32[size], weights to draw by in place of the network's.
            absent: bool[n], where the column, whose last code means missing, is missing; elsewhere it is not.

        Returns:
            With ``allowed``, float32[n]: the probability of the allowed codes, given the columns before; else None.
        """
        if balance_weights is not None:
            weights = balance_weights[:, None].expand(-1, len(uniform)).clone()
        else:
            weights = self.weights(rows, column, calibrated=calibrated)
        if absent is not None:
            weights = with_absent(weights, absent)
        probability = None
        if allowed is not None:
            total = weights.sum(0)
            weights = weights * (allowed if allowed.dim() == 2 else allowed[:, None])
            probability = weights.sum(0) / total
        self.enter(rows, column, chosen(weights, uniform))
        return probability


@dataclass(frozen=True)
class _Table:
    """How a column is drawn after each beginning. An entry is a beginning followed by a code that can come after it.

    Attributes:
        codes: int16[entries], code of each entry.
        cdf: float64[entries], number of the beginning + cumulative probability. The vector ascends, so one search
            finds the entry for the number of the beginning + a uniform number.
        probability: float32[beginnings], probability of the allowed codes.
    """

    codes: Tensor
    cdf: Tensor
    probability: Tensor


class Drawing:
    """Draws columns in one order. The first columns, as long as few beginnings are possible, are drawn from tables.

    Args:
        sampler: Draws columns of the model.
        order: Numbers of the columns.
        calibrated: See ``Sampler.draw``.
        balance_weights: By column, float32[size], weights to draw by in place of the network's.
        allowed: By column, float64[size], factors in 0 to 1 of its codes' probabilities.
        together: Groups of columns that are missing on the same rows; their last code means missing.
    """

    def __init__(
        self,
        sampler: Sampler,
        order: Sequence[int],
        *,
        calibrated: bool = False,
        balance_weights: Mapping[int, Tensor] | None = None,
        allowed: Mapping[int, NDArray[np.float64]] | None = None,
        together: Sequence[Sequence[int]] = (),
    ) -> None:
        # The column of a group that is drawn first decides for the others.
        leaders = [(min(group, key=list(order).index), group) for group in together]
        self._leader = {column: first for first, group in leaders for column in group if column != first}
        self.sampler, self.order, self.calibrated = sampler, tuple(order), calibrated
        self._balance_weights = dict(balance_weights or {})
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
        """Draw a column; those before it in the order are drawn already.

        Args:
            rows: The column is added to these.
            number: Place of the column in the order.
            uniform: float32[n] in (0, 1).

        Returns:
            float32[n]: the probability of the allowed codes, given the columns before; None if all are allowed.
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
        weights = self._balance_weights.get(column)
        return self.sampler.draw(
            rows,
            column,
            uniform,
            calibrated=self.calibrated,
            allowed=allowed,
            balance_weights=weights,
            absent=self.absent(rows, column),
        )

    def absent(self, rows: Rows, column: int) -> Tensor | None:
        """bool[n]: where a column must be missing, and elsewhere not; None where its group has not decided."""
        leader = self._leader.get(column)
        return None if leader is None else rows.codes[leader] == self.sampler.sizes[leader] - 1

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def block(self, lanes: Lanes) -> Codes:
        """Codes int16[columns, BLOCK] of a block; the order has to hold all columns, and nothing may be excluded."""
        shares = torch.from_numpy(lanes.codes).to(self.sampler.device)
        rows = self.sampler.begin(shares.shape[1])
        for number, column in enumerate(self.order):
            self.draw(rows, number, shares[column])
        return stacked(rows)

    def _tabulate(self, rows: Rows, column: int) -> Rows:
        """Add the table of a column after these beginnings; returns the beginnings that are one column longer."""
        n = len(rows.context)
        balance_weights, allowed = self._balance_weights.get(column), self._allowed.get(column)
        if balance_weights is None:
            weights = self.sampler.weights(rows, column, calibrated=self.calibrated).double().t()
        else:
            weights = balance_weights.to(self.sampler.device).double().expand(n, -1)
        absent = self.absent(rows, column)
        if absent is not None:
            weights = with_absent(weights.t(), absent).t()
        total = weights.sum(1)
        weights = weights if allowed is None else weights * allowed
        allowed_total = weights.sum(1)
        if allowed is not None:  # where float32 gives the allowed codes no weight, they are drawn by their factors
            weights = torch.where(allowed_total[:, None] > 0, weights, allowed.double())
        beginning, code = torch.nonzero(weights > 0, as_tuple=True)
        share = weights.cumsum(1) / weights.sum(1, keepdim=True)
        share[share >= share[:, -1:]] = 1.0  # rounding must leave no gap after the last code
        codes = code.to(torch.int16)
        self._tables.append(_Table(codes, beginning + share[beginning, code], (allowed_total / total).float()))
        longer = rows.take(beginning)
        self.sampler.enter(longer, column, codes)
        return longer


def with_absent(weights: Tensor, absent: Tensor) -> Tensor:
    """Weights [size, n] under which the last code is drawn where ``absent`` bool[n], and never elsewhere."""
    forced = torch.zeros_like(weights)
    forced[-1] = 1.0
    present = weights + 1e-30  # where the network gives nothing but missing any weight, all values are alike
    present[-1] = 0.0
    return torch.where(absent[None, :], forced, present)


def stacked(rows: Rows) -> Codes:
    """The rows' codes, int16[columns, n]."""
    return np.stack([rows.codes[column].cpu().numpy() for column in range(len(rows.codes))])


def in_blocks(first_row: int, n: int, threads: int, make: Callable[[int], Sequence[NDArray]]) -> list[NDArray]:  # type: ignore[type-arg]
    """Arrays of rows ``first_row`` to ``first_row + n - 1``, cut from whole blocks. Their last axis is rows.

    Args:
        first_row: Global number of the first row.
        n: Number of rows.
        threads: Blocks made at the same time.
        make: Makes the arrays of one block, by its number.
    """
    blocks = range(first_row // BLOCK, -(-(first_row + n) // BLOCK))
    with torch_threads(1):
        if threads <= 1 or len(blocks) <= 1:
            arrays = [make(block) for block in blocks]
        else:
            with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
                arrays = list(pool.map(make, blocks))
    skip = first_row - blocks.start * BLOCK
    return [np.concatenate(parts, axis=-1)[..., skip : skip + n] for parts in zip(*arrays)]


def chosen(weights: Tensor, uniform: Tensor) -> Tensor:
    """int16[n]: codes drawn by weights [size, n] and uniform numbers [n]; the weights are overwritten."""
    size = weights.shape[0]
    if size == 2:  # the same comparison, in fewer steps: most columns of a table of flags have two codes
        return (weights[0] < (weights[1] + weights[0]).mul_(uniform)).to(torch.int16)
    cdf = weights  # added up in place, one code after the other
    rows = cdf.unbind(0)
    for before, row in zip(rows, rows[1:]):
        row.add_(before)
    passed = cdf < (cdf[-1] * uniform)
    return passed.view(torch.uint8).sum(0, dtype=torch.int16).clamp_(max=size - 1)


def nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Weights [size, n] of the most probable codes that together have the share ``top_p``; 0 for the others.

    Holtzman et al. 2020, "The curious case of neural text degeneration" (nucleus sampling).
    """
    ordered, place = torch.sort(weights, dim=0, descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    likeliest = before < top_p * ordered.sum(0)
    return torch.zeros_like(weights).scatter_(0, place, torch.where(likeliest, ordered, torch.zeros_like(ordered)))
