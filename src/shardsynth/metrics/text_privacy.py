"""Do real persons' words come out? Text columns have no distance: their values are compared one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.values import decoded

#: Share of made-up values that may be real ones by chance before it is said, and before it fails.
_BY_CHANCE = 0.05
#: Share of values of few rows from which the test fails.
_MANY = 0.01


def text_privacy(
    real: pa.Table, synthetic: pa.Table, learned: Mapping[str, bool], persons: Mapping[str, str], min_count: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Figures and findings of text columns.

    Args:
        real: Training rows, a sample.
        synthetic: Synthetic rows, a sample.
        learned: Text column -> whether it was learned; else its values are made.
        persons: Learned column that holds persons -> why it does.
        min_count: A value on fewer rows is that of few persons.

    Returns:
        By column: ``real``, the share of its values that are real ones; ``rare``, those that stand on fewer than
        ``min_count`` of the real rows; ``person``. And findings in the form of ``privacy_findings.findings``.
    """
    figures: dict[str, dict[str, Any]] = {}
    found: list[dict[str, str]] = []
    for name, is_learned in learned.items():
        made = decoded(synthetic[name]).drop_null().cast(pa.large_string())
        counts = decoded(real[name]).drop_null().cast(pa.large_string()).value_counts()
        if not len(made) or not len(counts):
            continue
        values, rows = counts.field("values"), counts.field("counts")
        rare_values = values.filter(pc.less(rows, min_count))
        share, rare = (pc.mean(pc.is_in(made, value_set=v)).as_py() for v in (values, rare_values))
        figures[name] = {"real": share, "rare": rare, "person": name in persons}

        def add(level: str, text: str, name: str = name) -> None:
            found.append({"level": level, "measure": f"text.{name}", "text": text})

        if name in persons and share > 0:
            add("fail", f"{share:.0%} of the values of {name!r} are real persons' ones: {persons[name]}.")
        elif is_learned and rare > 0:
            add(
                "fail" if rare > _MANY else "caution",
                f"{rare:.1%} of the values of {name!r} stand on fewer than {min_count} real rows.",
            )
        elif not is_learned and share > _BY_CHANCE:
            add(
                "caution",
                f"{share:.0%} of the made-up values of {name!r} are real ones by chance: its format is narrow.",
            )
    return figures, found
