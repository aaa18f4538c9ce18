"""From a job and the footers of its shards to stages of tasks.

The plan fixes what the outcome depends on: each input's path, size, mtime and rows, the options, the chunk size and
the thread counts. `run` on a laptop and `submit` on a cluster execute the same plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.cluster import GATHERING
from shardsynth.data.columns import schema_from_text, schema_to_text
from shardsynth.data.relations import Reference, TableTree
from shardsynth.data.shards import Dataset, Shard
from shardsynth.errors import JobError, MetadataError
from shardsynth.job import STAGES, Job, ModelEntry
from shardsynth.models.families import NATIVE
from shardsynth.planning.persons import check_person
from shardsynth.planning.quotas import check_quotas
from shardsynth.planning.tasks import (
    Block,
    ChosenTasks,
    PartTasks,
    Piece,
    StageTasks,
    Task,
    by_group,
    check_tasks,
    part_tasks,
    replica_group,
    split_range,
    tasks_from_json,
    tasks_to_json,
)
from shardsynth.standalone.files import sha256_of

#: The tasks stand in a module of their own; this one is the door to the whole plan.
__all__ = [
    "CHUNK_ROWS",
    "READ_BY",
    "by_group",
    "ChosenTasks",
    "PartTasks",
    "Piece",
    "Plan",
    "Sampling",
    "StageTasks",
    "Task",
]
__all__ += ["InputTable", "TablesPlan", "files_read", "make_plan", "metadata_digest", "pack_pieces", "part_tasks"]
__all__ += ["replica_group", "replicas", "single_files", "split_range"]

PLAN_VERSION = 2
#: Version 1 has an entry for every task.
_READABLE = (1, PLAN_VERSION)
CHUNK_ROWS = 50_000
#: Stages whose outputs are intermediates, and the stages that read them.
READ_BY = {
    "partition": ("gather",),
    "gather": ("gather_merge", "profile", "count", "fit", "merge"),
    "gather_merge": ("profile", "profile_merge", "count", "count_merge", "fit", "sample", "score", "merge", "report"),
    "profile": ("profile_merge",),
    "profile_merge": ("count", "count_merge", "fit", "sample", "score", "merge", "report"),
    "count": ("count_merge",),
    "count_merge": ("fit", "score", "merge", "report"),
    "score": ("merge", "report"),
}


def replicas(model: ModelEntry) -> int:
    """Number of candidates that are trained for a model, each with its own seed; the best by quality is kept."""
    return int(model.options.get("replicas", 1)) if model.engine == "native" else 1


@dataclass(frozen=True)
class Sampling:
    """What decides the rows of `shardsynth sample`, where a plan is of such a sample and not of a job.

    Attributes:
        asked: Model folder and its files, seed, rows, condition and the rest; see `commands.sample`.
        first_row: Number of the first row in the model's stream.
        trust_pickle: Load a stock pickle that this user did not sign.
    """

    asked: dict[str, Any]
    first_row: int
    trust_pickle: bool = False


@dataclass(frozen=True)
class InputTable:
    """One of several tables.

    Attributes:
        name: Its name.
        schema: Arrow schema of its shards and of its parts.
        first: Number of its first shard in the plan.
        last: Number of its last shard + 1.
    """

    name: str
    schema: pa.Schema
    first: int
    last: int


@dataclass(frozen=True)
class TablesPlan:
    """What the plan of a job of several tables has besides.

    Attributes:
        tables: The tables that are in files and are learned, in the job's order.
        tree: How they hang together.
        subjects: Number of subjects of the input.
        buckets: Number of files into which each table is gathered; all rows of a subject are in files of one number.
        part_subjects: Subjects of an output part.
        copied: Lists that are copied.
        references: Columns that name their rows.
    """

    tables: tuple[InputTable, ...]
    tree: TableTree
    subjects: int
    buckets: int
    part_subjects: int
    copied: tuple[InputTable, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of all tables that a sample has."""
        return [table.name for table in (*self.tables, *self.copied)]

    def table(self, name: str) -> InputTable:
        """One of the tables."""
        return next(table for table in self.tables if table.name == name)

    def table_of(self, shard: int) -> InputTable:
        """The table that a shard belongs to."""
        return next(table for table in self.tables if table.first <= shard < table.last)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        tables, copied = (
            [[t.name, schema_to_text(t.schema), t.first, t.last] for t in some] for some in (self.tables, self.copied)
        )
        numbers = {"subjects": self.subjects, "buckets": self.buckets, "part_subjects": self.part_subjects}
        lists = {"copied": copied, "references": [asdict(each) for each in self.references]} if copied else {}
        return {"tables": tables, "tree": self.tree.to_json(), **numbers, **lists}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TablesPlan:
        """Inverse of ``to_json``."""
        tables, copied = (
            tuple(InputTable(name, schema_from_text(text), a, b) for name, text, a, b in data.get(key, []))
            for key in ("tables", "copied")
        )
        references = tuple(Reference(**each) for each in data.get("references", []))
        tree, subjects = TableTree.from_json(data["tree"]), data["subjects"]
        return cls(tables, tree, subjects, data["buckets"], data["part_subjects"], copied, references)


