"""What values say: persons' names in many languages, numbers by their check digits, and what only looks like them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from faker import Faker

from shardsynth.data.personal_content import personal_kind


def kind(values: list[object]) -> str | None:
    found = personal_kind(pa.chunked_array([pa.array([str(value) for value in values])]))
    return None if found is None else found[0]


def made(locale: str, function: str, n: int = 150) -> list[object]:
    faker = Faker(locale)
    faker.seed_instance(5)
    return [getattr(faker, function)() for _ in range(n)]


@pytest.mark.parametrize("locale", ["en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "sv_SE", "cs_CZ", "fi_FI"])
def test_names_in_many_languages(locale: str) -> None:
    assert kind(made(locale, "name")) == "name"
    assert kind(made(locale, "first_name")) == "first_name"
    assert kind(made(locale, "last_name")) == "last_name"
    assert kind(made(locale, "city")) is None


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "fr_FR", "cs_CZ", "ja_JP", "pt_BR"])
def test_telephones_and_addresses(locale: str) -> None:
    assert kind(made(locale, "phone_number")) == "phone_number"
    assert kind(made(locale, "email")) == "email"
    assert kind([f"10.0.{i}.{i % 7}" for i in range(50)]) == "ipv4"


@pytest.mark.parametrize("locale", ["en_US", "fr_FR", "it_IT", "pl_PL", "nl_NL", "sv_SE", "de_CH", "pt_BR", "fi_FI"])
def test_numbers_of_states(locale: str) -> None:
    assert kind(made(locale, "ssn")) == "id"


def test_nhs_numbers_by_their_check_digit() -> None:
    valid = []
    for body in range(400_000_000, 400_000_400):
        check = 11 - sum(int(c) * w for c, w in zip(str(body), range(10, 1, -1))) % 11
        valid += [f"{body}{check % 11}"] if check != 10 else []
    assert kind(valid) == "id"
    assert kind([f"{v[:3]} {v[3:6]} {v[6:]}" for v in valid]) == "id"
    assert kind([4_000_000_000 + 7 * i for i in range(400)]) is None


@pytest.mark.parametrize("layout", ["%d.%m.%Y", "%m/%d/%Y", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%H:%M:%S", "%d %m %Y"])
def test_dates_and_times_are_no_telephones(layout: str) -> None:
    faker = Faker()
    faker.seed_instance(1)
    assert kind([faker.date_time().strftime(layout) for _ in range(100)]) is None


def test_measurements_codes_and_words_are_not_personal() -> None:
    assert kind([10 + i * 0.12345678 for i in range(100)]) is None
    assert kind([f"{1000 + 37 * i:,}" for i in range(100)]) is None
    assert kind([f"{10_000 + 13 * i}-{100 + i}-{10 + i % 80}" for i in range(100)]) is None  # NDC
    assert kind([f"{1000 + 17 * i}-{i % 10}" for i in range(100)]) is None  # LOINC
    assert kind([f"0.{i}" for i in range(1_000_000, 1_000_090)]) is None
    for function in ("country", "job", "company", "color_name"):
        assert kind(made("en_US", function)) is None, function
    assert (
        kind(
            [
                "Aspirin",
                "Metformin",
                "Losartan",
                "Omeprazole",
                "Atorvastatin",
                "Lisinopril",
                "Amlodipine",
                "Sertraline",
                "Insulin",
                "Heparin",
            ]
        )
        is None
    )
    assert (
        kind(
            [
                "Berlin",
                "Hamburg",
                "Munich",
                "Cologne",
                "Frankfurt",
                "Stuttgart",
                "Dortmund",
                "Essen",
                "Leipzig",
                "Bremen",
                "Dresden",
            ]
        )
        is None
    )
