"""One call from a DataFrame to a synthetic one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import shardsynth as ss
from shardsynth.errors import InputError, JobError


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 300
    return pd.DataFrame(
        {
            "patient": [f"P{i:04d}" for i in range(n)],
            "age": rng.integers(20, 90, n).astype("int16"),
            "hb": rng.normal(12, 2, n).round(1),
            "sex": pd.Categorical(rng.choice(["f", "m"], n)),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "visits": pd.array(rng.integers(0, 5, n), dtype="Int64"),
        }
    ).set_index("patient")


@pytest.fixture(scope="module")
def result(frame: pd.DataFrame) -> ss.Result:
    return ss.synthesize(frame, rows=50, model="gaussian_copula", evaluate={"holdout": 0.2})


def test_a_frame_comes_back_as_it_was(frame: pd.DataFrame, result: ss.Result) -> None:
    made = result.to_pandas()
    assert len(made) == 50
    pd.testing.assert_series_equal(made.dtypes, frame.dtypes)
    assert made.index.name == "patient" and made.index.is_unique


def test_it_says_what_came_out(result: ss.Result) -> None:
    said = repr(result)
    assert said.startswith("50 synthetic rows by gaussian_copula") and f"{result.quality.score:.3f}" in said
    assert result.privacy["rows"]["holdout"] == pytest.approx(60, abs=20)
    assert "<iframe srcdoc=" in result.report()._repr_html_() and result.report().path.is_file()
    assert any("primary key: 'patient'" in note for note in result.notes)
    for thing in (result.run, result.run.job, result.run.samples("gaussian_copula")):
        assert "gaussian_copula" in repr(thing) and len(repr(thing)) < 300


def test_the_same_call_gives_the_same_rows_whatever_holds_the_table(
    frame: pd.DataFrame, result: ss.Result, tmp_path
) -> None:
    table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    again = ss.synthesize(table, 50, model="gaussian_copula", evaluate={"holdout": 0.2}, folder=tmp_path / "kept")
    assert again.to_table().equals(result.to_table())
    assert (tmp_path / "kept" / "run" / "report" / "index.html").is_file()
    frame.reset_index().to_csv(tmp_path / "t.csv", index=False)
    from_file = ss.synthesize(tmp_path / "t.csv", 50, model="gaussian_copula", folder=tmp_path / "file")
    assert from_file.to_table().num_rows == 50


def test_a_model_completes_a_frame(result: ss.Result) -> None:
    model = ss.load_model(result.run.dir.model("gaussian_copula"))
    known = pd.DataFrame(
        {"age": [40, 70], "sex": ["f", "m"]}
    )  # int64 and text, where the model has int16 and categories
    made = model.complete(known)
    assert made["age"].to_pylist() == [40, 70] and made["sex"].to_pylist() == ["f", "m"]
    assert made["hb"].null_count == 0
    with pytest.raises(InputError, match="column 'age' is of type"):
        model.complete(pd.DataFrame({"age": [40.5]}))
    with pytest.raises(InputError, match="rows is -1: wanted 0 or more"):
        model.sample(-1)


def test_what_cannot_be_used_is_said(frame: pd.DataFrame) -> None:
    for data, said in (
        ([1, 2], "got list; wanted a pandas DataFrame"),
        (pd.DataFrame({0: [1]}), "must be named by text"),
        (pd.DataFrame({"a": [1, "x"] * 50}), "column 'a' mixes types"),
        ({}, "at least one table"),
    ):
        with pytest.raises(InputError, match=said):
            ss.synthesize(data)
    with pytest.raises(JobError, match="give `folder`, `data` and `model`"):
        ss.synthesize(frame, output="x")


def test_the_package_lists_its_names() -> None:
    assert dir(ss) == sorted(ss.__all__)
