"""The report page of a run: one HTML file that loads nothing else, and the numbers on it as ``metrics.parquet``."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from shardsynth.report import evidence
from shardsynth.report.drift import drift_strips
from shardsynth.report.figures import Cell, ColumnFigure
from shardsynth.report.judgement import AREAS, recommendation, verdicts
from shardsynth.report.mosaics import Mosaic
from shardsynth.report.pictures import write_pictures
from shardsynth.report.plots import PairMaps, curve_plot, finite, pair_maps
from shardsynth.report.survival_plot import survival_plot
from shardsynth.report.text import seconds, shown
from shardsynth.report.verdicts import card, column_score, floor, headline, rounded, side_by_side
from shardsynth.standalone.files import replacing, write_atomic

#: Columns with a figure on the page; of a wider table, those with the lowest scores.
MOST_FIGURES = 1_000
_TEMPLATES = Path(__file__).parent / "templates"
#: Sizes in SVG units: width and height of a curve, width of a strip of shards, width and height of a mosaic.
_CURVE_BOX = (440.0, 150.0)
_STRIP_WIDTH = 360.0
MOSAIC_SIZE = 150.0


@dataclass(frozen=True)
class ModelReport:
    """One model on the page.

    Attributes:
        name: The model's name in the job.
        metrics: ``metrics/<name>.json``.
        losses: Name of a loss and its value per epoch; empty for models that are not trained.
        mosaics: Drawings of its worst pairs, of size ``MOSAIC_SIZE``.
    """

    name: str
    metrics: Mapping[str, Any]
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mosaics: tuple[Mosaic, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """All data of the page; no file is read for it.

    Attributes:
        job: Name of the job.
        seed: Seed of the job.
        created: When the run was made, as text.
        rows: Number of rows by kind (``input``, ``training``, ``holdout`` ...), in the order shown.
        stages: Seconds of work by stage, in the order they ran.
        models: One per model, in the job's order.
        columns: ``column_figures`` of the run, with the models in the same order.
        versions: Version by package.
        provenance: Further facts, text by label.
        notes: Sentences for the reader, shown at the top.
        min_count: Fewest real rows of a cell on the page: the value that ``column_figures`` got.
        counted: What these are: ``rows`` or ``persons``.
        drift: ``ShardHistograms.distances`` of the real rows.
    """

    job: str
    seed: int
    created: str
    rows: Mapping[str, int]
    stages: Mapping[str, float]
    models: tuple[ModelReport, ...]
    columns: tuple[ColumnFigure, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    min_count: int = 5
    counted: str = "rows"
    drift: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def maps(self) -> PairMaps:
        """The pairs of all models, packed; the page and the pictures are drawn from them."""
        return pair_maps(
            [figure.name for figure in self.columns], [m.metrics.get("quality") or {} for m in self.models]
        )


def write_report(folder: Path, report: ReportData) -> Path:
    """Write ``index.html``, ``metrics.parquet`` and ``pairs-<model>.png``; older ones are replaced.

    Args:
        folder: Folder to write into; made when absent.
        report: The data of the page.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, table = folder / "index.html", folder / "metrics.parquet"
    write_atomic(page, render(report))
    with replacing(table) as temporary:
        pq.write_table(metrics_table(report.models, report.drift), temporary)
    write_pictures(folder, [model.name for model in report.models], report.maps)
    return page


