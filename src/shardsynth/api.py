"""The Python API: a run, its samples, its figures, its models.

Example:
    import shardsynth as ss

    run = ss.run_job(ss.Job.load("jobs/mine.yaml"))
    run.samples("tvae").to_table()
    run.quality("tvae").score
    ss.load_model("runs/mine/models/gaussian_copula").sample(1000)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.stored_types import stored_batch, stored_schema
from shardsynth.errors import ConditionError, InputError, JobError, ModelError, RunError, did_you_mean
from shardsynth.job import Job
from shardsynth.models.columns.known import in_types_of
from shardsynth.planning.plan import CHUNK_ROWS, Plan
from shardsynth.run.cluster import keep, plan_kept, with_overrides
from shardsynth.run.constraint_card import read_card
from shardsynth.run.documents import Manifest, Metrics, read_document
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import missing_tasks
from shardsynth.sources.known import complete_table
from shardsynth.sources.sources import model_card, open_distributions, open_native, open_source
from shardsynth.standalone.files import (
    human_bytes,
    read_json,
)
from shardsynth.standalone.locks import sole_writer
from shardsynth.standalone.regular import refuse_special

if TYPE_CHECKING:
    import pandas as pd

    from shardsynth.executors.slurm.jobs import Jobs
    from shardsynth.executors.slurm.pickled import Element


@dataclass(frozen=True)
class Quality:
    """Fidelity figures of one model, by SDMetrics' definitions.

    Attributes:
        score: Overall score at SDMetrics' default thresholds.
        column_shapes: Mean over the columns.
        column_pair_trends: Mean over the pairs that contribute.
        details: Every figure, as in ``metrics/<model>.json``.
    """

    score: float
    column_shapes: float
    column_pair_trends: float
    details: dict[str, Any]


@dataclass(frozen=True, repr=False)
class Samples:
    """The synthetic parts of one model."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def paths(self) -> list[Path]:
        """Parts in order."""
        return [self.folder / part["path"] for part in self.manifest["parts"]]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return int(self.manifest["rows"])

    def to_table(self) -> pa.Table:
        """All rows in memory."""
        return pa.concat_tables([pq.read_table(path, partitioning=None) for path in self.paths])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, batch by batch, in flat memory."""
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches()

    def __repr__(self) -> str:
        return f"Samples({self.folder}: {self.rows:,} rows in {len(self.manifest['parts']):,} parts)"


class Run:
    """A run directory: what it holds, what is done, what is left."""

    def __init__(self, folder: str | Path) -> None:
        run = RunDir.at(Path(folder))
        self.plan = Plan.from_json(run.read_plan())
        self.dir = RunDir(run.root, parts_beside=self.plan.sampling is not None)

    def __repr__(self) -> str:
        return f"Run({self.dir.root}: {', '.join(self.plan.job.models)})"

    @property
    def job(self) -> Job:
        """The job as it was planned."""
        return self.plan.job

    def change(self, overrides: list[str], *, image: Path | None = None) -> list[str]:
        """Change keys of the run's section `cluster`, such as ``cluster.stages.sample.mem_gb=16``; they are kept.

        Args:
            overrides: Texts ``cluster.KEY=VALUE``.
            image: Another Apptainer image for the tasks.

        Returns:
            A line for each key that changed.

        Raises:
            JobError: A key is not of `cluster` or cannot be changed, or its value is wrong.
        """
        if not overrides and image is None:
            return []
        self.dir.refuse_of_another()
        self.plan = with_overrides(self.plan, overrides, image)
        return keep(self.dir, self.plan)

    def resume(self, *, console: Any = None, debug: bool = False, verify: bool = False) -> Run:
        """Run what is missing, on this machine."""
        from rich.console import Console

        from shardsynth.executors.local.execute import execute

        self.dir.refuse_of_another()
        console = console or Console(stderr=True, quiet=True)
        execute(self.dir, self.plan, console=console, debug=debug, verify=verify)
        return self

    def trust(self) -> list[str]:
        """Sign all of the run that runs code, its pickles and constraint classes; lines that name them.

        Do it only for a run whose source you know: what this user signed is opened without a question.
        """
        from shardsynth.run.trust import trust_run

        return trust_run(self.dir.private, [constraint.class_name for constraint in self.plan.job.constraints])

    @property
    def on_slurm(self) -> bool:
        """Whether the run was submitted to Slurm."""
        from shardsynth.executors.slurm.ledger import Ledger

        return Ledger(self.dir).exists

    @property
    def jobs(self) -> Jobs:
        """The array elements of a submitted run, as jobs of submitit: ``run.jobs["sample", "tvae"][0].result()``."""
        from shardsynth.executors.slurm.jobs import Jobs
        from shardsynth.executors.slurm.ledger import Ledger

        return Jobs(Ledger(RunDir(self.dir.root.absolute())))

    def wait(self, seconds: float | None = None) -> Run:
        """Wait for a submitted run; TaskError, with the reasons, when it ends with tasks left.

        While Slurm's controller is away it waits on, and says so on standard error.
        """
        import sys

        from shardsynth.errors import TaskError
        from shardsynth.executors.watch import failure_lines, say_when_away, wait

        show = say_when_away(lambda line: print(line, file=sys.stderr))
        status = wait(self.dir, self.plan, seconds=seconds, pause=5.0, show=show)
        if not status.done:
            lines = failure_lines(self.plan, status) or ["nothing is queued any more"]
            raise TaskError("\n".join([*lines, f"`shardsynth resume {self.dir.root}` submits what is missing"]))
        return self

    def cancel(self) -> None:
        """Cancel what is queued or running of a submitted run; what is committed stays."""
        from shardsynth.executors.slurm.queue import cancel

        cancel(self.dir)

    def samples(self, model: str, table: str | None = None) -> Samples:
        """A model's synthetic parts; RunError where they are not merged yet.

        Args:
            model: Its name.
            table: Of a run of several tables: which one.
        """
        folder = self._table_folder(self.dir.samples(self._known(model)), table)
        return Samples(folder, self._read(folder / "_manifest.json", Manifest, "merged"))

    def metrics(self, model: str, table: str | None = None) -> dict[str, Any]:
        """All figures of a model; of a run of several tables those of subjects or, with ``table``, of one table."""
        path = self.dir.metrics(self._known(model))
        if table is not None:
            path = self._table_folder(path.with_suffix(""), table).with_suffix(".json")
        return self._read(path, Metrics, "scored")

    def _table_folder(self, folder: Path, table: str | None) -> Path:
        """The folder of a table in that of a model."""
        names = [] if self.plan.tables is None else self.plan.tables.names
        if table is None and not names:
            return folder
        if table not in names:
            has = f"its tables: {', '.join(names)}" if names else "it is a run of one table: name none"
            raise RunError(f"{self.dir.root}: no table is called {table!r}; {has}")
        return folder / str(table)

    def quality(self, model: str) -> Quality:
        """Fidelity figures of a model."""
        figures = self.metrics(model)["quality"]
        return Quality(figures["score"], figures["column_shapes"], figures["column_pair_trends"], figures)

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.dir.root / "report" / "index.html"

    def _known(self, model: str) -> str:
        if model not in self.plan.job.models:
            raise RunError(f"{self.dir.root}: no model is called {model!r}; models: {', '.join(self.plan.job.models)}")
        return model

    def _read(self, path: Path, kind: type[Manifest | Metrics], what: str) -> dict[str, Any]:
        try:
            return read_document(path, kind, f"`shardsynth resume {self.dir.root} --verify` makes it again")
        except FileNotFoundError:
            raise RunError(
                f"{path}: not {what} yet; `shardsynth resume {self.dir.root}` does what is missing"
            ) from None

    def status(self, *, verify: bool = False) -> dict[str, dict[str, Any]]:
        """Per stage: tasks, done, rows, seconds; of a submitted run also running, pending and failed tasks."""
        from shardsynth.executors.status import read_status

        status = read_status(self.dir, self.plan, exact=True, verify=verify)
        names = ["tasks", "done", "rows", "seconds", *(["running", "pending", "failed"] if status.submitted else [])]
        return {stage: {name: getattr(counts, name) for name in names} for stage, counts in status.stages.items()}

    def status_lines(self, *, verify: bool = False) -> list[str]:
        """The status as text, as `shardsynth status` prints it."""
        from shardsynth.executors.watch import status_lines

        return status_lines(self.dir, self.plan, self._whole_status(verify))

    def status_record(self, *, verify: bool = False) -> dict[str, Any]:
        """The whole status as plain data, as `shardsynth status --json` prints it."""
        from shardsynth.executors.status_json import status_record

        return status_record(self.dir, self.plan, self._whole_status(verify))

    def _whole_status(self, verify: bool) -> Any:
        from shardsynth.executors.status import MOST_OPENED, read_status

        # A submitted run can have 10^5 tasks: their records are opened only to verify them.
        many = self.on_slurm or sum(len(tasks) for tasks in self.plan.tasks.values()) > MOST_OPENED
        return read_status(self.dir, self.plan, exact=verify or not many, verify=verify)

    def log_lines(self, stage: str | None, index: int | None) -> Iterator[str]:
        """A task's log, or the list of logs."""
        self.dir.refuse_of_another()
        if stage is not None and stage not in self.plan.tasks:
            stages = [name for name, tasks in self.plan.tasks.items() if len(tasks)]
            raise JobError(f"no stage is called {stage!r}{did_you_mean(stage, stages)}; stages: {', '.join(stages)}")
        folder = self.dir.private / "logs"
        if stage is None or index is None:
            for path in sorted(folder.rglob("*.log")):
                if stage is None or path.relative_to(folder).parts[0] == stage:
                    yield f"{path.relative_to(folder).parts[0]} {path.stem}  {human_bytes(path.stat().st_size)}  {path}"
            return
        path = self.dir.log(stage, index)
        if not path.exists():
            raise RunError(f"{path}: no such log; `shardsynth logs {self.dir.root}` lists them")
        refuse_special(path)
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from (line.rstrip("\n") for line in lines)

    def summary_lines(self) -> list[str]:
        """Scores per model, and where the report lies; of `shardsynth sample`, the rows."""
        if self.plan.sampling is not None:
            manifest = self._read(self.dir.root.parent / "_manifest.json", Manifest, "made")
            return [f"{manifest['rows']:,} rows in {len(manifest['parts'])} parts in {self.dir.root.parent}"]
        lines = []
        for model in self.plan.job.models:
            figures = self.metrics(model)
            quality, reference = figures["quality"], figures["quality"].get("holdout") or {}
            real = f" (real holdout {reference['score']:.3f})" if reference.get("score") is not None else ""
            score = "not defined" if quality["score"] is None else f"{quality['score']:.3f}"
            if figures.get("c2st"):
                score += f", subjects told from real ones: AUC {figures['c2st']['auc']:.3f}"
            lines.append(f"{model:<20} quality {score}{real}  {self.dir.samples(model)}")
        return [*lines, f"report: {self.report}"]

    def clean(self, *, private: bool = False) -> list[str]:
        """Delete leftovers of dead attempts and merged intermediates; ``private``: all that derives from real rows."""
        from shardsynth.run.tidy import clean

        return clean(self.plan, self.dir, private=private)

    def pack(self, output: Path | None = None) -> Path:
        """Archive of what may leave the house; with differential privacy, of what it covers."""
        from shardsynth.run.pack import pack

        return pack(self.plan, self.dir, output)


