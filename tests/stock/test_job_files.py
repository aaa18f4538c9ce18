from __future__ import annotations

import inspect

import pyarrow as pa
import pytest
from tests.tools import ROOT

from shardsynth.job import Job
from shardsynth.models.families import NATIVE

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))


def test_options_are_ones_that_the_engine_knows():
    single_table = pytest.importorskip("sdv.single_table")
    synthesizers = {
        "gaussian_copula": single_table.GaussianCopulaSynthesizer,
        "copulagan": single_table.CopulaGANSynthesizer,
        "ctgan": single_table.CTGANSynthesizer,
        "tvae": single_table.TVAESynthesizer,
    }
    for path in JOBS:
        for model in Job.load(path).models.values():
            if model.engine == "native":
                NATIVE[model.model].check(model.options, pa.schema([]), None)
                continue
            assert set(model.options) <= set(inspect.signature(synthesizers[model.model]).parameters), path.name
