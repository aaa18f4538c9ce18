"""To SDV and back: a native copula and its stock twin make the same tables."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.copula import folder_table, native, profiled

from shardsynth.data import frames
from shardsynth.errors import ModelError
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.sdv.export_copula import export, to_stock
from shardsynth.models.sdv.import_model import import_stock
from shardsynth.models.sdv.marginals import ks_distance
from shardsynth.models.sdv.synthesizers import fit_stock

ROWS = 40_000  # of stock SDV, whose seed is fixed: a missing rate's standard error is at most 0.0025
MANY = 400_000  # of a native model: 0.0008


def drawn(model: GaussianCopula, rows: int = MANY) -> pd.DataFrame:
    return frames.to_pandas(model.draw(5, 0, rows))


def assert_alike(
    one: pd.DataFrame, other: pd.DataFrame, names: list[str], tolerance: float = 0.02, gaps: float = 0.01
) -> None:
    """TV of categories and KS of numbers within the tolerance, missing rates within ``gaps``."""
    for name in names:
        a, b = one[name], other[name]
        assert abs(a.isna().mean() - b.isna().mean()) <= gaps, name
        a, b = a.dropna(), b.dropna()
        if a.dtype.kind in "fiM":
            distance = ks_distance(a.astype("int64" if a.dtype.kind == "M" else float).to_numpy(), np.asarray(b, float))
        else:
            shares = [x.astype(str).value_counts(normalize=True) for x in (a, b)]
            distance = float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
        assert distance <= tolerance, (name, distance)


@pytest.fixture(scope="module")
def patients(mds_dir: Path) -> GaussianCopula:
    names = [
        *("ID", "SEX", "MDS_TYPE", "WHO_2016", "AGE", "HB", "PLT", "RINGED_SIDEROBLASTS", "OS_YEARS"),
        *("LFS_YEARS", "OS_STATUS", "TET2", "TET2bi", "TET2other", "SF3B1"),
    ]
    return native(folder_table(mds_dir, names))


@pytest.fixture(scope="module")
def exported(patients: GaussianCopula, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    path = tmp_path_factory.mktemp("export") / "patients.pkl"
    return path, export(patients, path)


@pytest.fixture(scope="module")
def stock_rows(exported: tuple[Path, dict[str, float]]) -> pd.DataFrame:
    from sdv.utils import load_synthesizer

    return load_synthesizer(str(exported[0])).sample(num_rows=ROWS)["table"]


def test_what_sdv_samples_is_what_we_draw(
    patients: GaussianCopula, exported: tuple[Path, dict[str, float]], stock_rows: pd.DataFrame
) -> None:
    rows = drawn(patients)
    assert list(stock_rows.columns) == patients.schema.names
    assert_alike(rows, stock_rows, [name for name in patients.schema.names if name != "ID"])
    assert stock_rows["ID"].is_unique and stock_rows["ID"].str.match(r"^[A-Z]-H-[0-9]{6}-T").all()
    lost = exported[1]
    assert set(lost) == {"AGE", "HB", "PLT", "RINGED_SIDEROBLASTS", "OS_YEARS", "LFS_YEARS"}
    assert max(lost.values()) <= 0.011


def test_shared_gaps_and_correlations_survive(patients: GaussianCopula, stock_rows: pd.DataFrame) -> None:
    rows = drawn(patients)
    for one, other in (("OS_YEARS", "LFS_YEARS"), ("HB", "PLT"), ("HB", "RINGED_SIDEROBLASTS")):
        wanted = (rows[one].isna() & rows[other].isna()).mean()
        assert (stock_rows[one].isna() & stock_rows[other].isna()).mean() == pytest.approx(wanted, abs=0.012)
        wanted = rows[one].corr(rows[other], method="spearman")
        assert stock_rows[one].corr(stock_rows[other], method="spearman") == pytest.approx(wanted, abs=0.06)
    wanted = rows["TET2"].corr(rows["TET2bi"])
    assert stock_rows["TET2"].corr(stock_rows["TET2bi"]) == pytest.approx(wanted, abs=0.2)  # computed, now a latent


def test_an_exported_model_comes_back(
    patients: GaussianCopula, exported: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    back = import_stock(exported[0], trust=True)
    kept = {"AGE", "HB", "PLT", "RINGED_SIDEROBLASTS", "OS_YEARS", "LFS_YEARS"}
    wanted, found = (
        {model.columns[i].name: x.p_missing for x in model.latents if x.kind == "missing" for i in x.columns}
        for model in (patients, back)
    )
    assert found == pytest.approx({name: wanted[name] for name in kept}, abs=1e-12)
    assert_alike(drawn(patients), drawn(back), [name for name in patients.schema.names if name != "ID"])
    back.save(tmp_path / "model")
    again = GaussianCopula.load(tmp_path / "model")
    assert again.draw(1, 0, 500).equals(back.draw(1, 0, 500))
    assert len(pc.unique(again.draw(1, 0, 500)["ID"])) == 500


def test_a_function_of_a_category_stays_exact(adult_dir: Path) -> None:
    table = folder_table(
        adult_dir, ["education", "education-num", "hours-per-week", "capital-gain", "fnlwgt", "income"]
    )
    model = native(table)
    assert [relation.name for relation in model.relations] == ["education-num"]
    synthesizer, lost = to_stock(model)
    rows = synthesizer.sample(num_rows=ROWS)["table"]
    assert_alike(drawn(model), rows, ["education", "hours-per-week", "capital-gain", "fnlwgt", "income"])
    assert len(rows[["education", "education-num"]].drop_duplicates()) == rows["education"].nunique()
    real = table.select(["education", "education-num"]).to_pandas().drop_duplicates()
    assert set(map(tuple, rows[["education", "education-num"]].to_numpy())) <= set(map(tuple, real.to_numpy()))
    assert max(lost.values()) <= 0.011


def everything(n: int = 600) -> pa.Table:
    rng = np.random.default_rng(1)
    stamps = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=int(h)) for h in rng.integers(0, 9000, n)]
    return pa.table(
        {
            "key": [f"k{i:05d}" for i in range(n)],
            "email": [f"secret{i}@clinic.org" for i in range(n)],
            "day": pa.array([s.date() if i % 4 else None for i, s in enumerate(stamps)], pa.date32()),
            "moment": pa.array(stamps, pa.timestamp("us", "UTC")),
            "written": [s.strftime("%Y-%m-%d") for s in stamps],
            "yes": pa.array(rng.random(n) < 0.3),
            "group": pa.array(rng.choice(np.array(["a", None, "c"], dtype=object), n))
            .dictionary_encode()
            .cast(pa.dictionary(pa.uint8(), pa.string())),
            "rare": pa.array(["planted", *rng.choice(["u", "v"], n - 1)]),
            "score": pa.array(
                [None if i % 5 == 0 else int(v) for i, v in enumerate(rng.integers(0, 60, n))], pa.int16()
            ),
            "weight": rng.normal(70, 9, n),
            "always": pa.array([7] * n, pa.int8()),
            "never": pa.array([None] * n, pa.int8()),
        }
    )


def test_every_kind_of_column_is_exported_and_no_row_of_the_data(tmp_path: Path) -> None:
    model = native(everything())
    export(model, tmp_path / "m.pkl")
    content = (tmp_path / "m.pkl").read_bytes()
    assert b"planted" not in content and b"secret" not in content and b"k00003" not in content
    from sdv.utils import load_synthesizer

    rows = load_synthesizer(str(tmp_path / "m.pkl")).sample(num_rows=4000)["table"]
    assert list(rows.columns) == model.schema.names
    assert rows["key"].is_unique and rows["never"].isna().all()
    assert (rows["always"] == 7).all() and rows["email"].str.contains("@").all()
    assert pd.to_datetime(rows["day"]).max() <= pd.Timestamp("2021-02-01")
    assert rows["day"].isna().mean() == pytest.approx(0.25, abs=0.03)
    assert_alike(drawn(model, 4000), rows, ["yes", "group", "rare", "score", "weight"], tolerance=0.05, gaps=0.03)
    back = import_stock(tmp_path / "m.pkl", trust=True)
    batch = back.draw(0, 0, 3000)
    batch.validate(full=True)
    assert batch.schema.names == model.schema.names
    assert batch["never"].null_count == 3000 and len(pc.unique(batch["key"])) == 3000


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    x = rng.normal(size=1500)
    frame = pd.DataFrame(
        {
            "x": (50 + 10 * x).round(1),
            "count": rng.poisson(np.exp(0.5 * x) * 3),
            "skew": np.exp(x + rng.normal(size=1500)),
            "side": np.where(x + rng.normal(size=1500) > 0.3, "left", "right"),
            "yes": rng.random(1500) < 0.4,
            "when": pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 300, 1500), "D"),
        }
    )
    frame.loc[::4, "skew"] = np.nan
    return frame


def fitted_by_sdv(frame: pd.DataFrame, path: Path, **options: Any) -> Any:
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    metadata = Metadata.detect_from_dataframes({"people": frame})
    synthesizer = GaussianCopulaSynthesizer(metadata, **options)
    synthesizer.fit({"people": frame})
    synthesizer.save(str(path))
    return synthesizer


@pytest.mark.parametrize("distribution", ["beta", "norm", "gaussian_kde"])
def test_a_users_own_pickle_becomes_a_native_model(plain: pd.DataFrame, tmp_path: Path, distribution: str) -> None:
    synthesizer = fitted_by_sdv(plain, tmp_path / "m.pkl", default_distribution=distribution)
    model = import_stock(tmp_path / "m.pkl", trust=True)
    rows = 3000 if distribution == "gaussian_kde" else 40_000
    stock = synthesizer.sample(num_rows=rows)["people"]
    ours = drawn(model, 40_000)
    assert list(ours.columns) == list(plain.columns)
    assert_alike(ours, stock, list(plain.columns), tolerance=0.045 if rows < 40_000 else 0.015)
    for one, other in (("x", "count"), ("x", "skew"), ("count", "skew")):
        wanted = stock[one].corr(stock[other], method="spearman")
        assert ours[one].corr(ours[other], method="spearman") == pytest.approx(wanted, abs=0.05)
    known = model.learned_distributions["x"]
    theirs = synthesizer.get_learned_distributions()["x"]
    assert known["distribution"] == theirs["distribution"] == distribution


def test_a_missing_category_is_one_more_interval_wherever_sdv_put_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    side = rng.choice(np.array(["left", None, "right"], dtype=object), 900, p=[0.3, 0.2, 0.5])
    side[:3] = ["left", None, "right"]  # SDV's intervals stand in the order of first appearance
    frame = pd.DataFrame({"side": side, "x": rng.normal(size=900) + (side == "right")})
    synthesizer = fitted_by_sdv(frame, tmp_path / "m.pkl")
    ours = drawn(import_stock(tmp_path / "m.pkl", trust=True), 40_000)
    assert_alike(ours, synthesizer.sample(num_rows=40_000)["people"], ["side", "x"], tolerance=0.015)


def test_a_stock_model_of_a_run_becomes_native_in_the_inputs_schema(tmp_path: Path) -> None:
    table = everything()
    profile, metadata, columns = profiled(table)
    stock = fit_stock(
        "gaussian_copula", {"default_distribution": "norm"}, profile.sample, columns, metadata, 0, schema=table.schema
    )
    sha = stock.save(tmp_path / "m.pkl")
    model = import_stock(tmp_path / "m.pkl", sha256=sha)
    batch = model.draw(0, 0, 6000)
    batch.validate(full=True)
    assert batch.schema.equals(table.schema, check_metadata=True)
    theirs = frames.to_pandas(pa.Table.from_batches([stock.draw(3, 0, 6000)]), columns)
    ours = frames.to_pandas(pa.Table.from_batches([batch]), columns)
    names = [column.name for column in columns if column.role in ("category", "number", "datetime")]
    assert_alike(ours, theirs.astype({"moment": ours["moment"].dtype}), names, tolerance=0.04, gaps=0.02)


def test_pickles_that_are_not_opened_or_cannot_be_used(plain: pd.DataFrame, tmp_path: Path) -> None:
    from rdt.transformers import ClusterBasedNormalizer
    from sdv.cag import Inequality
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    path = tmp_path / "m.pkl"
    with pytest.raises(ModelError, match="cannot be read"):
        import_stock(path, trust=True)
    fitted_by_sdv(plain, path, default_distribution="norm")
    with pytest.raises(ModelError, match="--trust-pickle"):
        import_stock(path)
    with pytest.raises(ModelError, match="--trust-pickle"):
        import_stock(path, sha256="0" * 64)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="holds a dict, not a synthesizer of SDV that has a native family"):
        import_stock(path, trust=True)

    frame = plain[["x", "count"]]
    metadata = Metadata.detect_from_dataframes({"people": frame})
    raw = GaussianCopulaSynthesizer(metadata)
    raw.save(str(path))
    with pytest.raises(ModelError, match="not fitted"):
        import_stock(path, trust=True)

    constrained = GaussianCopulaSynthesizer(metadata, default_distribution="norm")
    constrained.add_constraints([Inequality("count", "x")])
    constrained.fit({"people": frame})
    constrained.save(str(path))
    with pytest.raises(ModelError, match="constraints"):
        import_stock(path, trust=True)

    other = GaussianCopulaSynthesizer(metadata, default_distribution="norm")
    other.auto_assign_transformers({"people": frame})
    other.update_transformers({"x": ClusterBasedNormalizer()})
    other.fit({"people": frame})
    other.save(str(path))
    with pytest.raises(ModelError, match="ClusterBasedNormalizer"):
        import_stock(path, trust=True)
