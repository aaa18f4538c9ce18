"""The scripts under slurm/ are those that the code writes."""

from __future__ import annotations

from tests.tools import ROOT

from shardsynth.executors.slurm.plain_scripts import shipped_scripts


def test_the_scripts_under_slurm_are_the_ones_that_the_code_writes() -> None:
    texts = {path.name: path.read_text() for path in (ROOT / "slurm").iterdir() if path.suffix in (".sbatch", ".sh")}
    assert texts == shipped_scripts(), "python -m shardsynth.executors.slurm.plain_scripts slurm"
