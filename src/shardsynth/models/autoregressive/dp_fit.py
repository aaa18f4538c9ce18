"""Fitting the autoregressive model under differential privacy: codes from noisy histograms, weights by DP-SGD.

Everything else that the model holds comes from the metadata: cells, categories, id formats. Relations between columns
are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.codes import BinnedColumn, Coding, by_frequency
from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
from shardsynth.models.autoregressive.dp_training import train_privately
from shardsynth.models.autoregressive.fit import CALIBRATION_ROWS, identity_of
from shardsynth.models.autoregressive.model import AutoregressiveModel
from shardsynth.models.autoregressive.sampler import calibrated_biases
from shardsynth.models.autoregressive.table import encode_rows
from shardsynth.models.autoregressive.training import Shape
from shardsynth.models.dp.accounting import Spent
from shardsynth.models.dp.columns import dp_columns
from shardsynth.models.dp.tables import NoisyTables
from shardsynth.models.training.checkpoint import Watch
from shardsynth.models.training.device import choose_device
from shardsynth.models.training.torch_threads import torch_threads

#: Rows whose gradients are computed together.
_PIECE = 2048
_MOST_NUMBERS = 16 << 20


@dataclass(frozen=True)
class DpFitting:
    """What a private fit is given.

    Attributes:
        plan: Sizes and steps.
        spent: The noise, and what it costs.
        tables: The noisy histograms.
        coder: The public codes that they were drawn with.
        batches: The training rows.
        count: How many there are; the model does not say.
        schema: Arrow schema of the input.
        columns: The table's columns.
        generators: From ``identifiers.learn_all``, of no row.
        seed: Of the first weights and the orders; not of the noise.
        name: The model's name in its run.
        threads: CPUs.
        checkpoint: File to resume from and to save to; None for none.
        should_stop: Asked after each step.
        progress: Gets lines for the log.
        scratch: Folder for files that are mapped into memory.
    """

    plan: DpTrainingPlan
    spent: Spent
    tables: NoisyTables
    coder: TableCoder
    batches: Iterable[pa.RecordBatch | pa.Table]
    count: int
    schema: pa.Schema
    columns: Sequence[Column]
    generators: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
    name: str = "autoregressive"
    threads: int = 1
    checkpoint: Path | None = None
    should_stop: Callable[[], bool] | None = None
    progress: Callable[[str], None] | None = None
    scratch: Path | None = None


def fit_with_dp(given: DpFitting) -> AutoregressiveModel:
    """Fit the model; it has no loss history, which would cost more.

    Raises:
        ModelError: Nothing can be learned.
        InputError: A GPU was asked for, or given to this task, and cannot be used.
        Saved: ``should_stop`` said so; run it again to go on.
    """
    plan, options = given.plan, given.plan.options
    device = choose_device(options.device)
    coding = private_coding(plan, given.spent, given.tables, given.coder, given.schema)
    table = encode_rows(coding, given.coder, given.batches, given.count, given.seed, given.scratch, alone=True)
    shares = [column.share for column in coding.columns]
    width = len(coding.columns) * (plan.embedding + plan.hidden)
    shape = Shape(plan.embedding, plan.hidden, max(1, min(_PIECE, _MOST_NUMBERS // width)))
    identity = f"{identity_of(options, shape, coding, table, given.seed)} {given.spent.to_json()}"

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, given.checkpoint, identity, every, given.should_stop, given.progress)

    with torch_threads(given.threads):
        network = train_privately(
            table,
            coding.sizes,
            shares,
            [column.places for column in coding.columns],
            options,
            shape,
            given.spent,
            float(plan.batch),
            seed=given.seed,
            device=device,
            watch=watch,
        )
        calibration = torch.zeros(sum(coding.sizes))
        if options.calibrate:
            calibration = calibrated_biases(network, shares, CALIBRATION_ROWS, given.seed)
    return AutoregressiveModel(
        given.schema,
        options,
        coding,
        network,
        calibration,
        plan.rows,
        dict(given.generators),
        {c.name: str(c.options["datetime_format"]) for c in given.columns if c.options.get("datetime_format")},
        given.name,
        threads=max(1, given.threads),
    )


def private_coding(
    plan: DpTrainingPlan, spent: Spent, tables: NoisyTables, coder: TableCoder, schema: pa.Schema
) -> Coding:
    """Codes of the columns, from noisy histograms alone.

    Raises:
        ModelError: No column is left to learn.
    """
    orders = {i: np.arange(int(groups[-1])) for i, groups in enumerate(tables.groups)}
    columns = dp_columns(tables, coder, schema, orders)
    most = plan.options.max_categories
    for place, one in enumerate(columns):
        if one.treatment == "latent" and one.categories is not None and len(one.categories) > most:
            columns[place] = by_frequency(one)
    learned = [
        BinnedColumn.of(one, plan.bins if one.categories is None else most)
        for one in columns
        if one.treatment == "latent"
    ]
    if not learned:
        raise ModelError("autoregressive: no column is left to learn (all are ids, personal, empty or constant)")
    note = (
        f"differentially private: epsilon {spent.epsilon:.4g}, delta {spent.delta:g}, {spent.steps} steps of about "
        f"{plan.batch:,} rows with noise of {spent.multiplier:.3g} clipping norms"
    )
    return Coding(tuple(columns), tuple(learned), (), (note,))
