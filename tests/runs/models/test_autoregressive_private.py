"""The private autoregressive model: clipping of single rows, what the accountant is told, codes from metadata alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.tables.public import COLUMNS, SCHEMA, counted, planned, rows

from shardsynth.data.public_codes import public_coder
from shardsynth.errors import Saved
from shardsynth.models.autoregressive.accounting import histogram_noise
from shardsynth.models.autoregressive.private import PrivateFitting, fit_privately
from shardsynth.models.copula.private_tables import draw_histograms

pytest.importorskip("opendp")
pytest.importorskip("dp_accounting")


def test_a_private_model_learns_dependence(tmp_path) -> None:
    table = rows(20_000)
    plan = planned(20_000, 3.0, batch_size=1000)
    coder = public_coder(COLUMNS, 20_000, 0)
    tables = draw_histograms(counted(coder, table), coder, histogram_noise(3.0, 1e-6, 4))
    spent = plan.spend(3.0, 1e-6, tables.guarantee)
    given = PrivateFitting(plan, spent, tables, coder, [table], 20_000, SCHEMA, COLUMNS, checkpoint=tmp_path / "c")
    made = fit_privately(given).draw(0, 0, 20_000).to_pandas()
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
    given = PrivateFitting(plan, plan.spend(50.0, 1e-6, tables.guarantee), tables, coder, [table], 400, SCHEMA, COLUMNS)
    first, second = (fit_privately(given).network.inner for _ in range(2))
    assert not torch.equal(first, second)
    with pytest.raises(Saved, match="at step 1 of 6"):
        fit_privately(replace(given, checkpoint=tmp_path / "c", should_stop=lambda: True))
    lines: list[str] = []
    fit_privately(replace(given, checkpoint=tmp_path / "c", progress=lines.append))
    assert lines[0] == "resumed at step 1 of 6"
