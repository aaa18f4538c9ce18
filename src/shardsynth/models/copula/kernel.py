"""The inner loop of the copula: from random words to arrays of values for each latent.

A latent is a ``Channel``: its cuts, and the value of each segment. Channels with a single cut are compared all at once;
the others are looked up. This module does not use columns or Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.columns.forms import Spread
from shardsynth.models.copula.arrays import Arrays
from shardsynth.models.copula.factor import Factor
from shardsynth.models.copula.tables import GRID, REACH, CellTable, Integers, cell_table
from shardsynth.sampling.streams import lanes, random_words


@dataclass(frozen=True)
class Channel:
    """The outputs of one latent.

    Attributes:
        cuts: int64[m - 1], in units of 2^-22.
        tables: One array [m] per output: the value of every segment.
        spread: For a column whose values are spread over segments: one more output, the first.
    """

    cuts: Integers
    tables: tuple[NDArray[Any], ...] = ()
    spread: Spread | None = None

    @property
    def is_bit(self) -> bool:
        """Whether it has one cut and no values: then its output is bool[n], true above the cut."""
        return len(self.cuts) == 1 and not self.tables and self.spread is None


@dataclass(frozen=True)
class Layout:
    """How a row's random bits are used: first 32 bits per spread channel, then 16 per deviate."""

    spreads: int
    deviates: int

    @property
    def words(self) -> int:
        """64-bit words per row."""
        return -(-(2 * self.spreads + self.deviates) // 4)


#: Draws the conditioned latents of rows: (key, first row, rows) -> int64 [rows, c], odd units of 2^-22.
Fixed = Callable[[tuple[int, int], int, int], Integers]


class Kernel:
    """The sampler of one model.

    Args:
        factor: Of the latents; ``block_kernel`` is for one with blocks.
        levels: int32[65536], the deviates.
        channels: One per latent.
        fixed: Draws the conditioned latents; None: there are none.
    """

    def __init__(
        self,
        factor: Factor,
        levels: NDArray[np.int32],
        channels: Sequence[Channel],
        fixed: Fixed | None = None,
    ) -> None:
        self._arrays = arrays = Arrays()
        self._channels = list(channels)
        self._fixed = fixed
        self._bits = [i for i, c in enumerate(channels) if c.is_bit]
        self._looked_up = [i for i, c in enumerate(channels) if not c.is_bit and (c.tables or c.spread is not None)]
        spreads = [i for i in self._looked_up if self._channels[i].spread is not None]
        self._place = {latent: place for place, latent in enumerate(spreads)}
        self.layout = Layout(len(spreads), factor.deviates)
        self._cells = [cell_table(self._channels[i].cuts) for i in self._looked_up]
        self._scale = np.ones(len(self._channels))  # a latent that is looked up is measured in cells
        self._scale[self._looked_up] = [2.0**cells.shift for cells in self._cells]
        self._upload(factor)
        self._levels = arrays.upload(levels / GRID)
        self._bit_cuts = arrays.upload(np.array([[self._channels[i].cuts[0] / GRID] for i in self._bits]))
        self._tables = [Table(arrays, self._channels[i], c) for i, c in zip(self._looked_up, self._cells)]

    def _upload(self, factor: Factor) -> None:
        self._rows = self._arrays.batch_rows(len(self._channels))
        rows = [*self._looked_up, *self._bits]
        self._factor = self._arrays.upload(factor.shared[rows] * (self._scale[rows, None] / GRID))

    def draw(self, key: tuple[int, int], first_row: int, n: int) -> list[list[NDArray[Any]]]:
        """Values of rows ``first_row`` to ``first_row + n - 1``.

        Returns:
            For each channel its outputs [n]: bool for a bit, else the spread values and one array per table.
        """
        outputs: list[list[NDArray[Any]]] = [[] for _ in self._channels]
        flags = np.empty((len(self._bits), n), np.bool_)
        for place, latent in enumerate(self._bits):
            outputs[latent] = [flags[place]]
        for latent, table in zip(self._looked_up, self._tables):
            outputs[latent] = [np.empty(n, dtype) for dtype in table.dtypes]
        for start in range(0, n, self._rows):
            stop = min(start + self._rows, n)
            self._batch(key, first_row + start, outputs, flags, slice(start, stop))
        return outputs

    def _random(self, key: tuple[int, int], first: int, n: int) -> tuple[Any, NDArray[np.uint32], Any]:
        """Of rows: lanes uint16[n, deviates], words uint32[n, at least one per spread], conditioned latents or None."""
        words = random_words(key, first, n, self.layout.words)
        spreads = 2 * self.layout.spreads
        bits = lanes(words)[:, spreads : spreads + self.layout.deviates]
        fixed = None if self._fixed is None else self._fixed(key, first, n) / GRID
        return bits, words.astype("<u8", copy=False).view("<u4"), fixed

    def _batch(
        self, key: tuple[int, int], first: int, outputs: list[list[NDArray[Any]]], flags: Any, rows: slice
    ) -> None:
        xp = self._arrays
        bits, uniforms, fixed = self._random(key, first, rows.stop - rows.start)
        z = xp.latents(self._factor, self._levels, bits, fixed)
        count = len(self._looked_up)
        if self._bits:
            xp.store(flags[:, rows], xp.above(z[count:], self._bit_cuts))
        for place, (latent, table) in enumerate(zip(self._looked_up, self._tables)):
            targets = [output[rows] for output in outputs[latent]]
            lane = self._place.get(latent)
            table.write(xp, z[place], targets, None if lane is None else uniforms[:, lane])


class Table:
    """The look-up tables of a channel."""

    def __init__(self, arrays: Arrays, channel: Channel, cells: CellTable) -> None:
        self._cells = cells
        self._zero = REACH << cells.shift
        self._steps = arrays.upload(cells.steps)
        self._cuts = arrays.upload(cells.cuts)
        self._tables = [arrays.upload(table) for table in channel.tables]
        self._spread = channel.spread
        self.dtypes = [table.dtype for table in channel.tables]
        if channel.spread is not None:
            self._lo = arrays.upload(channel.spread.lo)
            self._width = arrays.upload(channel.spread.width)
            self.dtypes.insert(0, channel.spread.dtype)

    def write(self, xp: Arrays, z: Any, targets: list[NDArray[Any]], words: NDArray[np.uint32] | None) -> None:
        """Write the values for latents z [n], in units of a cell, to the targets."""
        segment = self._segment(xp, z)
        if self._spread is not None and words is not None:
            self._write_spread(xp, segment, targets[0], words)
            targets = targets[1:]
        for target, table in zip(targets, self._tables):
            xp.look_up_into(target, table, segment)

    def _segment(self, xp: Arrays, z: Any) -> Any:
        cells = self._cells
        if cells.search:
            return xp.search(self._cuts, z)
        cell = xp.nearest(z, self._zero)
        segment = xp.nearest(xp.add(xp.look_up(self._steps, cell), z))
        for _ in range(cells.passes):
            segment = segment + xp.above(z, xp.look_up(self._cuts, segment))
        return segment

    def _write_spread(self, xp: Arrays, segment: Any, target: NDArray[Any], words: NDArray[np.uint32]) -> None:
        spread = self._spread
        assert spread is not None
        values = xp.multiply(xp.uniform(words), xp.look_up(self._width, segment))
        values = xp.add(values, xp.look_up(self._lo, segment))
        if not spread.rounded:
            return xp.store(target, values)
        values = xp.round(values)
        if spread.dtype.kind == "f":
            if spread.multiplier != 1 or spread.offset:
                values = xp.add(xp.multiply(values, float(spread.multiplier)), float(spread.offset))
            values = xp.add(values, 0.0)  # -0.0 becomes 0.0
            if spread.divisor != 1:
                values = xp.divide(values, spread.divisor)
        elif spread.multiplier != 1 or spread.offset:
            values = xp.add(xp.multiply(xp.integers(values), spread.multiplier), spread.offset)
        return xp.store(target, values)