@dataclass(frozen=True)
class Plan:
    """Everything that a task needs besides the data.

    Attributes:
        job: The job as parsed.
        shards: Input shards as they were when the job was planned.
        schema: Arrow schema of the input and of the output.
        rows: Synthetic rows per model; of several tables, subjects.
        chunk_rows: Rows of a stock model that share one seed.
        tasks: Tasks of every stage.
        image: Facts about the image that the tasks run in, or None; not part of the identity.
        metadata: SHA-256 of the job's metadata file, or None where the job names none.
        sampling: The rows of a fitted model that this plan makes; None for the plan of a job.
        notes: What the rows contradict in the metadata; not part of the identity.
        tables: What a job of several tables has besides; None for a job of one table.
    """

    job: Job
    shards: tuple[Shard, ...]
    schema: pa.Schema
    rows: int
    chunk_rows: int
    tasks: Mapping[str, Sequence[Task]]
    image: dict[str, Any] | None = None
    metadata: str | None = None
    sampling: Sampling | None = None
    notes: tuple[str, ...] = ()
    tables: TablesPlan | None = None

    @property
    def part_size(self) -> int:
        """Rows of an output part; of several tables, its subjects."""
        return self.job.sample.rows_per_shard if self.tables is None else self.tables.part_subjects

    @property
    def input_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def n_parts(self) -> int:
        """Number of output parts per model; an empty table is one empty part."""
        return max(1, -(-self.rows // self.part_size))

    def part_rows(self, index: int) -> range:
        """Global row numbers of one output part; of several tables, its subjects."""
        size = self.part_size
        start = 0 if self.sampling is None else self.sampling.first_row
        return range(start + index * size, start + min((index + 1) * size, self.rows))

    def all_tasks(self) -> Iterator[Task]:
        """Every task, stages in order."""
        for stage in STAGES:
            yield from self.tasks[stage]

    def model_tasks(self, stage: str, model: str) -> Sequence[Task]:
        """Tasks of one stage for one model, or for a group of candidates."""
        tasks = self.tasks[stage]
        if not isinstance(tasks, StageTasks):
            return [task for task in tasks if task.group == (stage, model)]
        return ChosenTasks([(tasks, numbers) for group, numbers in tasks.groups() if group == (stage, model)])

    def needs(self, group: tuple[str, str]) -> list[tuple[str, str]]:
        """Groups that must be committed before this one starts."""
        stage, model = group
        models = list(self.job.models)
        chooses_candidate = stage == "fit" and model in self.job.models and replicas(self.job.models[model]) > 1
        return {
            "partition": [],
            "gather": [("partition", "")],
            "gather_merge": [("gather", "")],
            "profile": [] if self.tables is None else [("gather_merge", "")],
            "profile_merge": [("profile", "")],
            "count": [("profile_merge", "")],
            "count_merge": [("count", "")],
            "fit": [("fit", replica_group(model))] if chooses_candidate else [("count_merge", "")],
            "sample": [("fit", model)],
            "score": [("sample", model)],
            "merge": [("score" if self.sampling is None else "sample", model)],
            "report": [("merge", name) for name in models],
        }[stage]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; ``identity`` is equal for two plans that give the same outcome."""
        outcome = self.job.to_dict()
        for key in ("cluster", "access"):
            outcome.pop(key)
        if not self.job.widen:
            outcome.pop("widen")  # a run that was planned before there was this key is still the same
        data: dict[str, Any] = {
            "version": PLAN_VERSION,
            "job": {
                **self.job.to_dict(),
                "metadata": _absolute(self.job.metadata),
                "pseudonymize": {name: _absolute(path) for name, path in self.job.pseudonymize.items()},
            },
            "shards": [shard.to_json() for shard in self.shards],
            "schema": schema_to_text(self.schema),
            "rows": self.rows,
            "chunk_rows": self.chunk_rows,
            "tasks": {
                stage: tasks_to_json(tasks) for stage, tasks in self.tasks.items() if tasks or stage not in GATHERING
            },
            **({"image": self.image} if self.image else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"metadata": self.metadata} if self.metadata else {}),
            **({"sampling": dataclasses.asdict(self.sampling)} if self.sampling else {}),
            **({"tables": self.tables.to_json()} if self.tables else {}),
        }
        parts = [outcome, data["shards"], data["rows"], data["chunk_rows"], self.metadata]
        parts += [data["tables"]] if self.tables else []
        if self.sampling is not None:
            asked = json.dumps([self.sampling.asked, self.sampling.first_row])
            return {"identity": hashlib.sha256(asked.encode("utf-8")).hexdigest(), **data}
        older: dict[str, Any] = {}
        older_outcome: dict[str, Any] = {}
        if self.job.person is not None:
            older_outcome = {**outcome, "evaluate": {**outcome["evaluate"], "group": self.job.person}}
            del older_outcome["person"]
            older = {"older_identity": _digest([older_outcome, *parts[1:]])}
        if "extremes" not in self.job.model_fields_set:  # before there were tails, this meant `extremes: clip`
            older["older_identities"] = [
                _digest([{**began, "extremes": "clip"}, *parts[1:]]) for began in (outcome, older_outcome) if began
            ]
        return {"identity": _digest(parts), **older, **data}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Inverse of ``to_json``; JobError for a plan of another version."""
        if data.get("version") not in _READABLE:
            raise JobError(
                f"plan.json is of version {data.get('version')}, wanted {PLAN_VERSION}: use the shardsynth that made it"
            )
        try:
            return cls._from_json(data)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, pa.ArrowException) as error:
            raise JobError(
                f"plan.json is damaged ({type(error).__name__}): restore it, or plan the job anew in another folder"
            ) from None

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> Plan:
        entries = {**{stage: [] for stage in GATHERING}, **data["tasks"]}
        tasks = {stage: tasks_from_json(stage, entries[stage]) for stage in entries}
        plan = cls(
            Job.planned(data["job"], "plan.json"),
            tuple(Shard.from_json(shard) for shard in data["shards"]),
            schema_from_text(data["schema"]),
            data["rows"],
            data["chunk_rows"],
            tasks,
            data.get("image"),
            data.get("metadata"),
            Sampling(**data["sampling"]) if data.get("sampling") is not None else None,
            tuple(data.get("notes", [])),
            TablesPlan.from_json(data["tables"]) if data.get("tables") is not None else None,
        )
        for stage in STAGES:
            bucketed = plan.tables is not None and stage in ("gather", "profile", "count")
            parts = plan.tables.buckets if plan.tables is not None and bucketed else plan.n_parts
            check_tasks(tasks[stage], set(plan.job.models), parts, [len(s.group_rows) for s in plan.shards])
        return plan


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()


def _absolute(path: str | None) -> str | None:
    """The absolute path: tasks do not run in the folder in which the job was planned."""
    return None if path is None else os.path.abspath(path)


def files_read(plan: Plan) -> Iterator[Path]:
    """What tasks read outside the run directory: the folders of the shards, the metadata file and the keys."""
    yield from sorted({Path(shard.path).parent for shard in plan.shards})
    if plan.sampling is not None:
        yield Path(plan.sampling.asked["model"])
    for path in single_files(plan):
        yield Path(path)


def single_files(plan: Plan) -> list[str]:
    """Absolute paths of the metadata file and of the pseudonyms' keys."""
    paths = [*([plan.job.metadata] if plan.job.metadata else []), *plan.job.pseudonymize.values()]
    return list(dict.fromkeys(os.path.abspath(path) for path in paths))


def make_plan(job: Job, dataset: Dataset, cpus: int | dict[str, int], metadata: str | None = None) -> Plan:
    """Plan a job over the shards.

    Args:
        job: The job.
        dataset: Its shards and schema.
        cpus: CPUs of this machine, for the thread counts of training where the job names none; or the threads of each
            fit, by model.
        metadata: Checksum of the job's metadata file, where it names one.

    Raises:
        JobError: The job and the shards do not fit together.
    """
    if dataset.rows == 0:
        raise JobError(f"the input has no rows: {len(dataset.shards)} shards, all empty")
    for option, name in job.evaluate.columns().items():
        if name not in dataset.schema.names:
            raise JobError(f"evaluate.{option}: no column is called {name!r}")
    check_person(job, dataset.schema)
    _check_survival(job, dataset.schema)
    if job.privacy is not None and job.privacy.delta >= 1 / dataset.rows:
        raise JobError(
            f"privacy.delta: {job.privacy.delta:g} would allow to publish one of the {dataset.rows:,} rows outright; "
            f"wanted less than {1 / dataset.rows:.1e}"
        )
    rows = job.sample.total_rows(dataset.rows)
    check_quotas(job, dataset.schema.names, rows)
    chunk_rows = job.sample.chunk_rows or min(CHUNK_ROWS, job.sample.rows_per_shard)
    plan = Plan(job, dataset.shards, dataset.schema, rows, chunk_rows, {})
    packs = pack_pieces(dataset.shards, job.cluster.rows_per_task)
    threads = fit_threads(job, cpus) if isinstance(cpus, int) else cpus
    tasks: dict[str, list[Block]] = {stage: [] for stage in STAGES}
    for stage in ("profile", "count"):
        tasks[stage] = [Task(stage, index, pieces=pieces) for index, pieces in enumerate(packs)]
        tasks[f"{stage}_merge"] = [Task(f"{stage}_merge", 0)]
    add_model_tasks(plan, tasks, threads)
    staged = {stage: StageTasks(tasks[stage]) for stage in STAGES}
    return Plan(job, dataset.shards, dataset.schema, rows, chunk_rows, staged, metadata=metadata)


def add_model_tasks(plan: Plan, tasks: dict[str, list[Block]], threads: Mapping[str, int]) -> None:
    """Add the tasks of all models: from their fits to the report.

    Args:
        plan: The plan, without these tasks.
        tasks: They are added to it, by stage.
        threads: Threads of each fit, by model.
    """
    job = plan.job
    parts = 0  # tasks of all models before, of `sample` and of `score`
    for number, model in enumerate(job.models):
        candidates = replicas(job.models[model])
        for replica in range(candidates if candidates > 1 else 0):
            tasks["fit"].append(Task("fit", len(tasks["fit"]), model, threads=threads[model], replica=replica))
        fit_task_threads = threads[model] if candidates == 1 else 1
        tasks["fit"].append(Task("fit", len(tasks["fit"]), model, threads=fit_task_threads))
        for stage in ("sample", "score"):
            tasks[stage].append(part_tasks(stage, model, parts, plan.n_parts, job.sample.tasks))
        parts += len(part_tasks("sample", model, parts, plan.n_parts, job.sample.tasks))
        tasks["merge"].append(Task("merge", number, model))
    tasks["report"] = [Task("report", 0)]


def _check_survival(job: Job, schema: pa.Schema) -> None:
    survival = job.evaluate.survival
    if survival is None:
        return
    kinds = {}
    for option, name in (("time", survival.time), ("event", survival.event)):
        field = schema.field(name).type
        kinds[option] = field.value_type if pa.types.is_dictionary(field) else field
    number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if not any(is_kind(kinds["time"]) for is_kind in number):
        raise JobError(f"evaluate.survival.time: {survival.time!r} is {kinds['time']}; wanted a number, such as years")
    counted = (*number, pa.types.is_boolean)
    if survival.value is None and not any(is_kind(kinds["event"]) for is_kind in counted):
        raise JobError(
            f"evaluate.survival.event: {survival.event!r} is {kinds['event']}; say which value is the event, as in "
            "`value: DECEASED`"
        )


def fit_threads(job: Job, cpus: int) -> dict[str, int]:
    """Threads of each fit, by model: the job's number, else the CPUs shared among the trained models."""
    threads_of_job = job.cluster.stages["fit"].cpus if "fit" in job.cluster.stages else None
    trained = [name for name, model in job.models.items() if NATIVE[model.model].trains]
    share = max(1, cpus // max(1, sum(replicas(job.models[name]) for name in trained)))
    return {name: threads_of_job or (share if name in trained else 1) for name in job.models}


def pack_pieces(shards: tuple[Shard, ...], rows_per_task: int) -> list[tuple[Piece, ...]]:
    """Pack neighbouring row groups into tasks of up to ``rows_per_task`` rows; empty groups are left out."""
    packs: list[list[Piece]] = [[]]
    pack_rows, row = 0, 0
    for number, shard in enumerate(shards):
        for group, rows in enumerate(shard.group_rows):
            if rows == 0:
                continue
            if pack_rows and pack_rows + rows > rows_per_task:
                packs.append([])
                pack_rows = 0
            last = packs[-1][-1] if packs[-1] else None
            if last and last.shard == number and last.last_group == group:
                packs[-1][-1] = Piece(number, last.first_group, group + 1, last.first_row, last.rows + rows)
            else:
                packs[-1].append(Piece(number, group, group + 1, row, rows))
            pack_rows += rows
            row += rows
    return [tuple(pack) for pack in packs if pack]


def metadata_digest(job: Job) -> str | None:
    """SHA-256 of the job's metadata file, for the plan; None where the job names none.

    Raises:
        MetadataError: The file cannot be read.
    """
    if job.metadata is None:
        return None
    try:
        return sha256_of(Path(job.metadata))
    except OSError as error:
        raise MetadataError(f"{job.metadata}: the metadata cannot be read: {error.strerror}") from None
