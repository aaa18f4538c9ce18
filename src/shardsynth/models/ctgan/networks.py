"""Networks and losses of CTGAN and TVAE (Xu et al. 2019), over whole batches: no loop over columns.

Layers and parameter names are those of the ctgan package, so weights go both ways. (Those of a discriminator only
without conditions: here the weights of condition vectors are in a table.) A test holds the results to those of the
ctgan package, within 1e-5.
"""

# mypy: disable-error-code="misc"
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shardsynth.models.ctgan.codes import Layout
from shardsynth.models.ctgan.conditioned import conditioned_linear

warnings.filterwarnings("ignore", r"index_reduce\(\) is in beta")
#: Temperature of the Gumbel softmax.
TAU = 0.2
#: Slope of the leaky rectifier below zero.
SLOPE = 0.2
DROPOUT = 0.5


class Spans:
    """A layout as tensors on a device, and the operations on all its one-hot spans at once.

    Args:
        layout: Where columns lie.
        device: Where the tensors are.
    """

    def __init__(self, layout: Layout, device: torch.device | str = "cpu") -> None:
        self.width, self.count = layout.width, len(layout.start)
        self.start = torch.as_tensor(layout.start, device=device)
        self.tanh = torch.as_tensor(layout.tanh, device=device)
        self.segment = torch.as_tensor(layout.segment, device=device)
        segments = self.count + len(layout.tanh)
        self.member = torch.zeros(self.width, segments, device=device)
        self.member[torch.arange(self.width, device=device), self.segment] = 1.0
        self.is_tanh = torch.zeros(self.width, dtype=torch.bool, device=device)
        self.is_tanh[self.tanh] = True
        self.condition_width = layout.condition_width
        self.conditional = torch.as_tensor(layout.conditional, device=device)

    def one_hot(self, codes: Tensor, places: Tensor) -> Tensor:
        """Network rows float32[b, width] of codes [b, s] and places [b, c]."""
        rows = torch.zeros(len(codes), self.width, device=places.device)
        rows.scatter_(1, codes.long() + self.start, 1.0)
        rows[:, self.tanh] = places
        return rows

    def conditions(self, flat: Tensor) -> Tensor:
        """Condition vectors float32[b, condition width] of their hot positions [b]."""
        return torch.zeros(len(flat), self.condition_width, device=flat.device).scatter_(1, flat[:, None], 1.0)

    def top(self, x: Tensor) -> Tensor:
        """[segments, b]: largest value of each segment of x [width, b], without gradient."""
        low = torch.full((self.member.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype, device=x.device)
        return low.index_reduce_(0, self.segment, x.detach(), "amax")

    def logsumexp(self, x: Tensor) -> Tensor:
        """[b, s]: log of the sum of exponentials over each one-hot span of x [b, width]."""
        low = torch.full((len(x), self.member.shape[1]), -torch.inf, dtype=x.dtype, device=x.device)
        top = low.scatter_reduce_(1, self.segment.expand(len(x), -1), x.detach(), "amax")
        sums = torch.exp(x - top.index_select(1, self.segment)) @ self.member
        return (sums.log() + top)[:, : self.count]


class _Activate(torch.autograd.Function):
    """``activate``, with a derivative that runs over all spans at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, noise: Tensor, spans: Spans, tau: float) -> Tensor:
        # Transposed, each position is a row of memory: reducing over rows is several times as fast as over columns.
        sharp = (x + noise).t().contiguous().div_(tau)
        soft = sharp.sub_(spans.top(sharp).index_select(0, spans.segment)).exp_()
        soft /= (spans.member.t() @ soft).index_select(0, spans.segment)
        y = soft.t().contiguous()
        y[:, spans.tanh] = torch.tanh(x[:, spans.tanh])
        ctx.save_for_backward(y)
        ctx.spans, ctx.tau = spans, tau
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        spans: Spans = ctx.spans
        product = gradients[0] * y
        gradient = (product - y * ((product @ spans.member) @ spans.member.t())).div_(ctx.tau)
        place = y[:, spans.tanh]
        gradient[:, spans.tanh] = gradients[0][:, spans.tanh] * (1 - place * place)
        return gradient, None, None, None


def activate(x: Tensor, noise: Tensor, spans: Spans, tau: float = TAU) -> Tensor:
    """Generator output [b, width] as network rows: tanh of places, softmax of (x + noise) / tau over one-hot spans.

    Jang et al. 2017, "Categorical reparameterization with Gumbel-softmax".

    Args:
        x: Raw output [b, width].
        noise: Gumbel noise [b, width].
        spans: The layout.
        tau: Temperature.
    """
    result: Tensor = _Activate.apply(x, noise, spans, tau)
    return result


def gumbel(rows: int, width: int, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Standard Gumbel noise float32[rows, width]."""
    uniform = torch.rand(rows, width, generator=generator, device=device)
    return uniform.clamp_(min=1e-20).log_().neg_().log_().neg_()


class Residual(nn.Module):
    """CTGAN's residual layer: linear, batch normalisation, rectifier; the input is appended to the output."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, size)
        self.bn = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        """[b, width] to [b, size + width]."""
        return torch.cat([torch.relu(self.bn(self.fc(x))), x], dim=1)


class Generator(nn.Module):
    """CTGAN's generator: noise and condition vector [b, embedding + conditions] to raw rows [b, width]."""

    def __init__(self, embedding_dim: int, generator_dim: Sequence[int], data_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = embedding_dim
        for size in generator_dim:
            layers.append(Residual(width, size))
            width += size
        self.seq = nn.Sequential(*layers, nn.Linear(width, data_dim))

    def forward(self, x: Tensor, flat: Tensor | None = None) -> Tensor:
        """Raw output [b, width], before ``activate``.

        Args:
            x: Noise and condition vectors [b, embedding + conditions]; with ``flat``, the noise alone.
            flat: int64[b], hot position of each condition vector.
        """
        half = torch.is_autocast_enabled(x.device.type)
        if flat is None:
            result: Tensor = self.seq(x)
            return result
        *residuals, last = self.seq
        learned: list[Tensor] = []
        for layer in residuals:
            linear = conditioned_linear(x, flat, layer.fc.weight, layer.fc.bias, half, *learned)
            learned.insert(0, torch.relu(layer.bn(linear)))
        return conditioned_linear(x, flat, last.weight, last.bias, half, *learned)


class Discriminator(nn.Module):
    """CTGAN's discriminator, which judges ``pac`` rows together (Lin et al. 2018, "PacGAN").

    Args:
        input_dim: Width of a row.
        discriminator_dim: Widths of the layers.
        pac: Rows judged together.
        condition_width: Length of a row's condition vector. It is one-hot, so its weights are a separate table.
    """

    def __init__(
        self, input_dim: int, discriminator_dim: Sequence[int], pac: int = 10, condition_width: int = 0
    ) -> None:
        super().__init__()
        self.pac, self.pacdim, self.condition_width = pac, input_dim * pac, condition_width
        layers: list[nn.Module] = []
        width = self.pacdim
        for size in discriminator_dim:
            layers += [nn.Linear(width, size), nn.LeakyReLU(SLOPE), nn.Dropout(DROPOUT)]
            width = size
        self.seq = nn.Sequential(*layers, nn.Linear(width, 1))
        if condition_width:  # random as in one layer on rows with their condition vectors
            first = self.linears[0]
            self.table = nn.Parameter(torch.empty(pac * condition_width, len(first.bias)))
            bound = 1 / math.sqrt(pac * (input_dim + condition_width))
            for weights in (first.weight, first.bias, self.table):
                nn.init.uniform_(weights, -bound, bound)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, in order."""
        return [layer for layer in self.seq if isinstance(layer, nn.Linear)]

    def first(self, rows: Tensor, flat: Tensor | None = None) -> Tensor:
        """Output of the first linear layer, [b / pac, size], before the rectifier.

        Args:
            rows: Rows [b, input].
            flat: int64[b], hot position of each row's condition vector; None without conditions.
        """
        dense: Tensor = self.linears[0](rows.reshape(-1, self.pacdim)).float()
        if flat is None:
            return dense
        place = flat.view(-1, self.pac) + torch.arange(self.pac, device=flat.device) * self.condition_width
        return dense + nn.functional.embedding_bag(place, self.table, mode="sum")

    def judge(self, first: Tensor, generator: torch.Generator | None) -> tuple[list[Tensor], Tensor]:
        """The layers after the first one.

        Args:
            first: Output of ``first`` [b / pac, size].
            generator: Draws the dropout; None: no dropout.

        Returns:
            ``(slopes, scores)``: per hidden layer, the factor [b / pac, size] by which each unit was multiplied (leaky
            rectifier and dropout); and the scores [b / pac, 1].
        """
        *hidden, last = self.linears
        x, slopes = first, []
        for number, linear in enumerate(hidden):
            x = linear(x).float() if number else x
            slope = torch.where(x.detach() > 0, 1.0, SLOPE)
            if generator is not None:
                slope = slope * coins(x.shape, generator).div_(1 - DROPOUT)
            slopes.append(slope)
            x = x * slope
        return slopes, last(x).float()

    def forward(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scores [b / pac, 1] of rows [b, input]."""
        return self.judge(self.first(rows), generator)[1]

    def gradient_penalty(
        self,
        first_real: Tensor,
        first_fake: Tensor,
        alpha: Tensor,
        generator: torch.Generator | None = None,
        weight: float = 10.0,
    ) -> Tensor:
        """WGAN-GP's penalty (Gulrajani et al. 2017): squared distance from 1 of the input gradient's norm.

        The discriminator is piecewise linear: its gradient is a product of weights and slopes, which is written out
        here. The derivatives are the same as those of differentiating twice, at less cost. The first layer is linear,
        so its output at a point between two rows is interpolated from its outputs at the rows.

        Args:
            first_real: Output of ``first`` [b / pac, size] for real rows.
            first_fake: The same for generated rows.
            alpha: Uniform numbers [b / pac, 1]: where between the two rows the gradient is taken.
            generator: Draws the dropout; None: no dropout.
            weight: Weight of the penalty.
        """
        with torch.no_grad():
            slopes, _ = self.judge(torch.lerp(first_fake, first_real, alpha), generator)
        *hidden, last = self.linears
        gradient: Tensor = last.weight.expand(len(first_real), -1)
        for linear, slope in zip(reversed(hidden), reversed(slopes)):
            behind = gradient * slope
            gradient = (behind @ linear.weight).float()
        square = gradient.square().sum(1)
        if self.condition_width:
            square = square + (behind @ self.table.t()).float().square().sum(1)
        return ((square.clamp(min=1e-24).sqrt() - 1) ** 2).mean() * weight


def coins(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """float32 of a shape, zeros and ones with equal probability: which units dropout of 0.5 keeps."""
    numbers = math.prod(shape)
    words = torch.empty(-(-numbers // 8), dtype=torch.uint8, device=generator.device).random_(256, generator=generator)
    bits = (words[:, None] >> torch.arange(8, dtype=torch.uint8, device=generator.device)) & 1
    return bits.view(-1)[:numbers].view(shape).float()


def condition_loss(raw: Tensor, column: Tensor, category: Tensor, spans: Spans) -> Tensor:
    """Mean cross-entropy between the generator's raw rows and the categories of their condition vectors.

    Args:
        raw: Raw rows [b, width].
        column: int64[b], number of the conditional span.
        category: int64[b], position within it.
        spans: The layout.
    """
    span = spans.conditional[column]
    others = spans.segment != span[:, None]
    return nn.functional.cross_entropy(raw.masked_fill(others, -torch.inf), spans.start[span] + category)


class Encoder(nn.Module):
    """TVAE's encoder: rows [b, width] to mean, standard deviation and log variance, each [b, embedding]."""

    def __init__(self, data_dim: int, compress_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = data_dim
        for size in compress_dims:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.seq = nn.Sequential(*layers)
        self.fc1, self.fc2 = nn.Linear(width, embedding_dim), nn.Linear(width, embedding_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(mean, std, log variance)``."""
        feature = self.seq(x)
        log_variance = self.fc2(feature)
        return self.fc1(feature), torch.exp(0.5 * log_variance), log_variance


class Decoder(nn.Module):
    """TVAE's decoder: latent [b, embedding] to raw rows [b, width], and one standard deviation per position."""

    def __init__(self, embedding_dim: int, decompress_dims: Sequence[int], data_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = embedding_dim
        for size in decompress_dims:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.seq = nn.Sequential(*layers, nn.Linear(width, data_dim))
        self.sigma = nn.Parameter(torch.ones(data_dim) * 0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(raw rows, standard deviations [width])``."""
        return self.seq(x), self.sigma


def elbo(
    raw: Tensor, real: Tensor, sigma: Tensor, mean: Tensor, log_variance: Tensor, spans: Spans, factor: float
) -> tuple[Tensor, Tensor]:
    """TVAE's two losses, means over the batch: reconstruction and divergence (Xu et al. 2019, section 4.5).

    The second is the Kullback-Leibler divergence of the latent distribution from the standard normal one.

    Args:
        raw: Decoder's rows [b, width].
        real: The rows that were encoded [b, width].
        sigma: Standard deviations [width].
        mean: Mean of the latent [b, embedding].
        log_variance: Log variance of the latent [b, embedding].
        spans: The layout.
        factor: Weight of the reconstruction.
    """
    rows = len(real)
    std = sigma[spans.tanh]
    off = real[:, spans.tanh] - torch.tanh(raw[:, spans.tanh])
    gaussian = (off**2 / (2 * std**2)).sum() + rows * std.log().sum()
    hot = (raw * real.masked_fill(spans.is_tanh, 0.0)).sum()
    entropy = spans.logsumexp(raw).sum() - hot
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return (gaussian + entropy) * factor / rows, divergence / rows
