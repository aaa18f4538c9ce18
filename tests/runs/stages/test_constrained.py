"""Runs under constraints: checked before they start, kept on any cut of the work, judged by SDV at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.here import run_here
from tests.tables import write_shards
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table
from tests.tools import ROOT

from shardsynth import Job, Run, load_model, plan_job
from shardsynth.api import export_model
from shardsynth.commands.sample import SampleRequest, sample_model
from shardsynth.data.metadata import columns as columns_of
from shardsynth.errors import ConditionError, InputError, JobError, MergeError, ModelError
from shardsynth.planning import constraints as constraint_checks
from shardsynth.sampling.constraints.ordered import OrderedStep
from shardsynth.sampling.constraints.sdv_constraints import SdvConstraints
from shardsynth.sampling.constraints.table import TableConstraints

OWN = str(ROOT / "tests" / "tables" / "own_constraints.py")


def job(data: Path, output: Path, **changes) -> Job:
    plain = {
        "input": str(data),
        "output": str(output),
        "metadata": str(data.parent / "metadata.json"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 3000, "rows_per_shard": 700},
        "constraints": CONSTRAINTS,
        "cluster": {"rows_per_task": 600},
    }
    return Job.parse({k: v for k, v in {**plain, **changes}.items() if v is not None})


def made(run: Run, model: str = "gaussian_copula") -> pa.Table:
    return pa.concat_tables([pq.read_table(run.dir.part(model, n)) for n in range(run.plan.n_parts)])


def shards(folder: Path, table: pa.Table, metadata: dict = METADATA, count: int = 4) -> Path:
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return write_shards(table, folder / "shards", count)


def ordered_table(rows: int = 1500) -> pa.Table:
    rng = np.random.default_rng(5)
    low = rng.integers(0, 50, rows)
    return pa.table({"low": low, "high": low + rng.integers(0, 30, rows), "other": rng.random(rows)})


ORDER = [{"class_name": "Inequality", "parameters": {"low_column_name": "low", "high_column_name": "high"}}]
ORDERED = {
    "tables": {"table": {"columns": {name: {"sdtype": "numerical"} for name in ("low", "high", "other")}}},
    "METADATA_SPEC_VERSION": "V2",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return shards(tmp_path_factory.mktemp("data"), constrained_table())


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    models = {"gaussian_copula": {}, "stock": {"model": "gaussian_copula", "engine": "sdv"}}
    return run_here(job(data, tmp_path_factory.mktemp("run") / "r", models=models), "merge")


def test_every_row_of_every_engine_satisfies_all_five_by_sdvs_own_word(done):
    real = constrained_table()
    arbiter = SdvConstraints(CONSTRAINTS, real, columns_of(METADATA, real.schema), METADATA)
    for model in ("gaussian_copula", "stock"):
        manifest = done.samples(model).manifest
        table = made(done, model)
        assert table.schema.equals(done.plan.schema, check_metadata=True) and table.num_rows == 3000
        assert all(mask.all() for mask in arbiter.valid(table.combine_chunks().to_batches()[0]).values())
        checked = manifest["constraints"]["checked"]
        assert [one["violations"] for one in checked] == [0] * 5
        assert 0.9 < manifest["constraints"]["acceptance"] <= 1
        assert len(set(table["id"].to_pylist())) == 3000
        assert done.quality(model).column_shapes > 0.95


def test_dependence_and_missingness_survive(done):
    real, synthetic = constrained_table(), made(done)
    for one, other in (("age", "dose"), ("age", "low")):
        pair = [t.select([one, other]).to_pandas().dropna().astype(float).corr().iloc[0, 1] for t in (real, synthetic)]
        assert abs(pair[0] - pair[1]) < 0.08
    for name in ("start", "end", "low", "mid", "high"):
        assert abs(real[name].null_count / 2000 - synthetic[name].null_count / 3000) < 0.035, name


def test_the_same_rows_on_any_number_of_tasks(done, data, tmp_path):
    other = run_here(job(data, tmp_path / "r", sample={"rows": 3000, "rows_per_shard": 700, "tasks": 1}), "sample")
    for number in range(done.plan.n_parts):
        paths = [run.dir.part("gaussian_copula", number) for run in (done, other)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    model = load_model(other.dir.model("gaussian_copula"))
    assert model.sample(100, first_row=2900).equals(made(other).slice(2900, 100))


def test_a_model_holds_no_rare_combination(data, tmp_path):
    table = constrained_table()
    secret = table.slice(0, 1).set_column(table.schema.get_field_index("city"), "city", [["Geheimdorf"]])
    run = run_here(job(shards(tmp_path, pa.concat_tables([table, secret])), tmp_path / "r", evaluate={"holdout": 0}))
    for folder in ("models", "samples", "metrics", "report"):
        for path in sorted((run.dir.root / folder).rglob("*")):
            assert path.is_dir() or b"Geheimdorf" not in path.read_bytes(), path


@pytest.mark.parametrize("at_once", [10**6, 100])
def test_data_that_violate_are_refused_before_any_model_is_fitted(tmp_path, monkeypatch, at_once):
    """At once, or, beyond what can be read at once, by the first pass: how many, and which row."""
    table = ordered_table()
    low, high = table["low"].to_pylist(), table["high"].to_pylist()
    for row in (700, 1200):
        low[row] = high[row] + 1
    table = table.set_column(0, "low", [low])
    monkeypatch.setattr(constraint_checks, "CHECKED_AT_ONCE", at_once)
    asked = job(shards(tmp_path, table, ORDERED), tmp_path / "r", constraints=ORDER)
    if at_once > 1500:
        with pytest.raises(JobError, match=r"constraints\[0\] \(Inequality\): 2 row.* the first is row 700 "):
            plan_job(asked)
        assert not (tmp_path / "r").exists()
    else:
        with pytest.raises(JobError, match=r"2 row.* the first is row 700 "):
            run_here(asked, "sample")


def test_misfits_are_told_before_any_task(data, tmp_path):
    wrong = [{"class_name": "Inequality", "parameters": {"low_column_name": "start", "high_column_name": "age"}}]
    with pytest.raises(JobError, match="must have the same sdtype|must all be numbers or all datetimes"):
        plan_job(job(data, tmp_path / "a", constraints=wrong))
    with pytest.raises(JobError, match="increment_value"):
        bad = [{"class_name": "FixedIncrements", "parameters": {"column_name": "dose", "increment_value": 2.5}}]
        plan_job(job(data, tmp_path / "a", constraints=bad))
    with pytest.raises(JobError, match="cannot be imported here"):
        plan_job(job(data, tmp_path / "a", constraints=[{"class_name": "nowhere.at_all:X"}]))


@pytest.mark.parametrize("at_once", [2_000_000, 10])
def test_a_column_without_any_value_cannot_be_constrained(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(constraint_checks, "CHECKED_AT_ONCE", at_once)  # more rows: the first pass over them says so
    rows = 40
    table = {"a": pa.nulls(rows, pa.float64()), "b": [0.25 * i for i in range(rows)], "c": ["x", "y"] * (rows // 2)}
    write_shards(pa.table(table), tmp_path / "data", 2)
    for name, parameters in (
        ("Inequality", {"low_column_name": "a", "high_column_name": "b"}),
        ("FixedCombinations", {"column_names": ["a", "c"]}),
    ):
        only = [{"class_name": name, "parameters": parameters}]
        asked = job(tmp_path / "data", tmp_path / name, metadata=None, constraints=only)
        with pytest.raises(InputError, match=rf"constraints\[0\] \({name}\): the column 'a' is without any value"):
            run_here(asked, "sample")
        assert (tmp_path / name).exists() == (at_once == 10)


def test_without_metadata_detected_flags_become_numbers(tmp_path):
    rng = np.random.default_rng(0)
    low = rng.integers(0, 4, 1000).astype(np.int8)
    table = pa.table({"low": low, "high": (low + rng.integers(0, 4, 1000)).astype(np.int8), "x": rng.random(1000)})
    run = run_here(job(shards(tmp_path, table), tmp_path / "r", constraints=ORDER, metadata=None), "sample")
    frame = made(run).to_pandas()
    assert (frame["low"] <= frame["high"]).all() and frame["high"].max() <= 6
    assert (
        json.loads((run.dir.root / "metadata.json").read_text())["tables"]["table"]["columns"]["low"]["sdtype"]
        == "numerical"
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 100, 1500), np.round(rng.gamma(2, 5, 1500), 2)
    kind = pa.array(rng.choice(["u", "v"], 1500)).dictionary_encode()
    table = pa.table({"kind": kind, "a": 2 * a, "b": b, "total": np.round(2 * a + b, 2)})
    metadata = {
        "tables": {"table": {"columns": {n: {"sdtype": "numerical"} for n in ("a", "b", "total")}}},
        "METADATA_SPEC_VERSION": "V2",
    }
    metadata["tables"]["table"]["columns"]["kind"] = {"sdtype": "categorical"}
    declared = [
        {"class_name": f"{OWN}:Total", "parameters": {"total": "total", "parts": ["a", "b"]}},
        {"class_name": f"{OWN}:Even", "parameters": {"column": "a"}},
    ]
    asked = job(
        shards(folder, table, metadata),
        folder / "r",
        constraints=declared,
        sample={"rows": 1000, "rows_per_shard": 400},
    )
    return run_here(asked, "merge")


def test_constraints_of_ones_own(own):
    assert made(own).schema.equals(own.plan.schema)
    frame = made(own).to_pandas()
    assert np.allclose(frame["a"] + frame["b"], frame["total"]) and (frame["a"] % 2 == 0).all()
    assert [c["violations"] for c in own.samples("gaussian_copula").manifest["constraints"]["checked"]] == [0, 0]
    assert (
        "total" not in json.loads((own.dir.model("gaussian_copula") / "model.json").read_text())["columns"][0]["name"]
    )


def test_an_own_constraint_is_a_pickle_that_only_its_run_opens(own, tmp_path):
    import shutil

    copy = shutil.copytree(own.dir.model("gaussian_copula"), tmp_path / "x" / "models" / "gaussian_copula")
    with pytest.raises(ModelError, match="can be sampled where the run is"):
        load_model(copy).sample(5)
    pickled = own.dir.private / "summary" / "constraints.pkl"
    content = pickled.read_bytes()
    pickled.write_bytes(content + b"x")
    try:
        with pytest.raises(ModelError, match="not signed by you"):
            load_model(own.dir.model("gaussian_copula")).sample(5)
    finally:
        pickled.write_bytes(content)


def test_rows_drawn_again_do_not_depend_on_the_range(tmp_path):
    """A constraint that half of the drawn rows break: the spare rows are the block's own."""
    rng = np.random.default_rng(3)
    table = pa.table({"x": 2 * rng.integers(0, 50, 800), "y": rng.integers(0, 9, 800)})
    metadata = {
        "tables": {"table": {"columns": {n: {"sdtype": "numerical"} for n in "xy"}}},
        "METADATA_SPEC_VERSION": "V2",
    }
    declared = [{"class_name": f"{OWN}:Even", "parameters": {"column": "y"}}]
    with pytest.raises(JobError, match="row.* of the input violate it"):
        run_here(job(shards(tmp_path, table, metadata), tmp_path / "bad", constraints=declared), "sample")
    (tmp_path / "good").mkdir()
    good = table.filter(pa.array(np.asarray(table["y"]) % 2 == 0))
    models = {"gaussian_copula": {"marginals": "norm"}}  # between even numbers lie odd ones
    run = run_here(
        job(shards(tmp_path / "good", good, metadata), tmp_path / "r", constraints=declared, models=models), "sample"
    )
    model = load_model(run.dir.model("gaussian_copula"))
    whole = model.sample(1000)
    assert (whole["y"].to_numpy() % 2 == 0).all()
    for first, n in ((0, 10), (333, 200), (999, 1)):
        assert model.sample(n, first_row=first).equals(whole.slice(first, n))


