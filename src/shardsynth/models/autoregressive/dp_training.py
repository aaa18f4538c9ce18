"""Training under differential privacy (DP-SGD, Abadi et al. 2016), on one page: draw rows, clip, add noise, step.

The number of steps, the rows of a step and the noise follow from public facts, before a row is read. Training looks at
nothing else on the way: no held-out rows, no early stopping, no loss. A generator that the operating system seeds with
128 bits at every start chooses the rows of a step and the noise. Both are secret and stored nowhere; a training that
goes on from its checkpoint draws other ones. The guarantee covers the weights in a checkpoint too, as those of every
step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shardsynth.models.autoregressive.dp_gradients import clipped_sums
from shardsynth.models.autoregressive.network import Network, draw_orders
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.table import Table
from shardsynth.models.autoregressive.training import Shape, columns_of
from shardsynth.models.dp.accounting import Spent
from shardsynth.models.training.checkpoint import TrainingState, Watch

#: Largest norm of one row's gradient. Adam divides by the size of gradients, so this only decides which are clipped.
CLIP = 1.0
_WARM_UP = 20


def train_with_dp(
    table: Table,
    sizes: Sequence[int],
    shares: Sequence[NDArray[np.float64]],
    places: Sequence[NDArray[np.float64] | None],
    options: AutoregressiveOptions,
    shape: Shape,
    spent: Spent,
    expected: float,
    *,
    seed: int,
    device: torch.device,
    watch: Callable[[int, int], Watch],
) -> Network:
    """Train on rows in codes, with the steps, the rate and the noise that the accountant counted.

    Args:
        table: int8 or int16 [rows, columns]; a row's codes depend on no other row. May be mapped from a file.
        sizes: Number of codes of each column.
        shares: float64[size] per column, share of each code by noisy counts.
        places: Per column, places of the codes in the order; see ``Network``.
        options: How to train.
        shape: Sizes of the network, and the rows whose gradients are computed together.
        spent: Steps, sampling rate and noise.
        expected: Mean number of rows of a step, by the public number of rows.
        seed: Seed of the first weights and the orders, not of the noise.
        device: Where to train.
        watch: Makes the watch from the number of steps and of steps per epoch.

    Raises:
        Saved: Asked to stop; the checkpoint has all but the secret randomness.
    """
    fixed = options.order == "fixed"
    secret = np.random.default_rng()
    everything = torch.from_numpy(table)
    if device.type != "cpu":
        everything = everything.to(device)
    network = Network(sizes, shape.embedding, shape.hidden, places).start(shares, torch.Generator().manual_seed(seed))
    network = network.to(device)
    assert options.learning_rate is not None  # the plan has set it
    rate = options.learning_rate
    adam = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    state = TrainingState({"network": network}, {"adam": adam}, torch.Generator(device), torch.zeros(1, 1))
    watching = watch(spent.steps, max(1, round(1 / spent.rate)))
    watching.begin(state)
    while state.step < spent.steps:
        # One order for all rows of a step: a row's gradient must not depend on which other rows were drawn.
        seeded = torch.Generator().manual_seed(seed + 7_919 * (state.step + 1))
        order = draw_orders(2, len(sizes), seeded, fixed=fixed)[state.step % 2].to(device)
        sums = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
        for chosen in torch.from_numpy(_drawn(len(table), spent.rate, secret)).split(shape.batch):
            codes = columns_of(everything[chosen.to(everything.device)], device)
            for name, clipped in clipped_sums(network, codes, order, CLIP)[0].items():
                sums[name] += clipped
        for name, weight in network.named_parameters():
            noise = torch.from_numpy(secret.standard_normal(weight.shape, np.float32)).to(device)
            weight.grad = (sums[name] + CLIP * spent.multiplier * noise) / expected
        for group in adam.param_groups:
            group["lr"] = rate * _scale(state.step, spent.steps)
        adam.step()
        state.step += 1
        watching.after(state)
    folded: Network = network.folded()
    return folded


def _drawn(rows: int, rate: float, secret: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of the rows of a step: each row has probability ``rate``, independently of the others."""
    return secret.choice(rows, secret.binomial(rows, rate), replace=False, shuffle=False)


def _scale(step: int, steps: int) -> float:
    """Factor of the learning rate: it rises within a few steps, then falls to zero along a cosine."""
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
