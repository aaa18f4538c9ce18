"""The Gaussian copula, stock SDV and ours in one run on the same tables.

usage: python benchmarks/copula.py [--quick] [FOLDER ...]     (default: ../shared/data/adult and mds)

Fit: stock `fit` on the table in memory; ours profile + count + fit from Parquet shards, in one warm process, imports
aside, both given the metadata. Sampling: stock `sample` plus `to_parquet`; ours to Parquet on one core, then with a
process per core; beside them, pyarrow alone writing the same table. Quality: SDMetrics' own report (default thresholds
and all pairs) against the whole table at equal row count, protections on.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from shardsynth.pipeline.threads import available_cpus, limit_threads

limit_threads(1)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from results import peak_mib, record  # noqa: E402

from shardsynth.data.coding import TableCoder  # noqa: E402
from shardsynth.data.metadata import columns as columns_of  # noqa: E402
from shardsynth.data.metadata import detect  # noqa: E402
from shardsynth.data.shards import open_shards, read_batches  # noqa: E402
from shardsynth.data.writer import PartWriter  # noqa: E402
from shardsynth.models.copula_fit import fit_copula  # noqa: E402
from shardsynth.models.gaussian_copula import GaussianCopula  # noqa: E402
from shardsynth.models.guessing import guess_relations  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.profile import Profile, ProfileOptions  # noqa: E402

warnings.filterwarnings("ignore")
BATCH = 32_768


def profile_of(dataset: Any) -> Profile:
    """Pass 1."""
    profile = Profile.empty(dataset.schema, ProfileOptions(total_rows=dataset.rows))
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            profile.update(batch, row)
            row += batch.num_rows
    return profile.cut()


def fit_ours(folder: str, metadata: dict[str, Any]) -> tuple[GaussianCopula, dict[str, float]]:
    """Profile, count and fit; the model and the seconds of each."""
    seconds, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = time.perf_counter() - started
        started = time.perf_counter()

    dataset = open_shards(folder)
    profile = profile_of(dataset)
    columns = columns_of(metadata, dataset.schema)
    coder = TableCoder.from_profile(profile, columns)
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    lap("profile")
    counts = Counts.empty(coder, fit=True, score=None, total_rows=profile.rows, relations=relations)
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            counts.update(batch, row)
            row += batch.num_rows
    lap("count")
    model = GaussianCopula.from_fit(fit_copula(profile, coder, counts, {}), dataset.schema)
    lap("fit")
    return model, seconds


def write_ours(model: GaussianCopula, rows: int, path: Path, first: int = 0) -> float:
    """Seconds to draw and write rows on this core."""
    started = time.perf_counter()
    with PartWriter(path, model.schema) as writer:
        for row in range(first, first + rows, BATCH):
            writer.write(model.draw(0, row, min(BATCH, first + rows - row)))
        writer.close()
    return time.perf_counter() - started


_CHILD = """
import sys, time
from pathlib import Path
from shardsynth.pipeline.threads import limit_threads
limit_threads(1)
sys.path.insert(0, sys.argv[1])
import copula
model = copula.GaussianCopula.load(Path(sys.argv[2]))
copula.write_ours(model, 100_000, Path(sys.argv[3] + '.warm'))
print('ready', flush=True)
sys.stdin.readline()
copula.write_ours(model, int(sys.argv[4]), Path(sys.argv[3]), int(sys.argv[5]))
print('done', flush=True)
"""


def write_on_all_cores(folder: Path, rows: int, target: Path) -> float:
    """Seconds for a process per core, imports and loading aside."""
    cores = available_cpus()
    share = rows // cores
    here = str(Path(__file__).parent)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, here, str(folder), str(target / f"p{i}"), str(share), str(i * share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(cores)
    ]
    for child in children:
        assert child.stdout.readline().strip() == "ready"
    started = time.perf_counter()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        assert child.stdout.readline().strip() == "done"
    seconds = time.perf_counter() - started
    for child in children:
        child.wait()
    return seconds * rows / (share * cores)


def quality(real: Any, synthetic: Any, metadata: dict[str, Any]) -> str:
    """SDMetrics' score at the default thresholds (shapes / pairs), and over all pairs."""
    from sdmetrics.reports.single_table import QualityReport

    (table,) = metadata["tables"].values()
    cells = []
    for thresholds in (None, 0):
        report = QualityReport()
        if thresholds is not None:
            report.real_correlation_threshold = report.real_association_threshold = thresholds
        report.num_rows_subsample = None
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report.generate(real, synthetic, table, verbose=False)
        shapes, pairs = report.get_properties()["Score"]
        cells.append(f"{report.get_score():.4f} ({shapes:.4f} / {pairs:.4f})")
    return "   all pairs ".join(cells)


