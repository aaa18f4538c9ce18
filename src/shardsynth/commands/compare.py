"""One page for the models of several runs, from each run's ``metrics/``: no real row is needed for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardsynth._version import __version__
from shardsynth.errors import RunError
from shardsynth.report.figures import ColumnFigure
from shardsynth.report.page import ModelReport, ReportData, write_report
from shardsynth.run.documents import Metrics, read_document


def write_comparison(roots: Sequence[Path], folder: Path) -> Path:
    """Write ``index.html`` and ``metrics.parquet`` for several runs.

    Args:
        roots: Run directories, or unpacked archives of `pack`; at least two. The scores can be compared only where the
            runs have the same table.
        folder: Folder to write into; made when absent.

    Returns:
        Path of the page.

    Raises:
        RunError: Fewer than two runs, or a run without figures.
    """
    if len(roots) < 2:
        raise RunError(f"--compare wants at least two run directories, found {len(roots)}")
    runs = {label: _metrics(root) for label, root in zip(_labels(roots), roots)}
    models = [
        ModelReport(f"{run}/{name}", metrics)
        for run, metrics_by_model in runs.items()
        for name, metrics in metrics_by_model.items()
    ]
    names = [model.name for model in models]
    columns: dict[str, str] = {}
    for model in models:
        for name, score in ((model.metrics.get("quality") or {}).get("columns") or {}).items():
            columns.setdefault(name, str(score.get("metric", "")))
    figures = tuple(
        ColumnFigure(name, "compared", metric, tuple(names), note="Its values are drawn on each run's own page.")
        for name, metric in columns.items()
    )
    rows = {(run, *_real_rows(metrics_by_model)) for run, metrics_by_model in runs.items()}
    notes = []
    if len({training for _, training, _ in rows}) > 1:
        sizes = ", ".join(f"{run}: {training:,}" for run, training, _ in sorted(rows))
        notes.append(f"The runs have different training rows ({sizes}): their scores have different references.")
    training, holdout = max((training, holdout) for _, training, holdout in rows)
    return write_report(
        folder,
        ReportData(
            job=" \u00b7 ".join(runs),
            seed=0,
            created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            rows={"training": training, "holdout": holdout},
            stages={},
            models=tuple(models),
            columns=figures,
            versions={"shardsynth": __version__},
            provenance={label: str(root.resolve().name) for label, root in zip(runs, roots)},
            notes=tuple(notes),
        ),
    )


def _labels(roots: Sequence[Path]) -> list[str]:
    """Names of the folders; a number is added to a name that comes again."""
    labels: list[str] = []
    for root in roots:
        name = root.resolve().name
        labels.append(name if name not in labels else f"{name} ({len(labels) + 1})")
    return labels


def _metrics(root: Path) -> dict[str, dict[str, Any]]:
    """The content of ``metrics/<model>.json`` by model."""
    files = sorted((root / "metrics").glob("*.json"))
    if not files:
        raise RunError(f"{root}: no figures here (metrics/*.json); finish the run first: `shardsynth resume {root}`")
    metrics_by_model = {}
    for path in files:
        metrics_by_model[path.stem] = read_document(
            path, Metrics, f"`shardsynth resume {root} --verify` makes it again"
        )
    return metrics_by_model


def _real_rows(metrics_by_model: dict[str, dict[str, Any]]) -> tuple[int, int]:
    """Number of training and of holdout rows of a run; they are the same for all its models."""
    rows = next(iter(metrics_by_model.values())).get("rows") or {}
    return int(rows.get("real") or 0), int(rows.get("holdout") or 0)
