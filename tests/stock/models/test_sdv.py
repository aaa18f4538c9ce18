"""The stock engine: real SDV synthesizers, chunk by chunk, in exactly the input's schema."""

from __future__ import annotations

import datetime
import inspect
import io
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from shardsynth.data import detection
from shardsynth.data import metadata as md
from shardsynth.errors import InputError, MetadataError, ModelError
from shardsynth.models.sdv.options import CLASSES, DISTRIBUTIONS, OPTIONS, validate_options
from shardsynth.models.sdv.synthesizers import StockModel, fit_stock
from shardsynth.summaries.profile import Profile, ProfileOptions

FAMILIES = list(OPTIONS)
FEW = {"epochs": 1, "batch_size": 100}


def profile_of(table: pa.Table) -> Profile:
    profile, offset = Profile.empty(table.schema, ProfileOptions(total_rows=len(table))), 0
    for batch in table.to_batches():
        profile.update(batch, offset)
        offset += batch.num_rows
    return profile.cut()


def fitted(family: str, table: pa.Table, options: dict[str, Any] | None = None, **changes: Any) -> StockModel:
    """As a task does it: detected on the sample, fitted to the sample, drawn in the table's schema."""
    profile = profile_of(table)
    metadata = detection.detect(profile.sample, profile, table.schema)
    for name, options_of in changes.items():
        metadata["tables"]["table"]["columns"][name] = options_of
    if options is None:
        options = {} if family == "gaussian_copula" else FEW
    columns = md.columns(metadata, table.schema)
    return fit_stock(family, options, profile.sample, columns, metadata, 11, schema=table.schema)


