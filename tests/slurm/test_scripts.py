from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.slurm.cluster import wait_until
from tests.slurm.runs import outcome, shardsynth

from shardsynth.errors import JobError
from shardsynth.job import Resources
from shardsynth.pipeline.plain import shipped_scripts
from shardsynth.pipeline.scripts import minutes, options

SLURM = Path(__file__).parents[2] / "slurm"


def shellcheck(*paths):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here (.ci/run installs it)")
    done = subprocess.run(["shellcheck", *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_scripts_under_slurm_are_the_ones_that_the_code_writes_and_are_clean():
    texts = {path.name: path.read_text() for path in SLURM.iterdir() if path.suffix in (".sbatch", ".sh")}
    assert texts == shipped_scripts(), "python -m shardsynth.pipeline.plain slurm"
    shellcheck(*(SLURM / name for name in texts))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("1:30", 1.5), ("1:30:00", 90), ("2-12", 3600), ("1-0:30", 1470), ("0-0:00:30", 0.5)],
)
def test_times_in_slurms_notation(text, wanted):
    assert minutes(text) == wanted


@pytest.mark.parametrize("text", ["4 hours", "1h", "", "1:2:3:4", "-5", "1-", "1:30\n"])
def test_other_times_are_refused(text):
    with pytest.raises(JobError, match="not Slurm's notation"):
        minutes(text)


def test_nothing_that_a_job_file_holds_becomes_a_second_line_of_a_script():
    for asked in (
        {"partition": "cpu\n#SBATCH --account=boss"},
        {"account": "a;b\n"},
        {"options": {"comment": "x\ny"}},
        {"options": {"comment": "$(id)"}},
        {"options": {"wrap": "id"}},
        {"options": {"nice\n": True}},
    ):
        with pytest.raises(JobError):
            options(Resources(**asked), 1)
    assert "--reservation=course" in options(Resources(options={"reservation": "course"}), 1)
    assert not [o for o in options(Resources(options={"exclusive": True}), 1) if o.startswith("--cpus")]


def test_plain_scripts_do_the_same_as_submit(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "the 'run' $(touch pwned)"
    said = shardsynth("sbatch", make_job(root), cwd=tmp_path)
    assert "9 scripts in" in said
    folder = root / "private" / "sbatch"
    shellcheck(*folder.glob("*.sbatch"), folder / "submit.sh")
    done = subprocess.run(
        ["bash", str(folder / "submit.sh")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 9, done.stderr
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 150, 0.5)
    assert outcome(root) == undisturbed, [p.read_text() for p in folder.glob("*.log")]

    parts = sorted((root / "samples" / "gaussian_copula").glob("part-*.parquet"))
    for path in (parts[3], parts[17]):
        path.unlink()
    environment = {**os.environ, "SHARDSYNTH_PYTHON": sys.executable}
    command = ["sbatch", "--array=0-2", f"--output={tmp_path}/%a.log", str(SLURM / "sample.sbatch"), str(root)]
    subprocess.run(command, cwd=SLURM.parent, env=environment, check=True, capture_output=True)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.5)
    assert outcome(root) == undisturbed
    logs = [path.read_text() for path in tmp_path.glob("?.log")]
    assert [log.count("committed") for log in logs] == [10, 10, 10]
    assert not list(tmp_path.rglob("pwned")) and not (SLURM.parent / "pwned").exists(), "the path was executed"
