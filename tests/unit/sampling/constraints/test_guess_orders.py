"""Which orders of columns are guessed, and which are not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.sampling.constraints.guess_orders import guess_orders

N = 2_000
rng = np.random.default_rng(0)
ADMITTED = np.datetime64("2015-01-01", "m") + rng.integers(0, 10**6, N)


def guesses(table: pa.Table, instants: tuple[str, ...] = ()) -> list[str]:
    columns = [
        Column(f.name, f.type, *(("datetime", "datetime") if f.name in instants else ("numerical", "number")))
        for f in table.schema
    ]
    return [guess.describe() for guess in guess_orders(columns, table)]


def test_dates_against_times_with_gaps_and_ties() -> None:
    surgery = ADMITTED + rng.integers(0, 3, N)
    discharge = (surgery + rng.exponential(4 * 1440, N).astype(int)).astype("datetime64[D]") + 1
    table = pa.table(
        {
            "admitted": pa.array(ADMITTED.astype("datetime64[s]"), mask=rng.random(N) < 0.1),
            "surgery": pa.array(surgery.astype("datetime64[ms]"), mask=rng.random(N) < 0.5),
            "discharge": pa.array(discharge, pa.date32()),
            "other": pa.array(rng.permutation(ADMITTED).astype("datetime64[s]")),
        }
    )
    found = guesses(table, ("admitted", "surgery", "discharge", "other"))
    # admitted < discharge holds on rows without a surgery, too: it does not follow from the other two
    assert found == ["admitted <= surgery", "admitted < discharge", "surgery < discharge"]


def test_columns_whose_ranges_do_not_overlap_say_nothing() -> None:
    birth = ADMITTED - np.timedelta64(60 * 365, "D")
    table = pa.table({"birth": birth.astype("datetime64[D]"), "admitted": ADMITTED.astype("datetime64[s]")})
    assert guesses(table, ("birth", "admitted")) == []


def test_numbers_must_look_like_one_quantity() -> None:
    relapse = rng.exponential(3, N).round(2)
    died = relapse + np.where(rng.random(N) < 0.4, 0, rng.exponential(2, N).round(2))
    table = pa.table(
        {
            "lfs": pa.array(relapse, mask=rng.random(N) < 0.1),
            "os": died,
            "age": rng.integers(20, 60, N),
            "weight": rng.integers(58, 120, N),  # above nearly every age, as a number of another kind
            "rare_a": (rng.random(N) < 0.01) * rng.integers(0, 9, N),
            "rare_b": (rng.random(N) < 0.5) * rng.integers(8, 90, N),
        }
    )
    assert guesses(table) == ["lfs <= os"]


def test_a_measurement_and_its_completed_copy_are_equal_where_both_are_present() -> None:
    score = rng.integers(0, 8, N).astype(float)
    measured = pa.array(score, mask=rng.random(N) < 0.3)
    completed = np.where(np.asarray(measured.is_null()), 4.25, score)
    table = pa.table({"measured": measured, "completed": pa.array(completed, mask=rng.random(N) < 0.01)})
    assert guesses(table) == ["completed <= measured"]


def test_two_blood_pressures_and_shares_above_two_limits() -> None:
    above_five = np.round(100 * rng.beta(1, 4, N), 1)
    diastolic = np.round(rng.normal(78, 11, N))
    table = pa.table(
        {
            "above5": above_five,
            "above4": np.round(above_five + (100 - above_five) * rng.beta(3, 6, N), 1),
            "systolic": diastolic + np.round(9 + rng.gamma(4, 6, N)),
            "diastolic": diastolic,
        }
    )
    assert guesses(table) == ["above5 < above4", "diastolic < systolic"]


def test_names_of_which_one_holds_the_other_need_less() -> None:
    """The first of two onsets lies before the last one, also where a hundred rows hardly show it."""
    small = np.random.default_rng(3)
    first = 3 * small.integers(1, 8, 100)
    last = first + small.integers(0, 120, 100)
    last[0] = first[0]
    assert guesses(pa.table({"onset_first_sensory": first, "onset_sensory": last})) == [
        "onset_first_sensory <= onset_sensory"
    ]
    assert guesses(pa.table({"onset_first": first, "delay": last})) == []
