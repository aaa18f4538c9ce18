"""How faithful, how private, how useful, how fast: every model on the same rows, in one run with stock SDV.

usage: python benchmarks/fidelity.py quality FOLDER [--models ...] [--seeds 0 1 2]
       python benchmarks/fidelity.py privacy FOLDER [--models ...] [--seeds 0 1 2] [--target COLUMN]
       python benchmarks/fidelity.py speed   FOLDER [--models ...]
       python benchmarks/fidelity.py                (all three on ../shared/data/adult and mds, and the table)

`quality`: trained on the whole table; SDMetrics' own report (default thresholds, no subsampling) and our all-pairs score
(the same properties with both thresholds 0) against it at equal row count; 100 - 100 x shapes and 100 - 100 x all pairs
are the error rates that the diffusion literature prints. Fit seconds of ours are profile + count + fit of the table in
memory, imports aside, beside those of stock GaussianCopula in the same run, as CPU seconds and on the clock. Beside the
scores stands `real`: one half of the rows against the other. `privacy`: trained on one half of the rows, the other half
being the holdout: share of rows closer to training than to holdout rows (0.5 is a model that copies nothing), exact
matches, classifier two-sample test, train on synthetic over train on real. `speed`: rows a second to Parquet on all
cores, and under conditions. Each piece adds its lines to results/fidelity.jsonl; the table is made of the latest line of
each. Run in pieces, none takes ten minutes on two cores; stock CTGAN and CopulaGAN do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TQDM_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
from results import machine, record  # noqa: E402

from shardsynth.data.coding import TableCoder  # noqa: E402
from shardsynth.data.metadata import columns as columns_of  # noqa: E402
from shardsynth.data.metadata import detect, keys_of  # noqa: E402
from shardsynth.data.shards import open_shards, read_batches  # noqa: E402
from shardsynth.metrics.quality import quality as our_quality  # noqa: E402
from shardsynth.models.base import Fitting, Model  # noqa: E402
from shardsynth.models.guessing import guess_relations  # noqa: E402
from shardsynth.models.native import NATIVE  # noqa: E402
from shardsynth.pipeline.threads import available_cpus  # noqa: E402
from shardsynth.sampling.identifiers import learn_all  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.profile import Profile, ProfileOptions  # noqa: E402
from shardsynth.summaries.ranges import ScoreRanges  # noqa: E402

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parent / "results" / "fidelity.jsonl"
DATA = Path(__file__).parents[2] / "shared" / "data"
#: Name here -> (family, options). Deep models at SDV's defaults.
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoregressive": ("autoregressive", {}),
    "autoregressive, order: fixed": ("autoregressive", {"order": "fixed"}),
    "gaussian_copula": ("gaussian_copula", {}),
    "tvae": ("tvae", {}),
    "ctgan": ("ctgan", {}),
    "copulagan": ("copulagan", {}),
}
STOCK = {
    "stock GaussianCopula": "GaussianCopulaSynthesizer",
    "stock TVAE": "TVAESynthesizer",
    "stock CTGAN": "CTGANSynthesizer",
    "stock CopulaGAN": "CopulaGANSynthesizer",
}


class Source(NamedTuple):
    """A table on disk and its metadata."""

    folder: Path
    table: pa.Table
    metadata: dict[str, Any]


class Prepared(NamedTuple):
    """What the native fits are given."""

    profile: Profile
    coder: TableCoder
    counts: Counts
    relations: list[Any]
    columns: list[Any]


def read(folder: Path) -> Source:
    dataset = open_shards(str(folder))
    tables = [pa.Table.from_batches(read_batches(s, dataset.schema)) for s in dataset.shards]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    profile = _profile(table)
    return Source(folder, table, detect(profile.sample, profile, table.schema))


def _batches(table: pa.Table) -> list[pa.RecordBatch]:
    return list(table.to_batches(max_chunksize=32_768))


def _profile(table: pa.Table) -> Profile:
    profile, row = Profile.empty(table.schema, ProfileOptions(total_rows=table.num_rows)), 0
    for batch in _batches(table):
        profile.update(batch, row)
        row += batch.num_rows
    return profile.cut()


def prepare(table: pa.Table, metadata: dict[str, Any]) -> Prepared:
    """Profile and count."""
    profile = _profile(table)
    columns = columns_of(metadata, table.schema)
    coder = TableCoder.from_profile(profile, columns)
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    counts, row = Counts.empty(coder, fit=True, score=None, total_rows=profile.rows, relations=relations), 0
    for batch in _batches(table):
        counts.update(batch, row)
        row += batch.num_rows
    return Prepared(profile, coder, counts, relations, columns)


class Spent(NamedTuple):
    """Seconds on the clock, and of all CPUs together (all that means anything while others use the machine)."""

    wall: float
    cpu: float


class Clock:
    """Starts when made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        """Seconds since."""
        return Spent(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def threads() -> int:
    """CPU threads of everything that is measured."""
    import torch

    return torch.get_num_threads()


def fit_ours(name: str, source: Source, table: pa.Table, seed: int) -> tuple[Model, Spent]:
    """A native model, and what profile, count and fit took."""
    family, options = OURS[name]
    clock = Clock()
    p = prepare(table, source.metadata)
    generators = learn_all(p.profile.sample, p.columns, keys_of(source.metadata), seed=seed)
    given = Fitting(
        p.profile, p.coder, p.counts, p.relations, table.schema, p.columns, options, generators, seed, family,
        threads() if NATIVE[family].trains else 1,
    )  # fmt: skip
    model = NATIVE[family].fit(given).model
    return model, clock.read()


def _frame(table: pa.Table) -> Any:
    frame = table.to_pandas()
    return frame.astype({c: object for c in frame.columns if str(frame[c].dtype) == "category"})


def fit_stock(name: str, source: Source, table: pa.Table, seed: int) -> tuple[Any, Spent]:
    """A stock synthesizer, and what its fit on the table in memory took."""
    import torch
    from sdv import single_table
    from sdv.metadata import Metadata

    np.random.seed(seed)
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = getattr(single_table, STOCK[name])(Metadata.load_from_dict(source.metadata))
        frame = _frame(table)
        clock = Clock()
        made.fit({"table": frame})
    return made, clock.read()


def _stock_rows(made: Any, rows: int) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        drawn = made.sample(rows)
    return drawn["table"] if isinstance(drawn, dict) else drawn


def _to_table(frame: Any, schema: pa.Schema) -> pa.Table:
    """Stock rows in the table's schema, as far as their values fit."""
    arrays = []
    for field in schema:
        values = pa.array(frame[field.name], from_pandas=True)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        values = values.cast(kind, safe=False)
        arrays.append(values.dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else values)
    return pa.table(arrays, schema=schema)


def fitted(name: str, source: Source, table: pa.Table, seed: int, rows: int) -> tuple[pa.Table, Spent, Any]:
    """Synthetic rows, what the fit took, the model."""
    if name in OURS:
        model, seconds = fit_ours(name, source, table, seed)
        return pa.Table.from_batches([model.draw(seed, 0, rows)]), seconds, model
    made, seconds = fit_stock(name, source, table, seed)
    return _to_table(_stock_rows(made, rows), table.schema), seconds, made


def sdmetrics_score(real: pa.Table, synthetic: pa.Table, metadata: dict[str, Any]) -> tuple[float, float, float]:
    """SDMetrics' score, shapes and pairs at its default thresholds."""
    from sdmetrics.reports.single_table import QualityReport

    (table,) = metadata["tables"].values()
    report = QualityReport()
    report.num_rows_subsample = None
    with contextlib.redirect_stdout(io.StringIO()):
        report.generate(_frame(real), _frame(synthetic), table, verbose=False)
    shapes, pairs = report.get_properties()["Score"]
    return float(report.get_score()), float(shapes), float(pairs)


def all_pairs(coder: TableCoder, real: pa.Table, synthetic: pa.Table) -> dict[str, float]:
    """Our all-pairs score of two tables."""
    counted = []
    for table in (real, synthetic):
        ranges = ScoreRanges.empty(coder.columns)
        for batch in _batches(table):
            ranges.update(batch)
        counts, row = Counts.empty(coder, fit=False, score=ranges), 0
        for batch in _batches(table):
            counts.update(batch, row)
            row += batch.num_rows
        counted.append(counts)
    found: dict[str, float] = our_quality(counted[0], counted[1], coder)["all_pairs"]
    return found


def halves(table: pa.Table, seed: int) -> tuple[pa.Table, pa.Table]:
    order = np.random.default_rng([seed, 17]).permutation(table.num_rows)
    middle = table.num_rows // 2
    return tuple(table.take(pa.array(np.sort(part))) for part in (order[:middle], order[middle : 2 * middle]))  # type: ignore[return-value]


def quality(source: Source, models: list[str], seeds: list[int]) -> None:
    table = source.table
    coder = prepare(table, source.metadata).coder
    first, second = halves(table, 0)
    scores = sdmetrics_score(first, second, source.metadata)
    every = all_pairs(coder, first, second)
    keep("quality", source, "real (the other half)", 0, scores=scores, all_pairs=every)
    fit_ours("gaussian_copula", source, table, 0)  # warm
    _, base = fit_stock("stock GaussianCopula", source, table, 0)
    for seed in seeds:
        for name in models:
            synthetic, spent, _ = fitted(name, source, table, seed, table.num_rows)
            scores = sdmetrics_score(table, synthetic, source.metadata)
            every = all_pairs(coder, table, synthetic)
            keep("quality", source, name, seed, scores=scores, all_pairs=every, seconds=spent, stock_seconds=base)


def privacy(source: Source, models: list[str], seeds: list[int], target: str | None) -> None:
    from shardsynth.metrics.detection import detection
    from shardsynth.metrics.privacy import Reference, compare
    from shardsynth.metrics.privacy import privacy as judged
    from shardsynth.metrics.utility import utility

    for seed in seeds:
        train, holdout = halves(source.table, seed)
        coder = prepare(train, source.metadata).coder
        reference = Reference(coder, train, holdout, seed)
        for name in models:
            synthetic, _, _ = fitted(name, source, train, seed, train.num_rows)
            points = reference.space.encode(synthetic)
            searched = np.zeros(len(points), np.bool_)
            searched[: min(len(points), 10_000)] = True
            found = judged(reference, points, compare(reference, points, searched), synthetic.num_rows)
            more: dict[str, Any] = {"dcr": found["closest_record"], "exact": found.get("exact_matches")}
            more["c2st"] = detection(coder, train, holdout, synthetic, seed)
            if target:
                more["utility"] = utility(coder, target, train, holdout, synthetic, seed)
            keep("privacy", source, name, seed, **more)


_CHILD = """
import sys, time
from pathlib import Path
from shardsynth.pipeline.threads import limit_threads
limit_threads(1)
sys.path.insert(0, sys.argv[1])
import fidelity
fidelity.child(*sys.argv[2:])
"""


def child(family: str, folder: str, target: str, rows: str, first: str, where: str = "") -> None:
    """One core's share of the rows, drawn and written; imports, loading and the first block aside."""
    from shardsynth.data.writer import PartWriter
    from shardsynth.models.native import load_native
    from shardsynth.sampling.conditions import parse_conditions

    model = load_native(Path(folder), family)
    conditions = model.prepare(parse_conditions(where)) if where else None

    def write(path: str, start: int, n: int) -> None:
        with PartWriter(Path(path), model.schema, dictionary_columns=model.dictionary_columns) as writer:
            for row in range(start, start + n, 65_536):
                writer.write(model.draw(0, row, min(65_536, start + n - row), conditions))
            writer.close()

    write(target + ".warm", 0, 8_192)
    print("ready", flush=True)
    sys.stdin.readline()
    write(target, int(first), int(rows))
    print("done", flush=True)


def rows_per_second(family: str, folder: Path, rows: int, target: Path, where: str = "") -> float:
    """Rows a second to Parquet with a process per core."""
    import subprocess

    cores = available_cpus()
    share = rows // cores
    here, target = str(Path(__file__).parent), Path(tempfile.mkdtemp(dir=target))
    children = []
    for i in range(cores):
        command = [sys.executable, "-c", _CHILD, here, family, str(folder), str(target / f"p{i}"), str(share)]
        command += [str(i * share), where]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for one in children:
        assert one.stdout is not None and one.stdout.readline().strip() == "ready"
    started = time.perf_counter()
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in children:
        assert one.stdout is not None and one.stdout.readline().strip() == "done"
    seconds = time.perf_counter() - started
    for one in children:
        one.wait()
    return share * cores / seconds


def speed(source: Source, models: list[str], rows: int, where: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        stock, _ = fit_stock("stock GaussianCopula", source, source.table, 0)
        _stock_rows(stock, 1000)
        started = time.perf_counter()
        _stock_rows(stock, 100_000).to_parquet(target / "stock.parquet")
        base = 100_000 / (time.perf_counter() - started)
        keep("speed", source, "stock GaussianCopula", 0, rows_per_second=base)
        for name in models:
            if name not in OURS:
                continue
            model, _ = fit_ours(name, source, source.table, 0)
            folder = target / f"model{len(list(target.iterdir()))}"
            model.save(folder)
            rate = rows_per_second(OURS[name][0], folder, rows, target)
            under = {w: rows_per_second(OURS[name][0], folder, rows, target, w) for w in where}
            keep("speed", source, name, 0, rows_per_second=rate, stock_rows_per_second=base, under=under)


def keep(piece: str, source: Source, model: str, seed: int, **found: Any) -> None:
    """Print a finding, and add it to the results."""
    line = {"piece": piece, "table": source.folder.name, "model": model, "seed": seed, **found}
    line |= {"threads": threads(), "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    print(json.dumps(line), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _latest() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Findings by piece, table and model: the latest of each seed."""
    found: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for text in RESULTS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        found.setdefault((line["piece"], line["table"], line["model"]), {})[line["seed"]] = line
    return {key: list(by_seed.values()) for key, by_seed in found.items()}


def _mean(values: list[float | None]) -> str:
    kept = [v for v in values if v is not None]
    if not kept:
        return "-"
    spread = f" ±{np.std(kept, ddof=1):.4f}" if len(kept) > 1 else ""
    return f"{np.mean(kept):.4f}{spread}"


def table_lines() -> list[str]:
    """The one table."""
    found, lines = _latest(), []
    for data in sorted({key[1] for key in found}):
        lines += [f"## {data}", ""]
        lines.append(
            f"{'model':30s} {'seeds':>5s} {'score':>15s} {'shapes':>15s} {'pairs':>15s} {'all pairs':>15s} "
            f"{'error % s/p':>12s} {'cpu s':>7s} {'x stock GC':>10s} {'on clock':>10s}"
        )
        for key, rows in found.items():
            if key[:2] != ("quality", data):
                continue
            score, shapes, pairs = ([r["scores"][i] for r in rows] for i in range(3))
            every = [r["all_pairs"]["column_pair_trends"] for r in rows]
            errors = f"{100 - 100 * np.mean(shapes):.2f}/{100 - 100 * np.mean(every):.2f}"
            timed = [r for r in rows if "seconds" in r]
            cpu = f"{np.mean([r['seconds'][1] for r in timed]):.1f}" if timed else "-"
            times = ["-", "-"]
            if timed:
                times = [f"{np.mean([r['seconds'][i] / r['stock_seconds'][i] for r in timed]):.2f}" for i in (1, 0)]
            lines.append(
                f"{key[2]:30s} {len(rows):5d} {_mean(score):>15s} {_mean(shapes):>15s} {_mean(pairs):>15s} "
                f"{_mean(every):>15s} {errors:>12s} {cpu:>7s} {times[0]:>10s} {times[1]:>10s}"
            )
        lines += [
            "",
            f"{'model':30s} {'seeds':>5s} {'DCR share':>15s} {'exact':>10s} {'C2ST AUC':>15s} {'TSTR/TRTR':>20s}",
        ]
        for key, rows in found.items():
            if key[:2] != ("privacy", data):
                continue
            share = [_figure(r["dcr"], "closer_to_training") for r in rows]
            exact = [_figure(r.get("exact"), "share") for r in rows]
            area = [_figure(r.get("c2st"), "auc") for r in rows]
            ratio = [_ratio(r.get("utility") or {}) for r in rows]
            lines.append(
                f"{key[2]:30s} {len(rows):5d} {_mean(share):>15s} {_mean(exact):>10s} {_mean(area):>15s} "
                f"{_mean(ratio):>20s}"
            )
        lines += ["", f"{'model':30s} {'rows/s':>12s} {'x stock GC':>10s}   under conditions"]
        for key, rows in found.items():
            if key[:2] != ("speed", data):
                continue
            row = rows[-1]
            base = row.get("stock_rows_per_second")
            under = "; ".join(f"{w}: {rate:,.0f}" for w, rate in row.get("under", {}).items())
            times = f"{row['rows_per_second'] / base:.1f}" if base else "1.0"
            lines.append(f"{key[2]:30s} {row['rows_per_second']:12,.0f} {times:>10s}   {under}")
        lines.append("")
    return lines


def _figure(found: dict[str, Any] | None, *names: str) -> float | None:
    for name in names:
        if found and isinstance(found.get(name), (int, float)):
            return float(found[name])
    return None


def _ratio(found: dict[str, Any]) -> float | None:
    synthetic, real = (_figure(found, side) for side in ("train_synthetic", "train_real"))
    return synthetic / real if synthetic is not None and real else None


WHERE = {
    "adult": ['sex == "Female" and education == "Bachelors" and 30 <= age < 40'],
    "mds": ['SEX == "F" and 60 <= AGE < 80 and SF3B1 == 1'],
}
TARGET = {"adult": "income", "mds": None}


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", nargs="?", choices=("quality", "privacy", "speed", "table"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--target")
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--threads", type=int, default=available_cpus())
    given = parser.parse_args()
    if given.piece != "table":
        import torch

        torch.set_num_threads(given.threads)
    autoregressive = [name for name in OURS if name.startswith("autoregressive")]
    if given.piece is not None and given.piece != "table" and given.folder is None:
        parser.error("wanted a folder of shards")
    for folder in [given.folder] if given.folder else [DATA / "adult", DATA / "mds"]:
        if given.piece == "table":
            break
        source = read(folder)
        name = folder.name
        if given.piece in (None, "quality"):
            models = given.models or [*autoregressive, "gaussian_copula", "stock GaussianCopula"]
            quality(source, models, given.seeds)
        if given.piece in (None, "privacy"):
            target = given.target or TARGET.get(name)
            privacy(source, given.models or [*autoregressive, "gaussian_copula"], given.seeds, target)
        if given.piece in (None, "speed"):
            speed(source, given.models or [*autoregressive, "gaussian_copula"], given.rows, WHERE.get(name, []))
    record("fidelity", table_lines())


if __name__ == "__main__":
    main()