def test_conditions_under_constraints(done):
    model = load_model(done.dir.model("gaussian_copula"))
    rows = model.sample(500, conditions={"city": "Lyon", "arm_b": True, "age": {">=": 60}}).to_pandas()
    assert set(rows["city"]) == {"Lyon"} and set(rows["country"]) == {"FR"} and set(rows["zone"]) == {2}
    assert rows["arm_b"].all() and (rows["arm_a"] == 0).all() and (rows["age"] >= 60).all()
    rows = model.sample(300, conditions="dose >= 300 and notnull(mid)").to_pandas()
    assert (rows["dose"] >= 300).all() and (rows["dose"] % 25 == 0).all() and rows["mid"].notna().all()
    with pytest.raises(ConditionError, match="no combination"):
        model.sample(5, conditions={"city": "Lyon", "country": "DE"})
    with pytest.raises(ModelError, match="hardly ever meets"):
        model.sample(5, conditions={"dose": {"<": 0}})


@pytest.mark.parametrize(
    "columns",
    [["end"], ["high", "age"], ["low", "high"], ["zone", "arm_b", "dose"], ["mid", "city"], ["free"]],
    ids="-".join,
)
def test_completed_rows_keep_known_values_and_constraints(done, columns):
    """Also where an end is known and its start is not, and where a part of a combination is known."""
    model = load_model(done.dir.model("gaussian_copula"))
    real = constrained_table(400, seed=9)
    known = real.select(columns)
    completed = model.complete(known, first_row=30)
    judge = SdvConstraints(CONSTRAINTS, constrained_table(), columns_of(METADATA, real.schema), METADATA)
    assert all(valid.all() for valid in judge.valid(completed.combine_chunks().to_batches()[0]).values())
    for name in columns:
        given = known[name].to_pylist()
        assert [value for value, had in zip(completed[name].to_pylist(), given) if had is not None] == [
            value for value in given if value is not None
        ]
        assert name == "city" or completed[name].null_count <= 1
    part = model.complete(known.slice(100, 7), first_row=130)
    assert part.to_pylist() == completed.slice(100, 7).to_pylist()


