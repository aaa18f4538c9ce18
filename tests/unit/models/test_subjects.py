"""The network of several tables, without training: what it is given, what it draws, and how it is held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from shardsynth.models.autoregressive.subjects.families import (
    CodedRows,
    Families,
    joined,
    last_known,
    ranges,
)
from shardsynth.models.autoregressive.subjects.network import (
    SubjectsNetwork,
    TableShape,
    place_of,
    times_before,
)
from shardsynth.models.autoregressive.subjects.persistence import LEVELS, fitted_terms, level_of, levels_before
from shardsynth.models.autoregressive.subjects.sampler import BLOCK, DrawnRows, SubjectsSampler, Tie

NAMES = ("people", "visits", "labs")
OWNER_OF = {"visits": "people", "labs": "visits"}
SIZES = {"people": (3, 4), "visits": (5, 3, 2), "labs": (50,)}


def shapes() -> dict[str, TableShape]:
    found = {}
    for name, sizes in SIZES.items():
        shares = tuple(np.full(size, 1 / size) for size in sizes)
        places = tuple(
            np.append(np.linspace(0.1, 0.9, size - 1), np.nan) if k == 0 else None for k, size in enumerate(sizes)
        )
        found[name] = TableShape(sizes, tuple(k == 0 for k in range(len(sizes))), places, shares, OWNER_OF.get(name))
    return found


def network(seed: int = 1) -> SubjectsNetwork:
    """Random weights everywhere, also where a training begins with none."""
    random = torch.Generator().manual_seed(seed)
    made = SubjectsNetwork(shapes(), 6, 7).start(shapes(), random)
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if "bias" not in name:
                weights.add_(torch.randn(weights.shape, generator=random) * 0.3)
    return made


def families(seed: int = 5, subjects: int = 9) -> Families:
    rng = np.random.default_rng(seed)
    owners, rows = subjects, {}
    for name in NAMES:
        owner = np.arange(subjects) if name == "people" else np.repeat(np.arange(owners), rng.integers(0, 4, owners))
        codes = np.stack([rng.integers(0, size, len(owner)) for size in SIZES[name]], 1).astype(np.int16)
        rows[name] = CodedRows(codes, owner, owners)
        owners = len(owner)
    return Families(NAMES, OWNER_OF, rows)


def test_chosen_subjects_have_their_rows() -> None:
    every = families()
    some = every.take(np.array([7, 2]))
    assert some.rows_of_subjects().tolist() == every.rows_of_subjects()[[7, 2]].tolist()
    visits = every.rows["visits"]
    wanted = np.concatenate([visits.codes[visits.owner == subject] for subject in (7, 2)])
    assert (some.rows["visits"].codes == wanted).all()
    parts = [every.take(np.array([subject])) for subject in range(len(every))]
    again = joined(parts)
    for name in NAMES:
        assert (again.rows[name].codes == every.rows[name].codes).all()
        assert (again.rows[name].owner == every.rows[name].owner).all()


def test_ranges_one_after_the_other() -> None:
    assert ranges(np.array([4, 0, 9]), np.array([2, 0, 3])).tolist() == [4, 5, 9, 10, 11]


def test_the_last_known_code_is_of_an_earlier_row_of_the_owner() -> None:
    codes = np.array([[1], [2], [0], [2], [1]], np.int16)  # 2 is missing
    owner = np.array([0, 0, 0, 1, 1])
    assert last_known(codes, owner, (3,), (True,)).ravel().tolist() == [3, 1, 1, 3, 3]
    assert last_known(codes, owner, (3,), (False,)).ravel().tolist() == [3, 1, 2, 3, 2]


def test_a_subject_has_the_same_loss_in_any_company() -> None:
    every, net = families(), network()
    together = net.losses(every, torch.device("cpu"))
    alone = torch.cat([net.losses(every.take(np.array([k])), torch.device("cpu")) for k in range(len(every))])
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_folded_network_has_the_same_distributions() -> None:
    every, net = families(), network()
    folded = net.folded(shapes(), 7)
    assert torch.allclose(net.losses(every, torch.device("cpu")), folded.losses(every, torch.device("cpu")), atol=1e-4)


def test_how_often_an_owner_had_a_code_before() -> None:
    times = times_before(torch.tensor([[1, 0, 1, 1, 1]]), torch.tensor([0, 0, 0, 2, 2]), 2)
    assert times[0].tolist() == [[0, 0], [0, 1], [1, 1], [0, 0], [0, 1]]


def test_the_level_is_the_mean_of_earlier_known_values_of_the_owner() -> None:
    codes = np.array([[0], [2], [4], [2], [1]], np.int16)  # 4 is missing
    places = np.array([0.0, 0.25, 0.5, 1.0, np.nan])
    found = levels_before(codes, np.array([0, 0, 0, 0, 1]), (places,)).ravel().tolist()
    assert found == [LEVELS, 0, (LEVELS - 1) // 4, (LEVELS - 1) // 4, LEVELS]
    assert levels_before(codes, np.zeros(5, np.int64), (None,)).ravel().tolist() == [LEVELS] * 5
    assert level_of(np.array([0.75]), np.array([0])).tolist() == [LEVELS]


def test_how_values_come_again_is_found() -> None:
    """A favourite comes back and its terms say so; what is drawn anew each time has none."""
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(300), 8)
    favourite = rng.integers(0, 6, 300)[owner]
    codes = np.where(rng.random(len(owner)) < 0.7, favourite, rng.integers(0, 6, len(owner)))
    independent = rng.integers(0, 6, len(owner))
    rows = CodedRows(np.stack([codes, independent], 1).astype(np.int16), owner, 300)
    known, none = fitted_terms(rows, (6, 6), (False, False), (None, None))
    times = np.array([0, 3])
    gain = known.had * (times > 0) + known.urn * np.log1p(6.0 * times)
    assert gain[1] - gain[0] > 1.5
    assert abs(none.had + none.urn * np.log1p(18.0)) < 0.4 and abs(none.stays) < 0.3
    net = network().expect(families(), shapes())
    before, after = network().losses(families(), torch.device("cpu")), net.losses(families(), torch.device("cpu"))
    assert not torch.allclose(before, after)


def test_a_number_stays_near_its_last_value_or_at_its_persons_level() -> None:
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(200), 9)
    walk = np.clip(np.cumsum(rng.integers(-1, 2, (200, 9)), axis=1) + rng.integers(0, 40, (200, 1)), 0, 39)
    level = np.clip(rng.integers(4, 36, (200, 1)) + rng.integers(-4, 5, (200, 9)), 0, 39)
    rows = CodedRows(np.stack([walk.ravel(), level.ravel()], 1).astype(np.int16), owner, 200)
    of_walk, of_level = fitted_terms(rows, (40, 40), (False, False), (np.linspace(0, 1, 40),) * 2)
    assert of_walk.near.sum() > 2.0 > abs(of_walk.level.sum())
    assert of_level.level.sum() > max(1.0, 2.0 * of_level.near.sum())


def test_places_far_away_share_an_embedding() -> None:
    places = place_of(torch.arange(5000)).numpy()
    assert (places[:24] == np.arange(24)).all()
    assert (np.diff(places) >= 0).all() and places.max() < 64


def sampler(net: SubjectsNetwork, **options: Any) -> SubjectsSampler:
    def counts(name: str, rows: DrawnRows) -> np.ndarray:
        return rows.codes[-1].astype(np.int64) % 3

    zero = {name: torch.zeros(sum(sizes)) for name, sizes in SIZES.items()}
    ties = options.pop("ties", {name: {} for name in NAMES})
    first = options.pop("first_missing", {})
    most = {"people": 1, "visits": 3, "labs": 9}
    return SubjectsSampler(net, zero, most, counts, ties, first, **options)


KEYS = {name: (number, 77) for number, name in enumerate(NAMES)}


def test_what_is_given_at_sampling_is_what_training_saw() -> None:
    net = network().folded(shapes(), 7)
    table, columns = net.table("visits"), sampler(net)._columns["visits"]
    random = torch.Generator().manual_seed(3)
    owner = np.repeat(np.arange(6), [2, 0, 4, 1, 3, 0])
    says = torch.randn(6, 6, generator=random)
    uniform = torch.rand(3, len(owner), generator=random)
    with torch.inference_mode():
        codes, _, embedding, given, final = sampler(net)._siblings(table, columns, owner, says, uniform)
        rows = CodedRows(codes.T.copy(), owner, 6)
        again, last = net._given(
            table, rows, table.embedding_of(torch.from_numpy(codes).long()), says, torch.device("cpu")
        )
    assert torch.allclose(given, again, atol=1e-5)
    assert torch.allclose(final, last, atol=1e-5)


def test_the_likeliest_code_at_sampling_is_that_of_training() -> None:
    """At a temperature near 0 the last row of each visit gets the code of least loss, given all that came before."""
    net = network().folded(shapes(), 7)
    drawn = sampler(net, temperature=1e-4).block(KEYS, 0)
    labs, visits = drawn["labs"], drawn["visits"]
    table, says = net.table("labs"), torch.zeros(len(visits), 6)
    with torch.inference_mode():
        found, _, _, _, _ = sampler(net, temperature=1e-4)._siblings(
            table, sampler(net, temperature=1e-4)._columns["labs"], labs.owner, says, torch.full((1, len(labs)), 0.5)
        )
        last_rows = np.flatnonzero(np.diff(labs.owner, append=-1) != 0)
        losses = []
        for code in range(50):
            codes = found.copy()
            codes[:, last_rows] = code
            rows = CodedRows(codes.T.copy(), labs.owner, len(visits))
            wide = torch.from_numpy(codes).long()
            given, _ = net._given(table, rows, table.embedding_of(wide), says, torch.device("cpu"))
            known = torch.from_numpy(last_known(codes.T, labs.owner, (50,), (True,)).T.copy())
            means = torch.from_numpy(levels_before(codes.T, labs.owner, table.places).T.copy())
            losses.append(table.row_losses(wide, given, (known, means), torch.from_numpy(labs.owner))[last_rows])
    assert (torch.stack(losses).argmin(0).numpy() == found[0, last_rows]).all()


def test_drawn_subjects_are_as_likely_as_the_network_says() -> None:
    """The mean loss of drawn rows is their entropy: that of rows drawn with other uniform numbers, but for chance."""
    net = network().folded(shapes(), 7)
    losses = []
    for number in (0, 1):
        drawn = sampler(net).block(KEYS, number)
        rows = {
            name: CodedRows(own.codes.T.copy(), own.owner, BLOCK if name == "people" else len(drawn[OWNER_OF[name]]))
            for name, own in drawn.items()
        }
        found = Families(NAMES, OWNER_OF, rows)
        losses.append(net.losses(found, torch.device("cpu")).mean().item())
        shuffled = {**rows, "visits": CodedRows(np.roll(rows["visits"].codes, 3, 0), rows["visits"].owner, BLOCK)}
        assert net.losses(Families(NAMES, OWNER_OF, shuffled), torch.device("cpu")).mean().item() > losses[-1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_block_is_the_same_again_and_rows_are_numbered_without_gaps() -> None:
    net = network().folded(shapes(), 7)
    first, again = sampler(net).block(KEYS, 2), sampler(net).block(KEYS, 2)
    for name in NAMES:
        assert (first[name].codes == again[name].codes).all()
        assert (first[name].places == again[name].places).all()
    assert first["visits"].first == 2 * BLOCK * 3
    assert len(first["visits"]) <= BLOCK * 3
    assert not (sampler(net).block(KEYS, 3)["people"].codes == first["people"].codes).all()


def test_a_gap_is_missing_on_first_rows_alone() -> None:
    net = network().folded(shapes(), 7)
    drawn = sampler(net, first_missing={"visits": 0}).block(KEYS, 0)["visits"]
    is_first = np.diff(drawn.owner, prepend=-1) != 0
    assert ((drawn.codes[0] == SIZES["visits"][0] - 1) == is_first).all()


@pytest.mark.parametrize("always", [True, False])
def test_what_says_something_of_rows_is_missing_where_there_are_none(always: bool) -> None:
    net = network().folded(shapes(), 7)
    ties: dict[str, Any] = {name: {} for name in NAMES}
    ties["people"] = {1: Tie(count=0, none=0, always=always)}
    codes = sampler(net, ties=ties).block(KEYS, 0)["people"].codes
    childless, missing = codes[0] == 0, codes[1] == SIZES["people"][1] - 1
    assert childless.any() and not childless.all()
    assert missing[childless].all()
    assert missing[~childless].any() != always
