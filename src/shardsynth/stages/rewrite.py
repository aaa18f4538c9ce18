"""Write the report of a run again."""

from __future__ import annotations

from pathlib import Path

from shardsynth.errors import RunError
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.integrity import damage_is_named
from shardsynth.stages.report import write_pages
from shardsynth.stages.tables.report import write_pages as write_tables_pages
from shardsynth.standalone.access import readable_by_group
from shardsynth.standalone.files import no_space_is_clear


def write_run_report(root: Path) -> Path:
    """Write the report page of a run again; returns the path of the page.

    Raises:
        RunError: A model is not merged yet, or the files that derive from real rows were deleted.
    """
    artifacts = Artifacts(root)
    if artifacts.plan.sampling is not None:
        raise RunError(f"{root}: holds rows of a model, and no figures; a report needs the run that fitted the model")
    if not artifacts.run.private.exists():
        raise RunError(f"{root}: what derives from real rows was deleted, and the page is drawn from it")
    not_merged = [
        task.model for task in artifacts.plan.tasks["merge"] if artifacts.run.committed("merge", task.index) is None
    ]
    if not_merged:
        raise RunError(f"{root}: the run is not done (no figures yet of {', '.join(not_merged)}); resume it first")
    folder = artifacts.run.root / "report"
    group = artifacts.plan.job.access == "group"
    with (
        readable_by_group(group),
        no_space_is_clear(folder),
        artifacts.run.attempt("report", 0) as attempt,
        damage_is_named(artifacts.plan, artifacts.run, artifacts.find("report", 0)),
    ):
        pages = write_pages if artifacts.plan.tables is None else write_tables_pages
        pages(artifacts, lambda name: attempt.output(folder / name))
        attempt.commit(replace=True)
    return folder / "index.html"
