"""What a column is by its counts, whatever SDV guessed from its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets
from tests.unit.data.test_metadata import profile_of

from shardsynth.data.column_roles import findings, person_finding
from shardsynth.data.values import kind_of

RNG = np.random.default_rng(3)
NAMES = [f"{a} {b}" for a in ("Ada", "Ben", "Eva", "Ivo") for b in ("Abel", "Cruz", "Gans")]


def found(columns: dict[str, Any], **guessed: str) -> dict[str, str]:
    """Findings by column; SDV's guess is categorical for text and numerical for numbers unless given."""
    table = pa.table(columns)
    guesses = {f.name: "categorical" if kind_of(f.type) == "text" else "numerical" for f in table.schema}
    described = {name: {"sdtype": guessed.get(name, guess)} for name, guess in guesses.items()}
    profile = profile_of(table)
    return {name: f.sdtype for name, f in findings(described, profile.sample, profile, table.schema).items()}


def test_persons_are_found_by_name_or_by_content() -> None:
    n = 600
    columns = {
        "Name": RNG.choice([f"Q{i} z" for i in range(80)], n),
        "FIRST": RNG.choice([f"Name{i}" for i in range(20)], n),
        "Nachname": RNG.choice([f"Family{i}" for i in range(25)], n),
        "who": RNG.choice(NAMES, n),
        "mail": [f"p{i % 90}@example.org" for i in range(n)],
        "USUBJID": [f"S-01-{i // 8:04d}" for i in range(n)],
        "MRN": 1_000_000 + 77 * RNG.integers(0, 200, n),
        "hadm_id": 100_000 + RNG.integers(0, 500, n),
        "patient": 1 + np.arange(n) // 12,
    }
    assert found(columns, hadm_id="id") == {
        **{"Name": "name", "FIRST": "first_name", "Nachname": "last_name", "who": "name", "mail": "email"},
        **{"USUBJID": "id", "MRN": "id", "hadm_id": "id", "patient": "id"},
    }


def test_names_as_a_dictionary_and_with_missing_values_are_found() -> None:
    names = pa.array([None if i % 3 else NAMES[i // 3 % 12] for i in range(300)]).dictionary_encode()
    ids = pa.array([None if i % 3 else float(10_000 + 7 * (i % 60)) for i in range(300)])
    assert found({"x": names, "mother_id": ids}) == {"x": "name", "mother_id": "id"}


def test_a_list_of_a_few_values_is_never_made_up() -> None:
    n = 400
    columns = {
        "state": RNG.choice([f"Region {i}" for i in range(40)], n),
        "province": RNG.choice(["N", "S"], n),
        "email": RNG.choice(["yes", "no"], n),
        "FIRST": RNG.choice(["Y", "N"], n),
        "test_id": ["covid"] * (n - 2) + ["x", "x"],
        "gender_concept_id": RNG.choice([8507, 8532], n),
        "ward_id": RNG.choice(np.arange(30) * 7 + 100, n),
        "visit_id": RNG.integers(1, 5, n),
    }
    guessed = {"state": "administrative_unit", "province": "administrative_unit", "email": "email"}
    ids = dict.fromkeys(("test_id", "gender_concept_id", "ward_id", "visit_id"), "id")
    result = found(columns, **guessed, **ids)
    assert result == dict.fromkeys(set(columns) - {"FIRST"}, "categorical")


def test_one_address_on_many_rows_is_a_persons_whatever_the_name_says() -> None:
    columns = {"e-mail": ["p1@example.org"] * 60 + [None] * 40, "mail": ["yes"] * 60 + [None] * 40}
    assert found(columns, **{"e-mail": "email", "mail": "email"}) == {"e-mail": "email", "mail": "categorical"}


def test_an_id_is_what_hardly_repeats() -> None:
    n = 700
    columns = {
        "order": [f"E{i * 7919 % 9999991:07d}" for i in [*range(500), *range(200)]],
        "note": [f"the patient number {i} came back on day {i * 7} and was well" for i in range(n)],
        "visit_id": np.sort(RNG.integers(0, 450, n)),
        "id": np.repeat(np.arange(35), 20) + 500,
    }
    expected = {"order": "id", "note": "unknown", "visit_id": "id"}
    assert found(columns, visit_id="id", id="id") == expected
    assert "rest" not in found({"rest": ["common"] * 300 + [f"rare{i}" for i in range(300)]})


def test_references_repeat_values_of_a_key() -> None:
    n = 500
    keys = RNG.permutation(900_000)[:n] + 100_000
    texts = [f"P{k}" for k in keys]
    columns = {
        "key": texts,
        "number": keys,
        "ref": RNG.choice(texts, n),
        "sent_by": pa.array([texts[i] if i % 3 else None for i in range(n)]),
        "other": RNG.choice(keys[:50], n),
        "row": np.arange(n),
        "parent": pa.array([float(i // 2) if i % 4 else None for i in range(n)]),
        "age": RNG.integers(18, 90, n),
        "grade_no": RNG.integers(0, 16, n),
    }
    result = found(columns, key="id", number="id", row="id")
    assert result == {"ref": "id", "sent_by": "id", "other": "id", "parent": "id"}


def test_whole_numbers_that_are_codes() -> None:
    n = 1000
    codes = np.sort(RNG.permutation(10**8)[:120]) + 10**8
    place = np.minimum(RNG.geometric(0.03, n) - 1, 119)
    columns = {
        "concept": codes[place],
        "text": [f"finding {i}" for i in place],
        "icd_code": RNG.choice(RNG.integers(100, 999, 60), n),
        "department": RNG.choice([1010, 1200, 3480, 4107, 9001, 2222, 1999, 5004, 6001, 7070, 8123], n),
        "age": RNG.integers(18, 90, n),
        "year": RNG.integers(1990, 2020, n),
        "pay": RNG.choice(np.arange(10, 200), n) * 1000,
        "month": np.arange(n) % 12 + 1,
        "month_name": [f"m{i % 12}" for i in range(n)],
        "gain": np.where(RNG.random(n) < 0.9, 0, RNG.choice([594, 2174, 5013, 7298, 15024, 99999], n)),
    }
    assert found(columns) == dict.fromkeys(("concept", "icd_code", "department"), "categorical")


@pytest.mark.parametrize("name", ["iris", "wine", "diabetes", "breast_cancer", "digits"])
def test_no_false_alarm_on_measurements(name: str) -> None:
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    assert found({column: frame[column].to_numpy() for column in frame}) == {}


def test_what_is_learned_although_it_holds_persons() -> None:
    table = pa.table({"Name": RNG.choice(NAMES * 2, 200), "drug": RNG.choice(["a", "b"], 200)})
    profile = profile_of(table)
    finding = person_finding("Name", pa.string(), "categorical", profile.sample, profile)
    assert finding is not None and finding.person and "persons' names" in finding.reason
    assert person_finding("Name", pa.string(), "name", profile.sample, profile) is None
    assert person_finding("drug", pa.string(), "categorical", profile.sample, profile) is None
