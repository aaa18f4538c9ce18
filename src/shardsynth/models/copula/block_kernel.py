"""The inner loop of a copula whose latents share few deviates (see ``factor``): block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.copula.arrays import Arrays
from shardsynth.models.copula.factor import BLOCK, Factor
from shardsynth.models.copula.kernel import Channel, Fixed, Kernel
from shardsynth.models.copula.tables import GRID
from shardsynth.sampling.streams import lanes, random_words
from shardsynth.standalone.cpus import allowed_threads

#: OpenBLAS multiplies on one thread up to so many products: each of ours has a thread of its own.
_MOST_PRODUCTS = 1 << 18
#: Layer of the random stream of the first block's deviates: above those of conditions.
_LAYER = 1 << 32


def kernel_of(
    factor: Factor, levels: NDArray[np.int32], channels: Sequence[Channel], fixed: Fixed | None = None
) -> Kernel:
    """The kernel for a factor; arguments as of ``Kernel``."""
    return (Kernel if factor.own is None else BlockKernel)(factor, levels, channels, fixed)


class BlockKernel(Kernel):
    """A kernel for a factor with blocks. Block b has 16-bit deviates of its own, layer ``_LAYER + b`` of the stream."""

    def _upload(self, factor: Factor) -> None:
        assert factor.own is not None
        self._rows = 8_192  # so many latents and deviates of a block stay in the CPU's cache
        self._opened = factor.opened
        scale, starts = self._scale[:, None] / GRID, range(0, len(factor.own), BLOCK)
        self._blocks = [
            tuple(self._arrays.upload((part * scale)[start : start + BLOCK]) for part in (factor.shared, factor.own))
            for start in starts
        ]

    def _batch(
        self, key: tuple[int, int], first: int, outputs: list[list[NDArray[Any]]], flags: Any, rows: slice
    ) -> None:
        n = rows.stop - rows.start
        bits, uniforms, fixed = self._random(key, first, n)
        shared = [bits, *(_deviates(key, first, n, block) for block in self._opened)]
        tables, cuts = dict(zip(self._looked_up, self._tables)), dict(zip(self._bits, self._bit_cuts.reshape(-1)))

        def write(blocks: range) -> None:
            xp = Arrays()
            for latent, z in self._latents(xp, key, first, shared, fixed, blocks):
                targets = [output[rows] for output in outputs[latent]]
                if latent in cuts:
                    xp.store(targets[0], xp.above(z, cuts[latent]))
                elif latent in tables:
                    lane = self._place.get(latent)
                    tables[latent].write(xp, z, targets, None if lane is None else uniforms[:, lane])

        threads = min(allowed_threads(), len(self._blocks))
        if threads == 1:
            return write(range(len(self._blocks)))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, (range(start, len(self._blocks), threads) for start in range(threads))))
        return None

    def _latents(
        self,
        xp: Arrays,
        key: tuple[int, int],
        first: int,
        shared: Sequence[NDArray[np.uint16]],
        fixed: NDArray[np.float64] | None,
        blocks: range,
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Number of each latent of some blocks, and its values float64[n]: exact."""
        n = len(shared[0])
        columns = self._blocks[0][0].shape[1]
        size = max(1, min(n, _MOST_PRODUCTS // (BLOCK * max(columns, BLOCK))))
        known = xp.in_groups(
            np.concatenate([self._levels[part] for part in shared] + ([] if fixed is None else [fixed]), axis=1), size
        )
        for block in blocks:
            common, own = self._blocks[block]
            deviates = xp.deviates(self._levels, _deviates(key, first, n, block), size)
            yield from enumerate(xp.sum_of_products(common, known, own, deviates)[:, :n], BLOCK * block)


def _deviates(key: tuple[int, int], first: int, n: int, block: int) -> NDArray[np.uint16]:
    """The deviates of a block, uint16[n, 16]."""
    return lanes(random_words(key, first, n, BLOCK // 4, layer=_LAYER + block))
