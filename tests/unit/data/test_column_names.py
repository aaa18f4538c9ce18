"""What names of columns say, in the languages of hospitals."""

from __future__ import annotations

import pytest

from shardsynth.data.column_names import Said, said_by, words_of


def test_words_of_a_name() -> None:
    assert words_of("patientID_2") == ["patient", "id"]
    assert words_of("Straße-Nr.") == ["strasse", "nr"]
    assert words_of("número_historia") == ["numero", "historia"]
    assert words_of("USUBJID") == ["usubjid"]
    assert words_of("") == words_of("12") == []


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (
            "first_name",
            "FIRST fname first_name Vorname Prénom nombre voornaam förnamn etunimi imię jméno patient_first_name",
        ),
        (
            "last_name",
            "LAST MAIDEN Surname Nachname Geburtsname nom_de_naissance apellidos cognome achternaam efternamn",
        ),
        ("name", "Name FullName patient_name mother_name doctor Hausarzt médecin 氏名 nombre_completo"),
        ("street_address", "Straße Strasse Anschrift address home_address direccion indirizzo endereço ulica"),
        ("email", "email E-Mail email_address courriel patient_email"),
        ("phone_number", "phone Telefon home_phone tel Handy téléphone"),
    ],
)
def test_names_addresses_and_calls(function: str, names: str) -> None:
    for name in names.split():
        assert said_by(name).function == function, name


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (
            "person",
            "USUBJID SEQN eid PTID PatientID patient_id MRN nhs_number SSN Patientennummer PatNr subject mother_id "
            "referring_patient provider_id Versicherten-Nr. historia_clinica personnummer PESEL BSN NIR",
        ),
        ("visit", "visit_no ENCOUNTER_NUMBER visit episode"),
        ("id", "id order_no test_id gender_concept_id"),
        ("", "age sex state first_visit hospital_days test_score month_name family_history CODE kind race"),
    ],
)
def test_numbers(number: str, names: str) -> None:
    for name in names.split():
        assert said_by(name).number == number, name


def test_numbers_of_others_are_references() -> None:
    for name in ("mother_id", "referring_patient", "provider_id", "Hausarzt_Nr"):
        assert said_by(name).other, name
    for name in ("patient_id", "USUBJID", "subject", "visit_id", "id"):
        assert not said_by(name).other, name


def test_codes_and_births() -> None:
    for name in ("CODE", "zip_code", "PLZ", "icd10", "gender_concept_id", "ward_no", "hospital_id"):
        assert said_by(name).code, name
    for name in ("test_score", "hospital_days", "age", "item", "status", "site_count"):
        assert not said_by(name).code, name
    for name in ("DOB", "birth_date", "Geburtsdatum", "fecha_nacimiento", "birthYear"):
        assert said_by(name) == Said(birth=True), name
    assert said_by("birth_name").function == "last_name"
