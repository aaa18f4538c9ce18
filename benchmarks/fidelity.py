"""How faithful, how private, how useful, how fast: every model on the same rows, in one run with stock SDV.

usage: python benchmarks/fidelity.py [PIECE [FOLDER ...]] [--models ...] [--seeds ...] [--target COLUMN] [--where ...]
       python benchmarks/fidelity.py --suite FOLDER ... [--models ...] [--seeds ...] [--target COLUMN]

Without a piece: all of them, on Adult and MDS under ../shared/data. A folder of shards measures any table. Each piece
adds its lines to results/fidelity.jsonl; the table, results/fidelity.txt, is made of the latest line of each. On two
cores no piece takes ten minutes for the default models; stock CTGAN and CopulaGAN do. The seconds of `quality` and all of
`speed` want a quiet machine.

`quality`: trained on the whole table. SDMetrics' own report (default thresholds, no subsampling) and our all-pairs score
(the same properties with both thresholds 0) against the training rows at equal row count. 100 - 100 x shapes and
100 - 100 x all pairs are the error rates that the diffusion literature prints. `real` is one half of the rows scored
against the other. Seconds are of profile + count + fit of the table in memory, imports aside, over what stock
GaussianCopula's fit takes just before.
`privacy`: trained on one half of the rows, the other half being the holdout; another split for each seed, and of a small
table each split both ways, since there the halves differ by more than what is to be seen. Share of the
synthetic rows that are closer to training than to holdout rows (0.5 is a model that copies nothing), exact matches
(beside it those of the holdout), classifier two-sample test, train on synthetic over train on real.
`conditions`: rows drawn under conditions scored (all pairs) against the rows that meet them of a large unconditional
sample of the same model; beside it, two halves of that sample against each other (as well as can be), and the same
rows drawn without the conditions (what would be wrong).
`speed`: rows a second to Parquet on all cores, without and under conditions, over stock GaussianCopula's.

`--suite FOLDER ...`: the literature's evaluation (`suite.py`) of these tables: three splits 90 / 10, our models, stock
SDV's and peers that are installed (mostlyai-engine), beside published figures (`published.json`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
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
import suite  # noqa: E402
from fidelity_table import keep, latest, table_lines  # noqa: E402
from results import record  # noqa: E402

from shardsynth.data.coding import TableCoder  # noqa: E402
from shardsynth.data.detection import detect  # noqa: E402
from shardsynth.data.ends import EndRule  # noqa: E402
from shardsynth.data.metadata import columns as columns_of  # noqa: E402
from shardsynth.data.metadata import keys_of  # noqa: E402
from shardsynth.data.shards import open_shards, read_batches  # noqa: E402
from shardsynth.metrics.quality import quality as our_quality  # noqa: E402
from shardsynth.models.base import FitSetup, Fitting, NativeModel  # noqa: E402
from shardsynth.models.columns.guess_relations import guess_relations  # noqa: E402
from shardsynth.models.families import NATIVE  # noqa: E402
from shardsynth.sampling.identifiers import learn_all  # noqa: E402
from shardsynth.standalone.cpus import available_cpus  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.profile import Profile, ProfileOptions  # noqa: E402
from shardsynth.summaries.ranges import ScoreRanges  # noqa: E402

warnings.filterwarnings("ignore")
DATA = Path(__file__).parents[2] / "shared" / "data"
_BASE = "stock GaussianCopula"
#: A table of fewer rows is halved more often.
_SMALL = 10_000
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

    name: str
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
    return Source(folder.name, table, detect(profile.sample, profile, table.schema))


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
    coder = TableCoder.from_profile(profile, columns, ends=EndRule())
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    counts, row = Counts.empty(coder, fit=True, score=None, total_rows=profile.rows, relations=relations), 0
    for batch in _batches(table):
        counts.update(batch, row)
        row += batch.num_rows
    return Prepared(profile, coder, counts, relations, columns)


def threads() -> int:
    """CPU threads of everything that is measured."""
    import torch

    return torch.get_num_threads()


def fit_ours(name: str, source: Source, table: pa.Table, seed: int) -> tuple[NativeModel, float]:
    """A native model, and the seconds of profile, count and fit."""
    family, options = OURS[name]
    started = time.perf_counter()
    p = prepare(table, source.metadata)
    generators = learn_all(p.profile.sample, p.columns, keys_of(source.metadata), seed=seed)
    used = threads() if NATIVE[family].trains else 1
    setup = FitSetup(table.schema, p.columns, p.coder, options, generators, seed, family, used)
    model = NATIVE[family].fit(Fitting(setup, p.profile, p.counts, p.relations)).model
    return model, time.perf_counter() - started


def _frame(table: pa.Table) -> Any:
    frame = table.to_pandas()
    return frame.astype({c: object for c in frame.columns if str(frame[c].dtype) == "category"})


def fit_stock(name: str, source: Source, table: pa.Table, seed: int) -> tuple[Any, float]:
    """A stock synthesizer, and the seconds of its fit on the table in memory."""
    import torch
    from sdv import single_table
    from sdv.metadata import Metadata

    np.random.seed(seed)
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = getattr(single_table, STOCK[name])(Metadata.load_from_dict(source.metadata))
        frame = _frame(table)
        started = time.perf_counter()
        made.fit({"table": frame})
    return made, time.perf_counter() - started


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


def drawn(name: str, source: Source, table: pa.Table, seed: int, rows: int) -> tuple[pa.Table, float, float]:
    """Synthetic rows of a model fitted on a table, the seconds of the fit and those of drawing."""
    if name in OURS:
        model, seconds = fit_ours(name, source, table, seed)
        started = time.perf_counter()
        batch = model.draw(seed, 0, rows)
        return pa.Table.from_batches([batch]), seconds, time.perf_counter() - started
    made, seconds = fit_stock(name, source, table, seed)
    started = time.perf_counter()
    frame = _stock_rows(made, rows)
    return _to_table(frame, table.schema), seconds, time.perf_counter() - started


def fitted(name: str, source: Source, table: pa.Table, seed: int, rows: int) -> tuple[pa.Table, float]:
    """Synthetic rows of a model fitted on a table, and the seconds of the fit."""
    return drawn(name, source, table, seed, rows)[:2]


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

    def scores(real: pa.Table, synthetic: pa.Table) -> dict[str, Any]:
        score, shapes, pairs = sdmetrics_score(real, synthetic, source.metadata)
        every = all_pairs(coder, real, synthetic)["column_pair_trends"]
        return {"score": score, "shapes": shapes, "pairs": pairs, "all_pairs": every}

    keep("quality", source.name, "real (half against half)", 0, scores(first, second))
    fit_ours("gaussian_copula", source, table, 0)  # imports, and caches that fill once
    for seed in seeds:
        base = 0.0
        for name in (_BASE, *models):
            synthetic, seconds = fitted(name, source, table, seed, table.num_rows)
            base = seconds if name == _BASE else base
            figures = {**scores(table, synthetic), "seconds": seconds, "times": seconds / base}
            keep("quality", source.name, name, seed, figures)


def privacy(source: Source, models: list[str], seeds: list[int], target: str | None) -> None:
    from shardsynth.metrics.detection import detection
    from shardsynth.metrics.privacy import Reference, compare
    from shardsynth.metrics.privacy import privacy as judged
    from shardsynth.metrics.utility import utility

    def figures(name: str, seed: int, train: pa.Table, holdout: pa.Table) -> dict[str, float]:
        coder = prepare(train, source.metadata).coder
        reference = Reference(coder, train, holdout, seed)
        synthetic, _ = fitted(name, source, train, seed, train.num_rows)
        points = reference.space.encode(synthetic)
        searched = np.zeros(len(points), np.bool_)
        searched[: min(len(points), 10_000)] = True
        found = judged(reference, points, compare(reference, points, searched), synthetic.num_rows)
        exact = found["exact_matches"]
        figures = {
            "closer": found["closest_record"]["closer_to_training"],
            "exact": exact["share"],
            "exact_holdout": exact["holdout_share"],
            "c2st": detection(coder, train, holdout, synthetic, seed)["auc"],
        }
        if target:
            of = utility(coder, target, train, holdout, synthetic, seed)
            figures |= {"trtr": of["train_real"], "tstr": of["train_synthetic"]}
        return figures

    for seed in seeds:
        first, second = halves(source.table, seed)
        sides = [(first, second), (second, first)] if len(first) < _SMALL // 2 else [(first, second)]
        for name in models:
            found = [figures(name, seed, *side) for side in sides]
            keep("privacy", source.name, name, seed, {key: float(np.mean([f[key] for f in found])) for key in found[0]})


def conditions(source: Source, models: list[str], where: list[str], rows: int) -> None:
    from shardsynth.sampling.conditions import parse_conditions
    from shardsynth.sampling.constraints.conditions import meets

    coder = prepare(source.table, source.metadata).coder
    for name in models:
        if name not in OURS:
            continue
        model, _ = fit_ours(name, source, source.table, 0)
        batches = [model.draw(0, row, min(65_536, rows - row)) for row in range(0, rows, 65_536)]
        plain = pa.Table.from_batches(batches)
        for text in where:
            wanted = parse_conditions(text)
            kept = [batch.filter(pa.array(meets(wanted.tests, batch))) for batch in batches]
            met = pa.Table.from_batches(kept)
            half = met.num_rows // 2
            batch = model.draw(1, 0, half, wanted)
            rows_drawn, wrong = pa.Table.from_batches([batch]), int((~meets(wanted.tests, batch)).sum())
            first, second = (met.slice(start, half) for start in (0, half))
            figures = {
                "where": text, "rows": half, "wrong": wrong,
                "drawn": all_pairs(coder, first, rows_drawn)["score"], "filtered": all_pairs(coder, first, second)["score"],
                "unconditional": all_pairs(coder, first, plain.slice(0, half))["score"],
            }  # fmt: skip
            keep("conditions", source.name, name, 0, figures)


_CHILD = """
import sys, time
from pathlib import Path
from shardsynth.standalone.cpus import limit_threads
limit_threads(1)
sys.path.insert(0, sys.argv[1])
import fidelity
fidelity.child(*sys.argv[2:])
"""


def child(family: str, folder: str, target: str, rows: str, first: str, where: str = "") -> None:
    """One core's share of the rows, drawn and written; imports, loading and the first block aside."""
    from shardsynth.models.families import load_native
    from shardsynth.sampling.conditions import parse_conditions
    from shardsynth.sources.parts import write_part
    from shardsynth.sources.sources import NativeSource

    model = load_native(Path(folder), family)
    source = NativeSource(model, 0, model.prepare(parse_conditions(where)) if where else None)

    def write(path: str, start: int, n: int) -> None:
        write_part(Path(path), model.schema, source, range(start, start + n), lambda batch: None)

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


