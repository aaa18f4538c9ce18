from __future__ import annotations

from pathlib import Path

import pytest

from shardsynth.errors import JobError
from shardsynth.executors.slurm.site import load_site


def test_a_site_file_has_times_as_slurm_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("defaults: {time: 2:00:00}\nstages: {fit: {time: 45}}\n")
    site = load_site(str(path))
    assert site.defaults.time == "2:00:00"
    assert site.stages["fit"].time == "45"


@pytest.mark.parametrize(
    ("text", "message"),
    [("defaults: [", "site.yaml: line 1"), ("defaults: {}\ndefaults: {}\n", "'defaults' stands twice")],
)
def test_a_site_file_that_is_wrong_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=message):
        load_site(str(path))
