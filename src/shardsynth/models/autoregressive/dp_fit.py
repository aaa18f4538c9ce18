"""Fitting the autoregressive model under differential privacy: codes from noisy histograms, weights by DP-SGD.

All else that the model holds comes from the metadata: cells, categories, formats of identifiers. Relations between
columns are not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.models.autoregressive.codes import Coding
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

#: Rows whose gradients are computed together, and numbers of the layers for them, at most.
_MOST_ROWS = 2048
_MOST_NUMBERS = 16 << 20


@dataclass(frozen=True)
class DpFitting:
    """What a fit under differential privacy is given.

    Attributes:
        setup: What every fit is given. Its codes are public and its generators know no row. Its seed is for the first
            weights and the orders, not for the noise. Its options are not read: those of ``plan`` hold.
        plan: Sizes and steps.
        spent: The noise, and the budget that it costs.
        tables: The noisy histograms.
        batches: The training rows.
        count: Number of training rows. It is secret: the model does not hold it.
    """

    setup: FitSetup
    plan: DpTrainingPlan
    spent: Spent
    tables: NoisyTables
    batches: Iterable[pa.RecordBatch | pa.Table]
    count: int


def fit_with_dp(fitting: DpFitting) -> AutoregressiveModel:
    """Fit the model. It has no loss history: that would cost part of the budget.

    Raises:
        ModelError: There is nothing to learn.
        InputError: A GPU is wanted, or this task has one, and it cannot be used.
        Saved: ``should_stop`` was true, and the state is saved; run it again to go on.
    """
    setup, plan, options = fitting.setup, fitting.plan, fitting.plan.options
    device = choose_device(options.device)
    coding = dp_coding(plan, fitting.spent, fitting.tables, setup.coder, setup.schema)
    table = encode_rows(coding, setup.coder, fitting.batches, fitting.count, setup.seed, setup.scratch, alone=True)
    width = len(coding.columns) * (plan.embedding + plan.hidden)
    shape = Shape(plan.embedding, plan.hidden, max(1, min(_MOST_ROWS, _MOST_NUMBERS // width)))

    def learn(watch: WatchMaker) -> tuple[Network, None]:
        network = train_with_dp(
            table,
            coding.sizes,
            [column.share for column in coding.columns],
            [column.places for column in coding.columns],
            options,
            shape,
            fitting.spent,
            float(plan.batch),
            seed=setup.seed,
            device=device,
            watch=watch,
        )
        return network, None

    identity = f"{identity_of(options, shape, coding, table, setup.seed)} {fitting.spent.to_json()}"
    network, calibration, _, _ = trained(setup, options, coding, identity, learn)
    return finished_model(setup, options, coding, network, calibration, plan.rows, None)


def dp_coding(plan: DpTrainingPlan, spent: Spent, tables: NoisyTables, coder: TableCoder, schema: pa.Schema) -> Coding:
    """Codes of the columns, from noisy histograms alone.

    Raises:
        ModelError: No column is left to learn.
    """
    orders = {i: np.arange(int(groups[-1])) for i, groups in enumerate(tables.groups)}
    columns = dp_columns(tables, coder, schema, orders)
    note = (
        f"differentially private: epsilon {spent.epsilon:.4g}, delta {spent.delta:g}, {spent.steps} steps of about "
        f"{plan.batch:,} rows with noise of {spent.multiplier:.3g} clipping norms"
    )
    return Coding.of(columns, plan.bins, plan.options.max_categories, notes=[note])
