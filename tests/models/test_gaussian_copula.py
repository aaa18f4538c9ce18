"""The native copula as a sampler: exact schema, right distributions, the same bytes however rows are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.copula_builder import function_of, simple_fit

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import CopulaFit, FitColumn, Latent, Marginal
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.relations import FlagRelation, Operand, SumRelation

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def adult(adult_dir) -> pa.Table:
    return ds.dataset(adult_dir).to_table().combine_chunks()


@pytest.fixture(scope="module")
def adult_model(adult) -> GaussianCopula:
    fit = simple_fit(adult, [function_of(adult, "education", "education-num")])
    return GaussianCopula.from_fit(fit, adult.schema)


@pytest.fixture(scope="module")
def mds_model(mds_dir) -> GaussianCopula:
    table = ds.dataset(mds_dir).to_table().combine_chunks()
    flags = {f.name for f in table.schema if f.type == pa.int8()}
    generators = {"ID": {"kind": "string", "key": 1, "missing": 0.0, "repeat": 1, "prefix": "", "characters": "[0-9]"}}
    fit = simple_fit(table.drop_columns(["ID"]), [], flags)
    del generators
    return GaussianCopula.from_fit(fit, table.drop_columns(["ID"]).schema)


def atoms(values: list[float], probability: list[float], missing: float = 0.0) -> Marginal:
    return Marginal("axis", np.array(probability), np.array(values, float), np.array(values, float), missing)


def categories(probability: list[float], missing: float = 0.0) -> Marginal:
    places = np.arange(len(probability), dtype=float)
    return Marginal("category", np.array(probability), places, places, missing)


def independent(columns: list[FitColumn], schema: pa.Schema, relations=(), formats=None) -> GaussianCopula:
    """A model of independent columns; each column that may be missing has an indicator of its own."""
    latents = [Latent("value", (i,)) for i, c in enumerate(columns) if c.treatment == "latent"]
    latents += [
        Latent("missing", (i,), c.marginal.p_missing)
        for i, c in enumerate(columns)
        if c.marginal and c.marginal.p_missing
    ]
    fit = CopulaFit(columns, latents, np.eye(len(latents)), list(relations))
    declared = [
        Column(f.name, f.type, "datetime", "datetime", {"datetime_format": formats[f.name]})
        for f in schema
        if formats and f.name in formats
    ]
    return GaussianCopula.from_fit(fit, schema, declared)


def stream(batch: pa.RecordBatch) -> bytes:
    """A batch as bytes: NaN equals NaN, and what stands under a null counts."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


# ---------------------------------------------------------------- schema


