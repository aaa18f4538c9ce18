"""One page for the models of several runs, from what may leave the house: each run's ``metrics/``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardsynth._version import __version__
from shardsynth.errors import RunError
from shardsynth.standalone.files import read_json


def write_comparison(roots: Sequence[Path], folder: Path) -> Path:
    """Write ``index.html`` and ``metrics.parquet`` into a folder; returns the page.

    Args:
        roots: Run directories, or what `pack` left of them; at least two, on the same table if the scores are to mean
            the same.
        folder: Where to; made when absent.

    Raises:
        RunError: Fewer than two runs, or one without figures.
    """
    from shardsynth.report.figures import ColumnFigure
    from shardsynth.report.page import ModelReport, ReportData, write_report

    if len(roots) < 2:
        raise RunError(f"--compare wants at least two run directories, found {len(roots)}")
    runs = {label: _metrics(root) for label, root in zip(_labels(roots), roots)}
    models = [ModelReport(f"{run}/{name}", metrics) for run, found in runs.items() for name, metrics in found.items()]
    names = [model.name for model in models]
    columns: dict[str, str] = {}
    for model in models:
        for name, score in ((model.metrics.get("quality") or {}).get("columns") or {}).items():
            columns.setdefault(name, str(score.get("metric", "")))
    figures = tuple(
        ColumnFigure(name, "compared", metric, tuple(names), note="Its values are drawn on each run's own page.")
        for name, metric in columns.items()
    )
    rows = {(run, *_rows(found)) for run, found in runs.items()}
    notes = []
    if len({real for _, real, _ in rows}) > 1:
        sizes = ", ".join(f"{run}: {real:,}" for run, real, _ in sorted(rows))
        notes.append(f"The runs have different training rows ({sizes}): their scores have different references.")
    real, held = max((real, held) for _, real, held in rows)
    return write_report(
        folder,
        ReportData(
            job=" \u00b7 ".join(runs),
            seed=0,
            created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            rows={"training": real, "holdout": held},
            stages={},
            models=tuple(models),
            columns=figures,
            versions={"shardsynth": __version__},
            provenance={label: str(root.resolve().name) for label, root in zip(runs, roots)},
            notes=tuple(notes),
        ),
    )


def _labels(roots: Sequence[Path]) -> list[str]:
    """The folders' names, made different by a number where two are the same."""
    found: list[str] = []
    for root in roots:
        name = root.resolve().name
        found.append(name if name not in found else f"{name} ({len(found) + 1})")
    return found


def _metrics(root: Path) -> dict[str, dict[str, Any]]:
    files = sorted((root / "metrics").glob("*.json"))
    if not files:
        raise RunError(f"{root}: no figures here (metrics/*.json); finish the run first: `shardsynth resume {root}`")
    found = {}
    for path in files:
        try:
            found[path.stem] = dict(read_json(path))
        except ValueError as error:
            raise RunError(f"{path}: damaged: {error}") from None
    return found


def _rows(found: dict[str, dict[str, Any]]) -> tuple[int, int]:
    rows = next(iter(found.values())).get("rows") or {}
    return int(rows.get("real") or 0), int(rows.get("holdout") or 0)