@pytest.fixture(scope="module")
def cancer() -> pa.Table:
    """Seven columns of the Wisconsin table, 569 rows, with a key, a category, gaps and metadata."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns: dict[str, pa.Array] = {"patient_id": pa.array([f"P-{i:05d}" for i in range(569)])}
    for i in range(4):
        columns[data.feature_names[i]] = pa.array(data.data[:, i].round(2), pa.float32())
    columns["mean area"] = pa.array(data.data[:, 3].round().astype(int), pa.int16(), mask=data.data[:, 0] > 20)
    columns["diagnosis"] = (
        pa.array([data.target_names[t] for t in data.target])
        .dictionary_encode()
        .cast(pa.dictionary(pa.int8(), pa.string()))
    )
    table = pa.table(columns)
    fields = [field.with_metadata({"unit": "mm"}) if "radius" in field.name else field for field in table.schema]
    return table.cast(pa.schema(fields, metadata={"source": "sklearn"}))


@pytest.fixture(scope="module")
def models(cancer: pa.Table) -> dict[str, StockModel]:
    return {family: fitted(family, cancer) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, models: dict[str, StockModel]) -> StockModel:
    return models[request.param]


def test_draws_have_the_inputs_schema(model: StockModel, cancer: pa.Table) -> None:
    batch = model.draw(1, 0, 300)
    batch.validate(full=True)
    assert batch.schema.equals(cancer.schema, check_metadata=True)
    assert batch.num_rows == 300
    assert model.draw(1, 0, 0).schema.equals(cancer.schema, check_metadata=True)
    for name in cancer.schema.names:
        if pa.types.is_floating(cancer.schema.field(name).type) or name == "mean area":
            assert pc.min(batch[name]).as_py() >= pc.min(cancer[name]).as_py()
            assert pc.max(batch[name]).as_py() <= pc.max(cancer[name]).as_py()
    assert 0 < batch["mean area"].null_count < 300
    assert set(batch["diagnosis"].to_pylist()) <= {"benign", "malignant"}
    assert batch["diagnosis"].dictionary.to_pylist() == ["benign", "malignant"]


def test_a_chunk_is_the_same_whatever_was_drawn_before_and_no_two_are_alike(model: StockModel) -> None:
    first = model.draw(5, 100, 200)
    other = model.draw(6, 300, 200)
    assert model.draw(5, 100, 200).equals(first)
    learned = [name for name in first.schema.names if name != "patient_id"]
    rows = set(map(str, first.select(learned).to_pylist()))
    assert len(rows & set(map(str, other.select(learned).to_pylist()))) < 10
    ids = pa.concat_arrays([first["patient_id"], other["patient_id"]])
    assert len(pc.unique(ids)) == 400
    assert pc.all(pc.match_substring_regex(ids, "^P-[0-9]{5}$")).as_py()


def test_ids_depend_on_the_row_number_alone(model: StockModel) -> None:
    assert model.draw(5, 100, 50)["patient_id"].equals(model.draw(9, 120, 50)["patient_id"].slice(0, 30)) is False
    assert model.draw(5, 100, 50)["patient_id"].slice(20).equals(model.draw(9, 120, 30)["patient_id"])


def test_a_chunk_has_the_same_bytes_in_a_fresh_process(models: dict[str, StockModel], tmp_path: Path) -> None:
    saved = {str(tmp_path / f"{family}.pkl"): model for family, model in models.items()}
    shas = [model.save(path) for path, model in saved.items()]
    code = (
        "import sys, pyarrow as pa; from shardsynth.models.sdv.synthesizers import StockModel;"
        "half = len(sys.argv) // 2; files = zip(sys.argv[1:], sys.argv[half + 1:]);"
        "batches = [StockModel.load(path, sha).draw(77, 1000, 150) for path, sha in files];"
        "s = pa.ipc.new_stream(sys.stdout.buffer, batches[0].schema);"
        "[s.write_batch(b) for b in batches]; s.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *saved, *shas],
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )
    batches = list(pa.ipc.open_stream(io.BytesIO(done.stdout)))
    for batch, model in zip(batches, saved.values()):
        assert batch.equals(model.draw(77, 1000, 150)), model.family
    assert len(batches) == 4 and not done.stderr


def test_a_fit_is_reproducible(cancer: pa.Table) -> None:
    for family in ("gaussian_copula", "tvae"):
        np.random.seed(np.random.randint(2**31))
        assert fitted(family, cancer).draw(3, 0, 50).equals(fitted(family, cancer).draw(3, 0, 50))


def test_nothing_of_the_callers_random_state_is_touched(model: StockModel) -> None:
    np.random.seed(4)
    wanted = np.random.rand()
    np.random.seed(4)
    model.draw(1, 0, 20)
    assert np.random.rand() == wanted


def test_a_pickle_is_opened_only_when_the_run_wrote_it(cancer: pa.Table, tmp_path: Path) -> None:
    model = fitted("gaussian_copula", cancer)
    path = tmp_path / "m.pkl"
    sha = model.save(path)
    assert StockModel.load(path, sha).draw(1, 0, 9).equals(model.draw(1, 0, 9))
    for wrong in (None, "0" * 64):
        with pytest.raises(ModelError, match="pickle.*--trust-pickle"):
            StockModel.load(path, wrong)
    assert StockModel.load(path, None, trust=True).family == "gaussian_copula"
    with pytest.raises(ModelError, match="cannot be read"):
        StockModel.load(tmp_path / "none.pkl", sha)

    fired = tmp_path / "fired"
    path.write_bytes(pickle.dumps(Evil(str(fired))))
    with pytest.raises(ModelError, match="not signed by you"):
        StockModel.load(path, sha)
    assert not fired.exists()
    path.write_bytes(b"no pickle")
    with pytest.raises(ModelError, match="cannot be opened"):
        StockModel.load(path, None, trust=True)
    path.write_bytes(pickle.dumps(3))
    with pytest.raises(ModelError, match="import-model"):
        StockModel.load(path, None, trust=True)


class Evil:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.target),)


def test_plain_sdv_opens_the_same_file(cancer: pa.Table, tmp_path: Path) -> None:
    from sdv.utils import load_synthesizer

    fitted("gaussian_copula", cancer).save(tmp_path / "m.pkl")
    frame = load_synthesizer(str(tmp_path / "m.pkl")).sample(num_rows=7)["table"]
    assert list(frame.columns) == [name for name in cancer.schema.names if name != "patient_id"]


def test_losses_and_distributions(cancer: pa.Table) -> None:
    copula = fitted("gaussian_copula", cancer, {"default_distribution": "norm"})
    assert copula.losses() is None
    assert copula.learned_distributions()["mean radius"]["distribution"] == "norm"
    deep = fitted("ctgan", cancer, {"epochs": 2, "batch_size": 100})
    losses = deep.losses()
    assert losses is not None and losses.column_names == ["Epoch", "Generator Loss", "Discriminator Loss"]
    assert len(losses) == 2 and deep.learned_distributions() == {}


def test_the_real_table_of_patients(mds_dir: Path) -> None:
    table = pa.concat_tables([pq.read_table(file) for file in sorted(mds_dir.glob("*.parquet"))])
    model = fitted("gaussian_copula", table, {"default_distribution": "norm"})
    batch = model.draw(1, 0, 2000)
    assert batch.schema.equals(table.schema, check_metadata=True)
    assert len(pc.unique(batch["ID"])) == 2000
    for name in ("TET2", "SEX", "RINGED_SIDEROBLASTS"):
        assert batch[name].null_count / 2000 == pytest.approx(table[name].null_count / len(table), abs=0.05)
    assert pc.mean(batch["TET2"]).as_py() == pytest.approx(pc.mean(table["TET2"]).as_py(), abs=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_small_and_degenerate_tables(family: str) -> None:
    whole = pa.table(
        {
            "constant": pa.array([3] * 12, pa.int8()),
            "word": pa.array(["a"] * 12).dictionary_encode(),
            "nothing": pa.array([None] * 12, pa.date32()),
            "void": pa.nulls(12),
            "gappy": pa.array([2.5, None] * 6),
            "x": pa.array([1.5, 2.5, 3.5] * 4),
            "flag": pa.array([True, False, None] * 4),
            "group": pa.array(["u", None, "v"] * 4),
        }
    )
    for table in (whole, whole.slice(0, 2), whole.slice(0, 1), whole.select(["constant", "nothing"])):
        batch = fitted(family, table).draw(1, 0, 30)
        assert batch.schema.equals(table.schema)
        assert batch["constant"].to_pylist() == [3] * 30
        assert batch["nothing"].null_count == 30
    assert "word" in whole.schema.names and set(fitted(family, whole).draw(1, 0, 9)["word"].to_pylist()) == {"a"}


def test_only_ids(tmp_path: Path) -> None:
    table = pa.table({"id": [f"k{i}" for i in range(20)]})
    model = fitted("tvae", table)
    sha = model.save(tmp_path / "m.pkl")
    drawn = StockModel.load(tmp_path / "m.pkl", sha).draw(0, 10, 40)
    assert len(pc.unique(drawn["id"])) == 40
    assert model.losses() is None


def test_every_type_comes_back(tmp_path: Path) -> None:
    n = 60
    stamps = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=31 * i) for i in range(n)]
    table = pa.table(
        {
            "price": pa.array([Decimal(i).scaleb(-2) for i in range(n)], pa.decimal128(9, 2)),
            "moment": pa.array(stamps, pa.timestamp("ms", "Europe/Berlin")),
            "day": pa.array([stamp.date() if i % 5 else None for i, stamp in enumerate(stamps)], pa.date32()),
            "far": pa.array([datetime.date(9999, 12, 31), datetime.date(2020, 1, 1)] * (n // 2)),
            "clock": pa.array([i * 60 for i in range(n)], pa.time32("s")),
            "span": pa.array([i * 1000 for i in range(n)], pa.duration("us")),
            "written": pa.array([stamp.strftime("%d.%m.%Y") for stamp in stamps]),
            "half": pa.array(np.arange(n, dtype=np.float16), pa.float16()),
            "wide": pa.array([2**40 + i // 2 for i in range(n)], pa.uint64()),  # each twice: it is no id
            "nan": pa.array([float("nan"), 1.5, 2.5] * (n // 3)),
            "yes": pa.array([True, False] * (n // 2)),
            "": pa.array(["a", "b", "c"] * (n // 3), pa.large_string()),
            "a.b": pa.array([0, 1] * (n // 2), pa.int8()),
        }
    )
    required = [field.with_nullable(field.name not in ("price", "yes")) for field in table.schema]
    table = table.cast(pa.schema(required))
    for family in ("gaussian_copula", "tvae"):
        batch = fitted(family, table).draw(1, 0, 500)
        batch.validate(full=True)
        assert batch.schema.equals(table.schema, check_metadata=True)
        assert batch["nan"].null_count == 0 and pc.sum(pc.is_nan(batch["nan"])).as_py() > 50
        assert set(batch["a.b"].to_pylist()) == {0, 1}
        for name in ("price", "moment", "day", "far", "clock", "wide"):
            assert pc.min(batch[name]).as_py() >= pc.min(table[name]).as_py(), name
            assert pc.max(batch[name]).as_py() <= pc.max(table[name]).as_py(), name


def test_personal_columns_are_never_learned() -> None:
    table = pa.table({"email": [f"secret{i}@clinic.org" for i in range(50)], "x": [float(i % 7) for i in range(50)]})
    for family in ("gaussian_copula", "tvae"):
        model = fitted(family, table)
        assert b"secret" not in pickle.dumps((model._state, model.synthesizer))
        batch = model.draw(1, 0, 500)
        assert "secret" not in str(batch["email"].to_pylist())
        assert len(pc.unique(batch["email"])) == 500


def test_ordinal_categories_keep_the_order_of_the_metadata() -> None:
    levels = ["low", "middle", "high"]
    table = pa.table({"level": levels * 20, "x": [float(i) + 0.5 for i in range(60)]})
    ordinal = {"sdtype": "ordinal", "range_values": [*levels, "never seen"]}
    model = fitted("gaussian_copula", table, level=ordinal)
    assert set(model.draw(1, 0, 1000)["level"].to_pylist()) == set(levels)
    with pytest.raises(MetadataError, match="'level'.*range_values"):
        fitted("gaussian_copula", table, level={"sdtype": "ordinal", "range_values": ["low", "high"]})


def test_what_cannot_be_fitted() -> None:
    schema = pa.schema([("x", pa.float64())])
    metadata = {"tables": {"table": {"columns": {"x": {"sdtype": "numerical"}}}}}
    columns = md.columns(metadata, schema)
    with pytest.raises(InputError, match="no training rows"):
        fit_stock("tvae", {}, schema.empty_table(), columns, metadata, 0)
    with pytest.raises(InputError, match="'x': infinite"):
        fit_stock("tvae", {}, pa.table({"x": [1.0, float("inf")]}), columns, metadata, 0)
    metadata["tables"]["table"]["columns"]["x"]["decimal_places"] = 1  # type: ignore[assignment]
    with pytest.raises(MetadataError, match="'x'.*1 decimal places"):
        fit_stock("tvae", {}, pa.table({"x": [1.0, 0.25]}), md.columns(metadata, schema), metadata, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_options_are_those_of_the_installed_sdv(family: str) -> None:
    import sdv.single_table

    parameters = inspect.signature(getattr(sdv.single_table, CLASSES[family]).__init__).parameters
    theirs = {name: p.default for name, p in parameters.items() if name not in ("self", "metadata")}
    assert theirs == OPTIONS[family]
    assert tuple(sorted(DISTRIBUTIONS)) == tuple(sorted(sdv.single_table.GaussianCopulaSynthesizer._DISTRIBUTIONS))
    checked = validate_options(family, theirs)
    assert checked.get("epochs", 300) == 300
