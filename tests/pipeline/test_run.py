"""Whole runs, through the Python API and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.tables import mixed_table, write_shards

from shardsynth import Job, Run, load_model, plan_job, run_job
from shardsynth.api import describe_model
from shardsynth.errors import InputError, RunError, TaskError
from shardsynth.pipeline.reporting import write_run_report
from shardsynth.pipeline.setup import write_job
from shardsynth.pipeline.tasks import Worker

STOCK = {"engine": "sdv", "epochs": 1, "batch_size": 100}
QUICK = {"epochs": 3, "batch_size": 50}
QUICK_GAN = {**QUICK, "normalisation_rows": 2000}
ALL_MODELS = {
    "gaussian_copula": {},
    "stock_copula": {"model": "gaussian_copula", "engine": "sdv"},
    "ctgan": QUICK_GAN,
    "copulagan": QUICK_GAN,
    "tvae": QUICK,
    "autoregressive": {"max_epochs": 3, "embedding": 16, "hidden": 16},
    "stock_tvae": {"model": "tvae", **STOCK},
}
NATIVE_MODELS = {"autoregressive", "gaussian_copula", "ctgan", "copulagan", "tvae"}


def job(data: Path, output: Path, **changes) -> Job:
    plain = {
        "input": str(data),
        "output": str(output),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 500, "rows_per_shard": 100},
        "cluster": {"rows_per_task": 100},
    }
    given = data.parent / "metadata.json"
    if given.exists():
        plain["metadata"] = str(given)
    return Job.parse({**plain, **changes})


def parts(run: Run) -> dict[str, list[str]]:
    return {m: [p["sha256"] for p in run.samples(m).manifest["parts"]] for m in run.plan.job.models}


def final_files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for folder in ("models", "samples")
        for p in sorted((root / folder).rglob("*"))
        if p.is_file()
        and not p.name.startswith(".")  # what a killed attempt left: readers ignore it, `clean` removes it
    }


@pytest.fixture(scope="module")
def detected(tmp_path_factory) -> Path:
    """Metadata as `init` writes them."""
    folder = tmp_path_factory.mktemp("init")
    data = write_shards(mixed_table(), folder / "shards", 2)
    list(write_job(str(data), folder / "job.yaml", None))
    return folder / "job.metadata.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory, detected) -> Path:
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(detected, folder / "metadata.json")
    return write_shards(mixed_table(), folder / "shards", 5)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory) -> Run:
    """All models, run to the end once."""
    return run_job(job(data, tmp_path_factory.mktemp("runs") / "all", models=ALL_MODELS))


def test_detected_in_the_run_or_by_init_the_same(done, tmp_path):
    data = write_shards(mixed_table(), tmp_path / "d", 3)
    run = run_job(job(data, tmp_path / "r"))
    assert parts(run)["gaussian_copula"] == parts(done)["gaussian_copula"]
    assert (run.dir.root / "metadata.json").read_text() == (done.dir.root / "metadata.json").read_text()


def test_every_model_keeps_the_schema_to_the_last_detail(done):
    for model in ALL_MODELS:
        table = done.samples(model).to_table()
        assert table.schema.equals(done.plan.schema, check_metadata=True)
        assert table.num_rows == 500
        assert table["empty"].null_count == 500
        assert set(table["site"].to_pylist()) == {"north"}
        for path in done.samples(model).paths:
            assert pq.read_schema(path).equals(done.plan.schema, check_metadata=True)


def test_ids_are_unique_over_the_whole_output(done):
    for model in ALL_MODELS:
        assert len(set(done.samples(model).to_table()["patient"].to_pylist())) == 500


def test_no_two_chunks_are_alike(done):
    for model in ALL_MODELS:
        pieces = [pq.read_table(path).drop_columns(["patient"]) for path in done.samples(model).paths]
        assert all(not a.equals(b) for i, a in enumerate(pieces) for b in pieces[:i])


def test_metrics_manifest_and_report(done):
    for model in ALL_MODELS:
        figures = done.metrics(model)
        assert 0.3 < figures["quality"]["score"] <= 1
        assert figures["quality"]["holdout"]["rows"] == figures["rows"]["holdout"] > 0
        assert figures["rows"]["synthetic"] == 500
        assert done.samples(model).manifest["rows"] == 500
    page = done.report.read_text()
    assert all(model in page for model in ALL_MODELS)
    assert done.quality("gaussian_copula").column_shapes > 0.85


def test_real_rows_stay_private(done):
    root = done.dir.root
    assert stat.S_IMODE(os.stat(root).st_mode) == stat.S_IMODE(os.stat(done.dir.private).st_mode) == 0o700
    assert not list(root.glob("models/**/*.pkl"))
    metadata = json.loads((root / "metadata.json").read_text())
    assert "range_max" not in json.dumps(metadata)
    from sdv.metadata import Metadata

    Metadata.load_from_json(str(root / "metadata.json")).validate()


def test_pack_takes_nothing_private(done, tmp_path):
    with tarfile.open(done.pack(tmp_path / "out.tar.gz")) as archive:
        names = archive.getnames()
    assert any(name.endswith("report/index.html") for name in names)
    assert not any("private" in name or name.endswith((".pkl", "plan.json", "metadata.json")) for name in names)
    assert not any("_ranges" in name for name in names)  # they tell how many rows were held out


def test_a_second_run_does_nothing_and_status_says_so(done):
    before = final_files(done.dir.root)
    run_job(done.job)
    assert final_files(done.dir.root) == before
    assert done.status_lines()[-1] == "all done"


def test_one_task_or_seven_the_same_bytes(done, data, tmp_path):
    other = job(data, tmp_path / "r", models=ALL_MODELS, sample={"rows": 500, "rows_per_shard": 100, "tasks": 1})
    plan = plan_job(other)
    # The deep models promise the same bytes for the same model file: take the fitted ones along.
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        assert plan.plan.tasks[stage] == done.plan.tasks[stage]
    subprocess.run(
        ["cp", "-a", *(done.dir.root / n for n in ("models", "private", "tasks", "metrics")), tmp_path / "r"],
        check=True,
    )
    for stage in ("sample", "score", "merge", "report"):
        subprocess.run(["rm", "-rf", tmp_path / "r" / "tasks" / stage], check=True)
    assert parts(plan.resume()) == parts(done)


@pytest.mark.parametrize(("shards", "rows_per_task"), [(1, 10_000), (13, 50)])
def test_one_input_shard_or_thirteen_the_same_bytes(done, detected, tmp_path, shards, rows_per_task):
    shutil.copy(detected, tmp_path / "metadata.json")
    data = write_shards(mixed_table(), tmp_path / "d", shards)
    run = run_job(job(data, tmp_path / "r", cluster={"rows_per_task": rows_per_task}))
    assert parts(run)["gaussian_copula"] == parts(done)["gaussian_copula"]


def test_submitits_executors_run_the_same_plan(done, data, tmp_path):
    for executor in ("submitit", "debug"):
        run = run_job(job(data, tmp_path / executor, cluster={"rows_per_task": 100, "executor": executor}))
        assert parts(run)["gaussian_copula"] == parts(done)["gaussian_copula"]


def test_a_deleted_part_is_made_again(data, tmp_path):
    run = run_job(job(data, tmp_path / "r"))
    before = final_files(run.dir.root)
    run.dir.part("gaussian_copula", 2).unlink()
    with pytest.raises(RunError, match="needs sample 2"):
        Worker(run.dir.root).run_task("score", 2)
    assert "tasks are left" in run.status_lines()[-1]
    run.resume()
    assert final_files(run.dir.root) == before


def test_merge_names_the_part_that_does_not_add_up(data, tmp_path):
    run = run_job(job(data, tmp_path / "r"))
    part = run.dir.part("gaussian_copula", 3)
    content = part.read_bytes()
    part.write_bytes(
        content.replace(b"parquet-cpp-arrow", b"parquet-cpp-Arrow")
    )  # still reads, but is not what was made
    run.dir.record("merge", 0).unlink()
    with pytest.raises(TaskError, match=r"part-00003\.parquet: the checksum differs"):
        run.resume()
    part.unlink()
    run.resume()
    assert part.read_bytes() == content


def test_two_resumes_at_once_do_no_harm(data, tmp_path):
    run = run_job(job(data, tmp_path / "once"))
    other = plan_job(job(data, tmp_path / "twice"))
    command = [sys.executable, "-m", "shardsynth.cli", "resume", str(other.dir.root)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert final_files(other.dir.root) == final_files(run.dir.root)
    assert not list(other.dir.root.rglob(".*.tmp"))


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_killed_at_twenty_random_moments_the_output_is_the_same(data, tmp_path):
    wanted = final_files(run_job(job(data, tmp_path / "calm")).dir.root)
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = rounds = 0
    while kills < 20:
        rounds += 1
        run = plan_job(job(data, tmp_path / f"r{rounds}"))
        command = [sys.executable, "-m", "shardsynth.cli", "resume", str(run.dir.root)]
        while kills < 20:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=chance.uniform(0.5, 4.0))
                break  # done before the kill
            except subprocess.TimeoutExpired:
                _kill_tree(process)
                kills += 1
        last = subprocess.run(command, capture_output=True, text=True, check=False)
        assert last.returncode == 0, last.stderr
        assert final_files(run.dir.root) == wanted, f"seed {seed}, round {rounds}"
        run.clean()
        assert not list(run.dir.root.rglob(".*.tmp"))


def test_a_failed_task_names_itself_and_its_log_and_the_rest_finishes(data, tmp_path):
    models = {"gaussian_copula": {}, "bad": {"model": "ctgan", "epochs": 1, "generator_dim": [2_000_000_000]}}
    plan = plan_job(job(data, tmp_path / "r", models=models))
    with pytest.raises((TaskError, InputError), match=r"task fit 1 \(model bad\)") as caught:
        plan.resume()
    assert "private/logs/fit/0/1.log" in str(caught.value)
    assert "only those" in str(caught.value)
    assert plan.samples("gaussian_copula").rows == 500
    assert any("shardsynth" in line or "Error" in line for line in plan.log_lines("fit", 1))


def test_a_killed_worker_is_one_failed_task_not_the_end(data, tmp_path):
    plan = plan_job(job(data, tmp_path / "r"))
    caught: list[BaseException] = []

    def kill_one() -> None:
        me, end = psutil.Process(), time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.2)
            with contextlib.suppress(psutil.Error):  # one that has just ended
                workers = [c for c in me.children() if "shardsynth.pipeline.worker" in " ".join(c.cmdline())]
                busy = [worker for worker in workers if worker.cpu_percent(0.1) > 30]  # an idle one has no task to fail
                if busy:
                    busy[0].kill()
                    return

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        plan.resume()
    except TaskError as error:
        caught.append(error)
    thread.join()
    assert caught and "killed by SIGKILL (out of memory?)" in str(caught[0])
    plan.resume()
    assert plan.samples("gaussian_copula").rows == 500


def test_an_input_that_changed_since_the_plan_is_an_error(tmp_path):
    data = write_shards(mixed_table(), tmp_path / "d", 2)
    plan = plan_job(job(data, tmp_path / "r"))
    pq.write_table(mixed_table(300, seed=5), data / "part-00001.parquet")
    with pytest.raises(InputError, match=r"part-00001\.parquet: the shard changed since the run was planned"):
        plan.resume()


def test_the_run_of_another_job_is_refused(done, data):
    with pytest.raises(RunError, match="the run of another job"):
        run_job(job(data, done.dir.root, seed=9))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_hardly_any_rows(tmp_path, rows):
    data = write_shards(mixed_table(rows), tmp_path / "d", 1)
    run = run_job(job(data, tmp_path / "r", evaluate={"holdout": 0}, sample={"rows": 20, "rows_per_shard": 7}))
    table = run.samples("gaussian_copula").to_table()
    assert table.num_rows == 20 and table.schema.equals(run.plan.schema, check_metadata=True)


def test_what_needs_a_finished_run_says_so(data, tmp_path):
    run = plan_job(job(data, tmp_path / "r"))
    with pytest.raises(RunError, match=r"the run is not done \(profile, .* left\); resume it first"):
        run.pack(tmp_path / "out.tar.gz")
    with pytest.raises(RunError, match="no figures yet of gaussian_copula"):
        write_run_report(run.dir.root)
    assert not (tmp_path / "out.tar.gz").exists()


def test_zero_rows_asked_is_an_empty_table(data, tmp_path):
    run = run_job(job(data, tmp_path / "r", sample={"rows": 0}))
    assert run.samples("gaussian_copula").to_table().schema.equals(run.plan.schema, check_metadata=True)


def test_infinite_values_are_named_not_shown(tmp_path):
    table = pa.table({"x": [1.5, float("inf"), 3.25], "y": [1, 2, 3]})
    data = write_shards(table, tmp_path / "d", 1)
    with pytest.raises(InputError, match=r"column 'x': 1 infinite value"):
        run_job(job(data, tmp_path / "r"))


def test_a_disk_that_fills_up_loses_nothing_committed(data, tmp_path):
    """A file-size limit stands for the full disk: the same error path, without a file system of its own."""
    plan = plan_job(job(data, tmp_path / "r"))
    wanted = final_files(run_job(job(data, tmp_path / "calm")).dir.root)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from shardsynth.pipeline.tasks import Worker; from pathlib import Path\n"
        "w = Worker(Path(sys.argv[1]))\n"
        "for s in ('profile', 'profile_merge', 'count', 'count_merge', 'fit'):\n"
        "    for t in w.plan.tasks[s]: w.run_task(s, t.index)\n"
        "w.run_task('sample', 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from shardsynth.errors import SpaceError\n"
        "try:\n    w.run_task('sample', 1)\nexcept SpaceError as e: print('FULL', e)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(plan.dir.root)], capture_output=True, text=True, check=True
    ).stdout
    assert "FULL" in out and "were needed" in out and "nothing committed is lost" in out
    assert plan.dir.part("gaussian_copula", 0).exists()
    plan.resume()
    assert final_files(plan.dir.root) == wanted


def test_coalesced_files_hold_the_same_rows(data, tmp_path):
    run = run_job(job(data, tmp_path / "r", sample={"rows": 500, "rows_per_shard": 100, "coalesce_mb": 1}))
    manifest = run.samples("gaussian_copula").manifest
    tables = [pq.read_table(run.dir.samples("gaussian_copula") / entry["path"]) for entry in manifest["coalesced"]]
    assert len(tables) == 1 and tables[0].equals(run.samples("gaussian_copula").to_table())
    assert tables[0].schema.equals(run.plan.schema, check_metadata=True)


def test_groups_fall_on_one_side_of_the_holdout(tmp_path):
    table = mixed_table(400).append_column("person", pa.array([f"q{i % 60}" for i in range(400)]))
    data = write_shards(table, tmp_path / "d", 3)
    run = run_job(job(data, tmp_path / "r", evaluate={"holdout": 0.3, "group": "person"}))
    from shardsynth.summaries.profile import Profile

    folder = run.dir.private / "summary"
    sides = [set(Profile.load(folder / f"profile.{n}").sample["person"].to_pylist()) for n in ("train", "holdout")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_load_model_and_sample(done):
    for name in ALL_MODELS:
        table = load_model(done.dir.model(name)).sample(50)
        assert table.schema.equals(done.plan.schema, check_metadata=True)
        assert table.equals(done.samples(name).to_table().slice(0, 50)) or name not in NATIVE_MODELS


def test_native_models_take_conditions_and_show_their_losses(done):
    for name in sorted(NATIVE_MODELS):
        model = load_model(done.dir.model(name))
        assert set(model.sample(50, conditions={"sex": "F"})["sex"].to_pylist()) == {"F"}
        if name != "gaussian_copula":
            assert pq.read_table(done.dir.losses(name)).num_rows == QUICK["epochs"]
            assert not done.dir.checkpoint(name).exists()
        assert any(name in line for line in describe_model(done.dir.model(name)))


def test_training_on_all_rows_with_a_look_at_the_quality(data, tmp_path):
    models = {"tvae": {**QUICK, "check_epochs": 2, "check_rows": 500}}
    fit = {"rows": "all", "sample_rows": 100}
    run = run_job(job(data, tmp_path / "r", models=models, fit=fit, evaluate={"holdout": 0.25}))
    losses = pq.read_table(run.dir.losses("tvae"))
    assert [score is None for score in losses["quality"].to_pylist()] == [True, False, True]
    rows = run.metrics("tvae")["rows"]
    assert rows["fitted"] == rows["real"] > 250 and not rows["sampled"]
    assert not list(run.dir.private.glob("training-*"))


def test_clean_keeps_what_counts(done, data, tmp_path):
    run = run_job(job(data, tmp_path / "r"))
    before = final_files(run.dir.root)
    run.clean()
    assert final_files(run.dir.root) == before and run.status_lines()[-1] == "all done"
    run.clean(private=True)
    assert not run.dir.private.exists() and final_files(run.dir.root) == before
    assert run.status_lines()[-1] == "all done"
    with pytest.raises(RunError, match="the page is drawn from it"):
        write_run_report(run.dir.root)
