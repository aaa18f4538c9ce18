"""Reports for tests and for looking at: real tables, and "synthetic" ones made from them by shuffling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.report.figures import column_figures
from shardsynth.report.page import ModelReport, ReportData
from shardsynth.summaries.profile import Profile

HOSTILE = {
    "script": "</script><script>window.hacked=1</script>",
    "image": '"><img src=x onerror="window.hacked=1">',
    "quotes": "'\"`&amp;<b>{{7*7}}{% raw %}",
    "comment": "<!--<script>",
    "emoji": "👩‍🔬🧬 género",
    "long": "x" * 10_000,
    "right to left": "שלום עולם \u202egnp.exe",
    "control": "a\x00b\x07c\x1b[31m\u2028d\r\n\te\x7f",
    "blank": "   ",
}


@dataclass(frozen=True)
class Histograms:
    rows: int
    hist: list[np.ndarray]


def histograms(coder: TableCoder, table: pa.Table) -> Histograms:
    encoded = coder.encode(table)
    return Histograms(
        table.num_rows,
        [np.bincount(codes, minlength=c.n_codes)[: c.n_codes] for codes, c in zip(encoded.codes, coder.columns)],
    )


def columns_of(table: pa.Table, numeric_from: int = 12) -> list[Column]:
    """Roles by a rule of thumb: names ending in ID, text and small ints are what they look like."""
    found = []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        few = len(table[field.name].unique()) < numeric_from
        if field.name.upper() == "ID":
            found.append(Column(field.name, field.type, "id", "id"))
        elif pa.types.is_temporal(kind):
            found.append(Column(field.name, field.type, "datetime", "datetime"))
        elif pa.types.is_floating(kind) or pa.types.is_decimal(kind) or (pa.types.is_integer(kind) and not few):
            found.append(Column(field.name, field.type, "numerical", "number"))
        else:
            found.append(Column(field.name, field.type, "categorical", "category"))
    return found


def coder_of(table: pa.Table, columns: list[Column] | None = None) -> TableCoder:
    profile = Profile.empty(table.schema)
    for batch in table.combine_chunks().to_batches():
        profile.update(batch, 0)
    return TableCoder.from_profile(profile, columns or columns_of(table))


def spoiled(table: pa.Table, share: float, rows: int, seed: int) -> pa.Table:
    """Rows drawn again, a share of every column's cells shuffled, and the first rows drawn more often."""
    rng = np.random.default_rng(seed)
    place = (rng.random(rows) ** (1 + share) * table.num_rows).astype(int)
    order = np.argsort(table[table.num_columns - 1].to_pandas().astype(str).to_numpy(), kind="stable")
    columns = []
    for column in table.columns:
        chosen = order[place].copy()
        mixed = rng.random(rows) < share
        chosen[mixed] = rng.permutation(chosen[mixed])
        columns.append(column.take(pa.array(chosen)))
    return pa.table(columns, schema=table.schema)


