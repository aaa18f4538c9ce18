"""Deep models side by side with the stock ctgan package, in one run: `python benchmarks/deep.py [folder of shards]`.

Preparation, training steps a second, rows a second to Parquet, and quality after equal epochs. Stock and native take turns,
each figure is the best of the turns: only the ratios of one run mean anything on a machine that others use too.
CopulaGAN trains CTGAN's networks, so that stock CTGAN is its comparison here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from results import record  # noqa: E402
from tests.models.deep_tables import Prepared, fit, prepare, read  # noqa: E402

from shardsynth.metrics.quality import quality  # noqa: E402
from shardsynth.models.deep_codes import DeepCoding  # noqa: E402
from shardsynth.models.deep_model import DeepModel  # noqa: E402
from shardsynth.models.deep_options import DeepOptions  # noqa: E402
from shardsynth.summaries.counts import Counts  # noqa: E402
from shardsynth.summaries.ranges import ScoreRanges  # noqa: E402

#: Million floating-point operations a row on Adult, of the networks as the package computes them.
MFLOP = {"ctgan": 0.60, "copulagan": 0.60, "tvae": 0.105}


def seconds(call: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


class Stock:
    """The package's models on one table; its slow preparation is done, and timed, once."""

    def __init__(self, prepared: Prepared) -> None:
        from ctgan.data_sampler import DataSampler
        from ctgan.data_transformer import DataTransformer

        self.prepared = prepared
        self.frame = prepared.table.to_pandas()
        self.discrete = [c.name for c in prepared.columns if c.role == "category"]
        for name in self.discrete:
            self.frame[name] = self.frame[name].astype(object).where(self.frame[name].notna(), "missing").astype(str)

        def prepare_all() -> Any:
            transformer = DataTransformer()
            transformer.fit(self.frame, self.discrete)
            rows = transformer.transform(self.frame)
            DataSampler(rows, transformer.output_info_list, True)
            return transformer, rows

        self.preparation, (self.transformer, self.rows) = seconds(prepare_all)

    def model(self, family: str, epochs: int) -> Any:
        """A stock model fitted on the prepared rows."""
        import ctgan
        from ctgan.synthesizers import ctgan as ctgan_module
        from ctgan.synthesizers import tvae as tvae_module

        class Prepared(type(self.transformer)):  # type: ignore[misc]
            fit = lambda *_: None  # noqa: E731
            transform = lambda *_: self.rows  # noqa: E731

        def factory() -> Any:
            made = Prepared.__new__(Prepared)
            made.__dict__.update(self.transformer.__dict__)
            return made

        for module in (ctgan_module, tvae_module):
            module.DataTransformer = factory
        made = (ctgan.TVAE if family == "tvae" else ctgan.CTGAN)(epochs=epochs, enable_gpu=False)
        made.fit(self.frame, self.discrete)
        return made

    def table(self, frame: pd.DataFrame) -> pa.Table:
        """Stock rows in the table's schema."""
        arrays = []
        for field in self.prepared.table.schema:
            values = frame[field.name]
            if field.name in self.discrete:
                arrays.append(pa.array(values.where(values != "missing", None).astype(object)).cast(pa.string()))
                if not pa.types.is_dictionary(field.type):
                    arrays[-1] = arrays[-1].cast(field.type)
                else:
                    arrays[-1] = arrays[-1].dictionary_encode().cast(field.type)
            else:
                arrays.append(pa.array(values.to_numpy()).cast(field.type, safe=False))
        return pa.table(arrays, schema=self.prepared.table.schema)


def to_parquet(model: DeepModel, rows: int, path: Path) -> None:
    with pq.ParquetWriter(
        path, model.schema, use_dictionary=model.dictionary_columns, write_statistics=False
    ) as writer:
        for first in range(0, rows, 65_536):
            writer.write_batch(model.draw(0, first, min(65_536, rows - first)))


def scores(prepared: Prepared, real: Counts, table: pa.Table) -> dict[str, Any]:
    return quality(real, counts_of(prepared, table), prepared.coder)