def plan_job(job: Job) -> Run:
    """Look at the shards, plan the job and write the run directory.

    An equal plan that is there is kept, with the job's section `cluster`.
    """
    from shardsynth.planning.preflight import checked_plan

    run = RunDir(Path(job.output))
    plan = checked_plan(job)
    kept = plan_kept(run, plan)
    run.write_plan(job.to_yaml(), plan.to_json())
    keep(run, kept)
    return Run(job.output)


def run_job(job: Job, *, console: Any = None, debug: bool = False) -> Run:
    """Plan a job and run it to its end on this machine; what is committed already is kept."""
    from shardsynth.executors.slurm.login_node import FOR_SLURM

    if job.cluster.executor == "slurm":
        raise JobError(FOR_SLURM)
    return plan_job(job).resume(console=console, debug=debug)


def load_model(folder: str | Path, *, seed: int | None = None, trust_pickle: bool = False) -> Model:
    """Open a model folder for sampling in this process."""
    return Model(Path(folder), seed, trust_pickle)


class Model:
    """A fitted model, native or stock."""

    def __init__(self, folder: Path, seed: int | None, trust_pickle: bool) -> None:
        self.folder, self.trust_pickle = folder, trust_pickle
        self.card = model_card(folder)
        self.seed = int(self.card.get("seed", 0) if seed is None else seed)
        self._source: Any = None

    def __repr__(self) -> str:
        engine = self.card.get("engine", "native")
        return f"Model({self.folder}: {self.card.get('family', 'gaussian_copula')}, engine {engine})"

    def sample(self, rows: int, *, first_row: int = 0, conditions: Any = None) -> pa.Table:
        """Rows by their global number, so that the same call gives the same rows.

        Args:
            rows: Rows to make.
            first_row: Global number of the first one.
            conditions: For native models: text as of ``--where``, or ``{"Gender": "F", "AGE": {">=": 60}}``.

        Raises:
            ConditionError: The model cannot meet the conditions.
            InputError: ``rows`` or ``first_row`` is negative.
        """
        for name, number in (("rows", rows), ("first_row", first_row)):
            if number < 0:
                raise InputError(f"{name} is {number:,}: wanted 0 or more")
        source = self._source if conditions is None else None
        if source is None:
            source = open_source(
                self.folder,
                seed=self.seed,
                name=str(self.card.get("name", self.folder.name)),
                chunk_rows=int(self.card.get("chunk_rows", CHUNK_ROWS)),
                trust_pickle=self.trust_pickle,
                where=conditions,
            )
        if conditions is None:
            self._source = source
        schema = stored_schema(source.schema)
        batches = source.batches(range(first_row, first_row + rows))
        return pa.Table.from_batches((stored_batch(batch, schema) for batch in batches), schema)

    def complete(self, rows: pa.Table | pd.DataFrame, *, first_row: int | None = None) -> pa.Table:
        """Rows with what they lack drawn given what they have (gaussian_copula; autoregressive of ``order: any``).

        Args:
            rows: Some or all of the model's columns, a DataFrame or a Table; types are cast where no value changes.
            first_row: Global number of the first row: parts of a table can be completed on their own. By default other
                known rows have other completions and other ids, which the model's ledger keeps apart; the same known
                rows again have the same.

        Raises:
            ConditionError: The model cannot complete rows, or does not know a category of theirs.
            InputError: A column is not the model's, or not of its type; or known values break a constraint.
        """
        if self.card.get("engine") != "native":
            raise ConditionError(f"{self.folder}: a stock model cannot complete rows; use a native one")
        model, under = open_native(self.folder), read_card(self.folder, trust=self.trust_pickle)
        known = in_types_of(model.schema, rows)
        return complete_table(model, under, self.folder, known, self.seed, first_row)

    @property
    def learned_distributions(self) -> dict[str, Any]:
        """Per column, the marginal's name and its parameters, in the form of SDV's ``get_learned_distributions``."""
        return open_distributions(self.folder, trust_pickle=self.trust_pickle)