def test_completed_values_follow_the_known_ones(done):
    """A start is drawn with its end, and a city of the country that is known."""
    model = load_model(done.dir.model("gaussian_copula"))
    real = constrained_table(400, seed=9)
    late = model.complete(real.select(["high", "country"]), first_row=0).to_pandas()
    both = late.dropna(subset=["low", "high"])
    assert np.corrcoef(both["low"], both["high"])[0, 1] > 0.5
    gaps, expected = both["high"] - both["low"], real.to_pandas()["high"] - real.to_pandas()["low"]
    assert gaps.mean() == pytest.approx(expected.mean(), abs=0.6) and gaps.std() < 1.3 * expected.std()
    assert set(late.loc[late["country"] == "DE", "city"]) == {"Ulm", "Kiel"}
    assert set(late.loc[late["country"] == "FR", "city"].dropna()) <= {"Lyon", "Metz"}


def test_known_values_that_break_a_constraint_are_named(done, tmp_path):
    folder = done.dir.model("gaussian_copula")
    known = tmp_path / "known.parquet"
    rows = pa.table(
        {"low": pa.array([1, 9, 3], pa.float32()), "high": [2.0, 4.0, 3.0], "dose": pa.array([25] * 3, pa.int16())}
    )
    pq.write_table(rows, known)
    expected = r"known.parquet: known values break .*Range of low, mid, high: 2 row\(s\) break it \(row 1, 2\)"
    with pytest.raises(InputError, match=expected):
        sample_model(SampleRequest(folder, tmp_path / "out", 0, remaining=str(known)))
    with pytest.raises(InputError, match=r"Range of low, mid, high: 2 row\(s\)"):
        load_model(folder).complete(rows)
    flags = pa.table(
        {"arm_a": pa.array([1, 0], pa.int8()), "arm_b": [True, False], "dose": pa.array([25, 26], pa.int16())}
    )
    with pytest.raises(InputError, match=r"FixedIncrements of dose.*OneHotEncoding of arm_a, arm_b, arm_c"):
        load_model(folder).complete(flags)
    assert [path.name for path in tmp_path.iterdir()] == ["known.parquet"]


