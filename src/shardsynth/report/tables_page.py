"""The page of a run of several tables: how well subjects fit together, and the way to the page of each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.report.page import templates
from shardsynth.standalone.files import write_atomic


@dataclass(frozen=True)
class TableLink:
    """One table on the page.

    Attributes:
        name: Its name; its own page is ``<name>/index.html``.
        rows: Real rows.
        metrics: By model, ``metrics/<model>/<name>.json``.
        moved: Columns that never change within an owner.
        after: Columns that are never before the sequence index of their row.
        left_out: Rows without an owner: ``unnamed`` and ``unknown``.
    """

    name: str
    rows: int
    metrics: Mapping[str, Mapping[str, Any]]
    moved: Sequence[str]
    after: Sequence[str]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class TablesPage:
    """All data of the page.

    Attributes:
        job: Name of the job.
        drawing: The tables as a tree, as lines of text.
        subjects: Real subjects.
        models: ``metrics/<model>.json`` of each model.
        tables: The tables.
    """

    job: str
    drawing: Sequence[str]
    subjects: int
    models: Sequence[Mapping[str, Any]]
    tables: Sequence[TableLink]


def write_tables_page(folder: Path, page: TablesPage) -> Path:
    """Write ``index.html``; returns its path. The same data give the same text."""
    environment = templates()
    path = folder / "index.html"
    environment.filters["figure"] = _figure
    write_atomic(path, environment.get_template("tables.html.j2").render(page=page))
    return path


def _figure(value: Any) -> str:
    """A figure with three places; a dash where there is none."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else "–"