def compare(folder: str, rows: int) -> list[str]:
    """All figures of one table."""
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    dataset = open_shards(folder)
    real = pa.concat_tables(
        [pa.Table.from_batches(read_batches(s, dataset.schema)) for s in dataset.shards]
    ).to_pandas()
    profile = profile_of(dataset)
    metadata = detect(profile.sample, profile, dataset.schema)
    frame = real.astype({c: object for c in real.columns if str(real[c].dtype) == "category"})
    fit_ours(folder, metadata)  # warm
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        target = Path(scratch)
        stock = GaussianCopulaSynthesizer(Metadata.load_from_dict(metadata))
        started = time.perf_counter()
        stock.fit({"table": frame})
        stock_fit = time.perf_counter() - started
        model, laps = fit_ours(folder, metadata)
        ours_fit = sum(laps.values())
        stock.sample(1000)
        started = time.perf_counter()
        drawn = stock.sample(100_000)
        stock_made = time.perf_counter() - started
        drawn = drawn["table"] if isinstance(drawn, dict) else drawn
        drawn.to_parquet(target / "stock.parquet")
        stock_rate = 100_000 / (time.perf_counter() - started)
        write_ours(model, BATCH, target / "warm.parquet")
        one = write_ours(model, rows, target / "ours.parquet")
        table = pa.Table.from_batches(
            [model.draw(0, r, min(BATCH, rows - r)) for r in range(0, rows, BATCH)]
        ).combine_chunks()
        made = time.perf_counter()
        for row in range(0, rows, BATCH):
            model.draw(0, row, min(BATCH, rows - row))
        made = time.perf_counter() - made
        plain = time.perf_counter()
        pq.write_table(table, target / "plain.parquet")
        plain = time.perf_counter() - plain
        model.save(target / "model")
        both = write_on_all_cores(target / "model", rows, target)
        score_stock = quality(frame, drawn.head(len(frame)), metadata)
        ours = pa.Table.from_batches([model.draw(0, 0, len(real))]).to_pandas()
        score_ours = quality(
            frame, ours.astype({c: object for c in ours.columns if str(ours[c].dtype) == "category"}), metadata
        )
    name = Path(folder).name
    return [
        f"{name}: {dataset.rows:,} x {len(dataset.schema)}",
        f"  fit                stock {stock_fit:8.2f} s    ours {ours_fit:8.3f} s    {stock_fit / ours_fit:8.1f} x   "
        + "  ".join(f"{key} {value:.3f}" for key, value in laps.items()),
        f"  sample, 1 core     stock {stock_rate:8,.0f} rows/s    ours {rows / one:10,.0f} rows/s  {rows / one / stock_rate:8.1f} x",
        f"  sample, {available_cpus()} cores    stock {stock_rate:8,.0f} rows/s    ours {rows / both:10,.0f} rows/s  {rows / both / stock_rate:8.1f} x",
        f"  per million rows   draw {made / rows * 1e6:.3f} s   draw + write {one / rows * 1e6:.3f} s   pyarrow alone writes {plain / rows * 1e6:.3f} s"
        f"   ratio {one / plain:.2f}",
        f"  quality            stock {score_stock}",
        f"                     ours  {score_ours}",
        f"  stock draws {100_000 / stock_made:,.0f} rows/s to a DataFrame",
    ]


_BLOWN_UP = """
import sys, json
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import copula
from results import peak_mib
meta = json.loads(Path(sys.argv[3]).read_text())
model, laps = copula.fit_ours(sys.argv[2], meta)
print(json.dumps([laps, peak_mib()]))
"""


def blown_up(folder: str, rows: int, stock_seconds: float | None = None) -> str:
    """Fit seconds and peak memory for a table repeated to so many rows, in a process of its own on one core."""
    import json

    dataset = open_shards(folder)
    table = pa.concat_tables([pa.Table.from_batches(read_batches(s, dataset.schema)) for s in dataset.shards])
    profile = profile_of(dataset)
    metadata = detect(profile.sample, profile, dataset.schema)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "data"
        shards.mkdir()
        for number, first in enumerate(range(0, rows, 1_000_000)):
            chosen = pa.array(rng.integers(0, table.num_rows, min(1_000_000, rows - first)))
            pq.write_table(table.take(chosen), shards / f"part-{number:05d}.parquet")
        meta = Path(scratch) / "metadata.json"
        meta.write_text(json.dumps(metadata))
        command = [sys.executable, "-c", _BLOWN_UP, str(Path(__file__).parent), str(shards), str(meta)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    laps, peak = json.loads(out.splitlines()[-1])
    total = sum(laps.values())
    detail = "  ".join(f"{key} {value:.1f}" for key, value in laps.items())
    return f"  {Path(folder).name} blown up to {rows:>12,} rows, one core: {total:7.1f} s ({detail})   peak {peak:,.0f} MiB"


def main() -> None:
    """Measure, print, record."""
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    quick = "--quick" in sys.argv
    data = Path(__file__).parents[2] / "shared" / "data"
    folders = arguments or [str(data / "adult"), str(data / "mds")]
    lines = []
    for folder in folders:
        lines += compare(folder, 1_000_000 if not quick else 400_000)
    if not quick:
        lines += [blown_up(folders[0], rows) for rows in (1_000_000, 10_000_000)]
    lines.append(f"peak resident set of this process: {peak_mib():,.0f} MiB")
    record("copula", lines)


if __name__ == "__main__":
    main()
