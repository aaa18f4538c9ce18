"""Gather the data of a run's report page from its committed files, and write the page."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth._version import __version__
from shardsynth.job import STAGES, Job
from shardsynth.planning.plan import Task
from shardsynth.report.figures import column_figures
from shardsynth.report.mosaics import mosaics
from shardsynth.report.page import MOSAIC_SIZE, ModelReport, ReportData, write_report
from shardsynth.report.shown import shown_counts
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.documents import Metrics, read_document
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.persons import row_people
from shardsynth.stages.row_figures import fewest_rows_shown
from shardsynth.standalone.files import read_json
from shardsynth.summaries.counts import Counts


def write_pages(artifacts: Artifacts, target: Callable[[str], Path]) -> None:
    """Write the page and its table of figures to the paths that ``target`` gives for their names."""
    with tempfile.TemporaryDirectory(dir=artifacts.run.private) as temporary:
        write_report(Path(temporary), report_data(artifacts))
        for path in sorted(Path(temporary).iterdir()):
            destination = target(path.name)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def report_data(artifacts: Artifacts) -> ReportData:
    """The data of the page."""
    plan, run, coder = artifacts.plan, artifacts.run, artifacts.coder()
    job = plan.job
    synthetic = {name: Counts.load(run.private / "summary" / f"synthetic.{name}.all", coder) for name in job.models}
    train, holdout = artifacts.counts("train"), artifacts.counts("holdout")
    least = fewest_rows_shown(job)
    shown, shown_holdout = shown_counts(train, least), shown_counts(holdout, least)
    people, counted = row_people(artifacts), "rows" if train.persons is None else "persons"
    models = []
    for name in job.models:
        metrics = read_document(run.metrics(name), Metrics)
        numbers = metrics.get("number_pairs") or ()
        tiles = mosaics(coder, train, synthetic[name], metrics["quality"], least, MOSAIC_SIZE, numbers, people)
        models.append(ModelReport(name, metrics, _losses(run.losses(name)), tiles))
    seconds = {}
    for stage in STAGES:
        records = [run.last_record(stage, task.index) for task in plan.tasks[stage]]
        seconds[stage] = sum(record["seconds"] for record in records if record)
    return ReportData(
        job=run.root.resolve().name,
        seed=job.seed,
        created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.plan_file.stat().st_mtime)),
        rows={"input": plan.input_rows, "training": train.rows, "holdout": holdout.rows, "synthetic": plan.rows},
        stages={stage: value for stage, value in seconds.items() if value},
        models=tuple(models),
        columns=column_figures(
            coder,
            shown,
            synthetic,
            min_count=least,
            holdout=shown_holdout if holdout.rows else None,
            counted=counted,
        ),
        versions={
            "shardsynth": __version__,
            "python": platform.python_version(),
            "pyarrow": pa.__version__,
            **_versions(),
        },
        provenance={
            "Shards": f"{len(plan.shards):,}",
            "Columns": f"{len(plan.schema):,}",
            "Chunk rows": f"{plan.chunk_rows:,}",
            **_persons(job),
            **_conditions(job),
            **_relations(artifacts),
            **_identity(artifacts),
        },
        notes=_guarantee(artifacts),
        drift=read_json(run.private / "summary" / "drift.json"),
        min_count=least,
        counted=counted,
    )


def _persons(job: Job) -> dict[str, str]:
    """A line that says what a person is, and who is protected by it."""
    if job.person is not None:
        return {"Persons": f"{job.person}: rare values, ends, holdout and figures count persons"}
    return {"Persons": f"{job.evaluate.group}: the holdout only; all else counts rows"} if job.evaluate.group else {}


def _conditions(job: Job) -> dict[str, str]:
    """A line that says that rows were sampled under conditions: then they differ from the real rows on purpose."""
    if not job.sample.conditions and job.sample.balance is None:
        return {}
    return {"Conditions": "balanced classes" if job.sample.balance is not None else f"{len(job.sample.conditions)}"}


#: Relations and orders that the page lists, at most.
_MOST_RELATIONS = 30


def _relations(artifacts: Artifacts) -> dict[str, str]:
    """Lines on what holds between columns in every real row: orders (constraints), computed columns."""
    job = artifacts.plan.job
    orders = []
    for constraint in job.constraints:
        names = [v for k, v in constraint.parameters.items() if k.endswith("column_name")]
        if constraint.class_name in ("Inequality", "Range"):
            strict = constraint.parameters.get("strict_boundaries", constraint.class_name == "Range")
            orders.append((" < " if strict else " <= ").join(map(str, names)))
    computed = []
    if job.privacy is None:
        table = artifacts.fit_table()
        violations = zip(table.relations, table.counts.violations)
        computed = [relation.describe() for relation, broken in violations if not broken]
    lines = {"Orders that every row keeps": orders, "Columns computed from others": computed}
    return {label: _listed(entries) for label, entries in lines.items() if entries}


def _listed(entries: list[str]) -> str:
    more = f"; and {len(entries) - _MOST_RELATIONS} more" if len(entries) > _MOST_RELATIONS else ""
    return "; ".join(entries[:_MOST_RELATIONS]) + more


def _identity(artifacts: Artifacts) -> dict[str, str]:
    """What the outcome depends on: checksums of the plan and of the rows, the revision of the code, the image."""
    entries = {"Plan": artifacts.run.read_plan()["identity"][:16]}
    record = artifacts.run.last_record("profile_merge", 0) or {"outputs": []}
    sums = {Path(output["path"]).name: output["sha256"] for output in record["outputs"]}
    for side in ("train", "holdout"):
        # A profile has the same bytes for the same rows, however they are cut into shards.
        if f"profile.{side}" in sums:
            entries[f"Checksum of the {'training' if side == 'train' else side} rows' profile"] = sums[
                f"profile.{side}"
            ][:16]
    revision = _revision()
    if revision:
        entries["Revision"] = revision
    image = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    if image:
        entries["Image"] = Path(image).name
    return entries


def _revision() -> str:
    """The git commit of the checkout that this package runs from; empty for an installed package."""
    package = Path(__file__).resolve().parents[1]
    if not any((folder / ".git").exists() for folder in package.parents[:2]):
        return ""
    try:
        git = subprocess.run(
            ["git", "-C", str(package), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return git.stdout.strip() if git.returncode == 0 else ""


def _guarantee(artifacts: Artifacts) -> tuple[str, ...]:
    """The guarantee of a run under dp, and its assumptions."""
    if artifacts.plan.job.privacy is None:
        return ()
    (name,) = artifacts.plan.job.models
    spent = read_json(artifacts.run.metrics(name))["guarantee"]
    return (
        "INTERNAL, NOT COVERED: this page and metrics/ compare with real rows exactly. Model and samples are covered.",
        f"Differential privacy: epsilon {spent['epsilon']:.3g}, delta {spent['delta']:g}; {spent['mechanism']}; "
        f"neighbours: {spent['neighbours']}; {spent['accountant']}.",
        *spent["assumptions"],
    )


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("sdv", "sdmetrics", "ctgan", "torch", "numpy", "pandas"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


#: Columns of a loss history that are not losses.
_NO_LOSSES = ("epoch", "batch", "step", "quality", "gap", "membership")


def _losses(path: Path) -> dict[str, list[float]]:
    if not path.exists():
        return {}
    table = pq.read_table(path)
    return {
        column: [float(value) for value in table[column].to_pylist() if value is not None]
        for column in table.column_names
        if column.lower() not in _NO_LOSSES and pa.types.is_floating(table[column].type)
    }


def report(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write the report page and its table of figures."""
    folder = artifacts.run.root / "report"
    write_pages(artifacts, lambda name: attempt.output(folder / name))
    return attempt.commit()
