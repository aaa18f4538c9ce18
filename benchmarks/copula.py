"""The Gaussian copula, stock SDV and ours in one run on the same tables.

usage: python benchmarks/copula.py [fit] [sample] [quality] [conditions] [large]     (default: all)

fit      stock `fit` on the table in memory; ours profile + count + fit from Parquet shards, in one warm process on one
         core, imports aside, both given the metadata; then Adult drawn up to 10^6 and 10^7 rows, with peak memory.
sample   stock `sample` plus `to_parquet`; ours to Parquet, the process held to one core, then a process per core; beside
         them, pyarrow alone writing the same table, by its defaults and with our writer's settings; and where the time goes.
quality  SDMetrics' own report (default thresholds, and all pairs) against the whole table at equal row count, with the
         default protections.
conditions  a condition of 1 %, and three intervals of 1 % together, in stock SDV and in ours.
large    10^8 rows as 100 tasks from a saved model, checked and thrown away part by part.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardsynth.standalone.cpus import available_cpus, limit_threads

limit_threads(1)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from results import record  # noqa: E402

from shardsynth.data.coding import TableCoder  # noqa: E402
from shardsynth.data.detection import detect  # noqa: E402
from shardsynth.data.ends import EndRule  # noqa: E402
from shardsynth.data.metadata import columns as columns_of  # noqa: E402
from shardsynth.data.metadata import keys_of  # noqa: E402
from shardsynth.data.shards import open_shards, read_batches  # noqa: E402
from shardsynth.data.writer import PartWriter  # noqa: E402
from shardsynth.models.columns.guess_relations import guess_relations  # noqa: E402
from shardsynth.models.columns.marginals import Protection  # noqa: E402
from shardsynth.models.copula.arrays import Arrays  # noqa: E402
from shardsynth.models.copula.fit import fit_copula  # noqa: E402
from shardsynth.models.copula.guess_missing_rules import guess_rules  # noqa: E402
from shardsynth.models.copula.model import GaussianCopula  # noqa: E402
from shardsynth.sampling.identifiers import learn_all  # noqa: E402
from shardsynth.sampling.streams import lanes, random_words, stream_key  # noqa: E402
from shardsynth.sources.parts import write_part  # noqa: E402
from shardsynth.sources.sources import NativeSource  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.profile import Profile, ProfileOptions  # noqa: E402

warnings.filterwarnings("ignore")
DATA = Path(__file__).parents[2] / "shared" / "data"
BATCH = 65_536  # as a sampling task draws
STOCK_ROWS = 100_000


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
    coder = TableCoder.from_profile(profile, columns, ends=EndRule())
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    generators = learn_all(profile.sample, columns, keys_of(metadata), seed=0)
    lap("profile")
    counts = Counts.empty(coder, fit=True, score=None, total_rows=profile.rows, relations=relations)
    row = 0
    for shard in dataset.shards:
        for batch in read_batches(shard, dataset.schema):
            counts.update(batch, row)
            row += batch.num_rows
    lap("count")
    fitted = fit_copula(profile, coder, counts, {}, relations)
    model = GaussianCopula.from_fit(fitted, dataset.schema, columns, generators=generators)
    known = (fitted.columns, fitted.latents, fitted.relations, profile.sample, coder, counts, Protection(), None)
    model = model.with_rules(guess_rules(*known))
    lap("fit")
    return model, seconds


def write_ours(model: GaussianCopula, rows: int, path: Path, first: int = 0) -> float:
    """Seconds to draw and write rows: what a sampling task does."""
    source = NativeSource(model, 0)
    source.for_writing()
    started = time.perf_counter()
    write_part(path, model.schema, source, range(first, first + rows), lambda batch: None)
    return time.perf_counter() - started


@contextlib.contextmanager
def one_core() -> Any:
    """This process on a single core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def best(measure: Callable[[], float], times: int = 3) -> float:
    """The least of several measurements: what the machine's other tenants took from."""
    return min(measure() for _ in range(times))


