"""TVAE: the ctgan package's networks and loss to 1e-5, and learning what is in a table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tests.models.deep_tables import fit, prepare
from tests.models.test_ctgan import LAYOUT, stock_layout
from tests.tables import mixed_table

from shardsynth.models.deep.model import DeepModel
from shardsynth.models.deep.networks import Decoder, Encoder, Spans, elbo

SMALL = {"epochs": 3, "batch_size": 100, "compress_dims": [16], "decompress_dims": [16], "embedding_dim": 8}


def test_networks_and_loss_are_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.tvae")
    torch.manual_seed(0)
    encoder, decoder = Encoder(13, (24, 16), 6), Decoder(6, (16, 24), 13)
    theirs = stock.Encoder(13, (24, 16), 6), stock.Decoder(6, (16, 24), 13)
    theirs[0].load_state_dict(encoder.state_dict())
    theirs[1].load_state_dict(decoder.state_dict())
    spans = Spans(LAYOUT)
    codes = torch.stack([torch.randint(0, size, (50,)) for size in LAYOUT.size.tolist()], 1)
    real = spans.one_hot(codes.to(torch.int8), torch.rand(50, 2) * 2 - 1)
    noise = torch.randn(50, 6)

    losses = []
    for enc, dec in ((encoder, decoder), theirs):
        mean, std, log_variance = enc(real)
        raw, sigma = dec(noise * std + mean)
        if enc is encoder:
            losses.append(elbo(raw, real, sigma, mean, log_variance, spans, 2.0))
        else:
            losses.append(stock._loss_function(raw, real, sigma, mean, log_variance, stock_layout(), 2.0))
        sum(losses[-1]).backward()
    for mine, its in zip(*losses):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
    for mine, its in zip(
        [*encoder.parameters(), *decoder.parameters()], [*theirs[0].parameters(), *theirs[1].parameters()]
    ):
        gradient = torch.zeros_like(its) if its.grad is None else its.grad
        torch.testing.assert_close(mine.grad, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decode", ["sample", "argmax"])
def test_rows_have_the_schema_and_depend_on_their_number_alone(decode: str, tmp_path: Path) -> None:
    table = mixed_table(500)
    model = fit("tvae", prepare(table, {"patient": "id"}), {**SMALL, "decode": decode})
    whole = model.draw(0, 0, 9000)
    assert whole.schema.equals(table.schema, check_metadata=True)
    parts = [model.draw(0, a, b - a) for a, b in ((0, 17), (17, 5000), (5000, 9000))]
    assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    model.save(tmp_path)
    assert DeepModel.load(tmp_path).draw(0, 0, 100).equals(whole.slice(0, 100))


def test_fewer_rows_than_a_batch_and_a_column_of_nothing_but_one_value() -> None:
    table = pa.table({"x": pa.array([1, 2, None, 4, 5] * 10, pa.int16()), "same": ["v"] * 50})
    drawn = fit("tvae", prepare(table), {**SMALL, "batch_size": 500}).draw(3, 0, 300)
    assert drawn.schema.equals(table.schema, check_metadata=True)
    assert set(drawn["same"].to_pylist()) == {"v"}
    assert set(drawn["x"].to_pylist()) <= {1, 2, 3, 4, 5, None} and drawn["x"].null_count