def speed(source: Source, models: list[str], where: list[str], rows: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        stock, _ = fit_stock(_BASE, source, source.table, 0)
        _stock_rows(stock, 1000)
        started = time.perf_counter()
        _stock_rows(stock, 100_000).to_parquet(target / "stock.parquet")
        base = 100_000 / (time.perf_counter() - started)
        keep("speed", source.name, _BASE, 0, {"rows_per_second": base, "times": 1.0})
        for name in models:
            if name not in OURS:
                continue
            model, _ = fit_ours(name, source, source.table, 0)
            folder = Path(tempfile.mkdtemp(dir=target))
            model.save(folder)
            rate = rows_per_second(OURS[name][0], folder, rows, target)
            asked = [] if "fixed" in name else where  # there, conditions on late columns cost proposals
            under = {text: rows_per_second(OURS[name][0], folder, rows, target, text) for text in asked}
            figures = {"rows_per_second": rate, "times": rate / base, "under": under}
            keep("speed", source.name, name, 0, figures)


#: Conditions on three columns, and what is to be predicted.
WHERE = {
    "adult": ['sex == "Female" and education == "Bachelors" and 30 <= age < 40'],
    "mds": ['SEX == "F" and 60 <= AGE < 80 and SF3B1 == 1'],
}
TARGET = {"adult": "income"}
#: Models of the suite, besides peers.
SUITE = ["autoregressive", "gaussian_copula", "stock GaussianCopula", "stock TVAE", "stock CTGAN"]
AUTOREGRESSIVE = [name for name in OURS if name.startswith("autoregressive")]


def main() -> None:
    """Measure, print, record."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pieces = ("quality", "privacy", "conditions", "speed")
    parser.add_argument("piece", nargs="?", choices=(*pieces, "table"))
    parser.add_argument("folders", nargs="*", type=Path, default=[DATA / "adult", DATA / "mds"])
    parser.add_argument(
        "--suite", nargs="+", type=Path, metavar="FOLDER", help="the literature's suite on these tables"
    )
    parser.add_argument("--models", nargs="+", choices=[*OURS, *STOCK])
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="default: 0 1 2; privacy of fewer than 10,000 rows: 0 to 4"
    )
    parser.add_argument("--target", help="column to be predicted")
    parser.add_argument("--where", nargs="+", help="conditions, such as 'age >= 60'")
    parser.add_argument("--threads", type=int, default=available_cpus())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.suite:
        for folder in given.suite:
            suite.run(read(folder), given.models or SUITE, given.seeds or [0, 1, 2], given.target)
        tables = [
            line
            for folder in given.suite
            for line in (f"## {folder.name}", "", *suite.lines(latest(), folder.name), "")
        ]
        record("suite", [f"the booster is {suite.booster_name()}", "", *tables])
        return
    ours = given.models or [*AUTOREGRESSIVE, "gaussian_copula"]
    for folder in given.folders if given.piece != "table" else []:
        source = read(folder)
        where = given.where or WHERE.get(source.name, [])
        for piece in pieces if given.piece is None else (given.piece,):
            if piece == "quality":
                quality(source, ours, given.seeds or [0, 1, 2])
            if piece == "privacy":
                seeds = given.seeds or list(range(5 if source.table.num_rows < _SMALL else 3))
                privacy(source, ours, seeds, given.target or TARGET.get(source.name))
            if piece == "conditions":
                conditions(source, given.models or AUTOREGRESSIVE, where, 600_000)
            if piece == "speed":
                speed(source, ours, where, 600_000)
    record("fidelity", table_lines())


if __name__ == "__main__":
    main()