def zoo() -> tuple[list[FitColumn], pa.Schema, dict[str, str]]:
    """One column of every type that a table may have."""
    integer, text = Precision("integer"), pa.array(["a", "b", "ü"])
    columns, fields, formats = [], [], {}

    def add(data_type: pa.DataType, marginal: Marginal, *, nullable: bool = True, **options) -> None:
        name = f"{len(columns)} {data_type}"
        role = "category" if marginal.kind == "category" else "number"
        columns.append(FitColumn(name, role, "latent", marginal, **options))
        fields.append(pa.field(name, data_type, nullable=nullable, metadata={"n": str(len(fields))}))

    for data_type in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        add(data_type, atoms([1, 5, 7], [0.2, 0.3, 0.5], 0.1), precision=integer)
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([-0.498]), np.array([100.498])),
            precision=integer,
            nullable=False,
        )
    for data_type in (pa.float16(), pa.float32(), pa.float64()):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([0.0]), np.array([9.0]), 0.2),
            precision=Precision("decimal", digits=1),
        )
        add(data_type, Marginal("axis", np.ones(1), np.array([0.0]), np.array([9.0]), 0.2), emit_nan=True)
    for data_type in (pa.decimal128(10, 2), pa.decimal256(40, 3)):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([-5.0]), np.array([5.0]), 0.2),
            precision=Precision("decimal", digits=2),
        )
    for data_type in (
        pa.date32(),
        pa.time32("s"),
        pa.timestamp("ms", "Europe/Rome"),
        pa.timestamp("ns"),
        pa.duration("us"),
    ):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([999.5]), np.array([9999.5]), 0.1),
            precision=Precision("integer", 0, 100),
        )
    for data_type in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        add(data_type, categories([0.2, 0.3, 0.5], 0.1), categories=text.cast(pa.string()))
    add(
        pa.dictionary(pa.int32(), pa.large_string(), ordered=True),
        categories([0.5, 0.5]),
        categories=pa.array(["x", "y"], pa.large_string()),
    )
    add(pa.bool_(), categories([0.5, 0.5], 0.3), categories=pa.array([False, True]))
    add(pa.int8(), categories([0.9, 0.1], 0.3), categories=pa.array([0, 1], pa.int8()))
    add(pa.int64(), categories([0.9, 0.1]), categories=pa.array([2**62 + 1, -(2**62)]))
    add(pa.date32(), categories([0.9, 0.1], 0.5), categories=pa.array([1, 2], pa.int32()).cast(pa.date32()))
    add(pa.binary(), categories([0.5, 0.5], 0.1), categories=pa.array([b"\0", b"xyz"]))
    for data_type, layout in ((pa.string(), "%Y-%m-%d"), (pa.int32(), "%Y%m%d")):
        day = 86_400 * 10**9
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([1000.0 * day]), np.array([9000.0 * day]), 0.1),
            precision=Precision("integer", 0, day),
        )
        formats[columns[-1].name] = layout
    columns += [
        FitColumn("empty", "empty", "empty"),
        FitColumn("nothing", "empty", "empty"),
        FitColumn("constant", "category", "constant", categories([1.0]), pa.array(["only"])),
        FitColumn("constant, or missing", "number", "constant", atoms([3.0], [1.0], 0.25), precision=integer),
    ]
    fields += [
        pa.field("empty", pa.dictionary(pa.int8(), pa.string())),
        pa.field("nothing", pa.null()),
        pa.field("constant", pa.string(), nullable=False),
        pa.field("constant, or missing", pa.int16()),
    ]
    return columns, pa.schema(fields, {"table": "zoo"}), formats


def test_every_type_comes_out_as_it_went_in(tmp_path):
    columns, schema, formats = zoo()
    model = independent(columns, schema, formats=formats)
    model.save(tmp_path)
    batch = GaussianCopula.load(tmp_path).draw(3, 10, 20_000)
    batch.validate(full=True)
    assert batch.schema.equals(schema, check_metadata=True)
    assert stream(batch) == stream(model.draw(3, 10, 20_000))
    for column, array in zip(columns, batch.columns):
        if column.treatment == "empty":
            assert array.null_count == len(array)
            continue
        nan = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False).mean()
        assert abs(nan - column.marginal.p_missing) < 0.02, column.name
        assert (array.null_count == 0) == (column.emit_nan or not column.marginal.p_missing), column.name
        distinct = set(array.to_pylist()) - {None}
        if column.categories is not None:
            assert distinct == set(column.categories.to_pylist()), column.name
        elif len(column.marginal.lo) > 1:
            assert distinct == {1, 5, 7}, column.name


def test_grids_are_kept():
    columns, schema, formats = zoo()
    batch = independent(columns, schema, formats=formats).draw(0, 0, 30_000)
    whole = batch.column("1 int8").to_numpy()
    assert set(whole.tolist()) == set(range(101))
    assert np.abs(np.bincount(whole) / len(whole) * 101 - 1).max() < 0.4
    assert set(batch.column("20 double").drop_null().to_pylist()) == {round(i * 0.1, 1) for i in range(91)}
    rome = batch.column("26 timestamp[ms, tz=Europe/Rome]").drop_null().cast(pa.int64()).to_numpy()
    assert (rome % 100 == 0).all() and rome.min() == 1000 and rome.max() == 10_000
    assert batch.column("22 decimal128(10, 2)").drop_null()[0].as_py().as_tuple().exponent == -2


