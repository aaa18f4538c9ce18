"""Tables, and fits of autoregressive models on them, without a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.models.autoregressive.fit import fit_autoregressive
from shardsynth.models.autoregressive.model import AutoregressiveModel
from shardsynth.models.base import FitSetup, Fitting
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.sampling.identifiers import learn_all
from shardsynth.summaries.counts import Counts
from tests.tables.deep import SETUP, Prepared, prepare

QUICK = {"embedding": 32, "hidden": 32, "max_epochs": 12, "batch_size": 128}


def people(rows: int = 8000) -> pa.Table:
    """Rows with known dependence: an id, categories, numbers, missing values, a function and a sum."""
    rng = np.random.default_rng(11)
    sex = rng.integers(0, 2, rows)
    age = np.clip(rng.normal(45 + 8 * sex, 12, rows), 18, 90).round()
    grade = np.minimum(3, ((age - 18) / 18 + rng.normal(0, 0.5, rows)).clip(0)).astype(int)
    income = np.exp(rng.normal(9 + 0.02 * age + 0.4 * (grade == 3), 0.4, rows)).round(2)
    bonus = np.where(rng.random(rows) < 0.6, 0, rng.integers(1, 40, rows) * 50)
    base = rng.integers(10, 200, rows) * 10
    known = rng.random(rows) < np.where(sex == 1, 0.95, 0.6)
    names = np.array(["low", "mid", "high", "top"])
    return pa.table(
        {
            "id": pa.array([f"P-{i:06d}" for i in range(rows)]),
            "sex": pa.array(np.array(["f", "m"])[sex]).dictionary_encode(),
            "age": pa.array(age.astype(np.int8)),
            "grade": pa.array(names[grade]),
            "level": pa.array(grade.astype(np.int16) * 10 + 5),
            "income": pa.array(income, pa.float32()),
            "weight": pa.array(np.where(known, rng.normal(65 + 15 * sex, 9, rows), np.nan), from_pandas=True),
            "base": pa.array(base.astype(np.int32)),
            "bonus": pa.array(bonus.astype(np.int32)),
            "pay": pa.array((base + bonus).astype(np.int32)),
        }
    )


def given(prepared: Prepared, options: dict[str, Any], **more: Any) -> Fitting:
    """What a fit task gives; relations guessed and verified as a run does."""
    table, columns, profile, coder, _ = prepared
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    batch = table.combine_chunks().to_batches()[0]
    counts = Counts.empty(coder, fit=False, score=None, relations=relations).update(batch, 0)
    generators = learn_all(profile.sample, columns, [], seed=3)
    of_setup = {name: more.pop(name) for name in SETUP if name in more}
    of_setup = {"seed": 3, "name": "autoregressive", **of_setup}
    setup = FitSetup(table.schema, columns, coder, options, generators, **of_setup)
    return Fitting(setup, profile, counts, relations, **more)


def fit(prepared: Prepared, options: dict[str, Any], **more: Any) -> AutoregressiveModel:
    """A fitted model."""
    return fit_autoregressive(given(prepared, options, **more))


def prepared_people(rows: int = 8000) -> Prepared:
    """``people`` as a fit task holds it."""
    return prepare(people(rows), {"id": "id"})
