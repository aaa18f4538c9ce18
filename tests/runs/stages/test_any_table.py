"""No stage fails on a table that planned: random tables through the whole default job, in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from tests.tables.any_table import PLANS, ColumnPlan, TablePlan
from tests.tables.whole_job import MODELS, plan_default_job, run_all_tasks, run_default_job

from shardsynth.errors import InputError

#: Examples that once failed: no column to learn, an all-missing column in a fold, an instant with a zone as text,
#: integers beyond 2^53 and floats of 16 bits.
CONSTANT = TablePlan(60, (ColumnPlan("bool", "constant", "none", False, False),), 0)
FEW_VALUES = TablePlan(
    275,
    (ColumnPlan("milliseconds", "two", "all but one", True, True), ColumnPlan("int8", "few", "98 %", False, False)),
    1,
)
ZONE = TablePlan(
    120,
    (ColumnPlan("text time", "as many as rows", "98 %", True, False), ColumnPlan("float", "many", "none", True, False)),
    3,
)
LONG = TablePlan(
    60,
    (ColumnPlan("uint64", "many", "half", False, False), ColumnPlan("half", "many", "one", False, False)),
    5,
)


@settings(
    max_examples=20, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@example(CONSTANT)
@example(FEW_VALUES)
@example(ZONE)
@example(LONG)
@given(PLANS)
def test_no_stage_fails_on_a_table_that_planned(plan: TablePlan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = plan_default_job(plan.table(), Path(folder), plan.shards)
        except InputError as error:  # one clear sentence before anything is fitted
            assert "\n" not in str(error)
            return
        assert plan.rows > 0
        run_all_tasks(run)
        for name in MODELS:
            assert run.samples(name).to_table().num_rows == plan.rows


def test_a_table_without_rows_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row"):
        plan_default_job(pa.table({"a": pa.array([], pa.int64())}), tmp_path)


@pytest.mark.parametrize("present", [1, 2, 6])
def test_a_number_that_is_missing_nearly_always_ends_no_run(tmp_path: Path, present: int) -> None:
    rng = np.random.default_rng(1)
    copies = np.full(1_000, np.nan)
    copies[rng.choice(1_000, present, replace=False)] = np.round(rng.normal(2, 1, present), 1)
    table = pa.table({"stage": rng.choice(["I", "II", "III"], 1_000), "copies": copies})
    run = run_default_job(table, tmp_path, models={"gaussian_copula": {}})
    assert run.metrics("gaussian_copula")["detection"]["rows"] > 100
