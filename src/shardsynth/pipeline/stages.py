"""What each stage does: real rows in, summaries, models, synthetic parts, figures out.

Each function reads committed files of earlier stages, writes an attempt's outputs and commits them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth import __version__
from shardsynth.data import archive
from shardsynth.data.columns import schema_to_text
from shardsynth.data.shards import read_batches
from shardsynth.data.writer import PartWriter
from shardsynth.errors import MergeError, RunError
from shardsynth.pipeline import constrained, constraint_checks
from shardsynth.pipeline.fitting import fit_model
from shardsynth.pipeline.personal import check_keys, pseudonyms
from shardsynth.pipeline.plan import Plan, Task
from shardsynth.pipeline.private import expected_rows, is_trained
from shardsynth.pipeline.rundir import Attempt, RunDir
from shardsynth.pipeline.sources import Source, open_run_source
from shardsynth.summaries.drift import ShardHistograms, group_of
from shardsynth.summaries.rows import holdout_mask

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.pipeline.tasks import Worker
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile

Progress = Callable[[int], None]
Rows = Iterator[tuple[pa.RecordBatch, int, npt.NDArray[np.bool_]]]


def input_rows(plan: Plan, task: Task, progress: Progress) -> Rows:
    """Batches of a task's pieces, their first global row number, and which rows are held out."""
    done = 0
    evaluate = plan.job.evaluate
    replace = pseudonyms(plan.job)
    for piece in task.pieces:
        row = piece.first_row
        groups = range(piece.first_group, piece.last_group)
        for batch in read_batches(plan.shards[piece.shard], plan.schema, groups):
            key = batch.column(evaluate.group) if evaluate.group else None
            rows = batch if replace is None else replace.replaced(batch)
            yield rows, row, holdout_mask(plan.job.seed, evaluate.holdout, row, batch.num_rows, key)
            row += batch.num_rows
            done += batch.num_rows
            progress(done)


# --- real rows -------------------------------------------------------------------------------------------------------


