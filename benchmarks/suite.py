"""The evaluation of the literature on tabular generators, of our models, stock SDV and peers on the same rows.

`fidelity.py --suite FOLDER ...` runs it; see there. A table is split 90 / 10 by the seed; models see the nine tenths, and
as many rows are drawn. Kinds of columns are those of the papers where ``published.json`` names the table, else the
detected ones. The figures:

- `shapes`, `trends`: error %, 100 less 100 times the mean over columns (KS complement, total variation) and over all pairs
  (correlation, contingency similarity) by SDMetrics' definitions, against the nine tenths.
- `alpha`, `beta`: alpha-precision and beta-recall (Alaa et al. 2022) without an embedding: numbers scaled to 0 .. 1 by
  the real rows, categories as indicators, missing numbers at the median.
- `logistic`, `booster`: how well rows hide from a classifier, 1 is perfect: 1 - 2 max(AUC - 1/2, 0), mean of three folds
  (SDMetrics' LogisticDetection; xgboost, or scikit-learn's histogram booster where xgboost is not installed).
- `closer`: share of the rows that are nearer to the training rows than to the held-out tenth (0.5 is right), both sides cut
  to the same size, ties in half.
- `tstr`, `trtr`: AUC (or R2) on the held-out tenth of a booster trained on synthetic and on real rows.
- `fit`, `draw`: seconds.

`real` in the place of a model is a bootstrap of the training rows: what a model that knows them all gets.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PUBLISHED = Path(__file__).parent / "published.json"
FIGURES = ("shapes", "trends", "alpha", "beta", "logistic", "booster", "closer", "tstr", "trtr", "fit", "draw")
#: Rows of each table that alpha-precision, beta-recall and detection look at, at most.
_MOST = 20_000
_RADII = 30


def known(name: str) -> dict[str, Any]:
    """What the papers say of a table: ``rows``, ``target``, ``kinds`` and ``others``; empty where they do not."""
    found: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))["tables"].get(name, {})
    return found


def with_kinds(metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """Metadata with the kinds of columns that the papers use."""
    wanted = known(name)
    if not wanted:
        return metadata
    ((table, described),) = metadata["tables"].items()
    columns = {
        column: says if (kind := wanted["kinds"].get(column, wanted["others"])) == says["sdtype"] else {"sdtype": kind}
        for column, says in described["columns"].items()
    }
    return {**metadata, "tables": {table: {**described, "columns": columns}}}


def split(table: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    """Nine tenths and one tenth of the rows, by the seed."""
    order = np.random.default_rng([seed, 90]).permutation(table.num_rows)
    cut = table.num_rows - table.num_rows // 10
    return table.take(pa.array(np.sort(order[:cut]))), table.take(pa.array(np.sort(order[cut:])))


def matrices(real: pa.Table, other: pa.Table, categories: set[str]) -> tuple[np.ndarray, np.ndarray]:
    """Both tables as float64[n, d]: numbers scaled by the real rows, categories as indicators."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in real.column_names:
        columns = [_plain(table[name]) for table in (real, other)]
        if name in categories:
            values = pc.unique(pa.concat_arrays([c.cast(pa.string()) for c in columns]).drop_null())
            for part, column in zip(parts, columns):
                codes = pc.fill_null(pc.index_in(column.cast(pa.string()), value_set=values), len(values))
                part.append(np.eye(len(values) + 1)[codes.to_numpy(zero_copy_only=False)])
            continue
        numbers = [_numbers(column) for column in columns]
        low, high, middle = np.nanmin(numbers[0]), np.nanmax(numbers[0]), np.nanmedian(numbers[0])
        for part, x in zip(parts, numbers):
            scaled = (np.where(np.isnan(x), middle, x) - low) / max(high - low, 1e-300)
            part.append(scaled[:, None])
            if any(np.isnan(n).any() for n in numbers):
                part.append(np.isnan(x).astype(float)[:, None])
    return np.concatenate(parts[0], axis=1), np.concatenate(parts[1], axis=1)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _numbers(array: pa.Array) -> np.ndarray:
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.int64())
    return np.asarray(pc.fill_null(array.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False))


