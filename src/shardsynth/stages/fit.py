"""Fitting the models of a plan, with native and stock engines."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pyarrow as pa

from shardsynth.metrics.quality import quality
from shardsynth.models.base import Fitting
from shardsynth.models.families import NATIVE
from shardsynth.planning.generators import learn_generators
from shardsynth.planning.options import is_trained, native_options
from shardsynth.planning.plan import Task, replica_group, replicas
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.run.trust import signatures_of
from shardsynth.sources.blocks import blocks_of
from shardsynth.sources.sources import BATCH_ROWS, QuotaSource
from shardsynth.stages.constraints import write_card
from shardsynth.stages.fit_setup import fit_setup
from shardsynth.stages.model_files import save_files, write_losses, write_provenance
from shardsynth.stages.persons import fit_protection
from shardsynth.stages.rows import training_persons, training_rows
from shardsynth.standalone.files import write_json
from shardsynth.standalone.signatures import make_key, sign
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.ranges import ScoreRanges

#: Number of drawn rows by which candidates are compared.
_SCORED_ROWS = 20_000


def fit_model(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Fit one model and write its files; returns details for the commit record."""
    model_options = artifacts.plan.job.models[task.model]
    if artifacts.plan.job.privacy is not None:
        from shardsynth.stages.fit_dp import fit_dp_model

        return fit_dp_model(artifacts, task, attempt)
    if model_options.engine != "native":
        return _fit_stock(artifacts, task, attempt)
    if task.replica < 0 and replicas(model_options) > 1:
        return _choose(artifacts, task, attempt)
    return _fit_native(artifacts, task, attempt)


def _choose(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Keep the best of a model's candidates: its files become those of the model."""
    plan, run = artifacts.plan, artifacts.run
    records = []
    for candidate in plan.model_tasks("fit", replica_group(task.model)):
        record = run.committed("fit", candidate.index)
        assert record is not None  # a task starts only when its needs are committed
        records.append(record)
    scores = [float(record["quality"]) for record in records]
    best = scores.index(max(scores))
    source, folder = run.replica(task.model, best), run.model(task.model)
    for path in sorted(source.iterdir()):
        place = run.losses(task.model) if path.suffix == ".parquet" else folder / path.name
        shutil.copyfile(path, attempt.output(place))
    score_text = ", ".join(f"{score:.4f}" for score in scores)
    print(f"quality of the candidates: {score_text}; number {best} is kept", flush=True)
    rows, sampled, notes = (records[best][key] for key in ("rows", "sampled", "notes"))
    note = f"the best of {len(scores)} trainings by quality ({score_text})"
    return {"fitted_rows": rows, "sampled": sampled, "notes": [*notes, note], "replica": best}


def _fit_native(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    plan, run = artifacts.plan, artifacts.run
    model_options = plan.job.models[task.model]
    table = artifacts.fit_table()
    options, sample = native_options(plan.job, task.model), artifacts.profile("train").sample
    streams = plan.job.fit.rows == "all"
    protection = fit_protection(artifacts, task.model, table.counts)
    with fit_setup(artifacts, task, table.schema, table.columns, table.coder, options, sample) as setup:
        fitted = NATIVE[model_options.model].fit(
            Fitting(
                setup,
                table.profile,
                protection.counts,
                table.relations,
                rows=(lambda: training_rows(artifacts)) if streams else None,
                score=lambda batch: _score(artifacts, batch),
                hide=protection.hide,
                target=plan.job.evaluate.target,
                persons=None if plan.job.person is None else lambda: training_persons(artifacts, streams),
            )
        )
    # Opened to check it: a condition that the model cannot meet is one error here, before any sampling task starts.
    constraints = artifacts.constraints() if plan.job.constraints else None
    QuotaSource(fitted.model, plan.job.seed, blocks_of(artifacts), BATCH_ROWS, constraints)
    candidate = task.replica >= 0
    folder = run.replica(task.model, task.replica) if candidate else run.model(task.model)
    save_files(run, fitted.model, folder, attempt)
    write_card(artifacts, attempt, folder)
    write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    write_losses(folder / "loss.parquet" if candidate else run.losses(task.model), fitted.losses, attempt)
    rows = artifacts.counts("train").rows
    details = {"fitted_rows": fitted.rows, "sampled": fitted.rows < rows, "notes": [*fitted.notes, *protection.notes()]}
    if candidate:
        details["quality"] = _score(artifacts, fitted.model.draw(plan.job.seed, 0, _SCORED_ROWS))
    return details


def _score(artifacts: Artifacts, batch: pa.RecordBatch) -> float:
    """Quality of drawn rows against the training rows, 0 to 1, over all pairs; without pairs, of the columns alone."""
    coder = artifacts.coder()
    if artifacts.plan.job.constraints:
        batch, is_valid = artifacts.constraints().restore(batch)
        batch = batch.filter(pa.array(is_valid)) if is_valid.any() else batch
    ranges = ScoreRanges.empty(coder.columns)
    ranges.update(batch)
    counts = Counts.empty(coder, fit=False, score=ranges)
    counts.update(batch, 0)
    scores = quality(artifacts.counts("train"), counts, coder)
    score = scores["all_pairs"]["score"]
    return float(scores["column_shapes"] or 0.0) if score is None else float(score)


def _fit_stock(artifacts: Artifacts, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.sdv.synthesizers import fit_stock

    make_key()  # without one, hours of training could not be kept
    plan, run = artifacts.plan, artifacts.run
    model_options = plan.job.models[task.model]
    table = artifacts.fit_table()
    profile = table.profile
    sample = artifacts.profile("train").sample
    learn_generators(plan.job, task.model, artifacts.metadata(), table.columns, sample, plan.rows)
    model = fit_stock(
        model_options.model,
        model_options.options,
        profile.sample,
        table.columns,
        table.metadata,
        seed=plan.job.seed,
        threads=task.threads,
        schema=table.schema,
    )
    pickle = run.stock_pickle(task.model)
    digest = model.save(attempt.output(pickle))
    sign(signatures_of(run.private), digest)
    attempt.checksum(pickle, digest)
    folder = run.model(task.model)
    card = {
        "format": 1,
        "engine": "sdv",
        "family": model_options.model,
        "pickle": os.path.relpath(pickle, folder),
        "sha256": digest,
    }
    write_json(attempt.output(folder / "model.json"), card)
    write_card(artifacts, attempt, folder)
    write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    write_losses(run.losses(task.model), model.losses(), attempt)
    return {
        "fitted_rows": profile.sample.num_rows,
        "sampled": profile.sample.num_rows < artifacts.profile("train").rows,
    }


def fit(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Fit one model on the training rows (their counts, their row sample, or both)."""
    noisy = artifacts.plan.job.privacy is not None and is_trained(artifacts.plan.job)
    if noisy and (record := artifacts.run.drawn_before("fit", task.index)) is not None:
        return record
    details = fit_model(artifacts, task, attempt)
    record = attempt.commit(rows=details.pop("fitted_rows"), only_once=noisy, **details)
    artifacts.run.checkpoint(task.model, task.replica).unlink(missing_ok=True)
    return record
