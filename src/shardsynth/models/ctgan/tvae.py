"""Training TVAE (Xu et al. 2019, "Modeling Tabular Data using Conditional GAN", section 4.5), from top to bottom."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shardsynth.models.ctgan.codes import Layout
from shardsynth.models.ctgan.networks import Decoder, Encoder, Spans, elbo
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.models.ctgan.table import DeepTable
from shardsynth.models.training.checkpoint import TrainingState, Watch
from shardsynth.models.training.cuda_graph import Recorded
from shardsynth.models.training.early_stopping import QualityCheck


def train_tvae(
    table: DeepTable,
    layout: Layout,
    options: DeepOptions,
    *,
    seed: int,
    device: torch.device,
    watch: Callable[[int, int], Watch],
    check: QualityCheck | None = None,
) -> tuple[Decoder, Tensor]:
    """Train a decoder with its encoder.

    Args:
        table: Training rows in codes.
        layout: Where columns lie.
        options: How to train.
        seed: Everything random follows from it.
        device: Where to train.
        watch: Makes the watch from the number of steps and of steps per epoch.
        check: Scores the decoder every few epochs, and may end the training.

    Returns:
        The decoder, the best one if there is a check; and float32[epochs done, 1] on the CPU: each epoch's mean loss.

    Raises:
        Saved: Asked to stop; all that the next step needs is in the checkpoint.
    """
    random = torch.Generator(device).manual_seed(seed)
    batch, rows = options.batch_size, len(table)
    spans = Spans(layout, device)
    codes, places = torch.from_numpy(table.codes).to(device), torch.from_numpy(table.places).to(device)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        encoder = Encoder(layout.width, options.compress_dims, options.embedding_dim).to(device)
        decoder = Decoder(options.embedding_dim, options.decompress_dims, layout.width).to(device)
    adam = torch.optim.Adam(
        [*encoder.parameters(), *decoder.parameters()],
        weight_decay=options.l2scale,
        fused=True,
        capturable=device.type == "cuda",
    )

    steps_per_epoch = -(-rows // batch)
    total = steps_per_epoch * options.epochs
    state = TrainingState(
        {"encoder": encoder, "decoder": decoder},
        {"adam": adam},
        random,
        torch.zeros(options.epochs, 1, device=device),
        check=check,
    )
    watching = watch(total, steps_per_epoch)
    watching.begin(state)

    def step(chosen: Tensor) -> tuple[Tensor]:
        """One step on the rows of these numbers int64[n]; returns their loss."""
        real = spans.one_hot(codes[chosen], places[chosen])
        mean, std, log_variance = encoder(real)
        noise = torch.randn(std.shape, generator=random, device=device)
        raw, sigma = decoder(noise * std + mean)
        reconstruction, divergence = elbo(raw, real, sigma, mean, log_variance, spans, options.loss_factor)
        loss = reconstruction + divergence
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        with torch.no_grad():
            decoder.sigma.clamp_(0.01, 1.0)
        return (loss.detach(),)

    recorded_rows = torch.zeros(min(batch, rows), dtype=torch.int64, device=device)
    recorded = Recorded(lambda: step(recorded_rows), random) if device.type == "cuda" else None
    shuffled: Tensor | None = None
    while state.step < total and not (check is not None and check.stopped):
        epoch, place = divmod(state.step, steps_per_epoch)
        if shuffled is None or place == 0:  # the seed is the epoch's: a resumed training finds it
            order = torch.Generator(device).manual_seed(seed + 1_000_003 * (epoch + 1))
            shuffled = torch.randperm(rows, generator=order, device=device)
        chosen = shuffled[place * batch : (place + 1) * batch]
        if recorded is not None and len(chosen) == len(recorded_rows):
            recorded_rows.copy_(chosen)
            (loss,) = recorded()
        else:
            (loss,) = step(chosen)

        state.history[epoch, 0] += loss / steps_per_epoch
        state.step += 1
        if check is not None and state.step % steps_per_epoch == 0:
            check.after_epoch(epoch, decoder)
        watching.after(state)
    if check is not None:
        check.keep_best(decoder)
    return decoder.eval(), state.history[: state.step // steps_per_epoch].cpu()
