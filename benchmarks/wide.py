"""A wide table: 3,000 numeric columns x 5,000 rows, zero-inflated counts of a factor structure, as single-cell data have.

usage: python benchmarks/wide.py [COLUMNS [ROWS]]      (default: 3000 5000)

Bars: profile + count + fit under 5 minutes and 8 GB in one process; latent correlations right within sampling error (of
the best that so many rows allow: the correlations of the latent normals themselves, which a fit never sees); rows at
least ten times as fast as with a dense factor of the same correlations, which is measured beside them in turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results import peak_mib, record
from scipy.special import ndtr
from scipy.stats import nbinom

from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.copula.tables import factor_of

FACTORS, TURNS = 8, 5


def wide_table(columns: int, rows: int, seed: int = 0) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Counts, 30 to 90 % of them zero; their latent correlations float64[d, d]; their latents float64[n, d]."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(0, 0.35, (columns, FACTORS))
    communality = (loadings**2).sum(axis=1)
    loadings /= np.sqrt(np.maximum(communality / 0.8, 1.0))[:, None]
    noise = np.sqrt(1 - (loadings**2).sum(axis=1))
    latents = rng.standard_normal((rows, FACTORS)) @ loadings.T + rng.standard_normal((rows, columns)) * noise
    zeros = rng.uniform(0.3, 0.9, columns)
    shape = rng.uniform(0.5, 3.0, columns)
    arrays = []
    for j in range(columns):
        u = ndtr(latents[:, j])
        above = np.clip((u - zeros[j]) / (1 - zeros[j]), 0.0, 1 - 1e-9)
        counts = np.where(u > zeros[j], 1 + nbinom.ppf(above, shape[j], 0.2), 0)
        arrays.append(pa.array(counts.astype(np.int32)))
    names = [f"gene{j:04d}" for j in range(columns)]
    return pa.table(arrays, names), loadings @ loadings.T + np.diag(noise**2), latents


def rate(model: GaussianCopula, rows: int) -> tuple[float, float]:
    """Rows a second, and rows a CPU second, of one draw."""
    model.draw(0, 0, 16)
    started, cpu = time.perf_counter(), time.process_time()
    model.draw(0, 0, rows)
    return rows / (time.perf_counter() - started), rows / (time.process_time() - cpu)


def main() -> None:
    """Measure, print, record."""
    from copula import fit_ours

    columns, rows = (int(float(a)) for a in (sys.argv[1:] + ["3000", "5000"][len(sys.argv[1:]) :]))
    table, truth, latents = wide_table(columns, rows)
    described = {n: {"sdtype": "numerical"} for n in table.column_names}
    metadata = {"tables": {"table": {"columns": described}}, "METADATA_SPEC_VERSION": "V2"}
    with tempfile.TemporaryDirectory() as folder:
        for shard in range(2):
            half = -(-rows // 2)
            pq.write_table(table.slice(shard * half, half), Path(folder) / f"part-{shard}.parquet")
        before = peak_mib()
        started = time.perf_counter()
        model, laps = fit_ours(folder, metadata)
        fitted = time.perf_counter() - started
        peak = peak_mib()
        drawn = 20_000
        batch = model.draw(0, 0, drawn)
        dense = replace(model, factor=factor_of(model.correlation), own=None)
        rates: dict[str, list[tuple[float, float]]] = {"dense": [], "factors": []}
        for _ in range(TURNS):
            rates["dense"].append(rate(dense, drawn // 5))
            rates["factors"].append(rate(model, 2 * drawn))
        model.save(Path(folder) / "model")
        megabytes = sum(p.stat().st_size for p in (Path(folder) / "model").iterdir()) / 1e6
    place = [i for i, latent in enumerate(model.latents) if latent.kind == "value"]
    assert len(place) == columns
    found = model.correlation[np.ix_(place, place)]
    upper = np.triu_indices(columns, 1)
    error = (found - truth)[upper]
    best = (np.corrcoef(latents.T) - truth)[upper]
    zeros = np.array([(np.asarray(a) == 0).mean() for a in table.columns])
    synthetic = np.array([(np.asarray(a) == 0).mean() for a in batch.columns])
    strong = np.abs(truth[upper]) > 0.5
    medians = {name: tuple(float(np.median(r)) for r in zip(*found)) for name, found in rates.items()}
    both = zip(rates["factors"], rates["dense"])
    ratios = np.median([[a / b for a, b in zip(*pair)] for pair in both], axis=0)
    record(
        "wide",
        [
            f"{columns:,} numeric columns x {rows:,} rows, {zeros.mean():.0%} zeros, {FACTORS} factors",
            f"  fit {fitted:.1f} s ({'  '.join(f'{k} {v:.1f}' for k, v in laps.items())})   peak {peak:,.0f} MiB (the table itself and "
            f"its generation: {before:,.0f})   model {megabytes:.0f} MB",
            f"  latent correlations: root mean square error {np.sqrt((error**2).mean()):.4f} (of the latents' own sample correlations: "
            f"{np.sqrt((best**2).mean()):.4f}), mean error {error.mean():+.4f}, 99.9 % of {len(error):,} within "
            f"{np.quantile(np.abs(error), 0.999):.3f}",
            f"  beyond 0.5 ({strong.mean():.1%} of pairs): mean error of |r| {(error * np.sign(truth[upper]))[strong].mean():+.4f}",
            f"  shares of zeros: largest error {np.abs(zeros - synthetic).max():.4f} at {drawn:,} rows",
            f"  {0 if model.own is None else model.factor.shape[1]} columns of the factor that all latents share",
            *(
                f"  sampling, {name:<8}{wall:>8,.0f} rows/s ({wall * columns / 1e6:5.1f} million values/s), "
                f"{cpu:>8,.0f} rows per CPU second"
                for name, (wall, cpu) in medians.items()
            ),
            f"  factors against dense, median of {TURNS} turns: {ratios[0]:.1f} x rows/s, {ratios[1]:.1f} x per CPU second",
        ],
    )


if __name__ == "__main__":
    main()
