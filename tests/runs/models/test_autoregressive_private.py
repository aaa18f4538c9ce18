"""The private autoregressive model: clipping of single rows, what the accountant is told, codes from metadata alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.tables.public import COLUMNS, SCHEMA, counted, planned, rows

from shardsynth.data.public_codes import public_coder
from shardsynth.errors import Saved
from shardsynth.models.autoregressive.dp_fit import DpFitting, fit_with_dp
from shardsynth.models.base import FitSetup
from shardsynth.models.dp.accounting import histogram_noise
from shardsynth.models.dp.tables import draw_histograms

pytest.importorskip("opendp")
pytest.importorskip("dp_accounting")


def test_a_private_model_learns_dependence(tmp_path) -> None:
    table = rows(20_000)
    plan = planned(20_000, 3.0, batch_size=1000)
    coder = public_coder(COLUMNS, 20_000, 0)
    tables = draw_histograms(counted(coder, table), coder, histogram_noise(3.0, 1e-6, 4))
    spent = plan.spend(3.0, 1e-6, tables.guarantee)
    setup = FitSetup(SCHEMA, COLUMNS, coder, plan.options, checkpoint=tmp_path / "c")
    given = DpFitting(setup, plan, spent, tables, [table], 20_000)
    made = fit_with_dp(given).draw(0, 0, 20_000).to_pandas()
    real = table.to_pandas()
    assert made["d"].mean() == pytest.approx(real["d"].mean(), abs=0.03)
    assert made["n"][made["d"]].mean() - made["n"][~made["d"]].mean() > 4.5
    assert made["x"].isna().mean() == pytest.approx(0.2, abs=0.03)
    assert ((made["c"] == "a") & made["d"]).mean() == pytest.approx(0.36, abs=0.06)


def test_the_noise_is_another_one_every_time_also_after_a_stop(tmp_path) -> None:
    table = rows(400)
    coder = public_coder(COLUMNS, 400, 0)
    plan = planned(400, 50.0, max_epochs=6)
    tables = draw_histograms(counted(coder, table), coder, histogram_noise(50.0, 1e-6, 4))
    setup = FitSetup(SCHEMA, COLUMNS, coder, plan.options)
    given = DpFitting(setup, plan, plan.spend(50.0, 1e-6, tables.guarantee), tables, [table], 400)
    first, second = (fit_with_dp(given).network.inner for _ in range(2))
    assert not torch.equal(first, second)
    with pytest.raises(Saved, match="at step 1 of 6"):
        fit_with_dp(replace(given, setup=replace(setup, checkpoint=tmp_path / "c", should_stop=lambda: True)))
    lines: list[str] = []
    fit_with_dp(replace(given, setup=replace(setup, checkpoint=tmp_path / "c", progress=lines.append)))
    assert lines[0] == "resumed at step 1 of 6"
