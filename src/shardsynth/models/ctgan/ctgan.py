"""Training CTGAN and CopulaGAN (Xu et al. 2019, "Modeling Tabular Data using Conditional GAN"), from top to bottom.

A CopulaGAN differs only in its columns: numeric values become normal scores before they get modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shardsynth.models.ctgan.codes import Layout
from shardsynth.models.ctgan.networks import Discriminator, Generator, Spans, activate, condition_loss, gumbel
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.models.ctgan.table import DeepTable
from shardsynth.models.training.averaging import WeightAverage
from shardsynth.models.training.checkpoint import TrainingState, Watch
from shardsynth.models.training.cuda_graph import Recorded
from shardsynth.models.training.early_stopping import QualityCheck


@dataclass(frozen=True)
class Conditions:
    """Training by sampling: conditions that are drawn evenly over columns, and rows that meet them.

    Xu et al. 2019, section 4.3.

    Attributes:
        cdf: float64[condition width], ``d`` + the cumulative probability of a category within column ``d``. The vector
            ascends, so one search finds column and category.
        column: int64[condition width], column of each position.
        category: int64[condition width], category of each position within its column.
        first: int64[condition width], place in ``order`` of the first row that has the category.
        rows: int64[condition width], number of rows that have it.
        order: int32[columns * rows], per column, row numbers sorted by category.
        columns: Number of category columns.
    """

    cdf: Tensor
    column: Tensor
    category: Tensor
    first: Tensor
    rows: Tensor
    order: Tensor
    columns: int

    @classmethod
    def of(
        cls, codes: Tensor, layout: Layout, *, log_frequency: bool, order: Tensor | None = None
    ) -> Conditions | None:
        """Conditions for training rows; None without a category column.

        Args:
            codes: int[n, spans], the rows.
            layout: Where columns lie.
            log_frequency: Whether categories are drawn by the logarithm of their counts.
            order: int32[columns * rows], a mapped array for the order; None: it is made in memory.
        """
        if not len(layout.conditional):
            return None
        cdf, column, category, first, rows = [], [], [], [], []
        n = len(codes)
        if order is None:
            order = torch.empty(len(layout.conditional) * n, dtype=torch.int32, device=codes.device)
        for number, span in enumerate(layout.conditional.tolist()):
            span_codes = codes[:, span].long()
            size = int(layout.size[span])
            count = torch.bincount(span_codes, minlength=size)
            weight = torch.log1p(count.double()) if log_frequency else count.double()
            share = torch.cumsum(weight / weight.sum(), 0)
            share[share >= share[-1]] = 1.0  # categories after the last one that occurs are never drawn
            cdf.append(number + share)
            column.append(torch.full_like(count, number))
            category.append(torch.arange(size, device=codes.device))
            first.append(number * n + torch.cumsum(count, 0) - count)
            rows.append(count)
            order[number * n : (number + 1) * n] = torch.argsort(span_codes, stable=True)
        return cls(
            torch.cat(cdf),
            torch.cat(column),
            torch.cat(category),
            torch.cat(first),
            torch.cat(rows),
            order,
            len(layout.conditional),
        )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """int64[n]: positions in the condition vector; columns are equally likely, categories go by their weight."""
        uniform = torch.rand(n, generator=generator, device=self.cdf.device, dtype=torch.float64)
        return torch.searchsorted(self.cdf, uniform * self.columns, right=True).clamp_(max=len(self.cdf) - 1)

    def matching_rows(self, flat: Tensor, generator: torch.Generator) -> Tensor:
        """int64[n]: for each position of ``flat`` int64[n], the number of a training row that has the category."""
        uniform = torch.rand(len(flat), generator=generator, device=flat.device, dtype=torch.float64)
        return self.order[self.first[flat] + (uniform * self.rows[flat]).long()].long()


def train_ctgan(
    table: DeepTable,
    layout: Layout,
    options: DeepOptions,
    *,
    seed: int,
    device: torch.device,
    watch: Callable[[int, int], Watch],
    check: QualityCheck | None = None,
) -> tuple[Generator, Tensor]:
    """Train a generator against its discriminator.

    Args:
        table: Training rows in codes.
        layout: Where columns lie.
        options: How to train.
        seed: Everything random follows from it.
        device: Where to train.
        watch: Makes the watch from the number of steps and of steps per epoch.
        check: Scores the generator every few epochs, and may end the training.

    Returns:
        The generator, the best one if there is a check; and float32[epochs done, 2] on the CPU: the losses of generator
        and discriminator at each epoch's last step.

    Raises:
        Saved: Asked to stop; all that the next step needs is in the checkpoint.
    """
    random = torch.Generator(device).manual_seed(seed)
    batch, latent = options.batch_size, options.embedding_dim
    spans = Spans(layout, device)
    codes, places = torch.from_numpy(table.codes).to(device), torch.from_numpy(table.places).to(device)
    on_disk = table.scratch is not None and device.type == "cpu"
    order = table.array("order", (len(layout.conditional) * len(table),), np.int32) if on_disk else None
    conditions = Conditions.of(
        codes, layout, log_frequency=options.log_frequency, order=None if order is None else torch.from_numpy(order)
    )
    condition_width = layout.condition_width

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        generator = Generator(latent + condition_width, options.generator_dim, layout.width).to(device)
        discriminator = Discriminator(layout.width, options.discriminator_dim, options.pac, condition_width).to(device)
    adam = {"betas": (0.5, 0.9), "fused": True, "capturable": device.type == "cuda"}
    generator_adam = torch.optim.Adam(
        generator.parameters(), lr=options.generator_lr, weight_decay=options.generator_decay, **adam
    )
    discriminator_adam = torch.optim.Adam(
        discriminator.parameters(), lr=options.discriminator_lr, weight_decay=options.discriminator_decay, **adam
    )

    steps_per_epoch = max(len(table) // batch, 1)
    total = steps_per_epoch * options.epochs
    average = WeightAverage(generator, options.averaging) if options.averaging else None
    state = TrainingState(
        {"generator": generator, "discriminator": discriminator, **({"average": average.network} if average else {})},
        {"generator": generator_adam, "discriminator": discriminator_adam},
        random,
        torch.zeros(options.epochs, 2, device=device),
        check=check,
    )
    watching = watch(total, steps_per_epoch)
    watching.begin(state)
    if average is not None:
        average.begin(state.step)

    def products() -> torch.autocast:
        """A context in which matrix products have the ``precision`` of the options; all else is float32."""
        return torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16")

    def generated() -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw rows, rows, and their conditions int64[batch] as positions in the condition vector."""
        noise = torch.randn(batch, latent, generator=random, device=device)
        flat = None if conditions is None else conditions.draw(batch, random)
        with products():
            raw = generator(noise, flat).float()
        return raw, activate(raw, gumbel(batch, layout.width, random, device), spans), flat

    def step() -> tuple[Tensor, Tensor]:
        """Update the discriminator, then the generator; returns their losses, the generator's first."""
        for left in reversed(range(options.discriminator_steps)):
            with torch.set_grad_enabled(options.reuse_rows and left == 0):
                raw, fake, flat = generated()
            with torch.no_grad():
                both = None
                if conditions is None or flat is None:
                    chosen = torch.randint(len(table), (batch,), generator=random, device=device)
                else:  # real rows have the same conditions, shuffled: packs of real and generated rows do not match
                    shuffled = flat[torch.rand(batch, generator=random, device=device).argsort()]
                    chosen = conditions.matching_rows(shuffled, random)
                    both = torch.cat([flat, shuffled])
                real = spans.one_hot(codes[chosen], places[chosen])
                alpha = torch.rand(batch // options.pac, 1, generator=random, device=device)
            with products():
                first = discriminator.first(torch.cat([fake.detach(), real]), both)
                judged_fake, judged_real = discriminator.judge(first, random)[1].chunk(2)
                first_fake, first_real = first.detach().chunk(2)
                penalty = discriminator.gradient_penalty(first_real, first_fake, alpha, random)
            critic_loss = judged_fake.mean() - judged_real.mean()
            discriminator_adam.zero_grad(set_to_none=True)
            (critic_loss + penalty).backward()
            discriminator_adam.step()

        discriminator.requires_grad_(False)  # the generator's step needs no gradient of these weights
        if not options.reuse_rows:
            raw, fake, flat = generated()
        with products():
            generator_loss = -discriminator.judge(discriminator.first(fake, flat), random)[1].mean()
        if conditions is not None and flat is not None:
            generator_loss = generator_loss + condition_loss(
                raw, conditions.column[flat], conditions.category[flat], spans
            )
        generator_adam.zero_grad(set_to_none=True)
        generator_loss.backward()
        generator_adam.step()
        if average is not None:
            average.update(generator)
        discriminator.requires_grad_(True)
        return generator_loss.detach(), critic_loss.detach()

    generator.train()
    result: Generator = generator if average is None else average.network
    run = Recorded(step, random) if device.type == "cuda" else step
    while state.step < total and not (check is not None and check.stopped):
        generator_loss, critic_loss = run()
        state.step += 1
        if state.step % steps_per_epoch == 0:
            epoch = state.step // steps_per_epoch - 1
            state.history[epoch, 0], state.history[epoch, 1] = generator_loss, critic_loss
            if check is not None:
                check.after_epoch(epoch, result)
        watching.after(state)
    if check is not None:
        check.keep_best(result)
    return result.eval(), state.history[: state.step // steps_per_epoch].cpu()


@torch.no_grad()  # type: ignore[untyped-decorator]
def settle_normalisation(generator: Generator, noise: Callable[[int], Tensor], chunks: int) -> None:
    """Set the statistics of batch normalisation from generated rows, for ``eval`` mode.

    In ``eval`` mode a row does not depend on its batch. Mean and variance are taken over all chunks, layer after layer:
    the layers before it are settled already.

    Args:
        generator: Changed in place; left in ``eval`` mode.
        noise: Gives the generator's input [n, embedding + conditions] of a chunk, by its number.
        chunks: Number of chunks.
    """
    generator.eval()
    layers = list(generator.seq)[:-1]
    for depth, layer in enumerate(layers):
        count = 0
        size = layer.fc.out_features
        total, square = (torch.zeros(size, dtype=torch.float64, device=layer.fc.weight.device) for _ in range(2))
        for chunk in range(chunks):
            x = noise(chunk)
            for before in layers[:depth]:
                x = before(x)
            hidden = layer.fc(x).double()
            count += len(hidden)
            total += hidden.sum(0)
            square += (hidden**2).sum(0)
        layer.bn.running_mean.copy_(total / count)
        layer.bn.running_var.copy_((square / count - (total / count) ** 2).clamp_(min=0.0))
