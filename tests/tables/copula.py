"""Copulas for tests: fitted as a run does it, and by hand (a sampler test must not depend on how a fit is found)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import ndtri
from scipy.stats import norm, rankdata

from shardsynth.data import detection
from shardsynth.data import metadata as md
from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.ends import EndRule
from shardsynth.data.values import Precision, axis
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.columns.relations import FunctionRelation, Operand, Relation
from shardsynth.models.copula.class_fit import with_classes
from shardsynth.models.copula.fit import fit_copula
from shardsynth.models.copula.guess_missing_rules import guess_rules
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.identifiers import learn_all
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile, ProfileOptions


def folder_table(folder: Path, names: list[str] | None = None) -> pa.Table:
    tables = [pq.read_table(file, columns=names) for file in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).unify_dictionaries()


def profiled(table: pa.Table, sdtypes: dict[str, Any] | None = None) -> tuple[Profile, dict[str, Any], list[Column]]:
    """Profile, metadata and columns of a table; SDV detects the metadata unless ``sdtypes`` of the columns are given.

    Of a column, its sdtype may be given, or all that the metadata say.
    """
    profile, offset = Profile.empty(table.schema, ProfileOptions(total_rows=len(table))), 0
    for batch in table.to_batches():
        profile.update(batch, offset)
        offset += batch.num_rows
    profile.cut()
    if sdtypes is None:
        metadata = detection.detect(profile.sample, profile, table.schema)
    else:
        described = {k: dict(v) if isinstance(v, dict) else {"sdtype": v} for k, v in sdtypes.items()}
        metadata = {"tables": {"table": {"columns": described}}}
    return profile, metadata, md.columns(metadata, table.schema)


def native(
    table: pa.Table,
    target: str | None = None,
    persons: Any = None,
    sdtypes: dict[str, Any] | None = None,
    **options: Any,
) -> GaussianCopula:
    """A native model of a table, fitted as a run does it: rules on missing values, rare classes of ``target``."""
    profile, metadata, columns = profiled(table, sdtypes)
    rule = EndRule() if options.get("extremes", "tail") == "tail" else None
    coder = TableCoder.from_profile(profile, columns, ends=rule)
    relations = guess_relations(columns, profile.sample, {c.column.name: c.precision for c in coder.columns})
    counts, offset = Counts.empty(coder, fit=True, score=None, relations=relations), 0
    for batch in table.to_batches():
        counts.update(batch, offset)
        offset += batch.num_rows
    generators = learn_all(profile.sample, columns, md.keys_of(metadata), seed=0)

    def fitted(learned=()):
        return fit_copula(profile, coder, counts, options, relations, learned)

    found, classes = fitted(), None
    protection = FitOptions.parse(options).protection
    if target is not None:
        found, classes = with_classes(found, fitted, target, profile.sample, coder, protection, persons)
    model = GaussianCopula.from_fit(found, table.schema, columns, generators=generators)
    if FitOptions.parse(options).encoding != "sdv":
        known = (found.columns, found.latents, found.relations, profile.sample, coder, counts, protection, persons)
        model = model.with_rules(guess_rules(*known))
    return model if classes is None else model.with_classes(classes)


def simple_fit(table: pa.Table, relations: list[Relation] = (), categories: set[str] = frozenset()) -> CopulaFit:
    """A fit of a table by plain means: atoms or 1,000 quantile bins, normal-score correlations, ids not learned."""
    derived = {relation.name for relation in relations}
    columns, latents, scores = [], [], []
    missing_latents: dict[bytes, list[int]] = {}
    for number, field in enumerate(table.schema):
        array = table.column(field.name).combine_chunks()
        missing = np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
        share = float(missing.mean())
        if pa.types.is_string(field.type):
            columns.append(FittedColumn(field.name, "id", "id"))
            continue
        if pa.types.is_dictionary(field.type) or field.name in categories:
            plain = array.dictionary_decode() if pa.types.is_dictionary(field.type) else array
            kept = pc.unique(plain.drop_null()).sort()
            codes = np.asarray(pc.index_in(plain, kept).fill_null(0)).astype(float)
            counts = np.bincount(codes[~missing].astype(int), minlength=len(kept))
            places = np.arange(len(kept), dtype=float)
            marginal = Marginal("category", counts / counts.sum(), places, places, share)
            column = FittedColumn(field.name, "category", "latent", marginal, kept)
        else:
            codes, _ = axis(Column(field.name, field.type, "numerical", "number"), array)
            marginal, precision = axis_marginal(codes[~missing], field.type, share)
            column = FittedColumn(field.name, "number", "latent", marginal, None, precision)
        if field.name in derived:
            columns.append(FittedColumn(field.name, column.role, "relation", None, column.categories, column.precision))
            continue
        columns.append(column)
        latents.append(Latent("value", (number,)))
        scores.append(normal_scores(np.where(missing, np.median(codes[~missing]), codes)))
        if missing.any():
            missing_latents.setdefault(np.packbits(missing).tobytes(), []).append(number)
    for packed, members in missing_latents.items():
        mask = np.unpackbits(np.frombuffer(packed, np.uint8))[: table.num_rows].astype(float)
        latents.append(Latent("missing", tuple(members), float(mask.mean())))
        scores.append(normal_scores(mask))
    correlation = np.corrcoef(np.array(scores)) * 0.98 + 0.02 * np.eye(len(scores))
    return CopulaFit(columns, latents, correlation, list(relations))


def normal_scores(values: np.ndarray) -> np.ndarray:
    return norm.ppf((rankdata(values) - 0.5) / len(values))


def axis_marginal(values: np.ndarray, data_type: pa.DataType, share: float) -> tuple[Marginal, Precision]:
    distinct, counts = np.unique(values, return_counts=True)
    precision = Precision("integer") if pa.types.is_integer(data_type) else Precision("decimal", digits=4)
    if len(distinct) <= 200:
        return Marginal("axis", counts / counts.sum(), distinct, distinct, share), precision
    knots = np.unique(np.quantile(values, np.linspace(0, 1, 1001), method="nearest"))
    counts, _ = np.histogram(values, knots)
    reach = 0.498 if precision.kind == "integer" else 0.0
    keep = counts > 0
    lo, hi = knots[:-1][keep], knots[1:][keep]
    if reach:
        hi[:-1] -= 1
    return Marginal("axis", counts[keep] / counts.sum(), lo - reach, hi + reach, share), precision


def function_of(table: pa.Table, parent: str, derived: str) -> FunctionRelation:
    """The exact relation "derived is a function of parent" between a category column and a column of whole numbers."""
    pairs = table.select([parent, derived]).group_by([parent, derived]).aggregate([]).to_pylist()
    values = sorted({pair[parent] for pair in pairs})
    points = sorted({float(pair[derived]) for pair in pairs})
    known = {pair[parent]: points.index(float(pair[derived])) for pair in pairs}
    codes = (*(known[value] for value in values), -1)
    return FunctionRelation(Operand(parent, tuple(values)), Operand(derived), None, tuple(points), codes)


#: Columns and common factors of ``of_common_factors``.
SIZE, FACTORS = 37, 5


def loadings(size: int = SIZE, factors: int = FACTORS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.normal(0, 1, (size, factors))
    return found / np.linalg.norm(found, axis=1)[:, None] * np.sqrt(rng.uniform(0.1, 0.95, size))[:, None]


def products(found: np.ndarray) -> np.ndarray:
    matrix = found @ found.T
    np.fill_diagonal(matrix, 1.0)
    return matrix


def of_common_factors() -> GaussianCopula:
    """By hand: numbers that are spread over segments, numbers of atoms, flags, and one that may be missing."""
    edges = ndtri(np.linspace(0, 1, 41)[1:-1])
    edges = np.concatenate([[-3.5], edges, [3.5]])
    share = np.full(40, 1 / 40)
    columns, schema = [], []
    for i in range(SIZE):
        if i % 3 == 2:
            flag = Marginal("category", np.array([0.5, 0.5]), np.arange(2.0), np.arange(2.0))
            columns.append(FittedColumn(f"x{i}", "category", "latent", flag, pa.array([0, 1], pa.int8())))
            schema.append((f"x{i}", pa.int8()))
            continue
        middle = 0.5 * (edges[1:] + edges[:-1])
        ends = (edges[:-1], edges[1:]) if i % 3 else (middle, middle)
        columns.append(FittedColumn(f"x{i}", "number", "latent", Marginal("axis", share, *ends, 0.25 * (i == 0))))
        schema.append((f"x{i}", pa.float64()))
    latents = [Latent("value", (i,)) for i in range(SIZE)] + [Latent("missing", (0,), 0.25)]
    found = loadings(SIZE + 1)
    found[[0, -1]] = 0.0  # a column without relations
    return GaussianCopula.from_fit(CopulaFit(columns, latents, products(found), [], [], found), pa.schema(schema))
