"""Fitting the autoregressive model: code the columns, train the network, calibrate the frequencies."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from shardsynth.data.coding import TableCoder
from shardsynth.errors import JobError, ModelError
from shardsynth.models.autoregressive.calibration import calibrated_biases
from shardsynth.models.autoregressive.class_rows import ClassBiases
from shardsynth.models.autoregressive.classes import ClassShares, with_classes
from shardsynth.models.autoregressive.codes import Coding
from shardsynth.models.autoregressive.model import AutoregressiveModel
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.table import Table, blocks, encode_rows
from shardsynth.models.autoregressive.training import Shape, bins_of, bounded_by_attack, train
from shardsynth.models.base import FitSetup, Fitting
from shardsynth.models.columns.formulas import StepRelation
from shardsynth.models.columns.missing import missing_groups
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.selection import nearest_name
from shardsynth.models.training.checkpoint import Watch
from shardsynth.models.training.device import available_memory, choose_device
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.summaries.counts import Counts

#: Rows that are drawn to calibrate the frequencies.
CALIBRATION_ROWS = 32_768

#: What a model says of itself whose training was bounded by ``membership``.
TOO_SMALL = (
    "training ended at the bound on what its losses tell of the training rows (membership): the table is too small to "
    "learn all that ties its columns without that"
)

#: Makes the watch of a training from the number of all its steps and of the steps of an epoch.
WatchMaker = Callable[[int, int], Watch]
Extra = TypeVar("Extra")


def fit_autoregressive(fitting: Fitting) -> AutoregressiveModel:
    """Fit the model; its ``loss`` has one row per check.

    Raises:
        JobError: An option is unknown or impossible.
        ModelError: A column cannot be learned, or the device has too little memory.
        InputError: A GPU is wanted, or this task has one, and it cannot be used.
        Saved: ``should_stop`` was true, and the state is saved; run it again to go on.
    """
    setup = fitting.setup
    options = AutoregressiveOptions.parse(setup.options)
    device = choose_device(options.device)
    count = fitting.training_rows
    coding, classes = _coding(fitting, options, count)
    _check_balance(options, coding)
    shape = Shape.of(options, count, len(coding.columns))
    in_memory = 0 if setup.scratch is not None and device.type == "cpu" else count
    setup.tell(_check_memory(coding, shape, count, in_memory, available_memory(device), str(device)))
    persons = None if fitting.persons is None else fitting.persons()
    table = encode_rows(coding, setup.coder, fitting.batches(), count, setup.seed, setup.scratch, persons=persons)

    def learn(watch: WatchMaker) -> tuple[Network, Tensor]:
        shares = [column.share for column in coding.columns]
        places = [column.places for column in coding.columns]
        with torch_threads(shape.threads(len(coding.columns), setup.threads)):
            return train(
                table,
                coding.sizes,
                shares,
                places,
                options,
                shape,
                seed=setup.seed,
                device=device,
                watch=watch,
                persons=persons,
            )

    of_classes: ClassBiases | None = None
    if coding.columns:
        identity = identity_of(options, shape, coding, table, setup.seed)
        network, calibration, of_classes, history = trained(setup, options, coding, identity, learn, classes)
        if bounded_by_attack(history, options):
            coding = replace(coding, notes=(*coding.notes, TOO_SMALL))
    else:  # a table of ids, personal data, constants and empty columns: there is nothing to train
        network, calibration, history = Network((), shape.embedding, shape.hidden), torch.zeros(0), torch.zeros(0, 4)
    loss = pa.table(
        {
            "epoch": np.arange(len(history)),
            "loss": history[:, 0].numpy(),
            "held_out": history[:, 1].numpy(),
            "membership": history[:, 2].numpy(),
        }
    )
    model = finished_model(setup, options, coding, network, calibration, fitting.counts.rows, loss)
    return replace(model, together=_missing_together(coding, setup.coder, fitting.counts), classes=of_classes)


def _coding(fitting: Fitting, options: AutoregressiveOptions, rows: int) -> tuple[Coding, tuple[ClassShares, ...]]:
    """The columns, and the rare classes of the target where frequencies are calibrated."""
    protection = FitOptions(rare=options.rare, extremes=options.extremes)
    sizes = {"bins": options.bins or bins_of(rows), "most_categories": options.max_categories}
    coder, sample, target = fitting.setup.coder, fitting.profile.sample, fitting.target

    def coded(learned: Collection[str] = ()) -> Coding:
        return Coding.fit(
            fitting.profile, coder, fitting.counts, protection, relations=fitting.relations, learned=learned, **sizes
        )

    coding = coded()
    persons = None if fitting.persons is None or target is None else fitting.persons()
    first_is_balanced = options.order == "fixed" and options.balance not in ("", target)
    of_the_sample = persons is None or len(persons) == sample.num_rows
    if target is None or not options.calibrate or first_is_balanced or not of_the_sample:
        return coding, ()
    for relation in coding.relations:
        if relation.name == target and isinstance(relation, StepRelation):  # frauds are the largest amounts
            other, classes = with_classes(
                coded([target]), target, sample, coder, protection.protection, persons, **sizes
            )
            return (other, classes) if classes else (coding, ())
    return with_classes(coding, target, sample, coder, protection.protection, persons, **sizes)


def _missing_together(coding: Coding, coder: TableCoder, counts: Counts) -> tuple[tuple[int, ...], ...]:
    """Groups of numbers of learned columns that are missing on exactly the same training rows."""
    number = {coder.index[column.name]: k for k, column in enumerate(coding.columns) if column.nullable}
    groups = missing_groups(counts, sorted(number))
    return tuple(tuple(number[i] for i in group) for group in groups if len(group) > 1)


def trained(
    setup: FitSetup,
    options: AutoregressiveOptions,
    coding: Coding,
    identity: str,
    learn: Callable[[WatchMaker], tuple[Network, Extra]],
    classes: Sequence[ClassShares] = (),
) -> tuple[Network, Tensor, ClassBiases | None, Extra]:
    """Train with the setup's threads and checkpoint, then calibrate the frequencies.

    Args:
        setup: What the fit was given.
        options: How to train.
        coding: The columns.
        identity: Says which training a checkpoint belongs to.
        learn: Trains under a watch; returns the network and one more thing, such as the losses.
        classes: Rare classes of the first column.

    Returns:
        The network, its calibration float32[all codes], that of the classes, and the second thing that ``learn``
        returned.
    """

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, setup.checkpoint, identity, every, setup.should_stop, setup.progress)

    with torch_threads(setup.threads):
        network, extra = learn(watch)
        calibration, of_classes = torch.zeros(sum(coding.sizes)), None
        if options.calibrate:
            shares = [column.share for column in coding.columns]
            calibration, of_classes = calibrated_biases(network, shares, CALIBRATION_ROWS, setup.seed, classes)
    return network, calibration, of_classes, extra


def finished_model(
    setup: FitSetup,
    options: AutoregressiveOptions,
    coding: Coding,
    network: Network,
    calibration: Tensor,
    rows: int,
    loss: pa.Table | None,
) -> AutoregressiveModel:
    """The model of a trained network; ``rows`` and ``loss`` are what the model says of its training."""
    return AutoregressiveModel(
        setup.schema,
        options,
        coding,
        network,
        calibration,
        rows,
        dict(setup.generators),
        setup.formats,
        setup.name or "autoregressive",
        loss,
        max(1, setup.threads),
    )


def _check_balance(options: AutoregressiveOptions, coding: Coding) -> None:
    """Raise JobError for a column that cannot be balanced, before anything is trained."""
    categories = [c.name for c in coding.columns if c.fit.categories is not None]
    if options.balance and options.balance not in categories:
        raise JobError(
            f"autoregressive: balance: {options.balance!r} is no category column that is learned"
            f"{nearest_name(options.balance, categories)}"
        )
    if options.balance and options.order == "fixed" and coding.columns[0].name != options.balance:
        raise JobError(
            f"autoregressive: balance: {options.balance!r} is not the first column that is learned; "
            "this needs order: any, found order: fixed"
        )


def _check_memory(coding: Coding, shape: Shape, rows: int, rows_in_memory: int, available: int, device: str) -> str:
    """The memory that training will need, as a line for the log; ModelError if it is more than the device has.

    Args:
        coding: The columns.
        shape: Sizes of the network and of a step.
        rows: Number of training rows.
        rows_in_memory: How many of them have their codes in the device's memory.
        available: Bytes that the device has.
        device: Its name.
    """
    sizes, columns = sum(coding.sizes), len(coding.columns)
    width = shape.embedding + shape.hidden
    parameters = sizes * shape.embedding + columns * shape.embedding * shape.hidden + int(1.3 * sizes * width)
    step = 4 * shape.batch * (6 * columns * width + 4 * int(1.3 * sizes))
    total = 20 * parameters + step + 2 * rows_in_memory * columns + 16 * rows
    line = (
        f"autoregressive: {columns} columns of {sizes} codes, {parameters / 1e6:.1f} M parameters, batches of "
        f"{shape.batch}, about {total / 2**30:.2f} GiB of {available / 2**30:.1f} on {device}"
    )
    if total > available:
        raise ModelError(f"{line}: too much; lower batch_size, bins or max_categories (now {max(coding.sizes)} codes)")
    return line


def identity_of(options: AutoregressiveOptions, shape: Shape, coding: Coding, table: Table, seed: int) -> str:
    """Hash of all that a training depends on: options, sizes, columns, rows and seed.

    A checkpoint with another one belongs to another training and is not used.
    """
    ignored = {"device": "", "checkpoint_minutes": 0.0, "temperature": 1.0, "top_p": 1.0, "balance": ""}
    same = options.model_copy(update={**ignored, "calibrate": True})
    parts = [
        same.to_json(),
        list(dataclasses.astuple(shape)),
        list(coding.sizes),
        seed,
    ]
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    for block in blocks(table):
        digest.update(block)
    return digest.hexdigest()