def test_a_combination_that_the_model_does_not_hold_is_named_and_left(done):
    known = pa.table({"city": ["Lyon", "Oslo", "Ulm"], "country": pa.array(["FR", None, None]).dictionary_encode()})
    with pytest.warns(
        UserWarning, match=r"FixedCombinations of country, city, zone: 1 row\(s\).*stays missing \(row 1\)"
    ):
        rows = load_model(done.dir.model("gaussian_copula")).complete(known, first_row=0).to_pylist()
    assert [(row["country"], row["city"], row["zone"]) for row in rows] == [
        ("FR", "Lyon", 2),
        (None, "Oslo", None),
        ("DE", "Ulm", 1),
    ]
    assert all(row["age"] is not None for row in rows)


def test_other_known_rows_have_other_keys(done, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(done.dir.model("gaussian_copula"), folder)
    real = constrained_table(300, seed=9).select(["age", "end"])

    def completed(rows: pa.Table, name: str) -> pa.Table:
        pq.write_table(rows, tmp_path / f"{name}.parquet")
        request = SampleRequest(
            folder, tmp_path / name, 0, rows_per_shard=80, remaining=str(tmp_path / f"{name}.parquet")
        )
        sample_model(request)
        return pq.read_table(tmp_path / name, partitioning=None)

    first, second = completed(real.slice(0, 150), "a"), completed(real.slice(150), "b")
    again = completed(real.slice(0, 150), "c")
    assert again.equals(first)
    own = made(done)["id"].to_pylist()
    sample_model(SampleRequest(folder, tmp_path / "more", 200))
    more = pq.read_table(tmp_path / "more")["id"].to_pylist()
    table = load_model(folder).complete(real.slice(10, 20))
    assert table.equals(load_model(folder).complete(real.slice(10, 20)))
    ids = [*own, *first["id"].to_pylist(), *second["id"].to_pylist(), *more, *table["id"].to_pylist()]
    assert len(set(ids)) == len(ids) == 3000 + 300 + 200 + 20
    both = np.array([first["free"].to_numpy(), second["free"].to_numpy()])
    assert abs(np.corrcoef(both)[0, 1]) < 0.3


def test_an_exported_copula_keeps_the_constraints(done, tmp_path):
    from sdv.utils import load_synthesizer

    folder = done.dir.model("gaussian_copula")
    lines = list(export_model(folder, tmp_path / "out.pkl"))
    assert not any(line.strip().startswith("constraint ") for line in lines), "none is lost"
    stock = load_synthesizer(str(tmp_path / "out.pkl"))
    assert len(stock.get_constraints()) == len(CONSTRAINTS)
    drawn = stock.sample(500)
    rows = next(iter(drawn.values())) if isinstance(drawn, dict) else drawn
    assert (rows["end"] >= rows["start"])[rows["end"].notna() & rows["start"].notna()].all()
    assert (rows["mid"] > rows["low"])[rows["mid"].notna() & rows["low"].notna()].all()
    assert (rows["dose"].dropna() % 25 == 0).all()
    assert (rows[["arm_a", "arm_b", "arm_c"]].astype(float).sum(axis=1) == 1).all()
    known = set(constrained_table().select(["country", "city", "zone"]).to_pandas().itertuples(index=False, name=None))
    assert set(rows[["country", "city", "zone"]].fillna("-").itertuples(index=False, name=None)) <= {
        tuple("-" if value is None else value for value in values) for values in known
    }
    native = made(done)["age"].to_numpy()
    assert abs(rows["age"].mean() - native.mean()) < 2


def test_a_violation_fails_the_merge(tmp_path, monkeypatch):
    """A step that restores nonsense, and a table that does not look: SDV's is_valid notices it when it scores."""
    restore = OrderedStep.restore

    def swapped(self, arrays, n):
        found, broken = restore(self, arrays, n)
        return {"high": pa.array(np.asarray(arrays["low"]) - 1)}, broken

    monkeypatch.setattr(OrderedStep, "restore", swapped)
    monkeypatch.setattr(TableConstraints, "valid", lambda self, batch: [])
    with pytest.raises(MergeError, match=r"\(Inequality\): 500 rows violate it, the first is row 0"):
        run_here(
            job(shards(tmp_path, ordered_table(), ORDERED), tmp_path / "r", constraints=ORDER, sample={"rows": 500}),
            "merge",
        )


def test_so_many_rows_under_each_condition_under_constraints(data, tmp_path):
    """Conditions of the job file on columns that the model has and on columns that it has not."""
    asked = {
        "rows": 900,
        "rows_per_shard": 300,
        "conditions": [{"where": 'city == "Metz"', "rows": 200}, {"where": "dose >= 300 and age < 80", "rows": 100}],
    }
    run = run_here(job(data, tmp_path / "r", sample=asked), "sample")
    frame = made(run).to_pandas()
    assert (frame["city"][:200] == "Metz").all() and (frame["zone"][:200] == 3).all()
    assert (frame["dose"][200:300] >= 300).all() and (frame["age"][200:300] < 80).all()
    assert len(frame) == 900 and len(set(frame["id"])) == 900


def test_a_column_that_no_row_lacks_is_never_missing(tmp_path):
    """Days to a decision, of stay and of follow-up: with the first missing, a model may draw neither gap nor value."""
    rng = np.random.default_rng(6)
    stay = rng.integers(2, 60, 900)
    decided = pa.array(rng.integers(0, 2, 900) + stay // 2, mask=rng.random(900) < 0.1)
    table = pa.table({"decided": decided, "stay": stay, "followed": stay + rng.integers(0, 400, 900)})
    described = {name: {"sdtype": "numerical"} for name in table.column_names}
    metadata = {"tables": {"table": {"columns": described}}, "METADATA_SPEC_VERSION": "V2"}
    pairs = [("decided", "stay"), ("stay", "followed")]
    declared = [
        {"class_name": "Inequality", "parameters": {"low_column_name": low, "high_column_name": high}}
        for low, high in pairs
    ]
    run = run_here(job(shards(tmp_path, table, metadata), tmp_path / "run", constraints=declared), "merge")
    rows = made(run)
    assert rows["stay"].null_count == rows["followed"].null_count == 0 < rows["decided"].null_count
    frame = rows.to_pandas()
    for low, high in pairs:
        assert not (frame[low] > frame[high]).any()
