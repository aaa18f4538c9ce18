from shardsynth.executors.slurm.fit_cpus import DEFAULT_CPUS, fit_cpus
from shardsynth.executors.slurm.site import Site, resources
from shardsynth.job import Job, Resources


def job(**cluster):
    return Job.parse({"input": "x", "output": "y", "models": {"tvae": {}, "gaussian_copula": {}}, "cluster": cluster})


def test_a_machine_without_slurm_plans_the_stated_default(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fit_cpus(job(workers=64), Site()) == {"tvae": DEFAULT_CPUS, "gaussian_copula": 1}


def test_a_plan_that_is_read_back_asks_for_the_same():
    before = job(defaults={"cpus": 6}, stages={"fit": {"mem_gb": 3}})
    after = Job.parse(before.to_dict())
    site = Site(defaults=Resources(cpus=2))
    assert fit_cpus(after, site) == fit_cpus(before, site) == {"tvae": 6, "gaussian_copula": 1}


def test_resume_asks_for_what_submit_asked_for():
    """`resume` reads the job back from the plan, where every key that the job does not name is null."""
    before = job(defaults={"partition": "gpu"}, stages={"fit": {"mem_gb": 8}})
    after = Job.parse(before.to_dict())
    site = Site(defaults=Resources(account="lab"))
    for stage in ("fit", "sample"):
        asked = resources(site, after.cluster, stage, "tvae")
        assert (asked.partition, asked.account) == ("gpu", "lab")
        assert asked == resources(site, before.cluster, stage, "tvae")
