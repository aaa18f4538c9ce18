"""Fitting a plan's models, and opening what was fitted as a source of rows; native and stock engines alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from shardsynth.errors import ModelError, ShardsynthError
from shardsynth.job import Job
from shardsynth.pipeline.files import read_json, sha256_of, write_json
from shardsynth.pipeline.plan import Plan, Task
from shardsynth.pipeline.rundir import Attempt, RunDir

if TYPE_CHECKING:
    from shardsynth.pipeline.tasks import Worker

BATCH_ROWS = 32_768


class Source(Protocol):
    """Rows by their global number: the same row whatever range it is asked in."""

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """The rows, in order, in the input's schema."""


def fit_model(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    """Fit one model and write its files; returns details for the commit record."""
    if worker.plan.job.models[task.model].engine == "native":
        return _fit_native(worker, task, attempt)
    return _fit_stock(worker, task, attempt)


def _fit_native(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.copula_fit import fit_copula
    from shardsynth.models.gaussian_copula import GaussianCopula

    job, run = worker.plan.job, worker.run
    counts = worker.counts("train")
    found = fit_copula(worker.profile("train"), worker.coder(), counts, native_options(job, task.model))
    model = GaussianCopula.from_fit(found, worker.plan.schema)
    folder = run.model(task.model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        model.save(Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            shutil.copyfile(path, attempt.output(folder / path.name))
    return {"fitted_rows": counts.rows, "sampled": False}


def native_options(job: Job, name: str) -> dict[str, Any]:
    """Options of a native copula fit: the model's own, and the job's protections."""
    return {
        **job.models[name].options,
        "rare": {"min_count": job.rare.min_count, "as": job.rare.as_},
        "extremes": job.extremes,
    }


def _fit_stock(worker: Worker, task: Task, attempt: Attempt) -> dict[str, Any]:
    from shardsynth.models.sdv import fit_stock

    plan, run = worker.plan, worker.run
    chosen = plan.job.models[task.model]
    profile = worker.profile("train")
    metadata = worker.metadata()
    model = fit_stock(
        chosen.model,
        chosen.options,
        profile.sample,
        worker.columns_of(metadata),
        metadata,
        schema=plan.schema,
        seed=plan.job.seed,
        threads=task.threads,
    )
    pickle = attempt.output(run.stock_pickle(task.model))
    model.save(pickle)
    digest = sha256_of(pickle)
    attempt.checksum(run.stock_pickle(task.model), digest)
    card = {
        "format": 1,
        "engine": "sdv",
        "family": chosen.model,
        "pickle": f"../../private/models/{task.model}/synthesizer.pkl",
        "sha256": digest,
        "name": task.model,
        "seed": plan.job.seed,
        "chunk_rows": plan.chunk_rows,
    }
    write_json(attempt.output(run.model(task.model) / "model.json"), card)
    if model.loss is not None:
        import pyarrow.parquet as pq

        pq.write_table(model.loss, attempt.output(run.root / "metrics" / f"{task.model}.loss.parquet"))
    return {"fitted_rows": profile.sample.num_rows, "sampled": profile.sample.num_rows < profile.rows}


class NativeSource:
    """Rows of a native model."""

    def __init__(self, model: Any, seed: int, name: str, conditions: Any = None) -> None:
        self.model, self.seed, self.name, self.conditions = model, seed, name, conditions
        self.schema: pa.Schema = model.schema

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """See ``Source``."""
        for first in range(rows.start, rows.stop, BATCH_ROWS):
            yield self.model.draw(self.seed, first, min(BATCH_ROWS, rows.stop - first), conditions=self.conditions)

    def acceptance(self) -> dict[str, int] | None:
        """Proposals made and accepted for conditions since the last call."""
        return None


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


def model_card(folder: Path) -> dict[str, Any]:
    """A model folder's ``model.json``; ModelError where there is none."""
    try:
        card: dict[str, Any] = read_json(folder / "model.json")
    except (OSError, ValueError):
        raise ModelError(
            f"{folder}: no model here (no readable model.json); name a folder such as runs/mine/models/tvae"
        ) from None
    return card


def open_source(
    folder: Path, *, seed: int, name: str, chunk_rows: int, trust_pickle: bool = False, where: Any = None
) -> NativeSource | StockSource:
    """Open a model folder as a source of rows.

    Raises:
        ModelError: No model there, or a pickle that no run recorded.
        ConditionError: A condition that the model cannot meet.
    """
    card = model_card(folder)
    if card.get("engine") == "sdv":
        from shardsynth.models.sdv import StockModel

        pickle = (folder / card["pickle"]).resolve()
        recorded = None if trust_pickle else recorded_checksum(folder, card)
        return StockSource(StockModel.load(pickle, recorded, trust_pickle), seed, name, chunk_rows)
    from shardsynth.models.gaussian_copula import GaussianCopula

    model = GaussianCopula.load(folder)
    conditions = None
    if where:
        from shardsynth.sampling.conditions import parse_conditions

        conditions = model.prepare(parse_conditions(where))
    return NativeSource(model, seed, name, conditions)


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
        from shardsynth.models.sdv import StockModel

        recorded = None if trust_pickle else recorded_checksum(folder, card)
        return StockModel.load((folder / card["pickle"]).resolve(), recorded, trust_pickle).learned_distributions()
    from shardsynth.models.gaussian_copula import GaussianCopula

    return GaussianCopula.load(folder).learned_distributions