def describe_model(folder: Path) -> Iterator[str]:
    """A model as text: family, engine, and the learned distribution of each column."""
    model = load_model(folder)
    card = model.card
    yield f"{folder}: {card.get('family', 'gaussian_copula')}, engine {card.get('engine', 'native')}"
    for name, learned in model.learned_distributions.items():
        parameters = learned.get("learned_parameters") or {}
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in parameters.items())
        yield f"  {name}: {learned.get('distribution', '')}" + (f" ({shown})" if shown else "")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{len(value)} values" if isinstance(value, (list, dict)) else str(value)


def export_model(folder: Path, output: Path) -> Iterator[str]:
    """Write a native model as a stock SDV pickle; yields what the stock form loses."""
    from shardsynth.models.families import OF_TABLES, load_native
    from shardsynth.models.sdv.options import CLASSES

    card = model_card(folder)
    if card.get("engine") == "sdv":
        raise ModelError(f"{folder}: is a stock model already; its pickle lies under the run's private/models")
    family = str(card.get("family"))
    if family == OF_TABLES:
        raise ModelError(
            f"{folder}: a model of several tables cannot be exported: SDV's HMA holds no order of rows, its PAR only "
            "one table"
        )
    if family not in CLASSES:
        raise ModelError(f"{folder}: SDV has no {family} that it could become")
    under = read_card(folder)
    if under is not None and family != "gaussian_copula":
        raise ModelError(
            f"{folder}: keeps constraints, which the networks of a stock {CLASSES[family]} would have to be trained "
            "for; export a gaussian_copula, or fit a model in a job without `constraints:`, and export that"
        )
    model: Any = load_native(folder, family)
    with sole_writer(output, "export"):
        if under is not None:
            from shardsynth.models.sdv.export_constrained import ROWS
            from shardsynth.models.sdv.export_constrained import export as export_constrained

            lost = export_constrained(model, under, load_model(folder).sample(ROWS), output)
        elif family == "gaussian_copula":
            from shardsynth.models.sdv.export_copula import export, lost_by_export

            lost = [
                f"column {column!r}: KS distance {distance:.3f} to the native marginal"
                for column, distance in export(model, output).items()
                if distance > 0.005
            ] + lost_by_export(model)
        else:
            from shardsynth.models.sdv.export_deep import export as export_deep

            lost = export_deep(model, output)
    yield f"wrote {output}: a stock {CLASSES[family]}"
    yield from (f"  {line}" for line in lost)


