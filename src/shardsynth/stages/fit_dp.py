"""Fitting under differential privacy: what a model may be made of, and that nothing is drawn twice."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from shardsynth.data.values import plain_type
from shardsynth.errors import RunError
from shardsynth.planning.options import training_plan
from shardsynth.planning.plan import Task
from shardsynth.run.rundir import Attempt
from shardsynth.stages.model_files import save_files, write_provenance
from shardsynth.stages.rows import training_rows
from shardsynth.standalone import signals

if TYPE_CHECKING:
    from shardsynth.data.columns import Column
    from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
    from shardsynth.models.base import Model
    from shardsynth.run.artifacts import Artifacts


def fit_dp_model(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    """A model of noisy tables and, where it is trained, of noisy steps: neither profile nor exact counts are read."""
    training = training_plan(artifacts.plan.job, artifacts.public_coder(), artifacts.plan.input_rows)
    made = _copula(artifacts, task) if training is None else _trained(artifacts, task, training)
    folder = artifacts.run.model(task.model)
    save_files(artifacts.run, made.model, folder, attempt)
    write_provenance(artifacts.plan, task.model, attempt.output(folder / "run.json"), made.guarantee)
    return made.details


class _Made(NamedTuple):
    """A private model, its guarantee, and details for the commit record."""

    model: Model
    guarantee: dict[str, Any]
    details: dict[str, Any]


def _copula(artifacts: Artifacts, task: Task) -> _Made:
    from shardsynth.models.copula.dp_fit import fit_copula_with_dp
    from shardsynth.models.copula.model import GaussianCopula

    tables, columns = artifacts.noisy_tables(), artifacts.columns_of(artifacts.metadata())
    found = fit_copula_with_dp(tables, artifacts.public_coder(), artifacts.plan.schema)
    generators = _generators(artifacts, columns, task.model)
    model = GaussianCopula.from_fit(found, artifacts.plan.schema, columns, generators=generators, name=task.model)
    details = {"fitted_rows": tables.rows, "sampled": False, "notes": list(found.notes)}
    return _Made(model, tables.guarantee.to_json(), details)


def _trained(artifacts: Artifacts, task: Task, training: DpTrainingPlan) -> _Made:
    """An autoregressive model. Training that was not committed may be drawn again: nobody saw what came of it."""
    from shardsynth.models.autoregressive.dp_fit import DpFitting, fit_with_dp

    plan, run, asked = artifacts.plan, artifacts.run, artifacts.plan.job.privacy
    assert asked is not None
    if run.last_record("fit", task.index) is not None:
        raise RunError(
            f"{run.root}: the noise of its differential privacy was drawn once, and the model is gone; another "
            f"training would spend the budget twice: restore models/{task.model}, or start another run"
        )
    tables, columns = artifacts.noisy_tables(), artifacts.columns_of(artifacts.metadata())
    sample = artifacts.profile("train").sample
    streams = plan.job.fit.rows == "all"
    count = artifacts.counts("train").rows if streams else sample.num_rows
    spent = training.spend(asked.epsilon, asked.delta, tables.guarantee)
    with tempfile.TemporaryDirectory(prefix="training-", dir=run.private) as scratch:
        model = fit_with_dp(
            DpFitting(
                training,
                spent,
                tables,
                artifacts.public_coder(),
                training_rows(artifacts) if streams else [sample],
                count,
                plan.schema,
                columns,
                _generators(artifacts, columns, task.model),
                seed=plan.job.seed,
                name=task.model,
                threads=task.threads,
                checkpoint=run.checkpoint(task.model, task.replica),
                should_stop=signals.asked,
                progress=lambda line: print(line, flush=True),
                scratch=Path(scratch) if streams else None,
            )
        )
    details = {"fitted_rows": count, "sampled": count < artifacts.counts("train").rows, "notes": list(model.notes)}
    return _Made(model, spent.to_json(), details)


def _generators(artifacts: Artifacts, columns: list[Column], model: str) -> dict[str, dict[str, Any]]:
    """Identifier generators, learned from no row."""
    from shardsynth.data.metadata import composite_key, keys_of
    from shardsynth.sampling.identifiers import check_capacity, learn_all

    plan, metadata = artifacts.plan, artifacts.metadata()
    none = pa.table({f.name: pa.nulls(0, plain_type(f.type)) for f in plan.schema})
    locales = plan.job.models[model].options.get("locales")
    generators = learn_all(
        none, columns, keys_of(metadata), seed=plan.job.seed, locales=locales, composite=composite_key(metadata)
    )
    for name, generator in generators.items():
        check_capacity(generator, plan.rows, name)
    return generators
