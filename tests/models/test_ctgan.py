"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from tests.models.deep_tables import fit, prepare, read
from tests.tables import mixed_table

from shardsynth.errors import InputError, JobError, ModelError
from shardsynth.models.deep.codes import Layout
from shardsynth.models.deep.ctgan import Conditions, settle_normalisation
from shardsynth.models.deep.fit import choose_device, runs_on
from shardsynth.models.deep.model import DeepModel
from shardsynth.models.deep.networks import Discriminator, Generator, Spans, activate, condition_loss
from shardsynth.models.deep.options import DeepOptions

SMALL = {
    "epochs": 2,
    "batch_size": 100,
    "generator_dim": [16, 16],
    "discriminator_dim": [16],
    "embedding_dim": 8,
    "normalisation_rows": 2000,
}
#: Column sizes as ctgan lists them: a numeric column with 3 modes, a category of 4, a numeric one with 2, a category of 2.
LAYOUT = Layout(
    width=13,
    start=np.array([1, 4, 9, 11]),
    size=np.array([3, 4, 2, 2]),
    tanh=np.array([0, 8]),
    conditional=np.array([1, 3]),
)


def stock_layout() -> list:
    from ctgan.data_transformer import SpanInfo

    def axis(modes: int) -> list:
        return [SpanInfo(1, "tanh"), SpanInfo(modes, "softmax")]

    return [axis(3), [SpanInfo(4, "softmax")], axis(2), [SpanInfo(2, "softmax")]]


@pytest.fixture(scope="module")
def mixed() -> pa.Table:
    return mixed_table(600)


@pytest.fixture(scope="module")
def model(mixed: pa.Table) -> DeepModel:
    return fit("ctgan", prepare(mixed, {"patient": "id"}), SMALL)


def test_the_generator_is_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.ctgan")
    theirs, ours = stock.Generator(14, (32, 24), 13), Generator(14, (32, 24), 13)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(50, 14)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_the_critic_its_penalty_and_its_derivatives_are_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.ctgan")
    theirs, ours = stock.Discriminator(19, (32, 24), pac=5).eval(), Discriminator(19, (32, 24), pac=5)
    ours.load_state_dict(theirs.state_dict())
    real, fake = torch.randn(50, 19), torch.randn(50, 19)
    torch.testing.assert_close(ours(fake), theirs(fake), rtol=1e-5, atol=1e-5)

    torch.manual_seed(1)
    expected = theirs.calc_gradient_penalty(real, fake.requires_grad_(), "cpu", 5)
    expected.backward()
    torch.manual_seed(1)
    found = ours.gradient_penalty(ours.first(real), ours.first(fake), torch.rand(10, 1, 1)[:, 0])
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for (name, mine), its in zip(ours.named_parameters(), theirs.parameters()):
        if "bias" not in name:  # the input gradient of a piecewise linear network knows no bias
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-5, atol=1e-5)


def test_condition_vectors_by_their_positions_are_the_same_products() -> None:
    torch.manual_seed(0)
    generator, critic = Generator(14, (32, 24), 13), Discriminator(13, (32, 24), pac=5, wide=6)
    noise, rows, flat = torch.randn(50, 8), torch.randn(50, 13), torch.randint(0, 6, (50,))
    vectors = torch.nn.functional.one_hot(flat, 6).float()
    table = vectors.reshape(10, 30) @ critic.table
    for whole, parts, network in (
        (generator(torch.cat([noise, vectors], 1)), generator(noise, flat), generator),
        (critic.first(rows) + table, critic.first(rows, flat), critic),
    ):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
        weight = torch.randn_like(whole)
        parameters = [p for p in network.parameters() if p.requires_grad]
        expected = torch.autograd.grad((whole * weight).sum(), parameters, allow_unused=True)
        found = torch.autograd.grad((parts * weight).sum(), parameters, allow_unused=True)
        for mine, its in zip(found, expected):
            assert (mine is None) == (its is None)
            if mine is not None:
                torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_the_penalty_of_rows_under_conditions_is_that_of_one_layer_for_both() -> None:
    torch.manual_seed(0)
    critic, whole = Discriminator(13, (32, 24), pac=5, wide=6), Discriminator(13 + 6, (32, 24), pac=5)
    with torch.no_grad():
        for mine, its in zip(critic.linears[1:], whole.linears[1:]):
            its.load_state_dict(mine.state_dict())
        rows, vectors = critic.linears[0].weight.view(32, 5, 13), critic.table.t().reshape(32, 5, 6)
        whole.linears[0].weight.copy_(torch.cat([rows, vectors], 2).view(32, -1))
    real, fake, alpha = torch.randn(10, 32), torch.randn(10, 32), torch.rand(10, 1)
    found, expected = critic.gradient_penalty(real, fake, alpha), whole.gradient_penalty(real, fake, alpha)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.backward()
    expected.backward()
    together = torch.cat([critic.linears[0].weight.grad.view(32, 5, 13), critic.table.grad.t().reshape(32, 5, 6)], 2)
    torch.testing.assert_close(together.view(32, -1), whole.linears[0].weight.grad, rtol=1e-4, atol=1e-6)