def test_a_fit_of_another_table_is_refused(adult, adult_model):
    fit = simple_fit(adult.select(["age", "sex"]))
    with pytest.raises(ModelError, match="columns of the schema"):
        GaussianCopula.from_fit(fit, adult.schema)


# ---------------------------------------------------------------- distributions


def test_adult_margins_and_pairs_are_those_of_the_fit(adult, adult_model):
    batch = adult_model.draw(0, 0, 400_000)
    assert batch.schema.equals(adult.schema, check_metadata=True)
    for column in adult_model.columns:
        if column.treatment != "latent" or column.categories is None:
            continue
        values = batch.column(column.name)
        codes = values.indices.drop_null().to_numpy()
        counts = np.bincount(codes, minlength=len(column.categories)) / len(codes)
        wanted = np.zeros(len(column.categories))
        wanted[column.marginal.lo.astype(int)] = column.marginal.probability
        assert 0.5 * np.abs(counts - wanted).sum() < 0.006
        assert abs(values.null_count / 400_000 - column.marginal.p_missing) < 0.002
    for name in ("age", "fnlwgt", "hours-per-week"):
        real, drawn = np.sort(adult.column(name).to_numpy()), np.sort(batch.column(name).to_numpy())
        grid = np.linspace(0, 1, 999)
        assert (
            np.abs(
                np.searchsorted(drawn, np.quantile(real, grid)) / 4e5
                - np.searchsorted(real, np.quantile(real, grid)) / len(real)
            ).max()
            < 0.006
        )


def test_latents_have_the_correlations_of_the_fit(adult, adult_model):
    """Tetrachoric check: P(both above their medians) = 1/4 + arcsin(r) / 2 pi."""
    size = 5
    rng = np.random.default_rng(0)
    g = rng.normal(size=(size, size + 2))
    matrix = g @ g.T
    matrix /= np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    schema = pa.schema([(f"x{i}", pa.int8()) for i in range(size)])
    columns = [
        FitColumn(f"x{i}", "category", "latent", categories([0.5, 0.5]), pa.array([0, 1], pa.int8()))
        for i in range(size)
    ]
    fit = CopulaFit(columns, [Latent("value", (i,)) for i in range(size)], matrix, [])
    batch = GaussianCopula.from_fit(fit, schema).draw(1, 0, 1_000_000)
    above = np.array([c.to_numpy() for c in batch.columns], float)
    both = above @ above.T / 1e6
    expected = 0.25 + np.arcsin(np.clip(matrix, -1, 1)) / (2 * np.pi)
    assert np.abs(both - expected).max() < 0.0025


def test_missing_values_share_their_rows_and_their_correlations():
    schema = pa.schema([("a", pa.int16()), ("b", pa.float32()), ("c", pa.int8())])
    columns = [
        FitColumn("a", "number", "latent", atoms([1, 2], [0.5, 0.5], 0.2), precision=Precision("integer")),
        FitColumn("b", "number", "latent", atoms([1, 2], [0.5, 0.5], 0.2)),
        FitColumn("c", "category", "latent", categories([0.7, 0.3]), pa.array([0, 1], pa.int8())),
    ]
    latents = [Latent("value", (0,)), Latent("value", (1,)), Latent("value", (2,)), Latent("missing", (0, 1), 0.2)]
    matrix = np.eye(4)
    matrix[2, 3] = matrix[3, 2] = 0.6
    batch = GaussianCopula.from_fit(CopulaFit(columns, latents, matrix, []), schema).draw(0, 0, 300_000)
    missing = batch.column("a").is_null().to_numpy(zero_copy_only=False)
    assert np.array_equal(missing, batch.column("b").is_null().to_numpy(zero_copy_only=False))
    assert abs(missing.mean() - 0.2) < 0.004
    flag = batch.column("c").to_numpy()
    assert flag[missing].mean() > 0.55 > 0.3 > flag[~missing].mean()  # large latents mean missing


