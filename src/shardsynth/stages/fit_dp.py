"""Fitting under dp: from noisy tables and, for a trained model, noisy steps, whose noise is drawn only once."""

from __future__ import annotations

from typing import Any, NamedTuple

from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
from shardsynth.models.base import NativeModel
from shardsynth.models.copula.dp_fit import fit_copula_with_dp
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.planning.generators import learn_generators, no_rows
from shardsynth.planning.options import training_plan
from shardsynth.planning.plan import Task
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt
from shardsynth.stages.fit_setup import fit_setup
from shardsynth.stages.model_files import save_files, write_provenance
from shardsynth.stages.rows import training_rows


def fit_dp_model(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Fit a model under dp, and write its files; returns details for the commit record."""
    training = training_plan(artifacts.plan.job, artifacts.public_coder(), artifacts.plan.input_rows)
    fit = _copula(artifacts, task) if training is None else _trained(artifacts, task, training)
    folder = artifacts.run.model(task.model)
    save_files(artifacts.run, fit.model, folder, attempt)
    write_provenance(artifacts.plan, task.model, attempt.output(folder / "run.json"), fit.guarantee)
    return fit.details


class _DpFit(NamedTuple):
    """A model, its guarantee, and details for the commit record."""

    model: NativeModel
    guarantee: dict[str, Any]
    details: dict[str, Any]


def _copula(artifacts: Artifacts, task: Task) -> _DpFit:
    tables, columns = artifacts.noisy_tables(), artifacts.columns_of(artifacts.metadata())
    plan = artifacts.plan
    fit = fit_copula_with_dp(tables, artifacts.public_coder(), plan.schema)
    generators = learn_generators(plan.job, task.model, artifacts.metadata(), columns, no_rows(plan.schema), plan.rows)
    model = GaussianCopula.from_fit(fit, plan.schema, columns, generators=generators, name=task.model)
    details = {"fitted_rows": tables.rows, "sampled": False, "notes": list(fit.notes)}
    return _DpFit(model, tables.guarantee.to_json(), details)


def _trained(artifacts: Artifacts, task: Task, training: DpTrainingPlan) -> _DpFit:
    """An autoregressive model. A training that was not committed may draw its noise again: nobody saw its result."""
    from shardsynth.models.autoregressive.dp_fit import DpFitting, fit_with_dp

    plan, budget = artifacts.plan, artifacts.plan.job.privacy
    assert budget is not None
    tables, columns = artifacts.noisy_tables(), artifacts.columns_of(artifacts.metadata())
    all_rows, sample = artifacts.counts("train").rows, artifacts.profile("train").sample
    streams = plan.job.fit.rows == "all"
    count = all_rows if streams else sample.num_rows
    spent = training.spend(budget.epsilon, budget.delta, tables.guarantee)
    coder, empty_sample = artifacts.public_coder(), no_rows(plan.schema)
    with fit_setup(artifacts, task, plan.schema, columns, coder, training.options, empty_sample) as setup:
        batches = training_rows(artifacts) if streams else [sample]
        model = fit_with_dp(DpFitting(setup, training, spent, tables, batches, count))
    details = {"fitted_rows": count, "sampled": count < all_rows, "notes": list(model.notes)}
    return _DpFit(model, spent.to_json(), details)
