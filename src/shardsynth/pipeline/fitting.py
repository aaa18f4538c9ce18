"""Fitting a plan's models, native and stock engines alike."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shardsynth.job import Job
from shardsynth.pipeline import constrained, stopping
from shardsynth.pipeline.files import write_json
from shardsynth.pipeline.plan import Plan, Task, replica_group, replicas
from shardsynth.pipeline.rundir import Attempt, RunDir
from shardsynth.pipeline.sources import BATCH_ROWS, QuotaSource

if TYPE_CHECKING:
    from shardsynth.data.columns import Column
    from shardsynth.pipeline.tasks import Worker

#: Seeds of a model's candidates lie so far apart.
_REPLICA_SEED = 1_000_003
#: Rows by which candidates are compared.
_SCORED_ROWS = 20_000


def fit_model(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Fit one model and write its files; returns details for the commit record."""
    chosen = worker.plan.job.models[task.model]
    if worker.plan.job.privacy is not None:
        from shardsynth.pipeline.private import fit_private_model

        return fit_private_model(worker, task, attempt)
    if chosen.engine != "native":
        return _fit_stock(worker, task, attempt)
    if task.replica < 0 and replicas(chosen) > 1:
        return _choose(worker, task, attempt)
    return _fit_native(worker, task, attempt)


