from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.data.shards import Dataset, Shard
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.planning.plan import Plan, make_plan, pack_pieces, split_range

SCHEMA = pa.schema([pa.field("a", pa.int8())])
groups = st.lists(st.integers(0, 50), max_size=5)


def job(**changes):
    return Job.parse({"input": "x", "output": "y", "models": {"gaussian_copula": {}, "tvae": {}}, **changes})


def dataset(*shards):
    return Dataset(tuple(Shard(f"/s{i}", 1, 1, tuple(g)) for i, g in enumerate(shards)), SCHEMA)


@given(st.lists(groups, min_size=1, max_size=6), st.integers(1, 80))
def test_pieces_cover_every_row_once_in_order(shards, rows_per_task):
    data = dataset(*shards)
    packs = pack_pieces(data.shards, rows_per_task)
    row = 0
    for pack in packs:
        assert len([g for p in pack for g in range(p.first_group, p.last_group)]) >= 1
        for piece in pack:
            held = data.shards[piece.shard].group_rows[piece.first_group : piece.last_group]
            assert piece.first_row == row and piece.rows == sum(held)
            row += piece.rows
        biggest = max(data.shards[p.shard].group_rows[g] for p in pack for g in range(p.first_group, p.last_group))
        assert sum(p.rows for p in pack) <= max(rows_per_task, biggest)
    assert row == data.rows


@given(st.integers(1, 500), st.integers(1, 600))
def test_ranges_cover_and_are_level(count, tasks):
    ranges = split_range(count, tasks)
    assert [i for first, last in ranges for i in range(first, last)] == list(range(count))
    sizes = [last - first for first, last in ranges]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@given(st.integers(0, 5000), st.integers(1, 700), st.integers(1, 9))
def test_parts_cover_the_rows_whatever_the_tasks(rows, per_part, tasks):
    plan = make_plan(job(sample={"rows": rows, "rows_per_shard": per_part, "tasks": tasks}), dataset([10]), 2)
    made = [r for part in range(plan.n_parts) for r in plan.part_rows(part)]
    assert made == list(range(rows))
    for model in plan.job.models:
        planned = [p for t in plan.model_tasks("sample", model) for p in range(*t.parts)]
        assert planned == list(range(plan.n_parts))


def test_a_plan_survives_json_and_its_identity_ignores_the_cluster():
    plan = make_plan(job(), dataset([10, 0, 5]), 2)
    assert Plan.from_json(plan.to_json()) == plan
    other = make_plan(job(cluster={"executor": "debug"}), dataset([10, 0, 5]), 2)
    assert other.to_json()["identity"] == plan.to_json()["identity"]
    assert make_plan(job(), dataset([10, 0, 5]), 2, "aa").to_json()["identity"] != plan.to_json()["identity"]
    assert Plan.from_json(make_plan(job(), dataset([10, 0, 5]), 2, "aa").to_json()).metadata == "aa"
    changed = make_plan(job(seed=1), dataset([10, 0, 5]), 2)
    assert changed.to_json()["identity"] != plan.to_json()["identity"]


def test_every_stage_is_reachable_and_no_group_needs_a_later_one():
    plan = make_plan(job(), dataset([10]), 2)
    seen = set()
    for task in plan.all_tasks():
        assert all(need in seen for need in plan.needs(task.group))
        seen.add(task.group)


def test_rows_as_a_multiple_of_the_input():
    assert make_plan(job(sample={"rows": "2.5x"}), dataset([10]), 2).rows == 25


def test_an_empty_input_and_unknown_columns_are_the_users_mistake():
    with pytest.raises(JobError, match="no rows"):
        make_plan(job(), dataset([0], []), 2)
    with pytest.raises(JobError, match=r"evaluate\.target: no column"):
        make_plan(job(evaluate={"target": "b"}), dataset([10]), 2)


def test_deep_stock_fits_share_the_cpus():
    shared = job(models={"tvae": {}, "ctgan": {}, "gaussian_copula": {}})
    assert [t.threads for t in make_plan(shared, dataset([1]), 8).tasks["fit"]] == [4, 4, 1]
    told = job(cluster={"stages": {"fit": {"cpus": 3}}})
    assert [t.threads for t in make_plan(told, dataset([1]), 8).tasks["fit"]] == [3, 3]


def test_the_person_must_be_a_column():
    with pytest.raises(JobError, match=r"person: no column is called 'aa', did you mean 'a'|person: no column"):
        make_plan(job(person="aa"), dataset([10]), 2)


def test_evaluate_group_is_the_older_name_of_person():
    plan = make_plan(job(evaluate={"group": "a"}), dataset([10]), 2).to_json()
    assert plan["job"]["person"] == "a" and plan["job"]["evaluate"]["group"] is None
    assert plan["identity"] == make_plan(job(person="a"), dataset([10]), 2).to_json()["identity"]


def test_a_plan_of_an_older_version_goes_on_counting_rows():
    plan = make_plan(job(person="a"), dataset([10]), 2).to_json()
    older = {**plan["job"], "evaluate": {**plan["job"]["evaluate"], "group": "a"}}
    del older["person"]
    found = Plan.from_json({**plan, "job": older})
    assert found.job.person is None and found.job.holdout_key == "a"
    assert found.to_json()["identity"] == plan["older_identity"]
    assert "older_identity" not in found.to_json() and "person" not in found.to_json()["job"]


def test_a_run_that_was_planned_before_there_were_tails_goes_on_with_clip():
    plan = make_plan(job(), dataset([10]), 2).to_json()
    clip = make_plan(job(extremes="clip"), dataset([10]), 2).to_json()
    assert plan["older_identities"] == [clip["identity"]] != [plan["identity"]]
    assert "older_identities" not in clip
    person = make_plan(job(person="a"), dataset([10]), 2).to_json()
    clip = make_plan(job(person="a", extremes="clip"), dataset([10]), 2).to_json()
    assert person["older_identities"] == [clip["identity"], clip["older_identity"]]