def timed(body: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    body()
    return time.perf_counter() - started


_CHILD = """
import os, sys
from pathlib import Path
from shardsynth.standalone.cpus import limit_threads
limit_threads(1)
sys.path.insert(0, sys.argv[1])
import copula
number, rows = int(sys.argv[4]), int(sys.argv[5])
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
model = copula.GaussianCopula.load(Path(sys.argv[2]))
for turn in sys.stdin:
    copula.write_ours(model, rows, Path(f'{sys.argv[3]}-{turn.strip()}'), number * rows)
    print('done', flush=True)
from results import peak_mib
print(peak_mib())
"""


def write_on_all_cores(folder: Path, rows: int, target: Path, turns: int = 10) -> tuple[float, float]:
    """Seconds for a process per core, imports, loading and a first turn aside; and the largest peak in MiB."""
    cores = available_cpus()
    share = rows // cores
    here = str(Path(__file__).parent)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, here, str(folder), str(target / f"p{i}"), str(i), str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(cores)
    ]
    seconds = []
    for turn in range(turns):
        started = time.perf_counter()
        for child in children:
            assert child.stdin is not None
            child.stdin.write(f"{turn}\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "done"
        seconds.append(time.perf_counter() - started)
    peak = max(float(child.communicate()[0]) for child in children)
    return min(seconds[1:]) * rows / (share * cores), peak


def where_the_time_goes(model: GaussianCopula, rows: int) -> str:
    """Seconds per million rows of each part, on this core."""
    kernel = model._sampler[1]
    layout, key, xp = kernel.layout, stream_key(0, model.name), Arrays()
    step = xp.batch_rows(len(model.latents))
    words = random_words(key, 0, step, layout.words)
    bits = lanes(words)[:, 2 * layout.spreads : 2 * layout.spreads + layout.deviates]
    tables = [pa.Table.from_batches([model.draw(0, 0, BATCH)]) for _ in range(2)]
    table = pa.concat_tables(tables).combine_chunks()

    def write() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            writer = PartWriter(
                Path(scratch) / "p", model.schema, dictionary_columns=model.dictionary_columns, background=False
            )
            with writer:
                writer.write(table.to_batches()[0])
                writer.close()

    parts = {
        "random words": best(lambda: timed(lambda: random_words(key, 0, step, layout.words))) / step,
        "normals and product": best(lambda: timed(lambda: xp.latents(kernel._factor, kernel._levels, bits, None)))
        / step,
        "kernel": best(lambda: timed(lambda: kernel.draw(key, 0, BATCH))) / BATCH,
        "draw": best(lambda: timed(lambda: model.draw(0, 0, BATCH))) / BATCH,
        "writer": best(lambda: timed(write)) / table.num_rows,
    }
    parts["look-ups"] = parts["kernel"] - parts["random words"] - parts["normals and product"]
    parts["Arrow"] = parts["draw"] - parts["kernel"]
    order = ("random words", "normals and product", "look-ups", "Arrow", "writer")
    return "  ".join(f"{name} {parts[name] * 1e6:.3f}" for name in order)


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


def plain_frame(table: pa.Table) -> Any:
    """Pandas without its category type, which stock SDV refuses."""
    frame = table.to_pandas()
    return frame.astype({c: object for c in frame.columns if str(frame[c].dtype) == "category"})


class Compared:
    """One table, and both models of it."""

    def __init__(self, folder: Path) -> None:
        from sdv.metadata import Metadata
        from sdv.single_table import GaussianCopulaSynthesizer

        self.folder = folder
        dataset = open_shards(str(folder))
        shards = [pa.Table.from_batches(read_batches(s, dataset.schema)) for s in dataset.shards]
        self.table = pa.concat_tables(shards)
        self.frame = plain_frame(self.table)
        profile = profile_of(dataset)
        self.metadata = detect(profile.sample, profile, dataset.schema)
        self.stock = GaussianCopulaSynthesizer(Metadata.load_from_dict(self.metadata))
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            self.stock.fit({"table": self.frame})
        self.stock_seconds = time.perf_counter() - started
        self.model, _ = fit_ours(str(folder), self.metadata)
        self.title = f"{folder.name}: {dataset.rows:,} x {len(dataset.schema)}"

    def stock_sample(self, rows: int) -> Any:
        """Rows of stock SDV."""
        with contextlib.redirect_stdout(io.StringIO()):
            return self.stock.sample(rows)["table"]


def fit_lines(tables: list[Compared]) -> list[str]:
    """Seconds of fitting."""
    lines = []
    for compared in tables:
        with one_core():
            laps = min(
                (fit_ours(str(compared.folder), compared.metadata)[1] for _ in range(3)), key=lambda x: sum(x.values())
            )
        ours = sum(laps.values())
        detail = "  ".join(f"{key} {value:.3f}" for key, value in laps.items())
        lines.append(
            f"{compared.title}: fit  stock {compared.stock_seconds:.2f} s  ours, one core {ours:.3f} s ({detail})  "
            f"{compared.stock_seconds / ours:.1f} x"
        )
    return [*lines, *(grown(tables[0], rows) for rows in (1_000_000, 10_000_000))]


def sample_lines(compared: Compared, rows: int = 1_000_000) -> list[str]:
    """Rows a second to Parquet."""
    model, cores = compared.model, available_cpus()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        compared.stock_sample(1000)
        frame = compared.stock_sample(STOCK_ROWS)
        sampling = best(lambda: timed(lambda: compared.stock_sample(STOCK_ROWS)))
        writing = best(lambda: timed(lambda: frame.to_parquet(target / "stock.parquet")))
        made, stock = STOCK_ROWS / sampling, STOCK_ROWS / (sampling + writing)
        table = pa.Table.from_batches([model.draw(0, r, min(BATCH, rows - r)) for r in range(0, rows, BATCH)])
        table = table.combine_chunks()

        def ours() -> float:
            (target / "ours.parquet").unlink(missing_ok=True)
            return write_ours(model, rows, target / "ours.parquet")

        with one_core():
            one = best(ours)
            plain = best(lambda: timed(lambda: pq.write_table(table, target / "plain.parquet")))
            alike = best(
                lambda: timed(
                    lambda: pq.write_table(
                        table, target / "alike.parquet", use_dictionary=model.dictionary_columns, write_statistics=False
                    )
                )
            )
            parts = where_the_time_goes(model, rows)
        model.save(target / "model")
        both, peak = write_on_all_cores(target / "model", rows, target)
        plain_two = best(lambda: timed(lambda: pq.write_table(table, target / "plain.parquet")))
        limit_threads(cores)
        threaded = best(ours)
        limit_threads(1)
    return [
        f"{compared.title}: sample to Parquet   stock {stock:,.0f} rows/s ({made:,.0f} to a DataFrame alone)",
        f"  ours, one core  {rows / one:12,.0f} rows/s  {rows / one / stock:8.1f} x stock",
        f"  ours, {cores} cores   {rows / both:12,.0f} rows/s  {rows / both / stock:8.1f} x stock   peak {peak:,.0f} MiB a process",
        f"  seconds per million rows on one core: ours {one / rows * 1e6:.3f}; pyarrow alone {plain / rows * 1e6:.3f} by its "
        f"defaults ({one / plain:.2f} times that), {alike / rows * 1e6:.3f} with our settings ({one / alike:.2f} times that)",
        f"  one process, free to use {cores} cores: ours {threaded / rows * 1e6:.3f}; pyarrow alone {plain_two / rows * 1e6:.3f} "
        f"({threaded / plain_two:.2f} times that)",
        f"  of which: {parts}",
    ]


def quality_lines(compared: Compared) -> list[str]:
    """SDMetrics' report of stock and ours."""
    rows = len(compared.frame)
    ours = plain_frame(pa.Table.from_batches([compared.model.draw(0, 0, rows)]))
    stock = compared.stock_sample(rows)
    return [
        f"{compared.title}: quality (shapes / pairs)",
        f"  stock {quality(compared.frame, stock, compared.metadata)}",
        f"  ours  {quality(compared.frame, ours, compared.metadata)}",
    ]


_GROWN = """
import sys, json
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import copula
meta = json.loads(Path(sys.argv[3]).read_text())
with copula.one_core():
    model, laps = copula.fit_ours(sys.argv[2], meta)
from results import peak_mib
print(json.dumps([laps, peak_mib()]))
"""


def grown(compared: Compared, rows: int) -> str:
    """Fit seconds and peak memory for a table drawn up to so many rows, in a process of its own on one core."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "data"
        shards.mkdir()
        for number, first in enumerate(range(0, rows, 1_000_000)):
            chosen = pa.array(rng.integers(0, compared.table.num_rows, min(1_000_000, rows - first)))
            pq.write_table(compared.table.take(chosen), shards / f"part-{number:05d}.parquet")
        meta = Path(scratch) / "metadata.json"
        meta.write_text(json.dumps(compared.metadata))
        command = [sys.executable, "-c", _GROWN, str(Path(__file__).parent), str(shards), str(meta)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    laps, peak = json.loads(out.splitlines()[-1])
    total = sum(laps.values())
    detail = "  ".join(f"{key} {value:.1f}" for key, value in laps.items())
    return (
        f"  drawn up to {rows:>10,} rows, one core: {total:.1f} s ({detail}), {total / compared.stock_seconds:.1f} times "
        f"stock's seconds for {compared.table.num_rows:,}; peak {peak:,.0f} MiB"
    )


def large_lines(compared: Compared, rows: int = 100_000_000, tasks: int = 100) -> list[str]:
    """A saved model sampled as an array of tasks by the command; the parts checked."""
    import psutil

    with tempfile.TemporaryDirectory() as scratch:
        model, out = Path(scratch) / "model", Path(scratch) / "out"
        compared.model.save(model)
        started = time.perf_counter()
        size = ["--rows", str(rows), "--rows-per-shard", str(rows // tasks), "--tasks", str(tasks)]
        command = [sys.executable, "-m", "shardsynth.cli", "sample", str(model), *size, "-o", str(out)]
        process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        peak, early = 0.0, 0.0
        while process.poll() is None:
            for member in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    peak = max(peak, member.memory_info().rss / 2**20)
            if not early and len(list(out.glob("part-*.parquet"))) >= tasks // 10:
                early = peak
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        assert process.returncode == 0
        manifest = json.loads((out / "_manifest.json").read_text())
        parts = manifest["parts"]
        assert manifest["rows"] == rows == sum(pq.read_metadata(out / p["path"]).num_rows for p in parts)
        starts = [part["first_row"] for part in parts]
        assert starts == list(range(starts[0], starts[0] + rows, rows // tasks))
        assert len({part["sha256"] for part in parts}) == tasks
        megabytes = sum(part.stat().st_size for part in out.glob("part-*.parquet")) / 1e6
    return [
        f"{compared.title}: {rows:,} rows as {tasks} tasks by `shardsynth sample`: {seconds:.0f} s, {rows / seconds:,.0f} rows/s, "
        f"{megabytes:,.0f} MB; no part twice, the manifest adds up; peak {peak:,.0f} MiB a process "
        f"({early:,.0f} after a tenth of the tasks)"
    ]


#: Conditions of about 1 % each, as ours reads them and as a filter of pandas.
ONE = 'race == "Amer-Indian-Eskimo"'
THREE = "age >= 50 and `hours-per-week` < 35 and 100000 <= fnlwgt < 200000"


def conditions_lines(compared: Compared, rows: int = 200_000) -> list[str]:
    """Rows a second under conditions: stock's own conditions for one value, and sample-and-filter where it has none."""
    from sdv.sampling import Condition

    from shardsynth.sampling.conditions import parse_conditions

    model = compared.model
    column, value = ONE.split(" == ")
    asked = [Condition({column: value.strip('"')}, num_rows=500)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        theirs = 500 / timed(lambda: compared.stock.sample_from_conditions(asked))
    started = time.perf_counter()
    kept = compared.stock_sample(STOCK_ROWS).query(THREE)
    filtered = len(kept) / (time.perf_counter() - started)
    lines = [f"{compared.title}: rows under conditions, one core, no file written"]
    plain_rows = pa.Table.from_batches([model.draw(9, r, BATCH) for r in range(0, 30 * BATCH, BATCH)]).to_pandas()
    for where, stock, how in ((ONE, theirs, "its own conditions"), (THREE, filtered, "sample and filter")):
        prepared = model.prepare(parse_conditions(where))
        with one_core():
            first = timed(lambda prepared=prepared: model.draw(0, 0, 1, prepared))
            seconds = best(
                lambda p=prepared: timed(lambda: [model.draw(0, r, BATCH, p) for r in range(0, rows, BATCH)])
            )
        ours = -(-rows // BATCH) * BATCH / seconds
        share = len(plain_rows.query(where)) / len(plain_rows)
        accepted = prepared.acceptance()
        lines.append(
            f"  {where}: {share:.2%} of rows; stock {stock:,.0f} rows/s ({how}), ours {ours:,.0f} rows/s, {ours / stock:,.0f} x; "
            f"first row after {first:.2f} s, {accepted['accepted'] / max(accepted['proposals'], 1):.1%} of proposals accepted"
        )
    return lines


def main() -> None:
    """Measure, print, record: one file of results per piece."""
    pieces = [a for a in sys.argv[1:] if not a.startswith("-")] or ["fit", "sample", "quality", "conditions", "large"]
    names = ("adult", "mds") if set(pieces) & {"fit", "sample", "quality"} else ("adult",)
    tables = [Compared(DATA / name) for name in names]
    if "fit" in pieces:
        record("copula_fit", fit_lines(tables))
    if "sample" in pieces:
        record("copula_sample", [line for compared in tables for line in sample_lines(compared)])
    if "quality" in pieces:
        record("copula_quality", [line for compared in tables for line in quality_lines(compared)])
    if "conditions" in pieces:
        record("copula_conditions", conditions_lines(tables[0]))
    if "large" in pieces:
        record("copula_large", large_lines(tables[0]))


if __name__ == "__main__":
    main()
