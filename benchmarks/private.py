"""How good a model is at a privacy budget: the private copula and the privately trained autoregressive model.

usage: python benchmarks/private.py [FOLDER ...] [--epsilons 1,3,10] [--rows N] [--models ...]

One line per table, model and epsilon at delta 1e-6: SDMetrics' score and our all-pairs score (both thresholds 0) of as
many synthetic rows, and the seconds of the fit from counts. The declared ranges and categories are the table's own: what
is measured is the models, not a guarantee. Every line is one draw of the noise. `--rows`: of the first rows alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from fidelity import DATA, Source, prepare, read, threads  # noqa: E402
from results import record  # noqa: E402

from shardsynth.data.coding import TableCoder  # noqa: E402
from shardsynth.data.columns import Column  # noqa: E402
from shardsynth.data.metadata import columns as columns_of  # noqa: E402
from shardsynth.data.metadata import keys_of  # noqa: E402
from shardsynth.data.public_codes import public_coder  # noqa: E402
from shardsynth.errors import ModelError  # noqa: E402
from shardsynth.metrics.quality import quality  # noqa: E402
from shardsynth.models.autoregressive.dp_fit import DpFitting, fit_with_dp  # noqa: E402
from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan  # noqa: E402
from shardsynth.models.base import FitSetup, NativeModel  # noqa: E402
from shardsynth.models.copula.dp_fit import fit_copula_with_dp  # noqa: E402
from shardsynth.models.copula.model import GaussianCopula  # noqa: E402
from shardsynth.models.dp.accounting import histogram_noise  # noqa: E402
from shardsynth.models.dp.tables import draw_histograms, draw_tables  # noqa: E402
from shardsynth.sampling.identifiers import learn_all  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.ranges import ScoreRanges  # noqa: E402

_DELTA = 1e-6


def declared(column: Column, values: pa.ChunkedArray) -> Column:
    """The column with the table's own categories or range as its metadata."""
    if column.role == "category":
        plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        return replace(column, options={"range_values": sorted(pc.unique(plain.drop_null()).to_pylist())})
    ends = pc.min_max(values).as_py()
    return replace(column, options={"range_min": ends["min"], "range_max": ends["max"]})


def counted(table: pa.Table, coder: TableCoder, *, fit: bool, score: ScoreRanges | None) -> Counts:
    counts, row = Counts.empty(coder, fit=fit, score=score, total_rows=table.num_rows), 0
    for batch in table.to_batches(max_chunksize=32_768):
        counts.update(batch, row)
        row += batch.num_rows
    return counts


def scored(table: pa.Table, coder: TableCoder) -> Counts:
    ranges = ScoreRanges.empty(coder.columns)
    for batch in table.to_batches():
        ranges.update(batch)
    return counted(table, coder, fit=False, score=ranges)


def generators(source: Source, coder: TableCoder) -> dict[str, Any]:
    return learn_all(source.table.slice(0, 1000), coder.table, keys_of(source.metadata), seed=0)


def copula(source: Source, coder: TableCoder, epsilon: float) -> NativeModel:
    counts = counted(source.table, coder, fit=True, score=None)
    drawn = draw_tables(counts, coder, source.table.num_rows, epsilon, _DELTA)
    found = fit_copula_with_dp(drawn, coder, source.table.schema)
    made = generators(source, coder)
    return GaussianCopula.from_fit(found, source.table.schema, coder.table, generators=made, name="gaussian_copula")


def autoregressive(source: Source, coder: TableCoder, epsilon: float) -> NativeModel:
    rows, schema = source.table.num_rows, source.table.schema
    plan = DpTrainingPlan.of({}, coder, rows, epsilon, _DELTA)
    noise = histogram_noise(epsilon, _DELTA, plan.columns)
    spent = plan.spend(epsilon, _DELTA, noise)
    drawn = draw_histograms(counted(source.table, coder, fit=False, score=None), coder, noise)
    made = generators(source, coder)
    setup = FitSetup(schema, coder.table, coder, plan.options, made, threads=threads())
    return fit_with_dp(DpFitting(setup, plan, spent, drawn, [source.table], rows))


MODELS = {"autoregressive": autoregressive, "gaussian_copula": copula}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[DATA / "adult", DATA / "mds"])
    parser.add_argument("--epsilons", default="1,3,10")
    parser.add_argument("--rows", type=int, default=2**62)
    parser.add_argument("--models", default=",".join(MODELS))
    asked = parser.parse_args()
    lines = [
        f"{'table':8}{'rows':>8}  {'model':18}{'epsilon':>8}{'score':>9}{'all pairs':>11}{'shapes':>9}{'seconds':>9}"
    ]
    for folder in asked.folders:
        source = read(folder)
        source = source._replace(table=source.table.slice(0, asked.rows).combine_chunks())
        known = [declared(c, source.table[c.name]) for c in columns_of(source.metadata, source.table.schema)]
        coder = public_coder(known, source.table.num_rows, 0)
        exact = prepare(source.table, source.metadata).coder
        real = scored(source.table, exact)
        for epsilon in map(float, asked.epsilons.split(",")):
            for name in asked.models.split(","):
                head = f"{source.name:8}{source.table.num_rows:>8,}  {name:18}{epsilon:>8g}"
                started = time.perf_counter()
                try:
                    model = MODELS[name](source, coder, epsilon)
                except ModelError as error:
                    lines.append(f"{head}  refused: {error}")
                    print(lines[-1], flush=True)
                    continue
                seconds = time.perf_counter() - started
                made = pa.Table.from_batches([model.draw(0, 0, source.table.num_rows)])
                found = quality(real, scored(made, exact), exact)
                score, pairs = found["score"], found["all_pairs"]["score"]
                lines.append(f"{head}{score:>9.4f}{pairs:>11.4f}{found['column_shapes']:>9.4f}{seconds:>9.1f}")
                print(lines[-1], flush=True)
    record("private", lines)


if __name__ == "__main__":
    main()
