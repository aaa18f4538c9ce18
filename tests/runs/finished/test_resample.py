"""`shardsynth sample`: more rows of a fitted model, never the same ones by accident."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.processes import heed_signals
from tests.tables import mixed_table, write_shards

from shardsynth import Job, Run, run_job
from shardsynth.commands.sample import SampleRequest, sample_model
from shardsynth.errors import ConditionError, InputError, JobError, ModelError, RunError


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy of the finished run of all models: sampling writes a ledger beside the model."""
    return Run(shutil.copytree(finished.dir.root, tmp_path / "run"))


def made(folder: Path) -> pa.Table:
    manifest = json.loads((folder / "_manifest.json").read_text())
    table = pa.concat_tables([pq.read_table(folder / part["path"]) for part in manifest["parts"]])
    assert table.num_rows == manifest["rows"]
    return table


def ask(run: Run, output: Path, name: str = "gaussian_copula", **options) -> pa.Table:
    sample_model(SampleRequest(run.dir.model(name), output, **{"rows": 250, "rows_per_shard": 100, **options}))
    return made(output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows_per_shard": 0}, "--rows-per-shard: wanted 1 or more, found 0"),
        ({"tasks": 0}, "--tasks: wanted 1 or more, found 0"),
        ({"seed": -1}, "--seed: wanted a number from 0"),
        ({"seed": 2**63}, "--seed: wanted a number from 0"),
    ],
)
def test_impossible_numbers_are_named(run, tmp_path, options, message):
    with pytest.raises(RunError, match=message):
        ask(run, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_rows_go_to_a_folder_and_not_to_a_file(run, tmp_path):
    """`sample -o third.csv` made a folder of that name."""
    with pytest.raises(RunError, match=r"third.csv: is named like a file, and the rows go to a folder, as Parquet"):
        ask(run, tmp_path / "third.csv")
    assert not (tmp_path / "third.csv").exists()
    assert not list((run.dir.model("gaussian_copula") / "ledger").glob("*.json"))


def test_logs_of_a_stage_that_is_not_there_are_refused(run):
    with pytest.raises(JobError, match="no stage is called 'fitt'; did you mean 'fit'.*; stages: profile, "):
        list(run.log_lines("fitt", None))


@pytest.mark.parametrize("output", ["file", "file/out", "link"])
def test_a_folder_that_cannot_be_written_costs_no_rows(run, tmp_path, output):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    kind = "a broken link" if output == "link" else "a file"
    with pytest.raises(RunError, match=f"{output[:4]}: is {kind}, and a folder is wanted there"):
        ask(run, tmp_path / output)
    assert not list((run.dir.model("gaussian_copula") / "ledger").glob("*.json"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian_copula", {"rows": 10**18}, r"about [\d.]+ EB would be written, [\d.]+ [GT]B are free in"),
        ("stock_copula", {"rows": 10**18}, r"about [\d.]+ EB would be written"),
        ("gaussian_copula", {"rows": 10**12, "rows_per_shard": 1}, "would be written"),
        ("gaussian_copula", {"rows": 10, "first_row": 2**62}, "numbers would end at 4,611,686,018,427,387,914"),
    ],
)
def test_rows_that_nothing_holds_are_refused_and_cost_no_numbers(run, tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        ask(run, tmp_path / "a", name, **options)
    assert not (run.dir.model(name) / "ledger").exists() and not (tmp_path / "a").exists()


def test_more_rows_than_there_are_identifiers_are_refused(tmp_path):
    data = pa.table({"id": pa.array(range(100), pa.int8()), "x": [0.5 * i for i in range(100)]})
    write_shards(data, tmp_path / "shards", 1)
    job = {"input": str(tmp_path / "shards"), "output": str(tmp_path / "run"), "models": {"gaussian_copula": {}}}
    run = run_job(Job.parse({**job, "metadata": id_metadata(tmp_path / "metadata.json")}))
    assert ask(run, tmp_path / "a", rows=20).num_rows == 20
    with pytest.raises(InputError, match="'id': its type holds 127 distinct numbers, but 140 rows"):
        ask(run, tmp_path / "b", rows=20, go_on=True)


def id_metadata(path: Path) -> str:
    columns = {"id": {"sdtype": "id"}, "x": {"sdtype": "numerical"}}
    table = {"columns": columns, "primary_key": "id"}
    path.write_text(json.dumps({"METADATA_SPEC_VERSION": "V2", "tables": {"table": table}}))
    return str(path)


@pytest.mark.parametrize("name", ["gaussian_copula", "autoregressive", "stock_copula"])
def test_rows_beyond_those_of_the_run_then_others(run, tmp_path, name):
    first = ask(run, tmp_path / "a", name)
    assert first.schema.equals(run.plan.schema, check_metadata=True)
    with pytest.raises(RunError, match=r"asked for before; --continue makes other rows, --same-rows makes the same"):
        ask(run, tmp_path / "b", name)
    second = ask(run, tmp_path / "b", name, go_on=True)
    again = ask(run, tmp_path / "c", name, same_rows=True)
    assert again.equals(first)
    ids = [table["patient"].to_pylist() for table in (run.samples(name).to_table(), first, second)]
    assert len({i for some in ids for i in some}) == 500 + 250 + 250


def test_any_number_of_tasks_the_same_parts(run, tmp_path):
    one = ask(run, tmp_path / "a", tasks=1)
    seven = ask(run, tmp_path / "b", tasks=7, same_rows=True)
    assert one.equals(seven)
    sums = [[p["sha256"] for p in json.loads((tmp_path / n / "_manifest.json").read_text())["parts"]] for n in "ab"]
    assert sums[0] == sums[1]


def test_the_runs_own_rows_again(run, tmp_path):
    again = ask(run, tmp_path / "a", rows=500, first_row=0, same_rows=True)
    assert again.equals(run.samples("gaussian_copula").to_table())


def test_another_seed_gives_other_rows_without_asking(run, tmp_path):
    table = ask(run, tmp_path / "a", seed=99)
    assert not table.equals(run.samples("gaussian_copula").to_table().slice(0, 250))


def test_a_folder_with_other_things_is_refused(run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        ask(run, tmp_path / "a")
    with pytest.raises(ModelError, match="no model here"):
        sample_model(SampleRequest(tmp_path, tmp_path / "b", 10))


def test_conditions(run, tmp_path):
    table = ask(run, tmp_path / "a", where="sex == 'F' and age >= 60")
    assert set(table["sex"].to_pylist()) == {"F"} and min(table["age"].to_pylist()) >= 60
    with pytest.raises(ConditionError):
        ask(run, tmp_path / "b", where="sex == 'X'")
    with pytest.raises(ConditionError, match="stock models"):
        ask(run, tmp_path / "b", name="stock_copula", where="sex == 'F'")
    with pytest.raises(ConditionError, match="cannot read the condition ''"):
        ask(run, tmp_path / "b", where="")
    ledger = "".join(p.read_text() for p in (run.dir.model("gaussian_copula") / "ledger").iterdir())
    assert "sex" not in ledger


@pytest.mark.parametrize("name", ["gaussian_copula", "autoregressive"])
def test_known_rows_are_completed_in_their_order(run, tmp_path, name):
    known = mixed_table(700, seed=5).select(["sex", "stage", "age", "dose"]).drop_null()
    write_shards(known, tmp_path / "known", 3)
    folder = str(tmp_path / "known")
    rows = ask(run, tmp_path / "a", name, rows=0, remaining=folder, rows_per_shard=90, tasks=4)
    assert rows.schema.equals(run.plan.schema, check_metadata=True) and rows.num_rows == known.num_rows
    for column in known.column_names:
        assert rows[column].to_pylist() == known[column].to_pylist(), column
    assert len(set(rows["patient"].to_pylist())) == rows.num_rows
    missing = rows["marker"].null_count  # the copula may draw it, the autoregressive model fills in
    assert 0 < missing < rows.num_rows if name == "gaussian_copula" else missing == 0
    assert len(list((run.dir.model(name) / "ledger").iterdir())) == 1
    assert ask(run, tmp_path / "b", name, rows=0, remaining=folder, rows_per_shard=500).equals(rows)
    write_shards(known.rename_columns(["sex", "stage", "age", "doze"]), tmp_path / "other", 1)
    with pytest.raises(InputError, match="'doze' is not one of the model's; did you mean 'dose'"):
        ask(run, tmp_path / "c", name, rows=0, remaining=str(tmp_path / "other"))
    assert not (tmp_path / "c").exists()


def test_a_stock_model_completes_nothing(run, tmp_path):
    folder = write_shards(mixed_table(5).select(["sex"]), tmp_path / "known", 1)
    with pytest.raises(ConditionError, match="--remaining-columns"):
        ask(run, tmp_path / "c", name="stock_copula", rows=0, remaining=str(folder))


def test_an_autoregressive_model_is_sampled_otherwise(run, tmp_path):
    asked = {"name": "autoregressive", "rows": 4_000, "rows_per_shard": 4_000}
    plain = ask(run, tmp_path / "a", **asked)
    balanced = ask(run, tmp_path / "b", **asked, balance="stage", go_on=True)
    counts = balanced["stage"].value_counts().to_pylist()
    assert {c["values"] for c in counts} == {"I", "II", "III", "IV"}
    assert all(c["counts"] == pytest.approx(1_000, abs=120) for c in counts)
    few = ask(run, tmp_path / "c", **asked, top_p=0.3, same_rows=True)
    mutated, mutated_plain = (pc.mean(pc.equal(table["mutated"], 1)).as_py() for table in (few, plain))
    assert mutated < 0.5 * mutated_plain, "only what is most probable is drawn"
    sharp = ask(run, tmp_path / "d", **asked, temperature=0.2, where="sex == 'F'")
    share = pc.mean(pc.equal(sharp["mutated"], 1)).as_py()
    assert share < 0.02 and set(sharp["sex"].to_pylist()) == {"F"}
    manifest = json.loads((tmp_path / "d" / "_manifest.json").read_text())
    assert manifest["sampling"] == {"temperature": 0.2}
    with pytest.raises(RunError, match="holds other samples"):
        ask(run, tmp_path / "d", **asked, temperature=0.3, where="sex == 'F'")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian_copula", {"temperature": 0.5, "top_p": 0.9}, "--temperature, --top-p: for autoregressive models"),
        ("stock_copula", {"balance": "stage"}, "--balance: for autoregressive models; this one is gaussian_copula"),
        ("autoregressive", {"temperature": 0.0}, "temperature: wanted a number from 0.05 to 10, found 0"),
        ("autoregressive", {"balance": "age"}, "balance: 'age' is no category column that the model learned"),
        ("autoregressive", {"balance": "stage", "remaining": "x"}, "--balance: rows that are completed keep"),
    ],
)
def test_what_a_model_cannot_be_sampled_by(run, tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        ask(run, tmp_path / "a", name, **options)
    assert not (run.dir.model(name) / "ledger").exists() and not (tmp_path / "a").exists()


def test_a_stock_pickle_that_the_user_did_not_sign_is_refused(run, tmp_path):
    pickle = run.dir.stock_pickle("stock_copula")
    pickle.write_bytes(pickle.read_bytes() + b" ")
    with pytest.raises(ModelError, match="not signed by you.*--trust-pickle"):
        ask(run, tmp_path / "a", name="stock_copula")
    moved = tmp_path / "elsewhere" / "models" / "stock_copula"
    shutil.copytree(run.dir.model("stock_copula"), moved)
    with pytest.raises(ModelError, match="the stock model cannot be read"):
        sample_model(SampleRequest(moved, tmp_path / "b", 10))


def test_killed_and_asked_again_it_goes_on_with_the_same_rows(run, tmp_path):
    wanted = ask(run, tmp_path / "calm", rows=40_000, rows_per_shard=500)
    arguments = ["--rows", "40000", "--rows-per-shard", "500", "--same-rows", "-o", str(tmp_path / "k")]
    command = [sys.executable, "-m", "shardsynth.cli", "sample", str(run.dir.model("gaussian_copula")), *arguments]
    process = subprocess.Popen(command)
    while not list((tmp_path / "k").glob("part-*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            member.kill()
    process.wait()
    assert not (tmp_path / "k" / "_manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert made(tmp_path / "k").equals(wanted)


def test_a_sample_that_an_older_version_began_goes_on(run, tmp_path):
    wanted = ask(run, tmp_path / "a", where="sex == 'F'")
    plan = tmp_path / "a" / "_run" / "plan.json"
    data = json.loads(plan.read_text())
    before = {"identity": data["identity"], **data["sampling"], "rows": 250, "n_parts": 3}
    plan.write_text(json.dumps(before))
    for path in (tmp_path / "a" / "_manifest.json", tmp_path / "a" / "part-00001.parquet"):
        path.unlink()
    shutil.rmtree(tmp_path / "a" / "_run" / "tasks" / "merge")
    (tmp_path / "a" / "_run" / "job.yaml").unlink()
    assert ask(run, tmp_path / "a", where="sex == 'F'").equals(wanted)
    assert json.loads(plan.read_text()) == data
    assert Run(tmp_path / "a").status()["sample"]["done"] == 3


def test_rows_are_planned_where_torch_is_not_installed(run, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from shardsynth.commands.sample import SampleRequest, prepare
wanted = prepare(SampleRequest(Path({str(run.dir.model("tvae"))!r}), Path({str(tmp_path / "a")!r}), 1000), elsewhere=True)
print(wanted.source, wanted.plan.schema.names)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"None {run.plan.schema.names}"


def test_an_entry_taken_out_of_the_ledger_stops_nobody(run, tmp_path):
    for name in "abc":
        ask(run, tmp_path / name, go_on=True)
    (run.dir.model("gaussian_copula") / "ledger" / "000000.json").unlink()
    ask(run, tmp_path / "d", go_on=True)
    assert json.loads((tmp_path / "d" / "_manifest.json").read_text())["first_row"] == 500 + 3 * 250


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(run, tmp_path):
    arguments = ["--rows", "1.5e6", "--rows-per-shard", "5e3", "-o", str(tmp_path / "k")]
    command = [sys.executable, "-m", "shardsynth.cli", "sample", str(run.dir.model("gaussian_copula")), *arguments]
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, preexec_fn=heed_signals, **options)  # noqa: PLW1509 - no other thread here
    while not list((tmp_path / "k").glob("part-*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130 and "the same command goes on where it was" in said
    assert 0 < len(list((tmp_path / "k").glob("part-*.parquet"))) < 300
    assert subprocess.run(command, check=True, capture_output=True, text=True).stderr.count("of 1,500,000 rows")
    assert made(tmp_path / "k").num_rows == 1_500_000


def test_two_million_rows_as_a_hundred_tasks(run, tmp_path):
    """The small form of the 10^8 rows that `make bars` makes: no part twice, and a manifest that adds up."""
    sample_model(SampleRequest(run.dir.model("gaussian_copula"), tmp_path / "big", 2_000_000, 20_000, tasks=100))
    manifest = json.loads((tmp_path / "big" / "_manifest.json").read_text())
    assert manifest["rows"] == 2_000_000 == sum(part["rows"] for part in manifest["parts"])
    assert len({part["sha256"] for part in manifest["parts"]}) == 100
    assert [part["first_row"] for part in manifest["parts"]] == list(range(500, 2_000_500, 20_000))
    ids = pa.chunked_array(
        [
            pq.read_table(tmp_path / "big" / p["path"], columns=["patient"])["patient"].chunk(0)
            for p in manifest["parts"]
        ]
    )
    assert len(ids.unique()) == 2_000_000
