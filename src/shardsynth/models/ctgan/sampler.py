"""Rows of a deep model by their global numbers.

Rows are made in blocks of ``BLOCK`` rows; a block starts at a multiple of ``BLOCK`` and is always made whole, by one
thread. So the matrix products have the same shapes every time, and a row depends, to the last bit, only on the model,
the seed and its number (on one kind of processor), not on the range or the thread. Each row has its own words of a
counter-based random stream.

A condition vector is one-hot, so its product with weights is a row of a table: a CTGAN row on Adult costs 0.46 MFLOP
instead of 0.60. Outputs are padded to a multiple of ``_PAD`` columns: matrix products of other widths take up to 1.6
times as long on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from shardsynth.errors import ModelError
from shardsynth.models.ctgan.codes import Layout
from shardsynth.models.ctgan.networks import Decoder, Generator
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.sampling import device_streams
from shardsynth.sampling.streams import lanes, random_words, uniforms

#: Rows that are made together.
BLOCK = 4_096
#: In longer spans the code is found by cumulative sums, in shorter ones by a loop over the codes.
_WALK = 64
#: Values of a 16-bit lane.
_LANES = 65_536
#: The number of outputs is padded to a multiple of this.
_PAD = 16
#: Largest number of rows of a block on a GPU, and of activations for them.
_MOST_ON_A_GPU = 1 << 18
_NUMBERS_ON_A_GPU = 1 << 28


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.float32]:
    """float32[65536]: standard normal quantiles at ``(k + 0.5) / 65536``."""
    return np.asarray(ndtri((np.arange(_LANES) + 0.5) / _LANES), np.float32)


@dataclass(frozen=True)
class Drawn:
    """Rows in codes.

    Attributes:
        codes: int16[s, n], position within each one-hot span.
        places: float32[c, n], place within the mode of each numeric column, in -1 to 1.
        uniform: float64[f, n], uniform numbers of the columns that are ``stochastic``.
    """

    codes: NDArray[np.int16]
    places: NDArray[np.float32]
    uniform: NDArray[np.float64]

    def slice(self, first: int, last: int) -> Drawn:
        """Rows ``first <= i < last``."""
        return Drawn(self.codes[:, first:last], self.places[:, first:last], self.uniform[:, first:last])

    def take(self, rows: NDArray[np.int64]) -> Drawn:
        """The rows of these numbers int64[m]."""
        return Drawn(self.codes[:, rows], self.places[:, rows], self.uniform[:, rows])

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Rows of all parts, in order."""
        return cls(*(np.concatenate([getattr(d, name) for d in parts], axis=1) for name in _DRAWN))


_DRAWN = ("codes", "places", "uniform")


def fold(generator: Generator) -> list[tuple[Tensor, Tensor]]:
    """Weight [out, in] and bias [out] of each linear layer with its batch normalisation folded in."""
    *residuals, last = list(generator.seq)
    folded = []
    for layer in residuals:
        scale = layer.bn.weight / torch.sqrt(layer.bn.running_var + layer.bn.eps)
        folded.append(
            (layer.fc.weight * scale[:, None], (layer.fc.bias - layer.bn.running_mean) * scale + layer.bn.bias)
        )
    return [*folded, (last.weight, last.bias)]


