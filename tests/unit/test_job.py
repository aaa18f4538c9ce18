from __future__ import annotations

import pytest
from tests.tools import ROOT

from shardsynth.commands.reference import reference
from shardsynth.errors import JobError
from shardsynth.job import Job, parse_rows


def _itself() -> list:
    """A list that holds itself, as an alias of YAML can write it."""
    values: list = ["a"]
    values.append(values)
    return values


JOB = {"input": "data", "output": "runs/x", "models": {"tvae": {"epochs": 3}}}


def test_defaults_and_round_trip():
    job = Job.parse(JOB)
    assert (job.models["tvae"].model, job.models["tvae"].engine, job.models["tvae"].options) == (
        "tvae",
        "native",
        {"epochs": 3},
    )
    assert Job.parse(job.to_dict()) == job
    assert Job.parse({**JOB, "models": ["gaussian_copula"]}).models["gaussian_copula"].engine == "native"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inptu": "x"}, "unknown key 'inptu'; did you mean 'input'?"),
        ({"sample": {"row": 3}}, "unknown key 'sample.row'; did you mean 'rows'?"),
        ({"cluster": {"stages": {"fit": {"cpu": 3}}}}, "unknown key 'cluster.stages.fit.cpu'"),
        ({"cluster": {"stages": {"fitt": {}}}}, "no stage is called 'fitt'; did you mean 'fit'?"),
        ({"models": {"tvea": {}}}, "ctgan, tvae; did you mean 'tvae'?"),
        ({"models": {"../up": {"model": "tvae"}}}, "becomes a folder"),
        ({"models": {"tvae": 3}}, "models.tvae: wanted a mapping of options, found int"),
        ({"models": {}}, "at least one model"),
        ({"models": [["tvae", "ctgan"]]}, "a list of model names"),
        ({"models": {"ctgan": {"engine": "stock"}}}, "models.ctgan.engine: Input should be 'native' or 'sdv'"),
        ({"sample": {"rows": "lots"}}, "sample.rows: 'lots' is not a row count"),
        ({"sample": {"rows": "1e30"}}, "sample.rows: '1e30' is not a row count (0 to 2^63 - 1)"),
        ({"seed": "many"}, "seed: Input should be a valid integer"),
        ({"person": "a", "evaluate": {"group": "b"}}, "person and evaluate.group are two names of one thing"),
        (
            {"person": "a", "privacy": {"epsilon": 1}, "metadata": "m", "models": {"gaussian_copula": {}}},
            "privacy: its unit is one row",
        ),
        ({"evaluate": {"holdout": 1.5}}, "evaluate.holdout"),
        ({"input": []}, "the list is empty"),
        ({"input": ""}, "input: a path is empty"),
        ({"metadata": " "}, "metadata: the path is empty"),
        ({"seed": 10**30}, "seed: found a number of 25 hexadecimal digits; wanted one below 2^63"),
        ({"fit": {"sample_rows": "9" * 40}}, "fit.sample_rows: found a number of 34 hexadecimal digits"),
        ({"privacy": {"epsilon": float("inf")}}, "privacy.epsilon: found inf; wanted a finite number"),
        ({"cluster": {"defaults": {"mem_gb": "1e400"}}}, "cluster.defaults.mem_gb: found inf"),
        ({"output": "a\0b"}, "output: a path cannot hold a NUL character"),
        ({"output": "a\ud800"}, "output: holds a character that is no text"),
        ({"sample": {"rows": "9" * 400 + "x"}}, "is no factor below 2^63"),
        ({"evaluate": {"sensitive": _itself()}}, "or a list that holds itself"),
    ],
)
def test_one_clear_error_with_the_nearest_key(change, message):
    with pytest.raises(JobError) as caught:
        Job.parse({**JOB, **change}, "mine.yaml")
    assert message in str(caught.value) and str(caught.value).startswith("mine.yaml: ")
    assert caught.value.exit_code == 2


def test_yaml_errors_name_the_line(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("input: x\ninput: y\n")
    with pytest.raises(JobError, match=r"line 2, column 1 is not valid YAML: the key 'input' stands twice"):
        Job.load(path)
    path.write_text("input: 2020-99-99\n")
    with pytest.raises(JobError, match="holds a date that does not exist, or a number of too many digits"):
        Job.load(path)
    path.write_text("input: [x\n")
    with pytest.raises(JobError, match="is not valid YAML"):
        Job.load(path)
    path.write_text("a: " + "[" * 5000)
    with pytest.raises(JobError, match="nested too deeply"):
        Job.load(path)
    path.write_text("")
    with pytest.raises(JobError, match="found nothing"):
        Job.load(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(JobError, match="wanted a mapping"):
        Job.load(path)
    with pytest.raises(JobError, match="no job file"):
        Job.load(tmp_path / "nowhere.yaml")


def test_overrides(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("input: data\noutput: runs/x\nmodels: {tvae: {}}\n")
    job = Job.load(path, ["sample.rows=1e6", "models.tvae.epochs=2", "models.tvae.compress_dims=[8, 8]", "seed=7"])
    assert (job.sample.rows, job.seed) == (1_000_000, 7)
    assert job.models["tvae"].options == {"epochs": 2, "compress_dims": [8, 8]}
    with pytest.raises(JobError, match="wanted KEY=VALUE"):
        Job.load(path, ["seed"])
    with pytest.raises(JobError, match="unknown key 'sede'"):
        Job.load(path, ["sede=3"])


def test_row_counts():
    assert [parse_rows(text) for text in ("1e6", "1_000", "12,000", 5)] == [1_000_000, 1000, 12_000, 5]
    for bad in ("1.5", "-3", "", True, "1e-3", None, "1e400", float("inf"), "9" * 50):
        with pytest.raises(JobError):
            parse_rows(bad)
    assert Job.parse({**JOB, "sample": {"rows": "1.5x"}}).sample.total_rows(11) == 16


def test_the_reference_is_generated():
    page = ROOT / "docs" / "job-file.md"
    assert page.read_text() == reference(), "run: python -m shardsynth.commands.reference docs/*.md"


@pytest.mark.parametrize(
    ("written", "read"),
    [("2:00:00", "2:00:00"), ("1:30", "1:30"), ("30", "30"), ("'30'", "30"), ("1-12:00", "1-12:00")],
)
def test_a_time_limit_is_read_as_slurm_reads_it(tmp_path, written, read):
    path = tmp_path / "job.yaml"
    path.write_text(
        f"input: x\noutput: y\nmodels: {{gaussian_copula: {{}}}}\ncluster: {{stages: {{fit: {{time: {written}}}}}}}\n"
    )
    assert Job.load(path).cluster.stages["fit"].time == read
    assert Job.load(path, [f"cluster.stages.sample.time={written}"]).cluster.stages["sample"].time == read