def test_activation_and_its_derivative_are_those_of_the_columns_one_by_one() -> None:
    torch.manual_seed(0)
    spans = Spans(LAYOUT)
    x, noise = (8 * torch.randn(40, 13)).double().requires_grad_(), torch.randn(40, 13).double()
    spans.member = spans.member.double()
    weight = torch.randn(40, 13).double()
    parts, place = [], 0
    for column in stock_layout():
        for span in column:
            own = slice(place, place + span.dim)
            raw = x[:, own]
            parts.append(torch.tanh(raw) if span.activation_fn == "tanh" else ((raw + noise[:, own]) / 0.2).softmax(1))
            place += span.dim
    expected = torch.cat(parts, 1)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    found = activate(x, noise, spans)
    (mine,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(mine, gradient, rtol=1e-5, atol=1e-8)


def test_the_condition_loss_is_the_packages() -> None:
    stock = pytest.importorskip("ctgan")
    from ctgan.data_transformer import DataTransformer

    torch.manual_seed(0)
    theirs = stock.CTGAN(enable_gpu=False)
    theirs._transformer = DataTransformer()
    theirs._transformer.output_info_list = stock_layout()
    raw, column = torch.randn(60, 13), torch.randint(0, 2, (60,))
    category = torch.where(column == 0, torch.randint(0, 4, (60,)), torch.randint(0, 2, (60,)))
    spans = Spans(LAYOUT)
    flat = torch.as_tensor(LAYOUT.condition_start)[column] + category
    expected = theirs._cond_loss(raw, spans.conditions(flat), torch.nn.functional.one_hot(column, 2).float())
    torch.testing.assert_close(condition_loss(raw, column, category, spans), expected, rtol=1e-5, atol=1e-5)


def test_conditions_are_even_over_columns_logarithmic_within_them_and_met_by_the_rows() -> None:
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(np.stack([rng.choice(k, 5000, p=p) for k, p in ((3, [0.5, 0.3, 0.2]), (4, [0.9, 0.05, 0.05, 0.0]), (2, [0.5, 0.5]), (2, [0.99, 0.01]))], 1).astype(np.int8))  # fmt: skip
    conditions = Conditions.of(codes, LAYOUT, log_frequency=True)
    assert conditions is not None
    random = torch.Generator().manual_seed(0)
    flat = conditions.draw(40_000, random)
    column, category = conditions.column[flat], conditions.category[flat]
    for number, span in enumerate(LAYOUT.conditional.tolist()):
        count = torch.bincount(codes[:, span].long(), minlength=int(LAYOUT.size[span])).double()
        expected = 0.5 * torch.log1p(count) / torch.log1p(count).sum()
        found = torch.bincount(category[column == number], minlength=len(count)).double() / 40_000
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
        assert found[count == 0].sum() == 0
    rows = conditions.matching_rows(flat, random)
    span = torch.as_tensor(LAYOUT.conditional)[column]
    assert torch.equal(codes[rows, span].long(), category)


def test_settled_normalisation_gives_what_the_batch_of_all_rows_would() -> None:
    torch.manual_seed(0)
    generator = Generator(6, (8, 8), 5)
    chunks = [torch.randn(100, 6) for _ in range(4)]
    with torch.no_grad():
        expected = generator(torch.cat(chunks))
    settle_normalisation(generator, lambda chunk: chunks[chunk], 4)
    torch.testing.assert_close(generator(chunks[1]), expected[100:200], rtol=1e-4, atol=1e-5)


def test_drawn_batches_have_the_schema_and_only_the_values_of_the_table(model: DeepModel, mixed: pa.Table) -> None:
    drawn = model.draw(0, 0, 1000)
    assert drawn.schema.equals(mixed.schema, check_metadata=True)
    drawn.validate(full=True)
    for name in ("stage", "sex", "smoker", "mutated", "site"):
        known = set(mixed[name].to_pylist())
        assert set(drawn[name].to_pylist()) <= known, name
    assert drawn["empty"].null_count == 1000
    assert len(set(drawn["patient"].to_pylist())) == 1000
    assert drawn["age"].null_count > 0 and drawn["born"].null_count == 0
    low, high = pc.min_max(mixed["age"]).as_py().values()
    assert low <= pc.min(drawn["age"]).as_py() and pc.max(drawn["age"]).as_py() <= high


def test_a_row_depends_on_its_number_alone(model: DeepModel) -> None:
    whole = model.draw(7, 0, 10_000)
    for splits in ([0, 1, 999, 1000, 10_000], [0, 4095, 4097, 8193, 10_000]):
        parts = [model.draw(7, a, b - a) for a, b in zip(splits, splits[1:])]
        assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    assert model.with_threads(2).draw(7, 0, 10_000).equals(whole)
    assert model.draw(7, 5000, 10).equals(whole.slice(5000, 10))
    assert not model.draw(8, 0, 100).equals(whole.slice(0, 100))


def test_a_saved_model_draws_the_same_rows(model: DeepModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    loaded = DeepModel.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert loaded.draw(1, 0, 500).equals(model.draw(1, 0, 500))
    (tmp_path / "a" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="no readable"):
        DeepModel.load(tmp_path / "a")


@pytest.mark.parametrize("options", [{}, {"default_distribution": "beta"}])
def test_copulagan_learns_and_draws(mixed: pa.Table, options: dict) -> None:
    drawn = fit("copulagan", prepare(mixed, {"patient": "id"}), {**SMALL, **options}).draw(0, 0, 300)
    assert drawn.schema.equals(mixed.schema, check_metadata=True)
    assert 10 < pc.mean(drawn["dose"]).as_py() < 100


def test_true_and_log_frequencies(mixed: pa.Table) -> None:
    rare = pa.table({"flag": ["a"] * 950 + ["b"] * 50, "x": np.random.default_rng(0).normal(size=1000)})
    shares = []
    for condvec in ("true", "log"):
        model = fit("ctgan", prepare(rare), {**SMALL, "condvec": condvec})
        shares.append(np.diff(model.sampler.reached, prepend=0.0)[1])
    assert abs(shares[0] - 0.05) < 1e-9 and 0.3 < shares[1] < 0.45


@pytest.mark.parametrize("table", [
    pa.table({"x": pa.array([1.5, None, float("nan"), 2.5] * 20)}),  # no category: no conditions
    pa.table({"c": pa.array(["a", "b", None, "b"] * 20)}),  # no number
    pa.table({"one": pa.array([7] * 80, pa.int8()), "c": pa.array(["a", "b"] * 40)}),  # a constant
    pa.table({"x": pa.array(np.arange(50.0)), "c": pa.array(["a", "b"] * 25)}),  # fewer rows than a batch
])  # fmt: skip
def test_odd_tables(table: pa.Table) -> None:
    drawn = fit("ctgan", prepare(table), {**SMALL, "batch_size": 500}).draw(0, 0, 200)
    assert drawn.schema.equals(table.schema, check_metadata=True)
    for name in table.column_names:
        assert (drawn[name].null_count > 0) == (table[name].null_count > 0)
    if "one" in table.column_names:
        assert set(drawn["one"].to_pylist()) == {7}


def test_missing_that_was_nan_stays_nan() -> None:
    table = pa.table({"x": pa.array([1.5, float("nan"), 2.5, 3.5] * 30)})
    drawn = fit("ctgan", prepare(table), SMALL).draw(0, 0, 400)
    assert drawn["x"].null_count == 0
    assert 0 < pc.sum(pc.is_nan(drawn["x"])).as_py() < 400


def test_impossible_options_say_what_to_do() -> None:
    with pytest.raises(JobError, match="pac 7 does not divide batch_size 500.*batch_size 497"):
        DeepOptions.parse("ctgan", {"pac": 7})
    with pytest.raises(JobError, match="did you mean 'epochs'"):
        DeepOptions.parse("ctgan", {"epoch": 7})
    with pytest.raises(JobError, match="compress_dims"):
        DeepOptions.parse("ctgan", {"compress_dims": [128]})
    with pytest.raises(JobError, match="generator_dim: wanted a list of widths"):
        DeepOptions.parse("ctgan", {"generator_dim": 256})
    with pytest.raises(JobError, match="'marginals'; valid"):
        DeepOptions.parse("ctgan", {"marginals": "norm"})
    with pytest.raises(JobError, match="copulagan: marginals: there is no distribution 'norm2'"):
        DeepOptions.parse("copulagan", {"marginals": "norm2"})
    with pytest.raises(JobError, match="copulagan: marginals: no numeric column is called 'agee'; did you mean 'age'"):
        DeepOptions.parse("copulagan", {"marginals": {"agee": "norm"}}).check_columns(["age", "sex"])
    assert DeepOptions.parse("ctgan", {"enable_gpu": False, "verbose": True}).device == "cpu"
    options = DeepOptions.parse("copulagan", {"generator_dim": [8], "numerical_distributions": {"x": "beta"}})
    assert DeepOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("ctgan", "epochs", float("inf")),
        ("ctgan", "generator_dim", "256"),
        ("ctgan", "generator_dim", [1.5]),
        ("ctgan", "discriminator_dim", []),
        ("ctgan", "generator_lr", -1),
        ("ctgan", "discriminator_lr", float("nan")),
        ("ctgan", "generator_decay", -1),
        ("ctgan", "weight_threshold", 2),
        ("ctgan", "checkpoint_minutes", -1),
        ("ctgan", "max_categories", 32_768),
        ("tvae", "loss_factor", 0),
        ("tvae", "l2scale", float("inf")),
    ],
)
def test_a_value_that_cannot_be_trained_with_is_refused_before_anything_runs(family: str, key: str, value: Any) -> None:
    with pytest.raises(JobError, match=f"^{family}: {key}.*wanted"):
        DeepOptions.parse(family, {key: value})