def import_stock_model(source: Path, output: Path, *, trust_pickle: bool = False) -> Iterator[str]:
    """Turn the pickle of a fitted stock synthesizer into a native model folder."""
    from shardsynth.models.sdv.import_model import import_stock

    with sole_writer(output, "import-model"):
        if output.exists() and any(output.iterdir()):
            raise ModelError(f"{output}: the folder is not empty; choose another")
        model = import_stock(source, trust=trust_pickle)
        output.mkdir(parents=True, exist_ok=True)
        model.save(output)
    family = read_json(output / "model.json")["family"]
    yield f"wrote {output}: a native {family}; `shardsynth sample {output} --rows 1e6 -o out` samples it"


def submit(job: Job) -> Run:
    """Submit a job to Slurm, or what is missing of it; returns at once."""
    from shardsynth.executors.slurm.submit import submit_job

    return Run(submit_job(job).root)


def elements(run: Run, stage: str, *, pack: int | str | None = None) -> list[Element]:
    """The missing tasks of a stage, packed into elements for ``run_element`` and an executor of submitit.

    Args:
        run: The run, as ``plan_job`` made it.
        stage: The stage. What it needs must be committed before its elements start.
        pack: Tasks of one element, or ``auto`` for about twenty minutes; by default what the job says. One array of at
            most 1,000 elements is made.

    Raises:
        JobError: There is no such stage, or ``pack`` makes too many elements.
    """
    from shardsynth.executors.slurm.packing import pack_elements
    from shardsynth.executors.slurm.pickled import Element
    from shardsynth.executors.slurm.ranges import format_ranges

    if stage not in run.plan.tasks:
        raise JobError(f"no stage is called {stage!r}; stages: {', '.join(run.plan.tasks)}")
    tasks = missing_tasks(run.plan, run.dir).of(stage)
    packed = pack_elements(run.plan, tasks, run.job.cluster.pack if pack is None else pack, 1000)
    root = str(run.dir.root.absolute())
    return [Element(root, stage, format_ranges(indices)) for indices in packed]
