"""A patient with many rows and values of her own, in runs that name the person: nothing of hers leaves the house."""

from __future__ import annotations

import json
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.finished import QUICK, QUICK_GAN, small_job
from tests.here import run_here
from tests.tables import write_shards

from shardsynth import Run, load_model
from shardsynth.api import export_model
from shardsynth.run.artifacts import Artifacts
from shardsynth.stages.persons import fit_protection

FAMILIES = {
    "gaussian_copula": {},
    "sdv_copula": {"model": "gaussian_copula", "encoding": "sdv"},
    "autoregressive": {"max_epochs": 6, "embedding": 16, "hidden": 16},
    "ctgan": QUICK_GAN,
    "copulagan": QUICK_GAN,
    "tvae": QUICK,
}
NATIVE = ["gaussian_copula", "autoregressive", "ctgan", "copulagan", "tvae"]
SDTYPES = {
    "patient": "id",
    **dict.fromkeys(("diagnosis", "stage", "village", "note", "grade"), "categorical"),
    **dict.fromkeys(("born", "hb", "iron", "zinc"), "numerical"),
    **dict.fromkeys(("seen", "told"), "datetime"),
}
#: Her values, as text.
SECRETS = ("SECRETHILL", "SECRETNOTE", "1877", "Q9999", "1971-03-", "1966-02-", "87.5")