def templates() -> jinja2.Environment:
    """The templates of the pages; all text that they take is escaped, and what they lack is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def render(report: ReportData) -> str:
    """The page as HTML text. The same data give the same text."""
    environment = templates()
    environment.filters.update(shown=shown, seconds=seconds, floor=floor, loss=_loss)
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    # Markup (not escaped) are only our own two files, and JSON without <, > and &. All other text is escaped.
    return environment.get_template("index.html.j2").render(
        report=report,
        headline=headline(report.models),
        cards=[card(model.name, model.metrics) for model in report.models],
        comparison=side_by_side([(model.name, model.metrics) for model in report.models]),
        curves=[(model.name, plot) for model in report.models if (plot := curve_plot(model.losses, *_CURVE_BOX))],
        curve_box=_CURVE_BOX,
        longest=max([*report.stages.values(), 1e-9]),
        **_evidence(report),
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        data=Markup(embedded(_payload(report))),  # noqa: S704
    )


def _evidence(report: ReportData) -> dict[str, Any]:
    """Variables of the template for all that is computed per section."""
    models = [(model.name, model.metrics) for model in report.models]
    utilities = [(name, metrics.get("utility") or {}) for name, metrics in models]
    return {
        "areas": AREAS,
        "verdicts": [(name, verdicts(name, metrics)) for name, metrics in models],
        "advice": recommendation(report.models),
        "privacy": evidence.privacy_lines(models),
        "findings": evidence.findings_of(models),
        "utility": evidence.utility_lines(models),
        "target": next((utility["target"] for _, utility in utilities if utility.get("target")), ""),
        "importance": evidence.importance_lines(models),
        "survival": [
            (name, plot)
            for name, utility in utilities
            if (plot := survival_plot(utility.get("survival") or {}, *_CURVE_BOX)) is not None
        ],
        "detection": evidence.detection_lines(models),
        "giveaways": evidence.giveaways(models),
        "missing": evidence.missing_lines(report.columns, len(models)),
        "most_missing": evidence.MOST_MISSING,
        "costs": evidence.cost_lines(models),
        "drift": drift_strips(report.drift, _STRIP_WIDTH),
        "strip_width": _STRIP_WIDTH,
        "mosaics": [(model.name, model.mosaics) for model in report.models if model.mosaics],
        "mosaic_size": MOSAIC_SIZE,
    }


def _loss(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212")


def embedded(value: Any) -> str:
    """JSON that is safe inside ``<script>``: no text in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _payload(report: ReportData) -> dict[str, Any]:
    """Data for ``script.js``, which draws columns and pairs."""
    columns = _columns_shown(report)
    maps = report.maps
    return {
        "models": [shown(model.name) for model in report.models],
        "total": len(report.columns),
        "least": report.min_count,
        "counted": report.counted,
        "holdout": any(cell.holdout is not None for _, figure in columns for cell in (*figure.rows, *figure.bins)),
        "columns": [_column(figure, place, report.models) for place, figure in columns],
        "pairs": {
            "names": [shown(name) for name in maps.columns],
            "real": maps.real,
            "synthetic": maps.synthetic,
            "scores": maps.scores,
            "count": maps.pairs,
            "worst": [
                [
                    [
                        shown(pair.first),
                        shown(pair.second),
                        *(
                            rounded(value)
                            for value in (pair.real, pair.synthetic, pair.score, pair.equal, pair.holdout)
                        ),
                        int(pair.contributes),
                    ]
                    for pair in worst
                ]
                for worst in maps.worst
            ],
        },
    }


def _columns_shown(report: ReportData) -> list[tuple[int, ColumnFigure]]:
    """Place in the table and figure of each column on the page; of a very wide table, the lowest scores only."""
    columns = list(enumerate(report.columns))
    if len(columns) <= MOST_FIGURES:
        return columns
    qualities = [(model.metrics.get("quality") or {}) for model in report.models]

    def lowest(figure: ColumnFigure) -> float:
        scores = (column_score(quality, figure.name) for quality in qualities)
        return min((score for score in scores if score is not None), default=2.0)

    worst = sorted(columns, key=lambda item: lowest(item[1]))[:MOST_FIGURES]
    return sorted(worst, key=lambda item: item[0])


