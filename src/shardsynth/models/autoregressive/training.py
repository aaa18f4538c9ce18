"""Training of the autoregressive network, on one page: steps, checks on held-out rows, and when to stop.

The weights with the smallest loss on the held-out rows become the model; ``rounds`` says how the rate falls.

Weights are refused if they tell who was in the table. The attack is the simplest one: a row of small loss is said to be
a training row (Yeom et al. 2018, "Privacy risk in machine learning"). Its AUC over rows that were trained on and
held-out ones, or over persons, may not exceed ``membership`` by more than two standard errors. Unlike a test of the
mean loss, that does not hang on the number of rows. (The weights of the first check are taken if no later ones do
better.)
The training rows that are compared are not trained on in the first rounds. Whatever is then between their losses and
those of held-out rows is chance, and is taken off later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shardsynth.models.autoregressive.network import COSINES, Network, draw_orders
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.rounds import Rounds, schedule_of
from shardsynth.models.autoregressive.table import Table, held_out_rows
from shardsynth.models.training.checkpoint import Watch

#: Learning rate, before it falls. Averaged weights bear three times what single ones do.
_RATE = 6e-3
#: Orders in one step; the rows of a step are divided among them.
_ORDERS = 8
_CHECKED_ROWS = 20_000
#: Training rows that are scored at a check, per held-out row, but at most this share; and rounds without them.
_KNOWN, _KNOWN_SHARE, _CONTROL_ROUNDS = 3, 0.5, 3
#: Standard errors by which the AUC of the attack may exceed the bound.
_ERRORS = 2.0
#: By the number of training rows: (below, width, dropout).
_SIZES = ((20_000, 64, 0.3), (200_000, 64, 0.2))
_LARGE = (128, 0.2)
#: Fewer training rows than this, or below ``_SIZES``' first mark fewer per column, bear few weights: width, dropout,
#: number of cosines, decay. Columns add up in the loss, and with them what it tells of a row.
#: Chosen by the loss and the attack on held-out rows of MDS, rotterdam, diamonds and Adult (2,400 to 9,600 rows).
_FEW_ROWS, _FEW_ROWS_PER_COLUMN = 5_000, 300
_SMALL = (32, 0.4, 8, 0.5)
#: A numeric column's code of fewer training rows has no weights of its own: these would learn the rows. Bins of tables
#: of 20,000 rows and less have fewer; those of Adult (275 each) keep theirs, with which it was measured.
_OWN_ROWS = 250
#: Largest number of activations in one step, all columns together; the batch size is lowered to keep within it.
_MOST_NUMBERS = 32 << 20
#: A step of fewer activations is computed by one thread: several would wait for each other most of the time.
_FEW_NUMBERS = 1 << 19


@dataclass(frozen=True)
class Shape:
    """Sizes of the network and of a step: from the options, or from the size of the table.

    Attributes:
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        batch: Rows of a step.
        dropout: Share of the network that a step leaves out.
        cosines: Smooth functions of a numeric column.
        decay: Share by which a step shrinks the weights, as a multiple of the learning rate.
    """

    embedding: int
    hidden: int
    batch: int
    dropout: float = 0.0
    cosines: int = COSINES
    decay: float = 0.0

    @classmethod
    def of(cls, options: AutoregressiveOptions, rows: int, columns: int) -> Shape:
        """Shape for so many training rows and learned columns."""
        width, dropout = next((size[1:] for size in _SIZES if rows < size[0]), _LARGE)
        cosines, decay = COSINES, 0.0
        if rows < _FEW_ROWS or rows < min(_FEW_ROWS_PER_COLUMN * columns, _SIZES[0][0]):
            width, dropout, cosines, decay = _SMALL
        embedding = options.embedding or width
        hidden = options.hidden or (width if columns <= 300 else min(width, 64))
        batch = options.batch_size or _power_of_two(rows / 40, 32, 512)
        if not options.batch_size:
            while batch > 64 and batch * columns * (embedding + hidden) > _MOST_NUMBERS:
                batch //= 2
        dropout = dropout if options.dropout is None else options.dropout
        return cls(embedding, hidden, batch, dropout, cosines, decay)

    def threads(self, columns: int, threads: int) -> int:
        """Of so many threads, how many training on so many columns uses."""
        return 1 if self.batch * columns * (self.embedding + self.hidden) < _FEW_NUMBERS else threads


def bins_of(rows: int) -> int:
    """About how many codes a numeric column gets for so many rows: finer bins for more rows."""
    return _power_of_two(0.7 * math.sqrt(rows), 16, 128)


def _power_of_two(size: float, least: int, most: int) -> int:
    return int(min(max(2 ** round(math.log2(max(size, 1.0))), least), most))


def train(
    table: Table,
    sizes: Sequence[int],
    shares: Sequence[NDArray[np.float64]],
    places: Sequence[NDArray[np.float64] | None],
    options: AutoregressiveOptions,
    shape: Shape,
    *,
    seed: int,
    device: torch.device,
    watch: Callable[[int, int], Watch],
    persons: NDArray[np.uint64] | None = None,
) -> tuple[Network, Tensor]:
    """Train on rows in codes.

    Args:
        table: int8 or int16 [rows, columns], in random order: the first rows are held out. May be mapped from a file.
        sizes: Number of codes of each column.
        shares: float64[size] per column, share of each code.
        places: Per column, places of the codes in the order; see ``Network``.
        options: How to train.
        shape: Sizes of the network and of a step.
        seed: Everything random follows from it.
        device: Where to train.
        watch: Makes the watch from the largest number of steps and the number of steps per epoch.
        persons: uint64[rows], hashes of the rows' persons, whose rows lie side by side in ``table``: whole persons are
            held out.

    Returns:
        The network with the best weights, and float32[checks, 4] on the CPU. Per check: mean loss of the steps, loss
        on the held-out rows (both in nats per row), the AUC of ``LossAttack`` (0.5: it tells nothing), and by how much
        it may exceed the bound, since it is an estimate.

    Raises:
        Saved: Asked to stop; all that the next step needs is in the checkpoint.
    """
    fixed = options.order == "fixed"
    everything = torch.from_numpy(table)
    if device.type != "cpu":
        everything = everything.to(device)
    held_out = max(1, min(round(options.validation * len(table)), _CHECKED_ROWS))
    if persons is not None:
        held_out = held_out_rows(persons, held_out)
    checked, learned = columns_of(everything[:held_out], device), everything[held_out:]
    if not len(learned):
        learned = everything
    rows = len(learned)
    known = columns_of(learned[: max(1, min(_KNOWN * held_out, _CHECKED_ROWS, int(_KNOWN_SHARE * rows)))], device)
    batch = max(1, min(shape.batch, rows))
    parts = max(p for p in range(1, _ORDERS + 1) if batch % p == 0 and (p == 1 or batch >= p))

    random = torch.Generator(device).manual_seed(seed)
    own = [own_weights(s, p, rows) for s, p in zip(shares, places)]
    network = Network(sizes, shape.embedding, shape.hidden, places, own, shape.cosines)
    network = network.start(shares, torch.Generator().manual_seed(seed)).to(device)
    scored = partial(losses_of, batch=max(batch, 256))
    owners = None
    if persons is not None:
        ordered = np.sort(persons)
        owners = ordered[: checked.shape[1]], ordered[len(table) - rows :][: known.shape[1]]
    control = _Control(checked.shape[1], known.shape[1]).to(device)
    later = known.shape[1] if rows > known.shape[1] else 0  # rows that are not trained on at first
    rate = options.learning_rate or _RATE
    biases = [weights for name, weights in network.named_parameters() if "bias" in name]
    others = [weights for name, weights in network.named_parameters() if "bias" not in name]
    groups = [{"params": others, "weight_decay": shape.decay}, {"params": biases, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)
    steps_per_epoch = max(1, rows // batch)
    rounds = Rounds(
        network,
        adam,
        random,
        options,
        steps_per_epoch,
        watch,
        device,
        rate=rate,
        averaged=True,
        kept={"control": control},
    )
    control_steps = min(_CONTROL_ROUNDS, rounds.most // 2) * rounds.steps

    def check() -> tuple[Tensor, Tensor, Tensor]:
        # The attack takes the schema's order, in which a network knows most; the loss is that of all orders.
        unseen, trained = (scored(rounds.average, codes, fixed=True) for codes in (checked, known))
        if rounds.state.step <= control_steps:
            control.unseen, control.trained = unseen, trained
        auc, error = LossAttack.of(control.unseen, control.trained, owners).auc(unseen, trained)
        loss = unseen if fixed else scored(rounds.average, checked, fixed=False)
        return loss.mean(), auc, _ERRORS * error

    order_of_rows: Tensor | None = None
    while rounds.go_on:
        step = rounds.state.step
        epoch, place = divmod(step, steps_per_epoch)
        if order_of_rows is None or place == 0 or step == control_steps:
            seeded = torch.Generator().manual_seed(seed + 1_000_003 * (epoch + 1))  # a resumed training finds it
            left_out = later if step < control_steps else 0
            order_of_rows = (left_out + torch.randperm(rows - left_out, generator=seeded)).to(device)
        places_of_rows = torch.arange(place * batch, (place + 1) * batch, device=device) % len(order_of_rows)
        chosen = columns_of(learned[order_of_rows[places_of_rows]], device)
        seeded = torch.Generator().manual_seed(seed + 7_919 * (step + 1))
        orders = draw_orders(parts, len(sizes), seeded, fixed=fixed).to(device)
        thinner = rounds.begin_step()
        dropout = shape.dropout * (thinner if options.dropout is None else 1.0)
        loss = network.losses(chosen, orders, dropout, random).sum() / batch
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        rounds.end_step(loss, check)
    return rounds.best.folded(), rounds.history


def own_weights(share: NDArray[np.float64], place: NDArray[np.float64] | None, rows: int) -> NDArray[np.bool_]:
    """Which codes of a column have weights of their own, bool[size]: those of many rows, and missing.

    Args:
        share: float64[size], share of each code.
        place: Places of the codes in the order, NaN for missing; None for categories, which all have their own.
        rows: Number of training rows.
    """
    if place is None:
        return np.ones(len(share), np.bool_)
    return np.asarray((share * rows >= _OWN_ROWS) | np.isnan(place))


def columns_of(rows: Tensor, device: torch.device) -> Tensor:
    """Rows [n, columns] as int64[columns, n] on the device."""
    return rows.to(device).t().to(torch.int64, memory_format=torch.contiguous_format)


def bounded_by_attack(history: Tensor, options: AutoregressiveOptions) -> bool:
    """Whether training would have gone on, or would have taken other weights, without the bound on the attack.

    Args:
        history: What ``train`` returned.
        options: How it was trained.
    """
    with_bound, without = (schedule_of(history, options.patience, 1 << 30, m) for m in (options.membership, math.inf))
    return (with_bound.turn, with_bound.best) != (without.turn, without.best)


class _Control(nn.Module):  # type: ignore[misc]
    """Losses of rows of which none was trained on: of held-out rows, and of training rows. It goes into checkpoints."""

    def __init__(self, unseen: int, trained: int) -> None:
        super().__init__()
        self.unseen: Tensor
        self.trained: Tensor
        self.register_buffer("unseen", torch.zeros(unseen))
        self.register_buffer("trained", torch.zeros(trained))


@dataclass(frozen=True)
class LossAttack:
    """The attack that takes rows, or persons, of small loss for training rows.

    Which rows were held out is chance, and so is whether these are unusual rows. What the losses of a network that was
    trained on none of them say of that is taken off the AUC, by regression of the ranks on their ranks (a control
    variate).

    Attributes:
        unseen: int64[persons], where the rows of each held-out person begin; None: each row is a person's only one.
        trained: The same of the training rows that are scored.
        before: float64[persons], centred ranks of the losses of such a network, held-out persons first.
    """

    unseen: Tensor | None
    trained: Tensor | None
    before: Tensor

    @classmethod
    def of(
        cls, unseen: Tensor, trained: Tensor, persons: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None
    ) -> LossAttack:
        """The attack on rows.

        Args:
            unseen: float32[n], losses of held-out rows by a network that was not trained on these rows.
            trained: float32[m], losses of training rows by it.
            persons: uint64[n] and uint64[m], the rows' persons, side by side; None: each row is a person.
        """
        first, second = (None, None) if persons is None else (_starts(persons[0]), _starts(persons[1]))
        return cls(first, second, _ranks(_means(unseen, first), _means(trained, second)))

    def auc(self, unseen: Tensor, trained: Tensor) -> tuple[Tensor, Tensor]:
        """Probability that a training row has a smaller loss than a held-out one, and its standard error.

        Args:
            unseen: float32[n], losses of the held-out rows.
            trained: float32[m], losses of the training rows.
        """
        first, second = _means(unseen, self.unseen), _means(trained, self.trained)
        ranks = _ranks(first, second)
        rest = ranks - self.before * ((ranks @ self.before) / (self.before @ self.before).clamp(min=1e-9))
        n, m = len(first), len(second)
        error = torch.sqrt(rest.square().mean() * (1 / n + 1 / m)) / (n + m)
        return 0.5 + (rest[:n].mean() - rest[n:].mean()) / (n + m), error


def _ranks(first: Tensor, second: Tensor) -> Tensor:
    """float64[n + m]: rank of each of all numbers, less the mean rank; equal numbers share the mean of theirs."""
    values = torch.cat([first, second]).contiguous()
    ordered = values.sort().values
    ranks = (torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)).double() / 2
    return ranks - ranks.mean()


def _starts(persons: NDArray[np.uint64]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(np.append(True, persons[1:] != persons[:-1])))


def _means(losses: Tensor, starts: Tensor | None) -> Tensor:
    """Mean loss of each person's rows."""
    if starts is None:
        return losses
    starts = starts.to(losses.device)
    ends = torch.cat([starts[1:], starts.new_tensor([len(losses)])])
    sums = torch.cat([losses.new_zeros(1, dtype=torch.float64), losses.double().cumsum(0)])
    return (sums[ends] - sums[starts]) / (ends - starts)


@torch.no_grad()  # type: ignore[untyped-decorator]
def losses_of(network: Network, codes: Tensor, *, fixed: bool, batch: int) -> Tensor:
    """Losses of rows int64[columns, n], float32[n], in nats.

    The orders are the same at every check, and for the same share of any rows: half of them the schema's.
    """
    orders = draw_orders(_ORDERS, len(network.sizes), torch.Generator().manual_seed(1), fixed=fixed).to(codes.device)
    losses: list[Tensor] = []
    for part in codes.split(batch, dim=1):
        n = part.shape[1]
        padded = part[:, torch.arange(-(-n // _ORDERS) * _ORDERS, device=codes.device) % n]
        losses.append(network.losses(padded, orders).sum(0)[:n])
    return torch.cat(losses)
