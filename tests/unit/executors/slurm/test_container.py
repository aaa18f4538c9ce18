"""What is mounted for a plan, and what is said of images; the images themselves are in tests/site/container."""

from __future__ import annotations

import csv
import dataclasses
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth import __version__
from shardsynth.data.shards import open_shards
from shardsynth.errors import JobError
from shardsynth.executors.slurm.container import MOST_MOUNTS, Mount, mounts_of
from shardsynth.job import Job
from shardsynth.planning.plan import Plan, Sampling, make_plan
from shardsynth.planning.sampling import sampling_plan
from shardsynth.standalone.image import differences, identify

PATHS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(lambda text: "/" + text)


def make(folders, output, **keys):
    """A plan over one small shard in each folder."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"a": [1, 2, 3]}), folder / "part-0.parquet")
    files = [str(folder / "part-0.parquet") for folder in folders]
    job = Job.parse({"input": files, "output": str(output), "models": {"gaussian_copula": {}}, **keys})
    return make_plan(job, open_shards(job.input), 1)


@given(PATHS, PATHS, st.booleans())
def test_a_mount_is_one_csv_record_whatever_the_paths_hold(source, target, writable):
    fields = next(csv.reader([str(Mount(source, target, writable))]))
    assert fields == ["type=bind", f"src={source}", f"dst={target}", *([] if writable else ["ro"])]


def test_each_folder_of_shards_is_there_once_and_only_the_run_can_be_written(tmp_path):
    plan = make([tmp_path / "a", tmp_path / "a" / "deep", tmp_path / "b"], tmp_path / "run")
    mounts = mounts_of(plan, tmp_path / "run", ["/scratch", "/x:/y:ro"])
    assert {mount.target: mount.writable for mount in mounts} == {
        str(tmp_path / "a"): False, str(tmp_path / "b"): False, str(tmp_path / "run"): True, "/scratch": True, "/y": False,
    }  # fmt: skip


def test_a_sample_reads_its_model_and_writes_beside_its_run(tmp_path):
    model, known, out = tmp_path / "run" / "models" / "m", tmp_path / "known", tmp_path / "out"
    model.mkdir(parents=True)
    known.mkdir()
    asked = {"model": str(model), "name": "m", "seed": 1, "chunk_rows": 10, "rows": 10, "rows_per_shard": 5}
    asked |= {"tasks": None, "remaining": str(known / "*.parquet")}
    schema = pa.schema([("a", pa.int64())])

    def mounted(**card):
        plan = sampling_plan(Sampling(asked, 0), card, schema, out, {})
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
        return {m.target: m.writable for m in mounts_of(plan, out / "_run")}

    assert mounted() == {str(model): False, str(known): False, str(out): True}
    assert mounted(engine="sdv") == {str(tmp_path / "run"): False, str(known): False, str(out): True}


def test_links_are_followed_to_the_real_folder(tmp_path):
    make([tmp_path / "real"], tmp_path / "run")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "part-0.parquet").symlink_to(tmp_path / "real" / "part-0.parquet")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    job = Job.parse(
        {
            "input": [str(tmp_path / "files" / "part-0.parquet"), str(tmp_path / "folder" / "part-0.parquet")],
            "output": str(tmp_path / "run"),
            "models": ["gaussian_copula"],
        }
    )
    mounts = mounts_of(make_plan(job, open_shards(job.input), 1), tmp_path / "run")
    seen = {mount.target: mount.source for mount in mounts if not mount.writable}
    assert seen[str(tmp_path / "folder")] == str(tmp_path / "real")
    assert seen[str(tmp_path / "real")] == str(tmp_path / "real")
    assert str(tmp_path / "files") in seen


def test_ten_thousand_folders_become_few_mounts_that_hold_them_all(tmp_path):
    plan = make([tmp_path / f"y={i // 20}" / f"d={i}" for i in range(200)], tmp_path / "run")
    mounts = mounts_of(plan, tmp_path / "run")
    assert len(mounts) <= MOST_MOUNTS + 1
    for shard in plan.shards:
        assert any(shard.path.startswith(mount.target + os.sep) for mount in mounts if not mount.writable)


def test_shards_inside_the_run_directory_and_around_it_come_in_order(tmp_path):
    plan = make([tmp_path, tmp_path / "run" / "input"], tmp_path / "run")
    targets = [mount.target for mount in mounts_of(plan, tmp_path / "run")]
    assert targets == sorted(targets, key=lambda path: path.count("/"))
    assert str(tmp_path / "run") in targets


def test_the_metadata_and_keys_are_mounted_and_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("m.json", "a.key"):
        (tmp_path / name).write_text("{}")
    plan = make([tmp_path / "a"], tmp_path / "run", metadata="m.json", pseudonymize={"a": "a.key"})
    read_again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert read_again.job.metadata == str(tmp_path / "m.json")
    assert read_again.job.pseudonymize == {"a": str(tmp_path / "a.key")}
    targets = {mount.target: mount.writable for mount in mounts_of(plan, tmp_path / "run")}
    assert targets[str(tmp_path / "m.json")] is False and targets[str(tmp_path / "a.key")] is False


def test_the_image_is_in_the_plan_and_not_in_its_identity(tmp_path):
    plan = make([tmp_path / "a"], tmp_path / "run")
    inside = dataclasses.replace(plan, image={"path": "/x.sif", "build": "1"})
    assert inside.to_json()["identity"] == plan.to_json()["identity"]
    assert Plan.from_json(inside.to_json()).image == {"path": "/x.sif", "build": "1"}


def sandbox(folder, **labels):
    """An unpacked image, as far as the host looks at it."""
    path = folder / ".singularity.d" / "labels.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({f"shardsynth.{key}": value for key, value in labels.items()}))
    return folder


def test_a_checksum_is_computed_once_per_image(tmp_path):
    folder = sandbox(tmp_path / "image", build="1", version=__version__, torch="2")
    found = identify(folder)
    assert identify(folder, {**found, "sha256": "kept"})["sha256"] == "kept"
    assert identify(folder, {**found, "sha256": "old", "size": 1})["sha256"] == found["sha256"]


def test_an_image_of_another_version_is_refused(tmp_path):
    with pytest.raises(JobError, match=f"holds shardsynth 9.9, and this is {__version__}"):
        identify(sandbox(tmp_path / "image", build="1", version="9.9"))


def test_what_differs_between_two_images_is_said(tmp_path):
    one = {"build": "1", "torch": "2.13", "python": "3.11.2", "path": "/a"}
    assert differences(one, {**one, "path": "/b"}) == []
    lines = differences(one, {**one, "build": "2", "torch": "2.14"})
    assert lines[0] == "another image than before: build 1 then, 2 now"
    assert lines[1] == "differs: torch 2.13 -> 2.14"
    assert "may differ" in lines[2]
    assert differences(one, {**one, "build": "2"})[1:] == ["the same versions in both"]
