"""Training on subjects: batches of them, with all their rows in all tables; held-out subjects say when to stop.

The rules are those of ``autoregressive.rounds``: the rate falls when the loss on held-out subjects has not improved,
the weights that were best there are kept, and of these only such as tell little of who was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shardsynth.models.autoregressive.network import COSINES
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.rounds import Rounds
from shardsynth.models.autoregressive.subjects.families import Families
from shardsynth.models.autoregressive.subjects.network import SubjectsNetwork, TableShape
from shardsynth.models.autoregressive.training import LossAttack, Shape
from shardsynth.models.training.checkpoint import Watch

#: Rows of a step, in all tables: from, to; and steps of an epoch that are aimed at.
_ROWS, _STEPS = (128, 2048), 40
_CHECKED = 4_000
#: Learning rate, before it falls.
_RATE = 2e-3
#: Training subjects in which it is counted how often codes come again.
_COUNTED = 20_000
_KNOWN = 3
#: By the number of training subjects: (below, width, dropout, cosines). Few subjects bear few weights.
_SIZES = ((1_000, 32, 0.3, 3), (10_000, 64, 0.3, 6), (100_000, 96, 0.2, 8))
_LARGE = (128, 0.1, COSINES)
#: A numeric column's code that fewer training subjects have has no weights of its own: these would learn the subjects.
_OWN_SUBJECTS = 250
#: Largest norm of a step's gradient.
_LARGEST_GRADIENT = 5.0
#: Share by which a step shrinks the weights, as a multiple of the learning rate.
_DECAY = 1.0


def shape_of(options: AutoregressiveOptions, subjects: int, rows: int) -> Shape:
    """Sizes for so many training subjects, with so many rows in all tables; a step's batch is of subjects."""
    width, dropout, cosines = next((size[1:] for size in _SIZES if subjects < size[0]), _LARGE)
    wanted = min(max(rows / _STEPS, _ROWS[0]), _ROWS[1])
    batch = options.batch_size or max(4, round(wanted * subjects / max(rows, 1)))
    embedding, hidden = options.embedding or width, options.hidden or width
    dropout = dropout if options.dropout is None else options.dropout
    return Shape(embedding, hidden, min(batch, subjects), dropout, cosines)


def own_weights(families: Families, name: str, shape: TableShape) -> tuple[NDArray[np.bool_], ...]:
    """Which codes of a table's columns have weights of their own, bool[size] each: those of many subjects.

    A category's codes all have; so has what a number lacks.
    """
    rows, subject = families.rows[name], families.subjects_of(name)
    own = []
    for column, (size, places) in enumerate(zip(shape.sizes, shape.places)):
        codes = rows.codes[:, column].astype(np.int64)
        pairs = np.unique(subject * size + codes)
        many = np.bincount(pairs % size, minlength=size) >= _OWN_SUBJECTS
        own.append(np.ones(size, np.bool_) if places is None else many | np.isnan(places))
    return tuple(own)


def train_subjects(
    families: Families,
    shapes: Mapping[str, TableShape],
    options: AutoregressiveOptions,
    shape: Shape,
    *,
    seed: int,
    device: torch.device,
    watch: Callable[[int, int], Watch],
) -> tuple[SubjectsNetwork, Tensor]:
    """Train on subjects.

    Args:
        families: The training subjects; the first ones are held out.
        shapes: What the network needs to know of the tables.
        options: How to train.
        shape: Sizes of the network and of a step.
        seed: Everything random follows from it.
        device: Where to train.
        watch: Makes the watch from the largest number of steps and the number of steps per epoch.

    Returns:
        The network with the best weights, and float32[checks, 4] as ``training.train`` gives it, losses in nats per
        subject.

    Raises:
        Saved: Asked to stop; all that the next step needs is in the checkpoint.
    """
    held_out = max(1, min(round(options.validation * len(families)), _CHECKED))
    learned = np.arange(held_out, len(families)) if len(families) > held_out else np.arange(len(families))
    checked = families.take(np.arange(held_out))
    known = families.take(learned[: _KNOWN * held_out])
    batch = max(1, min(shape.batch, len(learned)))

    random = torch.Generator(device).manual_seed(seed)
    some = families.take(learned[:_COUNTED])
    shapes = {
        name: replace(own, own=own_weights(some, name, own), cosines=shape.cosines) for name, own in shapes.items()
    }
    network = SubjectsNetwork(shapes, shape.embedding, shape.hidden)
    network = network.start(shapes, torch.Generator().manual_seed(seed)).to(device)

    def scored(part: Families) -> Tensor:
        return losses_of(network, part, device, 4 * batch)

    sizes = [torch.from_numpy(part.rows_of_subjects()).to(device) for part in (checked, known)]
    attack = LossAttack.of(scored(checked) / sizes[0], scored(known) / sizes[1])
    network.expect(some, shapes)
    rate = options.learning_rate or _RATE
    adam = torch.optim.AdamW(_decayed(network), lr=rate, betas=(0.9, 0.99), fused=True)

    def check() -> tuple[Tensor, Tensor, Tensor]:
        unseen = scored(checked)
        return (unseen.mean(), *attack.auc(unseen / sizes[0], scored(known) / sizes[1]))

    steps_per_epoch = max(1, len(learned) // batch)
    rounds = Rounds(network, adam, random, options, steps_per_epoch, watch, device, rate=rate, averaged=False)
    order: NDArray[np.int64] | None = None
    while rounds.go_on:
        epoch, place = divmod(rounds.state.step, steps_per_epoch)
        if order is None or place == 0:  # the seed is the epoch's: a resumed training finds it
            order = np.random.default_rng([seed, 11, epoch]).permutation(learned)
        chosen = families.take(order[place * batch : (place + 1) * batch])
        rounds.begin_step()
        loss = network.losses(chosen, device, shape.dropout, random).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT * math.sqrt(float(loss.detach())))
        adam.step()
        rounds.end_step(loss, check)
    return rounds.best.folded(shapes, shape.hidden), rounds.history


def _decayed(network: SubjectsNetwork) -> list[dict[str, Any]]:
    """The weights for the optimiser: all but biases shrink, so that few subjects bear small weights."""
    biases = [weights for name, weights in network.named_parameters() if "bias" in name]
    others = [weights for name, weights in network.named_parameters() if "bias" not in name]
    return [{"params": others, "weight_decay": _DECAY}, {"params": biases, "weight_decay": 0.0}]


@torch.no_grad()  # type: ignore[untyped-decorator]
def losses_of(network: SubjectsNetwork, families: Families, device: torch.device, batch: int) -> Tensor:
    """Losses of subjects, float32[n], in nats."""
    parts = [
        network.losses(families.take(np.arange(first, min(first + batch, len(families)))), device)
        for first in range(0, len(families), batch)
    ]
    return torch.cat(parts)
