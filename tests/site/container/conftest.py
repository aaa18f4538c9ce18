"""A real Apptainer and the image that `containers/build.sh` makes, built once per session.

SHARDSYNTH_TEST_IMAGE=FILE takes an image that is there, with this checkout's code mounted over the image's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.site.container.images import PACKAGE, Image, outcome, shardsynth
from tests.tools import ROOT, require


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Image:
    """The CPU image, built by containers/build.sh on a Debian base."""
    require("apptainer")
    given = os.environ.get("SHARDSYNTH_TEST_IMAGE")
    if given:
        return Image(Path(given), [f"{ROOT / 'src' / 'shardsynth'}:{PACKAGE}:ro"])
    require("mmdebstrap")
    path = tmp_path_factory.mktemp("image") / "shardsynth.sif"
    done = subprocess.run(
        [ROOT / "containers" / "build.sh", "cpu", "--base", "debian", "--no-test", "-o", path],
        env={**os.environ, "SHARDSYNTH_ZSTD_LEVEL": "3", "PYTHON": sys.executable},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return Image(path, [])


@pytest.fixture(scope="session")
def demo_shards(tmp_path_factory) -> Path:
    """The demo's four shards, in a folder whose name has to be quoted."""
    from shardsynth.commands.demo import write_demo_shards

    folder = tmp_path_factory.mktemp("demo") / 'shards, "quoted"'
    write_demo_shards(folder)
    return folder


@pytest.fixture(scope="session")
def make_job(demo_shards, tmp_path_factory):
    """Writes the demo's job for a run directory; further keys as in YAML. One thread, wherever it runs."""
    from shardsynth.commands.demo import demo_job

    def make(output, *, models=None, **changes) -> Path:
        job = demo_job(demo_shards, output).to_dict()
        job["models"] = models or job["models"]
        job["cluster"]["stages"] = {"fit": {"cpus": 1}}
        for key, value in changes.items():
            job[key].update(value)
        path = tmp_path_factory.mktemp("job") / "job.yaml"
        path.write_text(yaml.safe_dump(job))
        return path

    return make


@pytest.fixture(scope="session")
def uncontained(make_job, tmp_path_factory) -> dict[str, str]:
    """What the demo's job gives on this machine, without any container."""
    root = tmp_path_factory.mktemp("uncontained") / "run"
    shardsynth("run", make_job(root), "--here")
    return outcome(root)