def precision_recall(real: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Integrated alpha-precision and beta-recall of two matrices, each 1 for the same distribution.

    Alpha-precision: the share of the synthetic rows within the ball around the real centre that holds a share alpha of
    the real rows is to be alpha. Beta-recall: the share of the real rows that have a synthetic row nearer than their
    nearest real one, among those of the ball of a share beta of these synthetic rows, is to be beta.
    """
    from sklearn.neighbors import NearestNeighbors

    shares = np.linspace(0.0, 1.0, _RADII)
    centre = real.mean(axis=0)
    to_centre = np.linalg.norm(other - centre, axis=1)
    radii = np.quantile(np.linalg.norm(real - centre, axis=1), shares)
    precision = (to_centre[None, :] <= radii[:, None]).mean(axis=1)
    own, _ = NearestNeighbors(n_neighbors=2).fit(real).kneighbors(real)
    nearest, place = NearestNeighbors(n_neighbors=1).fit(other).kneighbors(real)
    covered = nearest[:, 0] <= own[:, 1]
    closest = np.linalg.norm(other[place[:, 0]] - other.mean(axis=0), axis=1)
    within = closest[None, :] <= np.quantile(closest, shares)[:, None]
    recall = (within & covered).mean(axis=1)
    total = shares.sum()
    return tuple(float(1.0 - np.abs(shares - curve).sum() / total) for curve in (precision, recall))  # type: ignore[return-value]


def hidden(real: np.ndarray, other: np.ndarray, classifier: Any, seed: int) -> float:
    """1 where a classifier cannot tell the rows of two matrices, 0 where it always can: the mean of three folds."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    x, y = np.concatenate([real, other]), np.repeat([0, 1], [len(real), len(other)])
    found = []
    for train, test in StratifiedKFold(3, shuffle=True, random_state=seed).split(x, y):
        scores = classifier().fit(x[train], y[train]).predict_proba(x[test])[:, 1]
        found.append(max(0.5, roc_auc_score(y[test], scores)) * 2 - 1)
    return float(1.0 - np.mean(found))


def classifiers() -> dict[str, Any]:
    """The two classifiers of rows, by the name of their figure."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    booster: Any = HistGradientBoostingClassifier
    if importlib.util.find_spec("xgboost") is not None:
        from xgboost import XGBClassifier as booster
    return {
        "logistic": lambda: make_pipeline(RobustScaler(), LogisticRegression(solver="lbfgs", max_iter=1000)),
        "booster": booster,
    }


def booster_name() -> str:
    """Which booster judges."""
    return "xgboost" if importlib.util.find_spec("xgboost") is not None else "scikit-learn's histogram booster"


def peers() -> dict[str, Any]:
    """Other generators that are installed: name -> rows and seconds of (training rows, number of rows, seed)."""
    try:
        there = importlib.util.find_spec("mostlyai.engine") is not None
    except ModuleNotFoundError:
        there = False
    return {"mostlyai-engine": _mostlyai} if there else {}


def _mostlyai(train: Any, rows: int, seed: int) -> tuple[Any, float, float]:
    """Rows of mostlyai-engine at its defaults (a pandas frame), seconds of the fit and of drawing."""
    import pandas as pd
    from mostlyai import engine

    with tempfile.TemporaryDirectory() as workspace:
        started = time.perf_counter()
        if hasattr(engine, "set_random_state"):
            engine.set_random_state(seed)
        engine.split(tgt_data=train, workspace_dir=workspace)
        engine.analyze(workspace_dir=workspace)
        engine.encode(workspace_dir=workspace)
        engine.train(workspace_dir=workspace)
        fitted = time.perf_counter()
        engine.generate(workspace_dir=workspace, sample_size=rows)
        drawn = time.perf_counter()
        frame = pd.read_parquet(Path(workspace) / "SyntheticData")
    return frame, fitted - started, drawn - fitted


def figures(train: pa.Table, holdout: pa.Table, synthetic: pa.Table, metadata: dict[str, Any], target: str | None,
            seed: int) -> dict[str, float]:  # fmt: skip
    """All figures of one model but its seconds."""
    import fidelity

    from shardsynth.metrics.privacy import Reference, closest_record, compare
    from shardsynth.metrics.utility import utility

    coder = fidelity.prepare(train, metadata).coder
    every = fidelity.all_pairs(coder, train, synthetic)
    reference = Reference(coder, train, holdout, seed)
    compared = compare(reference, reference.space.encode(synthetic), np.zeros(synthetic.num_rows, np.bool_))
    categories = {c.name for c in coder.columns if c.is_category}
    learned = [c.name for c in coder.columns]
    generator = np.random.default_rng([seed, 20])
    chosen = [
        table.select(learned).take(pa.array(generator.permutation(table.num_rows)[:_MOST]))
        for table in (train, synthetic)
    ]
    real, other = matrices(*chosen, categories)
    alpha, beta = precision_recall(real, other)
    found = {
        "shapes": 100 - 100 * every["column_shapes"],
        "trends": 100 - 100 * every["column_pair_trends"],
        "alpha": alpha,
        "beta": beta,
        **{name: hidden(real, other, classifier, seed) for name, classifier in classifiers().items()},
        "closer": closest_record(compared)["closer_to_training"],
    }
    if target is not None and (of := utility(coder, target, train, holdout, synthetic, seed)):
        found |= {"tstr": of["train_synthetic"], "trtr": of["train_real"]}
    return found


def run(source: Any, models: list[str], seeds: list[int], target: str | None) -> None:
    """Measure models and peers on one table; each finding is kept."""
    import fidelity
    from fidelity_table import keep

    metadata = with_kinds(source.metadata, source.name)
    source = source._replace(metadata=metadata)
    target = target or known(source.name).get("target")
    for seed in seeds:
        train, holdout = split(source.table, seed)
        rows = train.num_rows
        again = np.random.default_rng([seed, 91]).integers(0, rows, rows)
        kept = figures(train, holdout, train.take(pa.array(again)), metadata, target, seed)
        keep("suite", source.name, "real (bootstrap)", seed, kept)
        for name in (*models, *peers()):
            if name in peers():
                frame, fit, draw = peers()[name](fidelity._frame(train), rows, seed)
                synthetic = fidelity._to_table(frame[train.column_names], train.schema)
            else:
                synthetic, fit, draw = fidelity.drawn(name, source, train, seed, rows)
            kept = figures(train, holdout, synthetic, metadata, target, seed)
            keep("suite", source.name, name, seed, {**kept, "fit": fit, "draw": draw})


def lines(found: dict[tuple[str, str, str], dict[int, dict[str, Any]]], data: str) -> list[str]:
    """The table of the suite: means of the seeds, the figures of each seed, and what was published."""
    rows = {key[2]: seeds for key, seeds in found.items() if key[:2] == ("suite", data)}
    if not rows:
        return []
    title = f"{'suite, 90 / 10':30s} {'seeds':>5s} " + " ".join(f"{name:>9s}" for name in FIGURES)
    out = [title, *(_line(model, list(seeds.values())) for model, seeds in rows.items())]
    several = {model: seeds for model, seeds in rows.items() if len(seeds) > 1}
    for model, seeds in several.items():
        out += [_line(f"  {model}, seed {seed}", [one]) for seed, one in sorted(seeds.items())]
    for entry in json.loads(PUBLISHED.read_text(encoding="utf-8"))["figures"]:
        if entry["table"] == data:
            out.append(_line(f"{entry['model']} ({entry['source']})", [entry], "-"))
    return out


def _line(name: str, rows: list[dict[str, Any]], seeds: str = "") -> str:
    cells = []
    for figure in FIGURES:
        values = [row[figure] for row in rows if row.get(figure) is not None]
        digits = 1 if figure in ("fit", "draw") else 2 if figure in ("shapes", "trends") else 3
        cells.append(f"{np.mean(values):9.{digits}f}" if values else f"{'-':>9s}")
    return f"{name:30s} {seeds or len(rows):>5} " + " ".join(cells)
