"""Variables of sbatch: job and site file win, what they leave open comes from the shell, and nothing is silent."""

from __future__ import annotations

import pytest

from shardsynth.errors import JobError
from shardsynth.executors.slurm.shell_options import keep_variables, shell_variables, variables_of_run, with_shell
from shardsynth.executors.slurm.site import Site, resources
from shardsynth.job import Cluster, Resources


def asked(site, cluster, variables, stage="sample"):
    shelled, lines = with_shell(site, cluster, variables)
    return resources(shelled, cluster, stage, ""), lines


def test_what_job_and_site_file_leave_open_comes_from_the_shell_and_is_named():
    variables = {
        "SBATCH_ACCOUNT": "grant", "SBATCH_TIMELIMIT": "2:00:00", "SBATCH_PARTITION": "short",
        "SBATCH_RESERVATION": "course", "SBATCH_MEM_PER_NODE": "6G", "SBATCH_EXCLUSIVE": "",
    }  # fmt: skip
    site = Site(defaults=Resources(partition="batch"), stages={"fit": Resources(time="12:00:00")})
    found, lines = asked(site, Cluster(defaults=Resources(account="lab")), shell_variables(variables))
    assert (found.account, found.partition, found.time, found.mem_gb) == ("lab", "batch", "2:00:00", 6.0)
    assert found.options == {"reservation": "course"}
    assert asked(site, Cluster(), variables, "fit")[0].time == "12:00:00", "the site's entry of the stage wins"
    used = "SBATCH_MEM_PER_NODE=6G, SBATCH_RESERVATION=course, SBATCH_TIMELIMIT=2:00:00"
    assert lines[0] == f"from the shell, where job and site file say nothing: {used}"
    says = "(the job or the site file says otherwise)"
    assert lines[1] == f"in the shell, but not used: SBATCH_ACCOUNT {says}, SBATCH_PARTITION {says}"


def test_a_variable_that_the_script_sets_itself_is_named():
    _, lines = asked(Site(), Cluster(), {"SBATCH_SIGNAL": "USR1@60"})
    assert lines == ["in the shell, but not used: SBATCH_SIGNAL (the script says that itself)"]


def test_memory_per_cpu_gives_way_to_memory():
    job = Cluster(stages={"fit": Resources(mem_gb=4)})
    found, _ = asked(Site(), job, {"SBATCH_MEM_PER_CPU": "2G"}, "fit")
    assert found.options == {}
    assert asked(Site(), Cluster(), {"SBATCH_MEM_PER_CPU": "2G"})[0].options == {"mem-per-cpu": "2G"}


def test_gpus_give_way_to_gres():
    site = Site(defaults=Resources(gres="gpu:a100:1"))
    assert asked(site, Cluster(), {"SBATCH_GPUS": "2"})[0].gpus is None
    assert asked(Site(), Cluster(), {"SBATCH_GPUS": "a100:2"})[0].gpus == "a100:2"


@pytest.mark.parametrize(("variable", "value"), [("SBATCH_TIMELIMIT", "2 hours"), ("SBATCH_MEM_PER_NODE", "lots")])
def test_a_value_that_sbatch_would_not_take_is_named(variable, value):
    with pytest.raises(JobError, match=f"{variable}: '{value}' is not .*; or unset it"):
        asked(Site(), Cluster(), {variable: value})


def test_a_run_keeps_the_variables_it_was_submitted_with(tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "grant")
    keep_variables(tmp_path / "slurm", variables_of_run(tmp_path / "slurm"))
    monkeypatch.delenv("SBATCH_ACCOUNT")
    assert variables_of_run(tmp_path / "slurm")["SBATCH_ACCOUNT"] == "grant"
    monkeypatch.setenv("SBATCH_ACCOUNT", "other")
    assert variables_of_run(tmp_path / "slurm")["SBATCH_ACCOUNT"] == "other"