# ---------------------------------------------------------------- relations


def test_a_function_of_another_column_always_holds(adult, adult_model):
    batch = adult_model.draw(5, 0, 300_000)
    relation = adult_model.relations[0]
    assert relation.violations(batch) == 0
    assert len(batch.column("education-num").unique()) == 16


def test_flags_and_sums_hold_with_missing_parents():
    schema = pa.schema(
        [
            ("any", pa.int8()),
            ("one", pa.int8()),
            ("two", pa.int8()),
            ("sum", pa.float64()),
            ("p", pa.float64()),
            ("q", pa.int32()),
        ]
    )
    flag = pa.array([0, 1], pa.int8())
    flipped = categories([0.8, 0.2], 0.1)
    flipped = Marginal("category", flipped.probability, np.array([1.0, 0.0]), np.array([1.0, 0.0]), 0.1)
    tenth = Precision("decimal", digits=1)
    columns = [
        FitColumn("any", "category", "relation", None, flag),
        FitColumn("one", "category", "latent", categories([0.9, 0.1]), flag),
        FitColumn("two", "category", "latent", flipped, flag),
        FitColumn("sum", "number", "relation", None, precision=tenth),
        FitColumn("p", "number", "latent", Marginal("axis", np.ones(1), np.zeros(1), np.ones(1), 0.3), precision=tenth),
        FitColumn("q", "number", "latent", atoms([1, 2], [0.5, 0.5]), precision=Precision("integer")),
    ]
    values = (0, 1)
    relations = [
        FlagRelation(
            (Operand("one", values), Operand("two", values)),
            Operand("any", values),
            (1, 1, 1),
            (0, 0, 0),
            "or",
            "known",
        ),
        SumRelation((Operand("p"), Operand("q")), Operand("sum"), 1e-9, tenth, "any"),
    ]
    batch = independent(columns, schema, relations).draw(0, 0, 50_000)
    assert batch.schema.equals(schema)
    assert [relation.violations(batch) for relation in relations] == [0, 0]
    assert 0.2 < batch.column("sum").null_count / 50_000 < 0.4
    assert 0.05 < batch.column("any").null_count / 50_000 < 0.1
    assert set(batch.column("any").unique().to_pylist()) == {0, 1, None}


# ---------------------------------------------------------------- the same bytes


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=5), first=st.integers(0, 2**55), seed=st.integers(-(2**70), 2**70))
def test_any_split_gives_the_same_rows(adult_model, cuts, first, seed):
    edges = [0, *sorted(cuts), 5000]
    whole = adult_model.draw(seed, first, 5000)
    parts = [adult_model.draw(seed, first + a, b - a) for a, b in zip(edges, edges[1:])]
    assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))


def test_seeds_and_names_give_other_rows(adult, adult_model):
    from dataclasses import replace

    rows = adult_model.draw(0, 0, 100)
    assert not rows.equals(adult_model.draw(1, 0, 100))
    assert not rows.equals(adult_model.draw(0, 100, 100))
    assert not rows.equals(replace(adult_model, name="another").draw(0, 0, 100))


SCRIPT = """
import hashlib, sys
from pathlib import Path
import pyarrow as pa
from shardsynth.models.copula.model import GaussianCopula
folder, device, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
model = GaussianCopula.load(folder)
conditions = None
if where:
    from shardsynth.sampling.conditions import parse_conditions
    conditions = model.prepare(parse_conditions(where))
digest = hashlib.sha256()
for first in (0, 30_000, 10**12):
    batch = model.draw(11, first, 30_000, conditions, device=None if device == "numpy" else device)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    digest.update(sink.getvalue())
print(digest.hexdigest())
"""