def profile(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Pass 1: profile the training and the holdout rows of some row groups."""
    from shardsynth.summaries.profile import Profile, ProfileOptions

    plan, run = worker.plan, worker.run
    share = plan.job.evaluate.holdout
    parts = {}
    for name, fraction in (("train", 1 - share), ("holdout", share)):
        options = ProfileOptions(
            seed=plan.job.seed,
            total_rows=round(plan.input_rows * fraction),
            sample_rows=plan.job.fit.sample_rows,
            extremes=plan.job.rare.min_count,
            salt="sample" if name == "train" else "holdout sample",
        )
        parts[name] = Profile.empty(plan.schema, options)
    checker = constraint_checks.Checker(plan.job, plan.schema) if plan.job.constraints else None
    for batch, row, held in input_rows(plan, task, progress):
        if checker is not None:
            checker.update(batch, row)
        parts["train"].update(batch, row, ~held)
        if share:
            parts["holdout"].update(batch, row, held)
    for name, part in parts.items():
        part.save(attempt.output(profile_part(run, task.index, name)))
    details: dict[str, Any] = {} if checker is None else {"violations": checker.found}
    if replaced := pseudonyms(plan.job):
        details["keys"] = replaced.fingerprints()
    return attempt.commit(rows=sum(piece.rows for piece in task.pieces), **details)


def profile_part(run: RunDir, index: int, name: str) -> Path:
    """Part of a profile."""
    return run.private / "profile" / f"{index}.{name}"


def profile_merge(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the profiles; detect or complete the metadata; place the bins; guess relations on the row sample."""
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.public_codes import public_coder
    from shardsynth.models.copula.private_fit import check_private
    from shardsynth.models.guessing import guess_relations
    from shardsynth.pipeline.metadata import complete_metadata
    from shardsynth.summaries.profile import Profile

    plan, run = worker.plan, worker.run
    if plan.job.constraints:
        constraint_checks.refuse_input(worker, "profile")
    merged: dict[str, Profile] = {}
    for name in ("train", "holdout"):
        for number in range(len(plan.tasks["profile"])):
            part = Profile.load(profile_part(run, number, name))
            merged[name] = merged[name].merge(part) if name in merged else part
        merged[name].cut()
    train = merged["train"]
    train.check_finite()
    merged["holdout"].check_finite()
    metadata, public = complete_metadata(plan, train)
    columns = worker.columns_of(metadata)
    if plan.job.privacy is not None:
        check_private(columns)
        public_coder(columns, plan.input_rows, plan.job.seed).save(
            attempt.output(run.private / "summary" / "coder.public")
        )
    coder = TableCoder.from_profile(train, columns, min_count=plan.job.rare.min_count)
    learned, codes, sample = columns, coder, train.sample
    if plan.job.constraints:
        learned, codes, sample = constrained.learn(worker, attempt, train, coder, metadata)
    precisions = {found.column.name: found.precision for found in codes.columns}
    relations = guess_relations(learned, sample, precisions, plan.job.rare.min_count)
    for name, found in merged.items():
        found.save(attempt.output(run.private / "summary" / f"profile.{name}"))
    coder.save(attempt.output(run.private / "summary" / "coder"))
    _write_json(attempt, run.private / "summary" / "metadata.json", metadata)
    _write_json(attempt, run.private / "summary" / "relations.json", [relation.to_json() for relation in relations])
    _write_json(attempt, run.root / "metadata.json", public)
    record = attempt.commit(rows=train.rows + merged["holdout"].rows)
    for name in merged:
        for number in range(len(plan.tasks["profile"])):
            profile_part(run, number, name).unlink(missing_ok=True)
    return record


def count(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Pass 2: integer histograms and contingency tables of some row groups, on the bins of pass 1."""
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.ranges import ScoreRanges

    plan, run, coder = worker.plan, worker.run, worker.coder()
    check_keys(worker, pseudonyms(plan.job))
    inner = constraint_checks.InnerCounts(worker) if plan.job.constraints else None
    train = Counts.empty(
        coder,
        fit=inner is None,
        score=ScoreRanges.from_profile(worker.profile("train"), coder.columns),
        seed=plan.job.seed,
        total_rows=worker.profile("train").rows,
        relations=worker.relations() if inner is None else (),
    )
    holdout = Counts.empty(coder, fit=False, score=ScoreRanges.from_profile(worker.profile("holdout"), coder.columns))
    parts = {"train": train, "holdout": holdout}
    if plan.job.privacy is not None:
        pairs = not is_trained(plan.job)  # a trained model has histograms alone
        parts["public"] = Counts.empty(worker.public_coder(), fit=pairs, score=None, total_rows=plan.input_rows)
    starts = np.cumsum([0, *(shard.rows for shard in plan.shards)])
    drift, shard, before = ShardHistograms(), -1, train.hist
    for batch, row, held in input_rows(plan, task, progress):
        now = int(np.searchsorted(starts, row, side="right")) - 1
        if now != shard and shard >= 0:
            _add_shard(drift, plan, shard, train, before)
        if now != shard:
            shard, before = now, [counts.copy() for counts in train.hist]
        train.update(batch, row, ~held)
        if plan.job.privacy is not None:
            parts["public"].update(batch, row, ~held)
        if held.any():
            holdout.update(batch, row, held)
        if inner is not None:
            inner.update(batch, row, ~held)
    if inner is not None:
        parts["inner"] = inner.counts
    if shard >= 0:
        _add_shard(drift, plan, shard, train, before)
    archive.write(attempt.output(count_part(run, task.index, "drift")), drift.to_arrays())
    for name, part in parts.items():
        part.save(attempt.output(count_part(run, task.index, name)))
    violations = {} if inner is None else {"violations": inner.violations}
    return attempt.commit(rows=sum(piece.rows for piece in task.pieces), **violations)


def _add_shard(
    drift: ShardHistograms, plan: Plan, shard: int, train: Counts, before: list[npt.NDArray[np.int64]]
) -> None:
    """What the counts grew by while a shard was read."""
    grown = [now - then for now, then in zip(train.hist, before)]
    drift.add(group_of(shard, len(plan.shards)), train.coder, grown)


def count_part(run: RunDir, index: int, name: str) -> Path:
    """Part of the counts."""
    return run.private / "counts" / f"{index}.{name}"


def count_merge(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Merge the counts of the real rows."""
    plan, run = worker.plan, worker.run
    coders = {"train": worker.coder(), "holdout": worker.coder()}
    if plan.job.constraints:
        constraint_checks.refuse_input(worker, "count")
        coders["inner"] = constrained.inner_coder(worker)
    rows = 0
    for name, coder in coders.items():
        merged = _merge_counts(coder, [count_part(run, i, name) for i in range(len(plan.tasks["count"]))])
        merged.save(attempt.output(run.private / "summary" / f"counts.{name}"))
        rows += merged.rows if name != "inner" else 0
    drift = ShardHistograms()
    for number in range(len(plan.tasks["count"])):
        drift.merge(ShardHistograms.from_arrays(archive.read(count_part(run, number, "drift"))))
    _write_json(attempt, run.private / "summary" / "drift.json", drift.distances(worker.coder()))
    if plan.job.privacy is not None:
        _draw_private_tables(worker, attempt)
    record = attempt.commit(rows=rows)
    for name in (*coders, "public", "drift"):
        for number in range(len(plan.tasks["count"])):
            count_part(run, number, name).unlink(missing_ok=True)
    return record


def _draw_private_tables(worker: Worker, attempt: Attempt) -> None:
    """Merge the counts on public codes, and draw their noise: once in the life of a run."""
    from shardsynth.models.autoregressive.accounting import histogram_noise
    from shardsynth.models.copula.private_tables import draw_histograms, draw_tables

    plan, run = worker.plan, worker.run
    asked = plan.job.privacy
    assert asked is not None
    if run.last_record("count_merge", attempt.index) is not None:
        raise RunError(
            f"{run.root}: the noise of its differential privacy was drawn once, and the noisy tables are gone; another "
            "draw would spend the budget twice: restore private/summary, or start another run"
        )
    coder = worker.public_coder()
    merged = _merge_counts(coder, [count_part(run, i, "public") for i in range(len(plan.tasks["count"]))])
    if is_trained(plan.job):
        drawn = draw_histograms(merged, coder, histogram_noise(asked.epsilon, asked.delta, len(coder.columns)))
    else:
        drawn = draw_tables(merged, coder, expected_rows(plan.job, plan.input_rows), asked.epsilon, asked.delta)
    drawn.save(attempt.output(run.private / "summary" / "private_tables"))


def _merge_counts(coder: TableCoder, paths: list[Path]) -> Counts:
    from shardsynth.summaries.counts import Counts

    merged = Counts.load(paths[0], coder)
    for path in paths[1:]:
        merged.merge(Counts.load(path, coder))
    return merged


def _write_json(attempt: Attempt, path: Path, data: Any) -> None:
    attempt.output(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- models ----------------------------------------------------------------------------------------------------------


def fit(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Fit one model on the training rows (their counts, their row sample, or both)."""
    details = fit_model(worker, task, attempt)
    record = attempt.commit(rows=details.pop("fitted_rows"), **details)
    worker.run.checkpoint(task.model, task.replica).unlink(missing_ok=True)
    return record


def sample(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Make a range of output parts; beside them, the exact range of every numeric column."""
    from shardsynth.summaries.ranges import ScoreRanges

    plan, run = worker.plan, worker.run
    source = worker.cached(f"source {task.model}", lambda: open_run_source(worker, task.model))
    columns = worker.coder().columns
    head_rows = worker.profile("holdout").rows
    ranges = {"all": ScoreRanges.empty(columns), "head": ScoreRanges.empty(columns)}
    row = plan.part_rows(task.parts[0]).start
    first = row

    def watch(batch: pa.RecordBatch) -> None:
        nonlocal row
        ranges["all"].update(batch)
        if row < head_rows:
            ranges["head"].update(batch.slice(0, head_rows - row))
        row += batch.num_rows
        progress(row - first)

    parts = []
    for part in range(*task.parts):
        path = run.part(task.model, part)
        written = write_part(attempt.output(path), plan.schema, source, plan.part_rows(part), watch)
        attempt.checksum(path, written["sha256"])
        parts.append({"part": part, **written})
    _write_json(attempt, ranges_file(run, task), {name: found.to_json() for name, found in ranges.items()})
    device = getattr(getattr(source, "model", None), "device", "cpu")
    return attempt.commit(rows=row - first, parts=parts, acceptance=source.acceptance(), device=device)


def ranges_file(run: RunDir, task: Task) -> Path:
    """Ranges of the parts that a sampling task made; readers of the parts pass over its folder."""
    return run.samples(task.model) / "_ranges" / f"{task.parts[0]}.json"


def write_part(
    path: Path, schema: pa.Schema, source: Source, rows: range, watch: Callable[[pa.RecordBatch], None]
) -> dict[str, Any]:
    """Write one part; returns its rows, bytes and checksum."""
    drawn = source.for_writing()
    spare = pa.cpu_count() > 1  # a thread of the writer's own pays where a core is free for it
    columns = source.dictionary_columns
    with PartWriter(path, schema, drawn=drawn.schema, dictionary_columns=columns, background=spare) as writer:
        for batch in drawn.batches(rows):
            writer.write(batch)
            watch(batch)
        part = writer.close()
    return {"rows": part.rows, "size": part.bytes, "sha256": part.sha256}


# --- figures ---------------------------------------------------------------------------------------------------------


def score(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Count a range of synthetic parts on the real rows' bins; apart, the first rows, as many as the holdout has.

    Of the rows chosen by hash, keep the rows and their distances to the real ones.
    """
    from shardsynth.pipeline.evaluation import ScoredRows
    from shardsynth.summaries.counts import Counts

    plan, run, coder = worker.plan, worker.run, worker.coder()
    head_rows = worker.profile("holdout").rows
    ranges = worker.synthetic_ranges(task.model)
    everything = Counts.empty(coder, fit=False, score=ranges["all"])
    head = Counts.empty(coder, fit=False, score=ranges["head"])
    kept = ScoredRows(worker, task.model)
    judge = constraint_checks.Judge(worker) if plan.job.constraints else None
    first = row = plan.part_rows(task.parts[0]).start
    for part in range(*task.parts):
        for batch in read_part(run.part(task.model, part)):
            everything.update(batch, row)
            kept.add(batch, row)
            if judge is not None:
                judge.update(batch, row)
            if row < head_rows:
                head.update(batch.slice(0, head_rows - row), row)
            row += batch.num_rows
            progress(row - first)
    everything.save(attempt.output(score_part(run, task, "all")))
    head.save(attempt.output(score_part(run, task, "head")))
    kept.save(attempt.output(score_part(run, task, "rows")))
    violations = {} if judge is None else {"violations": judge.found}
    return attempt.commit(rows=row - first, **violations)


def score_part(run: RunDir, task: Task, name: str) -> Path:
    """What a scoring task made of its parts: counts of ``all`` rows and of the ``head``, and the chosen ``rows``."""
    return run.private / "scores" / task.model / f"{task.parts[0]}.{name}"


def read_part(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a synthetic part; MergeError where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise MergeError(
            f"{path}: the part cannot be read ({str(error).splitlines()[0]}); delete it, then `shardsynth resume` "
            "makes it again"
        ) from None


def merge(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Check that a model's parts add up; write the manifest and the figures; coalesce the parts where asked."""
    from shardsynth.pipeline.evaluation import joined, least_told, row_figures
    from shardsynth.pipeline.merging import check_parts, coalesce, figures, images_of
    from shardsynth.pipeline.quotas import blocks_of, described
    from shardsynth.report.number_pairs import number_pairs

    plan, run, model = worker.plan, worker.run, task.model
    parts = check_parts(run, plan, model)
    rows = sum(part["rows"] for part in parts)
    records = [run.last_record("sample", each.index) or {} for each in plan.model_tasks("sample", model)]
    manifest = {
        "model": model,
        "family": plan.job.models[model].model,
        "engine": plan.job.models[model].engine,
        "rows": rows,
        "seed": plan.job.seed,
        "chunk_rows": plan.chunk_rows,
        "schema": schema_to_text(plan.schema),
        "columns": [{"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in plan.schema],
        "versions": {"shardsynth": __version__, "pyarrow": pa.__version__, "numpy": np.__version__},
        # Rows of a deep model made on two kinds of device differ in their last bits: the reader should know.
        "devices": sorted({str(r.get("device", "cpu")) for r in records}),
        "parts": parts,
    }
    if images := images_of(run, plan, model):
        manifest["images"] = images
    if blocks := blocks_of(worker):
        manifest["conditions"] = described(blocks, records)
    if plan.job.constraints:
        manifest["constraints"] = constraint_checks.verdict(worker, model)
    if plan.job.sample.coalesce_mb:
        manifest["coalesced"] = coalesce(run, plan, model, attempt, progress)
    _write_json(attempt, run.samples(model) / "_manifest.json", manifest)
    tasks = plan.model_tasks("score", model)
    scored = [score_part(run, t, name) for name in ("all", "head", "rows") for t in tasks]
    counts = {
        name: _merge_counts(worker.coder(), [score_part(run, t, name) for t in tasks]) for name in ("all", "head")
    }
    for name, found in counts.items():
        found.save(attempt.output(run.private / "summary" / f"synthetic.{model}.{name}"))
    started = time.monotonic()
    table, distances = joined(worker, [score_part(run, t, "rows") for t in tasks])
    result = {**figures(worker, model, counts), **row_figures(worker, table, distances)}
    result["number_pairs"] = number_pairs(
        worker.coder(), result["quality"], worker.profile("train").sample, table, least_told(plan.job)
    )
    result["seconds"]["judge"] = round(time.monotonic() - started, 3)
    _write_json(attempt, run.metrics(model), result)
    record = attempt.commit(rows=rows)
    for path in scored:
        path.unlink(missing_ok=True)
    return record


def report(worker: Worker, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write the HTML page."""
    from shardsynth.pipeline.reporting import write_pages

    folder = worker.run.root / "report"
    write_pages(worker, lambda name: attempt.output(folder / name))
    return attempt.commit()


STAGE_FUNCTIONS: dict[str, Callable[[Worker, Task, Attempt, Progress], dict[str, Any]]] = {
    "profile": profile,
    "profile_merge": profile_merge,
    "count": count,
    "count_merge": count_merge,
    "fit": fit,
    "sample": sample,
    "score": score,
    "merge": merge,
    "report": report,
}
