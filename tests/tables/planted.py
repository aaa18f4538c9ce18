"""Planted models: one that memorises, one of independent columns, and real rows; on Adult-like and MDS-like tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.summaries.profile import Profile, ProfileOptions


def adult_like(rows: int, seed: int) -> tuple[pa.Table, list[Column]]:
    """Numbers with spikes, categories, a binary outcome; all hang together."""
    rng = np.random.default_rng(seed)
    factor, other = rng.standard_normal((2, rows))
    age = np.clip(np.rint(38 + 10 * factor + 6 * rng.standard_normal(rows)), 17, 90).astype(np.int8)
    hours = np.where(rng.random(rows) < 0.45, 40, np.clip(np.rint(40 + 8 * other + 4 * factor), 1, 99)).astype(np.int8)
    gain = np.where(rng.random(rows) < 0.9, 0, np.rint(np.exp(8 + 0.7 * other))).astype(np.int32)
    schooling = np.clip(np.rint(9 + 2.5 * other + 0.8 * rng.standard_normal(rows)), 1, 16).astype(np.int8)
    work = np.digitize(other + 0.8 * rng.standard_normal(rows), [-1.2, -0.4, 0.5, 1.3])
    home = np.digitize(factor + 0.6 * rng.standard_normal(rows), [-0.6, 0.4, 1.2])
    weight = np.rint(np.exp(12 + 0.5 * rng.standard_normal(rows))).astype(np.int32)
    income = (0.9 * factor + 1.4 * other + 0.5 * rng.standard_normal(rows) > 1.0).astype(np.int8)
    table = pa.table(
        {
            "age": age,
            "weight": weight,
            "schooling": schooling,
            "gain": gain,
            "hours": hours,
            "work": pa.array([f"work {k}" for k in work], mask=rng.random(rows) < 0.05),
            "home": pa.array([f"home {k}" for k in home]),
            "income": pa.DictionaryArray.from_arrays(pa.array(income), pa.array(["low", "high"])),
        }
    )
    categories = {"work": "categorical", "home": "categorical", "income": "categorical"}
    return table, _columns(table, categories)


def mds_like(rows: int, seed: int) -> tuple[pa.Table, list[Column]]:
    """Few patients, many rare flags, blood counts with gaps, survival."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(rows)
    flags = {
        f"flag{k:02d}": (0.9 * severity * (k % 3 - 1) + rng.standard_normal(rows) > 1.1 + 0.05 * k).astype(np.int8)
        for k in range(24)
    }
    time = np.round(rng.exponential(np.exp(1.2 - 0.8 * severity)), 3)
    censored = rng.exponential(4.0, rows)
    data = {
        "age": np.clip(np.rint(70 + 9 * rng.standard_normal(rows)), 18, 99).astype(np.int16),
        "blast": pa.array(np.round(np.exp(1 + 0.9 * severity), 1), mask=rng.random(rows) < 0.15),
        "hb": pa.array(np.round(9.5 - 0.9 * severity + rng.standard_normal(rows), 1), mask=rng.random(rows) < 0.05),
        "plt": pa.array(np.rint(np.exp(4.6 - 0.4 * severity + 0.5 * rng.standard_normal(rows))).astype(np.float32)),
        "risk": pa.array([f"r{k}" for k in np.digitize(severity + 0.4 * rng.standard_normal(rows), [-1, 0, 1])]),
        "years": np.round(np.minimum(time, censored), 3),
        "dead": (time <= censored).astype(np.int8),
        **flags,
    }
    table = pa.table(data)
    return table, _columns(table, {"risk": "categorical", "dead": "ordinal", **dict.fromkeys(flags, "ordinal")})


def _columns(table: pa.Table, categories: dict[str, str]) -> list[Column]:
    return [
        Column(f.name, f.type, categories.get(f.name, "numerical"), "category" if f.name in categories else "number")
        for f in table.schema
    ]


@dataclass(frozen=True)
class Planted:
    """Real rows in three parts by chance, and tables that pass for synthetic ones."""

    coder: TableCoder
    train: pa.Table
    holdout: pa.Table
    fresh: pa.Table
    memorised: pa.Table
    independent: pa.Table


def planted(kind: str, train: int, holdout: int, seed: int = 0) -> Planted:
    """Training, holdout and fresh rows of one table; ``memorised`` replays training rows, ``independent`` shuffles them."""
    table, columns = {"adult": adult_like, "mds": mds_like}[kind](train + 2 * holdout, seed)
    table = table.combine_chunks()
    rng = np.random.default_rng(seed + 1)
    real = table.slice(0, train)
    profile = Profile.empty(real.schema, ProfileOptions(total_rows=train))
    profile.update(real.combine_chunks().to_batches()[0], 0)
    coder = TableCoder.from_profile(profile, columns)
    memorised = real.take(pa.array(rng.integers(0, train, holdout)))
    shuffled = [column.take(pa.array(rng.integers(0, train, train))) for column in real.columns]
    return Planted(
        coder,
        real,
        table.slice(train, holdout),
        table.slice(train + holdout, holdout),
        memorised,
        pa.table(shuffled, schema=real.schema),
    )