def _choose(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Keep the best of a model's candidates: their files become the model's."""
    plan, run = worker.plan, worker.run
    records = []
    for candidate in plan.model_tasks("fit", replica_group(task.model)):
        record = run.committed("fit", candidate.index)
        assert record is not None  # a task starts once all it needs is committed
        records.append(record)
    scores = [float(record["quality"]) for record in records]
    best = scores.index(max(scores))
    source, folder = run.replica(task.model, best), run.model(task.model)
    for path in sorted(source.iterdir()):
        place = run.losses(task.model) if path.suffix == ".parquet" else folder / path.name
        shutil.copyfile(path, attempt.output(place))
    said = ", ".join(f"{score:.4f}" for score in scores)
    print(f"quality of the candidates: {said}; number {best} is kept", flush=True)
    rows, sampled, notes = (records[best][key] for key in ("rows", "sampled", "notes"))
    note = f"the best of {len(scores)} trainings by quality ({said})"
    return {"fitted_rows": rows, "sampled": sampled, "notes": [*notes, note], "replica": best}


def save_files(run: RunDir, model: Any, folder: Path, attempt: Attempt) -> None:
    """A native model's files, as outputs of the attempt."""
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        model.save(Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            shutil.copyfile(path, attempt.output(folder / path.name))


def _fit_native(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.base import Fitting
    from shardsynth.models.native import NATIVE
    from shardsynth.pipeline.quotas import blocks_of

    plan, run = worker.plan, worker.run
    chosen = plan.job.models[task.model]
    side = constrained.side(worker)
    with tempfile.TemporaryDirectory(prefix="training-", dir=run.private) as scratch:
        streams = plan.job.fit.rows == "all"
        fitted = NATIVE[chosen.model].fit(
            Fitting(
                side.profile,
                side.coder,
                side.counts,
                side.relations,
                side.schema,
                side.columns,
                native_options(plan.job, task.model),
                _generators(worker, side.columns, task.model),
                seed=plan.job.seed + _REPLICA_SEED * max(task.replica, 0),
                name=task.model,
                threads=task.threads,
                checkpoint=run.checkpoint(task.model, task.replica),
                should_stop=stopping.asked,
                progress=lambda line: print(line, flush=True),
                rows=(lambda: training_rows(worker)) if streams else None,
                scratch=Path(scratch) if streams else None,
                score=lambda batch: _score(worker, batch),
            )
        )
    # A condition that the model cannot meet is one error here, before any sampling task starts.
    under = constrained.constraints(worker) if plan.job.constraints else None
    QuotaSource(fitted.model, plan.job.seed, blocks_of(worker), BATCH_ROWS, under)
    candidate = task.replica >= 0
    folder = run.replica(task.model, task.replica) if candidate else run.model(task.model)
    save_files(run, fitted.model, folder, attempt)
    constrained.write_card(worker, attempt, folder)
    write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    _write_losses(folder / "loss.parquet" if candidate else run.losses(task.model), fitted.losses, attempt)
    rows = worker.counts("train").rows
    details = {"fitted_rows": fitted.rows, "sampled": fitted.rows < rows, "notes": list(fitted.notes)}
    if candidate:
        details["quality"] = _score(worker, fitted.model.draw(plan.job.seed, 0, _SCORED_ROWS))
    return details


def training_rows(worker: Worker) -> Iterator[pa.RecordBatch]:
    """All rows but those of the holdout, shard after shard, as the model sees them."""
    from shardsynth.pipeline.stages import input_rows

    plan = worker.plan
    table = constrained.constraints(worker) if plan.job.constraints else None
    for task in plan.tasks["count"]:
        for batch, _, held in input_rows(plan, task, stopping.check):
            kept = batch.filter(pa.array(~held)) if held.any() else batch
            if table is None:
                yield kept
            elif kept.num_rows:
                yield table.transform(kept)


def _score(worker: Worker, batch: pa.RecordBatch) -> float:
    """Quality of drawn rows against the training rows, over all pairs; the shapes alone where there are no pairs."""
    from shardsynth.metrics.quality import quality
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.ranges import ScoreRanges

    coder = worker.coder()
    if worker.plan.job.constraints:
        batch, fine = constrained.constraints(worker).restore(batch)
        batch = batch.filter(pa.array(fine)) if fine.any() else batch
    ranges = ScoreRanges.empty(coder.columns)
    ranges.update(batch)
    drawn = Counts.empty(coder, fit=False, score=ranges)
    drawn.update(batch, 0)
    found = quality(worker.counts("train"), drawn, coder)
    score = found["all_pairs"]["score"]
    return float(found["column_shapes"] or 0.0) if score is None else float(score)


def _write_losses(path: Path, losses: pa.Table | None, attempt: Attempt) -> None:
    if losses is not None:
        import pyarrow.parquet as pq

        pq.write_table(losses, attempt.output(path))


def _generators(worker: Worker, columns: list[Column], model: str) -> dict[str, dict[str, Any]]:
    """Identifier generators; InputError where one has too few values for the rows to be made."""
    from shardsynth.data.metadata import composite_key, keys_of
    from shardsynth.sampling.identifiers import check_capacity, learn_all

    job = worker.plan.job
    generators = learn_all(
        worker.profile("train").sample,
        columns,
        keys_of(worker.metadata()),
        seed=job.seed,
        locales=job.models[model].options.get("locales"),
        composite=composite_key(worker.metadata()),
    )
    for name, generator in generators.items():
        check_capacity(generator, worker.plan.rows, name)
    return generators


def native_options(job: Job, name: str) -> dict[str, Any]:
    """Options of a native fit: the model's own, and the job's protections."""
    return {
        "rare": {"min_count": job.rare.min_count, "as": job.rare.as_},
        "extremes": job.extremes,
        **job.models[name].options,
    }


def write_provenance(plan: Plan, model: str, path: Path, guarantee: dict[str, Any] | None = None) -> None:
    """What `sample` wants to know of the run that made a model: its stream, and the rows it made of it."""
    card: dict[str, Any] = {"name": model, "seed": plan.job.seed, "chunk_rows": plan.chunk_rows, "rows": plan.rows}
    if guarantee is not None:
        card["privacy"] = guarantee
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _fit_stock(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.stock.synthesizers import fit_stock

    plan, run = worker.plan, worker.run
    chosen = plan.job.models[task.model]
    side = constrained.side(worker)
    profile = side.profile
    _generators(worker, side.columns, task.model)
    model = fit_stock(
        chosen.model,
        chosen.options,
        profile.sample,
        side.columns,
        side.metadata,
        seed=plan.job.seed,
        threads=task.threads,
        schema=side.schema,
    )
    pickle = run.stock_pickle(task.model)
    digest = model.save(attempt.output(pickle))
    attempt.checksum(pickle, digest)
    folder = run.model(task.model)
    card = {
        "format": 1,
        "engine": "sdv",
        "family": chosen.model,
        "pickle": os.path.relpath(pickle, folder),
        "sha256": digest,
    }
    write_json(attempt.output(folder / "model.json"), card)
    constrained.write_card(worker, attempt, folder)
    write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    _write_losses(run.losses(task.model), model.losses(), attempt)
    return {"fitted_rows": profile.sample.num_rows, "sampled": profile.sample.num_rows < worker.profile("train").rows}