def test_options_have_the_packages_names_and_defaults() -> None:
    stock = pytest.importorskip("ctgan")
    import inspect

    for family, theirs in (("ctgan", stock.CTGAN), ("tvae", stock.TVAE)):
        ours = DeepOptions(family=family)
        for name, parameter in inspect.signature(theirs.__init__).parameters.items():
            if name not in ("self", "verbose", "enable_gpu", "cuda"):
                assert getattr(ours, name) == parameter.default, name


@pytest.mark.parametrize(("built", "capability", "runs"), [
    (["sm_75", "sm_80", "sm_86", "sm_90"], (9, 0), True),
    (["sm_75", "sm_80", "sm_86", "sm_90"], (8, 9), True),  # the machine code of 8.6
    (["sm_86", "sm_90"], (8, 0), False),
    (["sm_80", "sm_90"], (7, 0), False),
    (["sm_80", "sm_90"], (12, 0), False),
    (["sm_80", "compute_90"], (12, 0), True),  # compiled by the driver
    (["sm_90a"], (9, 0), True),
    ([], (8, 0), False),
])  # fmt: skip
def test_which_devices_a_build_of_torch_runs_on(built: list, capability: tuple, runs: bool) -> None:
    assert runs_on(built, *capability) is runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="device: cuda was asked for, but it cannot be used: .*device: cpu"):
        choose_device("cuda")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(InputError, match="was given a GPU"):
        choose_device("auto")


def test_adult_is_learned(adult_dir: Path) -> None:
    prepared = prepare(read(adult_dir))
    small = {**SMALL, "batch_size": 500, "epochs": 1, "generator_dim": [32], "embedding_dim": 16}
    drawn = fit("ctgan", prepared, small).draw(0, 0, 5000)
    share = pc.mean(pc.equal(drawn["income"].dictionary_decode(), "<=50K")).as_py()
    assert drawn.schema.equals(prepared.table.schema, check_metadata=True)
    assert 0.3 < share < 1.0