def _padded(weight: Tensor, bias: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Last layer's weight [out, in] and bias [out] in the sampler's order, padded with outputs that are 0."""
    more = -len(order) % _PAD
    return nn.functional.pad(weight[order], (0, 0, 0, more)), nn.functional.pad(bias[order], (0, more))


class _GeneratorForward:
    """CTGAN's generator without concatenations: one matrix product takes a layer's output to all later layers."""

    def __init__(self, generator: Generator, embedding: int, order: Tensor) -> None:
        layers = fold(generator)
        self.width = len(order)
        layers[-1] = _padded(*layers[-1], order)
        self.sizes = [len(bias) for _, bias in layers]
        self.begin = np.concatenate([[0], np.cumsum(self.sizes)]).tolist()
        conditions = layers[0][0].shape[1] - embedding
        # The input of layer i is [hidden i-1, ..., hidden 0, noise, condition].
        ends = [weight.shape[1] for weight, _ in layers]
        self.noise = (
            torch.cat([w[:, e - conditions - embedding : e - conditions] for (w, _), e in zip(layers, ends)])
            .t()
            .contiguous()
        )
        bias = torch.cat([bias for _, bias in layers])
        tables = torch.cat([w[:, e - conditions :] for (w, _), e in zip(layers, ends)]).t()
        self.condition = (tables + bias).contiguous() if conditions else bias[None].contiguous()
        self.hidden = []
        for i in range(len(layers) - 1):
            parts = []
            for later in range(i + 1, len(layers)):
                first = sum(self.sizes[i + 1 : later])
                parts.append(layers[later][0][:, first : first + self.sizes[i]])
            self.hidden.append(torch.cat(parts).t().contiguous())

    def __call__(self, noise: Tensor, flat: Tensor | None) -> Tensor:
        """Raw output [width, n], in the sampler's order of positions."""
        rows = self.condition[flat] if flat is not None else self.condition.expand(len(noise), -1).clone()
        rows.addmm_(noise, self.noise)
        for i, weight in enumerate(self.hidden):
            hidden = torch.relu(rows[:, self.begin[i] : self.begin[i + 1]])
            rows[:, self.begin[i + 1] :].addmm_(hidden, weight)
        return rows[:, self.begin[-2] :][:, : self.width].t().contiguous()


class _HalfGeneratorForward:
    """CTGAN's generator with products in bfloat16: a layer is one product, so that its sums are rounded once."""

    def __init__(self, generator: Generator, embedding: int, order: Tensor) -> None:
        layers = fold(generator)
        self.width, self.embedding = len(order), embedding
        layers[-1] = _padded(*layers[-1], order)
        conditions = layers[0][0].shape[1] - embedding
        self.layers: list[tuple[Tensor, Tensor]] = []
        sizes: list[int] = []
        for weight, bias in layers:
            # [hidden i-1, ..., hidden 0, noise, condition] as [noise, hidden 0, ..., hidden i-1], condition.
            *latest, noise, condition = weight.split([*reversed(sizes), embedding, conditions], dim=1)
            dense = torch.cat([noise, *reversed(latest)], dim=1).bfloat16().t().contiguous()
            self.layers.append((dense, (condition.t() + bias).contiguous() if conditions else bias[None].contiguous()))
            sizes.append(len(bias))

    def __call__(self, noise: Tensor, flat: Tensor | None) -> Tensor:
        """Raw output [width, n], in the sampler's order of positions."""
        # Zeros, not what lies in memory: with AMX, torch's bfloat16 product of a view with an odd number of columns
        # reads one column more and multiplies it by zero (torch 2.13), and zero times NaN is NaN.
        known = noise.new_zeros(len(noise), len(self.layers[-1][0]), dtype=torch.bfloat16)
        known[:, : self.embedding] = noise
        for weight, table in self.layers:
            sums = table[flat] if flat is not None else table.expand(len(noise), -1).clone()
            width = len(weight)
            sums += known[:, :width] @ weight
            if width < known.shape[1]:
                known[:, width : width + sums.shape[1]] = sums.relu_()
        return sums[:, : self.width].t().contiguous()


class _DecoderForward:
    """TVAE's decoder with products in float32 or bfloat16."""

    def __init__(self, decoder: Decoder, order: Tensor, *, half: bool = False) -> None:
        linears = [layer for layer in decoder.seq if isinstance(layer, nn.Linear)]
        layers = [(layer.weight, layer.bias) for layer in linears]
        layers[-1] = _padded(*layers[-1], order)
        self.width, self.dtype = len(order), torch.bfloat16 if half else torch.float32
        self.layers = [(weight.to(self.dtype).t().contiguous(), bias) for weight, bias in layers]

    def __call__(self, noise: Tensor, flat: Tensor | None) -> Tensor:
        """Raw output [width, n], in the sampler's order of positions."""
        x = noise.to(self.dtype)
        for weight, bias in self.layers[:-1]:
            x = torch.addmm(bias.to(self.dtype), x, weight).relu_()
        weight, bias = self.layers[-1]
        return torch.addmm(bias[:, None].to(self.dtype), weight.t(), x.t()).float()[: self.width]


class Sampler:
    """Makes blocks of rows.

    Args:
        network: A trained generator (batch normalisation settled) or decoder.
        layout: Where columns lie.
        embedding: Size of the noise.
        cdf: float64[condition width], from ``condition_cdf``; empty without condition vectors.
        stochastic: Number of columns that need a uniform number.
        argmax: Take each span's largest output instead of drawing from its softmax.
        half: Compute matrix products in bfloat16.
        device: Where to compute.
    """

    def __init__(
        self,
        network: Generator | Decoder,
        layout: Layout,
        embedding: int,
        cdf: NDArray[np.float64],
        *,
        stochastic: int = 0,
        argmax: bool = False,
        half: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.layout, self.embedding, self.cdf, self.stochastic = layout, embedding, cdf, stochastic
        self.argmax, self.device = argmax, torch.device(device)
        #: Rows of a block. A GPU needs large blocks to be fast; its memory limits them.
        self.block_rows = BLOCK
        self._cdf = torch.from_numpy(cdf).to(self.device)
        self._normal = torch.from_numpy(normal_table()).to(self.device)
        # Positions in the sampler's order: places first, then spans of equal length side by side.
        self.order_of_spans = np.argsort(layout.size, kind="stable")
        sizes = layout.size[self.order_of_spans]
        distinct, counts = np.unique(sizes, return_counts=True)
        self.groups = list(zip(distinct.tolist(), counts.tolist()))
        positions = [layout.tanh, *(layout.start[s] + np.arange(layout.size[s]) for s in self.order_of_spans)]
        order = torch.from_numpy(np.concatenate(positions)).to(self.device)
        self.sigma: Tensor | None = None
        with torch.no_grad():
            network = network.to(self.device)
            if isinstance(network, Decoder):
                self.forward: Any = _DecoderForward(network, order, half=half)
                self.sigma = network.sigma.detach()[torch.from_numpy(layout.tanh).to(self.device)][:, None]
            else:
                self.forward = (_HalfGeneratorForward if half else _GeneratorForward)(network, embedding, order)
        if self.device.type != "cpu":
            widest = sum(len(parameter) for parameter in network.parameters() if parameter.dim() == 2)
            self.block_rows = min(_MOST_ON_A_GPU, max(BLOCK, 1 << int(math.log2(_NUMBERS_ON_A_GPU / widest))))
        self._lanes = embedding + len(layout.size) + (len(layout.tanh) if self.sigma is not None else 0)
        self._whole = stochastic + (1 if len(cdf) else 0)
        self._last: tuple[tuple[Any, ...], Drawn] | None = None

    def draw(self, key: tuple[int, int], first_row: int, n: int, *, flat: int | None = None, threads: int = 1) -> Drawn:
        """Rows ``first_row`` to ``first_row + n - 1``.

        Args:
            key: Key of the random stream.
            first_row: Global number of the first row.
            n: Number of rows.
            flat: Position in the condition vector that is set for all rows; None: it is drawn.
            threads: Blocks made at the same time.
        """
        size = self.block_rows
        blocks = range(first_row // size, -(-(first_row + n) // size))
        drawn = list(self._blocks(key, blocks, flat, threads))
        if drawn:
            self._last = (key, flat, blocks[-1]), drawn[-1]
        skip = first_row - blocks.start * size
        if not drawn:
            drawn = [self.block(key, 0, flat)]
        return Drawn.joined(drawn).slice(skip, skip + n)

    def _blocks(self, key: tuple[int, int], blocks: range, flat: int | None, threads: int) -> Sequence[Drawn]:
        last = self._last  # the next range often begins in the last block of this one, which is then at hand

        def make(block: int) -> Drawn:
            if last is not None and last[0] == (key, flat, block):
                return last[1]
            drawn: Drawn = self.block(key, block, flat)
            return drawn

        with torch_threads(1):
            if threads <= 1 or len(blocks) <= 1 or self.device.type != "cpu":
                return [make(block) for block in blocks]
            with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
                return list(pool.map(make, blocks))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def block(self, key: tuple[int, int], number: int, flat: int | None = None) -> Drawn:
        """One whole block."""
        noise, share, place_noise, uniform = self._random(key, number * self.block_rows, self.block_rows)
        raw = self.forward(noise, self._conditions(uniform, flat))
        if not torch.isfinite(raw.sum()) and not torch.isfinite(raw).all():  # the sum is cheap, but may overflow
            raise ModelError("the model's network makes numbers that are not finite; fit or import the model again")
        numbers = len(self.layout.tanh)
        places = torch.tanh_(raw[:numbers])
        if self.sigma is not None:
            places = (places + self.sigma * place_noise).clamp_(-1.0, 1.0)
        chances = np.ascontiguousarray(uniform[:, : self.stochastic].cpu().numpy().T)
        return Drawn(self._codes(raw[numbers:], share), places.cpu().numpy(), chances)

    def _random(self, key: tuple[int, int], first: int, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random numbers of rows, from their words, on the device.

        Returns:
            Latent noise float32[n, embedding]; a uniform number per span float32[s, n]; noise per place float32[c, n]
            (TVAE only); and uniform numbers float64[n, w] for stochastic columns and the condition.
        """
        width, spans = self._whole + -(-self._lanes // 4), len(self.layout.size)
        if self.device.type == "cpu":
            words = random_words(key, first, n, width)
            small = lanes(np.ascontiguousarray(words[:, self._whole :]))
            whole = torch.from_numpy(uniforms(words[:, : self._whole]))
            normal = [
                torch.from_numpy(np.take(normal_table(), part))
                for part in (small[:, : self.embedding], small[:, self.embedding + spans : self._lanes].T)
            ]
            chosen = torch.from_numpy(np.ascontiguousarray(small[:, self.embedding :][:, :spans].T).astype(np.float32))
        else:
            words = device_streams.random_words(key, first, n, width, self.device)
            cut = device_streams.lanes(words[:, self._whole :])
            whole = device_streams.uniforms(words[:, : self._whole])
            normal = [
                self._normal[part]
                for part in (cut[:, : self.embedding], cut[:, self.embedding + spans : self._lanes].t().contiguous())
            ]
            chosen = cut[:, self.embedding :][:, :spans].t().float()
        return normal[0], (chosen + 0.5) / _LANES, normal[1], whole

    def _conditions(self, uniform: Tensor, flat: int | None) -> Tensor | None:
        """int64[n]: positions in the condition vector; None without condition vectors."""
        if not len(self.cdf):
            return None
        if flat is not None:
            return torch.full((len(uniform),), flat, device=self.device)
        drawn = uniform[:, self.stochastic] * math.ceil(self.cdf[-1])
        return torch.searchsorted(self._cdf, drawn, right=True).clamp_(max=len(self.cdf) - 1)

    def _codes(self, raw: Tensor, share: Tensor) -> NDArray[np.int16]:
        """int16[s, n] from outputs [positions, n] and uniform numbers [s, n], both in the sampler's order."""
        codes = torch.zeros(len(self.layout.size), raw.shape[1], dtype=torch.int16, device=raw.device)
        position = span = 0
        for size, count in self.groups:
            block = raw[position : position + size * count].view(count, size, -1)
            out = codes[span : span + count]
            if size > 1 and self.argmax:
                out.copy_(block.max(1).indices)
            elif size > 1:
                weight = torch.sub(block, block.amax(1, keepdim=True)).exp_()
                threshold = weight.sum(1).mul_(share[span : span + count])
                if size > _WALK or self.device.type != "cpu":
                    out.copy_((weight.cumsum(1) < threshold[:, None]).sum(1).clamp_(max=size - 1))
                else:
                    cdf = weight[:, 0]
                    passed = torch.zeros(threshold.shape, dtype=torch.int8)
                    for k in range(1, size):
                        passed += (cdf < threshold).view(torch.int8)
                        cdf += weight[:, k]
                    out.copy_(passed)
            position, span = position + size * count, span + count
        result = np.empty(codes.shape, np.int16)
        result[self.order_of_spans] = codes.cpu().numpy()
        return result