def digest(folder: Path, device: str = "numpy", where: str = "", **environment: str) -> str:
    """Hash of 90,000 rows, drawn by another process under an environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_", "ATEN_", "NPY_"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), device, where],
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


CPUS = {
    "one thread": {},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "Nehalem": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    "SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
}
TORCHES = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
}
WHERE = 'sex == "Female" and 30 <= age < 60 and fnlwgt > 250000'


@pytest.fixture(scope="module")
def saved(adult_model, tmp_path_factory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("model")
    adult_model.save(folder)
    return folder, digest(folder), digest(folder, where=WHERE)


@pytest.mark.parametrize("cpu", list(CPUS)[1:])
def test_every_cpu_gives_the_same_bytes(saved, cpu):
    assert digest(saved[0], **CPUS[cpu]) == saved[1]


@pytest.mark.parametrize("cpu", ["two threads", "Nehalem", "SkylakeX"])
def test_every_cpu_gives_the_same_bytes_under_conditions(saved, cpu):
    assert digest(saved[0], where=WHERE, **CPUS[cpu]) == saved[2]


@pytest.mark.parametrize("kind", TORCHES)
def test_torch_gives_the_bytes_of_numpy(saved, kind):
    pytest.importorskip("torch")
    assert digest(saved[0], "cpu", **TORCHES[kind]) == saved[1]


def test_torch_gives_the_bytes_of_numpy_under_conditions_and_for_every_type(saved, mds_model):
    pytest.importorskip("torch")
    assert digest(saved[0], "cpu", WHERE) == saved[2]
    columns, schema, formats = zoo()
    for model in (independent(columns, schema, formats=formats), mds_model):
        assert stream(model.draw(0, 77, 20_000, device="cpu")) == stream(model.draw(0, 77, 20_000))


def test_cuda_gives_the_bytes_of_numpy(adult_model):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    assert adult_model.draw(0, 5, 300_000, device="cuda").equals(adult_model.draw(0, 5, 300_000))


# ---------------------------------------------------------------- files


def test_a_saved_model_is_the_same_model_and_the_same_bytes(adult_model, mds_model, tmp_path):
    for name, model in {"adult": adult_model, "mds": mds_model}.items():
        first, second = tmp_path / name / "a", tmp_path / name / "b"
        model.save(first)
        loaded = GaussianCopula.load(first)
        loaded.save(second)
        assert {p.name for p in first.iterdir()} == {"model.json", "model.safetensors"}
        for file in first.iterdir():
            assert file.read_bytes() == (second / file.name).read_bytes()
        assert stream(loaded.draw(2, 3, 1000)) == stream(model.draw(2, 3, 1000))
        assert loaded.learned_distributions == model.learned_distributions


def test_loading_is_quick_and_needs_neither_sdv_nor_torch(saved):
    code = (
        "import sys, time; t = time.perf_counter()\n"
        "from pathlib import Path\n"
        "from shardsynth.models.copula.model import GaussianCopula\n"
        f"GaussianCopula.load(Path({str(saved[0])!r})).draw(0, 0, 1000)\n"
        "assert not {'sdv', 'torch', 'scipy', 'pandas'} & set(sys.modules), set(sys.modules)\n"
        "print(time.perf_counter() - t)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1.0


def test_what_is_no_model_is_named(tmp_path, saved):
    with pytest.raises(ModelError, match=r"model\.json"):
        GaussianCopula.load(tmp_path)
    (tmp_path / "model.json").write_text('{"engine": "sdv"}')
    with pytest.raises(ModelError, match="not a native Gaussian copula"):
        GaussianCopula.load(tmp_path)
    text = (saved[0] / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(ModelError, match="later shardsynth"):
        GaussianCopula.load(tmp_path)
    (tmp_path / "model.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="safetensors"):
        GaussianCopula.load(tmp_path)
