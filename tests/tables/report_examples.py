"""Reports for tests and for looking at: real tables, and "synthetic" ones made from them by shuffling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.metrics.association import cramers_v
from shardsynth.metrics.quality import quality
from shardsynth.report.figures import column_figures
from shardsynth.report.mosaics import mosaics
from shardsynth.report.number_pairs import number_pairs
from shardsynth.report.page import MOSAIC_SIZE, ModelReport, ReportData
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile
from shardsynth.summaries.ranges import ScoreRanges

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


def counts_of(coder: TableCoder, table: pa.Table) -> Counts:
    batches = [b for b in table.combine_chunks().to_batches() if b.num_rows]
    ranges = ScoreRanges.empty(coder.columns)
    for batch in batches:
        ranges.update(batch)
    counts = Counts.empty(coder, fit=False, score=ranges)
    for batch in batches:
        counts.update(batch, 0)
    return counts


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


def evidence(columns: list[str], level: float) -> dict[str, Any]:
    """Figures in the form of ``shardsynth.metrics``; the higher the level, the worse."""
    copied, auc = level >= 0.5, 0.55 + 0.4 * level
    share = 0.5 + 0.3 * (level if copied else 0.0)
    bounds = lambda value: {"low": value - 0.03, "high": value + 0.03}  # noqa: E731
    risk = {"risk": 0.02 + level / 10, "low": 0.0, "high": 0.05 + level / 10, "attacks": 500}
    findings = [{"level": "fail", "measure": "pull", "text": "For 97 % of the rows the nearest is a training row."}]
    findings.append({"level": "caution", "measure": "membership", "text": "An attacker tells isolated records."})
    curve = {"survival": [1.0, 0.8, 0.6, None], "low": [1.0, 0.75, 0.5, None], "high": [1.0, 0.85, 0.7, None]}
    return {
        "privacy": {
            "rows": {"synthetic": 3000, "training": 2700, "holdout": 300, "compared": 300, "released": 10_000},
            "closest_record": {"closer_to_training": share, **bounds(share), "ties": 0.01},
            "pull": {"share": 0.97 if copied else 0.01, "low": -0.05, "high": 0.1, "expected": 0.9, "reference": 0.0},
            "exact_matches": {"rows": 12 if copied else 0, "share": 0.004, "holdout_rows": 2, "holdout_share": 0.0067},
            "near_matches": {"share": 0.02, **bounds(0.02), "holdout_share": 0.01},
            "neighbour_ratio": {"fifth": 0.5, "median": 0.9, "holdout_fifth": 0.5, "holdout_median": 0.9},
            "membership": {"auc": 0.5, **bounds(0.5)},
            "attacks": {
                "singling_out_one": risk,
                "singling_out_many": risk,
                "linkability": risk,
                "inference": {**risk, "column": columns[0]},
            },
            "findings": findings if copied else [],
        },
        "utility": {
            "target": columns[-1],
            "metric": "AUC",
            "train_real": 0.9,
            "train_synthetic": 0.9 - level / 4,
            "guessing": 0.5,
            "gap": level / 4,
            "gap_low": level / 4 - 0.01,
            "gap_high": level / 4 + 0.01,
            "importance": {
                "overlap": 1 - level,
                "spearman": 0.5,
                "columns": [
                    {"column": name, "real": 0.2 / (k + 1), "synthetic": 0.1} for k, name in enumerate(columns)
                ],
            },
            "survival": {
                "time": columns[0],
                "event": columns[-1],
                "grid": [0.0, 1.0, 2.0, 3.0],
                "curves": {"real": curve, "synthetic": curve, "holdout": curve},
                "logrank_p": 0.0001 if copied else 0.4,
                "largest_gap": level / 5,
                "holdout": {"logrank_p": 0.3, "largest_gap": 0.02, "rows": 300},
            },
        },
        "detection": {
            "auc": auc,
            **bounds(auc),
            "rows": 3000,
            "giveaways": [{"column": name, "drop": 0.1 / (k + 1)} for k, name in enumerate(columns[:6])],
            "holdout": {"auc": 0.51, **bounds(0.51), "rows": 300},
            "at_holdout_rows": {"auc": auc - 0.04, **bounds(auc - 0.04), "rows": 300},
        },
    }


def metrics(name: str, coder: TableCoder, tables: dict[str, Counts], engine: str = "native") -> dict[str, Any]:
    """What ``metrics/<name>.json`` holds; tables: real, holdout, all, head (as many synthetic rows as holdout)."""
    real, made = tables["real"], tables["all"]
    scores = quality(real, made, coder)
    for key, which in (("holdout", "holdout"), ("at_holdout_rows", "head")):
        scores[key] = {**quality(real, tables[which], coder), "rows": tables["head"].rows}
    _add_synthetic_association(scores, coder, made)
    rows = {"real": real.rows, "synthetic": made.rows, "holdout": tables["holdout"].rows, "fitted": real.rows}
    return {
        "model": name,
        "family": name,
        "engine": engine,
        "rows": {**rows, "sampled": False},
        "quality": scores,
        "diagnostic": {"score": 1.0, "data_validity": 1.0, "data_structure": 1.0, "columns": {}},
        "seconds": {"fit": 12.3, "sample": 1.7, "score": 0.9},
        "rows_per_second": 215_000.0,
    }


def _add_synthetic_association(scores: dict[str, Any], coder: TableCoder, made: Counts) -> None:
    assert made.score is not None
    tables = made.score.settle()
    if tables.tables is None:
        return
    found, place = cramers_v(tables.tables), tables.place
    for pair in scores["pairs"]:
        a, b = (place.get(name) for name in pair["columns"])
        if pair["metric"] == "ContingencySimilarity" and a is not None and b is not None:
            pair.setdefault("synthetic_association", None if np.isnan(found[a, b]) else float(found[a, b]))


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
    real = counts_of(coder, table)
    held = counts_of(coder, spoiled(table, 0.0, max(table.num_rows // 10, 1), 99))
    reports, synthetic = [], {}
    for k, (name, share) in enumerate(models.items()):
        made = spoiled(table, share, rows or table.num_rows, k)
        synthetic[name] = counts_of(coder, made)
        tables = {"real": real, "holdout": held, "all": synthetic[name]}
        tables["head"] = counts_of(coder, made.slice(0, held.rows))
        deep = name in ("ctgan", "copulagan", "tvae")
        found = metrics(name, coder, tables, "sdv" if deep else "native")
        found.update(evidence(table.column_names[:12], share))
        if name == "ctgan":
            found["rows"].update(sampled=True, fitted=table.num_rows // 4)
        found["number_pairs"] = number_pairs(coder, found["quality"], table, made, 5)
        tiles = mosaics(coder, real, synthetic[name], found["quality"], 5, MOSAIC_SIZE, found["number_pairs"])
        reports.append(ModelReport(name, found, losses(300, k) if deep else {}, tiles))
    figures = column_figures(coder, real, synthetic, holdout=held)
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
        drift={
            "groups": [0, 1, 2],
            "columns": {
                name: {"distance": [0.02, 0.2, None], "chance": 0.015, "excess": 0.185}
                for name in table.column_names[:20]
            },
        },
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
                ModelReport(
                    m.name, {**m.metrics, "family": HOSTILE["script"]}, {HOSTILE["script"]: [3.0, 2.0, 1.0]}, m.mosaics
                )
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