def counts_of(prepared: Prepared, table: pa.Table) -> Counts:
    ranges = ScoreRanges.empty(prepared.coder.columns)
    batches = table.to_batches()
    for batch in batches:
        ranges.update(batch)
    counts = Counts.empty(prepared.coder, fit=False, score=ranges)
    for batch in batches:
        counts.update(batch, 0)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "adult")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=3, help="turns of one epoch each")
    parser.add_argument("--epochs", type=int, default=0, help="epochs for the comparison of quality; 0: none")
    parser.add_argument("--rows", type=int, default=131_072, help="rows sampled (stock: a quarter)")
    parser.add_argument("--families", nargs="*", default=["tvae", "ctgan", "copulagan"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)

    prepared = prepare(read(given.folder))
    table = prepared.table
    stock = Stock(prepared)
    lines = [f"{table.num_rows} rows x {table.num_columns}, {given.threads} threads; stock, native, ratio", ""]

    def native_preparation() -> None:
        coding = DeepCoding.fit(
            prepared.profile, prepared.coder, prepared.counts, DeepOptions.parse("ctgan", {}), table.schema
        )
        coding.encode(prepared.coder, prepared.profile.sample, 0)

    native = min(seconds(native_preparation)[0] for _ in range(given.turns))
    lines.append(
        f"preparation           {stock.preparation:10.2f} s {native:10.2f} s {stock.preparation / native:8.1f}"
    )
    product = seconds(lambda: torch.mm(torch.ones(4096, 4096), torch.ones(4096, 4096)))[0]
    product = min(product, seconds(lambda: torch.mm(torch.ones(4096, 4096), torch.ones(4096, 4096)))[0])
    gflops = 2 * 4096**3 / product / 1e9
    real = counts_of(prepared, table) if given.epochs else None

    for family in given.families:
        steps = -(-table.num_rows // 500) if family == "tvae" else table.num_rows // 500
        base = min(seconds(lambda: stock.model(family, 0))[0] for _ in range(2))  # noqa: B023
        small = {} if family == "tvae" else {"normalisation_rows": 1000}
        none = min(seconds(lambda: _fit(family, prepared, 1, small, given.threads, 1))[0] for _ in range(2))  # noqa: B023
        theirs, ours = [], []
        for _ in range(given.turns):
            spent, stock_model = seconds(lambda: stock.model(family, 1))  # noqa: B023
            theirs.append(steps / (spent - base))
            spent, native_model = seconds(lambda: _fit(family, prepared, 3, small, given.threads))  # noqa: B023
            ours.append(3 * steps / max(spent - none, 1e-3))
        lines.append(
            f"{family:10s} steps/s    {max(theirs):10.1f}   {max(ours):10.1f}   {max(ours) / max(theirs):8.1f}"
        )
        stock_rate, native_rate = [], []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(given.turns):
                few = given.rows // 4
                spent = seconds(lambda: stock_model.sample(few).to_parquet(f"{folder}/s.parquet"))[0]  # noqa: B023
                stock_rate.append(few / spent)
                spent = seconds(lambda: to_parquet(native_model, given.rows, Path(folder) / "n.parquet"))[0]  # noqa: B023
                native_rate.append(given.rows / spent)
        share = max(native_rate) * MFLOP[family] / 1e3 / gflops
        lines.append(
            f"{family:10s} rows/s     {max(stock_rate):10.0f}   {max(native_rate):10.0f}   "
            f"{max(native_rate) / max(stock_rate):8.1f}   {share:.0%} of the products' floor ({gflops:.0f} GFLOP/s)"
        )
        if real is not None:
            n = table.num_rows
            a = scores(prepared, real, stock.table(stock.model(family, given.epochs).sample(n)))
            model = _fit(family, prepared, given.epochs, {}, given.threads)
            b = scores(prepared, real, pa.Table.from_batches([model.draw(0, 0, n)]))
            lines.append(
                f"{family:10s} quality    {a['score']:10.3f}   {b['score']:10.3f}              all pairs "
                f"{a['all_pairs']['score']:.3f} {b['all_pairs']['score']:.3f}, shapes {a['column_shapes']:.3f} "
                f"{b['column_shapes']:.3f} after {given.epochs} epochs"
            )
        print(*lines[-3:], sep="\n", flush=True)
    record("deep", lines)


def _fit(
    family: str, prepared: Prepared, epochs: int, options: dict[str, Any], threads: int, stop: int = 0
) -> DeepModel | None:
    """A native fit; with ``stop``, up to so many steps only: what is not training."""
    from shardsynth.errors import Saved

    done = iter(range(1, 10**9))
    try:
        return fit(
            family,
            prepared,
            {"epochs": epochs, **options},
            threads=threads,
            device="cpu",
            should_stop=(lambda: next(done) >= stop) if stop else None,
        )
    except Saved:
        return None


if __name__ == "__main__":
    np.random.seed(0)
    main()
