"""Fitting the autoregressive model under differential privacy: codes from noisy histograms, weights by DP-SGD.

Everything else that the model holds comes from the metadata: cells, categories, id formats. Relations between columns
are not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.codes import BinnedColumn, Coding, by_frequency
from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
from shardsynth.models.autoregressive.dp_training import train_with_dp
from shardsynth.models.autoregressive.fit import WatchMaker, finished_model, identity_of, trained
from shardsynth.models.autoregressive.model import AutoregressiveModel
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.table import encode_rows
from shardsynth.models.autoregressive.training import Shape
from shardsynth.models.base import FitSetup
from shardsynth.models.dp.accounting import Spent
from shardsynth.models.dp.columns import dp_columns
from shardsynth.models.dp.tables import NoisyTables
from shardsynth.models.training.device import choose_device

#: Rows whose gradients are computed together.
_PIECE = 2048
_MOST_NUMBERS = 16 << 20


@dataclass(frozen=True)
class DpFitting:
    """What a fit under differential privacy is given.

    Attributes:
        setup: What every fit is given: the public codes, generators of no row. Its seed is that of the first weights
            and the orders, not of the noise; its options are those of ``plan``.
        plan: Sizes and steps.
        spent: The noise, and what it costs.
        tables: The noisy histograms.
        batches: The training rows.
        count: How many there are; the model does not say.
    """

    setup: FitSetup
    plan: DpTrainingPlan
    spent: Spent
    tables: NoisyTables
    batches: Iterable[pa.RecordBatch | pa.Table]
    count: int


def fit_with_dp(given: DpFitting) -> AutoregressiveModel:
    """Fit the model; it has no loss history, which would cost more.

    Raises:
        ModelError: Nothing can be learned.
        InputError: A GPU was asked for, or given to this task, and cannot be used.
        Saved: ``should_stop`` said so; run it again to go on.
    """
    setup, plan, options = given.setup, given.plan, given.plan.options
    device = choose_device(options.device)
    coding = dp_coding(plan, given.spent, given.tables, setup.coder, setup.schema)
    table = encode_rows(coding, setup.coder, given.batches, given.count, setup.seed, setup.scratch, alone=True)
    width = len(coding.columns) * (plan.embedding + plan.hidden)
    shape = Shape(plan.embedding, plan.hidden, max(1, min(_PIECE, _MOST_NUMBERS // width)))

    def learn(watch: WatchMaker) -> tuple[Network, None]:
        network = train_with_dp(
            table,
            coding.sizes,
            [column.share for column in coding.columns],
            [column.places for column in coding.columns],
            options,
            shape,
            given.spent,
            float(plan.batch),
            seed=setup.seed,
            device=device,
            watch=watch,
        )
        return network, None

    identity = f"{identity_of(options, shape, coding, table, setup.seed)} {given.spent.to_json()}"
    network, calibration, _ = trained(setup, options, coding, identity, learn)
    return finished_model(setup, options, coding, network, calibration, plan.rows, None)


def dp_coding(plan: DpTrainingPlan, spent: Spent, tables: NoisyTables, coder: TableCoder, schema: pa.Schema) -> Coding:
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