def visits(with_her: bool) -> pa.Table:
    """100 patients with four to eight visits; D46 is never in stage III, iron and zinc are never both missing.

    She has 14 visits: all of them with D46 in stage III, without iron and zinc, and with values that nobody else has.
    """
    rng = np.random.default_rng(4)
    day = pd.Timestamp("2021-01-01")
    rows = []
    for patient in range(100):
        for _ in range(int(rng.integers(4, 9))):
            diagnosis, stage = rng.choice(["C91", "C92", "D46"]), rng.choice(["I", "II", "III"])
            gap = rng.random(2) < 0.15
            when = [day + pd.Timedelta(days=int(n)) for n in rng.integers(0, 700, 2)]
            rows.append(
                (
                    f"P{patient:04d}",
                    diagnosis,
                    "I" if diagnosis == "D46" and stage == "III" else stage,
                    rng.choice(["North", "South"]),
                    rng.choice(["well", "worse"]),
                    int(rng.integers(1, 4)),
                    int(rng.integers(1935, 2005)),
                    round(float(rng.normal(11, 1.5)), 1),
                    None if gap[0] else round(float(rng.normal(5, 1)), 2),
                    None if gap[1] and not gap[0] else round(float(rng.normal(3, 1)), 2),
                    when[0],
                    str(when[1].date()),
                )
            )
    for visit in range(14 * with_her):
        rows.append(
            (
                "Q9999",
                "D46",
                "III",
                "SECRETHILL",
                f"SECRETNOTE {'fell off' if visit % 2 else 'was bitten by'} her horse",
                9,
                1877,
                round(87.5 + visit / 10, 1),
                None,
                None,
                pd.Timestamp("1971-03-02") + pd.Timedelta(days=visit),
                f"1966-02-{1 + visit:02d}",
            )
        )
    names = [
        *("patient", "diagnosis", "stage", "village", "note", "grade", "born", "hb", "iron", "zinc", "seen", "told")
    ]
    frame = pd.DataFrame(rows, columns=names).sample(frac=1, random_state=3)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def run_of(folder: Path, *, with_her: bool, last: str = "sample", **changes) -> Run:
    data = write_shards(visits(with_her), folder / "d", 3)
    columns = {name: {"sdtype": sdtype} for name, sdtype in SDTYPES.items()}
    columns["told"]["datetime_format"] = "%Y-%m-%d"
    table = {"columns": columns}
    metadata = {"tables": {"table": table}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    # with this seed she is among those who are learned from
    return run_here(small_job(data, folder / "r", **{"sample": {"rows": 700}, "seed": 1, **changes}), last)


def drawn(run: Run, family: str, rows: int = 6000) -> pd.DataFrame:
    return load_model(run.dir.model(family)).sample(rows).to_pandas()


@pytest.fixture(scope="module")
def hers(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("hers"), with_her=True, models=FAMILIES, person="patient")


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Run:
    """The same to its end, with a copula: figures and page are made by the same code for every family."""
    return run_of(tmp_path_factory.mktemp("judged"), with_her=True, person="patient", last="report")


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> Run:
    models = {name: FAMILIES[name] for name in NATIVE}
    return run_of(tmp_path_factory.mktemp("without"), with_her=False, models=models, person="patient")


def test_she_is_learned_from(hers: Run) -> None:
    from shardsynth.summaries.profile import Profile

    sample = Profile.load(hers.dir.private / "summary" / "profile.train").sample
    assert sample["patient"].to_pylist().count("Q9999") == 14


def as_text(path: Path) -> str:
    """A file's bytes as text; Parquet as its values, without the made-up number of the patient."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return str(table.drop_columns([n for n in ("patient",) if n in table.column_names]).to_pydict())
    return path.read_bytes().decode("utf-8", "replace")


def found_in(path: Path) -> list[str]:
    text = as_text(path)
    return [secret for secret in SECRETS if re.search(rf"(?<![0-9.]){re.escape(secret)}", text)]


def chunks(picture: bytes) -> set[bytes]:
    """Kinds of the chunks of a PNG file: with these three it holds pixels, and no text, time or profile."""
    found, place = set(), 8
    while place < len(picture):
        length = int.from_bytes(picture[place : place + 4], "big")
        found.add(picture[place + 4 : place + 8])
        place += 12 + length
    return found


def test_nothing_of_hers_is_in_a_packed_file_or_the_metadata(judged: Run, tmp_path: Path) -> None:
    judged.pack(tmp_path / "packed.tar.gz")
    with tarfile.open(tmp_path / "packed.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    files = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert {path.parts[len(tmp_path.parts) + 1] for path in files} == {"models", "samples", "metrics", "report"}
    assert any(path.name == "index.html" for path in files)
    pictures = [path for path in files if path.suffix == ".png"]
    assert pictures and all(chunks(path.read_bytes()) == {b"IHDR", b"IDAT", b"IEND"} for path in pictures)
    for path in [judged.dir.root / "metadata.json", *(path for path in files if path.suffix != ".png")]:
        assert not found_in(path), path.name
    assert "fewer than 5 persons" in as_text(tmp_path / "r" / "report" / "index.html")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_hers_is_in_a_model_or_its_samples(hers: Run, family: str) -> None:
    folders = (hers.dir.model(family), hers.dir.samples(family))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        assert not found_in(path), path.name


@pytest.mark.parametrize("family", ["gaussian_copula", "ctgan", "copulagan", "tvae"])
def test_nothing_of_hers_is_in_an_exported_pickle(hers: Run, tmp_path: Path, family: str) -> None:
    list(export_model(hers.dir.model(family), tmp_path / "model.pkl"))
    content = (tmp_path / "model.pkl").read_bytes()
    assert not [secret for secret in SECRETS if not secret[0].isdigit() and secret.encode() in content]
    made = pickle.loads(content).sample(500)  # noqa: S301 - our own
    made = made if isinstance(made, pd.DataFrame) else next(iter(made.values()))
    assert made["hb"].max() < 30 and made["born"].min() > 1900


@pytest.mark.parametrize("family", FAMILIES)
def test_no_row_has_a_value_of_hers(hers: Run, family: str) -> None:
    rows = drawn(hers, family)
    assert set(rows["village"].dropna()) <= {"North", "South"} and set(rows["note"].dropna()) <= {"well", "worse"}
    assert set(rows["grade"].dropna()) <= {1, 2, 3}
    # tails reach a little beyond what the others have
    assert rows["born"].min() >= 1915 and rows["hb"].max() < 25
    assert rows["seen"].min() >= pd.Timestamp("2020-06-01") and rows["told"].min() >= "2020-06-01"


@pytest.mark.parametrize("family", NATIVE)
def test_her_combination_and_her_gaps_are_as_rare_as_without_her(hers: Run, without: Run, family: str) -> None:
    both = [drawn(run, family) for run in (hers, without)]
    for chosen in (
        lambda rows: (rows["diagnosis"] == "D46") & (rows["stage"] == "III"),
        lambda rows: rows["iron"].isna() & rows["zinc"].isna(),
    ):
        with_her, left_out = (float(chosen(rows).mean()) for rows in both)
        chance = 3 * np.sqrt(2 * max(left_out, 0.001) / len(both[0]))
        chance += 0.1 * (family in ("ctgan", "copulagan"))  # after three epochs a GAN draws columns by chance
        assert with_her <= 1.1 * left_out + chance  # her rows are in the shares of the single values


def test_no_row_that_is_trained_on_has_her_combination_or_her_gaps(hers: Run) -> None:
    artifacts = Artifacts(hers.dir.root)
    table = artifacts.fit_table()
    hide = fit_protection(artifacts, "ctgan", table.counts).hide
    assert hide is not None
    rows = hide(table.profile.sample).to_pandas()
    assert not ((rows["diagnosis"] == "D46") & (rows["stage"] == "III")).any()
    assert not (rows["iron"].isna() & rows["zinc"].isna()).any()


def test_counted_by_rows_all_of_it_comes_out(tmp_path: Path) -> None:
    """What the tests above would find: the same run without a person."""
    run = run_of(tmp_path, with_her=True, models={"gaussian_copula": {}})
    rows = drawn(run, "gaussian_copula")
    assert (rows["village"] == "SECRETHILL").any() and (rows["born"] < 1930).any() and (rows["hb"] > 80).any()
    assert (rows["iron"].isna() & rows["zinc"].isna()).mean() > 0.01
    assert b"SECRETHILL" in (run.dir.model("gaussian_copula") / "model.safetensors").read_bytes()
    assert b"SECRETHILL" in (run.dir.root / "metadata.json").read_bytes()


def test_the_older_key_protects_her_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, with_her=True, evaluate={"group": "patient"})
    assert run.plan.job.person == "patient"
    assert set(drawn(run, "gaussian_copula")["village"].dropna()) == {"North", "South"}


def test_any_number_of_tasks_gives_the_same_files(hers: Run, tmp_path: Path) -> None:
    models = {"gaussian_copula": {}}
    cluster = {"rows_per_task": 10**6}
    run = run_of(tmp_path, with_her=True, models=models, person="patient", cluster=cluster, last="fit")
    for name in ("counts.train", "counts.holdout"):
        files = [(r.dir.private / "summary" / name).read_bytes() for r in (run, hers)]
        assert files[0] == files[1]
    folder = "models/gaussian_copula/model.safetensors"
    assert (run.dir.root / folder).read_bytes() == (hers.dir.root / folder).read_bytes()
