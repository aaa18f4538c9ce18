"""Claim: a condition is read to its end or refused with exit code 2: no part of it is left out, nothing else is run."""

from __future__ import annotations

import datetime as dt
import sys

import numpy as np
import pyarrow as pa

from shardsynth.errors import ConditionError
from shardsynth.sampling.conditions import parse_conditions
from shardsynth.sampling.constraints.conditions import meets

#: Text that is no condition as a whole.
TEXTS = {
    "a comment": 'sex == "f" # and age >= 60',
    "a comment in the middle": 'sex == "f" #\n',
    "deep brackets": "(" * 20_000 + "age == 1" + ")" * 20_000,
    "deep negations": "not " * 20_000 + "age == 1",
    "deep lists": "age in " + "[" * 20_000 + "1" + "]" * 20_000,
    "texts side by side": 'sex == "f" "m"',
    "a call": "age == __import__('os').getpid()",
    "a null byte": "age == 1\0",
    "a number without end": "age == " + "9" * 100_000,
}


def attack() -> list[str]:
    """Texts that were accepted or not clearly refused; empty if the promise held."""
    broken = []
    for name, text in TEXTS.items():
        try:
            broken.append(f"{name}: read as {parse_conditions(text)}")
        except ConditionError:
            continue
        except BaseException as error:
            broken.append(f"{name}: {type(error).__name__}")
    try:  # a name that once stood inside for a name in backquotes
        columns = parse_conditions("`a b` == 1 and _column_0_ == 2").columns
        if columns != ("a b", "_column_0_"):
            broken.append(f"an internal name: stands for {columns[-1]!r}")
    except ConditionError as error:
        broken.append(f"an internal name: {error}")
    days = pa.record_batch({"seen": pa.array([dt.date(2014, 1, 1), dt.date(2016, 1, 1)], pa.date32())})
    stamps = pa.record_batch({"seen": pa.array(np.array(["2014", "2016"], "datetime64[s]"))})
    for batch in (days, stamps):
        try:
            rows = int(meets(parse_conditions("seen >= 2015").tests, batch).sum())
            broken.append(f"a number against {batch.schema.types[0]}: {rows} rows")
        except ConditionError as error:
            if '"2015-01-01"' not in str(error):
                broken.append(f"a number against {batch.schema.types[0]}: does not say how to write it: {error}")
    return broken


if __name__ == "__main__":
    found = attack()
    print("broken: " + "; ".join(found) if found else "held")
    sys.exit(bool(found))