def _column(figure: ColumnFigure, place: int, models: Sequence[ModelReport]) -> dict[str, Any]:
    """One column for ``script.js``.

    Keys: name, place, type; scores of all synthetic rows, of equally many and of the holdout; diagnostic scores; bars
    (rows, bins); ticks of the axis (x), whether it is logarithmic, note (other).
    """
    qualities = [(model.metrics.get("quality") or {}) for model in models]
    diagnostics = [(model.metrics.get("diagnostic") or {}) for model in models]
    return {
        "n": shown(figure.name, 200),
        "p": place,
        "t": figure.type,
        "s": [rounded(column_score(quality, figure.name)) for quality in qualities],
        "e": [rounded(column_score(quality.get("at_holdout_rows") or {}, figure.name)) for quality in qualities],
        "h": next((rounded(s) for q in qualities if (s := column_score(q.get("holdout") or {}, figure.name))), None),
        "d": [rounded(column_score(diagnostic, figure.name)) for diagnostic in diagnostics],
        "r": [_bar(cell) for cell in figure.rows],
        "b": [[*_bar(cell), cell.slots, int(cell.open)] for cell in figure.bins],
        "x": figure.ticks,
        "l": int(figure.scale == "log"),
        "o": figure.note,
    }


def _bar(cell: Cell) -> list[Any]:
    return [cell.kind[0], cell.label, cell.real, cell.synthetic, cell.holdout]


def metrics_table(models: Iterable[ModelReport], drift: Mapping[str, Any] | None = None) -> pa.Table:
    """All figures as one long table.

    Returns:
        Columns ``model``, ``property``, ``name`` (string) and ``value`` (float64). ``property`` says where in
        ``metrics/<model>.json`` the figure stands, such as ``quality``, ``quality.holdout`` or ``quality.columns``.
        The ``name`` of a pair is the JSON list of its two columns; the name of a number in a list is its place.
        Figures of the real rows alone have an empty model.
    """
    rows: list[tuple[str, str, str, float]] = []
    for model in models:
        rows += [(model.name, where, name, value) for where, name, value in _figures("", model.metrics)]
    for name, column in ((drift or {}).get("columns") or {}).items():
        rows += [("", f"drift.{key}", name, float(column[key])) for key in ("excess", "chance")]
    names = ("model", "property", "name")
    arrays = [pa.array([row[k] for row in rows], pa.string()) for k in range(3)]
    return pa.table([*arrays, pa.array([row[3] for row in rows], pa.float64())], names=[*names, "value"])


def _figures(where: str, value: Mapping[str, Any]) -> Iterable[tuple[str, str, float]]:
    """Property, name and value of each finite number in a mapping that stands at ``where``."""
    for key, item in value.items():
        inside = f"{where}.{key}" if where else key
        if key == "pairs" and isinstance(item, Sequence):
            for pair in item:
                name = _pair_name(*pair["columns"])
                for what in ("score", "real", "synthetic", "real_association", "synthetic_association"):
                    if (number := finite(pair.get(what))) is not None:
                        yield (inside if what == "score" else f"{inside}.{what}"), name, number
        elif key == "columns" and isinstance(item, Mapping):
            for name, column in item.items():
                if (number := column_score({"columns": {name: column}}, name)) is not None:
                    yield inside, name, number
        elif isinstance(item, Mapping):
            yield from _figures(inside, item)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            yield from _listed(inside, item)
        elif isinstance(item, (int, float)) and (number := finite(item)) is not None:
            yield where or "run", key, number


@lru_cache(maxsize=1 << 17)  # each pair comes three times: all rows, as many as the holdout has, the holdout
def _pair_name(first: str, second: str) -> str:
    return json.dumps([first, second], ensure_ascii=False)


def _listed(where: str, items: Sequence[Any]) -> Iterable[tuple[str, str, float]]:
    """The same for a list: of numbers, or of mappings that name a column."""
    for place, item in enumerate(items):
        if isinstance(item, Mapping) and "column" in item:
            for key, value in item.items():
                if isinstance(value, (int, float)) and (number := finite(value)) is not None:
                    yield f"{where}.{key}", str(item["column"]), number
        elif isinstance(item, (int, float)) and (number := finite(item)) is not None:
            yield where, str(place), number
