"""Fitting under differential privacy: what a model may be made of, and that nothing is drawn twice."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from shardsynth.data.values import plain_type
from shardsynth.errors import RunError
from shardsynth.job import Job
from shardsynth.pipeline import stopping
from shardsynth.pipeline.fitting import native_options, save_files, training_rows, write_provenance
from shardsynth.pipeline.plan import Task
from shardsynth.pipeline.rundir import Attempt

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column
    from shardsynth.models.autoregressive.private_plan import PrivatePlan
    from shardsynth.models.base import Model
    from shardsynth.pipeline.tasks import Worker


def is_trained(job: Job) -> bool:
    """Whether the model of a job with a privacy budget is trained, and not made of noisy tables alone."""
    ((_, model),) = job.models.items()
    return model.model == "autoregressive"


def expected_rows(job: Job, rows: int) -> int:
    """Training rows, as publicly known: not counted, as with ``evaluate.group`` a row's own key says where it goes.

    Args:
        job: A job with a privacy budget.
        rows: Rows of the input.
    """
    return round(rows * (1 - job.evaluate.holdout))


def training_plan(job: Job, coder: TableCoder, rows: int) -> PrivatePlan | None:
    """Sizes and steps of a private training; None where the job's model is not trained.

    Args:
        job: A job with a privacy budget.
        coder: The public codes.
        rows: Rows of the input.
    """
    from shardsynth.models.autoregressive.private_plan import PrivatePlan

    ((name, _),) = job.models.items()
    if job.privacy is None or not is_trained(job):
        return None
    kept = expected_rows(job, rows)
    kept = kept if job.fit.rows == "all" else min(kept, job.fit.sample_rows)
    return PrivatePlan.of(native_options(job, name), coder, kept, job.privacy.epsilon, job.privacy.delta)


def fit_private_model(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """A model of noisy tables and, where it is trained, of noisy steps: neither profile nor exact counts are read."""
    training = training_plan(worker.plan.job, worker.public_coder(), worker.plan.input_rows)
    made = _copula(worker, task) if training is None else _trained(worker, task, training)
    folder = worker.run.model(task.model)
    save_files(worker.run, made.model, folder, attempt)
    write_provenance(worker.plan, task.model, attempt.output(folder / "run.json"), made.guarantee)
    return made.details


class _Made(NamedTuple):
    """A private model, its guarantee, and details for the commit record."""

    model: Model
    guarantee: dict[str, Any]
    details: dict[str, Any]


def _copula(worker: Worker, task: Task) -> _Made:
    from shardsynth.models.copula.model import GaussianCopula
    from shardsynth.models.copula.private_fit import fit_private

    tables, columns = worker.private_tables(), worker.columns_of(worker.metadata())
    found = fit_private(tables, worker.public_coder(), worker.plan.schema)
    generators = _generators(worker, columns, task.model)
    model = GaussianCopula.from_fit(found, worker.plan.schema, columns, generators=generators, name=task.model)
    details = {"fitted_rows": tables.rows, "sampled": False, "notes": list(found.notes)}
    return _Made(model, tables.guarantee.to_json(), details)


def _trained(worker: Worker, task: Task, training: PrivatePlan) -> _Made:
    """An autoregressive model. Training that was not committed may be drawn again: nobody saw what came of it."""
    from shardsynth.models.autoregressive.private import PrivateFitting, fit_privately

    plan, run, asked = worker.plan, worker.run, worker.plan.job.privacy
    assert asked is not None
    if run.last_record("fit", task.index) is not None:
        raise RunError(
            f"{run.root}: the noise of its differential privacy was drawn once, and the model is gone; another "
            f"training would spend the budget twice: restore models/{task.model}, or start another run"
        )
    tables, columns = worker.private_tables(), worker.columns_of(worker.metadata())
    sample = worker.profile("train").sample
    streams = plan.job.fit.rows == "all"
    count = worker.counts("train").rows if streams else sample.num_rows
    spent = training.spend(asked.epsilon, asked.delta, tables.guarantee)
    with tempfile.TemporaryDirectory(prefix="training-", dir=run.private) as scratch:
        model = fit_privately(
            PrivateFitting(
                training,
                spent,
                tables,
                worker.public_coder(),
                training_rows(worker) if streams else [sample],
                count,
                plan.schema,
                columns,
                _generators(worker, columns, task.model),
                seed=plan.job.seed,
                name=task.model,
                threads=task.threads,
                checkpoint=run.checkpoint(task.model, task.replica),
                should_stop=stopping.asked,
                progress=lambda line: print(line, flush=True),
                scratch=Path(scratch) if streams else None,
            )
        )
    details = {"fitted_rows": count, "sampled": count < worker.counts("train").rows, "notes": list(model.notes)}
    return _Made(model, spent.to_json(), details)


def _generators(worker: Worker, columns: list[Column], model: str) -> dict[str, dict[str, Any]]:
    """Identifier generators, learned from no row."""
    from shardsynth.data.metadata import composite_key, keys_of
    from shardsynth.sampling.identifiers import check_capacity, learn_all

    plan, metadata = worker.plan, worker.metadata()
    none = pa.table({f.name: pa.nulls(0, plain_type(f.type)) for f in plan.schema})
    locales = plan.job.models[model].options.get("locales")
    generators = learn_all(
        none, columns, keys_of(metadata), seed=plan.job.seed, locales=locales, composite=composite_key(metadata)
    )
    for name, generator in generators.items():
        check_capacity(generator, plan.rows, name)
    return generators
