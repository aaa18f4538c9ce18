"""The report of several tables: a page that says how they fit together, and a page a table."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardsynth.planning.plan import Task
from shardsynth.report.page import write_report
from shardsynth.report.tables_page import TableLink, TablesPage, write_tables_page
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.rundir import Attempt, Progress
from shardsynth.stages.report import report_data
from shardsynth.stages.tables.score import sampled_tables
from shardsynth.stages.tables.views import Tables
from shardsynth.standalone.files import read_json


def report(artifacts: Artifacts, task: Task, attempt: Attempt, progress: Progress) -> dict[str, Any]:
    """Write the pages."""
    folder = artifacts.run.root / "report"
    write_pages(artifacts, lambda name: attempt.output(folder / name))
    return attempt.commit()


def write_pages(artifacts: Artifacts, target: Callable[[str], Path]) -> None:
    """Write the pages and their tables of figures to the paths that ``target`` gives for their names."""
    plan, run = artifacts.plan, artifacts.run
    for model in plan.job.models:
        tables = sampled_tables(artifacts, model)
    with tempfile.TemporaryDirectory(dir=run.private) as temporary:
        for name, view in tables.outer.items():
            data = report_data(view)
            rows = {**data.rows, "input": view.real_rows}
            write_report(Path(temporary) / name, _of_table(data, rows, name))
        write_tables_page(Path(temporary), _page(artifacts, tables))
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                destination = target(str(path.relative_to(temporary)))
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, destination)


def _of_table(data: Any, rows: dict[str, int], name: str) -> Any:
    from dataclasses import replace

    return replace(data, rows=rows, job=f"{data.job}, table {name}")


def _page(artifacts: Artifacts, tables: Tables) -> TablesPage:
    plan, run = artifacts.plan, artifacts.run
    assert plan.tables is not None
    layouts = tables.layouts
    return TablesPage(
        job=run.root.resolve().name,
        drawing=tuple(tables.tree.drawing({name: view.real_rows for name, view in tables.outer.items()})),
        subjects=plan.tables.subjects,
        models=tuple(read_json(run.metrics(model)) for model in plan.job.models),
        tables=tuple(
            TableLink(
                name,
                view.real_rows,
                {model: read_json(view.run.metrics(model)) for model in plan.job.models},
                layouts[name].moved,
                layouts[name].after,
                tables.left_out[name],
            )
            for name, view in tables.outer.items()
        ),
    )