def metrics(
    coder: TableCoder, real: pa.Table, made: pa.Table, name: str, engine: str = "native", **more: object
) -> dict[str, object]:
    """Something like ``metrics/<name>.json``, with plain measures in place of SDMetrics' own."""
    quality, head = _quality(coder, real, made), made.slice(0, max(real.num_rows // 10, 1))
    quality["holdout"] = _quality(coder, real, spoiled(real, 0.0, head.num_rows, 99))
    quality["at_holdout_rows"] = {k: v for k, v in _quality(coder, real, head).items() if k not in ("pairs", "columns")}
    rows = {"real": real.num_rows, "synthetic": made.num_rows, "holdout": head.num_rows, "fitted": real.num_rows}
    return {
        "model": name,
        "family": more.pop("family", name),
        "engine": engine,
        "rows": {**rows, "sampled": False, **more.pop("rows", {})},  # type: ignore[dict-item]
        "quality": quality,
        "diagnostic": {"score": 1.0, "data_validity": 1.0, "data_structure": 1.0, "columns": {}},
        "privacy": {},
        "utility": {},
        "seconds": {"fit": 12.3, "sample": 1.7, "score": 0.9},
        "rows_per_second": 215_000.0,
        **more,
    }


def _quality(coder: TableCoder, real: pa.Table, made: pa.Table) -> dict[str, object]:
    a, b = (histograms(coder, table) for table in (real, made))
    columns = {}
    for c, ra, rb in zip(coder.columns, a.hist, b.hist):
        pa_, pb = (h[:-1] / max(h[:-1].sum(), 1) for h in (ra, rb))
        gap = abs(np.cumsum(pa_ - pb)).max() if not c.is_category else 0.5 * abs(pa_ - pb).sum()
        metric = "TVComplement" if c.is_category else "KSComplement"
        columns[c.name] = {"metric": metric, "score": float(1 - gap)}
    codes = [
        np.array([np.minimum(c.coarse[np.minimum(k, c.n_codes - 1)], 9) for c, k in zip(coder.columns, e.codes)])
        for e in (coder.encode(real), coder.encode(made))
    ]
    pairs = []
    for i, j in itertools.combinations(range(len(coder.columns)), 2):
        tables = [np.bincount(c[i] * 10 + c[j], minlength=100).reshape(10, 10) / c.shape[1] for c in codes]
        links = [_cramer(t) for t in tables]
        score = 1 - 0.5 * abs(tables[0] - tables[1]).sum()
        pairs.append(
            {
                "columns": [coder.columns[i].name, coder.columns[j].name],
                "metric": "ContingencySimilarity",
                "score": float(score),
                "real": links[0],
                "synthetic": links[1],
                "real_association": links[0],
                "contributes": links[0] > 0.3,
            }
        )
    shapes = float(np.mean([c["score"] for c in columns.values()]))
    every = float(np.mean([p["score"] for p in pairs])) if pairs else None
    linked = [p["score"] for p in pairs if p["contributes"]]
    trend = float(np.mean(linked)) if linked else None
    return {
        "score": (shapes + trend) / 2 if trend else shapes,
        "column_shapes": shapes,
        "column_pair_trends": trend,
        "all_pairs": {
            "score": (shapes + (every or shapes)) / 2,
            "column_shapes": shapes,
            "column_pair_trends": every,
        },
        "columns": columns,
        "pairs": pairs,
    }


def _cramer(joint: np.ndarray) -> float:
    expected = np.outer(joint.sum(1), joint.sum(0))
    used = expected > 0
    chi = float(((joint - expected)[used] ** 2 / expected[used]).sum())
    size = min((joint.sum(0) > 0).sum(), (joint.sum(1) > 0).sum()) - 1
    return float(np.sqrt(chi / size)) if size > 0 else 0.0


def losses(epochs: int, seed: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    x = np.arange(epochs)
    noise = rng.normal(size=(2, epochs)) * 0.12
    return {
        "Generator Loss": list(1.2 * np.exp(-x / 40) - 0.8 + noise[0]),
        "Discriminator Loss": list(0.1 * np.sin(x / 25) + noise[1]),
    }


def report_of(table: pa.Table, job: str, models: dict[str, float], rows: int | None = None) -> ReportData:
    """A report of a real table and one spoiled copy per model."""
    coder = coder_of(table)
    made = {name: spoiled(table, share, rows or table.num_rows, k) for k, (name, share) in enumerate(models.items())}
    reports = []
    for k, (name, synthetic) in enumerate(made.items()):
        deep = name in ("ctgan", "copulagan", "tvae")
        more: dict[str, object] = {"rows": {"sampled": True, "fitted": table.num_rows // 4}} if name == "ctgan" else {}
        found = metrics(coder, table, synthetic, name, "sdv" if deep else "native", **more)
        reports.append(ModelReport(name, found, losses(300, k) if deep else {}))
    figures = column_figures(
        coder,
        histograms(coder, table),
        {name: histograms(coder, synthetic) for name, synthetic in made.items()},
        holdout=histograms(coder, spoiled(table, 0.0, table.num_rows // 10, 99)),
    )
    stages = {"profile": 1.1, "count": 2.4, "fit": 754.0, "sample": 31.0, "score": 12.5, "merge": 0.7, "report": 1.9}
    return ReportData(
        job=job,
        seed=0,
        created="2026-11-23 23:30 UTC",
        rows={"input": table.num_rows * 10 // 9, "training": table.num_rows, "holdout": table.num_rows // 9},
        stages=stages,
        models=tuple(reports),
        columns=figures,
        versions={"shardsynth": "0.1.0", "sdv": "2.0.0", "torch": "2.13.0", "pyarrow": "26.0.1"},
        provenance={"Input": "data/adult, 4 shards"},
    )


def hostile_report() -> ReportData:
    """Column names, categories, model, job and provenance as nasty as they come."""
    rng = np.random.default_rng(0)
    values = list(HOSTILE.values())
    n = 400
    columns: dict[str, pa.Array] = {
        name: pa.array([values[k] for k in rng.integers(0, len(values), n)]) for name in values[:5]
    }
    columns |= {name: pa.array(rng.normal(size=n).round(2)) for name in values[5:]}
    table = pa.table(columns)
    report = report_of(table, HOSTILE["script"], {HOSTILE["image"]: 0.2, HOSTILE["right to left"]: 0.5})
    return ReportData(
        **{
            **report.__dict__,
            "provenance": dict.fromkeys(values, HOSTILE["script"]),
            "notes": tuple(values),
            "rows": {HOSTILE["script"]: 3},
            "stages": {HOSTILE["script"]: 3.0},
            "created": HOSTILE["image"],
            "models": tuple(
                ModelReport(m.name, {**m.metrics, "family": HOSTILE["script"]}, {HOSTILE["script"]: [3.0, 2.0, 1.0]})
                for m in report.models
            ),
        }
    )


def wide_table(columns: int = 500, rows: int = 2_000) -> pa.Table:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(rows, 8))
    values = base @ rng.normal(size=(8, columns)) + rng.normal(size=(rows, columns))
    return pa.table({f"measurement_{k:04d}_of_some_assay": values[:, k] for k in range(columns)})


def read(folder: Path) -> pa.Table:
    return pq.read_table(folder)
