"""Fitting a plan's models, and opening what was fitted as a source of rows; native and stock engines alike."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from shardsynth.data.values import plain_type
from shardsynth.errors import ModelError, ShardsynthError
from shardsynth.job import Job
from shardsynth.pipeline import constrained, stopping
from shardsynth.pipeline.files import read_json, write_json
from shardsynth.pipeline.plan import Plan, Task, replica_group, replicas
from shardsynth.pipeline.rundir import Attempt, RunDir

if TYPE_CHECKING:
    from shardsynth.data.columns import Column
    from shardsynth.pipeline.tasks import Worker
    from shardsynth.sampling.constraints.table import TableConstraints

BATCH_ROWS = 65_536
#: Seeds of a model's candidates lie so far apart.
_REPLICA_SEED = 1_000_003
#: Rows by which candidates are compared.
_SCORED_ROWS = 20_000


class Source(Protocol):
    """Rows by their global number: the same row whatever range it is asked in."""

    schema: pa.Schema

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """The rows, in order, in the input's schema."""

    def acceptance(self) -> dict[str, Any] | None:
        """Proposals made and accepted for conditions since the last call; None where there are none."""


def fit_model(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Fit one model and write its files; returns details for the commit record."""
    chosen = worker.plan.job.models[task.model]
    if worker.plan.job.privacy is not None:
        return _fit_private(worker, task, attempt)
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


def _fit_private(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """A Gaussian copula from the noisy tables: neither profile nor exact counts are read."""
    from shardsynth.data.metadata import keys_of
    from shardsynth.models.copula.model import GaussianCopula
    from shardsynth.models.copula.private_fit import fit_private
    from shardsynth.sampling.identifiers import check_capacity, learn_all

    plan, metadata = worker.plan, worker.metadata()
    columns = worker.columns_of(metadata)
    tables = worker.private_tables()
    found = fit_private(tables, worker.public_coder(), plan.schema)
    none = pa.table({f.name: pa.nulls(0, plain_type(f.type)) for f in plan.schema})
    locales = plan.job.models[task.model].options.get("locales")
    generators = learn_all(none, columns, keys_of(metadata), seed=plan.job.seed, locales=locales)
    for name, generator in generators.items():
        check_capacity(generator, plan.rows, name)
    model = GaussianCopula.from_fit(found, plan.schema, columns, generators=generators, name=task.model)
    folder = worker.run.model(task.model)
    _save_files(worker.run, model, folder, attempt)
    _write_provenance(plan, task.model, attempt.output(folder / "run.json"), tables.guarantee.to_json())
    return {"fitted_rows": tables.rows, "sampled": False, "notes": list(found.notes)}


def _save_files(run: RunDir, model: Any, folder: Path, attempt: Attempt) -> None:
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        model.save(Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            shutil.copyfile(path, attempt.output(folder / path.name))


def _fit_native(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.base import Fitting
    from shardsynth.models.native import NATIVE
    from shardsynth.pipeline.quotas import QuotaSource, blocks_of

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
                rows=(lambda: _training_rows(worker)) if streams else None,
                scratch=Path(scratch) if streams else None,
                score=lambda batch: _score(worker, batch),
            )
        )
    # A condition that the model cannot meet is one error here, before any sampling task starts.
    under = constrained.constraints(worker) if plan.job.constraints else None
    QuotaSource(fitted.model, plan.job.seed, blocks_of(worker), BATCH_ROWS, under)
    candidate = task.replica >= 0
    folder = run.replica(task.model, task.replica) if candidate else run.model(task.model)
    _save_files(run, fitted.model, folder, attempt)
    constrained.write_card(worker, attempt, folder)
    _write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    _write_losses(folder / "loss.parquet" if candidate else run.losses(task.model), fitted.losses, attempt)
    rows = worker.counts("train").rows
    details = {"fitted_rows": fitted.rows, "sampled": fitted.rows < rows, "notes": list(fitted.notes)}
    if candidate:
        details["quality"] = _score(worker, fitted.model.draw(plan.job.seed, 0, _SCORED_ROWS))
    return details


def _training_rows(worker: Worker) -> Iterator[pa.RecordBatch]:
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
    from shardsynth.data.metadata import keys_of
    from shardsynth.sampling.identifiers import check_capacity, learn_all

    job = worker.plan.job
    generators = learn_all(
        worker.profile("train").sample,
        columns,
        keys_of(worker.metadata()),
        seed=job.seed,
        locales=job.models[model].options.get("locales"),
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


def _write_provenance(plan: Plan, model: str, path: Path, guarantee: dict[str, Any] | None = None) -> None:
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
    _write_provenance(plan, task.model, attempt.output(folder / "run.json"))
    _write_losses(run.losses(task.model), model.losses(), attempt)
    return {"fitted_rows": profile.sample.num_rows, "sampled": profile.sample.num_rows < worker.profile("train").rows}


class NativeSource:
    """Rows of a native model."""

    def __init__(self, model: Any, seed: int, conditions: Any = None) -> None:
        self.model, self.seed, self.conditions = model, seed, conditions
        self.schema: pa.Schema = model.schema

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        for first in range(rows.start, rows.stop, BATCH_ROWS):
            yield self.model.draw(self.seed, first, min(BATCH_ROWS, rows.stop - first), conditions=self.conditions)

    def acceptance(self) -> dict[str, int] | None:
        """Proposals made and accepted for conditions since the last call."""
        found: dict[str, int] | None = None if self.conditions is None else self.conditions.acceptance()
        return found

    @property
    def block(self) -> int:
        """Rows that are drawn together under constraints."""
        return BATCH_ROWS // 2

    def spare(self, block: int, piece: int, rows: int) -> pa.RecordBatch:
        """Piece of the spare stream of a block."""
        from shardsynth.sampling.streams import chunk_seed

        seed = chunk_seed(self.seed, f"again {block}", piece)
        return self.model.draw(seed, 0, rows, conditions=self.conditions)


class StockSource:
    """Rows of a stock synthesizer: whole chunks, each from its own seed, cut to the range asked."""

    def __init__(self, model: Any, seed: int, name: str, chunk_rows: int) -> None:
        self.model, self.seed, self.name, self.chunk_rows = model, seed, name, chunk_rows
        self.schema: pa.Schema = model.schema

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        from shardsynth.sampling.streams import chunk_seed

        if not rows:
            return
        size = self.chunk_rows
        for chunk in range(rows.start // size, -(-rows.stop // size)):
            first = chunk * size
            batch = self.model.draw(chunk_seed(self.seed, self.name, chunk), first, size)
            begin, end = max(0, rows.start - first), min(size, rows.stop - first)
            yield batch.slice(begin, end - begin)

    def acceptance(self) -> dict[str, int] | None:
        """No conditions, no proposals."""
        return None

    @property
    def block(self) -> int:
        """Rows that are drawn together under constraints."""
        return self.chunk_rows

    def spare(self, block: int, piece: int, rows: int) -> pa.RecordBatch:
        """Piece of the spare stream of a block."""
        from shardsynth.sampling.streams import chunk_seed

        return self.model.draw(chunk_seed(self.seed, f"{self.name} again {block}", piece), 0, rows)


class ConstrainedSource:
    """Rows of a model that was fitted under constraints, in the schema of the table."""

    def __init__(self, source: NativeSource | StockSource, table: TableConstraints, conditions: Any = None) -> None:
        from shardsynth.sampling.constraints.again import ConstrainedRows, piece_rows
        from shardsynth.sampling.constraints.conditions import divided

        self.schema: pa.Schema = table.schema
        self.model, self._inner, self._told = source.model, source, (0, 0)
        self._conditions = conditions is not None
        test = None
        if conditions is not None and isinstance(source, NativeSource):
            asked, test = divided(conditions, table, source.model)
            if asked is not None:
                source.conditions = source.model.prepare(asked)
        generators = source.model.generators
        self._rows = ConstrainedRows(
            table,
            lambda rows: _joined(source.batches(rows), source.schema),
            source.spare,
            block=source.block,
            piece=piece_rows(generators),
            own=frozenset(generators),
            test=test,
        )

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        return self._rows.batches(rows)

    def acceptance(self) -> dict[str, int]:
        """Rows drawn and kept since the last call; under conditions, the proposals and those accepted as well."""
        drawn, kept = self._rows.proposed - self._told[0], self._rows.accepted - self._told[1]
        self._told = (self._rows.proposed, self._rows.accepted)
        found = {"drawn": drawn, "kept": kept}
        if self._conditions:
            inner = self._inner.acceptance() or {"proposals": 0, "accepted": 0}
            found.update(proposals=drawn + inner["proposals"] - inner["accepted"], accepted=kept)
        return found


def _joined(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Batches as one."""
    found = list(batches)
    if len(found) == 1:
        return found[0]
    table = pa.Table.from_batches(found, schema).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


def open_run_source(worker: Worker, model: str) -> Source:
    """A fitted model of a run as a source of the run's rows, under the conditions of its job.

    Raises:
        ConditionError: A condition that the model cannot meet.
    """
    from shardsynth.pipeline.quotas import QuotaSource, blocks_of

    plan, folder = worker.plan, worker.run.model(model)
    source = open_source(
        folder, seed=plan.job.seed, name=model, chunk_rows=plan.chunk_rows, gpu=samples_on_gpu(plan.job, model)
    )
    blocks = blocks_of(worker)
    if not blocks:
        return source
    return QuotaSource(source.model, plan.job.seed, blocks, BATCH_ROWS, constrained.read_card(folder))


def model_card(folder: Path) -> dict[str, Any]:
    """A model folder's ``model.json``, and where it comes from (``run.json``); ModelError where there is none."""
    try:
        card: dict[str, Any] = read_json(folder / "model.json")
        run = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    except (OSError, ValueError):
        raise ModelError(
            f"{folder}: no model here (no readable model.json); name a folder such as runs/mine/models/tvae"
        ) from None
    return {**card, **run}


def samples_on_gpu(job: Job, model: str) -> bool:
    """Whether the job asks for GPUs for a model's sampling: whether there happens to be one must not change rows."""
    asked = [job.cluster.stages.get("sample"), job.cluster.models.get(model, {}).get("sample")]
    return any(resources is not None and resources.gpus for resources in asked)


def open_source(
    folder: Path,
    *,
    seed: int,
    name: str,
    chunk_rows: int,
    trust_pickle: bool = False,
    where: Any = None,
    gpu: bool = False,
) -> NativeSource | StockSource | ConstrainedSource:
    """Open a model folder as a source of rows; with ``gpu``, one that can makes them on a GPU if there is one.

    Raises:
        ModelError: No model there, or a pickle that no run recorded.
        ConditionError: A condition that the model cannot meet.
    """
    card = model_card(folder)
    table = constrained.read_card(folder)
    if card.get("engine") == "sdv":
        from shardsynth.models.stock.synthesizers import StockModel

        pickle = (folder / card["pickle"]).resolve()
        recorded = None if trust_pickle else recorded_checksum(folder, card)
        stock = StockSource(StockModel.load(pickle, recorded, trust_pickle), seed, name, chunk_rows)
        return stock if table is None else ConstrainedSource(stock, table)
    from shardsynth.models.native import load_native

    model: Any = load_native(folder, str(card.get("family")))
    if gpu and hasattr(model, "on_device"):
        model = model.on_device("auto")
    conditions = None
    if where:
        from shardsynth.sampling.conditions import parse_conditions

        conditions = parse_conditions(where)
    if table is not None:
        return ConstrainedSource(NativeSource(model, seed), table, conditions)
    return NativeSource(model, seed, None if conditions is None else model.prepare(conditions))


def recorded_checksum(folder: Path, card: dict[str, Any]) -> str | None:
    """Checksum of a stock pickle as the fit's commit record has it: proof that this run wrote it."""
    run = RunDir(folder.resolve().parents[1])
    try:
        plan = Plan.from_json(run.read_plan())
    except ShardsynthError as error:
        raise ModelError(
            f"{folder}: a stock pickle outside a run directory; loading it runs the code in it: "
            f"--trust-pickle does so ({error})"
        ) from None
    for task in plan.model_tasks("fit", str(card.get("name"))):
        record = run.committed("fit", task.index) or {"outputs": []}
        for output in record["outputs"]:
            if output["path"].endswith("synthesizer.pkl"):
                return str(output["sha256"])
    return None


def open_distributions(folder: Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Per column, the learned marginal: ``{"distribution": name, "learned_parameters": {...}}``."""
    card = model_card(folder)
    if card.get("engine") == "sdv":
        from shardsynth.models.stock.synthesizers import StockModel

        recorded = None if trust_pickle else recorded_checksum(folder, card)
        return StockModel.load((folder / card["pickle"]).resolve(), recorded, trust_pickle).learned_distributions()
    from shardsynth.models.native import load_native

    return load_native(folder, str(card.get("family"))).learned_distributions
