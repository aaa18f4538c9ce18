"""What fidelity.py found, kept as lines of JSON, and its one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FINDINGS = Path(__file__).parent / "results" / "fidelity.jsonl"

Figures = dict[str, Any]
#: (piece, table, model) -> the latest figures by seed.
Found = dict[tuple[str, str, str], dict[int, Figures]]

#: Bars: what is measured -> piece, table, model, figure of the mean, test, wanted.
_ANY, _FIXED = "autoregressive", "autoregressive, order: fixed"
BARS: list[tuple[str, str, str, str, Callable[[float], bool], str]] = [
    ("quality", "adult", _ANY, "score", lambda x: x >= 0.975, ">= 0.975"),
    ("quality", "adult", _FIXED, "score", lambda x: x >= 0.98, ">= 0.98"),
    ("quality", "adult", _FIXED, "shapes", lambda x: x >= 0.985, ">= 0.985"),
    ("quality", "mds", _ANY, "score", lambda x: x >= 0.955, ">= 0.955 (aim 0.962)"),
    *(("quality", data, one, "times", lambda x: x <= 10, "<= 10 x stock GaussianCopula's seconds")
      for data in ("adult", "mds") for one in (_ANY, _FIXED)),
    ("privacy", "adult", _ANY, "closer", lambda x: abs(x - 0.5) <= 0.02, "0.50 +- 0.02"),
    ("privacy", "mds", _ANY, "closer", lambda x: abs(x - 0.5) <= 0.03, "0.50 +- 0.03"),
    *(("privacy", data, _ANY, "exact - exact_holdout", lambda x: x <= 0, "<= 0") for data in ("adult", "mds")),
    ("privacy", "adult", _ANY, "tstr / trtr", lambda x: x >= 0.98, ">= 0.98"),
    ("speed", "adult", _ANY, "times", lambda x: x >= 8, ">= 8 x stock GaussianCopula's rows a second"),
    *(("speed", data, _ANY, "under / rows_per_second", lambda x: x >= 1, ">= 1") for data in ("adult", "mds")),
    *(("conditions", data, _ANY, "wrong", lambda x: x == 0, "0") for data in ("adult", "mds")),
]  # fmt: skip


def keep(piece: str, table: str, model: str, seed: int, figures: Figures) -> None:
    """Print a finding, and add it to the findings."""
    line = {"piece": piece, "table": table, "model": model, "seed": seed, "date": time.strftime("%Y-%m-%d"), **figures}
    text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
    print(text, flush=True)
    FINDINGS.parent.mkdir(exist_ok=True)
    with FINDINGS.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def latest() -> Found:
    """Findings, the latest of each seed (and condition)."""
    found: Found = {}
    for text in FINDINGS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        found.setdefault((line["piece"], line["table"], line["model"]), {})[line["seed"]] = line
    return found


def table_lines() -> list[str]:
    """The one table, and the bars."""
    found = latest()
    lines: list[str] = []
    for data in dict.fromkeys(key[1] for key in found if key[0] != "suite"):
        lines += [f"## {data}", "", *_main(found, data), "", *_privacy(found, data), "", *_speed(found, data), ""]
    return [*lines, "## bars (mean of the seeds)", "", *_bars(found)]


def _of(found: Found, piece: str, data: str) -> list[tuple[str, list[Figures]]]:
    return [(key[2], list(seeds.values())) for key, seeds in found.items() if key[:2] == (piece, data)]


def _mean(rows: list[Figures], name: str, digits: int = 4) -> str:
    """Mean of the seeds and their standard deviation."""
    kept = [value for row in rows if (value := _figure(row, name)) is not None]
    if not kept:
        return "-"
    spread = f" ±{np.std(kept, ddof=1):.{digits}f}" if len(kept) > 1 else ""
    return f"{np.mean(kept):.{digits}f}{spread}"


def _figure(row: Figures, name: str) -> float | None:
    """A figure, or a difference or quotient of two; the lowest of several."""
    for sign, result in ((" - ", lambda a, b: a - b), (" / ", lambda a, b: a / b)):
        if sign in name:
            a, b = (_figure(row, part) for part in name.split(sign))
            return None if a is None or b is None else float(result(a, b))
    value = row.get(name)
    if isinstance(value, dict):
        value = min(value.values(), default=None)
    return None if value is None else float(value)


def _main(found: Found, data: str) -> list[str]:
    lines = [
        f"{'quality':30s} {'seeds':>5s} {'score':>15s} {'shapes':>15s} {'pairs':>15s} {'all pairs':>15s} {'error %':>11s} "
        f"{'fit seconds':>14s} {'x stock GC':>14s}"
    ]
    for model, rows in _of(found, "quality", data):
        errors = "/".join(f"{100 - 100 * np.mean([r[name] for r in rows]):.2f}" for name in ("shapes", "all_pairs"))
        lines.append(
            f"{model:30s} {len(rows):5d} {_mean(rows, 'score'):>15s} {_mean(rows, 'shapes'):>15s} "
            f"{_mean(rows, 'pairs'):>15s} {_mean(rows, 'all_pairs'):>15s} {errors:>11s} "
            f"{_mean(rows, 'seconds', 1):>14s} {_mean(rows, 'times', 2):>14s}"
        )
    return lines


def _privacy(found: Found, data: str) -> list[str]:
    lines = [
        f"{'privacy, on halves':30s} {'seeds':>5s} {'closer to train':>15s} {'exact':>15s} {'holdout exact':>15s} "
        f"{'C2ST AUC':>15s} {'TSTR/TRTR':>15s}"
    ]
    for model, rows in _of(found, "privacy", data):
        shown = [_mean(rows, name) for name in ("closer", "exact", "exact_holdout", "c2st", "tstr / trtr")]
        lines.append(f"{model:30s} {len(rows):5d} " + " ".join(f"{text:>15s}" for text in shown))
    return lines


def _speed(found: Found, data: str) -> list[str]:
    lines = [f"{'sampling to Parquet':30s} {'rows/s':>12s} {'x stock GC':>10s} {'under conditions':>16s}"]
    for model, (row, *_) in _of(found, "speed", data):
        under = f"{_figure(row, 'under'):,.0f}" if row.get("under") else "-"
        lines.append(f"{model:30s} {row['rows_per_second']:12,.0f} {row['times']:10.1f} {under:>16s}")
    for model, (row, *_) in _of(found, "conditions", data):
        lines += [
            "",
            f"{model}: {row['rows']:,} rows under {row['where']}",
            f"  all pairs against as many filtered ones {row['drawn']:.4f}; filtered against filtered "
            f"{row['filtered']:.4f}; unconditional {row['unconditional']:.4f}; {row['wrong']} wrong",
        ]
    return lines


def _bars(found: Found) -> list[str]:
    lines = []
    for piece, data, model, name, test, wanted in BARS:
        seeds = found.get((piece, data, model), {})
        kept = [value for row in seeds.values() if (value := _figure(row, name)) is not None]
        what = f"{data}, {model}: {name}"
        if kept:
            mean = float(np.mean(kept))
            lines.append(f"{'met   ' if test(mean) else 'MISSED'} {what} {mean:.4f}, wanted {wanted}")
        else:
            lines.append(f"?      {what} not measured, wanted {wanted}")
    return lines
